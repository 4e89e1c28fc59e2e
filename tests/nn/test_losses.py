import numpy as np
import pytest
from support.tapes import recorded

from viva_tensor import error, nn
from viva_tensor.autograd import backward, new_constant, new_tape, new_variable
from viva_tensor.program import compile_forward

LOSSES = {
    "mse": (nn.mse_loss, lambda p, t: (p - t) ** 2),
    "mae": (nn.mae_loss, lambda p, t: np.abs(p - t)),
    "huber": (nn.huber_loss, lambda p, t: np.where(np.abs(p - t) <= 1, (p - t) ** 2 / 2, np.abs(p - t) - 0.5)),
    "binary cross-entropy": (nn.binary_cross_entropy, lambda p, t: np.logaddexp(0, p) - p * t),
}


def value(loss, p, t, weights=None, **choices):
    pred, tape = new_variable(new_tape(), p)
    target, tape = new_constant(tape, t)
    if weights is not None:
        choices["sample_weight"], tape = new_constant(tape, weights)
    result, tape = loss(tape, pred, target, **choices)
    return result.data, backward(tape, result)[pred]


@pytest.mark.parametrize(("p", "t"), [(-np.inf, 0.0), (0.0, -np.inf), (-2e38, 2e38), (1.0, 1.0)])
def test_the_quantile_loss_of_infinite_differences_is_infinite(p, t):
    found, slope = value(nn.quantile_loss, np.float32([p]), np.float32([t]), quantile=0.9)
    assert found == (0 if p == t else np.inf)
    np.testing.assert_allclose(slope, -0.9 if t > p else 0.1 if t < p else 0.0, rtol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("shape", [(5,), (5, 3), (5, 2, 4)])
def test_reductions_and_weights(name, shape, rng):
    loss, formula = LOSSES[name]
    p, t, w = rng.standard_normal(shape), rng.random(shape), rng.random(5)
    each = formula(p, t)
    column = w.reshape(-1, *(1,) * (len(shape) - 1))
    per_row = each.size / 5
    for choices, wanted in (
        ({}, each.mean()),
        ({"reduction": "sum"}, each.sum()),
        ({"weights": w}, (column * each).sum() / (w.sum() * per_row)),
        ({"weights": w, "reduction": "sum"}, (column * each).sum()),
    ):
        assert value(loss, p, t, **choices)[0] == pytest.approx(wanted, rel=1e-13)
    # a row of weight 0 might as well not be there
    rest = np.arange(5) != 2
    without = value(loss, p[rest], t[rest])
    masked = value(loss, p, t, weights=rest.astype("f8"))
    assert masked[0] == pytest.approx(without[0], rel=1e-13)
    assert np.allclose(masked[1][rest], without[1], rtol=1e-13)
    assert not masked[1][2].any()


OF_TWO = [
    nn.mse_loss, nn.mae_loss, nn.huber_loss, nn.log_cosh_loss, nn.quantile_loss, nn.binary_cross_entropy,
    nn.cross_entropy, nn.kl_divergence, nn.focal_loss, nn.poisson_loss, nn.gamma_loss,
]  # fmt: skip


@pytest.mark.parametrize("recorded_rows", [1, 2])
@pytest.mark.parametrize("loss", OF_TWO)
def test_programs_refuse_other_rows_than_those_of_recorded_weights(loss, recorded_rows, rng):
    """The weight of a single one would be repeated for all rows, and its sum would not be theirs."""
    arrays = (
        rng.standard_normal((recorded_rows, 3)),
        rng.dirichlet(np.ones(3), recorded_rows),
        rng.random(recorded_rows),
    )
    *both, weights, tape = recorded(*arrays, constants=3)
    mean, tape = loss(tape, *both, sample_weight=weights)
    more = [np.repeat(array[:1], 8, axis=0) for array in arrays]
    found = compile_forward(tape, output=mean, inputs=(*both, weights))(*more)
    assert found == pytest.approx(value(loss, *more)[0], rel=1e-13)
    forward = compile_forward(tape, output=mean, inputs=both)
    assert forward(*arrays[:2]) == mean.data
    total, tape = loss(tape, *both, sample_weight=weights, reduction="sum")
    each, tape = loss(tape, *both, sample_weight=weights, reduction="none")
    for one in (forward, *[compile_forward(tape, output=output, inputs=both) for output in (total, each)]):
        with pytest.raises(error.InvalidShape, match=rf"{loss.__name__}: .*an input, sample_weight included"):
            one(*more[:2])


@pytest.mark.parametrize("shape", [(), (3,), (3, 2)])
@pytest.mark.parametrize("recorded_rows", [1, 2])
def test_each_weighted_loss_of_other_rows_is_right_or_refused(recorded_rows, shape, rng):
    def each(rows):
        arrays = (*rng.standard_normal((2, rows, *shape)), rng.random(rows))
        *both, weights, tape = recorded(*arrays, constants=3)
        return arrays, (*both, weights), *nn.mse_loss(tape, *both, reduction="none", sample_weight=weights)

    _, inputs, losses, tape = each(recorded_rows)
    arrays, _, wanted, _ = each(5)
    assert np.array_equal(compile_forward(tape, output=losses, inputs=inputs)(*arrays), wanted.data)
    for part in (slice(2), slice(2, 3)):  # the weights were recorded, or what they are for
        with pytest.raises(error.InvalidShape, match=r"mse_loss: .*an input, sample_weight included"):
            compile_forward(tape, output=losses, inputs=inputs[part])(*arrays[part])


def test_cross_entropy_with_weights(rng):
    x, labels, w = rng.standard_normal((6, 4)), rng.integers(0, 4, 6), rng.random(6)
    logs = x - np.log(np.exp(x).sum(1, keepdims=True))
    each = -logs[np.arange(6), labels]
    t = labels.astype("f8")
    assert value(nn.cross_entropy, x, t)[0] == pytest.approx(each.mean(), rel=1e-13)
    assert value(nn.cross_entropy, x, t, w)[0] == pytest.approx((w * each).sum() / w.sum(), rel=1e-13)
    grad = value(nn.cross_entropy, x, t, w)[1]
    assert np.allclose(grad, w[:, None] * (np.exp(logs) - np.eye(4)[labels]) / w.sum(), rtol=1e-12, atol=1e-15)


def test_a_class_that_stands_for_none_is_refused_with_what_to_give_instead():
    with pytest.raises(error.IndexOutOfBounds, match=r"index -100 .*without a class any class, and the weight 0"):
        value(nn.cross_entropy, np.zeros((2, 3)), np.array([1.0, -100.0]))


@pytest.mark.parametrize("name", [*LOSSES, "cross-entropy"])
def test_bad_choices_are_refused(name):
    loss = nn.cross_entropy if name == "cross-entropy" else LOSSES[name][0]
    p, t = np.zeros((3, 2)), np.array([[1.0, 0.0]] * 3)
    with pytest.raises(error.InvalidValue, match="choose one of mean, sum"):
        value(loss, p, t, reduction="each")
    for weights in ([1.0, -1.0, 1.0], [1.0, np.nan, 1.0]):
        with pytest.raises(
            error.InvalidValue, match='of row 1; weights are at least 0; for others, mul what reduction="none" gives'
        ):
            value(loss, p, t, np.array(weights))
    for weights in (np.ones(2), np.ones((3, 1)), np.ones(())):
        with pytest.raises(error.ShapeMismatch, match="one weight for each row"):
            value(loss, p, t, weights)
    with pytest.raises(error.ShapeMismatch):
        value(loss, p, np.zeros((2, 2)))
    with pytest.raises(error.DtypeError):
        value(loss, p, t.astype("f4"))
    pred, _tape = new_variable(new_tape(), p)
    with pytest.raises(error.ForeignVariable):
        loss(new_tape(), pred, pred)


def test_pytorch_agrees(rng):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    functional = torch.nn.functional
    p, t, shares = rng.standard_normal((6, 4)), rng.random((6, 4)), rng.dirichlet(np.ones(4), 6)
    labels = rng.integers(0, 4, 6)
    tensor = torch.from_numpy
    for reduction in ("mean", "sum"):
        for ours, theirs in (
            (
                value(nn.mse_loss, p, t, reduction=reduction),
                functional.mse_loss(tensor(p), tensor(t), reduction=reduction),
            ),
            (
                value(nn.mae_loss, p, t, reduction=reduction),
                functional.l1_loss(tensor(p), tensor(t), reduction=reduction),
            ),
            (
                value(nn.huber_loss, p, t, delta=0.5, reduction=reduction),
                functional.huber_loss(tensor(p), tensor(t), delta=0.5, reduction=reduction),
            ),
            (
                value(nn.binary_cross_entropy, p, t, reduction=reduction),
                functional.binary_cross_entropy_with_logits(tensor(p), tensor(t), reduction=reduction),
            ),
            (
                value(nn.cross_entropy, p, labels.astype("f8"), reduction=reduction),
                functional.cross_entropy(tensor(p), tensor(labels), reduction=reduction),
            ),
            (
                value(nn.cross_entropy, p, shares, reduction=reduction),
                functional.cross_entropy(tensor(p), tensor(shares), reduction=reduction),
            ),
        ):
            assert ours[0] == pytest.approx(float(theirs), rel=1e-12)


def targets_for(name, shape, rng):
    if name == "hinge":
        return rng.choice([-1.0, 1.0], shape)
    return rng.poisson(2.0, shape).astype("f8") + (name == "gamma")


OTHERS = {
    "log cosh": (nn.log_cosh_loss, lambda p, t: np.log(np.cosh(p - t))),
    "poisson": (nn.poisson_loss, lambda p, t: np.exp(p) - t * p),
    "gamma": (nn.gamma_loss, lambda p, t: p + t * np.exp(-p)),
    "hinge": (nn.hinge_loss, lambda p, t: np.maximum(0, 1 - t * p)),
    "quantile": (
        lambda *operands, **choices: nn.quantile_loss(*operands, 0.9, **choices),
        lambda p, t: np.where(t > p, 0.9 * (t - p), 0.1 * (p - t)),
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_formulas_reductions_and_weights_of_others(name, rng):
    loss, formula = OTHERS[name]
    p, t, w = rng.standard_normal((5, 3)), targets_for(name, (5, 3), rng), rng.random(5)
    each = formula(p, t)
    assert value(loss, p, t)[0] == pytest.approx(each.mean(), rel=1e-12)
    assert value(loss, p, t, w)[0] == pytest.approx((w[:, None] * each).sum() / (3 * w.sum()), rel=1e-12)
    assert value(loss, p, t, reduction="sum")[0] == pytest.approx(each.sum(), rel=1e-12)
    with pytest.raises(error.ShapeMismatch, match="one target for each prediction"):
        value(loss, p, t[:, :1])
    with pytest.raises(error.InvalidValue, match="reduction='each'"):
        value(loss, p, t, reduction="each")


def test_likelihoods_are_those_of_pytorch(rng):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    x, counts = rng.standard_normal((6, 4)), rng.poisson(2.0, (6, 4)).astype("f8")
    labels = np.arange(6) % 4
    probabilities = rng.dirichlet(np.ones(4), 6)
    probabilities[0] = [0, 0, 1, 0]  # 0 · ln 0 = 0

    def compare(found, theirs):
        tensor = torch.tensor(x, requires_grad=True)
        wanted = theirs(tensor)
        wanted.backward()
        assert found[0] == pytest.approx(wanted.item(), rel=1e-12)
        np.testing.assert_allclose(found[1], tensor.grad.numpy(), rtol=1e-10, atol=1e-14)

    compare(value(nn.poisson_loss, x, counts), lambda p: functional.poisson_nll_loss(p, torch.tensor(counts)))
    for smoothing in (0.0, 0.2):
        compare(
            value(nn.cross_entropy, x, labels.astype("f8"), label_smoothing=smoothing),
            lambda p, s=smoothing: functional.cross_entropy(p, torch.tensor(labels), label_smoothing=s),
        )
        compare(
            value(nn.cross_entropy, x, probabilities, label_smoothing=smoothing),
            lambda p, s=smoothing: functional.cross_entropy(p, torch.tensor(probabilities), label_smoothing=s),
        )
    compare(
        value(nn.kl_divergence, x, probabilities),
        lambda p: functional.kl_div(p.log_softmax(1), torch.tensor(probabilities), reduction="batchmean"),
    )
    spread = rng.standard_normal((6, 4))

    def gaussian(tape, pred, target, **choices):
        log_variance, tape = new_constant(tape, spread)
        return nn.gaussian_loss(tape, pred, log_variance, target, **choices)

    compare(
        value(gaussian, x, counts),
        lambda p: functional.gaussian_nll_loss(p, torch.tensor(counts), torch.tensor(np.exp(spread))),
    )


@pytest.mark.parametrize("gamma", [0, 1, 2.0, 0.5])
def test_focal_loss(gamma, rng):
    x, t = rng.standard_normal((5, 3)) * 3, rng.integers(0, 2, (5, 3)).astype("f8")
    entropy = np.logaddexp(0, x) - x * t
    each = (1 - np.exp(-entropy)) ** gamma * entropy
    assert value(nn.focal_loss, x, t, gamma=gamma)[0] == pytest.approx(each.mean(), rel=1e-12)


def test_small_differences_keep_their_digits(dtype):
    """ln cosh d = d²/2 - d⁴/12 + ..., of which ln((eᵈ + e⁻ᵈ) / 2) would keep nothing."""
    d = np.array([1e-3, -1e-4], dtype)
    found = value(nn.log_cosh_loss, d, np.zeros(2, dtype), reduction="sum")[0]
    assert found == pytest.approx(5e-7 + 5e-9, rel=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda p, t: value(nn.poisson_loss, p, t - 1),
            r"target -1.0 at \[0, 1\]; counts are at least 0",
        ),
        (lambda p, t: value(nn.gamma_loss, p, t), r"gamma_loss: target 0.0 at \[0, 1\]; amounts are above 0"),
        (lambda p, t: value(nn.hinge_loss, p, t), r"hinge_loss: target 0.0 at \[0, 1\]; targets are -1 and 1"),
        (lambda p, t: value(nn.quantile_loss, p, t, quantile=1), "quantile=1; give a number between 0 and 1"),
        (lambda p, t: value(nn.focal_loss, p, t, gamma=-1), "gamma=-1; give a number of at least 0"),
        (lambda p, t: value(nn.cross_entropy, p, t[0, :1], label_smoothing=1.0), "label_smoothing=1.0"),
    ],
)
def test_bad_targets_and_numbers_are_refused(call, message):
    with pytest.raises(error.InvalidValue, match=message):
        call(np.zeros((1, 2)), np.array([[1.0, 0.0]]))
