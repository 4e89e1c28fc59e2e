"""The kinds of columns, each with the way from its values to float64 features, as records that JSON can hold."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from viva_tensor.kernels.arrays import Float64Array
from viva_tensor.tabular.data import EPOCH, DataError, IndexArray, has_offsets, kind_of, labels_of, numbers_of
from viva_tensor.tabular.labels import index_among, mark_of, normal
from viva_tensor.tabular.notation import is_time
from viva_tensor.tabular.words import ERRORS, MARKERS

CLIP = 10.0  # standard deviations that count in any case; one absurd value must not outweigh all others
MISSING = "(missing)"
NEWLY_MISSING = "are missing, as none was in training"
WORDS_OF_TRUTH = (("true", "false"), ("t", "f"), ("yes", "no"), ("y", "n"), ("wahr", "falsch"))
TRUTHS = {word: truth for words in WORDS_OF_TRUTH for word, truth in zip(words, (True, False), strict=True)}
PAIRS = (*WORDS_OF_TRUTH, ("1", "0"))  # which categories may be, and new rows of these have as another of them
DAYS = {"year": 365.2425, "week": 7.0, "day": 1.0}
ROUNDING = 1e-6  # days; a time that is so little before a full hour is that hour, computed from another time


def truths_of(column: pd.Series[Any], missing: Sequence[str] = ()) -> pd.Series[Any]:
    """Return a column of text as booleans if it holds no other words than theirs and those for missing values.

    They are true, t, yes, y and wahr, or false, f, no, n and falsch. `missing` and the words in MARKERS stand for
    missing values.

    Examples
    --------
    >>> truths_of(pd.Series(["True", "false", "gone", "NA"]), ["gone"]).tolist()
    [True, False, <NA>, <NA>]
    >>> truths_of(pd.Series(["t", "f", "Yes", "FALSCH"])).tolist()
    [True, False, True, False]
    >>> truths_of(pd.Series(["True", "perhaps"])).tolist()
    ['True', 'perhaps']
    """
    codes, labels = labels_of(column)
    truths = [None if word in missing else TRUTHS.get(word.casefold()) for word in map(str.strip, labels)]
    for truth, word in zip(truths, map(str.strip, labels), strict=True):
        if truth is None and word and word not in missing and word.casefold() not in MARKERS:
            return column
    found = np.array([*truths, None], dtype=object)
    return pd.Series(found[codes], column.index, dtype="boolean", name=column.name)


def _told(name: str, which: npt.NDArray[np.bool_], what: str) -> str:
    """Describe some values of a column: how many they are of all, and where the first is."""
    return f"{name}: {which.sum():,} of {len(which):,} values {what}, the first in row {int(np.argmax(which))}"


def _as_labelled(column: pd.Series[Any], labels: Sequence[str]) -> pd.Series[Any]:
    """Return hours, which times become in files that know them as such, as durations if all labels are of these."""
    if kind_of(column) != "number" or not all(map(is_time, labels)):
        return column
    durations = pd.to_timedelta(numbers_of(column), unit="h", errors="coerce")
    return pd.Series(durations.round("us"), column.index)  # as labels are


@dataclass(frozen=True)
class Numeric:
    """A number or boolean as ``(value - mean) / std``, clipped to `limits`, with `median` for a missing value.

    The limits are ±10, or as far as the values of the training rows reach without a gap, if that is further, and three
    times that where most values are alike.
    Between `edges`, if there are any, lie bins, each with a feature that rises from 0 to 1 within it (Gorishniy et al.,
    On embeddings for numerical features in tabular deep learning, NeurIPS 2022, arXiv:2203.05556). If `missing`, a last
    feature is 1 where the value is missing. Training rows had values from `low` to `high`; `durations` says whether
    these were durations, in hours, where that is known.
    """

    name: str
    median: float
    mean: float
    std: float
    missing: bool = False
    low: float = -math.inf
    high: float = math.inf
    edges: tuple[float, ...] = ()
    limits: tuple[float, float] = (-CLIP, CLIP)
    durations: bool | None = None

    @property
    def feature_names(self) -> tuple[str, ...]:
        bins = (f"{self.name} from {edge:g}" for edge in self.edges[:-1])
        return (self.name, *bins, *[f"{self.name}={MISSING}"] * self.missing)

    @property
    def binned(self) -> tuple[bool, ...]:
        """Whether each feature is that of a bin."""
        return (False, *[True] * len(self.edges[:-1]), *[False] * self.missing)

    @property
    def may_be_boolean(self) -> bool:
        """Whether the training rows may have held booleans."""
        return (self.low >= 0 and self.high <= 1) or not math.isfinite(self.low)

    @property
    def may_be_times(self) -> bool:
        """Whether the training rows may have held durations or times of day, as hours."""
        return self.durations is not False

    def encode(self, column: pd.Series[Any]) -> Float64Array:
        if pd.api.types.is_bool_dtype(column) and not self.may_be_boolean:
            raise DataError(f"column {self.name!r} must hold numbers ({self.low:g} to {self.high:g}), not booleans")
        return self.scale(numbers_of(column))

    def scale(self, values: Float64Array) -> Float64Array:
        """Return the features of values, NaN where missing."""
        absent = np.isnan(values)
        values = np.where(absent, self.median, values)
        with np.errstate(over="ignore"):
            scaled = np.clip((values - self.mean) / self.std, *self.limits)
        parts = [scaled]
        if self.edges:
            edges = np.array(self.edges)
            parts.append(np.clip((values[:, None] - edges[:-1]) / np.diff(edges), 0, 1))
        return np.column_stack([*parts, absent] if self.missing else parts)

    def unfamiliar(self, column: pd.Series[Any]) -> str:
        """Describe values beyond those of the training rows, if there are any."""
        return self.beyond(numbers_of(column), column, f"{self.low:g} to {self.high:g}")

    def beyond(self, values: Float64Array, column: pd.Series[Any], limits: str) -> str:
        beyond = (values < self.low) | (values > self.high)
        absent = np.isnan(values)
        if absent.any() and not self.missing:
            return _told(self.name, absent, NEWLY_MISSING) + "; the median of training stands for them"
        if not beyond.any():
            return ""
        what = f"lie outside the range of the training rows ({limits})"
        return f"{_told(self.name, beyond, what)}: {column[beyond].iloc[0]}"


@dataclass(frozen=True)
class Date:
    """A date or time as days since `origin`, scaled as `days` says, and for each cycle as sine and cosine.

    The cycles are the "year", the "week" and the "day", each of them if the training rows tell something about it.
    `offsets` says whether the training rows had an offset from UTC or a time zone, where that is known. Of the `bins`
    of each cycle, if there are any, all but the first have a feature that is 1 from where they begin in the cycle.
    """

    name: str
    origin: str
    days: Numeric
    cycles: tuple[str, ...] = ()
    offsets: bool | None = None
    bins: tuple[int, ...] = ()

    @property
    def feature_names(self) -> tuple[str, ...]:
        names = list(self.days.feature_names)
        for cycle, bins in self._binned_cycles:
            names += [f"{self.name}: {wave} of the {cycle}" for wave in ("sine", "cosine")]
            names += [f"{self.name}: {cycle} from {number} of {bins}" for number in range(1, bins)]
        return tuple(names)

    @property
    def binned(self) -> tuple[bool, ...]:
        """Whether each feature is that of a bin."""
        cycles = (is_bin for _, bins in self._binned_cycles for is_bin in (False, False, *[True] * (bins - 1)))
        return (*self.days.binned, *cycles)

    @property
    def _binned_cycles(self) -> list[tuple[str, int]]:
        """Each cycle with the number of its bins, 1 if it has none."""
        return [*zip(self.cycles, self.bins or (1,) * len(self.cycles), strict=True)]

    def encode(self, column: pd.Series[Any]) -> Float64Array:
        days = numbers_of(column, self.origin)
        start = numbers_of(pd.Series([pd.Timestamp(self.origin)]), EPOCH)[0]
        parts, known, days_of_all = [self.days.scale(days)], ~np.isnan(days), np.nan_to_num(days + start)
        for cycle, bins in self._binned_cycles:
            angle = 2 * np.pi * days_of_all / DAYS[cycle]
            parts += [np.where(known, wave(angle), 0) for wave in (np.sin, np.cos)]
            turns = (days_of_all + ROUNDING) / DAYS[cycle]
            place = np.floor(bins * (turns - np.floor(turns)))
            parts.append(known[:, None] & (place[:, None] >= np.arange(1, bins)))
        return np.column_stack(parts)

    def unfamiliar(self, column: pd.Series[Any]) -> str:
        """Describe dates beyond those of the training rows, or with an offset from UTC where these had none."""
        ends = [
            pd.Timestamp(self.origin) + pd.Timedelta(days=day) if math.isfinite(day) else None
            for day in (self.days.low, self.days.high)
        ]
        timed = any(end is not None and end != end.normalize() for end in ends)
        shown = len("2024-01-31 00:00:00") if timed else len("2024-01-31")
        limits = " to ".join("" if end is None else str(end)[:shown] for end in ends)
        beyond = self.days.beyond(numbers_of(column, self.origin), column, limits)
        return "; ".join(filter(None, [self.other_clock(column), beyond]))

    def other_clock(self, column: pd.Series[Any]) -> str:
        """Tell if dates have an offset from UTC and those of training had none, or the other way round.

        Examples
        --------
        >>> date = Date("day", "2024-01-01T00:00:00", Numeric("day", 0.0, 0.0, 1.0), offsets=True)
        >>> date.other_clock(pd.Series(pd.to_datetime(["2024-01-31 10:30"])))[:70]
        'day: times have no offset from UTC, those of the training rows had one'
        """
        found = has_offsets(column)
        if self.offsets is None or found is None or found == self.offsets:
            return ""
        here, there = ("an offset", "none") if found else ("no offset", "one")
        told = f"{self.name}: times have {here} from UTC, those of the training rows had {there}"
        return f"{told}; times without an offset are taken as UTC"


@dataclass(frozen=True)
class Categorical:
    """A text or category as one feature per category: 1 for the category of the row, 0 elsewhere.

    A value outside `categories` is 0 everywhere, unless it is one of them but for letter case, the form of a number or
    the words for true and false.
    If `missing`, a last feature is 1 where the value is missing. `others` are the marks of rarer values that training
    had, None where these are not known.
    """

    name: str
    categories: tuple[str, ...]
    missing: bool = False
    others: tuple[int, ...] | None = field(default=None, repr=False)  # may be thousands

    @property
    def feature_names(self) -> tuple[str, ...]:
        labels = (*self.categories, MISSING) if self.missing else self.categories
        return tuple(f"{self.name}={label}" for label in labels)

    @property
    def binned(self) -> tuple[bool, ...]:
        """Whether each feature is that of a bin."""
        return (False,) * len(self.feature_names)

    def encode(self, column: pd.Series[Any]) -> npt.NDArray[np.bool_]:
        return self.one_hot[self.codes(column)]

    @property
    def one_hot(self) -> npt.NDArray[np.bool_]:
        """The features of each code [codes, features]."""
        codes = len(self.categories) + 2
        return np.eye(codes, len(self.categories) + self.missing, dtype=bool)

    def codes(self, column: pd.Series[Any]) -> IndexArray:
        """Return the code of each row: of its category, then of a missing value, then of a category not in training."""
        indices = self._indices(column)
        return np.where(indices < 0, len(self.categories) + 1, indices)

    def _indices(self, column: pd.Series[Any]) -> IndexArray:
        """Return the index of each row's category, -1 for a category that training did not have."""
        codes, labels = labels_of(_as_labelled(column, self.categories))
        missing, index_of = len(self.categories), index_among(self.categories)
        indices = [*map(index_of, labels), missing]  # code -1, a missing value, finds the last
        forms = {*map(normal, self.categories)}
        pair = next((words for words in PAIRS if forms <= {*words}), None)
        same = {word: pair[place] for words in PAIRS for place, word in enumerate(words)} if pair else {}
        for i, label in enumerate(labels):
            if indices[i] < 0 and label in ERRORS:
                indices[i] = missing
            elif indices[i] < 0 and normal(label) in same:
                indices[i] = index_of(same[normal(label)])
        return np.array(indices)[codes]

    def unfamiliar(self, column: pd.Series[Any]) -> str:
        """Describe values that training did not have, as far as that is known, if there are any."""
        indices = self._indices(column)
        unseen = (indices < 0) & ~self._among_others(column)
        absent = indices == len(self.categories)
        if absent.any() and not self.missing:
            return _told(self.name, absent, NEWLY_MISSING)
        if not unseen.any():
            return ""
        known = "are in no category that was learned"
        what = known if self.others is not None else "are in no category with a feature: rare in training, or new"
        return f"{_told(self.name, unseen, what)}: {str(column[unseen].iloc[0])!r}"

    def _among_others(self, column: pd.Series[Any]) -> npt.NDArray[np.bool_]:
        """Return which rows have a value that is marked as one of the rarer ones of training."""
        codes, labels = labels_of(column)
        marks = {*(self.others or ())}
        return np.array([*(bool(marks) and mark_of(label) in marks for label in labels), False])[codes]


@dataclass(frozen=True)
class Effect:
    """What the target tends to be for each value of a column, in addition to the features of the column itself.

    `means` has a number for each output of each of `values`, which are labels in their normal form. It is 0 for missing
    values and those not in training.
    """

    name: str
    values: tuple[str, ...]
    means: tuple[tuple[float, ...], ...]

    @property
    def feature_names(self) -> tuple[str, ...]:
        outputs = len(self.means[0])
        return tuple(f"{self.name}: effect" + f" {i + 1}" * (outputs > 1) for i in range(outputs))

    @property
    def binned(self) -> tuple[bool, ...]:
        """Whether each feature is that of a bin."""
        return (False,) * len(self.means[0])

    def encode(self, column: pd.Series[Any]) -> Float64Array:
        means = np.array([*self.means, (0.0,) * len(self.means[0])])
        return means[self.codes(column)]  # code -1 finds the last entry

    def codes(self, column: pd.Series[Any]) -> IndexArray:
        """Return the index of each row's value, -1 where it is missing or was not in training."""
        hours = kind_of(column) == "duration" and not all(map(is_time, self.values))
        given = pd.Series(numbers_of(column), column.index) if hours else _as_labelled(column, self.values)
        codes, labels = labels_of(given)
        place = {normal(value): i for i, value in enumerate(self.values)}  # of older models in other forms
        return np.array([*(place.get(normal(label), -1) for label in labels), -1])[codes]

    def unfamiliar(self, column: pd.Series[Any]) -> str:
        """Describe values that were not in training, if there are any."""
        unseen = (self.codes(column) < 0) & column.notna().to_numpy()
        if not unseen.any():
            return ""
        return f"{_told(self.name, unseen, 'were not in training')}: {str(column[unseen].iloc[0])!r}"


Column = Numeric | Date | Categorical | Effect


def column_from_dict(record: Mapping[str, Any]) -> Column:
    """Return the column of which a JSON object has the fields, and its `kind`.

    Raises
    ------
    KeyError, TypeError, ValueError
        If it describes none.
    """
    name = str(record["name"])
    match record["kind"]:
        case "categorical":
            others = record.get("others")  # which older models did not know
            others = None if others is None else tuple(map(int, others))
            return Categorical(name, tuple(map(str, record["categories"])), bool(record["missing"]), others)
        case "effect":
            return _effect_from_dict(name, record)
        case "date":
            cycles = tuple(record["cycles"])
            if not set(cycles) <= DAYS.keys():
                raise ValueError(f"unknown cycles of dates in {cycles}")
            offsets = record.get("offsets")  # which older models did not know
            offsets = None if offsets is None else bool(offsets)
            bins = tuple(map(int, record.get("bins", ())))
            if bins and (len(bins) != len(cycles) or min(bins) < 1):
                raise ValueError(f"the bins of column {name!r} are not a number above 0 for each cycle")
            return Date(name, _time(record["origin"]), _numeric_from_dict(record["days"]), cycles, offsets, bins)
        case "numeric":
            numeric = _numeric_from_dict(record)
            # models of version 0.1 have dates so
            return numeric if record.get("origin") is None else Date(name, _time(record["origin"]), numeric)
    raise ValueError(f"unknown kind {record['kind']!r}")


def _effect_from_dict(name: str, record: Mapping[str, Any]) -> Effect:
    means = tuple(tuple(map(float, row)) for row in record["means"])
    values = tuple(map(str, record["values"]))
    if not values or len(values) != len(means) or len(set(map(len, means))) != 1 or not np.isfinite(means).all():
        raise ValueError(f"the effects of column {name!r} are not a number for each output of each value")
    return Effect(name, values, means)


def _time(text: Any) -> str:
    if pd.isna(pd.Timestamp(text)):
        raise ValueError(f"{text!r} is no time")
    return str(text)


def _numeric_from_dict(record: Mapping[str, Any]) -> Numeric:
    median, mean, std = (float(record[key]) for key in ("median", "mean", "std"))
    if not (np.isfinite([median, mean, std]).all() and std > 0):
        raise ValueError(f"column {record['name']!r} has no finite median, mean and positive std")
    low, high = float(record.get("low", -math.inf)), float(record.get("high", math.inf))
    edges = tuple(map(float, record.get("edges", ())))
    if not np.isfinite(edges).all() or (np.diff(edges) <= 0).any() or len(edges) == 1:
        raise ValueError(f"the bins of column {record['name']!r} have no rising edges")
    least, most = map(float, record.get("limits", (-CLIP, CLIP)))
    if not (np.isfinite([least, most]).all() and least < most):
        raise ValueError(f"the limits of column {record['name']!r} are not two finite numbers that rise")
    durations = record.get("durations")  # which older models did not know
    durations = None if durations is None else bool(durations)
    name, missing, limits = str(record["name"]), bool(record["missing"]), (least, most)
    return Numeric(name, median, mean, std, missing, low, high, edges, limits, durations)
