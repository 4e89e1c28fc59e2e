"""Several networks, each trained without a part of the rows that decides when to stop it, joined into one network."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter
from typing import NamedTuple

import numpy as np

from viva_tensor import autograd, optim
from viva_tensor.kernels.arrays import Array, Float32Array
from viva_tensor.kernels.checks import check_count
from viva_tensor.kernels.threads import get_num_threads
from viva_tensor.tabular.column_choice import MOST_BINNED
from viva_tensor.tabular.cycles import Member, Shown, Watch, rows_of_epochs, train_member, unseen_by
from viva_tensor.tabular.data import IndexArray, number_of
from viva_tensor.tabular.effects import CrossFitting
from viva_tensor.tabular.features import Features
from viva_tensor.tabular.joining import joined_network
from viva_tensor.tabular.linear_start import MOST_FEATURES, is_better
from viva_tensor.tabular.parts import parts_of_table
from viva_tensor.tabular.progress import bar_of
from viva_tensor.tabular.side_by_side import Sharing, side_by_side
from viva_tensor.train import Fit, Settings, record_layers

LEAST_ROWS = 150  # of a table, below which parts of it tell too little
MOST_ROWS = 100_000  # of wide tables
MOST_VALUES = 10_000_000  # of longer ones: several networks take minutes beyond
ROWS_OF_BIN = 8
BATCHES = ((600, 32), (1500, 64), (8000, 128), (30_000, 256))  # up to so many rows, rows in one step
FIRST_EPOCHS = 20  # of the first cycle, at most
LARGEST_BATCH = 512
LEAST_BINS = 4
BINS_OF_MANY_ROWS = 32  # at least, whatever MOST_BINNED allows
SPARSE_BINS = 12  # from which on rows are learned from by the entries of these, and take no more memory


@dataclass(frozen=True)
class Members:
    """How several networks are trained.

    Attributes
    ----------
    count : int
        Number of networks, each trained without a different part of the rows.
    bins : int
        Features for parts of the range of each number, besides the number itself, at most.
    hidden : tuple of int
        Widths of the hidden layers of each.
    optimizer : Optimizer
        Its rate is the highest in each cycle.
    steps : int
        Steps of the first cycle, which has at most 20 epochs; each later cycle is twice as long as the one before.
    cycles : int
        Cycles, at most. Each begins with the best weights so far; training ends after one without better ones.
    seed : int
        Seed of the split of the rows, the weights and the order of the rows.
    parts : int
        Parts of the rows, at least two; 0 means as many as networks.

    Raises
    ------
    InvalidValue
        If one of these numbers is too low or not a number, there are fewer parts than networks, or the optimiser is not
        one.

    Examples
    --------
    >>> Members().settings(rows=1000).epochs
    19
    >>> Members().bins_for(rows=1000, columns=11), Members().bins_for(rows=80_000, columns=11)
    (64, 32)
    >>> Members().shares, Members(count=1, parts=10).told({"train": 900, "validation": 0}, 90)
    (5, {'train': 810, 'validation': 90})
    """

    count: int = 5
    bins: int = 64
    hidden: tuple[int, ...] = (128, 128)
    optimizer: optim.Optimizer = optim.AdamW(lr=4e-3, weight_decay=0.1)  # noqa: RUF009  # frozen
    steps: int = 250
    cycles: int = 4
    seed: int = 0
    parts: int = 0

    def __post_init__(self) -> None:
        for name, least in (("count", 1), ("bins", 0), ("steps", 1), ("cycles", 1), ("parts", 0)):
            check_count("Members", name, getattr(self, name), least=least)
        if self.parts or self.count < 2:
            check_count("Members", "parts", self.parts, least=max(2, self.count))
        self.settings(LEAST_ROWS)  # which checks the others

    @property
    def shares(self) -> int:
        """Parts of the rows, of which each network is trained without one."""
        return self.parts or self.count

    def bins_for(self, rows: int, columns: int) -> int:
        """Return the number of bins of each number of a table, so that its features stay few and take little memory."""
        most = max(MOST_BINNED // max(rows, 1), BINS_OF_MANY_ROWS)
        fitting = min(self.bins, rows // ROWS_OF_BIN, most, MOST_FEATURES // max(columns, 1))
        least = LEAST_BINS if rows * fitting <= MOST_BINNED else SPARSE_BINS
        return fitting if fitting >= least else 0

    def told(self, rows: Mapping[str, int], unseen: int) -> dict[str, int]:
        """Return the number of rows of each kind, given how many a network was trained without.

        With several networks, each row that is not for the test trains some of them.
        """
        given, held_out = rows["train"] + rows["validation"], unseen if self.count == 1 else 0
        return {**rows, "train": given - held_out, "validation": held_out}

    def settings(self, rows: int) -> Settings:
        """Return the settings of the first cycle for so many rows."""
        batch = next((size for most, size in BATCHES if rows <= most), LARGEST_BATCH)
        steps = math.ceil(rows * (1 - 1 / self.shares) / batch)  # of an epoch
        epochs = min(FIRST_EPOCHS, max(1, round(self.steps / steps)))
        return Settings(
            hidden=self.hidden,
            optimizer=self.optimizer,
            batch_size=batch,
            epochs=epochs,
            patience=epochs,  # so that the best weights are kept
            validation_fraction=0.0,
            seed=self.seed,
        )


def suits(rows: int, columns: int) -> bool:
    """Return whether several networks are the usual choice for a table of this size in memory."""
    return rows >= LEAST_ROWS and (rows <= MOST_ROWS or rows * columns <= MOST_VALUES)


class Joined(NamedTuple):
    """One network made of several, and what it says of rows by those of them that did not see these.

    Attributes
    ----------
    fit : Fit
    rows : ndarray of int
    outputs : ndarray [rows, outputs]
    networks : int
        How many it is made of.
    """

    fit: Fit
    rows: IndexArray
    outputs: Float32Array
    networks: int


def fit_members(
    features: Features,
    settings: Settings,
    members: Members,
    begun: Member | None = None,
    beside: Callable[[], object] | None = None,
) -> Joined:
    """Train networks as :func:`train_members` does, and return one network, which is their mean.

    On an interruption from the keyboard it is that of the networks that are trained, with a warning.
    """
    trained = train_members(features, settings, members, begun, beside)
    networks = [one.layers for one in trained.networks]
    if trained.interrupted:
        kept = number_of(len(networks), "network")
        warnings.warn(f"interrupted; kept: {kept} of {members.count}", stacklevel=2)
    fit = trained.with_layers(joined_network(networks, [1 / len(networks)] * len(networks)))
    return Joined(fit, trained.rows, trained.outputs, len(networks))


class Trained(NamedTuple):
    """Networks that were each trained without some rows, and their outputs for these.

    Attributes
    ----------
    networks : list of Fit
    rows : ndarray of int
        Those that a network was trained without, each once.
    outputs : ndarray [rows, outputs]
    seconds : float
    interrupted : bool
    """

    networks: list[Fit]
    rows: IndexArray
    outputs: Float32Array
    seconds: float
    interrupted: bool

    def with_layers(self, arrays: Sequence[Array]) -> Fit:
        """Return the fit of a network that was made of them: the mean of their histories, each up to its end."""
        longest = max(self.networks, key=lambda one: len(one.history["epoch"])).history
        history = {name: list(column) for name, column in longest.items()}
        for name in history.keys() - {"epoch", "learning_rate"}:
            columns = [one.history[name] for one in self.networks]
            history[name] = [
                float(np.mean([column[i] for column in columns if i < len(column)]))
                for i in range(len(longest["epoch"]))
            ]
        return self.networks[0]._replace(
            layers=record_layers(autograd.new_tape(), arrays).value,
            history=history,
            best_epoch=round(float(np.mean([one.best_epoch for one in self.networks]))),
            seconds=self.seconds,
            rows_per_second=rows_of_epochs(*self.networks) / self.seconds,
            interrupted=self.interrupted,
        )


def train_members(
    features: Features,
    settings: Settings,
    members: Members,
    begun: Member | None = None,
    beside: Callable[[], object] | None = None,
) -> Trained:
    """Train networks on the training and validation rows of a table, each without another part of them.

    The first goes on from where it was `begun` on these rows with these settings, if it was. If several are trained,
    `beside` is called too, as one more job. If they are no better than linear models on the rows that each has not
    seen, beyond chance, these are returned. On an interruption from the keyboard the networks that are trained are
    returned; if there are none, KeyboardInterrupt is raised.
    """
    target, y = features.prepared.target, features.y
    parts = parts_of_table(features, members.shares, settings.seed)
    effects = CrossFitting(features, parts)
    epochs = settings.epochs * (2**members.cycles - 1)  # of one network, at most
    begin, ends = perf_counter(), [0.0]
    with bar_of("training", members.count * epochs) as bar:

        def job(number: int) -> Callable[[Sharing], Member]:
            own = replace(settings, seed=settings.seed + number)
            shown = Shown(bar, epochs, f"{number + 1} of {members.count}")
            earlier = None if number else begun

            def train(sharing: Sharing) -> Member:
                given = effects.without(number)
                member = train_member(given, own, parts, number, members.cycles, Watch(sharing, shown), earlier)
                shown.end()
                ends.append(perf_counter())
                return member

            return train

        jobs: list[Callable[[Sharing], Member | None]] = [job(number) for number in range(members.count)]
        if beside is not None and members.count > 1:

            def other(sharing: Sharing) -> None:
                with sharing.share():
                    beside()

            jobs.insert(0 if get_num_threads() > 1 else len(jobs), other)  # last, it would keep threads waiting
        results = side_by_side(jobs)
        trained = [one for one in results if one is not None]
    if not trained:
        raise KeyboardInterrupt
    seconds = max(ends) - begin + (0.0 if begun is None else begun.fit.seconds)
    networks = [one.fit for one in trained]
    seen, given = [one.held_out for one in trained], effects.without()
    unseen = partial(unseen_by, activation=settings.activation, features=given, parts=seen)
    outputs, rows = unseen([one.layers for one in networks]), np.concatenate(seen)
    linear = [one.start for one in trained if one.start is not None]
    if linear:
        theirs = unseen(linear)
        if not is_better(outputs, theirs, y[rows], target, features.weights_of(rows)):
            outputs = theirs
            networks = [one._replace(layers=start, best_epoch=0) for one, start in zip(networks, linear, strict=True)]
    return Trained(networks, rows, outputs, seconds, results.interrupted)
