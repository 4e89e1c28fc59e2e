"""Artificial tables of few rows, of the kinds on which networks do worse than simple models."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

Draw = Callable[[np.random.Generator, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def _collinear(rng: np.random.Generator, x: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x = x + 10 * rng.normal(size=(len(x), 1))
    return x, x @ w + 0.3 * rng.normal(size=len(x))


def _heavy(rng: np.random.Generator, x: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x = rng.standard_t(2, size=x.shape)
    return x, x @ w + rng.standard_t(2, size=len(x))


def _duplicated(rng: np.random.Generator, x: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x = x[rng.integers(0, len(x) // 2, len(x))]
    x[:, -1] = x[:, 0]
    return x, x @ w + 0.3 * rng.normal(size=len(x))


def _running(rng: np.random.Generator, x: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    i = rng.permutation(len(x))
    x[:, 0] = i
    return x, 2 * i + i % 3


KINDS: dict[str, Draw] = {
    "linear": lambda rng, x, w: (x, x @ w),
    "linear with noise": lambda rng, x, w: (x, x @ w + 0.5 * rng.normal(size=len(x))),
    "noise alone": lambda rng, x, w: (x, rng.normal(size=len(x))),
    "heavy tails": _heavy,
    "duplicates": _duplicated,
    "collinear": _collinear,
    "running number": _running,
    "bent": lambda rng, x, w: (x, 2 * np.abs(x[:, 0]) + np.sin(2 * x[:, -1]) + 0.1 * rng.normal(size=len(x))),
}


def small_table(kind: str, rows: int, columns: int, seed: int, new: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a table with columns x0, x1, ... and y, and more rows of the same kind."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows + new, columns))
    x, y = KINDS[kind](rng, x, rng.normal(size=columns) / np.sqrt(columns))
    table = pd.DataFrame(x, columns=[f"x{i}" for i in range(columns)]).assign(y=y).sample(frac=1, random_state=seed)
    return table.iloc[:rows].reset_index(drop=True), table.iloc[rows:].reset_index(drop=True)
