"""Inputs of every kind: what is converted, what is refused, and that neither changes anything."""

import array
import ctypes
import pickle

import numpy as np
import pandas as pd
import pytest

from viva_tensor import autograd, error, kernels, optim, program
from viva_tensor.error import InvalidValue
from viva_tensor.kernels.arrays import as_array

TWO = {
    "matmul": kernels.matmul,
    "add": kernels.add,
    "sub": kernels.sub,
    "mul": kernels.mul,
    "relu_backward": kernels.relu_backward,
    "mean_squared_error": kernels.mean_squared_error,
    "sgd": lambda a, b: kernels.sgd(a, b, 0.1),
    "linear": lambda a, b: kernels.linear(a, b, np.zeros(len(b), b.dtype)),
    "mul_backward": lambda a, b: kernels.mul_backward(a, a, b),
    "linear_backward": lambda a, b: kernels.linear_backward(a, b, b),
}
ONE = {
    "relu": kernels.relu,
    "sum": kernels.sum,
    "mean": kernels.mean,
    "scale": lambda x: kernels.scale(x, 2.0),
    "add_backward": lambda x: kernels.add_backward(x, ()),
    "sum_backward": lambda x: kernels.sum_backward(x, (3, 3, 3), axis=0),
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


def a_ctypes_array(a):
    kind = ctypes.c_float if a.dtype == np.float32 else ctypes.c_double
    return (kind * a.shape[1] * a.shape[0])(*map(tuple, a.tolist()))


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
        "of a dtype that tells its byte order": np.asarray(a_ctypes_array(a)),
        "unpickled": pickle.loads(pickle.dumps(a)),
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


def test_lists_of_arrays_are_read_without_a_warning(dtype):
    assert kernels.add([np.ones(2, dtype)], 1.0).tolist() == [[2, 2]]


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


def test_no_mask_of_classes_or_conditions_is_lost():
    masked = np.ma.masked_less([0, 1, 2], 1)
    with pytest.raises(error.DtypeError, match="mask"):
        kernels.cross_entropy(np.eye(3), masked)
    x, tape = autograd.new_constant(autograd.new_tape(), np.ones(3))
    with pytest.raises(error.DtypeError, match="mask"):
        autograd.where(tape, masked > 0, x, x)


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
    told = np.asarray(a_ctypes_array(np.zeros((2, 2))))
    for out in (unaligned(np.zeros((2, 2))), np.zeros((2, 2), ">f8"), np.zeros((4, 4))[::2, ::2], told):
        assert operation(a, a, out=out) is out
        assert np.array_equal(out, operation(a, a))


class OnlyDlpack:
    """What offers DLPack and nothing else."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


class OlderDlpack(OnlyDlpack):
    """What offers DLPack as it was before arrays could say that they may be written to."""

    def __dlpack__(self, stream=None):
        return self.array.__dlpack__()


class OnlyInterface:
    """What offers NumPy's array interface and nothing else."""

    def __init__(self, array):
        self.array, self.__array_interface__ = array, array.__array_interface__


class OnlyArray:
    """What offers ``__array__`` and nothing else."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array


# what other libraries hold, and the memory it lies in, made from a float32 or float64 matrix
OTHERS = {
    "memoryview": lambda a: (memoryview(a), a),
    "ctypes": lambda a: (found := a_ctypes_array(a), np.ctypeslib.as_array(found)),
    "DataFrame": lambda a: (found := pd.DataFrame(a), found.to_numpy(copy=False)),
    "DLPack": lambda a: (OnlyDlpack(a), a),
    "__array__": lambda a: (OnlyArray(a), a),
    "__array_interface__": lambda a: (OnlyInterface(a), a),
}
VECTORS = {
    "array.array": lambda a: (found := array.array(a.dtype.char, a), np.frombuffer(found, a.dtype)),
    "Series": lambda a: (found := pd.Series(a), found.to_numpy()),
}


def torch_tensor(a):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    tensor = torch.tensor(a)
    return tensor, tensor.numpy()


def jax_array(a):
    jax = pytest.importorskip("jax", reason="jax is not installed")
    with jax.enable_x64(True):
        found = jax.numpy.asarray(a)
    return found, np.from_dlpack(found)  # the memory of the runtime itself


OTHERS |= {"PyTorch": torch_tensor, "JAX": jax_array}


@pytest.mark.parametrize("kind", [*OTHERS, *VECTORS])
def test_arrays_of_other_libraries_are_read_where_they_lie(kind, dtype, rng):
    a = rng.standard_normal((3, 4) if kind in OTHERS else 5).astype(dtype)
    value, memory = (OTHERS | VECTORS)[kind](a)
    read = as_array("test", value)
    assert read.dtype == dtype
    assert np.array_equal(read, a)
    assert np.shares_memory(read, memory)


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("name", [*ONE, *TWO])
def test_arrays_of_other_libraries_give_the_same_bits(name, kind, dtype, rng):
    a = rng.standard_normal((3, 3)).astype(dtype)
    value, _ = OTHERS[kind](a.copy())
    found, wanted = (both(ONE[name](x) if name in ONE else TWO[name](x, a)) for x in (value, a))
    for one, right in zip(found, wanted, strict=True):
        assert one is right is None or (one.dtype == dtype and np.array_equal(one, right))
        assert one is None or type(one) is np.ndarray


@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_on_a_tape_does_not_change_with_its_origin(kind, dtype, rng):
    a = rng.standard_normal((3, 4)).astype(dtype)
    value, memory = OTHERS[kind](a)
    x, _ = autograd.new_constant(autograd.new_tape(), value)
    before = x.data.copy()
    if memory.flags.writeable:
        memory[...] = 7
    assert np.array_equal(x.data, before)


def test_a_read_only_view_of_what_another_library_may_write_to_is_copied(dtype):
    a = np.ones(3, dtype)
    view = np.from_dlpack(OlderDlpack(a))
    assert not view.flags.writeable
    x, _ = autograd.new_variable(autograd.new_tape(), view)
    a[...] = 7
    assert x.data.tolist() == [1, 1, 1]


@pytest.mark.parametrize("kind", OTHERS)
def test_numbers_and_lists_take_the_dtype_beside_them_whatever_it_is(kind, dtype):
    value, _ = OTHERS[kind](np.ones((2, 2), dtype))
    for found in (kernels.add(value, 1), kernels.mul([1, 2], value)):
        assert found.dtype == dtype


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda torch: torch.ones(3, requires_grad=True), r"requires grad.*; detach it first, with \.detach\(\)"),
        (lambda torch: torch.nn.Parameter(torch.ones(3)), r"Parameter.*; detach it first"),
        (lambda torch: torch.ones(3, device="meta"), r"meta.*; copy it to the memory of the CPU first, with \.cpu\(\)"),
        (lambda torch: torch.ones(3, dtype=torch.bfloat16), r"BFloat16.*with \.float\(\)"),
        (lambda torch: torch.ones(3, dtype=torch.float16), r"dtype float16 of shape \(3,\).*with \.float\(\)"),
        (lambda torch: torch.ones(3, dtype=torch.int64), r"dtype int64 of shape \(3,\).*with \.float\(\)"),
        (lambda torch: torch.ones(3).to_sparse(), "Sparse"),
    ],
)
def test_tensors_that_cannot_be_read_are_refused_with_the_mend(make, message):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    tensor = make(torch)
    for call in (
        kernels.relu,
        lambda x: kernels.add(np.ones(3, np.float32), x),
        lambda x: autograd.new_constant(autograd.new_tape(), x),
    ):
        with pytest.raises(error.DtypeError, match=message):
            call(tensor)


def test_a_bfloat16_array_of_jax_is_refused():
    jax = pytest.importorskip("jax", reason="jax is not installed")
    with pytest.raises(error.DtypeError, match=r"relu.*: dtype bfloat16 of shape \(3,\), wanted float32"):
        kernels.relu(jax.numpy.ones(3, jax.numpy.bfloat16))


@pytest.mark.parametrize("kind", OTHERS)
def test_a_compiled_pass_takes_them_too(kind, dtype, rng):
    X = rng.standard_normal((4, 3)).astype(dtype)
    x, tape = autograd.new_constant(autograd.new_tape(), -X)
    y, tape = autograd.relu(tape, x)
    predict = program.compile_forward(tape, output=y, inputs=(x,))
    assert np.array_equal(predict(OTHERS[kind](X)[0]), np.maximum(X, 0))
    assert np.array_equal(predict(X.tolist()), np.maximum(X, 0))
    other = np.float64 if dtype == np.float32 else np.float32
    for wrong in (OTHERS[kind](X.astype(other))[0], pd.DataFrame(X.astype(int)), memoryview(X.astype(int))):
        with pytest.raises(error.DtypeError, match="forward"):
            predict(wrong)


def test_a_compiled_step_takes_them_too(dtype, rng):
    X = rng.standard_normal((4, 3)).astype(dtype)
    x, tape = autograd.new_constant(autograd.new_tape(), X)
    w, tape = autograd.new_variable(tape, rng.standard_normal((3, 2)).astype(dtype))
    y, tape = autograd.matmul(tape, x, w)
    loss, tape = autograd.mean(tape, y)
    step = program.compile_step(tape, loss=loss, params=w, inputs=(x,), optimizer=optim.SGD(lr=1e-9))
    for kind in ("ctypes", "memoryview", "DataFrame"):
        assert step(OTHERS[kind](X)[0]) == pytest.approx(float(loss.data), rel=1e-6)


class Failing:
    """What promises an array and does not give one."""

    def __init__(self, reason):
        self.reason = reason

    def __array__(self, dtype=None, copy=None):
        raise self.reason


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        (pd.DataFrame({"a": [1.0], "b": ["x"]}), error.DtypeError, r"dtype object of shape \(1, 2\)"),
        (pd.DataFrame({"a": [1, 2]}), error.DtypeError, "dtype int64"),
        (pd.Series([1, 2]), error.DtypeError, "dtype int64"),
        (array.array("i", [1, 2]), error.DtypeError, "dtype int32"),
        ((ctypes.c_int * 2)(1, 2), error.DtypeError, "dtype int32"),
        (bytearray(8), error.DtypeError, "dtype uint8"),
        (memoryview(b"abcd"), error.DtypeError, "dtype uint8"),
        (OnlyDlpack(np.ones(3, np.int64)), error.DtypeError, "dtype int64"),
        (Failing(RuntimeError("on a device\nfar away")), error.DtypeError, r"this Failing \(on a device\)"),
        (Failing(BufferError("gone")), error.DtypeError, "gone"),
        (Failing(ValueError("ragged")), error.InvalidShape, "ragged"),
    ],
)
def test_other_values_that_cannot_be_read(value, kind, message):
    for call in (kernels.relu, kernels.sum, lambda x: kernels.add(x, np.ones(2)), lambda x: kernels.add(1.0, x)):
        with pytest.raises(kind, match=message):
            call(value)


@pytest.mark.parametrize("number", [1e300, -1e39, 10**400, 2**200])
def test_python_numbers_beyond_float32_are_refused(number):
    with pytest.raises(InvalidValue, match="float64"):
        as_array("add", [1.0, number])


def test_infinities_and_nan_in_lists_pass():
    assert np.isinf(as_array("add", [np.inf, -np.inf])).all()
    assert np.isnan(as_array("add", np.nan))
    assert as_array("add", [1e300], np.float64)[0] == 1e300
