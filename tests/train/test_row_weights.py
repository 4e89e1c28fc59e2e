"""Rows that count more than others: weighted losses, beside PyTorch's."""

from dataclasses import replace

import numpy as np
import pytest
from support.fits import same_bits

from viva_tensor import autograd, kernels, nn, optim, train
from viva_tensor.error import DtypeError, InvalidValue, ShapeMismatch
from viva_tensor.train import Settings

WHOLE = Settings(hidden=(5,), activation="tanh", optimizer=optim.SGD(lr=0.1), schedule="constant", epochs=30,
                 batch_size=64, validation_fraction=0.0, dtype="float64")  # fmt: skip
PARTS = replace(WHOLE, batch_size=8, epochs=4)


@pytest.fixture
def rows(rng):
    x = rng.standard_normal((40, 3))
    return x, np.sin(x[:, :2]), rng.uniform(0, 3, 40)


def losses_of_torch(name):
    import torch

    pick = torch.nn.functional
    if name == "cross_entropy":
        return lambda output, y: pick.cross_entropy(output, y[:, 0].long(), reduction="none")
    function = {"mse": pick.mse_loss, "mae": pick.l1_loss, "huber": pick.huber_loss,
                "binary_cross_entropy": pick.binary_cross_entropy_with_logits}[name]  # fmt: skip
    return lambda output, y: function(output, y, reduction="none").mean(dim=1)


@pytest.mark.parametrize("loss", ["mse", "mae", "huber", "cross_entropy", "binary_cross_entropy"])
def test_the_same_steps_as_pytorch_with_weights(rows, loss):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x, y, w = rows
    targets = {"cross_entropy": (y[:, :1] > 0) * 1.0, "binary_cross_entropy": (y > 0) * 1.0}.get(loss, y)
    outputs = 2
    layers, _ = nn.mlp(autograd.new_tape(), (3, 5, outputs), rng=np.random.default_rng(1), dtype="float64")
    given = targets[:, 0] if loss == "cross_entropy" else targets
    settings = replace(WHOLE, loss=loss)
    held_out = (x[:9], given[:9], w[:9])
    fitted = train.fit(x, given, settings, weights=w, start=layers, classes=2 if loss == "cross_entropy" else None,
                       validation=held_out)  # fmt: skip

    ours = [torch.tensor(array, requires_grad=True) for array in train.parameters(layers)]
    xs, ys, ws = map(torch.tensor, (x, targets, w))
    each = losses_of_torch(loss)

    def weighted(count):
        hidden = torch.tanh(xs[:count] @ ours[0].T + ours[1])
        return (each(hidden @ ours[2].T + ours[3], ys[:count]) * ws[:count]).sum() / ws[:count].sum()

    course = []
    optimizer = torch.optim.SGD(ours, lr=0.1)
    for _ in range(30):
        optimizer.zero_grad()
        value = weighted(40)
        value.backward()
        optimizer.step()
        course.append((value.item(), weighted(9).item()))
    history = np.array([fitted.history["train_loss"], fitted.history["validation_loss"]]).T
    np.testing.assert_allclose(history, course, rtol=1e-9)
    for a, b in zip(train.parameters(fitted.layers), ours, strict=True):
        np.testing.assert_allclose(a, b.detach().numpy(), rtol=1e-8, atol=1e-10)


def test_a_whole_weight_is_a_row_so_many_times(rows):
    x, y, _ = rows
    times = np.arange(40) % 3 + 1
    weighted = train.fit(x, y, replace(WHOLE, batch_size=200), weights=times)
    repeated = train.fit(x.repeat(times, axis=0), y.repeat(times, axis=0), replace(WHOLE, batch_size=200))
    for a, b in zip(*(train.parameters(one.layers) for one in (weighted, repeated)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_only_ratios_count_and_weight_0_is_no_row(rows):
    x, y, w = rows
    w[::7] = 0
    fitted = train.fit(x, y, PARTS, weights=w)
    assert same_bits(fitted, train.fit(x, y, PARTS, weights=1024 * w))
    kept = w > 0
    assert same_bits(fitted, train.fit(x[kept], y[kept], PARTS, weights=w[kept]))
    assert same_bits(train.fit(x, y, PARTS, weights=3.0 * kept), train.fit(x[kept], y[kept], PARTS))
    tiny = np.where(kept, w, 1e-40 * w.max())
    assert same_bits(fitted, train.fit(x, y, PARTS, weights=tiny))
    large = np.where(kept, 2.0**-1000 * w, 1e300)  # beyond float64 by the largest of the rows that are trained on
    assert same_bits(fitted, train.fit(x, y, PARTS, weights=large, rows=np.flatnonzero(kept)))


def test_batches_of_next_to_no_weight_train(rows):
    x, y, _ = rows
    w = np.where(np.arange(40) < 20, 1.0, 1e-28)
    fitted = train.fit(x, y, replace(PARTS, dtype="float32", epochs=20), weights=w)
    assert np.isfinite(fitted.history["train_loss"]).all()


def test_rows_validation_and_accuracy_have_their_weights(rows):
    x, y, w = rows
    labels = np.where(y[:, 0] > 0, "up", "down")
    settings = replace(PARTS, loss="cross_entropy", metric=nn.cross_entropy)
    chosen, held_out = np.arange(25), np.arange(25, 40)
    fitted = train.fit(x, labels, settings, weights=w, rows=chosen, validation=held_out)
    same = train.fit(x[:25], labels[:25], settings, weights=w[:25], validation=(x[25:], labels[25:], w[25:]))
    assert same_bits(fitted, same)
    assert fitted.history == same.history
    right = fitted.predict_classes(x[25:]) == labels[25:]
    assert fitted.history["validation_accuracy"][-1] == pytest.approx(np.average(right, weights=w[25:]))
    assert fitted.history["validation_metric"] == fitted.history["validation_loss"]
    alone = train.fit(x[:25], labels[:25], settings, weights=w[:25], validation=(x[25:], labels[25:]))
    assert alone.history["validation_accuracy"][-1] == pytest.approx(right.mean())


def test_bits_at_any_number_of_threads_and_after_an_interruption(rows, tmp_path):
    x, y, w = rows
    settings = replace(PARTS, dtype="float32")
    whole = train.fit(x, y, settings, weights=w)
    for threads in (1, 3):
        with kernels.num_threads(threads):
            assert same_bits(whole, train.fit(x, y, settings, weights=w))
    path = tmp_path / "c.safetensors"
    train.fit(x, y, settings, weights=w, checkpoint=path, callback=lambda values: values["epoch"] == 2)
    with pytest.raises(InvalidValue, match="other rows"):
        train.fit(x, y, settings, weights=w[::-1], checkpoint=path, resume=True)
    assert same_bits(whole, train.fit(x, y, settings, weights=w, checkpoint=path, resume=True))


class Source:
    """The rows in their order, in pieces."""

    def __init__(self, *arrays):
        self.arrays, self.shape = arrays, arrays[0].shape

    def epoch(self, rng):
        for start in range(0, len(self.arrays[0]), 11):
            yield tuple(array[start : start + 11] for array in self.arrays if array is not None)


def test_a_source_gives_weights(rows):
    x, y, w = rows
    settings = replace(WHOLE, batch_size=40)
    fitted = train.fit(Source(x, y, w + 0.1), settings=settings)
    arrays = train.fit(x, y, settings, weights=w + 0.1)
    for a, b in zip(*(train.parameters(one.layers) for one in (fitted, arrays)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
    with pytest.raises(InvalidValue, match=r"the weight of row 0 of a piece is 0\.0; .* leave rows of weight 0 out"):
        train.fit(Source(x, y, 0 * w), settings=settings)
    with pytest.raises(InvalidValue, match="weights beside a source"):
        train.fit(Source(x, y), settings=settings, weights=w)

    class Forgetful(Source):
        def epoch(self, rng):
            yield self.arrays[0][:20], self.arrays[1][:20], self.arrays[2][:20]
            yield self.arrays[0][20:], self.arrays[1][20:]

    with pytest.raises(InvalidValue, match=r"pieces of 3 and of 2 arrays.*give all rows weights, or none"):
        train.fit(Forgetful(x, y, w + 0.1), settings=settings)


def test_a_loss_of_ones_own_takes_sample_weight(rows):
    x, y, w = rows

    def cubic(tape, output, target, sample_weight=None):
        return nn.mse_loss(tape, output, target, sample_weight=sample_weight)

    assert same_bits(train.fit(x, y, replace(PARTS, loss=cubic), weights=w), train.fit(x, y, PARTS, weights=w))
    plain = replace(PARTS, loss=lambda tape, output, target: nn.mse_loss(tape, output, target))
    train.fit(x, y, plain)
    with pytest.raises(InvalidValue, match="takes no sample_weight, and rows have weights; add the argument"):
        train.fit(x, y, plain, weights=w)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda w: w[:-1], ShapeMismatch, r"expected shape \(40,\), got \(39,\); give one weight for each row"),
        (lambda w: w[:, None], ShapeMismatch, "give one weight for each row"),
        (lambda w: np.where(w < 1, -1, w), InvalidValue, r"the weight of row \d+ is -1\.0; weights are finite"),
        (lambda w: np.where(w < 1, np.nan, w), InvalidValue, r"the weight of row \d+ is nan"),
        (lambda w: np.where(w < 1, np.inf, w), InvalidValue, r"the weight of row \d+ is inf"),
        (lambda w: 0 * w, InvalidValue, "no row has a weight above 0"),
        (lambda w: ["heavy"] * 40, DtypeError, "weights"),
    ],
)
def test_refused(rows, change, error, message):
    x, y, w = rows
    with pytest.raises(error, match=message):
        train.fit(x, y, PARTS, weights=change(w))
    with pytest.raises(InvalidValue, match=r"validation is a tuple of 4"):
        train.fit(x, y, PARTS, validation=(x, y, w, w))
