"""Training on arrays: from rows and settings to a trained network."""

from __future__ import annotations

import errno
import os
import warnings
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast

import numpy as np
import numpy.typing as npt

from viva_tensor.distributed import Ranks, warn_of_affinity
from viva_tensor.distributed.agreement import digests
from viva_tensor.error import DtypeError, InvalidValue, ShapeMismatch
from viva_tensor.files import as_path
from viva_tensor.kernels.arrays import as_numbers
from viva_tensor.kernels.checks import check_count, flag, is_true, shown
from viva_tensor.program.ranks import RankStep
from viva_tensor.program.run import chosen_rows
from viva_tensor.train.checkpointing import Checkpointer, Kept
from viva_tensor.train.labels import Labels, labels_of, numbers_of
from viva_tensor.train.network import Layers
from viva_tensor.train.progress import Bar
from viva_tensor.train.rows import Rows, check_function, checked_rows, split
from viva_tensor.train.settings import DEFAULTS, Settings
from viva_tensor.train.sources import RowSource, SourcedRows, is_source
from viva_tensor.train.sparse import SparseRows, arrays_of, kind_of, numbers_of_x
from viva_tensor.train.training import DivergenceError, Fit, Training

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

RETRIES = 3  # of a run that diverged, each at a tenth of the learning rate
CLIP_NORM = 1.0
DIGESTED = 1000  # rows that ranks compare, at most
MINUTES = 1.0  # between checkpoints


def fit(
    x: npt.ArrayLike | SparseRows | RowSource,
    y: npt.ArrayLike | None = None,
    settings: Settings = DEFAULTS,
    *,
    weights: npt.ArrayLike | None = None,
    validation: tuple[npt.ArrayLike, ...] | npt.ArrayLike | None = None,
    classes: int | None = None,
    progress: bool = False,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_epochs: int | None = None,
    checkpoint_minutes: float = MINUTES,
    test_digest: str = "",
    resume: bool = False,
    rows: npt.ArrayLike | None = None,
    comm: Intracomm | None = None,
    timed: bool = False,
    start: Layers | None = None,
    callback: Callable[[Mapping[str, float]], object] | None = None,
) -> Fit:
    """Train a network to predict y from x, in shuffled batches, in float32 unless ``settings.dtype`` says otherwise.

    If a loss becomes infinite or NaN, training begins again at a tenth of the learning rate and with gradients clipped
    to a norm of 1, up to three times, with a warning. On an interruption from the keyboard, what had been
    reached after the last whole epoch is returned, with a warning, unless a checkpoint keeps it.

    Parameters
    ----------
    x : array_like [rows, features], SparseRows, or RowSource
        For each sparse row, the first layer adds up a few rows of its weights; rows for validation must then be sparse,
        too, with the same runs. A source gives features, targets and perhaps weights in pieces, so that they need not
        all be in memory at once; it takes the place of y, ``rows`` and ``validation_fraction``, and works only on one
        process.
    y : array_like [rows] or [rows, outputs]
        For "cross_entropy" class numbers [rows] or probabilities [rows, classes]; for "binary_cross_entropy" numbers
        from 0 to 1. Rows with a NaN or infinite target are left out, with a warning. Classes may be text;
        ``Fit.labels`` keeps the distinct labels.
    settings : Settings
    weights : array_like [rows], optional
        How much each row counts, from 0. The loss of a batch is :math:`\\sum_i w_i \\ell_i / \\sum_i w_i` over its rows
        [1]_; validation rows are weighted alike. Only ratios of weights matter: rows of weight 0, and below 2⁻¹⁰⁰ of
        the largest, are left out, and equal weights for all rows are the same as none. On one process only.
    validation : (x, y), (x, y, weights), or array_like of int, optional
        Rows for validation, or their indices in x and y, instead of ``settings.validation_fraction`` of the rows to
        train on; rows at indices are not trained on.
    classes : int, optional
        The number of classes of "cross_entropy", if y may lack the last.
    progress : bool
        Show a bar on stderr, if that is a terminal: losses, rows per second, share of the peak rate of multiply-adds,
        time left.
    checkpoint : path, optional
        A file for the state of the run, written every ``checkpoint_epochs`` epochs or, by default, every
        ``checkpoint_minutes``, at the end, and on an interruption from the keyboard. Needs
        ``pip install "viva-tensor[train]"``.
    test_digest : str
        A digest of rows that the network is tested on later. A checkpoint keeps it, and resumes only with that.
    resume : bool
        Continue from ``checkpoint``, to the bits of an uninterrupted run. Rows and settings must be the
        same, except ``patience``, and ``epochs`` if the schedule is constant.
    rows : array_like of int, optional
        Indices of the rows of x and y to train on; all by default.
    comm : mpi4py.MPI.Intracomm, optional
        The ranks that train together. Each calls this with the same rows, settings and paths, and takes its share of
        each batch. The batches do not depend on the number of ranks, so the weights are the same up to rounding, and a
        run can be resumed on another number of ranks. Each rank reads only the rows it needs of a memory-mapped
        float32 x. Rank 0 alone shows progress and writes. Needs ``pip install "viva-tensor[mpi]"`` or the like; under
        ``mpiexec -n 4 python -m mpi4py script.py`` a rank that fails ends the others. A warning with a hint appears if
        the ranks of a host have more threads than processors, or are bound to one of many processors.
    timed : bool
        With several ranks: measure how long each computes, waits for the others and sums gradients, at the cost of a
        barrier in each step.

    start : sequence of Linear, optional
        Layers from which to continue training, such as those of an earlier fit, instead of random ones.
    callback : callable, optional
        Called after each epoch with the last value of each column of the history; if it returns True, training stops.
        With ``resume`` it is first called again with the values of the last epoch done, so that a run that it stopped
        stays stopped: a callback that counts or prints sees that epoch twice, with the same number.

    Returns
    -------
    Fit

    Raises
    ------
    DtypeError, DimensionError, ShapeMismatch, InvalidShape, InvalidValue
        If rows, targets or settings cannot be used, or differ from those of the checkpoint.
    InvalidFile, OSError
        If the checkpoint cannot be read or written.
    DivergenceError
        If a loss becomes infinite or NaN at each of the rates tried.
    RankError
        If ranks disagree where they must agree, or another rank has failed.

    References
    ----------
    .. [1] As the networks of scikit-learn since version 1.7, sklearn.neural_network.MLPRegressor.fit.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.linspace(-1, 1, 256, dtype=np.float32)[:, None]
    >>> fitted = fit(x, abs(x), Settings(hidden=(16,), epochs=20, batch_size=16))
    >>> fitted.history["validation_loss"][-1] < 0.01
    True
    """
    ranks = Ranks(comm)
    with ranks.fail_together("fit"):
        for name, value in (("progress", progress), ("resume", resume), ("timed", timed)):
            flag("fit", name, value)
        _check(x, settings, validation, classes, callback)
        _check_checkpoint(checkpoint, checkpoint_epochs, checkpoint_minutes, test_digest, resume)
        if is_source(x):
            _check_source(y, rows, weights, validation, ranks)
        if weights is not None and ranks.size > 1:
            _refuse(f"weights on {ranks.size} ranks", "train on one process, or without weights")
    labels: Labels = ()
    if not is_source(x):
        with ranks.fail_together("fit on rows"):  # converted once, for everything below
            y, validation, labels = _labelled(y, validation, settings, classes)
            x = numbers_of_x("fit on rows", x, settings.dtype)
            y = as_numbers("fit on rows", "y", y, settings.dtype)
            classes = classes or len(labels) or None
        if ranks.size > 1:
            shapes = {"the shape of x": cast(Any, x).shape, "the shape of y": y.shape, "the kind of x": kind_of(x)}
            named = {f"settings.{name}": value for name, value in settings.plain().items()}  # functions by their names
            ranks.require_equal("fit", {**named, "resume": resume, "timed": timed, **shapes})
            given = {"checkpoint": checkpoint, "callback": callback, "start": start, "validation": validation}
            there = {f"whether there is a {name}": str(value is not None) for name, value in given.items()}
            with ranks.fail_together("fit"):
                held_out = validation[1] if isinstance(validation, tuple) else validation
                used = None if rows is None else chosen_rows("fit on rows", rows, len(cast(Any, x)))
                found = digests(DIGESTED, x=arrays_of(cast(Any, x))[-1], y=y, rows=used, validation=held_out)
            ranks.require_equal("fit", there | found)
            warn_of_affinity(ranks)
    chosen, held_out, outputs = _rows(x, y, weights, settings, validation, classes, rows, ranks)
    if not isinstance(settings.loss, str) and isinstance(chosen, Rows):
        with ranks.fail_together("fit"):
            check_function(settings.loss, chosen, outputs, settings.batch_size)
    kept = None if checkpoint is None else Kept(Path(checkpoint), checkpoint_epochs, checkpoint_minutes, test_digest)
    calmer = _ever_calmer(settings)
    if kept is not None and resume:
        calmer = kept.from_written(calmer, ranks)
    for attempt, one in enumerate(calmer):
        training = Training(chosen, held_out, outputs, one, ranks, start)
        if isinstance(training.step, RankStep):
            training.step.timed = timed
        try:
            fitted = _train(training, kept, resume and attempt == 0, progress and ranks.first, callback)
            return fitted._replace(labels=labels)
        except DivergenceError as error:
            if attempt == len(calmer) - 1:
                raise
            _begin_again(error, calmer[attempt + 1], chosen, ranks)
    raise AssertionError


def _train(
    training: Training,
    kept: Kept | None,
    resume: bool,
    progress: bool,
    callback: Callable[[Mapping[str, float]], object] | None,
) -> Fit:
    """Train to the end, or until an interruption from the keyboard if no checkpoint keeps what was reached."""
    checkpointer = None if kept is None else Checkpointer(training, kept)
    if checkpointer is not None and resume:
        checkpointer.resume()
    with Bar(training, progress) as bar, checkpointer or nullcontext():
        try:
            # of a resumed run it is not known whether the callback has seen the last epoch, and stopped it
            stopped = training.epoch > 0 and not training.ended and _stops(callback, training)
            while not (stopped or training.ended):
                training.advance(bar.step)
                bar.epoch()
                if checkpointer is not None:
                    checkpointer.epoch()
                stopped = _stops(callback, training)
        except KeyboardInterrupt:
            if checkpointer is not None or training.ranks.size > 1 or not training.epoch:
                raise
            warnings.warn(
                f"fit: interrupted in epoch {training.epoch + 1}; what {training.epoch} epochs reached is returned",
                stacklevel=3,
            )
            return training.fitted()._replace(interrupted=True)
    return training.fitted()


def _stops(callback: Callable[[Mapping[str, float]], object] | None, training: Training) -> bool:
    """Return whether there is a callback that wants training to stop, on any rank; what it raises ends all of them."""
    if callback is None:
        return False
    with training.ranks.fail_together("callback"):
        stopped = is_true(callback(training.reached.latest))
    return any(training.ranks.all(stopped))


def _ever_calmer(settings: Settings) -> list[Settings]:
    """Return settings, and after them the same with a tenth of the learning rate each and gradients clipped."""
    calmer = [settings]
    while len(calmer) <= RETRIES:
        before = calmer[-1].optimizer
        lr, clip = before.lr / 10, min(before.clip_norm or CLIP_NORM, CLIP_NORM)
        # all optimisers are dataclasses
        calmer.append(replace(settings, optimizer=replace(before, lr=lr, clip_norm=clip)))  # type: ignore[type-var]
    return calmer


def _begin_again(error: DivergenceError, settings: Settings, rows: Rows | SourcedRows, ranks: Ranks) -> None:
    """Warn that training begins again, after a divergence that wrong rows of a source may have led to."""
    if isinstance(rows, SourcedRows):
        rows.look_again()
    if ranks.first:
        lr = settings.optimizer.lr
        warnings.warn(f"fit: {error.reason}; begun again with lr={lr:g}, clipping gradients", stacklevel=3)


def _check(
    x: object,
    settings: object,
    validation: object,
    classes: int | None,
    callback: object,
) -> None:
    """Raise if an option has the wrong type, or two do not go together."""
    if not isinstance(settings, Settings):
        _refuse(f"settings={settings!r:.100}, wanted a record of settings", "give train.Settings(...)")
    if classes is not None:
        check_count("fit", "classes", classes)
        if settings.loss != "cross_entropy":
            _refuse(f"classes={classes} beside loss={settings.loss!r:.100}", 'classes are for loss="cross_entropy"')
    if isinstance(validation, tuple) and len(validation) not in (2, 3):
        _refuse(f"validation is a tuple of {len(validation)}", "give (x, y), (x, y, weights), or indices of rows")
    fraction = 0.0 if is_source(x) else settings.validation_fraction
    watched = "patience" if settings.patience is not None else "metric" if settings.metric is not None else ""
    if validation is None and not fraction and watched:
        _refuse(f"{watched} without validation rows", "give some, or a validation_fraction above 0")
    if callback is not None and not callable(callback):
        _refuse(f"callback={callback!r:.100}, wanted a function of the values of an epoch")


def _check_checkpoint(checkpoint: object, epochs: object, minutes: object, test: object, resume: bool) -> None:
    """Raise if the checkpoint is a folder, or there is none that another option is for."""
    if checkpoint is not None:
        if as_path("fit", checkpoint).is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(checkpoint))
        return
    if resume:
        _refuse("resume without a checkpoint", "name the file to resume from")
    given = {"checkpoint_epochs": (epochs, None), "checkpoint_minutes": (minutes, MINUTES), "test_digest": (test, "")}
    for name, (value, usual) in given.items():
        if value != usual:
            _refuse(f"{name}={shown(value)} without a checkpoint", "name the file to write to")


def _labelled(y: Any, validation: Any, settings: Settings, classes: int | None) -> tuple[Any, Any, Labels]:
    """Return targets and validation rows with classes that are text as numbers, and their labels."""
    if y is None:
        _refuse("x without y", "give a target for each row")
    labels = labels_of(y)
    if not labels:
        return y, validation, labels
    if classes not in (None, len(labels)):
        _refuse(f"classes={classes}, and y holds {len(labels)} labels", "leave classes out: the labels say how many")
    if settings.loss != "cross_entropy":
        got, hint = f"y holds text such as {labels[0]!r}", 'train with Settings(loss="cross_entropy") to learn classes'
        raise DtypeError(f"{got}, wanted real numbers", operation="fit", hint=hint)
    if isinstance(validation, tuple):
        validation = validation[0], numbers_of("validation rows", validation[1], labels), *validation[2:]
    return numbers_of("rows", y, labels), validation, labels


def _check_source(y: object, rows: object, weights: object, validation: object, ranks: Ranks) -> None:
    """Raise if an option is for arrays, and the rows come from a source."""
    for name, given in (("y", y), ("rows", rows), ("weights", weights)):
        if given is not None:
            hint = "the source itself gives targets and weights, and only the rows to train on"
            _refuse(f"{name} beside a source of rows", hint)
    if validation is not None and not isinstance(validation, tuple):
        _refuse("indices of validation rows of a source", "give validation=(x, y)")
    if ranks.size > 1:
        _refuse(f"a source of rows on {ranks.size} ranks", "train on one process, or give a memory-mapped x")


def _refuse(reason: str, hint: str = "") -> NoReturn:
    raise InvalidValue(reason, operation="fit", hint=hint)


def _rows(
    x: Any,
    y: Any,
    weights: Any,
    settings: Settings,
    validation: tuple[npt.ArrayLike, ...] | npt.ArrayLike | None,
    classes: int | None,
    rows: npt.ArrayLike | None,
    ranks: Ranks,
) -> tuple[Rows | SourcedRows, Rows | None, int]:
    """Return the rows to train on, those for validation if there are any, and the number of outputs."""
    classes = None if classes is None else int(classes)
    chosen: Rows | SourcedRows
    if is_source(x):
        chosen = SourcedRows(x, settings, classes)
    else:
        if validation is not None and not isinstance(validation, tuple):
            with ranks.fail_together("fit on rows"):
                rows = _others(len(x), rows, validation)
        chosen = checked_rows("rows", x, y, settings, classes, rows, ranks, weights)
    target = chosen.take(slice(1)).y
    if classes is not None and target.ndim == 2 and settings.loss == "cross_entropy" and target.shape[1] != classes:
        _refuse(f"classes={classes}, and y has columns for {target.shape[1]}")
    outputs = target.shape[1] if target.ndim == 2 else classes or _classes(chosen)
    if validation is None:
        if isinstance(chosen, SourcedRows) or not settings.validation_fraction:
            return chosen, None, outputs
        return (*split(chosen, settings.validation_fraction, settings.seed), outputs)
    features, targets, shares, indices = x, y, weights, None if isinstance(validation, tuple) else validation
    if isinstance(validation, tuple):
        features, targets, shares = (*validation, None)[:3]
    held_out = checked_rows("validation rows", features, targets, settings, outputs, indices, ranks, shares)
    firsts = [part.take(slice(1)) for part in (chosen, held_out)]
    wanted, got = ((one.features, *one.y.shape[1:]) for one in firsts)
    with ranks.fail_together("fit on validation rows"):
        if got != wanted:
            hint = "give the same features and outputs"
            raise ShapeMismatch(wanted, got, operation="fit on validation rows", hint=hint)
        if kind_of(firsts[0].x) != kind_of(firsts[1].x):
            _refuse("rows to train on and for validation that are not both arrays, or both sparse with the same runs")
    return chosen, held_out, outputs


def _others(count: int, rows: npt.ArrayLike | None, validation: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Return the rows to train on: those that are named, or all but those for validation."""
    held_out = np.zeros(count, bool)
    held_out[chosen_rows("fit on validation rows", validation, count)] = True
    if rows is None:
        if held_out.all():
            _refuse(f"all {count} rows are for validation", "leave some to train on")
        return np.flatnonzero(~held_out)
    chosen = chosen_rows("fit on rows", rows, count)
    both = chosen[held_out[chosen]]
    if len(both):
        _refuse(f"row {both.min()} is both to train on and for validation", "give other rows for validation")
    return chosen


def _classes(rows: Rows | SourcedRows) -> int:
    """Return how many classes there are: one more than the largest number."""
    if isinstance(rows, SourcedRows):
        _refuse("a source of classes, and nothing says how many", "give classes=")
    return int(rows.y[rows.indices].max()) + 1
