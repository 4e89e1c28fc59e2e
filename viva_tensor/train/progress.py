"""How far training has come, on a terminal."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Self

from viva_tensor.extras import extra
from viva_tensor.kernels.peak import fma_peak
from viva_tensor.kernels.threads import get_num_threads

PEAK_SECONDS = 0.05  # for measuring the peak that the bar compares with
SELDOM = 10.0  # seconds between two lines of a bar that may be kept in a file


class Bar:
    """A bar over the rows of all epochs, with time left, losses, rows per second and the share of the FMA peak.

    Quiet where none is wanted, or stderr is no terminal, unless it is a pipe that a launcher of ranks reads.

    Parameters
    ----------
    wanted : bool
    rows, batch_size, epochs : int
    done : int
        Epochs made before.
    flops : float
        Floating-point operations of training for one epoch.
    launched : bool
        A launcher reads stderr, perhaps for a terminal, perhaps for a file, so lines must not come often.
    """

    def __init__(
        self, wanted: bool, rows: int, batch_size: int, epochs: int, done: int, flops: float, launched: bool = False
    ) -> None:
        self._rows, self._batch_size, self._done, self._flops = rows, batch_size, done, flops
        self._bar: Any = None
        self._often = sys.stderr.isatty()
        if wanted and (self._often or launched):
            with extra("train"):
                from tqdm import tqdm

            self._peak = 1e9 * fma_peak(get_num_threads(), seconds=PEAK_SECONDS)
            seconds = 0.1 if self._often else SELDOM
            self._bar = tqdm(
                total=epochs * rows, initial=done * rows, unit="row", unit_scale=True, mininterval=seconds,
                maxinterval=max(seconds, 10.0),
            )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def step(self, number: int) -> None:
        """The steps before this one, counted from 1, are done."""
        if self._bar is not None:
            epochs, steps = divmod(number - 1, math.ceil(self._rows / self._batch_size))
            self._bar.update(epochs * self._rows + steps * self._batch_size - self._bar.n)

    def epoch(self, history: Mapping[str, Sequence[float]]) -> None:
        """An epoch is done; this is what is known of all."""
        if self._bar is None:
            return
        epoch = len(history["epoch"])
        self._bar.update(epoch * self._rows - self._bar.n)
        seconds = self._bar.format_dict["elapsed"]
        shown = {"epoch": str(epoch), "loss": f"{history['train_loss'][-1]:.4g}"}
        if "validation_loss" in history:
            shown["validation_loss"] = f"{history['validation_loss'][-1]:.4g}"
        share = self._flops * (epoch - self._done) / seconds / self._peak if seconds else 0.0
        self._bar.set_postfix(shown | {"of_peak": f"{share:.0%}"}, refresh=self._often)
