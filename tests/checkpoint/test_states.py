"""Training states in files: what comes back, what is refused, and the last good one."""

import dataclasses
import json
import os
import sys
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import pytest
import safetensors.numpy
from support.checkpoints import SIZES, full, same, signed
from support.networks import network

from viva_tensor import checkpoint, error, files, optim
from viva_tensor.checkpoint import Checkpoint, states


class TestCheckpoint:
    def test_everything_comes_back(self, rng, tmp_path):
        kept = full(rng)
        again = checkpoint.load(checkpoint.save(tmp_path / "c", kept))
        for field in dataclasses.fields(Checkpoint):
            if field.name != "rng":
                assert same(getattr(again, field.name), getattr(kept, field.name)), field.name
        assert same(again.rng.bit_generator.state, rng.bit_generator.state)

    @pytest.mark.parametrize("kind", ["MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64"])
    def test_generators_go_on(self, tmp_path, kind):
        rng = np.random.Generator(getattr(np.random, kind)(5))
        rng.spawn(2)
        rng.integers(10, dtype=np.uint32)  # leaves half a word
        again = checkpoint.load(checkpoint.save(tmp_path / "c", Checkpoint(full(rng).state, optim.SGD(), rng))).rng
        assert type(again.bit_generator).__name__ == kind
        for draw in (
            lambda one: one.permutation(100),
            lambda one: one.integers(10, size=3, dtype=np.uint32),
            lambda one: one.spawn(1)[0].random(5),
        ):
            assert np.array_equal(draw(again), draw(rng))

    def test_moments_of_any_nesting_and_the_states_of_optim(self, rng, tmp_path):
        moments = (
            (rng.random(3), rng.random(())),
            [rng.random((0, 2))],
            {"v": (rng.random(1), None)},
            {"v.1": rng.random(2)},
        )
        state = optim.init(optim.SGD(momentum=0.9), network(rng, "float32", SIZES)[0])
        again = checkpoint.load(
            checkpoint.save(tmp_path / "c", Checkpoint(state, optim.SGD(), metadata={"m": moments}))
        )
        assert same(again.state, state)
        assert same(again.metadata["m"], moments)

    def test_names_that_look_alike_stay_apart(self, rng, tmp_path):
        metadata = {"a": {"b": np.zeros(1)}, "a.b": np.ones(1), "a.b'": np.full(1, 2.0)}
        kept = Checkpoint(full(rng).state, optim.SGD(), metadata=metadata)
        assert same(checkpoint.load(checkpoint.save(tmp_path / "c", kept)).metadata, metadata)

    @pytest.mark.parametrize(
        ("metadata", "place"),
        [
            ({"a": [1, object()]}, "metadata.a.1 is of type object"),
            ({"a": {1: 2}}, "metadata.a is of type dict with the key 1,"),
            ({"a": 2, "$": 1}, r"metadata is of type dict with the key '\$',"),
            ({"f": Fraction(1, 2)}, "metadata.f is of type Fraction"),
            ({"f": print}, "metadata.f is of type builtin"),
            ({"a": np.array([None])}, "metadata.a is an array of object"),
            ({"a": np.zeros(2, complex)}, "metadata.a is an array of complex128"),
            ({"n": NamedTuple("Own", [("a", int)])(1)}, "metadata.n is of type Own"),
            ({"i": 10**4300}, "metadata.i is an int of 14285 bits"),
        ],
    )
    def test_what_is_no_data_is_refused_with_its_place(self, rng, tmp_path, metadata, place):
        with pytest.raises(error.InvalidValue, match=f"save: checkpoint.{place}"):
            checkpoint.save(tmp_path / "c", Checkpoint(full(rng).state, optim.SGD(), metadata=metadata))
        assert os.listdir(tmp_path) == []

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("state", (1, 2)),
            ("state", None),
            ("optimizer", "SGD"),
            ("rng", np.random.RandomState(1)),
            ("rng", 7),
            ("epoch", -1),
            ("epoch", 1.5),
            ("history", [1.0]),
            ("metadata", None),
        ],
    )
    def test_fields_of_another_type(self, rng, field, value):
        with pytest.raises(error.InvalidValue, match=f"Checkpoint: {field} is {type(value).__name__}, wanted"):
            dataclasses.replace(full(rng), **{field: value})

    def test_a_state_and_an_optimiser_exchanged(self, rng):
        state, sgd = full(rng).state, optim.SGD()
        for swapped in ((sgd, state), (sgd, sgd), (optim.Rates(0.1), sgd)):
            with pytest.raises(error.InvalidValue, match=r"Checkpoint: state is .*, wanted a state of a compiled step"):
                Checkpoint(*swapped)
        for wrong in (state, optim.Rates(0.1), optim.Averaging()):
            with pytest.raises(error.InvalidValue, match=r"Checkpoint: optimizer is .*, wanted an optimiser"):
                Checkpoint(state, wrong)

    def test_only_a_checkpoint_is_saved(self, tmp_path):
        with pytest.raises(error.InvalidValue, match="got dict, wanted a Checkpoint"):
            checkpoint.save(tmp_path / "c", {})

    def test_a_file_cut_anywhere_is_refused(self, rng, tmp_path):
        path = checkpoint.save(tmp_path / "c", full(rng))
        whole = path.read_bytes()
        for size in (*range(0, len(whole), 31), len(whole) - 1):
            path.write_bytes(whole[:size])
            with pytest.raises(error.InvalidFile, match="c is no whole safetensors file"):
                checkpoint.load(path)

    def test_weights_are_no_checkpoint_nor_the_reverse(self, rng, tmp_path):
        weights = checkpoint.save_weights(tmp_path / "weights", network(rng, "float32", SIZES)[0])
        with pytest.raises(error.InvalidFile, match="weights holds no checkpoint"):
            checkpoint.load(weights)
        with pytest.raises(error.InvalidFile, match="the name 'checkpoint"):
            checkpoint.load_weights(checkpoint.save(tmp_path / "c", full(rng)))

    @pytest.mark.parametrize(
        "damage",
        [
            lambda tree: tree["fields"].pop("state"),
            lambda tree: tree["fields"].update(state=[1]),
            lambda tree: tree["fields"].update(epoch="x"),
            lambda tree: tree["fields"].update(unknown=1),
            lambda tree: tree["fields"]["state"].update(name="Popen"),
            lambda tree: tree["fields"]["state"]["fields"]["params"]["items"][0].update(name="elsewhere"),
            lambda tree: tree["fields"]["state"]["fields"]["params"].update(items=[]),
            lambda tree: tree["fields"]["optimizer"]["fields"].update(lr=-1),
            lambda tree: tree["fields"]["optimizer"]["fields"].update(colour=1),
            lambda tree: tree["fields"]["rng"]["state"].update(bit_generator="BitGenerator"),
            lambda tree: tree["fields"]["rng"]["state"].update(state={}),
            lambda tree: tree["fields"]["rng"].update(seed={"entropy": -1}),
            lambda tree: tree.update({"$": "code"}),
            lambda tree: tree.clear(),
        ],
    )
    def test_damage_inside_is_refused_with_the_file(self, rng, tmp_path, damage):
        path = checkpoint.save(tmp_path / "c", full(rng))
        with safetensors.safe_open(path, "numpy") as file:
            metadata = file.metadata()
        tree = json.loads(metadata["checkpoint"])
        damage(tree)
        metadata["checkpoint"] = json.dumps(tree)
        signed(path, safetensors.numpy.load_file(path), metadata)
        with pytest.raises(error.InvalidFile, match="c is a damaged checkpoint"):
            checkpoint.load(path)

    @pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "3", '{"$": []}'])
    def test_metadata_that_is_no_tree(self, tmp_path, text):
        signed(tmp_path / "c", {}, {"viva_tensor": states.FORMAT, "checkpoint": text})
        with pytest.raises(error.InvalidFile, match="c is a damaged checkpoint"):
            checkpoint.load(tmp_path / "c")

    def test_a_failed_save_leaves_the_last_good_one(self, rng, tmp_path, monkeypatch):
        path = checkpoint.save(tmp_path / "c", full(rng))

        def fail(*arguments):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match=r"No space left on device: .*c'"):
            checkpoint.save(path, dataclasses.replace(full(rng), epoch=99))
        assert os.listdir(tmp_path) == ["c"]
        assert checkpoint.load(path).epoch == 3


class TestLatest:
    def test_the_last_one_written_that_is_whole(self, rng, tmp_path):
        kept = full(rng)
        assert checkpoint.latest(tmp_path) is None
        paths = [tmp_path / f"{name}.safetensors" for name in ("b", "c", "a")]
        for path in paths:
            checkpoint.save(path, kept)
        os.utime(paths[0])  # as after a copy: the time of writing is that in the file
        checkpoint.save_weights(tmp_path / "model.safetensors", network(rng, "float32", SIZES)[0])
        files.replace(tmp_path / "text.safetensors", b"text")
        (tmp_path / "folder.safetensors").mkdir()
        assert checkpoint.latest(tmp_path) == paths[2]
        paths[2].write_bytes(paths[2].read_bytes()[:-1])
        assert checkpoint.latest(str(tmp_path)) == paths[1]

    def test_damage_inside_is_passed_over(self, rng, tmp_path):
        good = checkpoint.save(tmp_path / "good.safetensors", full(rng))
        metadata = {"viva_tensor": states.FORMAT, "written": str(10**30), "checkpoint": "{"}
        signed(tmp_path / "bad.safetensors", {}, metadata)
        signed(tmp_path / "worse.safetensors", {}, {"viva_tensor": states.FORMAT, "written": "x"})
        changed = bytearray(checkpoint.save(tmp_path / "flipped.safetensors", full(rng)).read_bytes())
        changed[-1] ^= 1
        (tmp_path / "flipped.safetensors").write_bytes(changed)
        os.mkfifo(tmp_path / "pipe.safetensors")
        assert checkpoint.latest(tmp_path) == good

    def test_a_missing_folder(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="none"):
            checkpoint.latest(tmp_path / "none")


def test_without_safetensors_the_error_names_the_extra(rng, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    for call in (
        lambda: checkpoint.load(tmp_path / "c"),
        lambda: checkpoint.save(tmp_path / "c", full(rng)),
        lambda: checkpoint.save_weights(tmp_path / "c", network(rng, "float32", SIZES)[0]),
    ):
        with pytest.raises(ImportError, match=r'pip install "viva-tensor\[train\]"'):
            call()
