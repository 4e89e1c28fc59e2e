"""What is known of the columns of a file before it is read."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from viva_tensor.tabular.data import check_sequence
from viva_tensor.tabular.notation import ISO, Dates, Notation, Numbers, Times


@dataclass(frozen=True)
class Expected:
    """What is known of columns before their file is read.

    Attributes
    ----------
    text : collection of str
        Columns to read as text, even if every value looks like a number.
    numbers : collection of str
        Columns of numbers, even if some begin with a zero.
    notations : mapping
        How columns are written; a value that is written otherwise is an error.
    unused : collection of str
        Columns that may hold anything.
    only : collection of str, optional
        The columns that are used, if all others may hold anything.
    names : collection of str
        Those of `text` that name rows, and keep the text of the file but for spaces around it.
    dates : collection of str
        Columns of dates.
    timeless : collection of str
        Columns of numbers that are neither durations nor times of day.
    """

    text: Collection[str] = ()
    numbers: Collection[str] = ()
    notations: Mapping[str, Notation] = field(default_factory=dict)
    unused: Collection[str] = ()
    only: Collection[str] | None = None
    names: Collection[str] = ()
    dates: Collection[str] = ()
    timeless: Collection[str] = ()

    def __post_init__(self) -> None:
        check_sequence("columns", text=self.text, numbers=self.numbers, unused=self.unused, only=self.only)
        check_sequence("columns", names=self.names, dates=self.dates, timeless=self.timeless)

    def uses(self, name: str) -> bool:
        """Return whether a column is used, and so must hold what is expected."""
        return name not in self.unused and (self.only is None or name in self.only)

    def as_text(self, name: str) -> bool:
        """Return whether a column must be read as text, since a reader of numbers would read it otherwise."""
        notation = self.notations.get(name)
        if isinstance(notation, Numbers):
            return notation.decimal == ","
        if isinstance(notation, Times):
            return True  # else numbers that are no times would look like hours
        return name in self.text or (isinstance(notation, Dates) and notation.format != ISO)
