"""Presets: whether one network learns a table or the mean of several, with which settings, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from viva_tensor.tabular.blending import Best
from viva_tensor.tabular.data import DataError, did_you_mean
from viva_tensor.tabular.defaults import Preset, settings_for
from viva_tensor.tabular.members import LEAST_ROWS, MOST_ROWS, MOST_VALUES, Members, suits
from viva_tensor.tabular.reading import Source
from viva_tensor.tabular.streaming import Stream
from viva_tensor.train import Settings
from viva_tensor.train.rows import shares_of

FAST, DEFAULT, BEST = "fast", "default", "best"
PRESETS = (FAST, DEFAULT, BEST)
ONE = ""  # no preset: one network with the settings given
KINDS: Mapping[str, Members] = {FAST: Members(count=1, parts=10, cycles=2), DEFAULT: Members(), BEST: Best()}


@dataclass(frozen=True)
class Situation:
    """What decides, besides the preset, how a table is learned.

    Attributes
    ----------
    rows : int
        That can be learned from.
    columns : int
        Of the table.
    streamed : bool
        Whether the table is read in blocks.
    ranks : int
        Processes that train together.
    checkpoint, start : bool
        Whether a checkpoint is kept, and whether training goes on from a model.
    """

    rows: int
    columns: int = 1
    streamed: bool = False
    ranks: int = 1
    checkpoint: bool = False
    start: bool = False

    @classmethod
    def of(cls, source: Source | Stream, target: str, weights: npt.ArrayLike | None = None, **others: Any) -> Situation:
        """Return the situation of a table that was read, or is read in blocks.

        Of a table in memory only rows that have a target, and no weight of 0, count.
        """
        if isinstance(source, Stream):
            return cls(source.rows, streamed=True, **others)
        table = source.table
        rows = len(table)
        if isinstance(table, pd.DataFrame) and target in table.columns:
            present = np.flatnonzero(table[target].notna())
            if weights is not None and len(present):
                present = present[shares_of("fit", weights, rows, present)[present] > 0]
            rows = len(present)
        return cls(rows, len(table.columns), **others)

    @property
    def obstacle(self) -> str:
        """Why several networks cannot be trained, or nothing."""
        reasons = {
            "the table is read in blocks": self.streamed,
            "several processes train together": self.ranks > 1,
            "a checkpoint is kept": self.checkpoint,
            "training goes on from a model": self.start,
        }
        return next((reason for reason, holds in reasons.items() if holds), "")

    @property
    def size(self) -> str:
        """How the size of the table compares with those that several networks suit."""
        if self.rows < LEAST_ROWS:
            return f"fewer than {LEAST_ROWS:,} rows"
        if self.rows <= MOST_ROWS:
            return f"{LEAST_ROWS:,} to {MOST_ROWS:,} rows"
        if suits(self.rows, self.columns):
            return f"more than {MOST_ROWS:,} rows, but at most {MOST_VALUES:,} values"
        return f"more than {MOST_ROWS:,} rows and {MOST_VALUES:,} values"


@dataclass(frozen=True)
class Choice:
    """Settings of one network, or how several are trained, with the preset that chose them and why.

    Attributes
    ----------
    settings : Settings or Members
    preset : str
        Empty if nothing but the settings was given.
    why : str
    """

    settings: Settings | Members
    preset: str = ""
    why: str = "settings as given"

    @property
    def members(self) -> Members | None:
        """How several networks are trained, if there are several."""
        return self.settings if isinstance(self.settings, Members) else None

    def of_each(self, rows: int) -> Settings:
        """Return the settings of each network, for so many rows to train on; of several those of the first cycle."""
        return self.settings.settings(rows) if isinstance(self.settings, Members) else self.settings

    def told(self, settings: Settings, bins: int) -> Preset:
        """Return what a report says of the choice, with the settings of each network."""
        if self.members is None:
            return Preset(self.preset, self.why, 1, bins, settings.epochs)
        members = self.members
        epochs = settings.epochs * (2**members.cycles - 1)
        return Preset(self.preset, self.why, members.count, bins, epochs, members.shares)


def named(preset: str | None, of_one: Sequence[str] = ()) -> str:
    """Return the preset in force: by default several networks, or none if anything is said that is `of_one` network.

    Raises
    ------
    DataError
        If there is no such preset, or one is given together with settings of one network.

    Examples
    --------
    >>> named(None), named(None, of_one=["epochs"])
    ('default', '')
    >>> named("fats")
    Traceback (most recent call last):
    ...
    viva_tensor.tabular.data.DataError: no preset 'fats'; did you mean 'fast'? The presets are: fast, default, best
    """
    if preset is not None and preset not in PRESETS:
        hint = did_you_mean(str(preset), PRESETS) or "."
        raise DataError(f"no preset {preset!r}{hint} The presets are: {', '.join(PRESETS)}")
    if preset is not None and of_one:
        hint = f"and the preset {preset} has settings of its own; give one of them"
        raise DataError(f"{', '.join(of_one)} is for one network, {hint}")
    return ONE if of_one else preset or DEFAULT


def choose(preset: str, situation: Situation, said: Mapping[str, Any] | None = None) -> Choice:
    """Return what a preset makes of a table; of what the user `said` of one network, :class:`Members` take the seed.

    "default" is the mean of five networks, ``Members()``, for tables in memory of 150 to 100,000 rows, or of more with
    up to ten million values, that one process learns from the beginning without a checkpoint; "fast" is one of such
    networks, trained for at most two cycles without a tenth of the rows; "best" is a blend of several kinds of networks
    and boosted trees, :class:`Best`, of which the user may have `said` how many minutes they may take. On other tables,
    and without a preset, it is one network with the settings that suit the number of rows, :func:`settings_for`.

    Raises
    ------
    DataError
        If there is no such preset.

    Examples
    --------
    >>> choose("default", Situation(rows=5000)).members.count
    5
    >>> one = choose("default", Situation(rows=120))
    >>> one.members, one.settings.batch_size, one.why
    (None, 16, 'fewer than 150 rows')
    >>> choose("default", Situation(rows=200_000, columns=50)).members.count
    5
    >>> choose("default", Situation(rows=200_000, columns=51)).why
    'more than 100,000 rows and 10,000,000 values'
    """
    if preset == ONE:
        return Choice(settings_for(situation.rows, _of_one(said)))
    name = named(preset)
    if not situation.obstacle and suits(situation.rows, situation.columns):
        own = {"seed", "minutes"} if name == BEST else {"seed"}
        changes = {one: value for one, value in (said or {}).items() if one in own and value is not None}
        return Choice(replace(KINDS[name], **changes), name, situation.size)
    return Choice(settings_for(situation.rows, _of_one(said)), name, situation.obstacle or situation.size)


def _of_one(said: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what the user said that is for one network."""
    return {name: value for name, value in (said or {}).items() if name != "minutes"}


def chosen(settings: Settings | Members | Choice | None, preset: str | None, situation: Situation) -> Choice:
    """Return the choice that settings are, or else that of a preset.

    Raises
    ------
    DataError
        If both are given, if settings are none or there is no such preset, or several networks are wanted where only
        one can be trained.
    """
    if settings is None:
        return choose(named(preset), situation)
    if preset is not None:
        raise DataError(f"preset={preset!r} and settings are both given; give one of them")
    if not isinstance(settings, Settings | Members | Choice):
        hint = "tabular.settings_for(rows, {...}) completes settings from those you give"
        raise DataError(f"settings={settings!r:.100}, wanted Settings, Members or a Choice; {hint}")
    choice = settings if isinstance(settings, Choice) else Choice(settings)
    if choice.members is not None and situation.obstacle:
        raise DataError(f"several networks cannot be trained where {situation.obstacle}; give Settings for one network")
    return choice
