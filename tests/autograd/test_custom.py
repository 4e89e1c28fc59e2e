"""Operations that users define: what they give is checked, and what they lack is said."""

import gc
from dataclasses import replace

import numpy as np
import pytest

from viva_tensor import autograd, error
from viva_tensor.autograd.operations import Operation


def through(*rules, forward=lambda x: 2 * x, start=autograd.new_variable):
    x, tape = start(autograd.new_tape(), np.arange(3.0))
    y, tape = autograd.record(tape, Operation("own", lambda shape: shape, forward, list(rules)), x)
    loss, tape = autograd.sum(tape, y)
    return tape, loss, x


def double(do, grad, output, x):
    return 2 * grad


def test_an_operation_with_a_rule_takes_part():
    tape, loss, x = through(double)
    assert float(loss.data) == 6
    assert autograd.backward(tape, loss)[x].tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    ("rules", "kind", "said"),
    [
        ((), error.InvalidValue, "own: its gradient rules number 0, its inputs 1; give one for each"),
        ((double, double), error.InvalidValue, "own: its gradient rules number 2, its inputs 1"),
        (
            (lambda do, grad, y, x: grad[:2],),
            error.ShapeMismatch,
            r"own: expected shape \(3,\), got \(2,\); from the grad",
        ),
        ((lambda do, grad, y, x: grad.astype("f4"),), error.DtypeError, "own: got float32, wanted float64"),
        (
            (lambda do, grad, y, x: [1, 2, 3],),
            error.InvalidValue,
            "own: got list, wanted an array; from the gradient rule",
        ),
    ],
)
def test_rules_that_do_not_fit_are_refused(rules, kind, said):
    with pytest.raises(kind, match=said):
        autograd.backward(*through(*rules)[:2])


@pytest.mark.parametrize("value", [1.0, [1.0, 2.0]])
def test_numbers_that_numpy_makes_of_arrays_without_axes_are_arrays(value):
    sine = Operation("sine", lambda shape: shape, np.sin, (lambda do, grad, y, x: grad * np.cos(x),))
    x, tape = autograd.new_variable(autograd.new_tape(), value)
    y, tape = autograd.record(tape, sine, x)
    loss, tape = autograd.sum(tape, y)
    np.testing.assert_allclose(autograd.backward(tape, loss)[x], np.cos(x.data), rtol=1e-6)
    assert type(y.data) is np.ndarray


def test_all_operations_of_the_library_are_its_own():
    found = [one for one in gc.get_objects() if type(one) is Operation and one.gradients]
    library = [one for one in found if str(getattr(one.forward, "__module__", "")).startswith("viva_tensor")]
    assert len(library) > 80
    assert {one.name for one in library if not one.ours} == set()
    assert not replace(autograd.operations.RELU, gradients=(double,)).ours


def test_without_rules_constants_have_no_gradient():
    tape, loss, x = through(start=autograd.new_constant)
    assert float(loss.data) == 6
    with pytest.raises(error.InvalidValue, match="own: its gradient rules number 0"):
        autograd.gradient(tape, loss, x)


@pytest.mark.parametrize(
    ("forward", "kind", "said"),
    [
        (
            lambda x: x[:2].copy(),
            error.ShapeMismatch,
            r"own: expected shape \(3,\), got \(2,\); from the forward function",
        ),
        (lambda x: x.astype("f4"), error.DtypeError, "own: got float32, wanted float64"),
        (lambda x: None, error.InvalidValue, "own: got NoneType, wanted an array"),
    ],
)
def test_results_that_do_not_fit_are_refused(forward, kind, said):
    with pytest.raises(kind, match=said):
        through(double, forward=forward)


def test_what_is_no_operation_is_refused():
    x, tape = autograd.new_variable(autograd.new_tape(), 1.0)
    with pytest.raises(error.InvalidValue, match="record: got str, wanted an operation"):
        autograd.record(tape, "relu", x)
