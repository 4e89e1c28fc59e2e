"""Products of batches of matrices, and sums of products over named axes: against NumPy, eager and compiled."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tapes import variables

from viva_tensor import autograd, error, kernels, program

SHAPES = [
    ((5, 4, 3), (5, 3, 2)),
    ((4, 3), (7, 3, 2)),
    ((7, 4, 3), (3, 2)),
    ((2, 1, 4, 3), (6, 3, 2)),
    ((3, 70, 50), (3, 50, 90)),
    ((40, 17, 33), (40, 33, 9)),
    ((3,), (5, 3, 2)),
    ((5, 4, 3), (3,)),
    ((3,), (3,)),
    ((4, 3), (3,)),
    ((0, 4, 3), (0, 3, 2)),
    ((5, 0, 3), (5, 3, 2)),
    ((5, 4, 0), (5, 0, 2)),
    ((2, 4, 0), (0, 2)),
]


def close(found, a, b):
    """Whether a product is within the bound of a sum of so many terms."""
    unit = np.finfo(found.dtype).eps / 2
    wide = a.astype("f8"), b.astype("f8")
    bound = a.shape[-1] * unit / (1 - a.shape[-1] * unit) * np.matmul(*map(np.abs, wide)) + unit * np.abs(found)
    return found.shape == bound.shape and bool((np.abs(found - np.matmul(*wide)) <= bound).all())


@pytest.mark.parametrize(("left", "right"), SHAPES)
@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_batches_are_multiplied_by_the_rules_of_numpy(left, right, threads, dtype, rng):
    a, b = (rng.standard_normal(shape).astype(dtype) for shape in (left, right))
    with kernels.num_threads(1):
        alone = kernels.matmul(a, b)
    with kernels.num_threads(threads):
        found = kernels.matmul(a, b)
        assert close(found, a, b)
        assert np.array_equal(found, alone)
        turned = np.asarray(a.T, order="C").T, np.asarray(b.T, order="C").T
        assert np.array_equal(kernels.matmul(*turned), alone)
        out = np.empty(alone.shape[::-1], dtype).T
        assert kernels.matmul(a, b, out=out) is out
        assert np.array_equal(out, alone)


@pytest.mark.parametrize(("left", "right"), SHAPES)
def test_gradients_of_batches(left, right, rng):
    a, b = rng.standard_normal(left), rng.standard_normal(right)
    grad = rng.standard_normal(np.matmul(a, b).shape)
    x, y, tape = variables(a, b)
    product, tape = autograd.matmul(tape, x, y)
    weighted, tape = autograd.mul(tape, product, grad)
    loss, tape = autograd.sum(tape, weighted)
    grads = autograd.backward(tape, loss)
    for found, wanted in zip(kernels.matmul_backward(grad, a, b), (grads[x], grads[y]), strict=True):
        assert np.allclose(found, wanted, rtol=1e-12, atol=1e-12)


def test_of_a_program_batches_may_have_other_rows(rng):
    a, b = rng.standard_normal((5, 4, 3)), rng.standard_normal((5, 3, 2))
    x, tape = autograd.new_constant(autograd.new_tape(), a)
    y, tape = autograd.new_constant(tape, b)
    w, tape = autograd.new_variable(tape, rng.standard_normal((2, 6)))
    product, tape = autograd.matmul(tape, x, y)
    product, tape = autograd.matmul(tape, product, w)
    other, tape = autograd.transpose(tape, product, (0, 2, 1))
    named, tape = autograd.einsum(tape, "bij,bjk->b", product, other)
    forward = program.compile_forward(tape, output=named, inputs=(x, y))
    for rows in (5, 1, 12):
        a, b = rng.standard_normal((rows, 4, 3)), rng.standard_normal((rows, 3, 2))
        assert np.allclose(forward(a, b), np.einsum("bij,bkj->b", a @ b @ w.data, a @ b @ w.data))


def test_of_a_program_a_single_batch_is_not_repeated():
    x, tape = autograd.new_constant(autograd.new_tape(), np.ones((4, 2, 3)))
    product, tape = autograd.matmul(tape, x, np.ones((4, 3, 2)))
    forward = program.compile_forward(tape, output=product, inputs=(x,))
    assert forward(np.ones((4, 2, 3))).shape == (4, 2, 2)
    with pytest.raises(error.InvalidShape, match="would be repeated"):
        forward(np.ones((1, 2, 3)))


@st.composite
def sums_of_products(draw):
    letters = draw(st.lists(st.sampled_from("abcdEF"), min_size=1, max_size=5, unique=True))
    names = [
        "".join(draw(st.permutations([one for one in letters if draw(st.booleans())])))
        for _ in range(draw(st.integers(1, 2)))
    ]
    known = sorted(set("".join(names)))
    result = "".join(draw(st.permutations([one for one in known if draw(st.booleans())])))
    sizes = {letter: draw(st.integers(1, 4)) for letter in known}
    return ",".join(names) + draw(st.sampled_from(["", f"->{result}"])), [[sizes[i] for i in name] for name in names]


@given(sums_of_products())
@settings(max_examples=150)
def test_sums_over_named_axes_are_those_of_numpy(case):
    subscripts, shapes = case
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape) for shape in shapes]
    *operands, tape = variables(*arrays)
    found, tape = autograd.einsum(tape, subscripts, *operands)
    assert np.allclose(found.data, np.einsum(subscripts, *arrays), rtol=1e-12, atol=1e-12)
    forward = program.compile_forward(tape, output=found, inputs=operands)
    assert np.array_equal(forward(*arrays), found.data)


@pytest.mark.parametrize(
    ("subscripts", "kind", "message"),
    [
        ("ij,jk", error.DimensionError, r"'jk' for shape \(3,\)"),
        ("ij,i", error.ShapeMismatch, r"expected shape \(2,\), got \(3,\).*axis i"),
        ("ii,j", error.InvalidValue, "subscripts 'ii,j' have 'i' twice in 'ii'"),
        ("ij,j->ikk", error.InvalidValue, "subscripts .* have 'k' twice in 'ikk'; give each axis"),
        ("ij,j->l", error.InvalidValue, "subscripts .* have 'l' in the result, but in no operand"),
        ("ij", error.InvalidValue, "for 2 operands"),
        ("...j,j", error.InvalidValue, "ij,jk->ik"),
        (3, error.InvalidValue, "subscripts 3"),
    ],
)
def test_subscripts_that_fit_no_operands_are_refused(subscripts, kind, message):
    x, y, tape = variables(np.ones((2, 3)), np.ones(3))
    with pytest.raises(kind, match=message):
        autograd.einsum(tape, subscripts, x, y)
