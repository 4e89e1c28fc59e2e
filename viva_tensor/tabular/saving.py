"""The files of a run, written whole."""

from __future__ import annotations

import os
import platform
import warnings
from collections.abc import Callable, Collection, Iterable
from importlib import metadata
from importlib.util import find_spec
from itertools import chain, count, product
from pathlib import Path
from typing import TextIO

import pandas as pd

from viva_tensor import files
from viva_tensor._version import __version__
from viva_tensor.tabular import page, report
from viva_tensor.tabular.data import DataError, one_line
from viva_tensor.tabular.model import MODEL, Run, check_own, contents_in, taken
from viva_tensor.train import plot_losses

TEXTS = HISTORY, PREDICTIONS, RECORD, SHORT = "history.csv", "predictions.csv", "report.json", "report.md"
PICTURES = PAGE, CURVES = "report.html", "loss.png"
NAMES = (*MODEL, *TEXTS, *PICTURES)  # of all files of a run


def save(
    run: Run,
    folder: str | Path,
    source: str = "the table",
    command: str = "",
    written: list[Path] | None = None,
    force: bool = False,
) -> list[Path]:
    """Write a run to `folder`, and return the paths of its files, which are added to a list.

    - ``model.safetensors`` and ``preprocessing.json``: the model, as :meth:`Model.save` writes it
    - ``history.csv``: losses after every epoch
    - ``loss.png``: curves of these losses, if matplotlib is installed
    - ``predictions.csv``: for every test row its index in the table, the actual and the predicted target
    - ``report.json``: scores, baselines, settings, versions, speed
    - ``report.md``: a short report to read
    - ``report.html``: a report with pictures, if plotly is installed; `command` is what repeats the run

    A run that is there is replaced, but only once all of the new files are on the disk. Then they are renamed one after
    the other, the model last: a process that is killed in between leaves new reports beside the old model, or parts of
    two models, which :func:`load` refuses. Files of these names beside no model, which may be anyone's, are replaced
    with `force` alone.

    Raises
    ------
    DataError
        If there are such files. Nothing is written then.
    OSError
        If a file cannot be written. The model alone is written then, if it can be: where no run is, or to a folder
        beside it with a number, which a warning names.
    """
    folder = Path(folder)
    if not force:
        check_own(folder, NAMES, "name another folder, or replace it with force=True")
    written = [] if written is None else written
    source, command = files.readable(source), files.readable(command)
    # what is not made now is removed: it is of a run that was there before
    contents: dict[str, bytes | None] = dict.fromkeys((*TEXTS, *PICTURES))
    try:
        contents |= _texts(run, source)
        pictures: dict[str, tuple[str, Callable[[], bytes]]] = {
            PAGE: ("plotly", lambda: page.page(run, source, command)),
            CURVES: ("matplotlib", lambda: plot_losses(run.fit.history)),
        }
        for name, (package, drawn) in pictures.items():
            try:
                contents[name] = drawn() if find_spec(package) else None
            except (ImportError, MemoryError) as error:  # it is there, and cannot be imported or used
                reason = "not enough memory" if isinstance(error, MemoryError) else one_line(error)
                warnings.warn(f"{name} is left out: {reason}", stacklevel=2)
    finally:  # whatever befalls a text must not cost the run
        _write(run, folder, contents, written)
    return written


def _texts(run: Run, source: str) -> dict[str, bytes]:
    versions = {"python": platform.python_version(), "viva_tensor": __version__}
    versions |= {name: metadata.version(name) for name in ("numpy", "pandas", "safetensors")}
    return {
        HISTORY: _csv(pd.DataFrame(run.fit.history)),
        PREDICTIONS: _csv(run.test),
        RECORD: files.json_bytes(report.record(run) | {"versions": versions}),
        SHORT: report.markdown(run, source).encode(),
    }


def _write(run: Run, folder: Path, contents: dict[str, bytes | None], written: list[Path]) -> None:
    """Write a model and what is beside it; if that fails, the model alone, beside a run that is there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # the model comes last: a report of the run before is never beside it, even if the process is killed in between
        whole = {**contents, **contents_in(folder, run.model)}
        found = files.replace_all({folder / name: content for name, content in whole.items()})
    except OSError:
        written += run.model.save(unused(folder))  # alone, it may find room
        raise
    written += sorted(found, key=lambda path: NAMES.index(path.name))


def check_folder(folder: Path, names: Iterable[str] = NAMES) -> None:
    """Raise if a folder can neither be written to nor made, or files of these names in it cannot.

    Raises
    ------
    DataError
    """
    try:
        paths = [folder, *folder.absolute().parents]
    except FileNotFoundError as error:
        raise DataError(f"cannot write to {folder}: the working directory is no longer there") from error
    for path in paths:
        if os.path.islink(path) and not os.path.exists(path):
            target = os.readlink(path)
            raise DataError(
                f"cannot write to {folder}: {path} is a link to {target}, which is not there; make that folder"
            )
    above = next(path for path in paths if os.path.exists(path))
    if not (os.path.isdir(above) and os.access(above, os.W_OK)):
        raise DataError(f"cannot write to {folder}: {above} is not a folder to write in")
    for name in names:
        real = os.path.realpath(folder / name)
        if os.path.islink(folder / name) and not os.path.exists(os.path.dirname(real)):
            raise DataError(
                f"cannot write to {folder / name}: it is a link to {real}, whose folder is not there; make that folder"
            )
        try:
            files.check_writable(folder / name)
        except OSError as error:
            raise DataError(f"cannot write to {folder / name}: {error.strerror or error}") from error


def check_apart(read: Iterable[Path], written: Iterable[Path]) -> None:
    """Raise if a file to be written is one of those that are read, also by a link.

    Raises
    ------
    DataError

    Examples
    --------
    >>> check_apart([Path(__file__)], [Path("predictions.csv"), Path(__file__).parent / "saving.py"])
    Traceback (most recent call last):
    viva_tensor.tabular.data.DataError: cannot write to ...: it is the same file as ...
    """
    for one, source in product(written, read):
        if os.path.exists(one) and os.path.exists(source) and os.path.samefile(one, source):
            hint = "name another place with --output"
            raise DataError(f"cannot write to {one}: it is the same file as {source}, which is read; {hint}")


def unused(folder: Path) -> Path:
    """Return a folder, or the first of this name with a number that has no files of a run, with a warning.

    Examples
    --------
    >>> unused(Path("no such folder")).name
    'no such folder'
    """
    names = chain([folder], (folder.with_name(f"{folder.name}-{number}") for number in count(2)))
    found = next(one for one in names if not taken(one, NAMES))
    if found != folder:
        warnings.warn(f"{folder} now holds files of another run; this run is saved to {found}", stacklevel=2)
    return found


def appended(table: pd.DataFrame, predictions: pd.DataFrame, id: str | None = None) -> pd.DataFrame:
    """Return the columns of a table and the predictions for its rows; of columns of one name, the last is the model's.

    Examples
    --------
    >>> table = pd.DataFrame({"size": [2.0], "predicted": [7.5]})
    >>> appended(table, pd.DataFrame({"row": [0], "predicted": [8.0]})).columns.tolist()
    ['size', 'predicted', 'predicted of the model']
    """
    new = predictions.drop(columns=[name for name in ("row", id) if name in predictions])
    others = list(map(str, table.columns))
    return pd.concat([table, new.rename(columns=lambda name: _unlike(name, others))], axis="columns")


def _unlike(name: str, others: Collection[str]) -> str:
    """Return a name for a column of predictions that none of others has."""
    found = name
    for number in count(1):
        if found not in others:
            break
        found = f"{name} of the model" + (f" ({number})" if number > 1 else "")
    return found


def write_csv(table: pd.DataFrame, to: Path | TextIO) -> None:
    """Write a table as CSV in UTF-8; a file is written whole or not at all.

    Examples
    --------
    >>> from io import BytesIO, TextIOWrapper
    >>> stream = TextIOWrapper(BytesIO(), encoding="ascii")
    >>> write_csv(pd.DataFrame({"Größe": [1]}), stream)
    >>> stream.buffer.getvalue().decode()
    'Größe\\n1\\n'
    """
    content = _csv(table)
    if isinstance(to, Path):
        files.replace(to, content)
    elif hasattr(to, "buffer"):  # whose bytes are those of a file, whatever the encoding of the stream is
        to.flush()
        to.buffer.write(content)
    else:
        to.write(content.decode())


def _csv(table: pd.DataFrame) -> bytes:
    return table.to_csv(index=False, lineterminator="\n").encode()
