"""Ranks that call ``train.fit`` on the rows of a mapped file, alone and together, with what fits and what does not."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from support.called import called
from support.rank_programs.common import comm, rank, tell
from viva_tensor import autograd, error, nn, tabular
from viva_tensor.autograd import Tape, Traced, Variable
from viva_tensor.error import RankError
from viva_tensor.train import Settings, SparseRows, fit


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


def sparse_rows() -> None:
    """Fit rows by their entries, with and without runs, and rows of another kind on each rank."""
    rng = np.random.default_rng(0)
    indices, values, y = rng.integers(0, 9, (90, 3)), rng.standard_normal((90, 3)), rng.standard_normal(90)
    settings = Settings(hidden=(8,), epochs=3, batch_size=17, dtype="float64")
    found = []
    for starts in (None, (0, 4)):
        x = SparseRows(indices, values, 9, starts)
        found.append(attempt(x, y, settings))
        found += [attempt(one, y, settings, comm=comm) for one in (x, x.dense())]
        found += [attempt(one, y, settings, comm=comm, validation=(one[:1], y[:1])) for one in (x, x.dense())]
    for other in (x.dense(), SparseRows(indices, values, 9)):
        found.append(attempt(other if rank else x, y, settings, comm=comm))
    found.append(attempt(x, y, settings, comm=comm, validation=(x.dense() if rank else x, y)))
    found.append(attempt(x, y, settings, comm=comm, validation=(x, y[:, None].repeat(2 if rank else 1, axis=1))))
    tell(found=found)


def differing() -> None:
    """Fit rows with what must agree, but one rank has it otherwise."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((60, 3)), rng.standard_normal((60, 1))
    settings = Settings(hidden=(4,), epochs=2, batch_size=16)
    first = {} if rank else {"checkpoint": "a.safetensors"}
    options: list[dict[str, Any]] = [
        {"timed": rank == 0},
        first,
        {"callback": None if rank else print},
        {"validation": None if rank else (x[:9], y[:9])},
        {"start": fit(x, y, settings).layers if rank else None},
        {"rows": np.arange(50 + rank)},
        {"rows": 5 if rank else None},
        {"validation": (x[:9], y[:9] * (1 + rank))},
        {"validation": np.arange(20 + 40 * rank)},
    ]
    found = [attempt(x, y, settings, comm=comm, **one) for one in options]
    found += [attempt(x + rank * (np.arange(60) == 0)[:, None], y, settings, comm=comm)]
    found += [attempt(x, y * (1 + rank), settings, comm=comm), attempt(x, y, settings, comm=comm)]
    tell(found=found)


def functions() -> None:
    """Fit with functions of the user: some that fail on one rank, and others that are no mean over rows."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((60, 3)), rng.standard_normal((60, 1))
    options: dict[str, Any] = {"hidden": (4,), "epochs": 2, "batch_size": 16, "dtype": "float64"}

    def failing(*_: Any) -> Any:
        if rank:
            raise error.InvalidValue("of this rank alone")
        return False

    def rooted(tape: Tape, output: Variable, target: Variable) -> Traced[Variable]:
        loss, tape = nn.mse_loss(tape, output, target)
        return autograd.sqrt(tape, loss)

    def partly(tape: Tape, output: Variable, target: Variable) -> Traced[Variable]:
        failing()
        return nn.mse_loss(tape, output, target)

    found = [attempt(x, y, Settings(**options), comm=comm, callback=failing)]
    partial: list[dict[str, Any]] = [{"loss": partly}, {"metric": partly}]
    found += [attempt(x, y, Settings(**options, **one), comm=comm) for one in partial]
    found += [attempt(x, y, Settings(loss=rooted, **options), comm=comm)]
    settings = Settings(loss=nn.log_cosh_loss, metric=rooted, **options)
    for one in (comm, None):
        fitted = fit(x, y, settings, comm=one)
        found.append([float(value) for value in fitted.history["validation_metric"]])
    tell(found=found)


def tables() -> None:
    """Learn tables of which one rank has another, or another task, from a folder that all see; what is left there."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.standard_normal(80), "b": ["u", "v"] * 40})
    frame["y"] = 2 * frame["a"] + (frame["b"] == "u")
    settings, folder = Settings(hidden=(4,), epochs=2, batch_size=16), Path("shared")
    stale = frame.assign(a=frame["a"] * (-5 if rank else 1))
    found = []
    for table, dropped in ((stale, ()), (frame, ("b",) * rank), (frame, ())):
        task = tabular.Task("y", roles=tabular.Roles(drop=dropped))
        try:
            run = tabular.run(table, task, settings, comm=comm, shared_folder=folder)
            found.append(f"{run.scores['network'].rmse:.6f}")  # type: ignore[union-attr]
        except RankError as error:
            found.append(str(error))
    tell(found=found, left=[path.name for path in folder.iterdir()])


if __name__ == "__main__":
    called(mapped_rows, sparse_rows, differing, functions, tables)
