from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.products import bound, laid_out, reference

from viva_tensor import error, kernels
from viva_tensor.kernels import _matmul, _updates

layouts = st.sampled_from(["c", "fortran", "reversed", "strided"])
sizes = st.integers(0, 40)


@settings(max_examples=150, deadline=None)
@given(
    sizes, sizes, sizes, layouts, layouts, layouts, st.sampled_from(["float32", "float64"]), st.integers(0, 2**32 - 1)
)
def test_within_the_error_bound_for_any_shape_and_strides(m, k, n, of_a, of_b, of_out, dtype, seed):
    rng = np.random.default_rng(seed)
    a = laid_out(rng.standard_normal((m, k)).astype(dtype), of_a)
    b = laid_out(rng.standard_normal((k, n)).astype(dtype), of_b)
    out = laid_out(np.full((m, n), np.nan, dtype), of_out)
    assert kernels.matmul(a, b, out=out) is out
    assert (np.abs(out - reference(a, b)) <= bound(a, b)).all()
    assert np.array_equal(kernels.matmul(a, b), out)


@pytest.mark.parametrize(
    "shape",
    [(1, 1, 1), (1, 600, 1), (3, 1, 5), (7, 255, 33), (6, 256, 16), (13, 257, 31), (130, 513, 70), (250, 300, 2100)],
)
def test_across_block_and_chunk_borders(shape, dtype, rng):
    m, k, n = shape
    a, b = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
    assert (np.abs(kernels.matmul(a, b) - reference(a, b)) <= bound(a, b)).all()


def test_the_sum_runs_in_chunks_of_256(dtype, rng):
    a, b = rng.standard_normal((5, 700)).astype(dtype), rng.standard_normal((700, 9)).astype(dtype)
    parts = [kernels.matmul(a[:, k : k + 256], b[k : k + 256]) for k in range(0, 700, 256)]
    assert np.array_equal(kernels.matmul(a, b), (parts[0] + parts[1]) + parts[2])


@pytest.mark.parametrize("shape", [(200, 300, 270), (31, 520, 4097), (5000, 90, 17), (5000, 12, 70)])
def test_same_bits_at_every_thread_count_and_in_every_layout(shape, dtype, rng):
    m, k, n = shape
    a, b = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
    with kernels.num_threads(1):
        one = kernels.matmul(a, b)
    for threads in (2, 3, 4, 7):
        with kernels.num_threads(threads):
            assert np.array_equal(kernels.matmul(a, b), one)
            assert np.array_equal(kernels.matmul(np.asfortranarray(a), laid_out(b, "strided")), one)
            assert np.array_equal(kernels.matmul(b.T, a.T).T, one)


def test_the_output_is_never_read(dtype):
    out = np.full((20, 20), np.nan, dtype)
    kernels.matmul(np.ones((20, 300), dtype), np.ones((300, 20), dtype), out=out)
    assert (out == 300).all()


def test_infinity_travels_to_its_row_alone(dtype):
    a, b = np.ones((9, 5), dtype), np.ones((5, 17), dtype)
    a[4, 2], b[1, 3] = np.inf, np.nan
    with np.errstate(invalid="ignore"):
        assert np.array_equal(kernels.matmul(a, b), a @ b, equal_nan=True)


@pytest.mark.parametrize("shape", [(3, 1, 5), (700, 30, 8), (90, 1, 110), (40, 30, 40)])
def test_an_output_that_overlaps_the_bias_gets_the_right_product(shape, rng):
    m, k, n = shape
    x, w, out = rng.standard_normal((m, k), "f4"), rng.standard_normal((n, k), "f4"), np.zeros((m, n), "f4")
    bias = rng.standard_normal(n, "f4")
    wanted = kernels.linear(x, w, bias)
    out[0] = bias
    assert np.array_equal(kernels.linear(x, w, out[0], out=out), wanted)


def test_an_output_that_overlaps_an_operand_gets_the_right_product(rng):
    other = rng.standard_normal((30, 30))
    for left in (True, False):
        square = rng.standard_normal((30, 30))
        operands = (square, other) if left else (other, square)
        wanted = kernels.matmul(*operands)
        assert np.array_equal(kernels.matmul(*operands, out=square), wanted)


def test_outer_dimensions_of_zero_give_empty_and_an_inner_one_gives_zeros(dtype):
    assert kernels.matmul(np.ones((0, 3), dtype), np.ones((3, 2), dtype)).shape == (0, 2)
    assert np.array_equal(kernels.matmul(np.ones((2, 0), dtype), np.ones((0, 3), dtype)), np.zeros((2, 3)))


def test_backward_is_two_products(dtype, rng):
    a, b = rng.standard_normal((4, 6)).astype(dtype), rng.standard_normal((6, 3)).astype(dtype)
    grad = rng.standard_normal((4, 3)).astype(dtype)
    da, db = kernels.matmul_backward(grad, a, b)
    assert np.allclose(da, grad @ b.T, atol=1e-5)
    assert np.allclose(db, a.T @ grad, atol=1e-5)


def test_linear_has_the_bits_of_its_steps(dtype, rng):
    x, w, b = (rng.standard_normal(shape).astype(dtype) for shape in [(37, 300), (19, 300), (19,)])
    assert np.array_equal(kernels.linear(x, w, b), kernels.add(kernels.matmul(x, w.T), b))
    assert np.array_equal(kernels.linear(x[:, :0], w[:, :0], b), np.broadcast_to(b, (37, 19)))


def test_linear_takes_any_strides_of_bias_and_output(dtype, rng):
    x, w, b = (rng.standard_normal(shape).astype(dtype) for shape in [(7, 5), (4, 5), (8,)])
    wanted = kernels.linear(x, w, b[::2].copy())
    out = np.empty((4, 7), dtype).T
    assert np.array_equal(kernels.linear(x, w, b[::2], out=out), wanted)


def test_linear_backward(dtype, rng):
    x, w, grad = (rng.standard_normal(shape).astype(dtype) for shape in [(7, 5), (4, 5), (7, 4)])
    dx, dw, db = kernels.linear_backward(grad, x, w)
    for found, wanted in ((dx, grad @ w), (dw, grad.T @ x), (db, grad.sum(0))):
        assert np.allclose(found, wanted, atol=1e-5)


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(error.ShapeMismatch, match=r"\(2, 3\) and \(4, 5\).*transpose"):
        kernels.matmul(np.ones((2, 3)), np.ones((4, 5)))
    with pytest.raises(error.DimensionError, match=r"\(2, 3\) and \(\): got a number"):
        kernels.matmul(np.ones((2, 3)), 3.0)
    with pytest.raises(error.ShapeMismatch, match=r"\(2, 3\) and \(2,\)"):
        kernels.matmul(np.ones((2, 3)), np.ones(2))
    with pytest.raises(error.BroadcastError, match=r"\(2, 4, 3\) and \(5, 3, 1\)"):
        kernels.matmul(np.ones((2, 4, 3)), np.ones((5, 3, 1)))
    with pytest.raises(error.ShapeMismatch, match=r"\(2, 2\), got \(2, 3\)"):
        kernels.matmul(np.ones((2, 3)), np.ones((3, 2)), out=np.empty((2, 3)))
    with pytest.raises(error.ShapeMismatch, match=r"\(4, 3\)"):
        kernels.linear(np.ones((2, 5)), np.ones((4, 3)), np.ones(4))
    with pytest.raises(error.ShapeMismatch, match=r"\(4,\), got \(5,\)"):
        kernels.linear(np.ones((2, 3)), np.ones((4, 3)), np.ones(5))
    with pytest.raises(error.ShapeMismatch, match="matmul_backward"):
        kernels.matmul_backward(np.ones((2, 2)), np.ones((2, 3)), np.ones((3, 4)))
    with pytest.raises(error.ShapeMismatch, match=r"\(3, 4\), got \(5, 4\)"):
        kernels.matmul_backward(np.ones((2, 4)), np.ones((2, 3)), np.ones((5, 4)))


@pytest.mark.parametrize(
    "shape",
    [
        (1, 64, 3),
        (2, 60, 4),
        (1, 300, 1),
        (1, 700, 5),
        (1, 300, 290),
        (300, 290, 1),
        (7, 1, 9),
        (1, 1, 1),
        (40, 64, 10),
        (900, 3, 2),
        (1, 261, 49),
        (1, 19, 4500),
        (4500, 270, 1),
    ],
)
@pytest.mark.parametrize("of_a", ["c", "fortran", "strided"])
@pytest.mark.parametrize("of_b", ["c", "fortran", "strided"])
def test_thin_products_have_the_bits_of_the_same_outputs_in_a_wide_one(shape, of_a, of_b, dtype, rng):
    m, k, n = shape
    a, b = rng.standard_normal((m + 80, k)).astype(dtype), rng.standard_normal((k, n + 80)).astype(dtype)
    wide = kernels.matmul(a, b)
    thin = kernels.matmul(laid_out(a[:m], of_a), laid_out(b[:, :n], of_b))
    assert np.array_equal(thin, wide[:m, :n])


@pytest.mark.parametrize(
    "shape",
    [
        (1, 300, 5), (1, 9, 700), (3, 9, 300), (37, 9, 70), (67, 16, 33), (37, 520, 70), (96, 20, 64), (130, 30, 1),
        (5, 0, 7),
    ],
)  # fmt: skip
@pytest.mark.parametrize("of_out", ["c", "fortran"])
def test_what_follows_a_product_has_the_bits_of_the_operations_one_by_one(shape, of_out, dtype, rng):
    m, k, n = shape
    a, b = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
    bias, mask = rng.standard_normal(n).astype(dtype), rng.standard_normal((m, n)).astype(dtype)
    mask[0, 0] = np.nan
    mask[-1, -1] = 0
    out = laid_out(np.full((m, n), np.nan, dtype), of_out)
    plain = kernels.matmul(a, b)
    _matmul.matmul(a, b, out, bias, True)
    assert np.array_equal(out, kernels.relu(kernels.add(plain, bias)))
    _matmul.matmul(a, b, out, None, False, mask)
    assert np.array_equal(out, kernels.relu_backward(plain, mask))


RULES = {
    "descent": ("descent", {}),
    "decay": ("descent", {"decay": 0.01}),
    "momentum": ("descent", {"momentum": 0.9}),
    "nesterov": ("descent", {"momentum": 0.9, "nesterov": True, "decay": 0.01}),
    "adam": ("adam", {"momentum": 0.9, "square_momentum": 0.99, "epsilon": 1e-8, "decay": 0.01}),
    "adamw": ("adam", {"momentum": 0.9, "square_momentum": 0.99, "epsilon": 1e-8, "decay": 0.01, "decoupled": True}),
    "rmsprop": ("rmsprop", {"square_momentum": 0.99, "epsilon": 1e-8}),
    "rmsprop with momentum": ("rmsprop", {"square_momentum": 0.99, "epsilon": 1e-8, "momentum": 0.9}),
}


@pytest.mark.parametrize("shape", [(64, 500, 33), (1, 40, 7), (1, 12, 700), (7, 257, 1), (30, 12, 100)])
@pytest.mark.parametrize("name", RULES)
def test_an_update_in_the_write_back_has_the_bits_of_the_update_of_its_gradient(shape, name, dtype, rng):
    m, k, n = shape
    kind, numbers = RULES[name]
    rule = _updates.Rule(kind, 0.1, **numbers)
    rule.next_step()
    a, b = rng.standard_normal((k, m)).astype(dtype).T, rng.standard_normal((k, n)).astype(dtype)
    w, first = rng.standard_normal((m, n)).astype(dtype), rng.standard_normal((m, n)).astype(dtype)
    second = rng.random((m, n)).astype(dtype)
    first, second = first if "momentum" in numbers else None, second if "square_momentum" in numbers else None
    apart = _updates.update(rule, w, kernels.matmul(a, b), first, second)
    for threads in (1, 3):
        fused = [None if one is None else one.copy() for one in (w, first, second)]
        with kernels.num_threads(threads):
            _matmul.matmul_update(a, b, np.full((m, n), np.nan, dtype), rule, *fused)
        for one, other in zip(fused, apart, strict=True):
            assert (one is None and other is None) or np.array_equal(one, other)


@pytest.mark.parametrize("shape", [(2048, 2048), (1024, 4096), (256, 8192), (8192, 256), (1000, 1000)])
def test_the_team_is_balanced_for_2_to_128_members(shape):
    rows, columns = shape
    for threads in range(2, 129):
        boxes = [_matmul.rectangle(rows, columns, thread, threads) for thread in range(threads)]
        areas = [(bottom - top) * (right - left) for top, bottom, left, right in boxes]
        assert sum(areas) == rows * columns
        # whole tiles are dealt out, so each side of a part may be a tile too long
        tiles = rows * columns / threads / np.prod(_matmul.tile())
        assert max(areas) <= (1 + tiles**-0.5) ** 2 * rows * columns / threads


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 40))
def test_the_parts_of_a_team_cover_each_output_once(rows, columns, threads):
    count = np.zeros((rows, columns), int)
    for thread in range(threads):
        top, bottom, left, right = _matmul.rectangle(rows, columns, thread, threads)
        count[top:bottom, left:right] += 1
    assert (count == 1).all()


def test_threads_share_rows_where_sharing_each_row_would_cost_more_than_packing_b_twice():
    for thread in range(2):
        _, _, *by_columns = _matmul.rectangle(4096, 64, thread, 2, packs_a=False)
        assert by_columns == [32 * thread, 32 * thread + 32]
        _, _, *by_rows = _matmul.rectangle(4096, 64, thread, 2, packs_a=False, seam=256)
        assert by_rows == [0, 64]


@pytest.mark.parametrize("shape", [(1, 16), (5, 17), (64, 64), (33, 100), (200, 32)])
@pytest.mark.parametrize("of_a", ["c", "fortran"])
def test_outer_products_are_exact(shape, of_a, dtype, rng):
    m, n = shape
    a, b = laid_out(rng.standard_normal((7, m)).astype(dtype), of_a), rng.standard_normal((7, n)).astype(dtype)
    assert np.array_equal(kernels.matmul(a[:, :, None], b[:, None, :]), a[:, :, None] * b[:, None, :])
    assert np.array_equal(kernels.matmul(a[0][:, None], b[0][None]), np.outer(a[0], b[0]))


@pytest.mark.parametrize("layouts", [("c", "c"), ("c", "fortran"), ("fortran", "c"), ("fortran", "fortran")])
@pytest.mark.parametrize("steps", [1, 2, 3, 8, 15, 16])
def test_a_product_of_few_steps_has_the_bits_of_one_with_zeros_after_them(steps, layouts, dtype, rng):
    for m, n in product((1, 4, 5, 8, 9, 40, 67), (1, 3, 5, 16, 17, 31, 33, 70)):
        a, b, bias = np.zeros((m, 40), dtype), np.zeros((40, n), dtype), rng.standard_normal(n).astype(dtype)
        a[:, :steps], b[:steps] = rng.standard_normal((m, steps)), rng.standard_normal((steps, n))
        few, more = [laid_out(a[:, :steps], layouts[0]), laid_out(b[:steps], layouts[1])], [a, b]
        assert np.array_equal(kernels.matmul(*few), kernels.matmul(*more))
        assert np.array_equal(kernels.linear(few[0], few[1].T, bias), kernels.linear(a, b.T, bias))


@pytest.mark.parametrize("depth", [257, 512, 700, 1000, 2048, 4095, 4097, 9000])
def test_few_outputs_over_a_great_depth_have_the_bits_of_many(depth, dtype, rng):
    a, b = rng.standard_normal((40, depth)).astype(dtype), rng.standard_normal((depth, 40)).astype(dtype)
    a[1:3], b[:, 1] = np.sqrt(np.finfo(dtype).tiny) / 2**30, -np.sqrt(np.finfo(dtype).tiny) / 2**30  # sums of -0
    many = kernels.matmul(a, b)
    for layout in ("c", "fortran"):
        for m, n in product((1, 2, 3, 5), (1, 2, 3, 4, 7, 10)):
            few = kernels.matmul(a[:m], laid_out(b[:, :n], layout))
            assert np.array_equal(few, many[:m, :n])
            assert np.array_equal(np.signbit(few), np.signbit(many[:m, :n]))


@pytest.mark.parametrize(
    ("shape", "of_a", "of_b", "path"),
    [
        ((3, 0, 5), "c", "c", "no depth"),
        ((4, 4, 2), "c", "c", "row by row"),
        ((40, 1, 40), "c", "c", "few steps"),
        ((40, 16, 40), "fortran", "fortran", "few steps"),
        ((5, 16, 40), "c", "fortran", "few steps"),
        ((5, 17, 40), "c", "fortran", "few rows along b's columns"),
        ((100, 17, 5), "fortran", "c", "transposed, few rows along b's rows"),
        ((1, 600, 1), "c", "c", "few outputs along the depth"),
        ((1, 300, 40), "c", "c", "few rows along b's rows"),
        ((1, 300, 40), "c", "fortran", "few rows along b's columns"),
        ((40, 300, 1), "c", "c", "transposed, few rows along b's columns"),
        ((200, 300, 200), "c", "c", "tiles of packed a, b packed"),
        ((40, 300, 40), "c", "c", "tiles of a where it lies"),
        ((200, 300, 40), "c", "c", "tiles of a where it lies, b packed"),
    ],
)
def test_each_path_is_taken_where_it_should_be_and_within_the_bound(shape, of_a, of_b, path, rng):
    m, k, n = shape
    a, b = laid_out(rng.standard_normal((m, k)), of_a), laid_out(rng.standard_normal((k, n)), of_b)
    assert _matmul.path(a, b) == path
    assert (np.abs(kernels.matmul(a, b) - reference(a, b)) <= bound(a, b)).all()
