"""Ensembles with shared weights: against PyTorch and the package tabm, on the tape, compiled, saved and exported."""

import numpy as np
import onnxruntime
import pytest
from support.layer_steps import check_compiled, check_resumed, constants, filled, in_pytorch, leaves, on_the_tape
from support.tapes import recorded

from viva_tensor import autograd, error, export, nn, optim, program
from viva_tensor.autograd import Traced

REASON = "tabm, the package of the authors, is not installed"
MEMBERS, INPUTS, WIDTH, OUTPUTS = 4, 3, 8, 2
KINDS = ("tabm", "tabm-mini")
EDGES = [np.array([-1.0, 0.0, 0.5]), np.array([-2.0, 2.0]), np.array([-1.0, -0.5, 0.0, 2.0])]


def new(kind, rng=None, dtype="f8", inputs=INPUTS):
    """Two hidden layers and heads."""
    tape, sizes = autograd.new_tape(), (inputs, WIDTH, WIDTH)
    if kind == "tabm-mini":
        hidden, tape = nn.tabm_mini(tape, sizes, MEMBERS, rng=rng, dtype=dtype)
    else:
        first, tape = nn.batch_ensemble(tape, inputs, WIDTH, MEMBERS, scale="signs", rng=rng, dtype=dtype)
        second, tape = nn.batch_ensemble(tape, WIDTH, WIDTH, MEMBERS, rng=rng, dtype=dtype)
        hidden = (first, second)
    head, tape = nn.linear_ensemble(tape, WIDTH, OUTPUTS, MEMBERS, rng=rng, dtype=dtype)
    return Traced((hidden, head), tape)


def forward(tape, layers, x):
    hidden, head = layers
    if isinstance(hidden, nn.TabMMini):
        x, tape = nn.tabm_mini_forward(tape, hidden, x)
    else:
        for layer in hidden:
            x, tape = nn.batch_ensemble_forward(tape, layer, x)
            x, tape = nn.relu(tape, x)
    return nn.linear_ensemble_forward(tape, head, x)


def squared(tape, layers, inputs):
    outputs, tape = forward(tape, layers, inputs[0])
    return nn.ensemble_loss(tape, nn.mse_loss, outputs, inputs[1])


def of_classes(tape, layers, inputs):
    outputs, tape = forward(tape, layers, inputs[0])
    return nn.ensemble_loss(tape, nn.cross_entropy, outputs, inputs[1])


def batches_of(rng, rows, dtype="f8", classes=False):
    for count in rows:
        x = rng.standard_normal((count, INPUTS)).astype(dtype)
        y = rng.integers(0, OUTPUTS, count) if classes else rng.standard_normal((count, OUTPUTS))
        yield x, y.astype(dtype)


def expected(kind, layers, x):
    """The outputs by the formulas, of one member after another."""
    hidden, head = layers
    found = []
    for k in range(MEMBERS):
        if kind == "tabm-mini":
            h = x * hidden.r.data[k]
            for layer in hidden.layers:
                h = np.maximum(h @ layer.w.data.T + layer.b.data, 0)
        else:
            h = x
            for layer in hidden:
                h = ((h * layer.r.data[k]) @ layer.w.data.T) * layer.s.data[k] + layer.b.data[k]
                h = np.maximum(h, 0)
        found.append(h @ head.w.data[k] + head.b.data[k])
    return np.stack(found, axis=1)


@pytest.mark.parametrize("kind", KINDS)
def test_each_member_is_a_network_of_its_own(kind, rng):
    layers, tape = filled(new(kind).value, rng)
    x, tape = autograd.new_constant(tape, rng.standard_normal((7, INPUTS)))
    y, tape = forward(tape, layers, x)
    assert y.shape == (7, MEMBERS, OUTPUTS)
    assert np.allclose(y.data, expected(kind, layers, x.data), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("kind", KINDS)
def test_members_may_have_batches_of_their_own(kind, rng):
    layers, tape = filled(new(kind).value, rng)
    x, tape = autograd.new_constant(tape, rng.standard_normal((7, MEMBERS, INPUTS)))
    y, tape = forward(tape, layers, x)
    for k in range(MEMBERS):
        assert np.allclose(y.data[:, k], expected(kind, layers, x.data[:, k])[:, k], rtol=1e-12, atol=1e-13)


def theirs(kind, layers, embeddings=None):
    """The package's network with our weights, and its parameters in our order."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    tabm = pytest.importorskip("tabm", reason=REASON)
    model = tabm.TabM(
        n_num_features=INPUTS,
        num_embeddings=embeddings,
        d_out=OUTPUTS,
        n_blocks=2,
        d_block=WIDTH,
        dropout=0.0,
        activation="ReLU",
        k=MEMBERS,
        arch_type=kind,
        start_scaling_init="random-signs",
    ).double()
    linears = [block[0] for block in model.backbone.blocks]
    if kind == "tabm-mini":
        own = [model.backbone.affine.weight, *(one for linear in linears for one in (linear.weight, linear.bias))]
    else:
        own = [one for linear in linears for one in (linear.weight, linear.r, linear.s, linear.bias)]
    own += [model.output.weight, model.output.bias]
    assert len(own) == len(leaves(layers))
    with torch.no_grad():
        for parameter, array in zip(own, leaves(layers), strict=True):
            parameter.copy_(torch.tensor(array))
    return torch, model, own


@pytest.mark.parametrize("classes", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_forward_gradients_and_ten_steps_are_those_of_the_package(kind, classes, rng):
    layers, tape = filled(new(kind).value, rng)
    torch, model, parameters = theirs(kind, layers)

    def loss_of(x, y):
        outputs, targets = model(x).flatten(0, 1), y.repeat_interleave(MEMBERS, 0)
        if classes:
            return torch.nn.functional.cross_entropy(outputs, targets.long())
        return torch.nn.functional.mse_loss(outputs, targets)

    record = of_classes if classes else squared
    ((x, y),) = batches_of(rng, [30], classes=classes)
    inputs, longer = constants(tape, (x, y))
    outputs, longer = forward(longer, layers, inputs[0])
    assert np.allclose(outputs.data, model(torch.tensor(x)).detach().numpy(), rtol=1e-12, atol=1e-13)
    loss, longer = record(longer, layers, inputs)
    grads = autograd.backward(longer, loss)
    loss_of(torch.tensor(x), torch.tensor(y)).backward()
    for ours, other in zip(optim.trees.leaves(layers), parameters, strict=True):
        assert np.allclose(grads[ours], other.grad.numpy(), rtol=1e-10, atol=1e-14)
    batches = list(batches_of(rng, [16] * 10, classes=classes))
    losses, layers = on_the_tape(layers, tape, record, batches, optim.AdamW(lr=0.01, weight_decay=0.1))
    assert np.allclose(losses, in_pytorch(loss_of, parameters, batches), rtol=1e-9)
    for ours, other in zip(leaves(layers), parameters, strict=True):
        assert np.allclose(ours, other.detach().numpy(), rtol=1e-8, atol=1e-10)


@pytest.mark.filterwarnings("ignore:The .*-th feature has just two bin edges")
@pytest.mark.parametrize("kind", KINDS)
def test_ten_steps_on_embeddings_of_numbers_are_those_of_the_package(kind, rng):
    """Numbers embedded by version B, flat, and one ensemble on them: the whole of TabM."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    rtdl = pytest.importorskip("rtdl_num_embeddings", reason="rtdl_num_embeddings is not installed")
    embedding, _ = nn.piecewise_linear(autograd.new_tape(), EDGES, 5, dtype="f8")
    (embedding, layers), tape = filled((embedding, new(kind, inputs=15).value), rng)
    bins = rtdl.PiecewiseLinearEmbeddings([torch.tensor(own) for own in EDGES], 5, activation=False, version="B")
    torch, model, parameters = theirs(kind, layers, bins)
    w = np.zeros(embedding.w.shape)
    for j, own in enumerate(EDGES):  # the package has the last bin of each feature at the end
        w[j, : len(own) - 2], w[j, -1] = embedding.w.data[j, : len(own) - 2], embedding.w.data[j, len(own) - 2]
    first = [bins.linear.weight, bins.linear0.weight, bins.linear0.bias]
    with torch.no_grad():
        for parameter, array in zip(first, (w, *leaves(embedding[1:])), strict=True):
            parameter.copy_(torch.tensor(array))

    def record(tape, params, inputs):
        *located, y = inputs
        h, tape = nn.piecewise_linear_forward(tape, params[0], nn.Located(*located))
        h, tape = autograd.reshape(tape, h, (-1, 15))
        return squared(tape, params[1], (h, y))

    def loss_of(x, y):
        return torch.nn.functional.mse_loss(model(x).flatten(0, 1), y.repeat_interleave(MEMBERS, 0))

    batches = list(batches_of(rng, [16] * 10))
    ours = [(*nn.locate(EDGES, x), y) for x, y in batches]
    check_compiled((embedding, layers), tape, record, ours)
    losses, (_, layers) = on_the_tape((embedding, layers), tape, record, ours, optim.AdamW(lr=0.01, weight_decay=0.1))
    assert np.allclose(losses, in_pytorch(loss_of, [*first, *parameters], batches), rtol=1e-9)
    for one, other in zip(leaves(layers), parameters, strict=True):
        assert np.allclose(one, other.detach().numpy(), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("classes", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_compiled_steps_have_the_bits_of_the_tape_for_any_rows(kind, classes, rng, dtype):
    layers, tape = filled(new(kind).value, rng, dtype)
    batches = list(batches_of(rng, (8, 3, 1, 50, MEMBERS, 8), dtype, classes))
    check_compiled(layers, tape, of_classes if classes else squared, batches)


@pytest.mark.parametrize("recorded_rows", [1, MEMBERS])
@pytest.mark.parametrize("kind", KINDS)
def test_whatever_rows_were_recorded(kind, recorded_rows, rng):
    """Neither a single row nor as many as members is mistaken for what repeats along rows."""
    layers, tape = filled(new(kind).value, rng)
    check_compiled(layers, tape, squared, list(batches_of(rng, (recorded_rows, 6, 1, MEMBERS))))


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_central_differences(kind, rng):
    layers, _ = filled(new(kind).value, rng)
    x = rng.standard_normal((3, INPUTS))

    def function(tape, *weights):
        made = iter(weights)
        tree = optim.trees.replaced(layers, lambda variable: next(made))
        x_, tape = autograd.new_constant(tape, x)
        return forward(tape, tree, x_)

    autograd.check_gradients(function, *leaves(layers))


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_are_compiled_and_exported_for_any_rows(kind, rng, tmp_path):
    pytest.importorskip("onnx", reason="the package onnx is not installed")
    layers, tape = filled(new(kind).value, rng, "f4")
    (x,), tape = constants(tape, [rng.standard_normal((6, INPUTS)).astype("f4")])
    outputs, tape = forward(tape, layers, x)
    y, tape = nn.ensemble_mean(tape, outputs, link="softmax")
    predict = program.compile_forward(tape, output=y, inputs=(x,))
    path = export.onnx(tmp_path / "model.onnx", tape, output=y, inputs=(x,))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for rows in (6, 1, 30):
        batch = rng.standard_normal((rows, INPUTS)).astype("f4")
        logits = expected(kind, layers, batch)
        shares = np.exp(logits - logits.max(-1, keepdims=True))
        wanted = (shares / shares.sum(-1, keepdims=True)).mean(axis=1)
        ours = predict(batch)
        assert np.allclose(ours, wanted, rtol=1e-5, atol=1e-6)
        (found,) = session.run(["output"], {"input0": batch})
        assert np.allclose(found, ours, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_training_goes_on_from_a_file(kind, rng, tmp_path):
    pytest.importorskip("safetensors", reason="safetensors is not installed")
    starts = [filled(new(kind).value, rng) for _ in range(2)]
    check_resumed(*starts, squared, list(batches_of(rng, [8] * 4)), tmp_path)


def test_dropout_of_shared_layers_differs_between_members(rng):
    layer, tape = nn.tabm_mini(autograd.new_tape(), (INPUTS, 64), 2, scale="ones", rng=rng, dtype="f8")
    x, tape = autograd.new_constant(tape, rng.standard_normal((5, INPUTS)))
    whole, _ = nn.tabm_mini_forward(tape, layer, x)
    assert np.array_equal(whole.data[:, 0], whole.data[:, 1])
    y, _ = nn.tabm_mini_forward(tape, layer, x, activation="tanh", dropout_rate=0.5, rng=rng)
    dropped = y.data == 0
    assert 0.4 < dropped.mean() < 0.6
    assert 0.3 < (dropped[:, 0] != dropped[:, 1]).mean() < 0.7


class TestLossAndMean:
    def test_the_loss_is_the_mean_of_the_members_losses_not_of_their_mean(self, rng):
        outputs, y, w, tape = recorded(rng.standard_normal((6, 3, 2)), rng.standard_normal((6, 2)), rng.random(6))
        errors = ((outputs.data - y.data[:, None]) ** 2).mean(axis=(1, 2))
        loss, _ = nn.ensemble_loss(tape, nn.mse_loss, outputs, y)
        assert np.isclose(loss.data, errors.mean())
        weighted, _ = nn.ensemble_loss(tape, nn.mse_loss, outputs, y, sample_weight=w)
        assert np.isclose(weighted.data, (errors * w.data).sum() / w.data.sum())

    def test_options_reach_the_loss(self, rng):
        outputs, y, tape = recorded(rng.standard_normal((6, 3, 2)), rng.standard_normal((6, 2)))
        loss, _ = nn.ensemble_loss(tape, nn.quantile_loss, outputs, y, quantile=0.9)
        off = y.data[:, None] - outputs.data
        assert np.isclose(loss.data, np.maximum(0.9 * off, -0.1 * off).mean())

    def test_other_reductions_are_those_of_all_members_rows(self, rng):
        outputs, y, tape = recorded(rng.standard_normal((6, 3, 2)), rng.standard_normal((6, 2)))
        errors = (outputs.data - y.data[:, None]) ** 2
        found = [nn.ensemble_loss(tape, nn.mse_loss, outputs, y, reduction=one).value.data for one in ("sum", "none")]
        assert np.isclose(found[0], errors.sum())
        np.testing.assert_allclose(found[1], errors.reshape(18, 2))

    def test_predictions_are_means(self, rng):
        outputs, tape = recorded(rng.standard_normal((6, 3, 2)))
        logistic = 1 / (1 + np.exp(-outputs.data))
        for link, wanted in (("identity", outputs.data), ("sigmoid", logistic)):
            y, _ = nn.ensemble_mean(tape, outputs, link=link)
            assert np.allclose(y.data, wanted.mean(axis=1))


class TestNew:
    """What layers begin as."""

    def test_members_differ_by_the_scales_of_the_first_inputs_alone(self, rng, dtype):
        layer, _ = nn.batch_ensemble(autograd.new_tape(), 16, 500, 8, rng=rng, dtype=dtype)
        w, r, s, b = leaves(layer)
        assert (r == 1).all()
        assert (s == 1).all()
        assert (b == b[0]).all()
        for drawn in (w, b):
            assert 0.24 < abs(drawn).max() <= 0.25
            assert abs(drawn.mean()) < 0.03
            assert drawn.dtype == dtype

    def test_scales_are_signs_or_normal_and_one_for_each_feature(self, rng):
        for make in (
            lambda **options: nn.batch_ensemble(autograd.new_tape(), 300, 2, 20, rng=rng, **options).value.r.data,
            lambda **options: nn.tabm_mini(autograd.new_tape(), (300, 2), 20, rng=rng, **options).value.r.data,
        ):
            signs, normal = make(scale="signs"), make(scale="normal")
            assert set(np.unique(signs)) == {-1.0, 1.0}
            assert abs(signs.mean()) < 0.06
            assert abs(normal.std() - 1) < 0.05
            for scale in ("signs", "normal"):
                r = make(scale=scale, chunks=[100, 1, 199])
                assert (r[:, :100] == r[:, :1]).all()
                assert (r[:, 101:] == r[:, 101:102]).all()
                assert len(np.unique(r[:, 0])) > 1
                assert not np.array_equal(r[:, 0], r[:, 101])

    def test_heads_are_drawn_for_each_member(self, rng):
        w, b = leaves(nn.linear_ensemble(autograd.new_tape(), 16, 40, 8, rng=rng).value)
        assert 0.24 < abs(w).max() <= 0.25
        assert 0.23 < abs(b).max() <= 0.25
        assert not np.array_equal(w[0], w[1])


class TestRefused:
    def test_sizes_and_choices(self):
        tape = autograd.new_tape()
        for call, kind, match in (
            (lambda: nn.batch_ensemble(tape, 0, 2, 2), error.InvalidShape, "in_features=0"),
            (lambda: nn.batch_ensemble(tape, 2, 2, 1.5), error.InvalidShape, "members=1.5"),
            (lambda: nn.batch_ensemble(tape, 2**40, 2, 2**40), error.InvalidShape, "no memory"),
            (lambda: nn.batch_ensemble(tape, 2, 2, 2, scale="twos"), error.InvalidValue, "scale='twos'"),
            (lambda: nn.batch_ensemble(tape, 3, 2, 2, chunks=[1, 1]), error.InvalidShape, r"chunks=\[1, 1\] of 3"),
            (lambda: nn.batch_ensemble(tape, 3, 2, 2, chunks=3), error.InvalidShape, "chunks=3"),
            (lambda: nn.batch_ensemble(tape, 2, 2, 2, rng=1), error.InvalidValue, "rng is int"),
            (lambda: nn.linear_ensemble(tape, 2, 0, 2), error.InvalidShape, "out_features=0"),
            (lambda: nn.linear_ensemble(tape, 2, 2, 2, dtype="f2"), error.DtypeError, "wanted float32 or float64"),
            (lambda: nn.tabm_mini(tape, (3,), 2), error.InvalidShape, r"sizes=\(3,\)"),
            (lambda: nn.tabm_mini(tape, 3, 2), error.InvalidShape, "sizes=3"),
            (lambda: nn.tabm_mini(tape, (3, 0), 2), error.InvalidShape, "sizes=0"),
            (lambda: nn.tabm_mini(tape, (3, 2), True), error.InvalidShape, "members=True"),
        ):
            with pytest.raises(kind, match=match):
                call()

    @pytest.mark.parametrize("kind", KINDS)
    def test_other_inputs(self, kind):
        layers, tape = new(kind)
        for shape, what in (
            ((5, 2), error.ShapeMismatch),
            ((5, 3, 3), error.ShapeMismatch),
            ((5, 1, 3), error.ShapeMismatch),
            ((3,), error.DimensionError),
        ):
            x, longer = autograd.new_constant(tape, np.ones(shape))
            with pytest.raises(what, match=r"x is \[batch, in\]"):
                forward(longer, layers, x)
        narrow, tape = autograd.new_constant(tape, np.ones((5, 3), "f4"))
        with pytest.raises(error.DtypeError):
            forward(tape, layers, narrow)

    def test_no_layers_and_no_members(self, rng):
        outputs, y, tape = recorded(np.ones((4, 3, 2)), np.ones((3, 2)))
        for function in (nn.batch_ensemble_forward, nn.linear_ensemble_forward, nn.tabm_mini_forward):
            with pytest.raises(error.InvalidValue, match="wanted a layer of"):
                function(tape, nn.Linear(outputs, y), outputs)
        head, tape = nn.linear_ensemble(tape, 2, 2, 3, dtype="f8")
        with pytest.raises(error.DimensionError, match=r"x of shape \(3, 2\)"):
            nn.linear_ensemble_forward(tape, head, y)
        with pytest.raises(error.ShapeMismatch, match="target has a row for each"):
            nn.ensemble_loss(tape, nn.mse_loss, outputs, y)
        with pytest.raises(error.InvalidValue, match="link='probit'"):
            nn.ensemble_mean(tape, outputs, link="probit")
        for shape in ((-1,), (-1, 2), (1, *outputs.shape)):
            other, tape = autograd.reshape(tape, outputs, shape)
            with pytest.raises(error.DimensionError, match=r"outputs of shape .*; outputs are \[batch, members, out\]"):
                nn.ensemble_mean(tape, other)
        layer, tape = nn.tabm_mini(tape, (2, 2), 3, dtype="f8")
        with pytest.raises(error.InvalidValue, match="activation"):
            nn.tabm_mini_forward(tape, layer, outputs, activation="bend")
