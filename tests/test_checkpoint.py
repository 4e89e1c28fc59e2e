import dataclasses
import json
import os
import struct
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import hypothesis
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from support.mangled import changed, headed, replanted
from support.networks import network

from viva_tensor import autograd, checkpoint, error, files, nn, optim, program
from viva_tensor.checkpoint import Checkpoint, codec, states, storage

SIZES = (3, 8, 5, 2)


def arrays(layers):
    return [array for layer in layers for array in (layer.w.data, layer.b.data)]


def same(a, b):
    """Equal in structure, types and bits."""
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    if isinstance(a, (tuple, list)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return type(a) is type(b) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return type(a) is type(b) and (a == b or (a != a and b != b))


class TestWeights:
    def test_they_come_back_with_the_same_bits(self, rng, dtype, tmp_path):
        layers, _ = network(rng, dtype, SIZES)
        path = tmp_path / "model.safetensors"
        assert checkpoint.save_weights(path, layers) == path
        again, tape = checkpoint.load_weights(path)
        assert same(arrays(again), arrays(layers))
        assert all(isinstance(layer, nn.Linear) for layer in again)
        assert len(tape) == 6

    def test_they_are_recorded_on_the_tape_that_is_given(self, rng, tmp_path):
        checkpoint.save_weights(tmp_path / "model", network(rng, "float32", SIZES)[0])
        x, tape = autograd.new_constant(autograd.new_tape(), np.ones((2, 3), np.float32))
        layers, tape = checkpoint.load_weights(tmp_path / "model", tape)
        y, tape = nn.linear_forward(tape, layers[0], x)
        grads = autograd.backward(tape, y, seed=np.ones_like(y.data))
        assert np.array_equal(grads[layers[0].b], np.full(8, 2))

    def test_arrays_of_any_strides_are_written_right(self, rng, tmp_path):
        raw = rng.standard_normal((6, 8))
        raw.setflags(write=False)
        w, tape = autograd.new_variable(autograd.new_tape(), raw.T[::2, ::-1])
        b, tape = autograd.new_variable(tape, raw[0, ::2])
        assert not w.data.flags.c_contiguous
        checkpoint.save_weights(tmp_path / "model", [nn.Linear(w, b)])
        (again,), _ = checkpoint.load_weights(tmp_path / "model")
        assert np.array_equal(again.w.data, raw.T[::2, ::-1])
        assert np.array_equal(again.b.data, raw[0, ::2])

    def test_pytorch_takes_the_file_unchanged(self, rng, dtype, tmp_path):
        torch = pytest.importorskip("torch", reason="torch is not installed")
        from safetensors.torch import load_file

        layers, _ = network(rng, dtype, (3, 8, 2))
        checkpoint.save_weights(tmp_path / "model", layers)
        model = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        model = model.to(getattr(torch, dtype.name))
        model.load_state_dict(load_file(tmp_path / "model"))
        x = rng.standard_normal((5, 3)).astype(dtype)
        hidden = np.maximum(x @ layers[0].w.data.T + layers[0].b.data, 0)
        wanted = hidden @ layers[1].w.data.T + layers[1].b.data
        # sums of at most nine terms of size about 1
        np.testing.assert_allclose(
            model(torch.tensor(x)).detach().numpy(), wanted, rtol=0, atol=100 * np.finfo(dtype).eps
        )

    def test_a_file_of_pytorch_loads(self, tmp_path):
        torch = pytest.importorskip("torch", reason="torch is not installed")
        from safetensors.torch import save_file

        widths = range(2, 15)  # the numbers of the last layers have two digits
        parts = [part for i in widths for part in (torch.nn.Linear(i, i + 1), torch.nn.Tanh())]
        model = torch.nn.Sequential(torch.nn.Flatten(), *parts)
        save_file(model.state_dict(), tmp_path / "model")
        layers, _ = checkpoint.load_weights(tmp_path / "model")
        assert [layer.w.data.shape for layer in layers] == [(i + 1, i) for i in widths]
        assert same(arrays(layers), [parameter.detach().numpy() for parameter in model.parameters()])

    def test_another_dtype_of_pytorch_is_refused_with_its_name(self, tmp_path):
        torch = pytest.importorskip("torch", reason="torch is not installed")
        from safetensors.torch import save_file

        save_file(torch.nn.Sequential(torch.nn.Linear(2, 1)).bfloat16().state_dict(), tmp_path / "model")
        with pytest.raises(error.InvalidFile, match=r"model: 0\.(weight|bias) is BF16, wanted F32 or F64"):
            checkpoint.load_weights(tmp_path / "model")

    @pytest.mark.parametrize(
        ("tensors", "fault"),
        [
            ({}, "no layers"),
            ({"weight": (2, 3), "bias": (2,)}, "the name '(weight|bias)' is not like"),
            ({"net.0.weight": (2, 3), "net.0.bias": (2,)}, r"the name 'net\.0\.(weight|bias)'"),
            ({"00.weight": (2, 3), "00.bias": (2,)}, "the name '00"),
            ({"0.weight": (2, 3), "0.bias": (2,), "1.running_mean": (2,)}, "the name '1.running_mean'"),
            ({"-1.weight": (2, 3), "-1.bias": (2,)}, "the name '-1"),
            ({"0.weight": (2, 3)}, "0.weight has no 0.bias"),
            ({"0.bias": (2,)}, "0.bias has no 0.weight"),
            ({"0.weight": (2, 3), "0.bias": (3,)}, r"0.bias has shape \(3,\), wanted \(2,\)"),
            ({"0.weight": (2, 3), "0.bias": (2, 1)}, r"0.bias has shape \(2, 1\), wanted \[out\]"),
            ({"0.weight": (4,), "0.bias": (4,)}, r"0.weight has shape \(4,\), wanted \[out, in\]"),
            ({"0.weight": (2, 3, 3), "0.bias": (2,)}, r"0.weight has shape \(2, 3, 3\)"),
            ({"0.weight": (2, 0), "0.bias": (2,)}, r"0.weight has shape \(2, 0\)"),
            ({"0.weight": (), "0.bias": ()}, r"has shape \(\)"),
            (
                {"0.weight": (2, 3), "0.bias": (2,), "2.weight": (1, 4), "2.bias": (1,)},
                r"2.weight \(1, 4\) takes 4 features, the layer before gives 2",
            ),
        ],
    )
    def test_other_tensors_are_refused(self, tmp_path, tensors, fault):
        path = tmp_path / "model.safetensors"
        safetensors.numpy.save_file({name: np.ones(shape, "f4") for name, shape in tensors.items()}, path)
        with pytest.raises(error.InvalidFile, match=f"load_weights: .*model.safetensors: .*{fault}"):
            checkpoint.load_weights(path)

    @pytest.mark.parametrize(
        ("dtypes", "fault"),
        [
            (("f4", "f8"), "mixed dtypes: float32 and float64"),
            (("f2", "f2"), r"0\.(weight|bias) is F16, wanted F32 or F64"),
            (("i4", "i4"), r"0\.(weight|bias) is I32"),
            (("f4", "i8"), "0.bias is I64"),
        ],
    )
    def test_other_dtypes_are_refused(self, tmp_path, dtypes, fault):
        w, b = np.ones((2, 3), dtypes[0]), np.ones(2, dtypes[1])
        safetensors.numpy.save_file({"0.weight": w, "0.bias": b}, tmp_path / "model")
        with pytest.raises(error.InvalidFile, match=fault):
            checkpoint.load_weights(tmp_path / "model")

    def test_a_file_cut_anywhere_is_refused(self, rng, tmp_path):
        path = checkpoint.save_weights(tmp_path / "model", network(rng, "float32", SIZES)[0])
        whole = path.read_bytes()
        for size in (*range(0, len(whole), 7), len(whole) - 1):
            path.write_bytes(whole[:size])
            with pytest.raises(error.InvalidFile, match="model is no whole safetensors file"):
                checkpoint.load_weights(path)

    @pytest.mark.parametrize(
        "content", [b"PK\x03\x04" + bytes(100), b"weights\n" * 20, b"\xff" * 64, b"\x02" + bytes(7) + b"[]"]
    )
    def test_other_formats_are_refused(self, tmp_path, content):
        (tmp_path / "model").write_bytes(content)
        for read in (checkpoint.load_weights, checkpoint.load):
            with pytest.raises(error.InvalidFile, match="model is no whole safetensors file"):
                read(tmp_path / "model")

    def test_a_missing_file_and_a_folder(self, tmp_path):
        for read in (checkpoint.load_weights, checkpoint.load):
            with pytest.raises(FileNotFoundError, match="none"):
                read(tmp_path / "none")
            with pytest.raises(OSError, match=tmp_path.name):
                read(tmp_path)

    def test_layers_that_would_not_load_are_not_written(self, rng, tmp_path):
        a, _ = network(rng, "float32", (3, 4))
        b, _ = network(rng, "float32", (5, 2))
        other, _ = network(rng, "float64", (4, 2))
        flat, _ = autograd.new_variable(autograd.new_tape(), [1.0])
        for layers, fault in (
            ((*a, *b), "takes 5 features"),
            ((*a, *other), "mixed dtypes"),
            ((), "no layers"),
            (a[0], "found Variable among the layers"),
            ([nn.Linear(flat, flat)], "0.weight has shape"),
        ):
            with pytest.raises(error.InvalidValue, match=fault):
                checkpoint.save_weights(tmp_path / "model", layers)
        assert os.listdir(tmp_path) == []


def full(rng):
    """A checkpoint with something in each field."""
    state = program.State(*[(rng.standard_normal((2, 3)), np.float32([np.nan, -0.0]))] * 2, 7, "SGD")
    return Checkpoint(
        state,
        optim.SGD(lr=0.1, momentum=0.9),
        rng,
        epoch=3,
        history={"epoch": [1, 2, 3], "loss": [0.1, float("nan"), float("inf")]},
        metadata={"name": "täble", "nested": {"deep": [1, None, True, {"a": (1, 2)}]}, "big": 2**200, "empty": {}},
    )


def signed(path, tensors, metadata):
    """A file with a checksum, whatever it holds."""
    path.write_bytes(storage.packed(tensors, {key: text for key, text in metadata.items() if key != "sha256"}))
    return path


# files that were written here, each with what reads it
WRITTEN = {
    "checkpoint": (lambda path, rng: checkpoint.save(path, full(rng)), checkpoint.load),
    "weights": (
        lambda path, rng: checkpoint.save_weights(path, network(rng, "float32", (2, 3, 1))[0]),
        checkpoint.load_weights,
    ),
}


def read_or_refused(path):
    """Read a file in every way; whatever it holds, it is read, or refused in words."""
    for read in (checkpoint.load, checkpoint.load_weights):
        try:
            read(path)
        except error.InvalidFile as refused:
            if str(path) not in str(refused):
                raise AssertionError(refused) from refused
    checkpoint.latest(path.parent)


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
        code = [
            "import sys; from viva_tensor import checkpoint, error",
            "checkpoint.load(sys.argv[1])  # imports what it takes",
            "seen = []",
            "watched = ('exec', 'compile', 'import', 'os.', 'subprocess', 'pickle', 'marshal', 'ctypes', 'socket')",
            "sys.addaudithook(lambda event, _: seen.append(event) if event.startswith(watched) else None)",
            "refused = 0",
            "for path in sys.argv[1:]:",
            "    try: checkpoint.load(path)",
            "    except error.InvalidFile: refused += 1",
            "print(refused, seen)",
        ]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        done = subprocess.run(
            [sys.executable, "-c", "\n".join(code), *paths],
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
            ({"a": {1: 2}}, "metadata.a is of type dict"),
            ({"$": 1}, "metadata is of type dict"),
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


def compiled(optimizer):
    """A step of a small network, and its data."""
    rng = np.random.default_rng(4)
    layers, tape = network(rng, "float32", SIZES)
    X = rng.standard_normal((50, 3)).astype(np.float32)
    Y = rng.standard_normal((50, 2)).astype(np.float32)
    x, tape = autograd.new_constant(tape, X[:16])
    y, tape = autograd.new_constant(tape, Y[:16])
    pred, tape = nn.mlp_forward(tape, layers, x)
    loss, tape = nn.mse_loss(tape, pred, y)
    return program.compile_step(tape, loss=loss, params=layers, inputs=(x, y), optimizer=optimizer), X, Y


def rate(number):
    return 0.05 / number**0.5


def train(step, X, Y, rng, epochs):
    return step.run(X, Y, batch_size=16, epochs=epochs, rng=rng, schedule=rate)


def resume(source, target):
    """Two more epochs from a file to a file; what the fresh process below runs."""
    kept = checkpoint.load(source)
    step, X, Y = compiled(kept.optimizer)
    step.restore(kept.state)
    losses = kept.history["loss"] + train(step, X, Y, kept.rng, 2)
    checkpoint.save(target, Checkpoint(step.state(), kept.optimizer, kept.rng, kept.epoch + 2, {"loss": losses}))


@pytest.mark.parametrize(
    "optimizer",
    [
        optim.SGD(lr=0.05),
        optim.SGD(lr=0.05, momentum=0.9, nesterov=True, clip_norm=0.5),
        optim.Adam(lr=0.01, betas=(0.8, 0.99)),
        optim.AdamW(lr=0.01),
        optim.RMSprop(lr=0.01, momentum=0.5),
    ],
    ids=lambda one: type(one).__name__,
)
def test_a_run_goes_on_in_a_fresh_process_bit_for_bit(tmp_path, optimizer):
    step, X, Y = compiled(optimizer)
    rng = np.random.default_rng(9)
    losses = train(step, X, Y, rng, 4)

    first, X, Y = compiled(optimizer)
    shuffle = np.random.default_rng(9)
    half = train(first, X, Y, shuffle, 2)
    path = checkpoint.save(tmp_path / "half", Checkpoint(first.state(), optimizer, shuffle, 2, {"loss": half}))
    code = "import sys, test_checkpoint; test_checkpoint.resume(*sys.argv[1:])"
    folder = os.path.dirname(__file__)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([folder, *filter(None, sys.path)])}
    subprocess.run([sys.executable, "-c", code, path, tmp_path / "whole"], check=True, env=environment)

    whole = checkpoint.load(tmp_path / "whole")
    assert same(whole.state, step.state())
    assert whole.optimizer == optimizer
    assert whole.epoch == 4
    assert whole.history == {"loss": losses}
    assert same(whole.rng.bit_generator.state, rng.bit_generator.state)
    assert not same(whole.state, first.state())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork and SIGKILL, which Windows lacks")
def test_a_run_that_is_killed_again_and_again_ends_like_one_that_is_not():
    code = ["-c", "import runpy, sys; runpy.run_module('support.killed_runs', run_name='__main__')", "4"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *filter(None, sys.path)])}
    done = subprocess.run([sys.executable, *code], capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "4 kills" in done.stdout
    assert "a full disk: [Errno 27] File too large: " in done.stdout


def test_dropouts_go_on_too(tmp_path):
    def compiled_with(rng):
        x, tape = autograd.new_constant(autograd.new_tape(), np.ones((4, 3)))
        w, tape = autograd.new_variable(tape, np.ones((3, 2)))
        h, tape = nn.dropout(tape, x, 0.5, rng=np.random.default_rng(0))
        y, tape = autograd.matmul(tape, h, w)
        loss, tape = autograd.mean(tape, y)
        return program.compile_step(tape, loss=loss, params=w, inputs=(x,), optimizer=optim.SGD(), rng=rng)

    rng, X = np.random.default_rng(3), np.ones((4, 3))
    step = compiled_with(rng)
    step(X)
    path = checkpoint.save(tmp_path / "c", Checkpoint(step.state(), optim.SGD(), metadata={"dropout": rng}))
    kept = checkpoint.load(path)
    again = compiled_with(kept.metadata["dropout"])
    again.restore(kept.state)
    assert [again(X) for _ in range(5)] == [step(X) for _ in range(5)]


def test_without_safetensors_the_error_names_the_extra(rng, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    for call in (
        lambda: checkpoint.load(tmp_path / "c"),
        lambda: checkpoint.save(tmp_path / "c", full(rng)),
        lambda: checkpoint.save_weights(tmp_path / "c", network(rng, "float32", SIZES)[0]),
    ):
        with pytest.raises(ImportError, match=r'pip install "viva-tensor\[train\]"'):
            call()
