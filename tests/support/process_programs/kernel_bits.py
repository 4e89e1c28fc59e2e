"""Hashes of what kernels give, to be compared between instruction sets and numbers of threads."""

import hashlib

import numpy as np

import viva_tensor as vt
from support.called import called
from viva_tensor import kernels as k


def of_products_and_updates() -> None:
    """Print the hash of products, sums and updates."""
    rng = np.random.default_rng(0)
    digest = hashlib.sha256()
    for dtype in ("f4", "f8"):
        a, b, c = (rng.standard_normal(s).astype(dtype) for s in ((67, 530), (530, 45), (67, 45)))
        results = (
            *(k.matmul(a, b), k.linear(a, b.T, c[0]), k.sum(a), k.sum(a, 0), k.sum(a, 1), k.mean(b, 1)),
            *(k.mean_squared_error(c, c[::-1]), k.mean_squared_error_backward(0.7, c, c[::-1]), k.mul(c, c[0])),
            *(k.relu_backward(c, c[::-1]), k.sgd(c, c[::-1], 0.3, 0.9, c * 2)[0]),
            *k.adam(c, c[::-1], c * 2, c * c, 3, 0.1, weight_decay=0.1),
            np.float64(k.norm([a, c])),
            *k.rmsprop(c, c[::-1], c * c, 0.1, momentum=0.9, velocity=c * 2, weight_decay=0.1),
        )
        for result in results:
            digest.update(np.asarray(result).tobytes())
    print(digest.hexdigest())


def of_activations(threads: str, *names: str) -> None:
    """Print the hash of these activations and of losses, at some number of threads."""
    vt.set_num_threads(int(threads))
    found = hashlib.sha256()
    for dtype in ("f4", "f8"):
        rng = np.random.default_rng(0)
        x, grad = ((rng.standard_normal((301, 257)) * 5).astype(dtype) for _ in "ab")
        for name in names:
            found.update(getattr(k, name)(abs(x) if name in ("log", "sqrt") else x).tobytes())
            found.update(getattr(k, name + "_backward")(grad, x).tobytes())
        found.update(k.gelu(x, "tanh").tobytes() + k.gelu_backward(grad, x, "tanh").tobytes())
        found.update(k.huber(x).tobytes() + k.huber_backward(grad, x).tobytes())
        shares = k.softmax(grad)
        for target in (shares, np.arange(301) % 257):
            found.update(k.cross_entropy(x, target).tobytes())
            found.update(k.cross_entropy_backward(grad[:, 0], x, target).tobytes())
        found.update(k.cross_entropy_backward(grad[:, 0], x[:, :10], k.softmax(grad[:, :10])).tobytes())
        found.update(k.binary_cross_entropy(x, shares).tobytes())
    print(found.hexdigest())


if __name__ == "__main__":
    called(of_products_and_updates, of_activations)
