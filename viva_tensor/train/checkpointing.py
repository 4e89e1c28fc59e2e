"""Checkpointing of a run: its state is written from time to time, at the end and on interruption, and resumed."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Self

import numpy as np

from viva_tensor import autograd, files
from viva_tensor import checkpoint as checkpoints
from viva_tensor.distributed import Ranks
from viva_tensor.error import InvalidFile, InvalidValue, RankError, TensorError
from viva_tensor.kernels.checks import check_count, positive
from viva_tensor.train.network import parameters, record_layers
from viva_tensor.train.rows import Rows
from viva_tensor.train.settings import DEFAULTS, Settings, described
from viva_tensor.train.sources import SourcedRows
from viva_tensor.train.sparse import SparseRows
from viva_tensor.train.training import Reached, Training

DIGESTED = 65536  # rows in one digest
WORDS = {  # for what is known by its digest alone
    "rows": "rows, or weights of them or features made of them",
    "test": "rows for the test, or features made of them",
}


@dataclass(frozen=True)
class Kept:
    """Where and when checkpoints are written: every so many epochs, or by default every so many minutes."""

    path: Path
    epochs: int | None
    minutes: float
    test_digest: str = ""  # of rows that the run is tested on

    def __post_init__(self) -> None:
        if self.epochs is not None:
            check_count("fit", "checkpoint_epochs", self.epochs)
        if not (isinstance(self.minutes, float) and self.minutes == math.inf):
            positive("fit", "checkpoint_minutes", self.minutes)
        if not isinstance(self.test_digest, str):
            hint = "give it text, such as the hexdigest of a SHA-256 of the rows, or leave it out"
            raise InvalidValue(f"test_digest={self.test_digest!r:.100}", operation="fit", hint=hint)

    def from_written(self, settings: Sequence[Settings], ranks: Ranks) -> list[Settings]:
        """Return the settings with which a run that is begun again and again wrote the file, and those after them."""
        written = ranks.from_first("fit", lambda: checkpoints.load(self.path).optimizer)
        which = [i for i, one in enumerate(settings) if one.optimizer == written]
        return list(settings[which[0] if which else 0 :])


class Checkpointer:
    """The checkpoint of a run, in a file that rank 0 writes."""

    def __init__(self, training: Training, kept: Kept) -> None:
        self._training, self._path, self._epochs, self._test = training, kept.path, kept.epochs, kept.test_digest
        self._seconds = 60 * kept.minutes
        self._written = perf_counter()
        self._latest: checkpoints.Checkpoint | None = None  # not in the file yet
        self._ranks = training.ranks
        self._rows = [_digest(rows, self._ranks) for rows in (training.rows, training.validation) if rows is not None]

    def __enter__(self) -> Self:
        with self._ranks.fail_together("fit"):
            if self._ranks.first and not self._training.ended:
                files.check_writable(self._path)  # before training, which would be lost
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            with self._ranks.fail_together("fit"):
                self._write()
        elif issubclass(kind, (KeyboardInterrupt, RankError)):
            self._write()

    def epoch(self) -> None:
        """Keep the state after an epoch, and write it if it is due."""
        with self._ranks.fail_together("fit"):
            if self._ranks.first:
                self._keep()

    def _keep(self) -> None:
        training, reached = self._training, self._training.reached
        self._latest = checkpoints.Checkpoint(
            state=training.step.state(),
            optimizer=training.settings.optimizer,
            rng=deepcopy(training.rng),
            epoch=training.epoch,
            history=reached.history,
            metadata={
                "settings": self._settings(),
                "rows": self._rows,
                "test": self._test,
                "best": parameters(reached.best),
                "best_loss": reached.best_loss,
                "best_epoch": reached.best_epoch,
                "seconds": reached.seconds,
            },
        )
        due = perf_counter() - self._written >= self._seconds
        if due if self._epochs is None else training.epoch % self._epochs == 0:
            self._write()

    def _write(self) -> None:
        if self._latest is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            checkpoints.save(self._path, self._latest)
            self._latest, self._written = None, perf_counter()

    def _settings(self) -> dict[str, Any]:
        """Return the settings that must not change, without the optimiser, which has its own entry in a checkpoint."""
        given = self._training.settings
        settings = given.plain() | {"loss": described(given.loss), "metric": described(given.metric)}
        del settings["optimizer"], settings["patience"]
        if settings["schedule"] == "constant":
            del settings["epochs"]
        return settings

    def resume(self) -> None:
        """Restore the state that the file holds."""
        training, kept = self._training, self._ranks.from_first("fit", lambda: checkpoints.load(self._path))
        try:
            known = DEFAULTS.plain() | kept.metadata["settings"]  # of an older version some are absent
            current = self._settings() | {"optimizer": training.settings.optimizer}
            current |= {"rows": self._rows, "test": self._test}
            known |= {"optimizer": kept.optimizer, "rows": kept.metadata["rows"]}
            known["test"] = kept.metadata.get("test", self._test)
            for name in ("loss", "metric"):  # a function, of which an older version kept the bare name
                current[name] = known[name] if known[name] == str(current[name]).split("(")[0] else current[name]
            other = [name for name in current if known.get(name) != current[name]]
            if other:
                was = ", ".join(WORDS.get(name) or f"{name}={known.get(name)}" for name in other)
                raise InvalidValue(
                    f"{self._path} was written with other {was}",
                    operation="fit",
                    hint="resume with the same ones, or start anew",
                )
            best = kept.metadata["best"]
            shapes = [np.shape(array) for array in best]
            if shapes != [array.shape for array in parameters(training.reached.layers)]:
                raise ValueError(f"best weights of shapes {shapes}")
            done, wanted = len(kept.history["epoch"]), training.settings.epochs
            if done > wanted:
                raise InvalidValue(
                    f"{self._path} holds {done} epochs, more than epochs={wanted}",
                    operation="fit",
                    hint="resume with at least as many, or start anew",
                )
            reached = Reached(
                training.reached.layers,
                {name: list(kept.history[name]) for name in training.reached.columns},
                done,
                record_layers(autograd.new_tape(), best).value,
                float(kept.metadata["best_loss"]),
                kept.metadata["best_epoch"],
                float(kept.metadata["seconds"]),
            )
        except TensorError:
            raise
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            reason = f"{self._path} is no checkpoint of fit ({type(error).__name__}: {error})"
            raise InvalidFile(reason, operation="fit") from error
        if kept.rng is not None:
            training.rng = kept.rng
        training.step.restore(kept.state)
        training.reached = reached._replace(layers=training.latest)


def _digest(rows: Rows | SourcedRows, ranks: Ranks) -> str:
    """Return a digest of the selected rows in their order, of a source its own or that of its first; ranks share."""
    if isinstance(rows, SourcedRows) and rows.digest is not None:
        return f"{rows.digest} of {rows.count} rows of {rows.features} features"
    starts = range(0, rows.count if isinstance(rows, Rows) else 1, DIGESTED)
    local = []
    for start in starts[ranks.local_slice(len(starts))]:
        digest = hashlib.sha256()
        some = rows.take(slice(start, start + DIGESTED))
        if isinstance(some.x, SparseRows):
            digest.update(f"{some.x.features} features, runs from {some.x.starts}".encode())
        for array in some.arrays:
            digest.update(f"{array.shape}".encode())
            digest.update(array.data)
        local.append(digest.hexdigest())
    if isinstance(rows, SourcedRows):
        local.append(f"{rows.count} rows of {rows.features} features")
    return hashlib.sha256("".join(map("".join, ranks.all(local))).encode()).hexdigest()
