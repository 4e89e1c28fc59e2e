"""The cases of the speed gate (gate.py): each core of the kernels, and each path of tape and program, in a call of some
microseconds.

A case names the core, or the path, that it stands for, and others that do much of its work: when one of these is
slower, no more need be said about the case.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from viva_tensor import autograd, kernels, nn, optim, program
from viva_tensor.kernels import elementwise

from .common import Benchmark, Function
from .tape import chain
from .workloads import CompiledStep, TapeStep, Workload, problem

SHAPE = 64, 384


@dataclass(frozen=True)
class Case:
    """A call to time: what it stands for, what else it rests on, and how it is made of a seeded generator."""

    core: str
    make: Callable[[np.random.Generator], Function]
    rests_on: frozenset[str] = frozenset()
    threads: int = 1


@dataclass(frozen=True)
class Arrays:
    """Operands of kernels: numbers between ¼ and 1¼ or ⅕ and 1, a row, a column, classes, a place for results."""

    x: np.ndarray
    y: np.ndarray
    shares: np.ndarray
    row: np.ndarray
    column: np.ndarray
    classes: np.ndarray
    out: np.ndarray


def _apart(array: np.ndarray, number: int) -> np.ndarray:
    """Return a copy that begins on a cache line, and for each number at another place in its page.

    Otherwise the same code would differ by a half between processes.
    """
    page, line = 4096, 64
    memory = np.empty(array.nbytes + 2 * page, np.uint8)
    start = -memory.ctypes.data % page + number * 21 * line % page
    placed = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    placed[...] = array
    return placed


def _floats(rng: np.random.Generator, *shape: int, dtype: str = "float32") -> np.ndarray:
    return rng.random(shape, dtype=np.dtype(dtype)) + np.dtype(dtype).type(0.25)


def _on_arrays(call: Callable[[Arrays], object], dtype: str) -> Callable[[np.random.Generator], Function]:
    def make(rng: np.random.Generator) -> Function:
        x, y = (_floats(rng, *SHAPE, dtype=dtype) for _ in range(2))
        classes = np.arange(SHAPE[0], dtype=dtype) % SHAPE[1]
        arrays = x, y, y / y.dtype.type(1.25), x[0], x[:, :1], classes, x
        return partial(call, Arrays(*(_apart(array, number) for number, array in enumerate(arrays))))

    return make


def _bags(at: Arrays) -> tuple[np.ndarray, np.ndarray]:
    """Return indices and weights of four rows for each of sixteen."""
    return at.classes.reshape(16, 4), at.shares[0, :64].reshape(16, 4)


ELEMENTS: dict[str, Callable[[Arrays], object]] = {
    "add": lambda at: kernels.add(at.x, at.y, out=at.out),
    "sub": lambda at: kernels.sub(at.x, at.y, out=at.out),
    "mul": lambda at: kernels.mul(at.x, at.y, out=at.out),
    "div": lambda at: kernels.div(at.x, at.y, out=at.out),
    "chain_mul": lambda at: elementwise.chain_mul(at.x, at.y),
    "chain_div": lambda at: elementwise.chain_div(at.x, at.y),
    "scale": lambda at: kernels.scale(at.x, 0.5, out=at.out),
    "maximum": lambda at: kernels.maximum(at.x, at.y, out=at.out),
    "greater": lambda at: kernels.maximum_slope(at.x, at.y, out=at.out),
    "less": lambda at: kernels.less(at.x, at.y, out=at.out),
    "less_equal": lambda at: kernels.less_equal(at.x, at.y, out=at.out),
    "equal": lambda at: kernels.equal(at.x, at.y, out=at.out),
    "minimum": lambda at: kernels.minimum(at.x, at.y, out=at.out),
    "chosen": lambda at: kernels.chosen(at.x, at.y, out=at.out),
    "rejected": lambda at: kernels.rejected(at.x, at.y, out=at.out),
    "at_least": lambda at: kernels.at_least(at.x, 0.5, out=at.out),
    "at_least_backward": lambda at: kernels.at_least_backward(at.x, at.y, 0.5, out=at.out),
    "at_most": lambda at: kernels.at_most(at.x, 0.5, out=at.out),
    "at_most_backward": lambda at: kernels.at_most_backward(at.x, at.y, 0.5, out=at.out),
    "sign": lambda at: kernels.sign(at.x, out=at.out),
    "sin": lambda at: kernels.sin(at.x, out=at.out),
    "cos": lambda at: kernels.cos(at.x, out=at.out),
    "abs": lambda at: kernels.abs(at.x, out=at.out),
    "abs_backward": lambda at: kernels.abs_backward(at.x, at.y, out=at.out),
    "sqrt": lambda at: kernels.sqrt(at.x, out=at.out),
    "exp": lambda at: kernels.exp(at.x, out=at.out),
    "log": lambda at: kernels.log(at.x, out=at.out),
    "pow": lambda at: kernels.pow(at.x, 1.5, out=at.out),
    "erf": lambda at: kernels.erf(at.x, out=at.out),
    "erf_backward": lambda at: kernels.erf_backward(at.x, at.y, out=at.out),
    "relu": lambda at: kernels.relu(at.x, out=at.out),
    "relu_backward": lambda at: kernels.relu_backward(at.x, at.y, out=at.out),
    "leaky_relu": lambda at: kernels.leaky_relu(at.x, out=at.out),
    "leaky_relu_backward": lambda at: kernels.leaky_relu_backward(at.x, at.y, out=at.out),
    "sigmoid": lambda at: kernels.sigmoid(at.x, out=at.out),
    "sigmoid_backward": lambda at: kernels.sigmoid_backward(at.x, at.y, out=at.out),
    "tanh": lambda at: kernels.tanh(at.x, out=at.out),
    "tanh_backward": lambda at: kernels.tanh_backward(at.x, at.y, out=at.out),
    "softplus": lambda at: kernels.softplus(at.x, out=at.out),
    "softplus_backward": lambda at: kernels.softplus_backward(at.x, at.y, out=at.out),
    "silu": lambda at: kernels.silu(at.x, out=at.out),
    "silu_backward": lambda at: kernels.silu_backward(at.x, at.y, out=at.out),
    "mish": lambda at: kernels.mish(at.x, out=at.out),
    "mish_backward": lambda at: kernels.mish_backward(at.x, at.y, out=at.out),
    "gelu": lambda at: kernels.gelu(at.x, out=at.out),
    "gelu_backward": lambda at: kernels.gelu_backward(at.x, at.y, out=at.out),
    "gelu_tanh": lambda at: kernels.gelu(at.x, "tanh", out=at.out),
    "gelu_tanh_backward": lambda at: kernels.gelu_backward(at.x, at.y, "tanh", out=at.out),
    "elu": lambda at: kernels.elu(at.x, out=at.out),
    "elu_backward": lambda at: kernels.elu_backward(at.x, at.y, out=at.out),
    "log_cosh": lambda at: kernels.log_cosh(at.x),
    "huber": lambda at: kernels.huber(at.x),
    "huber_backward": lambda at: kernels.huber_backward(at.x, at.y),
    "binary_cross_entropy": lambda at: kernels.binary_cross_entropy(at.x, at.shares),
}
ROWS: dict[str, Callable[[Arrays], object]] = {
    "softmax": lambda at: kernels.softmax(at.x),
    "softmax_backward": lambda at: kernels.softmax_backward(at.x, at.y),
    "log_softmax": lambda at: kernels.log_softmax(at.x),
    "log_softmax_backward": lambda at: kernels.log_softmax_backward(at.x, at.y),
    "cross_entropy": lambda at: kernels.cross_entropy(at.x, at.classes),
    "cross_entropy_backward": lambda at: kernels.cross_entropy_backward(at.column[:, 0], at.x, at.classes),
    "normalize": lambda at: kernels.normalize(at.x),
    "normalize_backward": lambda at: kernels.normalize_backward(at.x, at.y),
}
OTHERS: dict[str, tuple[str, Callable[[Arrays], object]]] = {
    "a row added": ("add", lambda at: kernels.add(at.x, at.row, out=at.out)),
    "a column added": ("add", lambda at: kernels.add(at.x, at.column, out=at.out)),
    "a transpose added": ("add", lambda at: kernels.add(at.x.T, at.y.T)),
    "sum": ("sum", lambda at: kernels.sum(at.x)),
    "sum down": ("sum", lambda at: kernels.sum(at.x, axis=0)),
    "sum along": ("sum", lambda at: kernels.sum(at.x, axis=1)),
    "squared error": ("squared_error", lambda at: kernels.mean_squared_error(at.x, at.y)),
    "squared error backward": ("squared_error", lambda at: kernels.mean_squared_error_backward(1.0, at.x, at.y)),
    "norm": ("squared_norm", lambda at: kernels.norm((at.x,))),
    "dropout": ("dropout", lambda at: kernels.dropout(at.x, 0.5, 1)),
    "sgd": ("update descent", lambda at: kernels.sgd(at.x, at.y, 0.01)),
    "momentum": ("update descent", lambda at: kernels.sgd(at.x, at.y, 0.01, 0.9, at.y)),
    "adam": ("update adam", lambda at: kernels.adam(at.x, at.y, at.y, at.y, 10, 0.001)),
    "rmsprop": ("update rmsprop", lambda at: kernels.rmsprop(at.x, at.y, at.y, 0.01)),
    "lion": ("update lion", lambda at: kernels.lion(at.x, at.y, at.y, 0.001)),
    "largest along an axis": ("along", lambda at: kernels.max(at.x, axis=1)),
    "running sums": ("along", lambda at: kernels.cumsum(at.x, axis=0)),
    "take": ("take", lambda at: kernels.take(at.x, at.classes)),
    "take backward": ("take_backward", lambda at: kernels.take_backward(at.y, at.x, at.classes)),
    "embedding bag": ("embedding_bag", lambda at: kernels.embedding_bag(at.x, *_bags(at))),
    "embedding bag backward": (
        "embedding_bag_backward",
        lambda at: kernels.embedding_bag_backward(at.y[:16], at.x, *_bags(at)),
    ),
}
# name: (path, rows, depth, columns, a transposed, b transposed)
PRODUCTS = {
    "no depth": ("no_depth", 256, 0, 256, False, False),
    "8³": ("row_by_row", 8, 8, 8, False, False),
    "outer": ("shallow", 256, 1, 256, False, False),
    "few outputs": ("deep", 1, 20000, 1, False, False),
    "few rows": ("rows_beside", 4, 512, 512, False, False),
    "few rows, transposed": ("rows_across", 4, 512, 512, False, True),
    "256³": ("packed", 256, 256, 256, False, False),
    "256³, a transposed": ("packed", 256, 256, 256, True, False),
    "256³, b transposed": ("packed", 256, 256, 256, False, True),
    "narrow": ("strided", 256, 256, 64, False, False),
    "few steps": ("shallow", 512, 8, 512, False, False),
    "small depth": ("packed", 512, 24, 512, False, False),
}


def _product(
    rows: int, depth: int, columns: int, a_turned: bool, b_turned: bool, dtype: str, rng: np.random.Generator
) -> Function:
    a, b = _floats(rng, rows, depth, dtype=dtype), _floats(rng, depth, columns, dtype=dtype)
    a = _apart(a.T, 0).T if a_turned else _apart(a, 0)
    b = _apart(b.T, 1).T if b_turned else _apart(b, 1)
    return partial(kernels.matmul, a, b, out=_apart(np.empty((rows, columns), dtype), 2))


def _step(workload: str | Workload, optimizer: optim.Optimizer, rng: np.random.Generator) -> Function:
    return CompiledStep(*problem(workload), optimizer)


def _penalised(rng: np.random.Generator) -> Function:
    """Return a step of layers with a penalty on the squares of their weights."""
    layers, tape = nn.mlp(autograd.new_tape(), (64, 128, 64, 1), rng=rng)
    x, tape = autograd.new_constant(tape, _floats(rng, 128, 64))
    y, tape = autograd.new_constant(tape, _floats(rng, 128, 1))
    pred, tape = nn.mlp_forward(tape, layers, x)
    loss, tape = nn.mse_loss(tape, pred, y)
    for layer in layers:
        squares, tape = autograd.sum_of_squares(tape, layer.w)
        penalty, tape = autograd.mul(tape, squares, 1e-4)
        loss, tape = autograd.add(tape, loss, penalty)
    step = program.compile_step(tape, loss=loss, params=layers, inputs=(x, y), optimizer=optim.Adam())
    return partial(step, x.data, y.data)


def _tape_step(workload: str, rng: np.random.Generator) -> Function:
    return TapeStep(*problem(workload))


def _forward(rows: int, sizes: tuple[int, ...], rng: np.random.Generator) -> Function:
    """Return a compiled forward pass."""
    layers, tape = nn.mlp(autograd.new_tape(), sizes, rng=rng)
    x, tape = autograd.new_constant(tape, _floats(rng, rows, sizes[0]))
    pred, tape = nn.mlp_forward(tape, layers, x)
    return partial(program.compile_forward(tape, output=pred, inputs=[x]), x.data)


def _run(rng: np.random.Generator) -> Function:
    x, y, weights = problem("tabular")
    step = CompiledStep(x, y, weights).step
    data = np.tile(x, (20, 1)), np.tile(y, (20, 1))
    return lambda: step.run(*data, batch_size=len(x), rng=rng)


def _classifier(rng: np.random.Generator) -> Function:
    """Return a compiled step with layer norm, dropout and cross-entropy."""
    x, tape = autograd.new_constant(autograd.new_tape(), _floats(rng, 64, 32))
    classes, tape = autograd.new_constant(tape, np.arange(64, dtype="float32") % 10)
    first, tape = nn.linear(tape, 32, 64, rng=rng)
    norm, tape = nn.layer_norm(tape, 64)
    last, tape = nn.linear(tape, 64, 10, rng=rng)
    hidden, tape = nn.linear_forward(tape, first, x)
    hidden, tape = nn.layer_norm_forward(tape, norm, hidden)
    hidden, tape = nn.gelu(tape, hidden)
    hidden, tape = nn.dropout(tape, hidden, 0.1, rng=rng)
    pred, tape = nn.linear_forward(tape, last, hidden)
    loss, tape = nn.cross_entropy(tape, pred, classes)
    step = program.compile_step(
        tape,
        loss=loss,
        params=(first, norm, last),
        inputs=[x, classes],
        optimizer=optim.Adam(clip_norm=1.0),
        rng=rng,
    )
    return partial(step, x.data, classes.data)


def _chain(rng: np.random.Generator) -> Function:
    x, tape = autograd.new_variable(autograd.new_tape(), _floats(rng, 1, 1))
    return partial(chain, tape, x, 100)


def _walk_back(rng: np.random.Generator) -> Function:
    x, tape = autograd.new_variable(autograd.new_tape(), _floats(rng, 1, 1))
    loss, tape = chain(tape, x, 100)
    return partial(autograd.backward, tape, loss)


def _compile(rng: np.random.Generator) -> Function:
    return TapeStep(*problem("tabular")).compiled


SGD, MOMENTUM = optim.SGD(lr=1e-3), optim.SGD(lr=1e-3, momentum=0.9)
SQUARE = Workload(256, (256, 256))
NARROW = Workload(128, (10, 100, 5))  # whose gradients are computed transposed
FEW = frozenset({"matmul rows_beside", "matmul rows_across", "matmul row_by_row", "matmul shallow", "call"})
TILES = frozenset({"matmul packed", "matmul strided", "matmul column_panels", "matmul row_panels"})
STEP = FEW | TILES | {"squared_error", "sum"}
CLASSIFIER = STEP | {"normalize", "normalize_backward", "gelu", "gelu_backward", "dropout", "update adam", "mul", "add"}
COMPOSED = {
    "forward, in panels": Case(
        "matmul column_panels", partial(_forward, 256, (256,) * 4), frozenset({"matmul packed"})
    ),
    "step of one layer": Case("matmul row_panels", partial(_step, SQUARE, SGD), frozenset({"matmul column_panels"})),
    "forward, one row": Case("program forward", partial(_forward, 1, (64, 64)), FEW),
    "step seed-demo": Case("program step", partial(_step, "seed-demo", SGD), STEP),
    "step tabular": Case("program step", partial(_step, "tabular", SGD), STEP),
    "step tabular, momentum": Case("program step", partial(_step, "tabular", MOMENTUM), STEP),
    "step tabular, adam": Case("program step", partial(_step, "tabular", optim.Adam()), STEP),
    "step tabular, rmsprop": Case("program step", partial(_step, "tabular", optim.RMSprop(lr=1e-3)), STEP),
    "step of narrow weights": Case("program step", partial(_step, NARROW, optim.Adam()), STEP),
    "step with a penalty": Case("program step", _penalised, STEP | {"squared_norm", "mul", "scale", "add"}),
    "step mnist-mlp": Case("program step", partial(_step, "mnist-mlp", SGD), STEP),
    "step bottleneck": Case("program step", partial(_step, "bottleneck", SGD), STEP),
    "step of a classifier": Case("program step", _classifier, CLASSIFIER),
    "step mnist-mlp, two threads": Case("team", partial(_step, "mnist-mlp", SGD), STEP, 2),
    "step of one layer, two threads": Case("team", partial(_step, SQUARE, SGD), STEP, 2),
    "256³, two threads": Case("team", partial(_product, *PRODUCTS["256³"][1:], "float32"), TILES, 2),
    "run": Case("program run", _run, STEP | {"program step"}),
    "recording": Case("tape", _chain, frozenset({"add", "call"})),
    "walking back": Case("tape", _walk_back, frozenset({"add", "call"})),
    "step on the tape": Case("tape", partial(_tape_step, "seed-demo"), STEP | {"relu", "relu_backward"}),
    "compiling": Case("compiler", _compile, frozenset({"tape"})),
}


def cases() -> dict[str, Case]:
    """Return all cases by name."""
    found = dict(COMPOSED)
    for dtype in ("float32", "float64"):
        for core, call in (ELEMENTS | ROWS).items():
            found[f"{core} {dtype}"] = Case(core, _on_arrays(call, dtype))
        for name, (core, call) in OTHERS.items():
            found[f"{name} {dtype}"] = Case(core, _on_arrays(call, dtype))
        for name, (path, *shape) in PRODUCTS.items():
            found[f"{name} {dtype}"] = Case(f"matmul {path}", partial(_product, *shape, dtype))
    found["a call"] = Case("call", _small)
    return found


def _small(rng: np.random.Generator) -> Function:
    """Return calls that cost little beside their arguments."""
    x, row = _floats(rng, 4, 4), _floats(rng, 4)

    def calls() -> None:
        kernels.relu(x)
        kernels.linear(x, x, row)
        kernels.sum(x)
        kernels.add(x, row)

    return calls


class Cases(Benchmark):
    """Their times from commit to commit."""

    param_names = ("case",)
    params = (tuple(cases()),)

    def setup(self, name: str) -> None:
        case = cases()[name]
        super().setup(case.threads)
        self.function = case.make(self.rng)

    def time_case(self, _: str) -> None:
        self.timed(self.function)
