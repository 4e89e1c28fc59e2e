"""Settings of training: sizes, loss, optimiser, batches, and the learning rate of each step."""

from __future__ import annotations

import difflib
import dis
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from inspect import isfunction
from types import CellType
from typing import Any, NoReturn, Self

import numpy as np

from viva_tensor import nn, optim
from viva_tensor.autograd import Tape, Traced, Variable
from viva_tensor.error import InvalidValue
from viva_tensor.kernels.checks import is_iterable, is_number, is_whole, shown

Loss = Callable[..., Traced[Variable]]  # of a tape, outputs and targets, and with weights sample_weight=
LOSSES: Mapping[str, Loss] = {
    "mse": nn.mse_loss,
    "mae": nn.mae_loss,
    "huber": nn.huber_loss,
    "cross_entropy": nn.cross_entropy,
    "binary_cross_entropy": nn.binary_cross_entropy,
}
SCHEDULES = ("cosine", "constant")
DTYPES = ("float32", "float64")
WARM_UP = 100  # steps
NESTED = 3  # functions that hold others, of which the outer ones are looked into


@dataclass(frozen=True)
class Settings:
    """The settings of training: the same settings and rows give the same weights, bit for bit.

    Parameters
    ----------
    hidden : tuple of int
        Units of the hidden layers; none makes a linear model.
    activation : str
        The activation after each hidden layer, as :func:`viva_tensor.nn.mlp_forward` names it.
    loss : {"mse", "mae", "huber", "cross_entropy", "binary_cross_entropy"} or callable
        "cross_entropy" and "binary_cross_entropy" take outputs as logits. A function of the tape, such as
        :func:`viva_tensor.nn.huber_loss`, is recorded as ``loss(tape, output, target)`` of a batch [rows, outputs] and
        returns a scalar and the longer tape; with weights, also with ``sample_weight=``, a variable [rows]. It is
        called once for all batches of any size, so it must not compute from the arrays of its arguments. On several
        ranks it must be a mean over rows.
    metric : str or callable, optional
        As ``loss``: computed for the validation rows as well, to decide which epoch is best; less is better.
    optimizer : optim.SGD, optim.Adam, ...
        Its ``lr`` is the rate of the schedule; "cosine" only comes close to it, see :func:`rates`.
    schedule : {"cosine", "constant"}
        The cosine of :func:`rates`, or the same rate throughout.
    epochs, batch_size : int
    validation_fraction : float
        Share of the rows kept for validation, if no validation rows are given.
    patience : int, optional
        Stop after this many epochs without a new minimum of the metric, or else of the validation loss, and return the
        weights of the minimum.
    seed : int
        Seed of the weights, the order of the rows and the choice of validation rows.
    dtype : {"float32", "float64"}
        The dtype of all computation, whatever the dtype of the rows.

    Raises
    ------
    InvalidValue
        If a setting is out of its range.

    Examples
    --------
    >>> Settings(batch_size=0)
    Traceback (most recent call last):
    ...
    viva_tensor.error.InvalidValue: Settings: batch_size=0, wanted an integer of at least 1
    """

    hidden: tuple[int, ...] = (128, 64)
    activation: str = "relu"
    loss: str | Loss = "mse"
    optimizer: optim.Optimizer = optim.SGD(lr=0.05, momentum=0.9)  # noqa: RUF009  # frozen
    schedule: str = "cosine"
    epochs: int = 40
    batch_size: int = 128
    validation_fraction: float = 0.1
    patience: int | None = None
    seed: int = 0
    metric: str | Loss | None = None
    dtype: str = "float32"

    def __new__(cls, *_: Any, **given: Any) -> Self:
        for name in given.keys() - {field.name for field in fields(cls)}:
            near = difflib.get_close_matches(name, [field.name for field in fields(cls)], n=1)
            hint = f"did you mean {near[0]}?" if near else f"they are {', '.join(f.name for f in fields(cls))}"
            raise TypeError(f"Settings: no setting {name!r}; {hint}")
        return super().__new__(cls)

    def __post_init__(self) -> None:
        if not is_iterable(self.hidden):
            self._refuse("hidden", "a tuple of integers such as (16,)")
        object.__setattr__(self, "hidden", tuple(self.hidden))
        object.__setattr__(self, "hidden", tuple(self._integer("hidden", width) for width in self.hidden))
        for name, least in (("epochs", 1), ("batch_size", 1), ("patience", 1), ("seed", 0)):
            if getattr(self, name) is not None or name != "patience":
                object.__setattr__(self, name, self._integer(name, getattr(self, name), least))
        for name, choices in (("activation", nn.ACTIVATIONS), ("schedule", SCHEDULES), ("dtype", DTYPES)):
            if not isinstance(getattr(self, name), str) or getattr(self, name) not in choices:
                self._refuse(name, f"one of {', '.join(choices)}")
        for name in ("loss", "metric"):
            value = getattr(self, name)
            named = isinstance(value, str) and value in LOSSES
            for usual, function in LOSSES.items():
                if value is function:
                    object.__setattr__(self, name, usual)
            if not (named or callable(value) or (name == "metric" and value is None)):
                self._refuse(name, f"one of {', '.join(LOSSES)}, or a function of the tape")
        if not isinstance(self.optimizer, optim.Optimizer):
            self._refuse("optimizer", "a record such as optim.SGD(lr=0.05)")
        if not (is_number(self.validation_fraction) and 0 <= self.validation_fraction < 1):
            self._refuse("validation_fraction", "a share from 0 to below 1")

    def __str__(self) -> str:
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in self.plain().items())})"

    def plain(self) -> dict[str, Any]:
        """Return the settings by name, with functions replaced by their names.

        Examples
        --------
        >>> Settings(loss=nn.huber_loss).plain()["loss"]
        'huber'
        """
        return {field.name: _named(getattr(self, field.name)) for field in fields(self)}

    def _integer(self, name: str, value: Any, least: int = 1) -> int:
        if not (is_whole(value) and value >= least):
            self._refuse(name, f"an integer of at least {least}")
        return int(value)

    def _refuse(self, name: str, wanted: str) -> NoReturn:
        raise InvalidValue(f"{name}={shown(getattr(self, name))}, wanted {wanted}", operation="Settings")


_, *_parameters = inspect.signature(Settings.__init__).parameters.values()
Settings.__signature__ = inspect.Signature(_parameters)  # type: ignore[attr-defined]  # help would show those of __new__


def _named(value: Any) -> Any:
    if isinstance(value, str) or not callable(value):
        return value
    if is_dataclass(value) and not isinstance(value, type):  # with what it was made of
        return f"{type(value).__module__}.{value!r}"
    return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value).__qualname__)}"


def described(value: Any, depth: int = 0) -> Any:
    """Return the name that a function goes by, with numbers and text in its partial, closure or defaults.

    A number that the function itself changes, such as a count of its calls, does not tell it from others.

    Examples
    --------
    >>> described(partial(nn.huber_loss, delta=2))
    'functools.partial(viva_tensor.nn.losses.huber_loss, delta=2.0)'
    """
    held: list[str] = []
    if isinstance(value, partial):
        held = [_held(one, depth) for one in (value.func, *value.args)]
        held += [f"{name}={_held(one, depth)}" for name, one in value.keywords.items()]
    elif isfunction(value) and (value.__closure__ or "<" in value.__qualname__):
        changed = {one.argval for one in dis.get_instructions(value) if one.opname == "STORE_DEREF"}
        cells = zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
        held = [f"{name}={_held(cell, depth)}" for name, cell in cells if name not in changed]
        held += [_held(one, depth) for one in (*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values())]
    return f"{_named(value)}({', '.join(held)})" if held else _named(value)


def _held(value: Any, depth: int) -> str:
    """Return a value that a function holds as text that is the same in each process."""
    if isinstance(value, CellType):
        try:
            value = value.cell_contents
        except ValueError:  # nothing yet
            return ""
    value = value.item() if isinstance(value, np.generic) else value
    if value is None or isinstance(value, bool | str):
        return repr(value)
    if isinstance(value, int | float):
        return repr(float(value))
    if isinstance(value, tuple):
        return f"({', '.join(_held(one, depth) for one in value)})"
    if callable(value) and depth < NESTED:
        return str(described(value, depth + 1))
    return type(value).__qualname__  # of a list or an array, too, which may change at each call


def _takes(function: Callable[..., Any], *arguments: Any, **named: Any) -> bool:
    try:
        inspect.signature(function).bind(*arguments, **named)
    except TypeError:
        return False
    return True


def recorded(
    loss: str | Loss, tape: Tape, output: Variable, target: Variable, weights: Variable | None = None
) -> Traced[Variable]:
    """Record a loss of outputs, of rows with weights if there are some.

    Raises
    ------
    InvalidValue
        If a function takes no weights, or returns something else than a scalar and a tape.
    """
    function: Callable[..., Any] = LOSSES[loss] if isinstance(loss, str) else loss
    given = {} if weights is None else {"sample_weight": weights}
    if given and not _takes(function, tape, output, target, **given):
        got = f"{_named(loss)} takes no sample_weight, and rows have weights"
        raise InvalidValue(got, operation="fit", hint="add the argument, as losses of nn do")
    if not _takes(function, tape, output, target, **given):
        hint = "make it a function of the tape, the output and the target"
        raise InvalidValue(f"{_named(loss)} takes other arguments", operation="fit", hint=hint)
    traced: Any = function(tape, output, target, **given)
    if not (isinstance(traced, tuple) and len(traced) == 2 and isinstance(traced[0], Variable)):
        got = f"{_named(loss)} returned a {type(traced).__name__}"
        raise InvalidValue(got, operation="fit", hint="return a scalar variable and the longer tape")
    if traced[0].data.ndim:
        got = f"{_named(loss)} returned a variable of shape {traced[0].data.shape}, wanted a scalar"
        raise InvalidValue(got, operation="fit", hint="end with autograd.mean")
    return Traced(*traced)


DEFAULTS = Settings()


def rates(settings: Settings, per_epoch: int) -> Callable[[int], float]:
    """Return the learning rate of each step, counted from 1, as a function, for epochs of `per_epoch` steps.

    With "cosine" it is the optimiser's times half a cosine, which falls from 1 to 0 over all steps, times a factor that
    rises to 1 within the first epoch, or within 100 steps if these are more and not more than a quarter of all. The
    slow start keeps large first steps from leaving relu units at 0 for good.

    Examples
    --------
    >>> rate = rates(Settings(epochs=4, optimizer=optim.SGD(lr=0.5)), per_epoch=2)
    >>> [round(rate(step), 3) for step in range(1, 9)]
    [0.25, 0.481, 0.427, 0.346, 0.25, 0.154, 0.073, 0.019]
    """
    lr = settings.optimizer.lr
    if settings.schedule == "constant":
        return optim.schedules.constant(lr)
    steps = settings.epochs * per_epoch
    return optim.schedules.warm_up(optim.schedules.cosine(lr, steps), max(per_epoch, min(WARM_UP, steps // 4)))
