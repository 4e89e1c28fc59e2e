"""Embeddings of numbers: against PyTorch and the authors' package, on the tape, compiled, saved and exported."""

from itertools import pairwise

import numpy as np
import onnxruntime
import pytest
from support.layer_steps import check_compiled, check_resumed, constants, filled, in_pytorch, leaves, on_the_tape

from viva_tensor import autograd, error, export, nn, optim, program

# widths are powers of two, for the package computes with their inverses in float32
EDGES = [np.array([-1.0, -0.5, 0.0, 0.25, 2.25]), np.array([-3.0, 1.0]), np.array([-0.5, 0.0, 1.0])]
REASON = "rtdl_num_embeddings, the package of the authors, is not installed"


def encoded(edges, x):
    """The piecewise linear encoding by its definition, one feature after another: [rows, features, most bins]."""
    whole = np.zeros((*x.shape, max(map(len, edges)) - 1))
    for j, own in enumerate(edges):
        for t, (left, right) in enumerate(pairwise(own)):
            part = (x[:, j] - left) / (right - left)
            if t > 0:
                part = np.maximum(part, 0)
            if t < len(own) - 2:
                part = np.minimum(part, 1)
            whole[:, j, t] = part
    return whole


def new(kind, rng=None, dtype="f8"):
    tape = autograd.new_tape()
    if kind in ("A", "B"):
        return nn.piecewise_linear(tape, EDGES, 5, version=kind, rng=rng, dtype=dtype)
    if kind == "pbld":
        return nn.pbld(tape, 3, 5, hidden=7, rng=rng, dtype=dtype)
    return nn.periodic(tape, 3, 5, frequencies=7, sigma=0.3, lite=kind == "lite", rng=rng, dtype=dtype)


KINDS = ("A", "B", "periodic", "lite", "pbld")


def inputs_of(kind, x):
    """The arrays that a layer is given for numbers."""
    return {"A": lambda: nn.locate(EDGES, x)[:2], "B": lambda: tuple(nn.locate(EDGES, x))}.get(kind, lambda: (x,))()


def forward(kind, tape, layer, inputs):
    if kind in ("A", "B"):
        return nn.piecewise_linear_forward(tape, layer, nn.Located(*inputs, *[None] * (kind == "A")))
    return (nn.pbld_forward if kind == "pbld" else nn.periodic_forward)(tape, layer, *inputs)


def applied(kind, tape, layer, x):
    inputs, tape = constants(tape, inputs_of(kind, x))
    return forward(kind, tape, layer, inputs)


def weighted_loss(kind):
    """A loss in which no two outputs weigh the same."""

    def record(tape, layer, inputs):
        y, tape = forward(kind, tape, layer, inputs)
        weights = np.linspace(0.5, 2, y.data[0].size).reshape(y.shape[1:]).astype(y.dtype)
        off, tape = autograd.sub(tape, y, weights)
        square, tape = autograd.mul(tape, off, off)
        return autograd.mean(tape, square)

    return record


def numbers(rng, rows, dtype="f8"):
    x = rng.standard_normal((rows, 3)) * 1.5
    if rows > 4:
        x[:4, 0] = [-1.0, 0.25, 2.25, 7.0]  # edges, and beyond the last one
    return x.astype(dtype)


def test_edges_are_quantiles_and_once_each(rng):
    x = np.stack([rng.standard_normal(200), rng.integers(0, 3, 200), rng.exponential(size=200)], axis=1)
    found = nn.quantile_edges(x, 8)
    assert [len(own) for own in found] == [9, 3, 9]
    for own, column in zip(found, x.T, strict=True):
        assert (own[0], own[-1]) == (column.min(), column.max())
    inside = np.histogram(x[:, 0], found[0])[0]
    assert inside.min() >= 24
    assert inside.max() <= 26
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    rtdl = pytest.importorskip("rtdl_num_embeddings", reason=REASON)
    for own, theirs in zip(found, rtdl.compute_bins(torch.tensor(x), 8), strict=True):
        assert np.allclose(own, theirs.numpy(), rtol=1e-14, atol=0)


def test_numbers_are_located_among_edges(rng, dtype):
    x = numbers(rng, 50, dtype)
    found = nn.locate(EDGES, x)
    assert all(one.dtype == x.dtype for one in found)
    assert found.x is x
    bins = found.rows.astype(int) - np.arange(3) * 4
    for j, own in enumerate(EDGES):
        left, right = own[bins[:, j]], own[bins[:, j] + 1]
        assert np.allclose(left + found.fractions[:, j] * (right - left), x[:, j], atol=1e-6)
        assert ((x[:, j] >= left) | (bins[:, j] == 0)).all()
        assert ((x[:, j] < right) | (bins[:, j] == len(own) - 2)).all()
    assert found.fractions.max() > 1
    assert found.fractions.min() < 0
    odd = nn.locate(EDGES, np.array([[np.nan, np.inf, -np.inf]], dtype))
    assert np.isnan(odd.fractions[0, 0])
    assert odd.fractions[0, 1:].tolist() == [np.inf, -np.inf]


@pytest.mark.parametrize("kind", ["A", "B"])
def test_bins_are_the_product_with_the_encoding(kind, rng, dtype):
    layer, tape = filled(new(kind).value, rng, dtype)
    x = numbers(rng, 60, dtype)
    y, tape = applied(kind, tape, layer, x)
    w, *line, b = (array.astype("f8") for array in leaves(layer))
    expected = np.einsum("njt,jtd->njd", encoded(EDGES, x.astype("f8")), w) + b
    if line:
        expected += x[..., None] * line[0]
    assert np.allclose(y.data, expected, rtol=1e-5 if dtype == np.float32 else 1e-13, atol=np.finfo(dtype).eps * 50)


def test_small_bins_below_a_large_one_are_not_lost(dtype):
    (w, b), tape = constants(autograd.new_tape(), (np.array([[[1.0], [1e20]]], dtype), np.zeros((1, 1), dtype)))
    located = nn.locate([[0.0, 1.0, 3.0]], np.array([[1.0]], dtype))
    y, _ = nn.piecewise_linear_forward(tape, nn.PiecewiseLinear(w, b), located)
    assert y.data.tolist() == [[[1.0]]]


@pytest.mark.parametrize("kind", ["periodic", "lite", "pbld"])
def test_waves_are_those_of_the_formula(kind, rng):
    layer, tape = filled(new(kind).value, rng)
    x = numbers(rng, 20)
    y, tape = applied(kind, tape, layer, x)
    c, *phase, w, b = leaves(layer)
    angles = 2 * np.pi * c * x[..., None] + (phase[0] if phase else 0)
    waves = np.cos(angles) if phase else np.concatenate([np.cos(angles), np.sin(angles)], -1)
    vector = waves @ w + b if kind == "lite" else np.einsum("njh,jhd->njd", waves, w) + b
    expected = np.concatenate([vector, x[..., None]], -1) if phase else np.maximum(vector, 0)
    assert np.allclose(y.data, expected, rtol=1e-12, atol=1e-13)


def test_arrays_that_are_located_need_no_recording(rng):
    layer, tape = filled(new("B").value, rng)
    x = numbers(rng, 9)
    y, _ = nn.piecewise_linear_forward(tape, layer, nn.locate(EDGES, x))
    assert np.array_equal(y.data, applied("B", tape, layer, x).value.data)


def theirs(kind, layer):
    """The package's module with the weights of a layer, and its parameters in the order and shape of ours."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    rtdl = pytest.importorskip("rtdl_num_embeddings", reason=REASON)
    arrays = [torch.tensor(array) for array in leaves(layer)]
    if kind in ("A", "B"):
        module = rtdl.PiecewiseLinearEmbeddings(
            [torch.tensor(own) for own in EDGES], 5, activation=False, version=kind
        ).double()
        linear = module.linear0 if kind == "B" else None
        own = [module.linear.weight, linear.weight, linear.bias] if kind == "B" else list(module.linear.parameters())
        arrays[0] = moved(arrays[0].numpy(), torch)
    else:
        module = rtdl.PeriodicEmbeddings(3, 5, n_frequencies=7, frequency_init_scale=0.3, lite=kind == "lite").double()
        own = [module.periodic.weight, module.linear.weight, module.linear.bias]
        arrays[1] = arrays[1].T if kind == "lite" else arrays[1]
    with torch.no_grad():
        for parameter, array in zip(own, arrays, strict=True):
            parameter.copy_(array)
    return torch, module, own


def moved(w, torch):
    """Weights of bins where the package has them: the last one of each feature at the end."""
    whole = np.zeros_like(w)
    for j, own in enumerate(EDGES):
        bins = len(own) - 1
        whole[j, : bins - 1], whole[j, -1] = w[j, : bins - 1], w[j, bins - 1]
    return torch.tensor(whole)


def used(kind, array, index):
    """What a feature uses of the weights of bins, and the whole of others, in the order of the package."""
    if kind in ("A", "B") and index == 0:
        parts = [(array[j, : len(own) - 1]) for j, own in enumerate(EDGES)]
        return np.concatenate(parts)
    return array


def used_by_theirs(kind, array, index):
    if kind in ("A", "B") and index == 0:
        parts = [part for j, own in enumerate(EDGES) for part in (array[j, : len(own) - 2], array[j, -1:])]
        return np.concatenate(parts)
    return array.T if kind == "lite" and index == 1 else array


@pytest.mark.filterwarnings("ignore:The .*-th feature has just two bin edges")
@pytest.mark.parametrize("kind", ["A", "B", "periodic", "lite"])
def test_forward_gradients_and_ten_steps_are_those_of_the_package(kind, rng):
    layer, tape = filled(new(kind).value, rng)
    torch, module, parameters = theirs(kind, layer)
    weights = torch.linspace(0.5, 2, 15, dtype=torch.float64).reshape(3, 5)

    def loss_of(x):
        return ((module(x) - weights) ** 2).mean()

    x = numbers(rng, 40)
    y, longer = applied(kind, tape, layer, x)
    assert np.allclose(y.data, module(torch.tensor(x)).detach().numpy(), rtol=1e-12, atol=1e-13)
    inputs, longer = constants(tape, inputs_of(kind, x))
    loss, longer = weighted_loss(kind)(longer, layer, inputs)
    grads = autograd.backward(longer, loss)
    loss_of(torch.tensor(x)).backward()
    for index, (ours, other) in enumerate(zip(layer, parameters, strict=True)):
        wanted = used_by_theirs(kind, other.grad.numpy(), index)
        assert np.allclose(used(kind, grads[ours], index), wanted, rtol=1e-10, atol=1e-14)
    batches = [numbers(rng, 32) for _ in range(10)]
    adam = optim.AdamW(lr=0.01, weight_decay=0.1)
    found = [inputs_of(kind, x) for x in batches]
    losses, layer = on_the_tape(layer, tape, weighted_loss(kind), found, adam)
    assert np.allclose(losses, in_pytorch(loss_of, parameters, [(x,) for x in batches]), rtol=1e-9)
    for index, (ours, other) in enumerate(zip(leaves(layer), parameters, strict=True)):
        wanted = used_by_theirs(kind, other.detach().numpy(), index)
        assert np.allclose(used(kind, ours, index), wanted, rtol=1e-8, atol=1e-10)


def test_pbld_takes_the_steps_of_pytorch(rng):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    layer, tape = filled(new("pbld").value, rng)
    c, phase, w, b = parameters = [torch.tensor(array, requires_grad=True) for array in leaves(layer)]
    weights = torch.linspace(0.5, 2, 15, dtype=torch.float64).reshape(3, 5)

    def loss_of(x):
        cosines = torch.cos(2 * torch.pi * c * x[..., None] + phase)
        vector = torch.einsum("njh,jhd->njd", cosines, w) + b
        return ((torch.cat([vector, x[..., None]], -1) - weights) ** 2).mean()

    batches = [(numbers(rng, 32),) for _ in range(10)]
    losses, layer = on_the_tape(layer, tape, weighted_loss("pbld"), batches, optim.AdamW(lr=0.01, weight_decay=0.1))
    assert np.allclose(losses, in_pytorch(loss_of, parameters, batches), rtol=1e-9)
    for ours, other in zip(leaves(layer), parameters, strict=True):
        assert np.allclose(ours, other.detach().numpy(), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_compiled_steps_have_the_bits_of_the_tape_for_any_rows(kind, rng, dtype):
    layer, tape = filled(new(kind).value, rng, dtype)
    batches = [inputs_of(kind, numbers(rng, rows, dtype)) for rows in (8, 3, 1, 50, 8)]
    check_compiled(layer, tape, weighted_loss(kind), batches)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_central_differences(kind, rng):
    layer, _ = filled(new(kind).value, rng)
    x = numbers(rng, 6)

    def function(tape, *weights):
        return applied(kind, tape, type(layer)(*weights), x)

    autograd.check_gradients(function, *leaves(layer))


@pytest.mark.parametrize("kind", ["periodic", "lite", "pbld"])
def test_gradients_with_respect_to_numbers(kind, rng):
    layer, _ = filled(new(kind).value, rng)

    def function(tape, x):
        weights, tape = constants(tape, leaves(layer))
        return forward(kind, tape, type(layer)(*weights), (x,))

    autograd.check_gradients(function, numbers(rng, 4))


@pytest.mark.parametrize("kind", KINDS)
def test_forward_passes_are_compiled_and_exported_for_any_rows(kind, rng, tmp_path):
    pytest.importorskip("onnx", reason="the package onnx is not installed")
    layer, tape = filled(new(kind).value, rng, "f4")
    inputs, tape = constants(tape, inputs_of(kind, numbers(rng, 8, "f4")))
    y, tape = forward(kind, tape, layer, inputs)
    predict = program.compile_forward(tape, output=y, inputs=inputs)
    path = export.onnx(tmp_path / "model.onnx", tape, output=y, inputs=inputs)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for rows in (8, 1, 30):
        arrays = inputs_of(kind, numbers(rng, rows, "f4"))
        ours = predict(*arrays)
        variables, longer = constants(tape, arrays)
        assert np.array_equal(ours, forward(kind, longer, layer, variables).value.data)
        (found,) = session.run(["output"], {f"input{i}": array for i, array in enumerate(arrays)})
        assert found.shape == (rows, 3, 5)
        assert np.allclose(found, ours, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_training_goes_on_from_a_file(kind, rng, tmp_path):
    pytest.importorskip("safetensors", reason="safetensors is not installed")
    batches = [inputs_of(kind, numbers(rng, 8)) for _ in range(4)]
    check_resumed(filled(new(kind).value, rng), filled(new(kind).value, rng), weighted_loss(kind), batches, tmp_path)


class TestNew:
    """What layers begin as."""

    def test_version_b_is_a_line_and_version_a_is_not(self, rng, dtype):
        x = np.linspace(-0.9, 0.9, 31).astype(dtype).repeat(3).reshape(-1, 3)
        for kind, bends in (("A", True), ("B", False)):
            layer, tape = new(kind, rng, dtype)
            y, _ = applied(kind, tape, layer, x)
            second = np.diff(y.data[:, 0], 2, axis=0)
            assert (abs(second).max() > 1e-3) == bends
            bound = 4**-0.5 if kind == "A" else 5**-0.5
            drawn = np.concatenate([array.ravel() for array in leaves(layer) if array.any()])
            assert 0.8 * bound < abs(drawn).max() <= bound * (1 + 1e-6)
            assert drawn.dtype == dtype

    def test_frequencies_are_normal_within_three_deviations(self, rng):
        for layer, far in (
            (nn.periodic(autograd.new_tape(), 40, 3, frequencies=500, sigma=0.2, rng=rng).value, 0),
            (nn.pbld(autograd.new_tape(), 40, 3, hidden=500, sigma=0.2, rng=rng).value, 54),
        ):
            c = layer.c.data
            assert abs(c.std() - 0.2) < 0.005
            assert abs((abs(c) > 0.6).sum() - far) <= far / 2
        phase = layer.phase.data
        assert 3.1 < abs(phase).max() <= np.pi
        assert abs(phase.std() - np.pi / 3**0.5) < 0.03

    def test_small_numpy_integers_are_sizes_like_any_other(self):
        (c, w, b), _ = nn.periodic(autograd.new_tape(), np.uint8(2), np.int8(3), frequencies=np.uint8(200))
        assert (c.shape, w.shape, b.shape) == ((2, 200), (2, 400, 3), (2, 3))

    def test_the_seed_decides(self):
        for kind in KINDS:
            one, same, other = (leaves(new(kind, np.random.default_rng(seed)).value)[-1] for seed in (1, 1, 2))
            assert np.array_equal(one, same)
            assert not np.array_equal(one, other)


class TestRefused:
    def test_edges(self):
        for edges, what in (
            ([[0.0]], r"feature 0 are of shape \(1,\)"),
            ([[0.0, 1.0], [1.0, 1.0]], "feature 1 are not finite or not ascending"),
            ([[0.0, np.nan]], "not finite"),
            ([], "edges are a list"),
            (3.0, "edges are a float"),
        ):
            with pytest.raises(error.InvalidValue, match=f"locate: .*{what}"):
                nn.locate(edges, np.ones((2, 2)))
            with pytest.raises(error.InvalidValue, match=f"piecewise_linear: .*{what}"):
                nn.piecewise_linear(autograd.new_tape(), edges, 3)

    def test_columns(self):
        with pytest.raises(error.ShapeMismatch, match="give edges for each column"):
            nn.locate(EDGES, np.ones((2, 2)))
        with pytest.raises(error.DimensionError, match=r"locate: x of shape \(3,\)"):
            nn.locate(EDGES, np.ones(3))
        with pytest.raises(error.InvalidValue, match="column 1 has one value only"):
            nn.quantile_edges([[0.0, 1.0], [2.0, 1.0]])
        with pytest.raises(error.InvalidValue, match="column 0 has numbers that are not finite"):
            nn.quantile_edges([[np.inf, 1.0], [2.0, 3.0]])
        with pytest.raises(error.DimensionError, match="quantile_edges"):
            nn.quantile_edges(np.ones((0, 3)))
        with pytest.raises(error.InvalidValue, match="bins=0"):
            nn.quantile_edges([[0.0], [2.0]], 0)

    def test_sizes_and_choices(self):
        tape = autograd.new_tape()
        for call, kind, match in (
            (lambda: nn.piecewise_linear(tape, EDGES, 0), error.InvalidShape, "width=0"),
            (lambda: nn.piecewise_linear(tape, EDGES, 2**62), error.InvalidShape, "no memory"),
            (lambda: nn.piecewise_linear(tape, EDGES, 2, version="C"), error.InvalidValue, "version='C'"),
            (lambda: nn.piecewise_linear(tape, EDGES, 2, dtype="i4"), error.DtypeError, "wanted float32 or float64"),
            (lambda: nn.periodic(tape, 0), error.InvalidShape, "features=0"),
            (lambda: nn.periodic(tape, 2, frequencies=1.5), error.InvalidShape, "frequencies=1.5"),
            (lambda: nn.periodic(tape, 2, sigma=0.0), error.InvalidValue, "sigma=0.0"),
            (lambda: nn.periodic(tape, 2, rng=3), error.InvalidValue, "rng is int"),
            (lambda: nn.pbld(tape, 2, 1), error.InvalidShape, "width=1"),
            (lambda: nn.pbld(tape, 2, hidden=0), error.InvalidShape, "hidden=0"),
        ):
            with pytest.raises(kind, match=match):
                call()

    def test_other_inputs(self, rng):
        layer, tape = new("B")
        with pytest.raises(error.InvalidValue, match="located is tuple"):
            nn.piecewise_linear_forward(tape, layer, (1, 2, 3))
        with pytest.raises(error.ShapeMismatch, match="the layer is of 3 features"):
            nn.piecewise_linear_forward(tape, layer, nn.locate(EDGES[:2], np.ones((4, 2))))
        with pytest.raises(error.InvalidValue, match="wanted a layer of PiecewiseLinear"):
            nn.piecewise_linear_forward(tape, None, nn.locate(EDGES, np.ones((4, 3))))
        with pytest.raises(error.DtypeError):
            nn.piecewise_linear_forward(tape, layer, nn.locate(EDGES, np.ones((4, 3), "f4")))
        for kind in ("periodic", "pbld"):
            layer, tape = new(kind)
            (narrow, flat), tape = constants(tape, [np.ones((4, 2)), np.ones(3)])
            with pytest.raises(error.ShapeMismatch, match="the layer is of 3 features"):
                forward(kind, tape, layer, (narrow,))
            with pytest.raises(error.DimensionError, match=r"of shape \(3,\)"):
                forward(kind, tape, layer, (flat,))
            with pytest.raises(error.InvalidValue, match="wanted a layer of"):
                forward(kind, tape, narrow, (narrow,))
