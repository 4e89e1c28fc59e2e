"""Tables: reading them, turning columns into features and targets, training networks, and the files of a run.

A run holds all that is needed to use it: how the table was written, the encoding of its columns, the classes and the
activation. Needs ``pip install "viva-tensor[train]"``.

Examples
--------
>>> import pandas as pd
>>> frame = pd.DataFrame({"size": [i / 2 for i in range(60)], "kind": ["a", "b", "c"] * 20})
>>> frame["price"] = 10.0 * frame["size"] + (frame["kind"] == "a") * 50
>>> trained = run(frame, "price")
>>> trained.scores["network"].r2 > 0.99
True
>>> trained.model.predict(frame[:2]).columns.tolist()
['row', 'predicted']
"""

from viva_tensor.extras import extra

with extra("train"):
    import pandas  # noqa: F401  # if missing, the error says what to install
    import safetensors  # noqa: F401
    import tqdm  # noqa: F401

from viva_tensor.tabular.blending import Best
from viva_tensor.tabular.column_choice import Roles
from viva_tensor.tabular.data import DataError
from viva_tensor.tabular.defaults import settings_for
from viva_tensor.tabular.expected import Expected
from viva_tensor.tabular.fitting import Fitted, fit
from viva_tensor.tabular.members import Members
from viva_tensor.tabular.model import Model, Run, load
from viva_tensor.tabular.preparing import Task
from viva_tensor.tabular.presets import PRESETS, Choice
from viva_tensor.tabular.reading import Reading, Source, read
from viva_tensor.tabular.recognition import Writing
from viva_tensor.tabular.runs import run
from viva_tensor.tabular.saving import save
from viva_tensor.tabular.streaming import Stream, stream

__all__ = [
    "PRESETS",
    "Best",
    "Choice",
    "DataError",
    "Expected",
    "Fitted",
    "Members",
    "Model",
    "Reading",
    "Roles",
    "Run",
    "Source",
    "Stream",
    "Task",
    "Writing",
    "fit",
    "load",
    "read",
    "run",
    "save",
    "settings_for",
    "stream",
]
