"""One of several networks: trained without a part of the rows, in cycles of its learning rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from viva_tensor import autograd
from viva_tensor.kernels.arrays import Float32Array
from viva_tensor.tabular.data import IndexArray
from viva_tensor.tabular.features import Features
from viva_tensor.tabular.linear_start import linear_start
from viva_tensor.tabular.losses import absent_of
from viva_tensor.tabular.packed import in_blocks
from viva_tensor.tabular.parts import all_but
from viva_tensor.tabular.side_by_side import Sharing
from viva_tensor.tabular.targets import Classes
from viva_tensor.train import Fit, Layers, Network, Settings, fit, record_layers


class Member(NamedTuple):
    """A network, the linear model that it began as if it did, and how it was trained so far.

    Attributes
    ----------
    fit : Fit
    start : Layers, optional
    held_out : ndarray of int
        The rows that it was trained without.
    cycles : int
        Cycles of training that were planned for it.
    ended : bool
        Whether more of them would not make it better.
    """

    fit: Fit
    start: Layers | None
    held_out: IndexArray
    cycles: int
    ended: bool


class Shown:
    """The losses of a network's epochs on the bar of all networks."""

    def __init__(self, bar: Any, epochs: int, name: str) -> None:
        self._bar, self._left, self._name = bar, epochs, name

    def epoch(self, values: Mapping[str, float]) -> None:
        """Show the losses of an epoch."""
        losses = {name: f"{values[name]:.4g}" for name in ("train_loss", "validation_loss")}
        self._bar.set_postfix({"network": self._name, **losses}, refresh=False)
        self._bar.update()
        self._left -= 1

    def end(self) -> None:
        """Count the epochs that were not needed."""
        self._bar.update(self._left)


class Watch(NamedTuple):
    """What looks at the training of a network: the jobs beside it, and the bar."""

    sharing: Sharing
    shown: Shown

    def epoch(self, values: Mapping[str, float]) -> bool:
        """Show the losses of an epoch; return whether training is to stop."""
        self.shown.epoch(values)
        return self.sharing.stopped


def train_member(
    features: Features,
    settings: Settings,
    parts: Sequence[IndexArray],
    number: int,
    cycles: int,
    watch: Watch,
    begun: Member | None = None,
) -> Member:
    """Train a network on all parts of some rows but one, by which it is validated.

    Its cycles are each twice as long as the one before, and begin with the best weights so far; after one without
    better weights training ends. One that was `begun` goes on to the same bits as if all cycles were trained at once.

    Examples
    --------
    See :func:`viva_tensor.tabular.members.train_members`, which trains several.
    """
    rows, held_out, prepared = all_but(parts, number), parts[number], features.prepared
    weights = prepared.weights
    if begun is None:
        with watch.sharing.share():
            unbinned = prepared.encoding.unbinned
            arrays = linear_start(features.x, features.y, prepared.target, settings, rows, unbinned, weights)
        start = None if arrays is None else record_layers(autograd.new_tape(), arrays).value
    else:
        start = begun.start
    classes, absent = None, None
    if isinstance(prepared.target, Classes):
        classes, y = prepared.target.outputs, features.y
        every = np.concatenate([rows, held_out])
        absent = absent_of(y[every], y[held_out], classes, None if weights is None else weights[every])
    given = {**features.rows_to_fit(rows, held_out), "classes": classes, "callback": watch.epoch}
    judged = absent is not None and settings.metric is None  # by a metric that nobody asked for
    own = replace(settings, metric=absent) if judged else settings
    whole, ended = _cycles(given, own, start, begun, cycles, watch.sharing)
    if judged:
        history = {name: column for name, column in whole.history.items() if name != "validation_metric"}
        whole = whole._replace(settings=replace(whole.settings, metric=None), history=history)
    return Member(whole, start, held_out, cycles, ended)


def unseen_by(
    networks: Sequence[Layers], activation: str, features: Features, parts: Sequence[IndexArray]
) -> Float32Array:
    """Return the outputs of each network for the rows that it was trained without.

    Examples
    --------
    See :func:`viva_tensor.tabular.members.train_members`, which uses them.
    """
    network = Network(activation)
    return np.concatenate(
        [in_blocks(partial(network, layers), features.x, part) for layers, part in zip(networks, parts, strict=True)]
    )


def _cycles(
    rows: dict[str, Any], settings: Settings, start: Layers | None, begun: Member | None, most: int, sharing: Sharing
) -> tuple[Fit, bool]:
    """Train up to so many cycles, and return the fit of all of them, and whether more would make it no better."""
    whole, first, ended = (None, 0, False) if begun is None else (begun.fit, begun.cycles, begun.ended)
    for cycle in range(first, most):
        if ended:
            break
        epochs = settings.epochs << cycle
        with sharing.share():
            own = replace(settings, epochs=epochs, patience=epochs)
            one = fit(**rows, settings=own, start=start if whole is None else whole.layers)
        whole = one if whole is None else _joined(whole, one)
        ended = sharing.stopped or (cycle > 0 and not one.best_epoch)
    assert whole is not None
    return whole, ended


def _joined(first: Fit, second: Fit) -> Fit:
    """Return a fit that went on where another ended."""
    before = len(first.history["epoch"])
    history = {name: column + second.history[name] for name, column in first.history.items()}
    history["epoch"] = [*range(1, len(history["epoch"]) + 1)]
    best = before + second.best_epoch if second.best_epoch else first.best_epoch
    seconds = first.seconds + second.seconds
    speed = rows_of_epochs(first, second) / seconds if seconds else 0.0
    return second._replace(history=history, best_epoch=best, seconds=seconds, rows_per_second=speed)


def rows_of_epochs(*fits: Fit) -> float:
    """Return how many rows were trained on in all epochs of fits.

    Examples
    --------
    >>> rows_of_epochs()
    0
    """
    return sum(one.rows_per_second * one.seconds for one in fits)
