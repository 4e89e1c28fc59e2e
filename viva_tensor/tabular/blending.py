"""The preset "best": networks of several kinds and boosted trees, blended by what each says of rows it has not seen."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from importlib.util import find_spec
from time import perf_counter
from typing import NamedTuple

import numpy as np

from viva_tensor import optim
from viva_tensor.error import InvalidValue
from viva_tensor.kernels.arrays import Float64Array
from viva_tensor.kernels.checks import is_number
from viva_tensor.tabular import boosting
from viva_tensor.tabular.cycles import Member
from viva_tensor.tabular.data import IndexArray, one_line
from viva_tensor.tabular.features import Features
from viva_tensor.tabular.joining import joined_network
from viva_tensor.tabular.losses import row_losses
from viva_tensor.tabular.members import Joined, Members, Trained, train_members
from viva_tensor.tabular.packed import in_blocks
from viva_tensor.tabular.parts import all_but, parts_of_table
from viva_tensor.tabular.progress import counted
from viva_tensor.tabular.trees import Trees, sum_of
from viva_tensor.train import Fit, Settings

STEPS = 25  # of the choice of weights, each of which gives one of them 1/25
KINDS: tuple[tuple[tuple[int, ...] | None, float], ...] = (  # widths, if not the usual ones, and factors of decay
    (None, 1.0),
    ((256, 256), 1.0),
    (None, 3.0),
    ((64, 64), 1.0),
)
TREES = "boosted trees"


@dataclass(frozen=True)
class Best(Members):
    """How networks of several kinds and boosted trees are trained and blended within some time.

    Five networks as :class:`Members` are trained whatever time it takes, then trees of scikit-learn on the same parts
    of the rows, where it is installed and knows the loss, then five wider networks, five with more decay and five
    narrower ones, as long as there is time for them. Each kind gets a weight by its outputs for rows that it has not
    seen.

    Attributes
    ----------
    minutes : float
        Of training, after which nothing new is begun.

    Raises
    ------
    InvalidValue
        As of :class:`Members`, or if the minutes are not a number above 0.

    Examples
    --------
    >>> Best(minutes=2.5).count
    5
    """

    minutes: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (is_number(self.minutes) and 0 < self.minutes < np.inf):
            raise InvalidValue(f"minutes={self.minutes!r}, wanted a number above 0", operation="Best")

    def kinds(self) -> Iterator[tuple[str, Members]]:
        """Yield how each kind of networks is trained, with a name."""
        given = {one.name: getattr(self, one.name) for one in fields(Members)}
        for number, (hidden, factor) in enumerate(KINDS):
            optimizer = self.optimizer
            if factor != 1 and isinstance(optimizer, optim.AdamW):
                optimizer = replace(optimizer, weight_decay=factor * optimizer.weight_decay)
            changes = {"hidden": hidden or self.hidden, "optimizer": optimizer, "seed": self.seed + 1000 * number}
            one = Members(**(given | changes))
            name = "networks of " + "-".join(map(str, one.hidden)) + " units"
            yield name + (" with more decay" if factor > 1 else ""), one


class Blend(NamedTuple):
    """A network, trees whose outputs are to be added to its own, and the weight of each kind in both.

    Attributes
    ----------
    joined : Joined
        The network, and what it and the trees say of rows by those that did not see these.
    trees : Trees, optional
    weights : dict of float
    """

    joined: Joined
    trees: Trees | None
    weights: dict[str, float]

    @property
    def shares(self) -> str:
        """The weights in words."""
        return ", ".join(f"{weight:.0%} {name}" for name, weight in self.weights.items())


def fit_best(features: Features, settings: Settings, best: Best, begun: Member | None = None) -> Blend:
    """Train networks and trees on the training and validation rows of a table, and return their blend.

    On an interruption from the keyboard, what was trained whole is blended, with a warning; the first networks alone
    need not be whole.
    """
    begin, longest = perf_counter(), 0.0
    until = begin + 60 * best.minutes
    kinds: dict[str, Trained] = {}
    trees: list[Trees] = []
    outputs: dict[str, Float64Array] = {}  # of all rows, by what did not see them
    interrupted = False
    try:
        for name, members in best.kinds():
            started = perf_counter()
            if kinds and started + longest > until:
                break
            own = replace(settings, hidden=members.hidden, optimizer=members.optimizer, seed=members.seed)
            trained = train_members(features, own, members, None if kinds else begun)
            if trained.interrupted and kinds:
                raise KeyboardInterrupt
            order = np.argsort(trained.rows)
            kinds[name], rows, outputs[name] = trained, trained.rows[order], trained.outputs[order].astype(np.float64)
            if trained.interrupted:
                raise KeyboardInterrupt
            longest = max(longest, perf_counter() - started)
            if len(kinds) == 1 and perf_counter() < until:
                trees, unseen = _grown(features, best, until)
                outputs |= {TREES: unseen} if trees else {}
    except KeyboardInterrupt:
        if not kinds:
            raise
        interrupted = True
        warnings.warn(f"interrupted; only what was finished is blended: {', '.join(outputs)}", stacklevel=2)
    weights = _weights(outputs, features) if len(outputs) > 1 else dict.fromkeys(outputs, 1.0)
    fit, networks = _joined(kinds, weights)
    seconds = perf_counter() - begin
    speed = fit.rows_per_second * fit.seconds / seconds
    fit = fit._replace(seconds=seconds, rows_per_second=speed, interrupted=interrupted)
    share = weights.get(TREES, 0.0)
    whole = sum_of([one.scaled(share / len(trees)) for one in trees]) if share else None
    unseen = np.sum([weight * outputs[name] for name, weight in weights.items()], axis=0, dtype=np.float32)
    return Blend(Joined(fit, rows, unseen, networks), whole, weights)


def _joined(kinds: Mapping[str, Trained], weights: Mapping[str, float]) -> tuple[Fit, int]:
    """Return the fit of one network of all that have a weight; of the first kind, with no weight, if none has.

    With it the number of these networks.
    """
    chosen = {name: one for name, one in kinds.items() if weights.get(name)} or dict(list(kinds.items())[:1])
    networks = [one for trained in chosen.values() for one in trained.networks]
    each = [weights.get(name, 0.0) / len(one.networks) for name, one in chosen.items() for _ in one.networks]
    first = next(iter(chosen.values()))
    fit = first._replace(networks=networks).with_layers(joined_network([one.layers for one in networks], each))
    return fit, len(networks)


@contextmanager
def interrupts_as_such() -> Iterator[None]:
    """Raise KeyboardInterrupt in place of an error that C code made of it, as NumPy does where trees are grown.

    Examples
    --------
    >>> try:
    ...     with interrupts_as_such():
    ...         raise ValueError("no valid buffer") from KeyboardInterrupt()
    ... except KeyboardInterrupt:
    ...     print("interrupted")
    interrupted
    """
    try:
        yield
    except Exception as error:
        if isinstance(error.__cause__, KeyboardInterrupt):
            raise error.__cause__ from None
        raise


@interrupts_as_such()
def _grown(features: Features, best: Best, until: float) -> tuple[list[Trees], Float64Array]:
    """Return trees grown without each part of the rows, and their outputs for that part, of all rows in their order.

    There are none if scikit-learn is missing or broken or has no such loss, or what they would be grown on lacks a
    class, or has no counts but 0.
    On an interruption from the keyboard KeyboardInterrupt is raised.
    """
    prepared, y = features.prepared, features.y
    target, none = prepared.target, (list[Trees](), np.zeros(0))
    parts = parts_of_table(features, best.shares, best.seed)
    if not boosting.can_grow(target):
        return none
    others = [all_but(parts, number) for number in range(len(parts))]
    if not (all(boosting.can_learn(target, y[some]) for some in others) and imports_scikit_learn(TREES)):
        return none
    plain = np.arange(features.x.shape[1])[prepared.encoding.plain]

    def rows_of(some: IndexArray) -> boosting.Rows:
        weights = features.weights_of(some)
        return boosting.Rows(in_blocks(lambda x: x[:, plain], features.x, some), y[some], weights)

    grown, unseen = [], []
    # one after the other: scikit-learn changes the filters of warnings, which threads share
    for number, part in counted(enumerate(parts), "growing trees", len(parts)):
        held_out = rows_of(part)
        trees = boosting.grow(rows_of(others[number]), held_out, target, best.seed + number, until)
        grown.append(trees.of_columns(plain, features.x.shape[1]))
        unseen.append(trees(held_out.x))
    return grown, np.concatenate(unseen)[np.argsort(np.concatenate(parts))]


def imports_scikit_learn(use: str) -> bool:
    """Return whether scikit-learn can be imported; warn if it is there and fails, with its use in words.

    Examples
    --------
    >>> imports_scikit_learn("baselines")
    True
    """
    if find_spec("sklearn") is None:
        return False
    try:
        import sklearn.ensemble
        import sklearn.linear_model  # noqa: F401
    except Exception as error:  # NameError and the like of an import that Ctrl-C had broken off
        warnings.warn(f"{use} of scikit-learn are left out: {one_line(error)}", stacklevel=2)
        return False
    return True


def _weights(outputs: Mapping[str, Float64Array], features: Features) -> dict[str, float]:
    """Return a weight for each kind that makes the loss of all rows least, by outputs of what did not see them.

    Weights grow by a 25th where that helps most (Caruana et al., Ensemble selection from libraries of models, 2004).
    """
    rows = np.sort(features.prepared.split.given)
    target, y, shares = features.prepared.target, features.y[rows], features.prepared.weights
    counts, total = dict.fromkeys(outputs, 0), np.zeros_like(next(iter(outputs.values())))

    def loss(name: str) -> float:
        mean = ((total + outputs[name]) / (1 + sum(counts.values()))).astype(np.float32)
        return float(np.average(row_losses(mean, y, target), weights=None if shares is None else shares[rows]))

    for _ in range(STEPS):
        best = min(outputs, key=loss)
        counts[best] += 1
        total = total + outputs[best]
    return {name: count / sum(counts.values()) for name, count in counts.items() if count}
