"""Ranks that call ``train.fit`` on the rows of a mapped file, alone and together, with what fits and what does not."""

from typing import Any

import numpy as np

from support.called import called
from support.rank_programs.common import comm, rank, tell
from viva_tensor import error
from viva_tensor.train import Settings, fit


def attempt(*arguments: Any, **more: Any) -> object:
    """Fit; return the losses and the sums of the weights, or what was refused."""
    try:
        fitted = fit(*arguments, **more)
    except (error.TensorError, OSError) as problem:
        return f"{type(problem).__name__} {problem}"
    return [fitted.history["validation_loss"], [float(layer.w.data.sum()) for layer in fitted.layers]]


def mapped_rows() -> None:
    """Fit the rows of x.npy and y.npy."""
    x, y = np.load("x.npy", mmap_mode="r"), np.load("y.npy")
    settings = Settings(hidden=(8,), epochs=3, batch_size=32, patience=2)
    bad = np.array(x)
    bad[390, 2] = np.nan
    tell(
        found=[
            attempt(x, y, settings, comm=comm),
            attempt(x, y, settings),
            attempt(bad, y, settings, comm=comm),
            attempt(x, y, Settings(hidden=(8 + rank,)), comm=comm),
            attempt(x, y, settings, comm=comm, checkpoint="none/of/these.safetensors", resume=True),
        ]
    )


if __name__ == "__main__":
    called(mapped_rows)
