"""A network trained on a table, for use on new rows, and the record of its training."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import safetensors.numpy

from viva_tensor import checkpoint as checkpoints
from viva_tensor import files, nn
from viva_tensor.checkpoint.storage import packed_checksum
from viva_tensor.checkpoint.weights import packed_weights
from viva_tensor.kernels.arrays import Float32Array
from viva_tensor.tabular.columns import Date
from viva_tensor.tabular.data import DataError, IndexArray, Table, as_table, one_line, rows_of
from viva_tensor.tabular.defaults import Preset
from viva_tensor.tabular.encoding import Encoding
from viva_tensor.tabular.expected import Expected
from viva_tensor.tabular.insight import Insight
from viva_tensor.tabular.origin import Origin
from viva_tensor.tabular.recognition import Writing
from viva_tensor.tabular.scores import Scores
from viva_tensor.tabular.target_records import target_from_dict, target_to_dict
from viva_tensor.tabular.targets import Target
from viva_tensor.tabular.trees import Trees, trees_of
from viva_tensor.train import Fit, Layers, Network, Settings
from viva_tensor.train.network import sizes_of

MODEL = WEIGHTS, TREES, PREPROCESSING = "model.safetensors", "trees.safetensors", "preprocessing.json"
FORMAT = 1  # of these files, to be raised when an older version would read them wrongly
AGAIN, PAUSE = 4, 0.05  # how often files are read again that are not of one run, and the seconds before that


@dataclass(frozen=True)
class Model:
    """A trained network with everything needed to use it on new rows."""

    target: Target
    encoding: Encoding
    layers: Layers
    activation: str
    origin: Origin = Origin()  # noqa: RUF009  # frozen
    trees: Trees | None = None  # whose outputs are added to those of the network

    def __repr__(self) -> str:
        """Return what is predicted from what, in short."""
        names = [*dict.fromkeys(column.name for column in self.encoding.columns)]
        columns = ", ".join(map(repr, names[:5])) + f", and {len(names) - 5} more" * (len(names) > 5)
        trees = "" if self.trees is None else " and trees"
        return f"Model({self.target.name!r} from {columns}, by a network of {sizes_of(self.layers)}{trees})"

    def forward(self) -> Callable[[Float32Array], Float32Array]:
        """Return a function of features that gives :meth:`outputs`, compiled once for each number of rows."""
        network, dtype = Network(self.activation), self.layers[0].w.data.dtype

        def outputs(features: Float32Array) -> Float32Array:
            found = network(self.layers, features.astype(dtype, copy=False))
            return found if self.trees is None else found + self.trees(features).astype(dtype)

        return outputs

    def outputs(self, features: Float32Array) -> Float32Array:
        """Return the outputs [rows, outputs] for features: of the network, and of the trees if there are any."""
        return self.forward()(features)

    def expected(self, writing: Writing | None = None) -> Expected:
        """Return what is known of the columns of other files; see :meth:`Origin.expected`."""
        return self.origin.expected(self.encoding, writing)

    @property
    def known_columns(self) -> set[str]:
        """The target and all columns of the training rows, including those left out."""
        used = {column.name for column in self.encoding.columns}
        named = {self.origin.id} if self.origin.id else set()
        return {self.target.name, *used, *named, *self.encoding.left_out}

    def predict(self, table: Any) -> pd.DataFrame:
        """Return predictions for a table: columns row (from 0), predicted, and for classes their probabilities.

        The table may be a DataFrame of pandas or polars, or any table with Arrow's interface.

        The column that named the rows in training is carried over, if the table has it.

        Raises
        ------
        DataError
            If the columns are not those of the training rows, or a value does not fit its column.
        """
        table = _whole(table)
        encoded = self.encoding.encode(self._read(table))
        decoded = self.target.decode(self.outputs(encoded))
        return name_rows(decoded, np.arange(len(table)), table, self.origin.id)

    def unfamiliar(self, table: Any) -> tuple[str, ...]:
        """Describe values unlike those of the training rows, a line for each column that has some."""
        return self.encoding.unfamiliar(self._read(_whole(table)))

    def other_clocks(self, table: Any) -> tuple[str, ...]:
        """Describe dates that have an offset from UTC where those of the training rows had none, or vice versa."""
        dates = [one for one in self.encoding.columns if isinstance(one, Date)]
        if not dates:
            return ()
        parsed = self._read(_whole(table)[[one.name for one in dates]])
        return tuple(filter(None, (one.other_clock(parsed[one.name]) for one in dates)))

    def unused(self, table: Any) -> list[str]:
        """Return the columns of a table that the model does not know."""
        return [name for name in as_table(table).columns if name not in self.known_columns]

    def _read(self, table: pd.DataFrame) -> pd.DataFrame:
        return self.origin.read(self.encoding, table)

    def save(self, folder: str | Path) -> list[Path]:
        """Write the model to a folder, and return the paths of its files.

        - ``model.safetensors``: weights [out, in] and biases [out], named as in a PyTorch ``nn.Sequential`` of
          ``Linear`` and activations: 0.weight, 0.bias, 2.weight, ...
        - ``preprocessing.json``: how columns become features, and what the outputs mean; its entry ``format`` is 1, or
          another number if this version's :func:`load` would misread it, which it then refuses to do
        - ``trees.safetensors``: the arrays of :class:`viva_tensor.tabular.trees.Trees`, if there are trees, whose
          outputs are to be added to those of the network

        A model that is there is replaced: its files stay as they are until all of the new ones are on the disk. A
        process that is killed while they are renamed leaves parts of two models, which :func:`load` refuses.

        Raises
        ------
        DataError
            If there are files of these names that do not belong to a model. Nothing is written then.
        """
        folder = Path(folder)
        contents = contents_in(folder, self)
        check_own(folder, contents, "name another folder, or remove that file")
        folder.mkdir(parents=True, exist_ok=True)
        return files.replace_all({folder / name: content for name, content in contents.items()})

    def _contents(self) -> dict[str, bytes]:
        """Return the content of each file by its name, last of that which says what the others are."""
        contents = {WEIGHTS: packed_weights("save", self.layers)}
        preprocessing = {
            "format": FORMAT,
            "target": target_to_dict(self.target),
            "activation": self.activation,
            "features": self.encoding.to_dict(),
            "origin": self.origin.to_dict(),
            "weights": packed_checksum(contents[WEIGHTS]),  # shows whether both files are of one run
        }
        if self.trees is not None:
            contents[TREES] = safetensors.numpy.save(self.trees.arrays())
            preprocessing["trees"] = hashlib.sha256(contents[TREES]).hexdigest()
        preprocessing["checksum"] = _checksum(json.loads(files.json_bytes(preprocessing)))
        return contents | {PREPROCESSING: files.json_bytes(preprocessing)}


def contents_in(folder: Path, model: Model) -> dict[str, bytes | None]:
    """Return what becomes of each file of a model in a folder, by its name: None is to be removed.

    Examples
    --------
    See :meth:`Model.save`, which writes them.
    """
    contents: dict[str, bytes | None] = {**model._contents()}
    if model.trees is None and "trees" in _record_in(folder):
        contents[TREES] = None  # after the file that named them
    return contents


def _record_in(folder: Path) -> dict[str, Any]:
    """Return what is written of the model in a folder, or nothing: other files there may be anyone's."""
    try:
        found = json.loads((folder / PREPROCESSING).read_text(encoding="utf-8"))
    except (OSError, RecursionError, ValueError):
        return {}
    return found if isinstance(found, dict) and {"features", "target"} <= found.keys() else {}


def taken(folder: Path, names: Iterable[str]) -> Path | None:
    """Return the first of the names that is in a folder, if there is one.

    Examples
    --------
    >>> taken(Path("no such folder"), MODEL) is None
    True
    """
    return next((folder / name for name in names if os.path.lexists(folder / name)), None)


def check_own(folder: Path, names: Iterable[str], hint: str) -> None:
    """Raise if one of the names is in a folder that has no model, and so may be anyone's.

    Raises
    ------
    DataError

    Examples
    --------
    >>> check_own(Path(__file__).parent, ["model.py"], "name another folder")
    Traceback (most recent call last):
    viva_tensor.tabular.data.DataError: cannot save to ...: it holds model.py, which belongs to no model; name ...
    """
    if not _record_in(folder) and (found := taken(folder, names)):
        raise DataError(f"cannot save to {folder}: it holds {found.name}, which belongs to no model; {hint}")


def _whole(table: Any) -> pd.DataFrame:
    """Return all rows of a table; a reader can be asked for them once, and not for their number."""
    found = as_table(table)
    return rows_of(found, 0, len(found))


class _MixedRuns(DataError):
    """Files of a folder that are not of one run, as for a moment while a model is replaced."""


def load(folder: str | Path) -> Model:
    """Return the model in a folder that :meth:`Model.save` wrote, even while another one is replacing it.

    Raises
    ------
    DataError
        If a file is missing, or was not written by it.
    """
    for _ in range(AGAIN):
        with suppress(_MixedRuns):
            return _load(Path(folder))
        time.sleep(PAUSE)
    return _load(Path(folder))


def _load(folder: Path) -> Model:
    with _reading(folder):
        preprocessing = json.loads((folder / PREPROCESSING).read_text(encoding="utf-8"))
    written = preprocessing.get("format", FORMAT) if isinstance(preprocessing, dict) else FORMAT  # older ones have none
    if written != FORMAT:
        newer = type(written) is int and written > FORMAT
        hint = "written by a newer version of viva_tensor; update it" if newer else "not written by viva_tensor"
        raise DataError(f"{folder / PREPROCESSING} has format {written!r:.100}, wanted {FORMAT}: {hint}")
    with _reading(folder):
        layers = checkpoints.load_weights(folder / WEIGHTS).value
        checksum = checkpoints.checksum(folder / WEIGHTS)
    if not isinstance(preprocessing, dict) or preprocessing.get("activation") not in list(nn.ACTIVATIONS):
        raise DataError(f"{folder / PREPROCESSING} names no known activation")
    target = target_from_dict(preprocessing.get("target") or {})
    encoding = Encoding.from_dict(preprocessing.get("features") or {})
    takes, gives = layers[0].w.shape[1], layers[-1].w.shape[0]
    features, outputs = len(encoding.feature_names), target.outputs
    if (takes, gives) != (features, outputs):
        raise _MixedRuns(
            f"{folder / WEIGHTS} takes {takes} features and gives {gives} outputs; {PREPROCESSING} wants {features} "
            f"and {outputs}"
        )
    if checksum is not None and preprocessing.get("weights", checksum) != checksum:
        raise _MixedRuns(f"{folder} holds {WEIGHTS} of one run and {PREPROCESSING} of another; train anew")
    if "checksum" in preprocessing and preprocessing["checksum"] != _checksum(preprocessing):
        raise DataError(
            f"{folder / PREPROCESSING} was changed since it was written: train anew, or, if on purpose, remove "
            'its entry "checksum"'
        )
    origin = Origin.from_dict(preprocessing.get("origin"))
    trees = _trees(folder / TREES, preprocessing["trees"], features, outputs) if "trees" in preprocessing else None
    return Model(target, encoding, layers, preprocessing["activation"], origin, trees)


@contextmanager
def _reading(folder: Path) -> Iterator[None]:
    """Raise errors of reading the files of a model as such of a folder."""
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"{folder} holds no trained model: {Path(error.filename).name} is missing") from error
    except NotADirectoryError as error:
        raise DataError(f"{folder} is not the folder of a run") from error
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read the model in {folder}: {one_line(error)}") from error


def _checksum(preprocessing: Mapping[str, Any]) -> str:
    """Return what changes with any entry, however the file is laid out."""
    others = {name: value for name, value in preprocessing.items() if name != "checksum"}
    return hashlib.sha256(json.dumps(others, sort_keys=True).encode()).hexdigest()


def _trees(path: Path, checksum: Any, features: int, outputs: int) -> Trees:
    """Return the trees of a file that goes with a model of so many features and outputs."""
    try:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != checksum:
            raise _MixedRuns(f"{path} belongs to another run than {PREPROCESSING}; train anew")
        trees = trees_of(safetensors.numpy.load(content))
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise _MixedRuns(f"cannot read the trees in {path}: {one_line(error)}") from error
    if (trees.features, len(trees.base)) != (features, outputs):
        raise _MixedRuns(
            f"{path} takes {trees.features} features and gives {len(trees.base)} outputs; {PREPROCESSING} "
            f"wants {features} and {outputs}"
        )
    return trees


def name_rows(predicted: pd.DataFrame, rows: IndexArray, table: Table, id: str | None) -> pd.DataFrame:
    """Return predictions with the index of each row before them, and its name if there is a column of names."""
    named = predicted.copy()
    named.insert(0, "row", rows)
    if id is not None and id in table.columns:
        if id in named.columns:
            raise DataError(f"the column {id!r}, which names rows, is called like a column of predictions; rename it")
        named.insert(1, id, table[id].iloc[rows].to_numpy())
    return named


@dataclass(frozen=True)
class Run:
    """A trained network, how it was trained, and its scores on the test rows beside baselines."""

    settings: Settings
    test_fraction: float
    target: Target
    encoding: Encoding
    origin: Origin
    fit: Fit
    rows: Mapping[str, int]
    notes: tuple[str, ...]
    threads: int
    ranks: int
    test: (
        pd.DataFrame
    )  # row (in the table, from 0), its name if it has one, actual, predicted, and for classes their probabilities
    scores: Mapping[str, Scores]
    insight: Insight | None = None
    preset: Preset = Preset("", "settings as given", 1, 0, 0)  # noqa: RUF009  # frozen

    metric: Mapping[str, float] = field(default_factory=dict, hash=False)  # of the test rows, if one was asked for
    trees: Trees | None = None
    weighted: bool = False  # whether classes had weights, which baselines and scores have not

    def __repr__(self) -> str:
        """Return the model, and its scores on the test rows."""
        scores = ", ".join(f"{name}={value:.4g}" for name, value in self.scores["network"]._asdict().items())
        return f"Run({self.model!r}, {scores} of {len(self.test):,} test rows)"

    @property
    def members(self) -> int:
        """Networks of which the network is the mean."""
        return self.preset.networks

    @property
    def model(self) -> Model:
        layers, activation = self.fit.layers, self.settings.activation
        return Model(self.target, self.encoding, layers, activation, self.origin, self.trees)
