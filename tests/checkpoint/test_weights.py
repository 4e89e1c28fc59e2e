"""Weights in files: here and back, from and to PyTorch, and what is refused."""

import os

import numpy as np
import pytest
import safetensors.numpy
from support.checkpoints import SIZES, arrays, same
from support.networks import network

from viva_tensor import autograd, checkpoint, error, nn
from viva_tensor.checkpoint.storage import packed_checksum
from viva_tensor.checkpoint.weights import packed_weights


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

    def test_names_are_judged_before_dtypes(self, tmp_path):
        tensors = {
            "0.weight": np.ones((2, 3), "f4"),
            "0.bias": np.ones(2, "f4"),
            "1.num_batches_tracked": np.array([5]),
        }
        safetensors.numpy.save_file(tensors, tmp_path / "model")
        with pytest.raises(
            error.InvalidFile, match=r"the name '1\.num_batches_tracked' is not like .*; save the state_dict"
        ):
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

    def test_a_checksum_is_asked_of_a_path_alone(self, rng, tmp_path):
        path = checkpoint.save_weights(tmp_path / "model", network(rng, "float32", SIZES)[0])
        assert packed_checksum(path.read_bytes()) == checkpoint.checksum(path)
        for content in (b"nonsense", path.read_bytes()):
            with pytest.raises(error.InvalidValue, match="checksum: the path is b'"):
                checkpoint.checksum(content)

    def test_what_asks_for_the_content_is_named(self, rng):
        with pytest.raises(error.InvalidValue, match=r"^save: there are no layers"):
            packed_weights("save", [])
