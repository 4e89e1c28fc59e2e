"""Fits that write checkpoints and go on from them."""

import dataclasses
from contextlib import nullcontext

import numpy as np
import pytest
from support.fits import QUICK, same_bits

from viva_tensor import autograd, checkpoint, nn, optim, train
from viva_tensor.error import InvalidFile, InvalidValue
from viva_tensor.optim import SGD
from viva_tensor.train import Settings, training


class TestCheckpoint:
    X = np.linspace(-1, 1, 50, dtype=np.float32)[:, None]
    SETTINGS = Settings(hidden=(8, 4), epochs=6, batch_size=8, patience=5, seed=3)

    def interrupted(self, monkeypatch, path, settings=SETTINGS, at=26):
        """Break a run off in the fourth of its epochs of 6 steps."""
        rates = train.rates

        def pressed(settings, per_epoch):
            rate = rates(settings, per_epoch)

            def press(step):
                if step == at:
                    raise KeyboardInterrupt
                return rate(step)

            return press

        with monkeypatch.context() as patch:
            patch.setattr(training, "rates", pressed)
            with pytest.raises(KeyboardInterrupt):
                train.fit(self.X, abs(self.X), settings, checkpoint=path)

    def test_resumed_run_has_the_bits_of_a_whole_one(self, monkeypatch, tmp_path):
        path = tmp_path / "new" / "c.safetensors"
        self.interrupted(monkeypatch, path)
        assert checkpoint.load(path).epoch == 4
        resumed = train.fit(self.X, abs(self.X), self.SETTINGS, checkpoint=path, resume=True)
        whole = train.fit(self.X, abs(self.X), self.SETTINGS)
        assert resumed.history == whole.history
        assert resumed.best_epoch == whole.best_epoch
        assert same_bits(resumed, whole)

    def test_finished_run_is_resumed_at_its_end(self, tmp_path):
        whole = train.fit(self.X, abs(self.X), self.SETTINGS, checkpoint=tmp_path / "c")
        again = train.fit(self.X, abs(self.X), self.SETTINGS, checkpoint=tmp_path / "c", resume=True)
        assert again.history == whole.history
        assert same_bits(again, whole)

    def test_more_epochs_at_a_constant_rate(self, tmp_path):
        settings = dataclasses.replace(self.SETTINGS, schedule="constant")
        train.fit(self.X, self.X, dataclasses.replace(settings, epochs=2), checkpoint=tmp_path / "c")
        resumed = train.fit(self.X, self.X, settings, checkpoint=tmp_path / "c", resume=True)
        assert same_bits(resumed, train.fit(self.X, self.X, settings))

    def test_fewer_epochs_than_are_done_are_refused(self, tmp_path):
        settings = dataclasses.replace(self.SETTINGS, schedule="constant", patience=None)
        train.fit(self.X, self.X, settings, checkpoint=tmp_path / "c")
        with pytest.raises(InvalidValue, match=r"c holds 6 epochs, more than epochs=4; resume with at least as many"):
            train.fit(self.X, self.X, dataclasses.replace(settings, epochs=4), checkpoint=tmp_path / "c", resume=True)

    @pytest.mark.parametrize("before", [True, False])
    def test_a_run_that_its_callback_stopped_stays_so(self, tmp_path, before):
        path, seen = tmp_path / "c", []

        def third(values):
            seen.append(values["epoch"])
            if seen == [1, 2, 3] and not before:
                raise ZeroDivisionError  # as if killed between the checkpoint and the callback
            return values["epoch"] == 3

        given = {"callback": third, "checkpoint": path, "checkpoint_epochs": 1}
        with nullcontext() if before else pytest.raises(ZeroDivisionError):
            train.fit(self.X, abs(self.X), self.SETTINGS, **given)
        written = path.read_bytes()
        again = train.fit(self.X, abs(self.X), self.SETTINGS, **given, resume=True)
        assert (seen, again.history["epoch"]) == ([1, 2, 3, 3], [1, 2, 3])
        assert path.read_bytes() == written
        assert same_bits(again, train.fit(self.X, abs(self.X), self.SETTINGS, callback=lambda one: one["epoch"] == 3))

    def test_a_callback_of_a_resumed_run_sees_its_last_epoch_again(self, monkeypatch, tmp_path):
        self.interrupted(monkeypatch, tmp_path / "c")
        seen = []
        given = {"callback": lambda values: seen.append(values["epoch"]), "checkpoint": tmp_path / "c", "resume": True}
        for wanted in ([4, 5, 6], []):  # of a run at its end nothing is asked
            seen.clear()
            train.fit(self.X, abs(self.X), self.SETTINGS, **given)
            assert seen == wanted

    @pytest.mark.parametrize(("every", "written"), [(1, [1, 2, 3, 4, 5, 6]), (4, [4, 6]), (None, [6])])
    def test_written_every_so_many_epochs_and_at_the_end(self, monkeypatch, tmp_path, every, written):
        epochs = []
        monkeypatch.setattr(checkpoint, "save", lambda path, kept: epochs.append(kept.epoch))
        train.fit(self.X, self.X, self.SETTINGS, checkpoint=tmp_path / "c", checkpoint_epochs=every)
        assert epochs == written

    def test_written_every_so_many_minutes(self, monkeypatch, tmp_path):
        epochs = []
        monkeypatch.setattr(checkpoint, "save", lambda path, kept: epochs.append(kept.epoch))
        train.fit(self.X, self.X, self.SETTINGS, checkpoint=tmp_path / "c", checkpoint_minutes=1e-9)
        assert epochs == [1, 2, 3, 4, 5, 6]

    @pytest.mark.parametrize(
        ("change", "rows", "message"),
        [
            ({"epochs": 7}, X, "epochs=6"),
            ({"hidden": (8,)}, X, "hidden="),
            ({"seed": 4}, X, "seed=3"),
            ({"optimizer": SGD(0.5)}, X, "optimizer=SGD"),
            ({}, X * 2, "other rows"),
        ],
    )
    def test_of_another_run(self, tmp_path, change, rows, message):
        train.fit(self.X, self.X, self.SETTINGS, checkpoint=tmp_path / "c")
        before = (tmp_path / "c").read_bytes()
        with pytest.raises(InvalidValue, match=message):
            train.fit(
                rows, self.X, dataclasses.replace(self.SETTINGS, **change), checkpoint=tmp_path / "c", resume=True
            )
        assert (tmp_path / "c").read_bytes() == before

    def test_of_a_run_with_another_test(self, tmp_path):
        path = tmp_path / "c"
        given = self.X, self.X, self.SETTINGS
        train.fit(*given, checkpoint=path, test_digest="a")
        with pytest.raises(InvalidValue, match="written with other rows for the test"):
            train.fit(*given, checkpoint=path, test_digest="b", resume=True)
        train.fit(*given, checkpoint=path, test_digest="a", resume=True)
        kept = checkpoint.load(path)
        del kept.metadata["test"]
        checkpoint.save(path, kept)  # as an older version wrote it
        train.fit(*given, checkpoint=path, test_digest="b", resume=True)
        with pytest.raises(InvalidValue, match="test_digest=3"):
            train.fit(*given, checkpoint=path, test_digest=3)

    def test_other_files(self, tmp_path):
        with pytest.raises(InvalidValue, match="resume without a checkpoint"):
            train.fit(self.X, self.X, QUICK, resume=True)
        with pytest.raises(FileNotFoundError):
            train.fit(self.X, self.X, QUICK, checkpoint=tmp_path / "none", resume=True)
        (tmp_path / "c").write_bytes(b"{}")
        with pytest.raises(InvalidFile):
            train.fit(self.X, self.X, QUICK, checkpoint=tmp_path / "c", resume=True)
        layer = nn.mlp(autograd.new_tape(), (1, 1), rng=np.random.default_rng(0)).value
        checkpoint.save(tmp_path / "c", checkpoint.Checkpoint(optim.init(SGD(), layer), SGD()))
        with pytest.raises(InvalidFile, match="no checkpoint of fit"):
            train.fit(self.X, self.X, QUICK, checkpoint=tmp_path / "c", resume=True)

    @pytest.mark.parametrize("name", ["file/c", "n" * 1000, "file/folder/c"])
    def test_a_file_that_cannot_be_written_is_refused_before_training(self, tmp_path, name):
        (tmp_path / "file").touch()
        epochs = []
        with pytest.raises(OSError, match=r"file|nnn") as caught:
            train.fit(self.X, self.X, QUICK, checkpoint=tmp_path / name, callback=lambda values: epochs.append(values))
        assert caught.value.filename == str(tmp_path / name)
        assert epochs == []

    @pytest.mark.parametrize(
        "options",
        [{"checkpoint_epochs": 0}, {"checkpoint_epochs": 1.5}, {"checkpoint_minutes": 0}, {"checkpoint_minutes": "a"}],
    )
    def test_intervals_out_of_range(self, tmp_path, options):
        with pytest.raises(InvalidValue, match="checkpoint_"):
            train.fit(self.X, self.X, QUICK, checkpoint=tmp_path / "c", **options)

    @pytest.mark.parametrize(
        "options",
        [{"checkpoint_epochs": -3}, {"checkpoint_epochs": 3}, {"checkpoint_minutes": "a"}, {"checkpoint_minutes": 5},
         {"test_digest": "a"}],
    )  # fmt: skip
    def test_intervals_of_no_checkpoint(self, options):
        (name,) = options
        with pytest.raises(InvalidValue, match=f"{name}=.* without a checkpoint"):
            train.fit(self.X, self.X, QUICK, **options)
