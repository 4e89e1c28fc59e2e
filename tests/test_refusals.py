"""Slips that users make where a check was missing once: refused in words, or taken as they were meant."""

import dataclasses

import numpy as np
import pytest

from viva_tensor import autograd, checkpoint, nn, optim, program, train
from viva_tensor.error import (
    BroadcastError,
    DtypeError,
    InvalidFile,
    InvalidShape,
    InvalidValue,
    NoGradient,
    ShapeMismatch,
)
from viva_tensor.train import Settings

RNG = np.random.default_rng(0)
X = RNG.standard_normal((40, 3)).astype(np.float32)
Y = X[:, :1]
QUICK = Settings(hidden=(4,), epochs=2, batch_size=8)


@pytest.fixture
def recorded():
    x, tape = autograd.new_constant(autograd.new_tape(), X)
    y, tape = autograd.new_constant(tape, Y)
    layer, tape = nn.linear(tape, 3, 1, rng=np.random.default_rng(0))
    pred, tape = nn.linear_forward(tape, layer, x)
    loss, tape = nn.mse_loss(tape, pred, y)
    return tape, loss, layer, (x, y)


def compiled(recorded, **more):
    tape, loss, layer, inputs = recorded
    given = {"loss": loss, "params": layer, "inputs": inputs, "optimizer": optim.SGD(lr=0.1)}
    return program.compile_step(tape, **given | more)


class Orders:
    """Something with the one method of a generator that shuffling calls."""

    def __init__(self, order):
        self.permutation = order


@pytest.mark.parametrize(
    "order",
    [
        lambda count: np.arange(count) + 10**7,
        lambda count: np.arange(count - 5),
        lambda count: np.arange(count + 5),
        lambda count: -1 - np.arange(count),
        lambda count: np.arange(count) / 2,
        lambda count: None,
    ],
)
def test_a_permutation_that_is_none_reads_no_rows(recorded, order):
    step = compiled(recorded)
    with pytest.raises(InvalidValue, match="run: "):
        step.run(X, Y, batch_size=8, rng=Orders(order))
    assert step.steps == 0


@pytest.mark.parametrize("order", [lambda count: list(range(count)), lambda count: np.arange(count, dtype="i4")[::-1]])
def test_a_permutation_of_any_integers_is_taken(recorded, order):
    assert len(compiled(recorded).run(X, Y, batch_size=8, rng=Orders(order))) == 1


def test_small_numpy_integers_are_counts_like_any_other(recorded):
    rows = np.tile(X, (9, 1))
    small = dataclasses.replace(QUICK, epochs=np.uint8(2), batch_size=np.uint8(200), hidden=np.array([200], np.uint8))
    large = dataclasses.replace(QUICK, epochs=2, batch_size=200, hidden=(200,))
    a, b = (train.fit(rows, rows[:, :1], settings) for settings in (small, large))
    assert a.history == b.history
    assert small == large
    runs = [compiled(recorded).run(rows, rows[:, :1], batch_size=size, shuffle=False) for size in (100, np.uint8(100))]
    assert runs[0] == runs[1]
    weights = [
        nn.linear(autograd.new_tape(), *sizes, rng=np.random.default_rng(0)).value.w.data
        for sizes in ((200, 100), (np.uint8(200), np.uint8(100)))
    ]
    np.testing.assert_array_equal(*weights)
    assert optim.schedules.step_decay(0.5, np.int8(10), 0.5)(300) == optim.schedules.step_decay(0.5, 10, 0.5)(300)


def test_masks_are_not_lost(tmp_path, recorded):
    with pytest.raises(InvalidValue, match="masked"):
        train.fit(X, Y, QUICK, rows=np.ma.array(np.arange(20), mask=np.arange(20) >= 10))
    masked = np.ma.array([1.0, 2.0], mask=[0, 1])
    with pytest.raises(DtypeError, match="masked"):
        autograd.new_constant(autograd.new_tape(), [masked] * 3)
    kept = checkpoint.Checkpoint(compiled(recorded).state(), optim.SGD(lr=0.1), metadata={"a": masked})
    with pytest.raises(InvalidValue, match=r"metadata\.a is of type MaskedArray"):
        checkpoint.save(tmp_path / "c", kept)


@pytest.mark.parametrize(
    "one", [np.datetime64("2020-01-01"), np.timedelta64(5, "s"), b"3", 1 + 2j, np.complex64(1 + 2j), "3"]
)
def test_objects_that_are_no_numbers(one):
    column = np.empty((30, 1), object)
    column[:] = one
    with pytest.raises(DtypeError, match="x is an array of object"):
        train.fit(column, np.arange(30.0), QUICK)


def test_an_axis_of_a_numpy_integer_compiles():
    v, tape = autograd.new_variable(autograd.new_tape(), np.ones((4, 3), np.float32))
    x, tape = autograd.new_constant(tape, np.ones((4, 3), np.float32))
    h, tape = autograd.mul(tape, v, x)
    for axis in (np.int64(1), (np.int8(0),)):
        h, tape = autograd.mean(tape, h, axis=axis)
    step = program.compile_step(tape, loss=h, params=v, inputs=(x,), optimizer=optim.SGD(lr=0.1))
    assert step(x.data) == 1.0
    assert autograd.backward(tape, h)[v].shape == (4, 3)


def test_what_is_no_layer(recorded, tmp_path):
    tape, _, layer, (x, _) = recorded
    for wrong in (x, None, [], (x, x)):
        with pytest.raises(InvalidValue, match=r"linear_forward: got .* wanted a layer of Linear"):
            nn.linear_forward(tape, wrong, x)
        with pytest.raises(InvalidValue, match=r"layer_norm_forward: got .* wanted a layer of LayerNorm"):
            nn.layer_norm_forward(tape, wrong, x)
    for wrong in (layer, None, 3):
        with pytest.raises(InvalidValue, match="mlp_forward: layers are a"):
            nn.mlp_forward(tape, wrong, x)
    with pytest.raises(InvalidValue, match="wanted a layer of Linear"):
        nn.mlp_forward(tape, (x, x), x)
    for wrong in (None, (nn.Linear(np.ones((1, 3)), np.ones(1)),)):
        with pytest.raises(InvalidValue, match="save_weights"):
            checkpoint.save_weights(tmp_path / "w", wrong)
    with pytest.raises(InvalidValue, match="predict: layers are"):
        train.predict((nn.Linear(None, None),), X)


@pytest.mark.parametrize("path", ["", "/", "a\0b", None, 1.5, [1], b"w"])
def test_paths_that_name_no_file(path, recorded):
    calls = [
        lambda: checkpoint.save_weights(path, [recorded[2]]),
        lambda: checkpoint.load(path),
        lambda: checkpoint.load_weights(path),
        lambda: train.fit(X, Y, QUICK, checkpoint=path),
    ]
    for call in calls[: 3 if path is None else 4]:  # without a path, fit keeps no checkpoint
        with pytest.raises(InvalidValue, match="wanted that of a file"):
            call()


def test_a_folder_for_a_checkpoint_is_refused_before_the_first_epoch(tmp_path, monkeypatch):
    monkeypatch.setattr(program.Step, "run", None)
    with pytest.raises(IsADirectoryError):
        train.fit(X, Y, QUICK, checkpoint=tmp_path)


def test_update_without_a_tape(recorded):
    tape, loss, layer, _ = recorded
    adam = optim.Adam()
    with pytest.raises(InvalidValue, match="update: got NoneType where a tape belongs"):
        optim.update(None, adam, optim.init(adam, layer), layer, autograd.backward(tape, loss))


def test_options_of_ranks(recorded):
    with pytest.raises(InvalidValue, match="compile_step: comm is of type int"):
        compiled(recorded, comm=5)
    with pytest.raises(InvalidValue, match="compile_step: overlap="):
        compiled(recorded, overlap=np.array([1, 0]))


def test_arrays_without_axes_where_a_sequence_belongs(recorded):
    tape, loss, _, (x, _) = recorded
    for call in (
        lambda: Settings(hidden=np.array(64)),
        lambda: nn.mlp(autograd.new_tape(), np.array(3), rng=RNG),
        lambda: autograd.concatenate(tape, np.array(1.0)),
        lambda: autograd.backward(tape, loss, wrt=np.array(1.0)),
        lambda: compiled(recorded, inputs=np.array(1.0)),
        lambda: optim.Adam(betas=np.array(0.9)),
    ):
        with pytest.raises((InvalidValue, ValueError), match=r"hidden|sizes|variables|wrt|inputs|betas"):
            call()
    with pytest.raises(NoGradient, match=r"ndarray has no gradient; .*grads\[w\]"):
        autograd.backward(tape, loss)[x.data]


def test_numbers_too_long_to_show():
    for wrong in ({"epochs": -(10**5000)}, {"hidden": (-(10**5000),)}, {"activation": 10**5000}):
        with pytest.raises(InvalidValue, match=f"Settings: {next(iter(wrong))}=an? .*(bits|too long to show)"):
            Settings(**wrong)


def test_checkpoints_that_were_edited(tmp_path):
    path = tmp_path / "c"
    train.fit(X, Y, QUICK, checkpoint=path)
    kept = checkpoint.load(path)
    for wrong in (
        {"best": kept.metadata["best"][:-1]},
        {"best": [np.ones((2, 2), np.float32)] * 4},
        {"best_loss": "x"},
        {"seconds": "x"},
    ):
        checkpoint.save(path, dataclasses.replace(kept, metadata={**kept.metadata, **wrong}))
        with pytest.raises(InvalidFile, match="is no checkpoint of fit"):
            train.fit(X, Y, QUICK, checkpoint=path, resume=True)


def test_metadata_that_cannot_be_written(tmp_path, recorded):
    endless = []
    endless.append(endless)
    for metadata in ({"a": endless}, {"a": {"\ud800": np.zeros(2)}}):
        kept = checkpoint.Checkpoint(compiled(recorded).state(), optim.SGD(lr=0.1), metadata=metadata)
        with pytest.raises(InvalidValue, match="save: the checkpoint cannot be written"):
            checkpoint.save(tmp_path / "c", kept)
    assert not (tmp_path / "c").exists()


def test_classes_that_probabilities_have_not():
    shares = np.full((40, 3), 1 / 3, np.float32)
    with pytest.raises(InvalidValue, match="classes=5, and y has columns for 3"):
        train.fit(X, shares, dataclasses.replace(QUICK, loss="cross_entropy"), classes=5)


def test_classes_of_a_loss_that_has_none():
    for loss in ("mse", nn.huber_loss, "binary_cross_entropy"):
        with pytest.raises(InvalidValue, match="classes=3 beside loss="):
            train.fit(X, np.ones(40), dataclasses.replace(QUICK, loss=loss), classes=3)


def test_shapes_that_no_array_has():
    x, tape = autograd.new_variable(autograd.new_tape(), np.ones((1, 5), np.float32))
    for shape in ((-1, 5), (2**62, 5), (2**70, 5), -1):
        with pytest.raises(InvalidShape, match=r"broadcast_to: shape=.*whole numbers from 0 on"):
            autograd.broadcast_to(tape, x, shape)
    with pytest.raises(BroadcastError):
        autograd.broadcast_to(tape, x, 5)


def test_parts_of_sizes_in_an_array():
    x, tape = autograd.new_variable(autograd.new_tape(), [1.0, 2.0, 3.0, 4.0])
    for sizes in (np.array([1, 3]), np.array([1, 3], np.int8)):
        (first, rest), _ = autograd.split(tape, x, sizes)
        assert (first.data.tolist(), rest.data.tolist()) == ([1.0], [2.0, 3.0, 4.0])
    for wrong in (np.array([1.0, 3.0]), np.array([[1, 3]]), np.array([True, True]), np.array([-1, 5])):
        with pytest.raises(InvalidShape, match="split: axis 0"):
            autograd.split(tape, x, wrong)


def test_the_largest_of_nothing_is_refused_by_the_name_of_the_norm():
    x, tape = autograd.new_variable(autograd.new_tape(), np.ones((2, 0), np.float32))
    with pytest.raises(InvalidShape, match="norm: shape"):
        autograd.norm(tape, x, np.inf, axis=1)
    assert autograd.norm(tape, x, np.inf, axis=0).value.shape == (0,)
    single, tape = autograd.new_variable(tape, np.float32(-3))
    for keepdims in (False, True):
        assert autograd.norm(tape, single, np.inf, keepdims=keepdims).value.data == 3


def test_a_state_of_another_dtype_is_named(recorded):
    step = compiled(recorded)
    state = step.state()
    wide = state._replace(params=tuple(one.astype(np.float64) for one in state.params))
    with pytest.raises(InvalidValue, match="restore: the state is that of another program: of float64, wanted float32"):
        step.restore(wide)


def test_inputs_of_different_rows_say_which_counts(recorded):
    with pytest.raises(ShapeMismatch, match="the first input that has axes says how many a batch has"):
        compiled(recorded)(X[:8], Y[:9])


def test_other_rows_of_an_input_that_is_not_of_the_batch_are_refused_with_the_order_that_works():
    x, tape = autograd.new_constant(autograd.new_tape(), X[:5])
    factors, tape = autograd.new_constant(tape, np.ones(3, np.float32))
    w, tape = autograd.new_variable(tape, np.ones((3, 1), np.float32))
    product, tape = autograd.mul(tape, x, factors)
    pred, tape = autograd.matmul(tape, product, w)
    loss, tape = autograd.mean(tape, pred)
    given = {"loss": loss, "params": w, "optimizer": optim.SGD(lr=0.1)}
    step = program.compile_step(tape, inputs=(factors, x), **given)
    with pytest.raises(ShapeMismatch, match=r"\(5, 3\), got \(7, 3\); .* recorded with 3 rows, .*put the batch first"):
        step(factors.data, X[:7])
    step = program.compile_step(tape, inputs=(x, factors), **given)
    assert np.isfinite(step(X[:7], factors.data))


def test_a_profile_of_inputs_without_axes():
    a, tape = autograd.new_constant(autograd.new_tape(), np.float32(2))
    w, tape = autograd.new_variable(tape, np.float32(3))
    loss, tape = autograd.mul(tape, a, w)
    step = program.compile_step(tape, loss=loss, params=w, inputs=(a,), optimizer=optim.SGD(lr=0.1))
    assert "µs" in step.profile(a.data, times=1)
