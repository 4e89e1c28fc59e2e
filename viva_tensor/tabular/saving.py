"""The files of a run: written whole, and read back as a model."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pandas as pd

from viva_tensor import checkpoint as checkpoints
from viva_tensor import files, nn
from viva_tensor._version import __version__
from viva_tensor.tabular import page, report
from viva_tensor.tabular.data import DataError, one_line
from viva_tensor.tabular.encoding import Encoding
from viva_tensor.tabular.model import Model, Origin, Run
from viva_tensor.tabular.notation import notation_from_dict, notation_to_dict
from viva_tensor.tabular.recognition import Writing
from viva_tensor.tabular.targets import target_from_dict, target_to_dict
from viva_tensor.train import plot_losses

PREPROCESSING, WEIGHTS, PAGE = "preprocessing.json", "model.safetensors", "report.html"


def save(run: Run, folder: str | Path, source: str = "the table", command: str = "") -> list[Path]:
    """Write a run to `folder`, each file whole or not at all, and return the paths of the files.

    - ``model.safetensors``: weights [out, in] and biases [out], named as in a PyTorch ``nn.Sequential`` of ``Linear``
      and activations: 0.weight, 0.bias, 2.weight, ...
    - ``preprocessing.json``: how columns become features, and what the outputs mean
    - ``history.csv``: losses after every epoch
    - ``loss.png``: curves of these losses, if matplotlib is installed
    - ``predictions.csv``: for every test row its index in the table, the actual and the predicted target
    - ``report.json``: scores, baselines, settings, versions, speed
    - ``report.md``: a short report to read
    - ``report.html``: a report with pictures, if plotly is installed; `command` is what repeats the run
    """
    versions = {"python": platform.python_version(), "viva_tensor": __version__}
    versions |= {name: metadata.version(name) for name in ("numpy", "pandas", "safetensors")}
    contents = {
        "history.csv": _csv(pd.DataFrame(run.fit.history)),
        "predictions.csv": _csv(run.test),
        "report.json": _json(report.record(run) | {"versions": versions}),
        "report.md": report.markdown(run, source).encode(),
    }
    if find_spec("plotly"):
        contents[PAGE] = page.page(run, source, command)
    if find_spec("matplotlib"):
        contents["loss.png"] = plot_losses(run.fit.history)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    weights = checkpoints.save_weights(folder / WEIGHTS, run.fit.layers)
    preprocessing = {
        "target": target_to_dict(run.target),
        "activation": run.settings.activation,
        "features": run.encoding.to_dict(),
        "origin": _origin_to_dict(run.origin),
        "weights": checkpoints.checksum(weights),  # shows whether both files are of one run
    }
    contents = {PREPROCESSING: _json(preprocessing), **contents}
    return [weights, *(files.replace(folder / name, content) for name, content in contents.items())]


def load(folder: str | Path) -> Model:
    """Return the model in a folder that `save` wrote.

    Raises
    ------
    DataError
        If a file is missing, or was not written by `save`.
    """
    folder = Path(folder)
    try:
        preprocessing = json.loads((folder / PREPROCESSING).read_text(encoding="utf-8"))
        layers = checkpoints.load_weights(folder / WEIGHTS).value
        checksum = checkpoints.checksum(folder / WEIGHTS)
    except FileNotFoundError as error:
        raise DataError(f"{folder} holds no trained model: {Path(error.filename).name} is missing") from error
    except NotADirectoryError as error:
        raise DataError(f"{folder} is not the folder of a run") from error
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read the model in {folder}: {one_line(error)}") from error
    if not isinstance(preprocessing, dict) or preprocessing.get("activation") not in list(nn.ACTIVATIONS):
        raise DataError(f"{folder / PREPROCESSING} names no known activation")
    target = target_from_dict(preprocessing.get("target") or {})
    encoding = Encoding.from_dict(preprocessing.get("features") or {})
    takes, gives, dtype = layers[0].w.shape[1], layers[-1].w.shape[0], layers[0].w.dtype
    features, outputs = len(encoding.feature_names), target.outputs
    if (takes, gives, dtype) != (features, outputs, np.dtype(np.float32)):
        raise DataError(
            f"{folder / WEIGHTS} takes {takes} features and gives {gives} outputs of {dtype}; "
            f"{PREPROCESSING} wants {features} and {outputs} of float32"
        )
    if checksum is not None and preprocessing.get("weights", checksum) != checksum:
        raise DataError(f"{folder} holds {WEIGHTS} of one run and {PREPROCESSING} of another; train anew")
    return Model(target, encoding, layers, preprocessing["activation"], _origin_from_dict(preprocessing.get("origin")))


def _origin_to_dict(origin: Origin) -> dict[str, Any]:
    notations = {name: notation_to_dict(notation) for name, notation in origin.notations.items()}
    return {"notations": notations, "writing": asdict(origin.writing), "id": origin.id}


def _origin_from_dict(record: Any) -> Origin:
    if record is None:  # a model of a version that kept nothing of it
        return Origin()
    try:
        notations = {str(name): notation_from_dict(one) for name, one in record["notations"].items()}
        writing = record["writing"]
        missing = tuple(map(str, writing["missing"]))
        said = {name: str(writing[name]) for name in ("decimal", "thousands", "date_format")}
        return Origin(notations, Writing(missing, **said), None if record["id"] is None else str(record["id"]))
    except (AttributeError, KeyError, TypeError) as error:
        raise DataError(f"not the description of a table: {one_line(error)}") from error


def write_csv(table: pd.DataFrame, to: Path | TextIO) -> None:
    """Write a table as CSV; a file is written whole or not at all."""
    if isinstance(to, Path):
        files.replace(to, _csv(table))
    else:
        to.write(_csv(table).decode())


def _json(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, indent=2, allow_nan=False, ensure_ascii=False).encode() + b"\n"


def _csv(table: pd.DataFrame) -> bytes:
    return table.to_csv(index=False, lineterminator="\n").encode()
