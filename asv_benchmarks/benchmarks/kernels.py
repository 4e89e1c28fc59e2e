"""Compiled kernels, forward and backward apart, in cache and out of it."""

from functools import partial
from statistics import median

import numpy as np

from viva_tensor import kernels

from .common import THREADS, Benchmark, ratio

IN_CACHE, IN_MEMORY = (128, 256), (4096, 2048)


class Matmul(Benchmark):
    """The three products of a training step: A Bᵀ forward, A B and Aᵀ B backward."""

    param_names = ("size", "order", "threads")
    params = ((64, 256, 512, 1024), ("A @ B.T", "A @ B", "A.T @ B"), THREADS)
    dtype = "float32"

    def setup(self, size, order, threads):
        super().setup(threads)
        a, b = self.floats(size, size, dtype=self.dtype), self.floats(size, size, dtype=self.dtype)
        self.operands = {"A @ B.T": (a, b.T), "A @ B": (a, b), "A.T @ B": (a.T, b)}[order]
        self.out = np.empty_like(a)

    def time_matmul(self, *_):
        self.timed(partial(kernels.matmul, *self.operands, out=self.out))


class MatmulFloat64(Matmul):
    params = ((512,), *Matmul.params[1:])
    dtype = "float64"


class Linear(Benchmark):
    param_names = ("batch, in, out", "threads")
    params = (((64, 8, 64), (128, 784, 256), (256, 1024, 1024)), THREADS)

    def setup(self, sizes, threads):
        super().setup(threads)
        batch, n_in, n_out = sizes
        self.x, self.w, self.b = self.floats(batch, n_in), self.floats(n_out, n_in), self.floats(n_out)
        self.grad = self.floats(batch, n_out)

    def time_forward(self, *_):
        self.timed(partial(kernels.linear, self.x, self.w, self.b))

    def time_backward(self, *_):
        self.timed(partial(kernels.linear_backward, self.grad, self.x, self.w))


class OnArrays(Benchmark):
    """The base of kernels whose work grows with the elements: two arrays and a row."""

    param_names = ("shape", "threads")
    params = ((IN_CACHE, IN_MEMORY), THREADS)
    dtype = "float32"

    def setup(self, shape, threads):
        super().setup(threads)
        self.x, self.y = self.floats(*shape, dtype=self.dtype), self.floats(*shape, dtype=self.dtype)
        self.row = self.floats(shape[1], dtype=self.dtype)


class AddRow(OnArrays):
    """[batch, out] + [out], as a layer adds its bias, and the bias's gradient."""

    def time_forward(self, *_):
        self.timed(partial(kernels.add, self.x, self.row))

    def time_backward(self, *_):
        self.timed(partial(kernels.add_backward, self.x, self.row.shape))


class AddRowFloat64(AddRow):
    params = ((IN_CACHE,), THREADS)
    dtype = "float64"


class Relu(OnArrays):
    def time_forward(self, *_):
        self.timed(partial(kernels.relu, self.x))

    def time_backward(self, *_):
        self.timed(partial(kernels.relu_backward, self.y, self.x))


class ReluFloat64(Relu):
    params = ((IN_CACHE,), THREADS)
    dtype = "float64"


class Dropout(OnArrays):
    def time_dropout(self, *_):
        self.timed(partial(kernels.dropout, self.x, 0.5, 1))


class Mul(OnArrays):
    def time_forward(self, *_):
        self.timed(partial(kernels.mul, self.x, self.y))

    def time_backward(self, *_):
        self.timed(partial(kernels.mul_backward, self.y, self.x, self.y))


class Sum(OnArrays):
    def time_forward(self, *_):
        self.timed(partial(kernels.sum, self.x))

    def time_backward(self, *_):
        self.timed(partial(kernels.sum_backward, 1.0, self.x.shape))


class Along(OnArrays):
    """The largest of each column and row, and running sums down columns."""

    def time_max_of_columns(self, *_):
        self.timed(partial(kernels.max, self.x, 0))

    def time_max_of_rows(self, *_):
        self.timed(partial(kernels.max, self.x, 1))

    def time_running_sums(self, *_):
        self.timed(partial(kernels.cumsum, self.x))


class Take(OnArrays):
    """Rows in another order, and what comes back to each of them."""

    def setup(self, shape, threads):
        super().setup(shape, threads)
        self.rows = self.rng.integers(0, shape[0], shape[0]).astype("f4")

    def time_forward(self, *_):
        self.timed(partial(kernels.take, self.x, self.rows))

    def time_backward(self, *_):
        self.timed(partial(kernels.take_backward, self.y, self.x, self.rows))


class Batches(Benchmark):
    """Products of batches of matrices."""

    param_names = ("count, size", "threads")
    params = (((64, 64), (512, 16)), THREADS)

    def setup(self, sizes, threads):
        super().setup(threads)
        count, size = sizes
        self.a, self.b = self.floats(count, size, size), self.floats(count, size, size)

    def time_matmul(self, *_):
        self.timed(partial(kernels.matmul, self.a, self.b))


class Curves(OnArrays):
    """Curves with kernels of their own."""

    def time_sin(self, *_):
        self.timed(partial(kernels.sin, self.x))

    def time_elu(self, *_):
        self.timed(partial(kernels.elu, self.x))

    def time_log_cosh(self, *_):
        self.timed(partial(kernels.log_cosh, self.x))


class MeanSquaredError(OnArrays):
    def time_forward(self, *_):
        self.timed(partial(kernels.mean_squared_error, self.x, self.y))

    def time_backward(self, *_):
        self.timed(partial(kernels.mean_squared_error_backward, 1.0, self.x, self.y))


class SGDUpdate(OnArrays):
    def time_plain(self, *_):
        self.timed(partial(kernels.sgd, self.x, self.y, 0.01))

    def time_momentum(self, *_):
        self.timed(partial(kernels.sgd, self.x, self.y, 0.01, 0.9, self.y))


class AdamUpdate(OnArrays):
    def time_adam(self, *_):
        square = self.y * self.y
        self.timed(partial(kernels.adam, self.x, self.y, self.y, square, 10, 0.001))

    def time_lion(self, *_):
        self.timed(partial(kernels.lion, self.x, self.y, self.y, 0.001))

    def time_adamw(self, *_):
        square = self.y * self.y
        decay = {"weight_decay": 0.01, "decoupled": True}
        self.timed(partial(kernels.adam, self.x, self.y, self.y, square, 10, 0.001, **decay))


class RMSpropUpdate(OnArrays):
    def time_plain(self, *_):
        self.timed(partial(kernels.rmsprop, self.x, self.y, self.y * self.y, 0.01))


class Norm(OnArrays):
    def time_norm(self, *_):
        self.timed(partial(kernels.norm, (self.x, self.y)))


class EagerCall(Benchmark):
    """8×8: what a call costs beside its arithmetic, here and in NumPy."""

    param_names = ("operation",)
    params = (("matmul", "linear", "add", "add row", "add row backward", "relu", "relu backward", "sum"),)

    def setup(self, operation):
        super().setup()
        x, y, row = self.floats(8, 8), self.floats(8, 8), self.floats(8)
        self.ours, self.numpys = {
            "matmul": (partial(kernels.matmul, x, y), partial(np.matmul, x, y)),
            "linear": (partial(kernels.linear, x, y, row), lambda: x @ y.T + row),
            "add": (partial(kernels.add, x, y), partial(np.add, x, y)),
            "add row": (partial(kernels.add, x, row), partial(np.add, x, row)),
            "add row backward": (partial(kernels.add_backward, x, (8,)), partial(x.sum, axis=0)),
            "relu": (partial(kernels.relu, x), partial(np.maximum, x, 0)),
            "relu backward": (partial(kernels.relu_backward, y, x), lambda: y * (x > 0)),
            "sum": (partial(kernels.sum, x), x.sum),
        }[operation]

    def time_viva_tensor(self, _):
        self.timed(self.ours)

    def time_numpy(self, _):
        self.timed(self.numpys)


class OverNumPy(Benchmark):
    """Our time ÷ NumPy's on one thread, into arrays that are there already where a call takes them; lower is better."""

    param_names = ("work",)
    params = (
        (
            *(f"matmul {size} {order}" for size in (64, 128, 256, 512, 1024) for order in Matmul.params[1]),
            "matmul 512 float64",
            *(
                f"{name} in {place}"
                for name in ("add", "add row", "add row backward", "relu", "relu backward", "sum")
                for place in ("cache", "memory")
            ),
            *(f"{name} in cache" for name in ("tanh", "sigmoid", "silu", "softplus", "softmax")),
        ),
    )
    unit = "ratio"

    def setup(self, work):
        super().setup()

    def track_ratio(self, work):
        """The median over arrays in several places, which decide much: their pages may collide in a cache or not."""
        places = [np.empty(1 << 22 << i, np.uint8) for i in range(3)]  # so that each turn finds other pages free
        found = []
        while places:
            found.append(self.one_ratio(work))
            places.pop()
        return median(found)

    def one_ratio(self, work):
        if work.startswith("matmul"):
            _, size, order = work.split(maxsplit=2)
            return self.matmul(int(size), order)
        name, place = work.split(" in ")
        return self.on_arrays(name, IN_CACHE if place == "cache" else IN_MEMORY)

    def matmul(self, size, order):
        dtype = "float64" if order == "float64" else "float32"
        a, b = self.floats(size, size, dtype=dtype), self.floats(size, size, dtype=dtype)
        a, b = (a.T if order.startswith("A.T") else a), (b.T if order.endswith("B.T") else b)
        out = np.empty((size, size), dtype)
        return ratio(partial(kernels.matmul, a, b, out=out), partial(np.matmul, a, b, out=out))

    def on_arrays(self, name, shape):
        x, y, row = self.floats(*shape), self.floats(*shape), self.floats(shape[1])
        out, mask, total = np.empty_like(x), np.empty(shape, bool), np.empty_like(row)

        def masked():
            np.greater(x, 0, out=mask)
            np.multiply(y, mask, out=out)

        def softmax():
            powers = np.exp(x - x.max(axis=1, keepdims=True))
            return powers / powers.sum(axis=1, keepdims=True)

        ours, theirs = {
            "add": (partial(kernels.add, x, y, out=out), partial(np.add, x, y, out=out)),
            "add row": (partial(kernels.add, x, row, out=out), partial(np.add, x, row, out=out)),
            "add row backward": (
                partial(kernels.add_backward, y, row.shape),
                partial(np.add.reduce, y, axis=0, out=total),
            ),
            "relu": (partial(kernels.relu, x, out=out), partial(np.maximum, x, 0, out=out)),
            "relu backward": (partial(kernels.relu_backward, y, x, out=out), masked),
            "sum": (partial(kernels.sum, x), partial(np.add.reduce, x, axis=None)),
            "tanh": (partial(kernels.tanh, x, out=out), partial(np.tanh, x, out=out)),
            "sigmoid": (partial(kernels.sigmoid, x, out=out), lambda: 1 / (1 + np.exp(-x))),
            "silu": (partial(kernels.silu, x, out=out), lambda: x / (1 + np.exp(-x))),
            "softplus": (partial(kernels.softplus, x, out=out), partial(np.logaddexp, x, 0)),
            "softmax": (partial(kernels.softmax, x), softmax),
        }[name]
        return ratio(ours, theirs)
