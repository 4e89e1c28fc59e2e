"""Files of JSON: objects in a list or in a line each, as rows of a table."""

from __future__ import annotations

import codecs
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from viva_tensor.tabular.data import DataError, one_line
from viva_tensor.tabular.expected import Expected
from viva_tensor.tabular.parquet import data_frame

if TYPE_CHECKING:
    import pyarrow as pa


def json_lines(path: Path, expected: Expected) -> pd.DataFrame:
    """Return the rows of a file with an object in each line.

    Raises
    ------
    DataError
        If a line is no object, or a column that is used holds lists or objects beside other values.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "table.jsonl"
    ...     _ = path.write_text('{"a": 1, "b": "x"}\\n{"a": 2, "b": "y"}\\n')
    ...     json_lines(path, Expected())
       a  b
    0  1  x
    1  2  y
    """
    import pyarrow as pa

    if _has_objects_alone(path):  # on others Arrow may crash
        try:
            table = _read_lines(path, expected)
            if not any(map(_may_be_integers, table.columns)):
                return data_frame(table)
        except pa.ArrowInvalid:  # perhaps since a column has values of several kinds
            pass
    return _of_records(path, list(_records(path)), expected)


def _read_lines(path: Path, expected: Expected) -> pa.Table:
    """Return what Arrow reads, with times that it made of text as that where text is expected."""
    import pyarrow as pa
    from pyarrow.json import ParseOptions, read_json

    table = read_json(path)
    texts = [one.name for one in table.schema if pa.types.is_timestamp(one.type) and expected.as_text(one.name)]
    if not texts:
        return table
    schema = pa.schema([(name, pa.string()) for name in texts])
    return read_json(path, parse_options=ParseOptions(explicit_schema=schema)).select(table.column_names)


def _has_objects_alone(path: Path) -> bool:
    with path.open("rb") as lines:
        starts = (line.removeprefix(codecs.BOM_UTF8).lstrip()[:1] for line in lines)
        return all(start in (b"{", b"") for start in starts)


def _may_be_integers(column: pa.ChunkedArray) -> bool:
    """Return whether numbers that Arrow read as float64 may be integers that this does not hold."""
    import pyarrow as pa
    import pyarrow.compute as pc

    largest = pc.max(pc.abs(column)).as_py() if pa.types.is_floating(column.type) else None
    return largest is not None and largest >= 2**53


def _records(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            try:
                record = json.loads(line, object_pairs_hook=_once) if line.strip() else None
            except ValueError as error:
                raise DataError(
                    f"cannot read {path} as JSONL: line {number}: {getattr(error, 'msg', one_line(error))}"
                ) from error
            if isinstance(record, dict):
                yield record
            elif line.strip():
                raise DataError(f"cannot read {path}: line {number} is not an object, wanted one for each row")


def json_records(path: Path, expected: Expected) -> pd.DataFrame:
    """Return the rows of a file with a list of objects, or with an object in each line.

    Raises
    ------
    DataError
        If it holds anything else, or a column that is used holds lists or objects beside other values.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "table.json"
    ...     _ = path.write_text('[{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]')
    ...     json_records(path, Expected())
       a  b
    0  1  x
    1  2  y
    """
    try:
        records = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        if error.msg != "Extra data":
            raise
        return json_lines(path, expected)
    if not (isinstance(records, list) and all(isinstance(record, dict) for record in records)):
        raise DataError(f"cannot read {path}: wanted a list of objects, one for each row")
    return _of_records(path, records, expected)


def _of_records(path: Path, records: Sequence[Mapping[str, Any]], expected: Expected) -> pd.DataFrame:
    """Return objects as rows of a table; a column of text and numbers holds both."""
    import pyarrow as pa

    columns = {}
    for name in dict.fromkeys(name for record in records for name in record):
        values = [record.get(name) for record in records]
        try:
            columns[name] = data_frame(pa.table({name: values}))[name]
        except (pa.ArrowException, OverflowError):  # of several kinds, or integers beyond 64 bits
            columns[name] = pd.Series(_of_several_kinds(path, name, values, expected), dtype=object)
    return pd.DataFrame(columns)


def _of_several_kinds(path: Path, name: str, values: Sequence[Any], expected: Expected) -> Sequence[Any]:
    """Return values with words in place of booleans, or raise if some of them are lists or objects."""
    nested = [isinstance(value, list | dict) for value in values]
    present = sum(value is not None for value in values)
    if not any(nested):
        "".join(value for value in values if isinstance(value, str)).encode()  # else it could not be written again
        return [str(value).lower() if isinstance(value, bool) else value for value in values]
    if sum(nested) < present and expected.uses(name):
        row = nested.index(True)
        kind = "a list" if isinstance(values[row], list) else "an object"
        raise DataError(
            f"cannot read {path}: column {name!r} holds {kind} in row {row}, and other values elsewhere; wanted "
            f"numbers, text or booleans; --drop {name!r} leaves it out"
        )
    return values


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object, or raise if it names a column twice."""
    twice = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
    if twice:
        raise ValueError(f"a row has two values of {twice[0]!r}")
    return dict(pairs)
