"""Files that were changed: each is noticed, refused in words, and never executed."""

import dataclasses
import json
import os
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from support.checkpoints import WRITTEN, full, read_or_refused, signed
from support.mangled import changed, headed, replanted
from support.networks import network

from viva_tensor import checkpoint, error
from viva_tensor.checkpoint import codec, states, storage


@pytest.fixture(scope="module")
def place():
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "c.safetensors"


class TestDamage:
    @pytest.mark.parametrize("kind", WRITTEN)
    def test_a_bit_flipped_anywhere_is_noticed(self, rng, tmp_path, kind):
        write, read = WRITTEN[kind]
        path = write(tmp_path / "c", rng)
        whole = path.read_bytes()
        read(path)
        for place, bit in enumerate(rng.integers(8, size=len(whole)).tolist()):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
            with pytest.raises(error.InvalidFile, match=r"c is no whole safetensors file|c is not as it was written"):
                read(path)

    def test_tensors_exchanged_or_renamed_are_noticed(self, rng, tmp_path):
        path = checkpoint.save_weights(tmp_path / "c", network(rng, "float32", (2, 2, 2))[0])
        tensors = safetensors.numpy.load_file(path)
        with safetensors.safe_open(path, "numpy") as file:
            metadata = file.metadata()
        safetensors.numpy.save_file(dict(reversed(tensors.items())), path, metadata)
        checkpoint.load_weights(path)  # the order in the file says nothing
        exchanged = tensors | {"0.weight": tensors["2.weight"], "2.weight": tensors["0.weight"]}
        reshaped = tensors | {"0.weight": tensors["0.weight"].reshape(1, 4)}
        for other in (exchanged, reshaped, {name: tensors[name] for name in ("0.weight", "0.bias")}):
            safetensors.numpy.save_file(other, path, metadata)
            with pytest.raises(error.InvalidFile, match="its checksum differs"):
                checkpoint.load_weights(path)
        safetensors.numpy.save_file(exchanged, path)  # as another library would write it
        assert np.array_equal(checkpoint.load_weights(path).value[0].w.data, tensors["2.weight"])

    def test_arrays_of_the_other_byte_order_come_back(self, rng, tmp_path):
        metadata = {"big": np.arange(3.0).astype(">f8"), "none": np.zeros((0, 3), ">i4"), "flag": np.array(True)}
        kept = dataclasses.replace(full(rng), metadata=metadata)
        again = checkpoint.load(checkpoint.save(tmp_path / "c", kept)).metadata
        assert all(np.array_equal(again[name], metadata[name]) for name in metadata)

    @pytest.mark.parametrize(
        ("header", "data"),
        [
            ({"a": {"dtype": "F32", "shape": [1 << 62, 4], "data_offsets": [0, 0]}}, b""),
            ({"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}, b""),
            ({"a": {"dtype": "F32", "shape": [0, 1 << 62], "data_offsets": [0, 0]}}, b""),
            ({"a": {"dtype": "F32", "shape": [0, (1 << 64) - 1], "data_offsets": [0, 0]}}, b""),
            ({"a": {"dtype": "F32", "shape": [1] * 80, "data_offsets": [0, 4]}}, bytes(4)),
            ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}, bytes(8)),
            ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, bytes(8)),
            ({name: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for name in "ab"}, bytes(4)),
            ({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, bytes(4)),
            ({"__metadata__": {"viva_tensor": 1}}, b""),
            ([], b""),
        ],
    )
    def test_sizes_that_cannot_be_are_refused(self, tmp_path, header, data):
        text = json.dumps(header).encode()
        (tmp_path / "c").write_bytes(struct.pack("<Q", len(text)) + text + data)
        for read in (checkpoint.load, checkpoint.load_weights):
            with pytest.raises(error.InvalidFile, match="c is no whole safetensors file"):
                read(tmp_path / "c")

    @pytest.mark.parametrize("length", [0, 1, 1 << 20, 1 << 31, 1 << 40, (1 << 64) - 1])
    def test_lengths_that_cannot_be_are_refused(self, tmp_path, length):
        (tmp_path / "c").write_bytes(struct.pack("<Q", length) + b"{}")
        with pytest.raises(error.InvalidFile, match="c is no whole safetensors file"):
            checkpoint.load(tmp_path / "c")

    @pytest.mark.parametrize(
        ("kind", "place", "value"),
        [
            ("MT19937", ("state", "state", "pos"), 625),
            ("MT19937", ("state", "state", "pos"), -1),
            ("Philox", ("state", "buffer_pos"), -1),
            ("Philox", ("state", "buffer_pos"), 5),
            ("PCG64", ("seed", "pool_size"), 1 << 20),
            ("PCG64", ("seed", "pool_size"), 1 << 62),
        ],
    )
    def test_a_generator_that_would_read_outside_its_state_is_refused(self, rng, tmp_path, kind, place, value):
        kept = dataclasses.replace(full(rng), rng=np.random.Generator(getattr(np.random, kind)(1)))
        path = checkpoint.save(tmp_path / "c", kept)
        with safetensors.safe_open(path, "numpy") as file:
            metadata = file.metadata()
        tree = json.loads(metadata["checkpoint"])
        *outer, last = place
        holder = tree["fields"]["rng"]
        for name in outer:
            holder = holder[name]
        assert last in holder
        holder[last] = value
        signed(path, safetensors.numpy.load_file(path), metadata | {"checkpoint": json.dumps(tree)})
        with pytest.raises(error.InvalidFile, match=f"c is a damaged checkpoint.*{last} is {value}, wanted"):
            checkpoint.load(path)

    def test_a_file_from_before_states_named_their_optimiser(self, rng, tmp_path):
        path = checkpoint.save(tmp_path / "c", full(rng))
        with safetensors.safe_open(path, "numpy") as file:
            metadata = file.metadata()
        tree = json.loads(metadata["checkpoint"])
        del tree["fields"]["state"]["fields"]["optimizer"]
        signed(path, safetensors.numpy.load_file(path), metadata | {"checkpoint": json.dumps(tree)})
        assert checkpoint.load(path).state.optimizer is None

    def test_no_file_makes_code_run(self, rng, tmp_path):
        paths = [checkpoint.save(tmp_path / "good", full(rng)), checkpoint.save(tmp_path / "bad", full(rng))]
        with safetensors.safe_open(paths[1], "numpy") as file:
            metadata, tensors = file.metadata(), safetensors.numpy.load_file(paths[1])
        hostile = [
            {"$": "record", "name": name, "fields": {"args": ["touch pwned"], "command": "touch pwned", "shell": True}}
            for name in ("os.system", "subprocess.Popen", "builtins.eval", "optim.__builtins__", "program.compile_step")
        ] + [{"$": "generator", "state": {"bit_generator": "__import__('os')"}, "seed": None}, {"__reduce__": ["os"]}]
        for i, value in enumerate(hostile):
            tree = json.loads(metadata["checkpoint"])
            tree["fields"]["metadata"]["hostile"] = value
            paths.append(signed(tmp_path / f"{i}", tensors, metadata | {"checkpoint": json.dumps(tree)}))
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        done = subprocess.run(
            [sys.executable, "-m", "support.process_programs.watched_loads", *paths],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environment,
        )
        assert done.stdout.strip() == f"{len(hostile) - 1} []", done.stderr  # the last is data, and stays so
        assert not (tmp_path / "pwned").exists()

    @given(changed(storage.packed({"0.weight": np.ones((2, 1)), "0.bias": np.ones(2)}, {"viva_tensor": "weights 1"})))
    @hypothesis.settings(max_examples=100, deadline=None)
    def test_changed_bytes_are_refused_in_words(self, place, data):
        place.write_bytes(data)
        read_or_refused(place)

    @given(headed())
    @hypothesis.settings(max_examples=200, deadline=None)
    def test_whatever_a_header_says_is_refused_in_words(self, place, data):
        place.write_bytes(data)
        read_or_refused(place)

    @given(hypothesis.strategies.data())
    @hypothesis.settings(max_examples=100, deadline=None)
    def test_whatever_a_signed_tree_says_is_refused_in_words(self, place, data):
        tensors = {}
        tree = codec.encoded(full(np.random.default_rng(1)), "checkpoint", tensors)
        text = json.dumps(data.draw(replanted(tree)))
        signed(place, tensors, {"viva_tensor": states.FORMAT, "written": "1", "checkpoint": text})
        read_or_refused(place)
