"""Python's operators on variables and layers are refused, each with the function to call."""

import operator

import numpy as np
import pytest

from viva_tensor import autograd, error, kernels, nn, program

ARRAY = np.array([3.0, 4.0], np.float32)


@pytest.fixture
def x():
    return autograd.new_variable(autograd.new_tape(), [1.0, 2.0]).value


@pytest.mark.parametrize("other", [2, 2.0, np.float32(2), ARRAY, "itself", (1,), [1]], ids=str)
@pytest.mark.parametrize(
    "name", ["add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "lt", "le", "gt", "ge"]
)
def test_no_operator_takes_a_variable_on_either_side(x, name, other):
    call = getattr(operator, name)
    other = x if isinstance(other, str) else other
    for operands in ((x, other), (other, x)):
        with pytest.raises(error.NoOperator, match="does not take this"):
            call(*operands)


@pytest.mark.parametrize(
    ("use", "hint"),
    [
        (lambda x: x + x, r"^\+: a Variable does not take this; call autograd\.add\(tape, a, b\)$"),
        (lambda x: 1 - x, r"^-: .*autograd\.sub\("),
        (lambda x: x * 2, r"^\*: .*autograd\.mul\("),
        (lambda x: x / 2, r"^/: .*autograd\.div\("),
        (lambda x: x**2, r"^\*\*: .*autograd\.pow\("),
        (lambda x: x @ x, r"^@: .*autograd\.matmul\("),
        (lambda x: -x, r"^-: .*autograd\.mul\("),
        (abs, r"^abs\(\): .*autograd\.abs\("),
        (lambda x: x[0], r"^\[\]: .*autograd\.slice\("),
        (lambda x: operator.setitem(x, 0, 1.0), "do not change"),
        (len, r"a\.shape\[0\]"),
        (lambda x: [*x], r"^unpacking: .*a\.id and a\.data"),
        (lambda x: 1.0 in x, r"a\.data"),
        (bool, "whether it is None"),
        (float, r"float\(a\.data\)"),
        (int, r"int\(a\.data\)"),
        (round, "round"),
        (np.asarray, r"a\.data"),
        (lambda x: np.array([x, x]), r"a\.data"),
        (np.exp, "function of this kind in autograd"),
        (np.mean, r"a\.data"),
        (lambda x: np.array_equal(x, x), r"a\.data"),
        (np.sum, r"a\.data"),
        (lambda x: f"{x:.2f}", r"float\(a\.data\)"),
        (lambda x: ARRAY.copy().__iadd__(x), "autograd"),
    ],
)
def test_the_message_names_the_function_to_call(x, use, hint):
    with pytest.raises(error.NoOperator, match=hint):
        use(x)
    with pytest.raises(TypeError):  # what Python users catch
        use(x)


def test_a_layer_is_no_number_and_no_tuple_to_add(x):
    linear, tape = nn.linear(autograd.new_tape(), 2, 3, rng=np.random.default_rng(0))
    norm, _ = nn.layer_norm(tape, 3)
    for layer in (linear, norm):
        for use in (lambda one: one + one, lambda one: 2 * one, lambda one: one * 2, lambda one: tuple(one) + one):
            with pytest.raises(error.NoOperator, match=f"a {type(layer).__name__} does not take this"):
                use(layer)
        w, b = layer
        assert w is layer.w
        assert b is layer.b


def test_kernels_take_the_values_of_a_variable_not_the_variable(x):
    for call in (kernels.exp, lambda one: kernels.add(one, ARRAY), lambda one: kernels.matmul([one], [one])):
        with pytest.raises(error.DtypeError, match=r"got a variable, wanted an array; take its values: \.data"):
            call(x)


def test_a_variable_tells_its_shape_and_dtype_and_does_not_change(x):
    assert (x.id, x.shape, x.ndim, x.dtype) == (0, (2,), 1, np.float32)
    for name in ("id", "data", "shape", "other"):
        with pytest.raises(AttributeError):
            setattr(x, name, ARRAY)
    assert repr(x) == "Variable(id=0, data=array([1., 2.], dtype=float32))"


def test_two_variables_are_equal_only_if_they_are_one(x):
    twin = autograd.new_variable(autograd.new_tape(), x.data).value
    assert x == x
    assert x != twin
    assert len({x, twin, x}) == 2
    assert not isinstance(x, tuple)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("grad", r"autograd\.backward\(tape, loss\)\[a\]"),
        ("T", r"autograd\.transpose\(tape, a\)"),
        ("sum", "functions that take a tape"),
    ],
)
def test_attributes_of_other_libraries_variables_have_hints(name, hint):
    x, _ = autograd.new_variable(autograd.new_tape(), [1.0])
    assert not hasattr(x, name)
    with pytest.raises(AttributeError, match=rf"'Variable' object has no attribute '{name}'; .*{hint}"):
        getattr(x, name)


def test_a_comparison_names_the_function_whose_result_a_program_computes_anew():
    x, tape = autograd.new_constant(autograd.new_tape(), [[1.0, -1.0]])
    with pytest.raises(error.NoOperator, match=r"call autograd\.greater\(tape, a, b\)"):
        x > 0  # noqa: B015
    positive, tape = autograd.greater(tape, x, 0.0)
    y, tape = autograd.where(tape, positive, x, 0.0)
    assert program.compile_forward(tape, output=y, inputs=(x,))([[-5.0, 7.0]]).tolist() == [[0.0, 7.0]]
