"""Whether a table is of a smooth function, which networks learn better with few bins and a smooth activation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from viva_tensor.distributed import ALONE
from viva_tensor.kernels.arrays import Float32Array
from viva_tensor.tabular.bins import FEW, with_few_bins, with_finer_bins
from viva_tensor.tabular.cycles import Member, Shown, Watch, train_member, unseen_by
from viva_tensor.tabular.data import IndexArray
from viva_tensor.tabular.effects import CrossFitting
from viva_tensor.tabular.features import Features, encoded
from viva_tensor.tabular.linear_start import is_better
from viva_tensor.tabular.losses import row_losses
from viva_tensor.tabular.members import Members
from viva_tensor.tabular.parts import parts_of_table
from viva_tensor.tabular.preparing import Prepared
from viva_tensor.tabular.progress import bar_of
from viva_tensor.tabular.side_by_side import Sharing, side_by_side
from viva_tensor.train import DivergenceError, Settings

SMOOTH = "silu"  # which passes on what is linear, as relu does
CYCLES = 2  # of training, after which ways are compared; a smooth activation learns slowly at first
LEAST_BETTER = 0.05  # of the loss
MOST_NOISE = 0.5  # of the loss of a constant; beyond, what is smooth in a function tells little


class Suited(NamedTuple):
    """A prepared table and settings that suit it, and the first of several networks, if it was begun with them."""

    prepared: Prepared
    settings: Settings
    begun: Member | None = None


def suited(prepared: Prepared, members: Members, settings: Settings) -> Suited:
    """Return a prepared table with finer bins, :func:`with_finer_bins`, or what suits a smooth function better.

    That is few bins, :func:`with_few_bins`, and a smooth activation. Of several networks the first is begun in both
    ways, and they are compared by the rows that it has not seen; it goes on in the one that is chosen. Where the first
    cycle leaves much of the loss, noise would hide the difference, and all stays as it is.
    """
    prepared = with_finer_bins(prepared)
    few = with_few_bins(prepared)
    if members.count < 2 or few.encoding == prepared.encoding:
        return Suited(prepared, settings)
    with encoded(prepared, None, ALONE, None) as many, encoded(few, None, ALONE, None) as fewer:
        parts = parts_of_table(many, members.shares, settings.seed)
        usual, smooth = _Way(many, settings, parts), _Way(fewer, replace(settings, activation=SMOOTH), parts)
        _follow([usual, smooth], 1)
        if smooth.member is None or usual.is_noisy():
            return Suited(prepared, settings, usual.member)
        _follow([usual, smooth], min(CYCLES, members.cycles))
        if not smooth.is_better(usual):
            return Suited(prepared, settings, usual.member)
    changed = [new.name for old, new in zip(prepared.encoding.columns, few.encoding.columns, strict=True) if new != old]
    note = f"{', '.join(map(repr, changed))}: learned better with {FEW} bins and the activation {SMOOTH}"
    return Suited(few._replace(notes=(*prepared.notes, note)), smooth.settings, smooth.member)


class _Way:
    """A way of training the first of several networks, as far as it was followed; it has no member if that diverged."""

    def __init__(self, features: Features, settings: Settings, parts: Sequence[IndexArray]) -> None:
        self.settings = settings
        self.member: Member | None = None
        self._features, self._parts = features, parts
        self._given: Features | None = None

    def follow(self, cycles: int, bar: Any) -> Callable[[Sharing], None]:
        """Return what trains the network up to so many cycles."""

        def train(sharing: Sharing) -> None:
            if self._given is None:
                self._given = CrossFitting(self._features, self._parts).without(0)
            watch = Watch(sharing, Shown(bar, 0, self.settings.activation))
            try:
                self.member = train_member(self._given, self.settings, self._parts, 0, cycles, watch, self.member)
            except DivergenceError:  # of the usual way it is raised again when that is trained
                self.member = None

        return train

    def is_noisy(self) -> bool:
        """Return whether the network leaves much of the loss that the mean of its outputs has, or diverged."""
        if self.member is None:
            return True
        outputs = self._unseen(self.member)
        constant = np.broadcast_to(outputs.mean(axis=0), outputs.shape)
        return self._loss(self.member, outputs) > MOST_NOISE * self._loss(self.member, constant)

    def is_better(self, other: _Way) -> bool:
        """Return whether its loss is lower by a twentieth, and beyond chance."""
        if self.member is None or other.member is None:
            return False
        ours, theirs = self._unseen(self.member), other._unseen(other.member)
        usual, rows, features = other._loss(other.member, theirs), self.member.held_out, self._features
        if self._loss(self.member, ours) > usual - LEAST_BETTER * abs(usual):
            return False
        return is_better(ours, theirs, features.y[rows], features.prepared.target, features.weights_of(rows))

    def _unseen(self, member: Member) -> Float32Array:
        """Return outputs for the rows that the network has not seen."""
        assert self._given is not None
        return unseen_by([member.fit.layers], self.settings.activation, self._given, [member.held_out])

    def _loss(self, member: Member, outputs: Float32Array) -> float:
        """Return the mean loss of outputs for these rows."""
        rows, features = member.held_out, self._features
        losses = row_losses(outputs, features.y[rows], features.prepared.target)
        return float(np.average(losses, weights=features.weights_of(rows)))


def _follow(ways: Sequence[_Way], cycles: int) -> None:
    """Train the networks of some ways up to so many cycles, side by side.

    On an interruption from the keyboard KeyboardInterrupt is raised.
    """
    with bar_of("comparing", sum(way.settings.epochs for way in ways) << (cycles - 1)) as bar:
        if side_by_side([way.follow(cycles, bar) for way in ways]).interrupted:
            raise KeyboardInterrupt
