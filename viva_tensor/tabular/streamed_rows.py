"""Training rows of a stream: encoded once into a temporary file, and read from it in windows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from io import BufferedRandom
from pathlib import Path
from tempfile import TemporaryFile, gettempdir
from threading import Lock
from typing import ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from viva_tensor.kernels.arrays import Float32Array, Float64Array
from viva_tensor.tabular.data import DataError, IndexArray, labels_of, number_of
from viva_tensor.tabular.expected import Expected
from viva_tensor.tabular.labels import index_among
from viva_tensor.tabular.missing_words import is_mark, marks_are_missing
from viva_tensor.tabular.packed import in_pieces
from viva_tensor.tabular.packing import Packing, Records
from viva_tensor.tabular.preparing import Prepared
from viva_tensor.tabular.progress import bars
from viva_tensor.tabular.streaming import Stream
from viva_tensor.tabular.targets import Classes, values_of
from viva_tensor.tabular.word_forms import is_plain
from viva_tensor.train import SparseRows

BLOCK = 16_384  # rows read in one piece
WINDOW = 64  # blocks drawn at random, whose rows are shuffled together
BYTES = 256 << 20  # of a window at most, of which two are held


@dataclass(frozen=True)
class FileRows:
    """Records in a file as a source of rows: shuffled within windows of some million rows from random blocks."""

    file: BufferedRandom
    packing: Packing
    count: int
    digest: str
    lock: Lock = field(default_factory=Lock, compare=False)  # of the place in the file
    repeats: ClassVar[bool] = True

    @property
    def shape(self) -> tuple[int, int]:
        return self.count, self.packing.features

    def epoch(self, rng: np.random.Generator) -> Iterator[tuple[Float32Array | SparseRows, Float32Array]]:
        """Yield all rows once; the next window is read while one is used."""
        blocks = rng.permutation(-(-self.count // BLOCK))
        several = max(1, min(WINDOW, BYTES // (BLOCK * self.packing.dtype.itemsize)))
        windows = [blocks[start : start + several] for start in range(0, len(blocks), several)]
        with ThreadPoolExecutor(1) as pool:
            following = pool.submit(self._read, windows[0])
            for after in [*windows[1:], None]:
                records = following.result()
                if after is not None:
                    following = pool.submit(self._read, after)
                yield from in_pieces(self.packing, records, rng.permutation(len(records)))

    def _read(self, blocks: IndexArray) -> Records:
        parts = []
        for block in blocks:
            with self.lock:
                self.file.seek(int(block) * BLOCK * self.packing.dtype.itemsize)
                parts.append(np.fromfile(self.file, self.packing.dtype, BLOCK))
        return np.concatenate(parts)


class Written(NamedTuple):
    """Training rows in a file, how many rows have no target, and what a person should know of the others."""

    rows: FileRows
    without_target: int
    notes: tuple[str, ...]


@contextmanager
def written(stream: Stream, prepared: Prepared, folder: str | Path | None) -> Iterator[Written]:
    """Encode all rows of a stream that are for training into a temporary file on the disk of a folder.

    The file has no name where the system allows that, so that nothing is left of a process that is killed.

    Raises
    ------
    DataError
        If a value does not fit its column.
    OSError
        If the disk is full; it names the folder.
    """
    if folder is not None:
        Path(folder).mkdir(parents=True, exist_ok=True)
    with TemporaryFile(prefix="features-", dir=folder) as file:
        target, split = prepared.target, prepared.split
        packing = Packing(prepared.encoding, (() if isinstance(target, Classes) else (target.outputs,)))
        held_out = np.sort(stream.indices[np.concatenate([split.validation, split.test])])
        digest = sha256(f"{packing.dtype} {prepared.encoding.feature_names}".encode())
        count = lacking = seen = 0
        unknown: Counter[str] = Counter()
        example = ""
        for frame in filter(len, stream.frames(_expected(prepared))):
            values, others = _values(prepared, frame[target.name])
            if others and not unknown:
                example = next(iter(others))
            unknown.update(others)
            lacking += int(np.isnan(values).sum()) - others.total()
            seen += len(frame)
            first, last = np.searchsorted(held_out, [frame.index[0], frame.index[-1] + 1])
            used = np.isfinite(values)
            used[held_out[first:last] - frame.index[0]] = False
            chosen = np.flatnonzero(used)
            with bars(False):  # but that of the file
                records = packing.pack(frame.iloc[chosen], target.encode(values[chosen])).view(np.uint8)
            digest.update(records.data)
            _append(file, records, folder)
            count += len(chosen)
        if seen != stream.rows:
            raise DataError(f"the file had {number_of(stream.rows, 'row')} and now {seen:,}; it must not change")
        if not count:
            raise DataError("no row is left for training")
        notes = (
            f"{target.name}: left out {number_of(unknown.total(), 'row')} of classes not in the sample, such as "
            f"{example!r}",
        )
        yield Written(FileRows(file, packing, count, digest.hexdigest()), lacking, notes if unknown else ())


def _append(file: BufferedRandom, content: npt.NDArray[np.uint8], folder: str | Path | None) -> None:
    """Write to a file all of some content, or raise an error that names its folder, for the file has no name."""
    try:
        file.write(content.data)
        file.flush()
    except OSError as error:
        file.raw.close()  # or closing the file would write the rest of it, and fail again
        raise OSError(error.errno, error.strerror, str(folder or gettempdir())) from error


def _expected(prepared: Prepared) -> Expected:
    """Return what other rows of the same file must hold."""
    target = prepared.target
    known = prepared.origin.expected(prepared.encoding)
    text = [target.name] if isinstance(target, Classes) else []
    numbers = [] if isinstance(target, Classes) else [target.name]
    return Expected(
        text=[*known.text, *text],
        numbers=[*known.numbers, *numbers],
        notations=known.notations,
        only=[*(known.only or ()), target.name],
    )


def _values(prepared: Prepared, column: pd.Series) -> tuple[Float64Array, Counter[str]]:
    """Return the values of the target, NaN where missing, and the rows of classes that the sample lacks."""
    target = prepared.target
    if not isinstance(target, Classes):
        return values_of(column, "number")[0], Counter()
    codes, labels = labels_of(column)
    exact = {label: float(i) for i, label in enumerate(target.labels)}
    # the sample may have numbers in one form, and blocks have them as they are written
    index = index_among(target.labels)
    found = [float(index(label)) if is_plain(label) else exact.get(label, -1.0) for label in labels]
    values = np.array([*(np.nan if one < 0 else one for one in found), np.nan])[codes]
    others = Counter(labels[code] for code in codes[np.isnan(values) & (codes >= 0)])
    if marks_are_missing(target.labels):
        others = Counter({label: count for label, count in others.items() if not is_mark(label)})
    return values, others
