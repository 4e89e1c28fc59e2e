"""Settings that suit a table, by its number of rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from viva_tensor import optim
from viva_tensor.kernels.checks import check_count, shown
from viva_tensor.tabular.data import DataError, did_you_mean
from viva_tensor.train import DEFAULTS, Settings

SMALL = 4096  # rows, below which steps are gentler
SHORT = 1000  # rows, below which one in five is for validation
WATCHED = 20_000  # rows, below which the weights of the best epoch are kept
LEAST_STEPS = 1000
MOST_EPOCHS = 400
GENTLE = 0.02  # the usual rate of "sgd" on a small table
MOMENTUM = 0.9  # and its usual momentum
LEAST_BATCH = 16
OPTIMIZERS: Mapping[str, tuple[Callable[..., optim.Optimizer], float]] = {  # each with a usual learning rate
    "sgd": (optim.SGD, 0.05),
    "adam": (optim.Adam, 0.001),
    "adamw": (optim.AdamW, 0.001),
    "rmsprop": (optim.RMSprop, 0.001),
    "lion": (optim.Lion, 0.0003),
}


class Preset(NamedTuple):
    """What a run was trained with, for its report.

    Attributes
    ----------
    name : str
        Of the preset; empty if settings were given instead.
    why : str
        Why it meant so many networks.
    networks, bins, epochs, parts : int
        How many were trained; features for parts of the range of a number, at most; epochs of each, at most; parts of
        the rows, of which each lacked one, or 0 for one network as usual.
    """

    name: str
    why: str
    networks: int
    bins: int
    epochs: int
    parts: int = 0


def sgd(rows: int, lr: float | None = None, momentum: float | None = None) -> optim.SGD:
    """Return the usual optimiser for a table: on few rows with a lower rate, and gradients clipped to a norm of 1."""
    usual, clip_norm = (GENTLE, 1.0) if rows < SMALL else (OPTIMIZERS["sgd"][1], None)
    return optim.SGD(
        lr=usual if lr is None else lr, momentum=MOMENTUM if momentum is None else momentum, clip_norm=clip_norm
    )


def _optimizer(name: str, rows: int, lr: float | None, momentum: float | None) -> optim.Optimizer:
    """Return the optimiser of this name for a table, with a usual learning rate if none is given."""
    if name not in OPTIMIZERS:
        hint = did_you_mean(name, OPTIMIZERS) or "."
        raise DataError(f"no optimizer {name!r}{hint} They are: {', '.join(OPTIMIZERS)}, or a record of optim")
    if name == "sgd":
        return sgd(rows, lr, momentum)
    if momentum is not None:
        raise DataError(f"momentum ({shown(momentum)}) is for the optimizer 'sgd' only, but this is {name!r}")
    kind, usual = OPTIMIZERS[name]
    return kind(lr=usual if lr is None else lr)


def settings_for(rows: int, said: Mapping[str, Any] | None = None) -> Settings:
    """Return settings for a table of so many rows; what the user said of them goes first.

    The optimiser may be one of OPTIMIZERS by name, beside its ``lr``, and ``momentum`` for "sgd"; a record has its own.

    Small tables get smaller batches, so that an epoch has some 16 steps, more epochs for 1,000 steps in all, a lower
    rate, clipped gradients and a larger share of validation rows; below 20,000 rows the weights of the best epoch are
    kept. The numbers were chosen on artificial tables of 30 to 1,000 rows and 1 to 20 columns: linear, bent,
    heavy-tailed, collinear, with duplicates, and noise.

    Raises
    ------
    DataError
        If there is no optimiser of this name, or ``lr`` or ``momentum`` beside one that does not take it.
    InvalidValue
        If ``rows`` is no whole number from 0, or a setting is out of its range.

    Examples
    --------
    >>> chosen = settings_for(200)
    >>> chosen.batch_size, chosen.epochs, chosen.optimizer.lr, chosen.validation_fraction
    (16, 77, 0.02, 0.2)
    >>> settings_for(100_000) == DEFAULTS
    True
    >>> settings_for(200, {"epochs": 5}).epochs
    5
    >>> settings_for(200, {"optimizer": "adam", "lr": 0.01}).optimizer.lr
    0.01
    """
    given = {name: value for name, value in (said or {}).items() if value is not None}
    rows = check_count("settings_for", "rows", rows, least=0)
    rates = {name: given.pop(name, None) for name in ("lr", "momentum")}
    if isinstance(name := given.get("optimizer", "sgd"), str):
        given["optimizer"] = _optimizer(name, rows, **rates)
    for one, value in rates.items():
        if value is not None and not isinstance(name, str):
            raise DataError(f"{one}={shown(value)} beside optimizer={shown(name)}; set it in that record")
    batch = given.get("batch_size") or min(
        DEFAULTS.batch_size, max(LEAST_BATCH, 1 << int(math.log2(max(rows / LEAST_BATCH, 1))))
    )
    steps = max(1, math.ceil(rows / batch))
    epochs = given.get("epochs") or min(MOST_EPOCHS, max(DEFAULTS.epochs, math.ceil(LEAST_STEPS / steps)))
    suited = {
        "batch_size": batch,
        "epochs": epochs,
        "validation_fraction": 0.2 if rows < SHORT else DEFAULTS.validation_fraction,
        "patience": max(20, epochs // 4) if rows < WATCHED else None,
    }
    return Settings(**{**suited, **given})
