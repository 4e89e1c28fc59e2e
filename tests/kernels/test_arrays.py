"""Inputs of every kind: what is converted, what is refused, and that neither changes anything."""

import numpy as np
import pytest

from viva_tensor import error, kernels

TWO = {
    "matmul": kernels.matmul,
    "add": kernels.add,
    "sub": kernels.sub,
    "mul": kernels.mul,
    "relu_backward": kernels.relu_backward,
    "mean_squared_error": kernels.mean_squared_error,
    "sgd": lambda a, b: kernels.sgd(a, b, 0.1),
    "linear": lambda a, b: kernels.linear(a, b, np.zeros(len(b), getattr(a, "dtype", None))),
    "mul_backward": lambda a, b: kernels.mul_backward(a, a, b),
    "linear_backward": lambda a, b: kernels.linear_backward(a, b, b),
}
ONE = {
    "relu": kernels.relu,
    "sum": kernels.sum,
    "mean": kernels.mean,
    "scale": lambda x: kernels.scale(x, 2.0),
    "add_backward": lambda x: kernels.add_backward(x, ()),
    "sum_backward": lambda x: kernels.sum_backward(x, (3, *np.shape(x)), axis=0),
}
REFUSED = [
    "int64",
    "int8",
    "uint8",
    "bool",
    "complex64",
    "complex128",
    "float16",
    "object",
    "U3",
    "datetime64[s]",
    "longdouble",
    "V0",
]


def both(result):
    return result if isinstance(result, tuple) else (result,)


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("name", [*ONE, *TWO])
def test_other_dtypes_are_refused_with_the_operation_and_a_mend(name, kind):
    bad = np.zeros((3, 3), kind)
    good = np.ones((3, 3))
    calls = [lambda: ONE[name](bad)] if name in ONE else [lambda: TWO[name](bad, good), lambda: TWO[name](good, bad)]
    for call in calls:
        with pytest.raises(error.DtypeError, match=rf"{name}.*\(3, 3\).*astype"):
            call()


@pytest.mark.parametrize("name", TWO)
def test_mixed_dtypes_are_refused_with_both_shapes(name):
    a, b = np.ones((3, 3), "f4"), np.ones((3, 3), "f8")
    for x, y in ((a, b), (b, a)):
        with pytest.raises(
            error.DtypeError, match=r"\(3, 3\) and float(32|64) \(3, 3\)|float(32|64) \(3, 3\) and"
        ) as caught:
            TWO[name](x, y)
        assert isinstance(caught.value, TypeError)


def unaligned(array):
    raw = np.zeros(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
    raw[...] = array
    assert not raw.flags.aligned
    return raw


def frozen(array):
    array = array.copy()
    array.setflags(write=False)
    return array


def mapped(array, tmp_path):
    target = np.memmap(tmp_path / f"{array.shape}.bin", array.dtype, "w+", shape=array.shape)
    target[...] = array
    target.flush()
    return np.memmap(tmp_path / f"{array.shape}.bin", array.dtype, "r", shape=array.shape)


@pytest.mark.parametrize("name", [*ONE, *TWO])
def test_arrays_of_every_kind_give_the_same_bits_and_stay_as_they_were(name, dtype, rng, tmp_path):
    a = rng.standard_normal((3, 3)).astype(dtype)
    call = (lambda x: both(ONE[name](x))) if name in ONE else (lambda x: both(TWO[name](x, x)))
    wanted = call(a)
    kinds = {
        "fortran": np.asfortranarray(a),
        "reversed": np.ascontiguousarray(a[::-1, ::-1])[::-1, ::-1],
        "strided": np.repeat(a, 2, 1)[:, ::2],
        "read-only": frozen(a),
        "unaligned": unaligned(a),
        "big-endian": a.astype(a.dtype.newbyteorder(">")),
        "memory-mapped": mapped(a, tmp_path),
        "matrix of a subclass": a.view(type("Own", (np.ndarray,), {})),
    }
    for kind, x in kinds.items():
        before = x.tobytes()
        for found, right in zip(call(x), wanted, strict=True):
            assert found is right is None or np.array_equal(found, right), kind
            assert found is None or found.dtype == dtype, kind
        assert x.tobytes() == before, kind


def test_numbers_and_lists_become_float32_or_the_dtype_beside_them():
    assert kernels.add([1, 2], 3).dtype == np.float32
    assert kernels.add(np.ones(2), [1, 2]).dtype == np.float64
    assert kernels.mul(np.float64(2), np.ones(3)).dtype == np.float64
    assert kernels.relu(memoryview(np.ones(3))).dtype == np.float64


@pytest.mark.parametrize("bad", [None, "abc", ["a"], [1, None], [True, False], 1j, {1: 2}, object(), b"abcd"])
def test_what_is_no_number_is_refused(bad):
    for call in (kernels.relu, kernels.sum, lambda x: kernels.add(x, 1.0), lambda x: kernels.add(np.ones(2), x)):
        with pytest.raises(error.DtypeError):
            call(bad)


def test_ragged_lists_and_masked_arrays_are_refused():
    with pytest.raises(error.InvalidShape, match="relu"):
        kernels.relu([[1.0, 2.0], [3.0]])
    with pytest.raises(error.DtypeError, match="mask"):
        kernels.relu(np.ma.array([1.0, 2.0], mask=[True, False]))


@pytest.mark.parametrize("name", [*ONE, *TWO])
def test_no_mask_is_lost_on_the_fast_path(name, dtype):
    masked = np.ma.masked_less(np.ones((3, 3), dtype), 2)
    with pytest.raises(error.DtypeError, match="mask"):
        ONE[name](masked) if name in ONE else TWO[name](masked, masked)


@pytest.mark.parametrize("operation", [kernels.add, kernels.matmul])
def test_bad_outputs_are_refused_and_untouched(operation):
    a = np.ones((2, 2))
    read_only = frozen(np.zeros((2, 2)))
    with pytest.raises(error.InvalidValue, match="read-only"):
        operation(a, a, out=read_only)
    assert not read_only.any()
    for out in (np.zeros((2, 2), "f4"), np.zeros((2, 2), "i8"), [[0.0, 0.0], [0.0, 0.0]], 1.0):
        with pytest.raises(error.DtypeError, match="out"):
            operation(a, a, out=out)
    for out in (np.zeros((2, 3)), np.zeros((1, 2, 2)), np.zeros(2)):
        with pytest.raises(error.ShapeMismatch):
            operation(a, a, out=out)
        assert not out.any()


@pytest.mark.parametrize("operation", [kernels.add, kernels.matmul])
def test_outputs_that_are_no_plain_memory_are_filled_by_copy(operation):
    a = np.arange(4.0).reshape(2, 2)
    for out in (unaligned(np.zeros((2, 2))), np.zeros((2, 2), ">f8"), np.zeros((4, 4))[::2, ::2]):
        assert operation(a, a, out=out) is out
        assert np.array_equal(out, operation(a, a))
