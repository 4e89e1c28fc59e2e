"""How a network is trained: sizes, loss, optimiser, batches, and the rate of each step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import NoReturn

from viva_tensor import nn, optim
from viva_tensor.autograd import Tape, Traced, Variable
from viva_tensor.error import InvalidValue
from viva_tensor.kernels.checks import is_iterable, is_number, is_whole, shown

LOSSES: Mapping[str, Callable[[Tape, Variable, Variable], Traced[Variable]]] = {
    "mse": nn.mse_loss,
    "mae": nn.mae_loss,
    "huber": nn.huber_loss,
    "cross_entropy": nn.cross_entropy,
    "binary_cross_entropy": nn.binary_cross_entropy,
}
SCHEDULES = ("cosine", "constant")


@dataclass(frozen=True)
class Settings:
    """What training depends on beside its rows: the same settings and rows give the same weights, bit for bit.

    Parameters
    ----------
    hidden : tuple of int
        Units of the hidden layers; none makes a linear model.
    activation : str
        After each hidden layer; a name that :func:`viva_tensor.nn.mlp_forward` knows.
    loss : {"mse", "mae", "huber", "cross_entropy", "binary_cross_entropy"}
        The last two take outputs as logits.
    optimizer : optim.SGD, optim.Adam, ...
        Its ``lr`` is the highest rate of the schedule.
    schedule : {"cosine", "constant"}
        Of :func:`rates`, or the same rate throughout.
    epochs, batch_size : int
    validation_fraction : float
        Share of the rows that are kept for validation, if none are given for that.
    patience : int, optional
        End when the validation loss found no new minimum in so many epochs, and return the weights of the minimum.
    seed : int
        Of the weights, the order of the rows and the validation rows.

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
    loss: str = "mse"
    optimizer: optim.Optimizer = optim.SGD(lr=0.05, momentum=0.9)  # noqa: RUF009  # frozen
    schedule: str = "cosine"
    epochs: int = 40
    batch_size: int = 128
    validation_fraction: float = 0.1
    patience: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not is_iterable(self.hidden):
            _refuse(f"hidden={shown(self.hidden)}", "wanted a tuple of integers")
        object.__setattr__(self, "hidden", tuple(self.hidden))
        for name, value in (
            *(("hidden", width) for width in self.hidden),
            ("epochs", self.epochs),
            ("batch_size", self.batch_size),
            ("patience", 1 if self.patience is None else self.patience),
            ("seed", self.seed + 1 if is_whole(self.seed) else self.seed),
        ):
            if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
                least = 0 if name == "seed" else 1
                _refuse(f"{name}={shown(getattr(self, name))}", f"wanted an integer of at least {least}")
        object.__setattr__(self, "hidden", tuple(map(int, self.hidden)))
        for name in ("epochs", "batch_size", "seed", "patience"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, int(getattr(self, name)))
        for name, choices in (("activation", nn.ACTIVATIONS), ("loss", LOSSES), ("schedule", SCHEDULES)):
            if not isinstance(getattr(self, name), str) or getattr(self, name) not in choices:
                _refuse(f"{name}={shown(getattr(self, name))}", f"wanted one of {', '.join(choices)}")
        if not isinstance(self.optimizer, optim.Optimizer):
            _refuse(f"optimizer={shown(self.optimizer)}", "wanted a record such as optim.SGD(lr=0.05)")
        if not (is_number(self.validation_fraction) and 0 <= self.validation_fraction < 1):
            _refuse(f"validation_fraction={shown(self.validation_fraction)}", "wanted a share from 0 to below 1")


DEFAULTS = Settings()


def rates(settings: Settings, per_epoch: int) -> Callable[[int], float]:
    """The learning rate of each step, counted from 1, for so many steps in an epoch.

    "cosine" rises to the optimiser's rate within the first epoch, and falls along half a cosine towards 0 at the end;
    the slow start keeps large first steps from leaving relu units at 0 for good.

    Examples
    --------
    >>> rate = rates(Settings(epochs=4, optimizer=optim.SGD(lr=0.5)), per_epoch=2)
    >>> [round(rate(step), 3) for step in range(1, 9)]
    [0.25, 0.481, 0.427, 0.346, 0.25, 0.154, 0.073, 0.019]
    """
    lr = settings.optimizer.lr
    if settings.schedule == "constant":
        return optim.schedules.constant(lr)
    return optim.schedules.warm_up(optim.schedules.cosine(lr, settings.epochs * per_epoch), per_epoch)


def _refuse(got: str, wanted: str) -> NoReturn:
    raise InvalidValue(f"{got}, {wanted}", operation="Settings")
