"""Several networks that become one: their parts of the rows, their mean, and what a run makes of them."""

import signal
import sys
import threading
from dataclasses import replace
from time import sleep

import numpy as np
import pandas as pd
import pytest
from support.training import in_threads

from viva_tensor import autograd, kernels, nn, tabular
from viva_tensor.error import InvalidValue
from viva_tensor.tabular import cycles as one_of_several
from viva_tensor.tabular import members, runs, side_by_side
from viva_tensor.tabular.joining import joined_network
from viva_tensor.tabular.linear_start import _embedded, is_better, linear_start
from viva_tensor.tabular.losses import absent_of
from viva_tensor.tabular.members import Members
from viva_tensor.tabular.targets import Classes, Number
from viva_tensor.train import parameters, predict, record_layers

QUICK = Members(count=3, hidden=(16,), steps=60, cycles=2)


def waves(rows, seed=0):
    """Two columns, of which one bends the target, and one a bit of it."""
    rng = np.random.default_rng(seed)
    x, z = rng.uniform(-1, 1, rows), rng.normal(size=rows)
    return pd.DataFrame({"x": x, "z": z, "y": np.sin(6 * x) + 0.3 * z + 0.05 * rng.normal(size=rows)})


@pytest.mark.parametrize("sizes", [(4, 2), (4, 5, 1), (4, 5, 7, 3)])
def test_one_network_has_the_weighted_sum_of_the_outputs_of_several(sizes, rng):
    networks = [nn.mlp(autograd.new_tape(), sizes, rng=rng, dtype="float64").value for _ in range(3)]
    x = rng.standard_normal((20, 4))
    whole = record_layers(autograd.new_tape(), joined_network(networks, [0.5, 0.3, 0.2])).value
    wanted = sum(w * predict(one, x, "tanh") for w, one in zip((0.5, 0.3, 0.2), networks, strict=True))
    np.testing.assert_allclose(predict(whole, x, "tanh"), wanted, rtol=1e-12, atol=1e-14)
    assert joined_network(networks[:1], [1.0])[0].shape == networks[0][0].w.shape


def test_a_table_is_learned_by_several_networks_that_are_saved_as_one(tmp_path):
    table, new = waves(1000), waves(1000, seed=1)
    run = tabular.run(table, "y", Members(hidden=(24, 24), steps=120, cycles=2))
    assert run.members == 5
    assert [layer.w.shape[0] for layer in run.fit.layers] == [120, 120, 1]
    assert run.scores["network"].r2 > 0.98
    plain = tabular.run(table, "y", tabular.settings_for(1000, {"epochs": 1})).scores["least squares"]
    assert run.scores["least squares"].rmse == pytest.approx(plain.rmse, rel=0.01)  # without bins
    assert run.rows["train"] + run.rows["test"] == 1000
    assert run.rows["validation"] == 0
    assert all(type(number) is int for number in run.fit.history["epoch"])
    tabular.save(run, tmp_path)
    found = tabular.load(tmp_path).predict(new)
    pd.testing.assert_frame_equal(found, run.model.predict(new))
    left = new["y"] - found["predicted"]
    assert 1 - left.var() / new["y"].var() > 0.98
    assert "Trained 5 networks, each on 4 of 5 parts of 800 rows" in (tmp_path / "report.md").read_text()


def test_the_same_bits_on_any_number_of_threads():
    table, bits = waves(300), []
    for threads in (1, 2, 1):
        with kernels.num_threads(threads):
            bits.append(parameters(tabular.run(table, "y", QUICK).fit.layers))
    assert all(np.array_equal(a, b) for other in bits[1:] for a, b in zip(bits[0], other, strict=True))
    other = tabular.run(table, "y", replace(QUICK, seed=1))
    assert not np.array_equal(parameters(other.fit.layers)[0][:, :3], bits[0][0][:, :3])


def test_classes_are_learned_too():
    table = waves(500).assign(
        y=lambda one: np.where(one["y"] > 0.3, "high", np.where(one["y"] < -0.5, "low", "middle"))
    )
    run = tabular.run(table, "y", QUICK)
    assert run.scores["network"].accuracy > 0.85
    assert run.scores["network"].log_loss < run.scores["most frequent class"].log_loss / 2


@pytest.mark.parametrize("preset", ["default", "fast"])
def test_a_class_of_two_rows_that_nothing_tells_stays_about_as_probable_as_it_is_frequent(preset, rng):
    table = pd.DataFrame({"x": rng.normal(size=1500), "y": np.where(rng.permutation(1500) < 2, "rare", "common")})
    found = tabular.fit(table, "y", preset=preset).model.predict(pd.DataFrame({"x": rng.normal(size=5000)}))
    expected, share = found["y=rare"], 2 / 1500
    loss = -(share * np.log(expected) + (1 - share) * np.log1p(-expected)).mean()
    always = -(share * np.log(share) + (1 - share) * np.log1p(-share))
    assert loss < 1.3 * always  # 2.6 to 5.6 times where parts without the class chose their own epoch


def test_a_network_that_tells_many_classes_apart_is_kept_however_few_rows_of_each_are_held_out():
    rng = np.random.default_rng(1)
    code = rng.integers(0, 60, 1500)
    table = pd.DataFrame({"x": code + 0.3 * rng.normal(size=1500), "y": [f"L{one:02d}" for one in code]})
    fitted = tabular.fit(table[200:], "y", preset="fast")
    assert fitted.fit.best_epoch > 0
    found = fitted.model.predict(table[:200])["predicted"].to_numpy()
    assert (found == table["y"][:200].to_numpy()).mean() > 0.65


def test_one_more_row_stands_for_all_classes_of_few_rows():
    target = Classes("y", tuple(f"c{i}" for i in range(20)))
    y = np.repeat(np.arange(20), 4).astype("f4")
    sure = 30 * np.eye(20, dtype="f4")[y.astype(int)]
    assert is_better(sure, np.zeros_like(sure), y, target)
    y = np.repeat([0.0, 1.0], [78, 2]).astype("f4")  # which may be where they are by chance
    sure, linear = 30 * np.eye(2, dtype="f4")[y.astype(int)], np.tile(np.log(np.float32([0.975, 0.025])), (80, 1))
    assert not is_better(sure, linear, y, Classes("y", ("common", "rare")))


def test_many_absent_classes_count_as_one_held_out_row_together():
    classes = np.repeat(np.arange(10), [82, *[2] * 9]).astype("f4")
    found = absent_of(classes, np.float32([0] * 20), 10).shares
    assert found == (0.0, *[pytest.approx(0.05 / 9)] * 9)


def test_absent_classes_count_by_the_weights_of_their_rows():
    classes, weights = np.float32([0, 0, 1, 2]), np.array([1.0, 1.0, 1.0, 3.0])
    assert absent_of(classes, np.float32([0, 1]), 3, weights).shares == (0.0, 0.0, 0.5)
    assert absent_of(classes, np.float32([0, 1]), 3, np.array([1.0, 1.0, 1.0, 0.0])) is None


def test_absent_classes_count_in_held_out_rows_as_often_as_elsewhere(rng):
    outputs = rng.standard_normal((50, 3))
    loss = absent_of(np.float32([0] * 60 + [1] * 30 + [2] * 10), np.float32([0] * 40 + [1] * 10), 3)
    pred, tape = autograd.new_constant(autograd.new_tape(), outputs)
    target, tape = autograd.new_constant(tape, np.repeat([0.0, 1.0], [40, 10]))
    logs = outputs - np.log(np.exp(outputs).sum(axis=1, keepdims=True))
    there = np.mean([*logs[:40, 0], *logs[40:, 1]])
    assert float(loss(tape, pred, target).value.data) == pytest.approx(-there - 0.1 * logs[:, 2].mean())


def test_where_a_line_does_as_well_the_mean_of_lines_is_kept(rng):
    x = rng.normal(size=(120, 2))
    table = pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "y": x @ [1.0, -2.0] + rng.normal(size=120)})
    run = tabular.run(table, "y", replace(QUICK, bins=0))
    assert run.fit.best_epoch == 0
    assert run.scores["network"].rmse == pytest.approx(run.scores["least squares"].rmse, rel=0.02)


def test_bins_do_not_count_among_the_features_of_the_linear_model(rng):
    x = rng.normal(size=(800, 200)).astype("f4")
    target, settings = Number("y", 0.0, 1.0), Members(hidden=(8,)).settings(800)
    columns = np.arange(0, 2200, 11)  # one of each number's features, of which ten are bins
    wide = np.zeros((800, 2200), "f4")
    wide[:, columns] = x
    y = x @ rng.normal(size=(200, 1)).astype("f4")
    start = linear_start(wide, y, target, settings, np.arange(800), columns)
    assert start is not None
    layers = record_layers(autograd.new_tape(), start).value
    np.testing.assert_allclose(predict(layers, wide, "relu"), y, atol=0.01)
    assert linear_start(wide, y, target, settings, np.arange(800)) is None  # too many to fit


def test_bins_of_other_columns_do_not_hide_what_categories_tell_together(rng):
    table = pd.DataFrame(rng.normal(size=(3000, 3)), columns=["u", "v", "w"])
    a, b = rng.integers(0, 8, size=(2, 3000))
    y = 2 * rng.normal(size=(8, 8))[a, b] + table["u"] + 0.3 * rng.normal(size=3000)
    table = table.assign(a=np.array(list("abcdefgh"))[a], b=np.array(list("abcdefgh"))[b], y=y)
    model = tabular.fit(table[:1200], "y", Members(count=3, cycles=3)).model
    error = np.sqrt(np.mean((model.predict(table[1200:])["predicted"].to_numpy() - y[1200:]) ** 2))
    assert error < 1.1  # with bins as large as the others 1.6 to 2


def test_more_outputs_than_units_can_pass_on_begin_as_the_nearest_linear_model_of_such_a_rank(rng):
    w, b, x = rng.normal(size=(70, 9)), rng.normal(size=70), rng.normal(size=(20, 9))
    w -= w.mean(axis=0)

    def found(w, hidden):
        settings = Members(hidden=hidden).settings(1000)
        arrays = _embedded(w, b, replace(settings, dtype="float64"))
        return predict(record_layers(autograd.new_tape(), arrays).value, x, "relu")

    for hidden in ((), (8,), (8, 30)):  # the first of which may have all of them, the others three
        made, scales, axes = np.linalg.svd(w)
        kept = 3 if hidden else 9
        nearest = made[:, :kept] * scales[:kept] @ axes[:kept]
        np.testing.assert_allclose(found(w, hidden), x @ nearest.T + b, atol=1e-10)
    np.testing.assert_allclose(found(w, (128, 128)), x @ w.T + b, atol=1e-10)


def test_many_classes_begin_as_a_linear_model(rng):
    y = np.repeat(np.arange(64), 10).astype("f4")
    x = rng.normal(size=(64, 6)).astype("f4")[y.astype(int)]
    target = Classes("y", tuple(map(str, range(64))))
    start = linear_start(x, y, target, Members().settings(640), np.arange(640))
    assert start is not None
    outputs = predict(record_layers(autograd.new_tape(), start).value, x, "relu")
    assert (outputs.argmax(axis=1) == y).mean() > 0.9


def test_an_interruption_keeps_the_networks_that_are_trained_and_ends_the_one_in_training(monkeypatch):
    trained, epochs = one_of_several._cycles, []

    def stopping(*arguments):
        sharing = arguments[-1]
        if len(epochs) == 2:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            while not sharing.stopped:
                sleep(0.001)
        fit, ended = trained(*arguments)
        epochs.append(len(fit.history["epoch"]))
        return fit, ended

    monkeypatch.setattr(one_of_several, "_cycles", stopping)
    with kernels.num_threads(1), pytest.warns(UserWarning, match="interrupted; kept: 3 networks of 5"):
        run = tabular.run(waves(100), "y", replace(QUICK, count=5))
    assert run.fit.interrupted
    assert run.fit.layers[0].w.shape[0] == 3 * 16
    assert len(epochs) == 3
    assert epochs[2] == 1 < min(epochs[:2])


@pytest.mark.parametrize("threads", [1, 2])
def test_baselines_are_fitted_beside_the_first_networks_or_on_one_thread_after_the_last(threads, monkeypatch):
    begun, baselines, cycles = [], runs.least_squares, one_of_several._cycles
    fitted = threading.Event()

    def noted(*arguments):
        begun.append(kernels.get_num_threads())
        fitted.set()
        return baselines(*arguments)

    def waiting(*arguments):
        begun.append("network")
        if threads > 1:
            assert fitted.wait(60)
        return cycles(*arguments)

    monkeypatch.setattr(runs, "least_squares", noted)
    monkeypatch.setattr(one_of_several, "_cycles", waiting)
    with kernels.num_threads(threads):
        tabular.run(waves(100), "y", replace(QUICK, count=2))
    assert 1 in begun
    assert threads > 1 or begun == ["network", "network", 1]


def test_threads_of_jobs_wait_a_short_time_for_each_other_until_the_last_job_has_ended():
    usual, first_began, second_began, first_ended = sys.getswitchinterval(), *(threading.Event() for _ in range(3))

    def first(sharing):
        first_began.set()
        assert second_began.wait(60)

    def second(sharing):
        second_began.set()
        assert first_ended.wait(60)
        return sys.getswitchinterval()

    def call(index):
        if index == 0:
            side_by_side.side_by_side([first])
            first_ended.set()
            return sys.getswitchinterval()
        assert first_began.wait(60)
        return side_by_side.side_by_side([second])[0]

    assert in_threads(2, call)[1] == pytest.approx(side_by_side.TURN)
    assert sys.getswitchinterval() == usual


@pytest.mark.parametrize("wrong", [KeyboardInterrupt, ZeroDivisionError])
def test_an_error_in_a_network_ends_the_others(wrong, monkeypatch):
    begun = []

    def failing(*arguments):
        begun.append(arguments)
        raise wrong

    monkeypatch.setattr(one_of_several, "_cycles", failing)
    with kernels.num_threads(1), pytest.raises(wrong):
        tabular.run(waves(100), "y", QUICK)
    assert len(begun) == 1


@pytest.mark.parametrize(
    "wrong",
    [{"count": 0}, {"count": 2.5}, {"bins": -1}, {"steps": 0}, {"cycles": 0}, {"parts": 4}, {"parts": 0, "count": 1}],
)
def test_too_few_of_anything_are_refused(wrong):
    with pytest.raises(InvalidValue, match=f"Members: {next(iter(wrong))}="):
        Members(**wrong)


@pytest.mark.parametrize("wrong", [{"hidden": (0,)}, {"hidden": 3}, {"optimizer": 3}, {"seed": -1}, {"seed": 0.5}])
def test_members_are_refused_what_settings_are(wrong):
    for kind in (Members, tabular.Best):
        with pytest.raises(InvalidValue, match=f"Settings: {next(iter(wrong))}="):
            kind(**wrong)


def test_the_seconds_are_those_that_pass(monkeypatch):
    ticks = iter([100.0, 101.0, 104.0, 103.0])
    monkeypatch.setattr(members, "perf_counter", lambda: next(ticks))
    run = tabular.run(waves(100), "y", QUICK)
    assert run.fit.seconds == 4
    epochs = run.fit.rows_per_second * 4 / (80 * 2 / 3)  # of all networks, each on two of three parts of 80 rows
    assert len(run.fit.history["epoch"]) <= epochs <= 3 * len(run.fit.history["epoch"])


def test_bins_are_fewer_for_large_and_wide_tables():
    assert Members().bins_for(1000, 10) == 64
    assert Members().bins_for(80, 10) == 10
    assert Members().bins_for(40_000, 10) == 50
    assert Members().bins_for(1_000_000, 10) == 32
    assert Members(bins=8).bins_for(300_000, 10) == 0  # too few for sparse rows, and too many for others
    assert Members().bins_for(150_000, 150) == 13
    assert Members().bins_for(1000, 200) == 10
    assert Members().bins_for(1000, 1000) == 0
    assert Members(bins=0).bins_for(1000, 10) == 0


def test_several_networks_are_for_one_process_without_a_checkpoint(tmp_path):
    with pytest.raises(tabular.DataError, match=r"where a checkpoint is kept; give Settings for one network"):
        tabular.run(waves(100), "y", QUICK, checkpoint=tmp_path / "checkpoint.safetensors")
    assert tabular.run(waves(100), "y").members == 1
    run = tabular.run(waves(1000), "y", checkpoint=tmp_path / "checkpoint.safetensors")
    assert run.members == 1


def test_large_tables_of_categories_are_trained_packed(monkeypatch):
    from viva_tensor.tabular import features

    table = waves(300).assign(c=lambda one: one["z"].round(0).astype(str))
    dense = tabular.run(table, "y", QUICK)
    monkeypatch.setattr(features, "DENSE", 1)
    packed = tabular.run(table, "y", QUICK)
    assert packed.scores["network"].rmse < 1.2 * dense.scores["network"].rmse
