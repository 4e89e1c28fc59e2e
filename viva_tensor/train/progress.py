"""The progress of training, on a terminal."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Mapping
from typing import Any, Self

from viva_tensor.extras import extra
from viva_tensor.kernels.peak import fma_peak
from viva_tensor.kernels.threads import get_num_threads
from viva_tensor.train.training import Training

PEAK_SECONDS = 0.05  # time for measuring the peak rate
OTHER_COLUMNS = 65  # for percent, a bar of a dozen cells, counts, times and rate
SELDOM = 10.0  # seconds between two lines of a bar that may go to a file


def on_terminal() -> bool:
    """Return whether stderr is a terminal; a program without a console has none.

    Examples
    --------
    >>> from contextlib import redirect_stderr
    >>> with redirect_stderr(None):
    ...     on_terminal()
    False
    """
    ask = getattr(sys.stderr, "isatty", None)
    return bool(ask and ask())


class Bar:
    """A bar over the rows of all epochs, with time left, losses, rows per second and the share of the FMA peak.

    It is shown if it is wanted and stderr is a terminal. The launcher of several ranks reads stderr through a pipe, for
    a terminal or a file; there the bar is shown too, with a line every ten seconds.
    """

    def __init__(self, training: Training, wanted: bool) -> None:
        self._training, self._done, self._rows = training, training.epoch, training.rows.count
        self._bar: Any = None
        self._often = on_terminal()
        if wanted and (self._often or training.ranks.size > 1):
            with extra("train"):
                from tqdm import tqdm

            self._peak = 1e9 * fma_peak(get_num_threads(), training.settings.dtype, PEAK_SECONDS)
            self._bar = tqdm(
                total=training.settings.epochs * self._rows,
                initial=self._done * self._rows,
                unit="row",
                unit_scale=True,
                mininterval=0.1 if self._often else SELDOM,
                dynamic_ncols=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def step(self, number: int) -> None:
        """Show that the steps before this one, counted from 1, are done."""
        if self._bar is not None:
            epochs, steps = divmod(number - 1, self._training.steps)
            self._bar.update(epochs * self._rows + steps * self._training.settings.batch_size - self._bar.n)

    def epoch(self) -> None:
        """Show the losses after an epoch."""
        if self._bar is None:
            return
        epoch, latest = self._training.epoch, self._training.reached.latest
        self._bar.update(epoch * self._rows - self._bar.n)
        seconds = self._bar.format_dict["elapsed"]
        share = self._training.flops * (epoch - self._done) / seconds / self._peak if seconds else 0.0
        shown = {"loss": f"{latest['train_loss']:.4g}"}
        if "validation_loss" in latest:
            shown["validation_loss"] = f"{latest['validation_loss']:.4g}"
        shown |= {"epoch": str(epoch), "of_peak": f"{share:.0%}"}
        self._bar.set_postfix(fitting(shown, self._bar.format_dict["ncols"]), refresh=self._often)


def fitting(shown: Mapping[str, str], columns: int | None) -> dict[str, str]:
    """Return the first of some values that fit beside a bar on a terminal of so many columns.

    Examples
    --------
    >>> fitting({"loss": "0.1234", "validation_loss": "0.1345", "epoch": "12"}, 85)
    {'loss': '0.1234'}
    """
    left = (columns or math.inf) - OTHER_COLUMNS
    lengths = itertools.accumulate(len(f", {name}={value}") for name, value in shown.items())
    return {name: value for (name, value), length in zip(shown.items(), lengths, strict=True) if length <= left}
