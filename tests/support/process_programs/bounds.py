"""Kernels on arrays that end where the next page may not be touched, or begin where the page before may not."""

import ctypes
import itertools
import mmap
from collections.abc import Iterator
from typing import Any

import numpy as np

from viva_tensor import kernels

PAGE = mmap.PAGESIZE
SIZES = [1, 2, 3, 5, 7, 9, 15, 17, 31, 33, 65, 257]


def guarded(values: Any) -> Iterator[Any]:
    """Give a copy that ends at the end of its last page, then one that begins with its first, between guards."""
    libc = ctypes.CDLL(None, use_errno=True)
    for at_end in (True, False):
        pages = -(-values.nbytes // PAGE)
        memory = mmap.mmap(-1, (pages + 2) * PAGE)
        start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        for guard in (start, start + (pages + 1) * PAGE):
            assert libc.mprotect(ctypes.c_void_p(guard), PAGE, 0) == 0
        offset = PAGE + (pages * PAGE - values.nbytes if at_end else 0)
        array = np.frombuffer(memory, values.dtype, values.size, offset).reshape(values.shape)
        array[...] = values
        yield array


def together(*values: Any) -> Iterator[Any]:
    """Give the guarded copies of several arrays side by side."""
    return zip(*map(guarded, values), strict=True)


def products(dtype: str, rng: np.random.Generator) -> None:
    """Multiply matrices of many sizes."""
    for m, k, n in itertools.islice(itertools.product(SIZES, repeat=3), 0, None, 7):
        a, b = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
        for x, y, out in together(a, b, np.zeros((m, n), dtype)):
            kernels.matmul(x, y, out=out)
            assert np.allclose(out, a @ b, atol=1e-3)
        for xt, yt, bias in together(a.T.copy(), b.T.copy(), b[0]):
            kernels.linear(xt.T, yt, bias)
            kernels.matmul(xt.T, yt.T)


def others(dtype: str, rng: np.random.Generator) -> None:
    """Call what goes over elements and rows, for many shapes."""
    for m, n in itertools.product(SIZES, repeat=2):
        a = rng.standard_normal((m, n)).astype(dtype)
        for x, row, out in together(a, a[0], a):
            kernels.add(x, row, out=out)
            kernels.add(x[:, ::-1], row, out=out.T.copy().T)
            kernels.relu_backward(x, x, out=out)
            for axis in (None, 0, 1):
                kernels.sum(x, axis)
            kernels.mean_squared_error(x, out)
            kernels.mean_squared_error_backward(1.0, x, out)
            kernels.sgd(x, out, 0.1, 0.9, x)
            kernels.softmax_backward(x, kernels.softmax(x))
            kernels.log_softmax_backward(x, kernels.log_softmax(x))
            kernels.normalize_backward(x, kernels.normalize(x))
        labels, shares = np.arange(m).astype(dtype) % n, kernels.softmax(a)
        for x, classes, target in together(a, labels, shares):
            for one in (classes, target):
                kernels.cross_entropy_backward(kernels.cross_entropy(x, one), x, one)


if __name__ == "__main__":
    rng = np.random.default_rng(0)
    for dtype in ("f4", "f8"):
        products(dtype, rng)
        others(dtype, rng)
    print("whole")
