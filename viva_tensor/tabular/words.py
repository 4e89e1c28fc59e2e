"""The distinct values of a text column, and which of them stand for a missing value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from viva_tensor.tabular.data import IndexArray
from viva_tensor.tabular.word_forms import without_zeros

# what people write beside the sums below a table, without letter case
TOTALS = frozenset(("total", "totals", "grand total", "sum", "summe", "gesamt", "gesamtsumme", "gesamtergebnis",
                    "insgesamt", "somme", "total général", "totale", "totale generale", "suma", "total general",
                    "totaal", "totalt", "summa", "razem", "celkem", "toplam", "subtotal", "合计", "итого",
                    "всего"))  # fmt: skip
# These are what spreadsheets, the German ones, too, have in a cell that failed, and mean a missing value in any column.
ERRORS = frozenset(("#N/A", "#DIV/0!", "#VALUE!", "#REF!", "#NAME?", "#NUM!", "#NULL!", "#NV", "#WERT!", "#BEZUG!",
                    "#ZAHL!"))  # fmt: skip
# Among classes that are truths or numbers these mean a missing value.
MARKS = frozenset(("?", "-", "--", "---", ".", "..", "n/a", "na", "n.a.", "nan", "null", "#na", "<na>",
                   *map(str.casefold, ERRORS)))  # fmt: skip
# In a column of numbers, dates or times these mean a missing value, too; in text they are words like any other.
MARKERS = MARKS | {"none", "nil", "(missing)", "missing", "unknown", "not available", "not applicable", "no data",
                   "n/d", "n.d.", "s/d", "k.a.", "k. a.", "keine angabe", "unbekannt", "non disponible", "inconnu",
                   "sin datos", "desconocido", "non disponibile", "sconosciuto", "sem dados", "desconhecido",
                   "onbekend", "brak danych", "нет данных", "不明", "未知"}  # fmt: skip
LONGEST = 40  # characters of a value that are shown

# Spaces, signs and separators of other scripts as those of ASCII; digits of any script are known as such.
PLAINER = str.maketrans({"\u00a0": " ", "\u202f": " ", "\u2009": " ", "\u3000": " ", "\u2212": "-", "\uff0d": "-",
                         "\u2019": "'", "\u066b": ".", "\uff0e": ".", "\u066c": ",", "\uff0c": ",", "\uff05": "%",
                         "\u066a": "%", "\uffe5": "¥"})  # fmt: skip

BoolArray = npt.NDArray[np.bool_]


class Words:
    """The distinct values of a text column without spaces around them, and the rows that hold each.

    Attributes
    ----------
    written, words : list of str
        Each value as the table has it, and without spaces around it.
    absent : bool array [words]
        Which words mean a missing value, if the column holds numbers or dates.
    codes : int array [rows]
        The index of the word in each row, -1 where the value is missing.
    """

    def __init__(self, column: pd.Series[Any], missing: Sequence[str] = ()) -> None:
        self.codes: IndexArray
        self.codes, values = pd.factorize(column)
        self._index = column.index
        self.written = [str(value) for value in values]
        self.words = [word.translate(PLAINER).strip() for word in self.written]
        self.absent = np.array([not word or word in missing or word.casefold() in MARKERS for word in self.words], bool)

    @property
    def present(self) -> list[str]:
        """The words that some row holds as a value, those for a missing one left out."""
        return [word for word, absent in zip(self.words, self.absent, strict=True) if not absent]

    @property
    def counts(self) -> IndexArray:
        """How many rows hold each word."""
        return np.bincount(self.codes[self.codes >= 0], minlength=len(self.words))

    @property
    def rows(self) -> IndexArray:
        """How many rows hold each word as a value, none if it means a missing one."""
        return np.where(self.absent, 0, self.counts)

    def first(self, which: BoolArray) -> tuple[str, int]:
        """Return the first of some words as a short Python string, and its row."""
        index = int(np.flatnonzero(which)[0])
        written = self.written[index]
        position = int(np.argmax(self.codes == index))
        # of some rows of a file the index has their numbers in the file
        row = int(self._index[position]) if pd.api.types.is_integer_dtype(self._index) else position
        return repr(written if len(written) <= LONGEST else written[:LONGEST] + "..."), row

    def example(self, which: BoolArray) -> str:
        """Return the first of some words with its row, and how many rows hold one of them."""
        rows = int(self.counts[which].sum())
        more = f" (one of {rows:,} such rows)" if rows > 1 else ""
        return "{} in row {}".format(*self.first(which)) + more


def is_total(word: str) -> bool:
    """Return whether a word is one that people write beside the sums below a table.

    Examples
    --------
    >>> is_total("Grand total:"), is_total("Totalis")
    (True, False)
    """
    return word.strip(" :").casefold() in TOTALS


def without_zeros_in(column: pd.Series[Any]) -> pd.Series[Any]:
    """Return a column whose texts lack the zeros that their digits begin with.

    Examples
    --------
    >>> without_zeros_in(pd.Series(["007", "12", 5])).tolist()
    ['7', '12', 5]
    """
    return column.map(lambda value: without_zeros(value) if isinstance(value, str) else value)
