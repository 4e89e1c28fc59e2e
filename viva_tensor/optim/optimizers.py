"""Optimisers as frozen records: their formulas and the ranges of their numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

from viva_tensor.error import InvalidValue
from viva_tensor.kernels.checks import at_least_0, check_number, flag, is_iterable, positive, share
from viva_tensor.kernels.updates import Rule


class Optimizer:
    """The base of the records. All have a learning rate, weight decay, and a norm to clip to or None."""

    __slots__ = ()

    lr: float
    weight_decay: float
    clip_norm: float | None

    def __post_init__(self) -> None:
        name = type(self).__name__
        positive(name, "lr", self.lr, hint="0.01 is a usual start")
        if self.clip_norm is not None:
            positive(name, "clip_norm", self.clip_norm, hint="None leaves gradients as they are")

    @property
    def slots(self) -> tuple[str, ...]:
        """The arrays kept for each parameter, by the names that kernels use for them."""
        raise NotImplementedError

    def rule(self, steps: int = 0) -> Rule:
        """Return the rule that kernels apply, after a number of steps."""
        raise NotImplementedError

    def at_rate(self, lr: float) -> Self:
        """Return the same optimiser with another learning rate."""
        return replace(self, lr=lr)  # type: ignore[type-var]


@dataclass(frozen=True, slots=True)
class SGD(Optimizer):
    r"""Stochastic gradient descent [1]_: :math:`v \leftarrow \mu v + g`, :math:`w \leftarrow w - \eta v`.

    With ``nesterov`` the step looks ahead [2]_: :math:`w \leftarrow w - \eta (g + \mu v)`. Weight decay adds λ·w to g.

    Parameters
    ----------
    lr : float
        η, above 0.
    momentum : float
        μ, from 0 to 1. With 0 nothing is kept between steps, with 1 every gradient for good.
    nesterov : bool
        Requires momentum.
    weight_decay : float
        λ, at least 0.
    clip_norm : float, optional
        Above 0: gradients are scaled down to this global norm before the step, as by :func:`clip_by_norm`.

    Raises
    ------
    InvalidValue
        If a number is out of its range.

    References
    ----------
    .. [1] H. Robbins and S. Monro, A stochastic approximation method, Annals of Mathematical Statistics 22(3), 1951.
    .. [2] I. Sutskever et al., On the importance of initialization and momentum in deep learning, ICML 2013; here, as
       in PyTorch, the learning rate multiplies v, not g.

    Examples
    --------
    >>> SGD(lr=0.1)
    SGD(lr=0.1, momentum=0.0, nesterov=False, weight_decay=0.0, clip_norm=None)
    """

    lr: float = 0.01
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    clip_norm: float | None = None

    def __post_init__(self) -> None:
        Optimizer.__post_init__(self)
        _check_momentum("SGD", self.momentum)
        at_least_0("SGD", "weight_decay", self.weight_decay)
        if flag("SGD", "nesterov", self.nesterov) and not self.momentum:
            hint = "give momentum=0.9, or no nesterov"
            raise InvalidValue("nesterov=True, wanted momentum with it", operation="SGD", hint=hint)

    @property
    def slots(self) -> tuple[str, ...]:
        return ("first",) if self.momentum else ()

    def rule(self, steps: int = 0) -> Rule:
        return Rule(
            "descent",
            self.lr,
            momentum=self.momentum,
            nesterov=bool(self.nesterov),
            decay=self.weight_decay,
            steps=steps,
        )


@dataclass(frozen=True, slots=True)
class Adam(Optimizer):
    r"""Adam [1]_: steps in proportion to the mean gradient divided by its root mean square.

    .. math::

        m \leftarrow \beta_1 m + (1 - \beta_1) g, \quad s \leftarrow \beta_2 s + (1 - \beta_2) g^2, \quad
        w \leftarrow w - \eta \frac{m / (1 - \beta_1^n)}{\sqrt{s / (1 - \beta_2^n)} + \varepsilon}

    in step n, counted from 1; the corrections are computed in float64. Weight decay adds λ·w to g; large gradients
    outweigh it, but not the decay of :class:`AdamW`. ``weight_decay``, ``clip_norm`` and errors are those of
    :class:`SGD`.

    Parameters
    ----------
    lr : float
        η, above 0.
    betas : (float, float)
        β₁ and β₂, each from 0 up to but not including 1.
    eps : float
        ε, at least 0. With 0, a weight whose gradients were all 0 becomes NaN.

    References
    ----------
    .. [1] D. P. Kingma and J. Ba, Adam: a method for stochastic optimization, ICLR 2015, arXiv:1412.6980.

    Examples
    --------
    >>> Adam(betas=(0.9, 0.99))
    Adam(lr=0.001, betas=(0.9, 0.99), eps=1e-08, weight_decay=0.0, clip_norm=None)
    """

    lr: float = 0.001
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    clip_norm: float | None = None

    def __post_init__(self) -> None:
        Optimizer.__post_init__(self)
        name = type(self).__name__
        object.__setattr__(self, "betas", _pair_of_shares(name, self.betas))
        at_least_0(name, "eps", self.eps)
        at_least_0(name, "weight_decay", self.weight_decay)

    @property
    def slots(self) -> tuple[str, ...]:
        return "first", "second"

    def rule(self, steps: int = 0) -> Rule:
        return Rule(
            "adam",
            self.lr,
            momentum=self.betas[0],
            square_momentum=self.betas[1],
            epsilon=self.eps,
            decay=self.weight_decay,
            decoupled=isinstance(self, AdamW),
            steps=steps,
        )


@dataclass(frozen=True, slots=True)
class AdamW(Adam):
    r"""Adam with decoupled weight decay [1]_: :math:`w \leftarrow (1 - \eta \lambda) w` before Adam's step.

    Parameters and errors are those of :class:`Adam`; λ is ``weight_decay``. Every parameter given to a step decays,
    even if the loss does not depend on it: its gradient is zeros. (In PyTorch it is None, and the parameter stays as it
    is.) Give a step only the parameters to be trained.

    References
    ----------
    .. [1] I. Loshchilov and F. Hutter, Decoupled weight decay regularization, ICLR 2019, arXiv:1711.05101.

    Examples
    --------
    >>> AdamW()
    AdamW(lr=0.001, betas=(0.9, 0.999), eps=1e-08, weight_decay=0.01, clip_norm=None)
    """

    weight_decay: float = 0.01


@dataclass(frozen=True, slots=True)
class RMSprop(Optimizer):
    r"""RMSprop [1]_: gradients divided by a running root mean square.

    .. math::

        s \leftarrow \alpha s + (1 - \alpha) g^2, \quad d = g / (\sqrt{s} + \varepsilon), \quad
        v \leftarrow \mu v + d, \quad w \leftarrow w - \eta v

    Weight decay adds λ·w to g; without momentum no v is kept between steps. ``eps`` is that of :class:`Adam`; other
    parameters and errors are those of :class:`SGD`.

    Parameters
    ----------
    alpha : float
        α, from 0 up to but not including 1.

    References
    ----------
    .. [1] T. Tieleman and G. Hinton, Lecture 6.5: RMSprop, Coursera, Neural Networks for Machine Learning, 2012; ε
       outside the root and the position of the momentum are PyTorch's.

    Examples
    --------
    >>> RMSprop()
    RMSprop(lr=0.01, alpha=0.99, eps=1e-08, momentum=0.0, weight_decay=0.0, clip_norm=None)
    """

    lr: float = 0.01
    alpha: float = 0.99
    eps: float = 1e-8
    momentum: float = 0.0
    weight_decay: float = 0.0
    clip_norm: float | None = None

    def __post_init__(self) -> None:
        Optimizer.__post_init__(self)
        share("RMSprop", "alpha", self.alpha)
        _check_momentum("RMSprop", self.momentum)
        at_least_0("RMSprop", "eps", self.eps)
        at_least_0("RMSprop", "weight_decay", self.weight_decay)

    @property
    def slots(self) -> tuple[str, ...]:
        return ("second", "first") if self.momentum else ("second",)

    def rule(self, steps: int = 0) -> Rule:
        return Rule(
            "rmsprop",
            self.lr,
            momentum=self.momentum,
            square_momentum=self.alpha,
            epsilon=self.eps,
            decay=self.weight_decay,
            steps=steps,
        )


@dataclass(frozen=True, slots=True)
class Lion(Optimizer):
    r"""Lion [1]_: steps of one length, in the direction of the sign of a mean gradient.

    .. math::

        w \leftarrow (1 - \eta \lambda) w - \eta \, \mathrm{sign}(\beta_1 m + (1 - \beta_1) g), \quad
        m \leftarrow \beta_2 m + (1 - \beta_2) g

    It keeps half of what Adam keeps. The rate is usually a third to a tenth of Adam's, and the decay as many times
    larger. ``clip_norm`` and errors are those of :class:`SGD`.

    Parameters
    ----------
    lr : float
        η, above 0.
    betas : (float, float)
        β₁ and β₂, each from 0 up to but not including 1.
    weight_decay : float
        λ, at least 0; decoupled, as in :class:`AdamW`.

    References
    ----------
    .. [1] X. Chen et al., Symbolic discovery of optimization algorithms, NeurIPS 2023, arXiv:2302.06675.

    Examples
    --------
    >>> Lion()
    Lion(lr=0.0001, betas=(0.9, 0.99), weight_decay=0.0, clip_norm=None)
    """

    lr: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0
    clip_norm: float | None = None

    def __post_init__(self) -> None:
        Optimizer.__post_init__(self)
        object.__setattr__(self, "betas", _pair_of_shares("Lion", self.betas))
        at_least_0("Lion", "weight_decay", self.weight_decay)

    @property
    def slots(self) -> tuple[str, ...]:
        return ("first",)

    def rule(self, steps: int = 0) -> Rule:
        return Rule(
            "lion",
            self.lr,
            momentum=self.betas[0],
            square_momentum=self.betas[1],
            decay=self.weight_decay,
            decoupled=True,
            steps=steps,
        )


def _check_momentum(operation: str, value: Any) -> None:
    """Raise unless the value is a share of the velocity that a step may keep, from 0 to 1."""
    check_number(operation, "momentum", value, "0 ≤ momentum ≤ 1", lambda number: 0 <= number <= 1)


def _pair_of_shares(name: str, betas: Any) -> tuple[float, float]:
    """Return β₁ and β₂ as a tuple, checked: a list, as read from a file, would make records unequal."""
    pair = tuple(betas) if is_iterable(betas) else ()
    if len(pair) != 2:
        hint = "(0.9, 0.999) is usual"
        raise InvalidValue(f"betas={betas!r}, wanted two numbers", operation=name, hint=hint)
    for beta in pair:
        share(name, "β", beta)
    return pair


def check_optimizer(operation: str, optimizer: object) -> None:
    """Raise unless ``optimizer`` is one of the records."""
    if not isinstance(optimizer, Optimizer):
        name = getattr(optimizer, "__name__", type(optimizer).__name__)
        hint = "give an SGD, Adam, AdamW, RMSprop or Lion record"
        raise InvalidValue(f"{name} is no optimiser", operation=operation, hint=hint)
