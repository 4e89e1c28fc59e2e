"""Elements by their indices: against NumPy, at every number of threads, and what is refused."""

import numpy as np
import pytest

from viva_tensor import autograd, error, kernels, nn, optim, program

# before the axis, along it, after it: threads share rows, columns or what lies before
SIZES = [(1, 300, 16), (1, 7, 333), (5, 11, 3), (64, 9, 1), (1, 1, 1), (2, 40, 100)]


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_values_and_sums_are_those_of_numpy(sizes, threads, dtype, rng):
    x = rng.standard_normal(sizes).astype(dtype)
    indices = rng.integers(-sizes[1], sizes[1], (50, 2))
    grad = rng.standard_normal((sizes[0], 50, 2, sizes[2])).astype(dtype)
    summed = np.zeros_like(x)
    np.add.at(summed, (slice(None), indices), grad)  # in the order of the indices, as here
    with kernels.num_threads(threads):
        assert np.array_equal(kernels.take(x, indices, axis=1), np.take(x, indices, axis=1))
        assert np.array_equal(kernels.take(x, indices.astype(dtype), axis=-2), np.take(x, indices, axis=1))
        assert np.array_equal(kernels.take_backward(grad, x, indices, axis=1), summed)


def test_nothing_taken_and_nothing_to_take_from():
    assert kernels.take(np.ones((3, 2)), np.zeros((0, 4), int)).shape == (0, 4, 2)
    assert kernels.take(np.ones((3, 0)), [2, 1]).shape == (2, 0)
    assert np.array_equal(kernels.take_backward(np.ones((0, 2)), np.ones((3, 2)), []), np.zeros((3, 2)))
    with pytest.raises(error.IndexOutOfBounds):
        kernels.take(np.ones((0, 2)), [0])


@pytest.mark.parametrize(
    ("indices", "kind", "message"),
    [
        ([3], error.IndexOutOfBounds, r"take: index 3 .*of shape \(3, 2\)"),
        ([0, -4], error.IndexOutOfBounds, "index -4"),
        ([0.5], error.InvalidValue, r"take: the index 0.5; .*whole numbers"),
        ([float("nan")], error.InvalidValue, "the index nan"),
        (["a"], error.DtypeError, "take"),
        (np.array([True, False, True]), error.DtypeError, r"take: a mask, bool .*give np\.flatnonzero\(mask\)"),
        ([True, False, True], error.DtypeError, "a mask"),
        (np.array([0], "f4"), error.DtypeError, "float32"),
    ],
)
def test_indices_that_name_no_element_are_refused(indices, kind, message):
    x = np.ones((3, 2))
    with pytest.raises(kind, match=message):
        kernels.take(x, indices)
    variable, tape = autograd.new_variable(autograd.new_tape(), x)
    with pytest.raises(kind, match=message):
        autograd.take(tape, variable, indices)


def test_masks_for_rows_of_tables_are_refused_in_words():
    mask, weights = np.array([[True, False]]), np.ones((1, 2), "f4")
    table, tape = autograd.new_variable(autograd.new_tape(), np.ones((3, 2), "f4"))
    for call in (
        lambda: kernels.embedding_bag(table.data, mask, weights),
        lambda: autograd.embedding_bag(tape, table, mask, weights),
        lambda: nn.embedding_forward(tape, nn.Embedding(table), mask),
    ):
        with pytest.raises(error.DtypeError, match="a mask"):
            call()


def test_a_gradient_has_the_shape_of_what_was_taken():
    with pytest.raises(error.ShapeMismatch, match="one gradient for each element"):
        kernels.take_backward(np.ones((3, 2)), np.ones((4, 2)), [0, 1])
    with pytest.raises(error.IndexOutOfBounds):
        kernels.take(np.ones((3, 2)), [0], axis=2)


def test_a_float32_axis_is_no_longer_than_its_numbers_count():
    x = np.broadcast_to(np.float32(1), (2**24 + 1,))
    with pytest.raises(error.InvalidShape, match="more than float32 can count"):
        kernels.take(x, [0])


@pytest.mark.parametrize("threads", [1, 2])
def test_an_embedding_trains_as_on_the_tape(threads, rng):
    chosen, target = rng.integers(0, 30, (40, 3)).astype("f4"), rng.standard_normal((40, 5)).astype("f4")
    adam = optim.Adam(lr=0.1)
    table, tape = nn.embedding(autograd.new_tape(), 30, 7, rng=rng)
    layer, tape = nn.linear(tape, 21, 5, rng=rng)
    params = (table, layer)
    state, step = optim.init(adam, params), None
    with kernels.num_threads(threads):
        for _ in range(3):
            index, tape = autograd.new_constant(tape, chosen)
            y, tape = autograd.new_constant(tape, target)
            rows, tape = nn.embedding_forward(tape, params[0], index)
            flat, tape = autograd.reshape(tape, rows, (-1, 21))
            out, tape = nn.linear_forward(tape, params[1], flat)
            loss, tape = nn.mse_loss(tape, out, y)
            step = step or program.compile_step(tape, loss=loss, params=params, inputs=(index, y), optimizer=adam)
            grads = autograd.backward(tape, loss)
            assert step(chosen, target) == float(loss.data)
            (params, state), tape = optim.update(autograd.new_tape(), adam, state, params, grads)
        trained = step.params(autograd.new_tape()).value
    assert np.array_equal(trained[0].w.data, params[0].w.data)
    assert step(chosen[:7], target[:7]) > 0  # batches of other sizes


def test_in_a_program_an_index_that_does_not_exist_gives_nan_and_changes_nothing_else():
    table, tape = autograd.new_variable(autograd.new_tape(), np.arange(6.0).reshape(3, 2))
    index, tape = autograd.new_constant(tape, np.zeros(4))
    rows, tape = autograd.take(tape, table, index)
    forward = program.compile_forward(tape, output=rows, inputs=(index,))
    found = forward(np.array([2.0, 3.0, 0.5, np.nan, -1.0, -4.0, np.inf, -np.inf, 1e300]))
    assert np.array_equal(found[[0, 4]], [[4.0, 5.0], [4.0, 5.0]])
    assert np.isnan(found[[1, 2, 3, 5, 6, 7, 8]]).all()


def test_recorded_indices_are_refused_for_batches_of_other_rows():
    x, tape = autograd.new_constant(autograd.new_tape(), np.ones((4, 2)))
    rows, tape = autograd.take(tape, x, [3, 0])
    forward = program.compile_forward(tape, output=rows, inputs=(x,))
    assert forward(np.ones((4, 2))).shape == (2, 2)
    for count in (3, 5):
        with pytest.raises(error.InvalidShape, match=r"recorded as rows of \(4, 2\)"):
            forward(np.ones((count, 2)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("rows", "entries", "size", "width"), [(9, 7, 50, 131), (33, 1, 3, 8), (64, 30, 40, 200)])
def test_embedding_bags_are_those_of_pytorch(rows, entries, size, width, dtype, rng):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    table, weights = (rng.standard_normal(shape).astype(dtype) for shape in ((size, width), (rows, entries)))
    indices = rng.integers(0, size, (rows, entries))
    grad = rng.standard_normal((rows, width)).astype(dtype)
    theirs = torch.from_numpy(table.copy()).requires_grad_()
    sums = torch.nn.functional.embedding_bag(
        torch.from_numpy(indices), theirs, mode="sum", per_sample_weights=torch.from_numpy(weights)
    )
    sums.backward(torch.from_numpy(grad))
    u = np.finfo(dtype).eps / 2
    size_of_sums = kernels.embedding_bag(abs(table), indices, abs(weights))
    found = kernels.embedding_bag(table, indices, weights)
    assert (abs(found - sums.detach().numpy()) <= 2 * (entries + 1) * u * size_of_sums).all()
    size_of_grads = kernels.embedding_bag_backward(abs(grad), table, indices, abs(weights))
    back = kernels.embedding_bag_backward(grad, table, indices, weights)
    assert (abs(back - theirs.grad.numpy()) <= 2 * (rows * entries + 1) * u * size_of_grads).all()


@pytest.mark.parametrize("width", [3, 16, 64])
def test_bags_have_the_same_bits_on_any_number_of_threads(width, rng):
    table, weights = rng.standard_normal((300, width)), rng.standard_normal((500, 20))
    indices, grad = rng.integers(-300, 300, (500, 20)), rng.standard_normal((500, width))
    found = []
    for threads in (1, 2, 3, 5):
        with kernels.num_threads(threads):
            sums = kernels.embedding_bag(table, indices, weights)
            found.append((sums, kernels.embedding_bag_backward(grad, table, indices, weights)))
    for sums, back in found[1:]:
        assert np.array_equal(sums, found[0][0])
        assert np.array_equal(back, found[0][1])


def test_bags_without_entries_are_zero_and_a_weight_of_zero_keeps_what_is_not_finite():
    assert kernels.embedding_bag(np.ones((3, 2)), np.ones((4, 0)), np.ones((4, 0))).tolist() == [[0, 0]] * 4
    assert np.isnan(kernels.embedding_bag([[np.inf, 1.0]], [[0]], [[0.0]])[0, 0])


@pytest.mark.parametrize(
    ("indices", "weights", "kind", "words"),
    [
        ([[3]], [[1.0]], error.IndexOutOfBounds, "embedding_bag"),
        ([[0.5]], [[1.0]], error.InvalidValue, "the index 0.5"),
        ([0], [1.0], error.DimensionError, "weights has shape"),
        ([[0, 1]], [[1.0]], error.ShapeMismatch, "one index for each weight"),
        ([[0], [0, 1]], [[1.0]], error.InvalidShape, "embedding_bag, indices: no array can be made"),
        (np.ma.masked_array([[0]], [[True]]), [[1.0]], error.DtypeError, "a masked array"),
    ],
)
def test_what_is_no_bag_is_named(indices, weights, kind, words):
    table = np.ones((3, 2), np.float32)
    with pytest.raises(kind, match=words):
        kernels.embedding_bag(table, indices, weights)
    variable, tape = autograd.new_variable(autograd.new_tape(), table)
    with pytest.raises(kind, match="embedding_bag"):
        autograd.embedding_bag(tape, variable, indices, weights)
