"""What is kept of the table that a model was trained on, and other tables read as it was."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from viva_tensor.tabular.columns import Categorical, Date, Numeric, truths_of
from viva_tensor.tabular.data import DataError, kind_of, one_line
from viva_tensor.tabular.date_formats import NEARLY_ALL
from viva_tensor.tabular.encoding import Encoding
from viva_tensor.tabular.expected import Expected
from viva_tensor.tabular.missing_words import drop_missing
from viva_tensor.tabular.notation import (
    PLAIN,
    Dates,
    Notation,
    Numbers,
    Times,
    is_time,
    notation_from_dict,
    notation_to_dict,
)
from viva_tensor.tabular.recognition import Writing, overruled
from viva_tensor.tabular.typed_columns import OtherDates, decimals_told, times_as_hours, typed
from viva_tensor.tabular.word_forms import is_plain
from viva_tensor.tabular.words import Words


@dataclass(frozen=True)
class Origin:
    """What is kept of the table that a model was trained on, to read other tables like it.

    Attributes
    ----------
    notations : mapping
        How columns that are numbers or dates were written in the file, also of times that were no text there.
    writing : Writing
        What the user said about how values are written.
    id : str, optional
        The column that names the rows.
    """

    notations: Mapping[str, Notation] = field(default_factory=dict, hash=False)
    writing: Writing = Writing()  # noqa: RUF009  # frozen
    id: str | None = None

    def expected(self, encoding: Encoding, writing: Writing | None = None) -> Expected:
        """Return what is known of the columns of other files; `writing` overrules how values were written in training.

        Only the columns that are encoded, and that which names rows, must hold what they held there.

        Examples
        --------
        >>> Origin(id="name").expected(Encoding((), ())).only
        ['name']
        """
        text = [column.name for column in encoding.columns if isinstance(column, Categorical)]
        dates = [column.name for column in encoding.columns if isinstance(column, Date)]
        said = (writing or Writing()).or_else(Writing(missing=self.writing.missing))
        of_numbers = [column for column in encoding.columns if isinstance(column, Numeric)]
        usual = {one.name: Times() for one in of_numbers if one.durations}  # of frames, which have no notation
        written = {name: overruled(one, said) for name, one in (usual | {**self.notations}).items()}
        fixed = [one.name for one in of_numbers if not one.may_be_times]
        timeless = [name for name in fixed if not isinstance(written.get(name), Times)]
        named = [self.id] if self.id else []
        only = [*(column.name for column in encoding.columns), *named]
        return Expected(
            text=[*text, *named],
            numbers=[column.name for column in of_numbers],
            notations=written,
            only=only,
            names=named,
            dates=dates,
            timeless=timeless,
        )

    def read(self, encoding: Encoding, table: pd.DataFrame) -> pd.DataFrame:
        """Return a table whose columns of text are numbers, booleans and dates where they were that in training.

        Words that meant a missing value in training do here, too; categories are found by their labels as they are.

        Raises
        ------
        DataError
            If text is none of what its column held.

        Examples
        --------
        >>> table = pd.DataFrame({"size": ["1", "?"]})
        >>> sizes = Encoding((Numeric("size", 1.5, 1.5, 0.5, missing=True),), ())
        >>> Origin(writing=Writing(missing=("?",))).read(sizes, table)["size"].tolist()
        [1, <NA>]
        """
        words, writing = self.writing.missing, Writing(missing=self.writing.missing)
        measured = [one for one in encoding.columns if isinstance(one, Numeric | Date)]
        told = decimals_told(self.notations.values())
        known = self.expected(encoding)
        usual = {one.name: overruled(_usual(one, table, told), writing) for one in measured}
        notations = usual | {name: one for name, one in known.notations.items() if name in usual}
        expected = Expected(notations=notations, only=[*notations], timeless=known.timeless)
        table = table.copy(deep=False)
        for one in measured:
            boolean = isinstance(one, Numeric) and one.may_be_boolean
            if boolean and one.name in table and kind_of(table[one.name]) == "text":
                table[one.name] = truths_of(table[one.name], words)
        try:
            parsed = typed(table, writing, expected).table
        except OtherDates as error:
            raise DataError(f"{error} (of a data frame: pandas.to_datetime(column, format=...))") from error
        others = {one.name for one in encoding.columns} - usual.keys()
        times_as_hours(parsed, Expected(text=others, only=others))  # which there are words for, as in training
        drop_missing(parsed, words, Expected(only=others))
        return parsed

    def to_dict(self) -> dict[str, Any]:
        """Return the record that :meth:`from_dict` reads."""
        notations = {name: notation_to_dict(notation) for name, notation in self.notations.items()}
        return {"notations": notations, "writing": asdict(self.writing), "id": self.id}

    @classmethod
    def from_dict(cls, record: Any) -> Origin:
        """Return what :meth:`to_dict` recorded; of None, which is of a version that kept nothing, an empty one.

        Raises
        ------
        DataError

        Examples
        --------
        >>> Origin.from_dict(Origin(id="name").to_dict()).id
        'name'
        """
        if record is None:
            return cls()
        try:
            notations = {str(name): notation_from_dict(one) for name, one in record["notations"].items()}
            writing = record["writing"]
            missing = tuple(map(str, writing["missing"]))
            said = {name: str(writing[name]) for name in ("decimal", "thousands", "date_format")}
            return cls(notations, Writing(missing, **said), None if record["id"] is None else str(record["id"]))
        except (AttributeError, KeyError, TypeError) as error:
            raise DataError(f"not the description of a table: {one_line(error)}") from error


def _usual(column: Numeric | Date, table: pd.DataFrame, told: Collection[str]) -> Notation:
    """Return how text of a column is read whose notation training did not need: as a reader of files would.

    `told` are what the notations of other columns have before decimals.
    """
    if isinstance(column, Date):
        return Dates()
    if column.name not in table or kind_of(table[column.name]) != "text":
        return PLAIN
    words = Words(table[column.name])
    times, others = (int(words.rows[list(map(fits, words.words))].sum()) for fits in (is_time, is_plain))
    if times and times >= NEARLY_ALL * (times + others) and column.may_be_times:
        return Times()
    grouped = Numbers(",", ".")  # 1.234 is a thousand and more where others have commas before decimals
    fit = told == {","} and all(grouped.value(word) is not None for word in np.array(words.words)[~words.absent])
    return grouped if fit else PLAIN
