import numpy as np
import pytest

from viva_tensor import error, nn
from viva_tensor.autograd import backward, new_constant, new_tape, new_variable

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


def test_cross_entropy_with_weights(rng):
    x, labels, w = rng.standard_normal((6, 4)), rng.integers(0, 4, 6), rng.random(6)
    logs = x - np.log(np.exp(x).sum(1, keepdims=True))
    each = -logs[np.arange(6), labels]
    t = labels.astype("f8")
    assert value(nn.cross_entropy, x, t)[0] == pytest.approx(each.mean(), rel=1e-13)
    assert value(nn.cross_entropy, x, t, w)[0] == pytest.approx((w * each).sum() / w.sum(), rel=1e-13)
    grad = value(nn.cross_entropy, x, t, w)[1]
    assert np.allclose(grad, w[:, None] * (np.exp(logs) - np.eye(4)[labels]) / w.sum(), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", [*LOSSES, "cross-entropy"])
def test_bad_choices_are_refused(name):
    loss = nn.cross_entropy if name == "cross-entropy" else LOSSES[name][0]
    p, t = np.zeros((3, 2)), np.array([[1.0, 0.0]] * 3)
    with pytest.raises(error.InvalidValue, match="choose one of mean, sum"):
        value(loss, p, t, reduction="none")
    for weights in ([1.0, -1.0, 1.0], [1.0, np.nan, 1.0]):
        with pytest.raises(error.InvalidValue, match="of row 1; weights are at least 0"):
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
