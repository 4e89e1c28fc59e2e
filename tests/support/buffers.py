"""Arrays as kernels may meet them, of any strides, alignment, byte order and overlap; calls of every kernel on them."""

import inspect
import math
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from viva_tensor import kernels
from viva_tensor.error import TensorError

BYTES = 1 << 16  # of memory that the operands of a call share
MOST_ELEMENTS = 5000  # elements of an operand
SIZES = st.sampled_from([0, 1, 1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 33])
SHAPES = st.lists(SIZES, max_size=4).map(tuple).filter(lambda shape: np.prod(shape, dtype=int) <= 1500)
LARGE = st.sampled_from([(1, 700), (700, 1), (40, 35), (1000,), (3, 17, 20)])
OTHER_DTYPES = ["f2", "i4", "i8", "u1", "?", "c8", "g", "V4", "O", "M8[s]"]
FACTORS = st.sampled_from([0.5, -1.0, 2.0, 0.0, 3.0])


class Foreign(NamedTuple):
    """What offers one protocol and nothing else."""

    array: np.ndarray

    def __iter__(self):
        raise TypeError

    __len__ = __getitem__ = None


class OfArray(Foreign):
    def __array__(self, dtype=None, copy=None):
        return self.array


class OfDlpack(Foreign):
    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


class Own(np.ndarray):
    """A subclass without a meaning of its own."""


WRAPPED = {
    "array": lambda a: a,
    "memoryview": memoryview,
    "__array__": OfArray,
    "DLPack": OfDlpack,
    "subclass": lambda a: a.view(Own),
}


def shape_of(value):
    return value.array.shape if isinstance(value, Foreign) else value.shape


# How the shapes of a kernel's operands belong together, as strategies of a tuple of shapes.
def alike(count):
    return (SHAPES | LARGE).map(lambda shape: (shape,) * count)


@st.composite
def broadcastable(draw, gradient=False):
    whole = draw(SHAPES | LARGE)
    a, b = whole, whole
    if draw(st.booleans()):
        short = whole[draw(st.integers(0, len(whole))) :]
        b = tuple(1 if draw(st.integers(0, 3)) == 0 else size for size in short)
    if draw(st.booleans()):
        a, b = b, a
    try:
        return (np.broadcast_shapes(a, b), a, b) if gradient else (a, b)
    except ValueError:
        return (whole, a, b) if gradient else (a, b)


@st.composite
def lettered(draw, *names):
    sizes = {letter: draw(SIZES | st.sampled_from([40, 70])) for letter in sorted(set("".join(names)))}
    if "k" in sizes:
        sizes["k"] = draw(st.just(sizes["k"]) | st.sampled_from([260, 600, 1100]))  # of several chunks
    shapes = tuple(tuple(sizes[letter] for letter in name) for name in names)
    return shapes if max(map(math.prod, shapes)) < MOST_ELEMENTS else tuple((1,) * len(name) for name in names)


def _places(weights):
    """An index for each weight, of the first two rows of a table."""
    return np.arange(math.prod(shape_of(weights))).reshape(shape_of(weights)) % 2


class Kernel(NamedTuple):
    call: Any
    shapes: Any
    options: Any = st.just({})
    out: bool = False


def kernel(name, shapes, call=None, **options):
    function = getattr(kernels, name)
    drawn = st.fixed_dictionaries(options)
    return Kernel(call or function, shapes, drawn, call is None and "out" in inspect.signature(function).parameters)


ONE, TWO, PAIRS, GRADED = alike(1), alike(2), broadcastable(), broadcastable(gradient=True)
SEEDS, RATES = st.integers(0, (1 << 64) - 1), st.sampled_from([0.0, 0.3, 0.9])
SLOPES = st.sampled_from([0.01, 0.5])
PLACES = st.lists(st.integers(-2, 1), max_size=4).map(lambda places: np.array(places, int))
AXES = st.none() | st.integers(-2, 2)
KERNELS = {
    **{name: kernel(name, PAIRS) for name in ("add", "sub", "mul", "div", "maximum", "minimum")},
    **{name: kernel(name, PAIRS) for name in ("less", "less_equal", "greater", "equal", "chosen", "rejected")},
    "maximum_slope": kernel("maximum_slope", PAIRS),
    **{name: kernel(name, ONE) for name in ("sin", "cos", "sign", "elu", "log_cosh")},
    **{f"{name}_backward": kernel(f"{name}_backward", TWO) for name in ("sin", "cos", "elu", "log_cosh")},
    **{name: kernel(name, ONE, bound=FACTORS) for name in ("at_least", "at_most")},
    **{f"{name}_backward": kernel(f"{name}_backward", TWO, bound=FACTORS) for name in ("at_least", "at_most")},
    **{name: kernel(name, GRADED) for name in ("mul_backward", "div_backward", "maximum_backward")},
    **{name: kernel(name, ONE) for name in ("abs", "sqrt", "exp", "log", "erf", "relu", "sigmoid", "tanh", "softplus")},
    **{name: kernel(name, ONE) for name in ("silu", "mish", "gelu", "softmax", "log_softmax", "normalize", "huber")},
    **{
        f"{name}_backward": kernel(f"{name}_backward", TWO)
        for name in ("abs", "sqrt", "exp", "log", "erf", "relu", "sigmoid", "tanh", "softplus", "silu", "gelu", "huber")
    },
    "mish_backward": kernel("mish_backward", TWO),
    **{f"{name}_backward": kernel(f"{name}_backward", TWO) for name in ("softmax", "log_softmax", "normalize")},
    "add_backward": kernel(
        "add_backward", GRADED, lambda grad, a, b: [kernels.add_backward(grad, shape_of(one)) for one in (a, b)]
    ),
    "sub_backward": kernel(
        "sub_backward", GRADED, lambda grad, a, b: kernels.sub_backward(grad, shape_of(a), shape_of(b))
    ),
    "scale": kernel("scale", ONE, factor=FACTORS),
    "pow": kernel("pow", ONE, exponent=FACTORS),
    "pow_backward": kernel("pow_backward", TWO, exponent=FACTORS),
    "leaky_relu": kernel("leaky_relu", ONE, slope=SLOPES),
    "leaky_relu_backward": kernel("leaky_relu_backward", TWO, slope=SLOPES),
    "max": kernel("max", ONE, axis=AXES, keepdims=st.booleans()),
    "min": kernel("min", ONE, axis=AXES, keepdims=st.booleans()),
    "cumsum": kernel("cumsum", ONE, axis=st.integers(-2, 2)),
    "cumsum_backward": kernel("cumsum_backward", ONE, axis=st.integers(-2, 2)),
    "take": kernel("take", ONE, indices=PLACES, axis=st.integers(-2, 2)),
    "take_backward": kernel(
        "take_backward",
        lettered("bc", "ac"),
        lambda grad, x: kernels.take_backward(grad, x, np.arange(math.prod(shape_of(grad)[:1])) % 2),
    ),
    "embedding_bag": kernel(
        "embedding_bag",
        lettered("ab", "cd"),
        lambda table, weights: kernels.embedding_bag(table, _places(weights), weights),
    ),
    "embedding_bag_backward": kernel(
        "embedding_bag_backward",
        lettered("cb", "ab", "cd"),
        lambda grad, table, weights: kernels.embedding_bag_backward(grad, table, _places(weights), weights),
    ),
    "dropout": kernel("dropout", ONE, rate=RATES, seed=SEEDS),
    "dropout_backward": kernel("dropout_backward", ONE, rate=RATES, seed=SEEDS),
    "sum": kernel("sum", ONE, axis=AXES, keepdims=st.booleans()),
    "sum_of_squares": kernel("sum_of_squares", ONE),
    "sum_of_squares_backward": kernel("sum_of_squares_backward", ONE.map(lambda shapes: ((), *shapes))),
    "mean": kernel("mean", ONE, axis=AXES, keepdims=st.booleans()),
    "sum_backward": kernel("sum_backward", lettered("ac", "abc"), lambda g, x: kernels.sum_backward(g, shape_of(x), 1)),
    "mean_backward": kernel(
        "mean_backward", lettered("a", "ab"), lambda g, x: kernels.mean_backward(g, shape_of(x), -1)
    ),
    "mean_squared_error": kernel("mean_squared_error", TWO),
    "mean_squared_error_backward": kernel(
        "mean_squared_error_backward", TWO.map(lambda shapes: ((), *shapes))
    ),
    "binary_cross_entropy": kernel("binary_cross_entropy", TWO),
    "binary_cross_entropy_backward": kernel("binary_cross_entropy_backward", alike(3)),
    "cross_entropy": kernel("cross_entropy", lettered("rc", "r") | lettered("rc", "rc")),
    "cross_entropy_backward": kernel("cross_entropy_backward", lettered("r", "rc", "r") | lettered("r", "rc", "rc")),
    "matmul": kernel("matmul", lettered("mk", "kn")),
    "matmul_backward": kernel("matmul_backward", lettered("mn", "mk", "kn")),
    "linear": kernel("linear", lettered("bi", "oi", "o")),
    "linear_backward": kernel("linear_backward", lettered("bo", "bi", "oi")),
    "norm": kernel("norm", TWO, lambda *arrays: kernels.norm(arrays)),
    "sgd": kernel(
        "sgd", alike(3), lambda w, g, v, **o: (*kernels.sgd(w, g, 0.1), *kernels.sgd(w, g, 0.1, 0.9, v, **o)),
        nesterov=st.booleans(),
    ),
    "adam": kernel("adam", alike(4), step=st.integers(1, 9), lr=st.just(0.1), decoupled=st.booleans()),
    "lion": kernel("lion", alike(3), lambda w, g, m: kernels.lion(w, g, m, 0.1)),
    "rmsprop": kernel(
        "rmsprop", alike(4), lambda w, g, s, v: kernels.rmsprop(w, g, s, 0.1, momentum=0.5, velocity=v)
    ),
}  # fmt: skip


class Operand(NamedTuple):
    given: Any  # to the kernel
    array: np.ndarray  # the same, as an array
    odd: int  # how many unusual things are about it
    placed: bool = True  # in the memory of the call

    def __repr__(self):
        return f"{type(self.given).__name__} of {described(self.array)}"


def described(array):
    flags = [name for name in ("writeable", "aligned") if not getattr(array.flags, name)]
    return f"{array.dtype.str} {array.shape}, strides {array.strides}" + "".join(f", not {name}" for name in flags)


def filled(draw, dtype, kinds=("normal", "normal", "unit", "classes", "special")):
    """Memory of numbers of one kind, which odd strides cut into others."""
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    count = BYTES // dtype.itemsize
    values = {
        "normal": lambda: rng.standard_normal(count),
        "unit": lambda: rng.random(count),
        "ones": lambda: np.ones(count),
        "classes": lambda: rng.integers(0, 2, count),
        "special": lambda: rng.choice([0.0, -0.0, 1.0, np.inf, -np.inf, np.nan, 5e-324, 1e-40, 3e38], count),
    }[draw(st.sampled_from(kinds))]()
    with np.errstate(over="ignore", under="ignore"):
        return values.astype(dtype).view(np.uint8)


def laid(draw, shape, dtype, memory, overlapping=True):
    """An array of this shape somewhere in the memory, and how odd it is."""
    order = list(draw(st.permutations(range(len(shape)))) if draw(st.booleans()) else range(len(shape)))
    strides, step, odd = [0] * len(shape), dtype.itemsize, order != sorted(order)
    if draw(st.integers(0, 5)) == 0:
        step, odd = step + draw(st.integers(1, 9)), odd + 1  # as of a field of a record
    for axis in reversed(order):
        strides[axis] = step
        way = draw(st.sampled_from(["plain"] * 6 + ["back", "gaps", "none", "overlap", "odd", "huge"]))
        odd += way != "plain"
        if way == "back":
            strides[axis] = -step
        elif way == "gaps":
            strides[axis] = step * draw(st.integers(2, 3))
        elif way == "none" and overlapping:
            strides[axis] = 0
        elif way == "overlap" and overlapping:
            strides[axis] = dtype.itemsize * draw(st.integers(1, 2))
        elif way == "odd":
            strides[axis] = step + draw(st.integers(1, 7))
        elif way == "huge" and shape[axis] <= 1:
            strides[axis] = draw(st.sampled_from([1, -1, 3, 1 << 40, -(1 << 62) + 1, (1 << 63) - 1]))
        step = max(step, abs(strides[axis]) * max(shape[axis], 1) if shape[axis] > 1 else 0)
    reach = [(size - 1) * stride for size, stride in zip(shape, strides, strict=True) if size > 1]
    if 0 in shape:
        reach = []
    low, high = -sum(one for one in reach if one < 0), sum(one for one in reach if one > 0) + dtype.itemsize
    if low + high + 16 > BYTES:
        strides, low, high = np.empty(shape, dtype).strides, 0, dtype.itemsize * int(np.prod(shape, dtype=int))
    start = low + draw(st.integers(0, (BYTES - low - high) // 8)) * 8
    shift = draw(st.sampled_from([0] * 6 + [1, 2, 4, 6]))
    start, odd = (start + shift, odd + 1) if shift and start + shift + high <= BYTES else (start, odd)
    base = np.ndarray((), dtype, memory, start)
    return np.lib.stride_tricks.as_strided(base, shape, strides), int(odd)


@st.composite
def operands(draw, shape, dtype, memory):
    """One operand."""
    odd = 0
    if draw(st.integers(0, 7)) == 0:
        dtype, odd = dtype.newbyteorder(), 1
    array, more = laid(draw, shape, dtype, memory)
    odd += more
    if draw(st.integers(0, 7)) == 0:
        array.flags.writeable = False
    if draw(st.integers(0, 40)) == 0:
        foreign = np.zeros(shape, draw(st.sampled_from(OTHER_DTYPES)))
        return Operand(foreign, foreign, odd, placed=False)
    wrap = WRAPPED[draw(st.sampled_from(["array"] * 6 + list(WRAPPED)))]
    return Operand(wrap(array), array, odd + (wrap is not WRAPPED["array"]))


@st.composite
def calls(draw, name):
    """A kernel's operands, its options, memory, and perhaps an output."""
    known = KERNELS[name]
    dtype = np.dtype(draw(st.sampled_from(["f4", "f8"])))
    memory = filled(draw, dtype, *([("unit", "classes", "ones")] if "cross_entropy" in name else []))
    shapes = list(draw(known.shapes))
    if draw(st.integers(0, 20)) == 0:
        shapes[draw(st.integers(0, len(shapes) - 1))] = draw(SHAPES)
    given = [draw(operands(shape, dtype, memory)) for shape in shapes]
    return Call(name, given, draw(known.options), memory, dtype, draw(st.booleans()) and known.out)


class Call(NamedTuple):
    name: str
    operands: list
    options: dict
    memory: np.ndarray
    dtype: np.dtype
    wants_out: bool

    def __repr__(self):
        return f"{self.name}({self.operands}, {self.options})"


def results(found):
    """What a kernel returned, as arrays."""
    return [np.asarray(one) for one in (found if isinstance(found, (tuple, list)) else (found,)) if one is not None]


def same_bits(a, b):
    """Equal in dtype, shape and bits; one NaN is as good as another."""
    if a.dtype.newbyteorder("=") != b.dtype.newbyteorder("=") or a.shape != b.shape:
        return False
    a, b = (one.astype(one.dtype.newbyteorder("="), order="C", copy=True) for one in (a, b))
    bits = f"u{a.itemsize}"
    return bool(
        ((a.reshape(-1).view(bits) == b.reshape(-1).view(bits)) | (np.isnan(a) & np.isnan(b)).reshape(-1)).all()
    )


def outputs(draw, call, result):
    """An output for a result and the memory it lies in: a good one, somewhere, or one that has to be refused."""
    memory = call.memory if draw(st.booleans()) else filled(draw, call.dtype)
    way = draw(st.sampled_from(["fit"] * 8 + ["operand", "shape", "dtype", "list", "read-only", "subclass"]))
    dtype = call.dtype.newbyteorder() if draw(st.integers(0, 7)) == 0 else call.dtype
    shape = draw(SHAPES) if way == "shape" else result.shape
    out, _ = laid(draw, shape, dtype, memory, overlapping=draw(st.integers(0, 3)) == 0)
    if way == "operand":
        operand = call.operands[draw(st.integers(0, len(call.operands) - 1))]
        out, memory = operand.array, call.memory if operand.placed else operand.array.reshape(-1).view(np.uint8)
    elif way == "dtype":
        out = np.zeros(result.shape, draw(st.sampled_from(["f2", "i4", "f4", "f8"])))
        memory = out.reshape(-1).view(np.uint8)
    elif way == "list":
        out = result.tolist()
    elif way == "read-only":
        out.flags.writeable = False
    elif way == "subclass":
        out = out.view(Own)
    return out, memory


def places(array, memory):
    """Where in the memory each element of an array begins."""
    found = np.full(array.shape, array.ctypes.data - memory.ctypes.data)
    for axis, (size, stride) in enumerate(zip(array.shape, array.strides, strict=True)):
        if size > 1:
            found += (np.arange(size) * stride).reshape([-1 if i == axis else 1 for i in range(array.ndim)])
    return np.sort(found, axis=None)


def check(call, draw):
    """Compare with the same call on contiguous copies: "right" or "refused", else an AssertionError."""
    function = KERNELS[call.name].call
    plain = [one.array.astype(one.array.dtype.newbyteorder("="), order="C", copy=True) for one in call.operands]
    before = call.memory.copy()
    try:
        wanted = results(function(*plain, **call.options))
    except TensorError:
        wanted = None
    out, memory, options, overlaps, may_refuse = None, call.memory, call.options, False, wanted is None
    if call.wants_out and wanted is not None and wanted[0].nbytes < BYTES // 4:
        out, memory = outputs(draw, call, wanted[0])
        options = {**call.options, "out": out}
        fits = isinstance(out, np.ndarray) and out.shape == wanted[0].shape and out.flags.writeable
        fits = fits and out.dtype.newbyteorder("=") == wanted[0].dtype
        overlaps = fits and out.size > 0 and bool((np.diff(places(out, memory)) < out.itemsize).any())
        may_refuse = not fits or overlaps
    memory_before = memory.copy()
    try:
        found = function(*[operand.given for operand in call.operands], **options)
    except TensorError:
        unusual = any(isinstance(one.given, OfDlpack) for one in call.operands)
        assert may_refuse or unusual, f"{call} refused without a reason"
        assert np.array_equal(call.memory, before)
        assert np.array_equal(memory, memory_before)
        return "refused"
    assert not may_refuse, f"{call} taken, though plain arrays are refused, or the output cannot hold the result"
    if out is None:
        found = results(found)
        assert len(found) == len(wanted)
        assert all(map(same_bits, found, wanted))
        assert np.array_equal(call.memory, before)
        return "right"
    assert found is out
    assert same_bits(np.asarray(out), wanted[0])
    if memory is not call.memory:
        assert np.array_equal(call.memory, before)
    free = np.ones(len(memory), bool)
    free[(places(out, memory)[:, None] + np.arange(out.itemsize)).reshape(-1)] = False
    assert np.array_equal(memory[free], memory_before[free])
    return "right"
