"""Losses that are negative log-likelihoods: of classes, probabilities, counts, amounts and numbers with a variance.

Each takes ``reduction`` and ``sample_weight`` as the losses of :mod:`viva_tensor.nn.losses` do.
"""

from __future__ import annotations

from viva_tensor import autograd
from viva_tensor.autograd import Tape, Traced, Variable, operations, record
from viva_tensor.error import InvalidValue
from viva_tensor.kernels.checks import real
from viva_tensor.nn.reducing import alike, check_targets, reduced, subtracted

__all__ = [
    "binary_cross_entropy",
    "cross_entropy",
    "focal_loss",
    "gamma_loss",
    "gaussian_loss",
    "kl_divergence",
    "poisson_loss",
]


def binary_cross_entropy(
    tape: Tape, logits: Variable, target: Variable, reduction: str = "mean", sample_weight: Variable | None = None
) -> Traced[Variable]:
    """Record the cross-entropy of logits with targets from 0 to 1.

    See :func:`viva_tensor.kernels.binary_cross_entropy`. Parameters, returns and errors are those of :func:`mse_loss`,
    with :class:`InvalidValue` for other targets.

    Examples
    --------
    >>> x, tape = autograd.new_variable(autograd.new_tape(), [0.0, 100.0])
    >>> t, tape = autograd.new_constant(tape, [1.0, 1.0])
    >>> round(float(binary_cross_entropy(tape, x, t, reduction="sum").value.data), 4)
    0.6931
    """
    losses, tape = record(tape, operations.BINARY_CROSS_ENTROPY, logits, target)
    return reduced("binary_cross_entropy", tape, losses, reduction, sample_weight)


def cross_entropy(
    tape: Tape,
    logits: Variable,
    target: Variable,
    reduction: str = "mean",
    sample_weight: Variable | None = None,
    label_smoothing: float = 0.0,
) -> Traced[Variable]:
    """Record the cross-entropy of softmax(logits) with classes or probabilities.

    See :func:`viva_tensor.kernels.cross_entropy`. The reduction is over the rows; other parameters and errors are those
    of :func:`mse_loss`.

    Parameters
    ----------
    logits : Variable [rows, classes]
    target : Variable
        [rows]: the index of each row's class, from 0, in the dtype of the logits; or [rows, classes]: probabilities.
        They are checked when they are recorded; a compiled program returns NaN for a class that does not exist.
    label_smoothing : float
        ε, at least 0 and below 1: probabilities t of K classes become (1 - ε)·t + ε/K [1]_.

    References
    ----------
    .. [1] C. Szegedy et al., Rethinking the Inception architecture for computer vision, CVPR 2016, arXiv:1512.00567.

    Raises
    ------
    IndexOutOfBounds, DimensionError, InvalidValue
        If a class has no logit; if logits are not a matrix; if the index of a class is not whole, or probabilities do
        not sum to 1.

    Examples
    --------
    >>> x, tape = autograd.new_variable(autograd.new_tape(), [[0.0, 0.0]])
    >>> t, tape = autograd.new_constant(tape, [1.0])
    >>> loss, tape = cross_entropy(tape, x, t)
    >>> round(float(loss.data), 4), autograd.backward(tape, loss)[x]
    (0.6931, array([[ 0.5, -0.5]], dtype=float32))
    """
    smoothing = real("cross_entropy", "label_smoothing", label_smoothing)
    if not 0 <= smoothing < 1:
        hint = "give a number from 0, below 1"
        raise InvalidValue(f"label_smoothing={label_smoothing!r}", operation="cross_entropy", hint=hint)
    losses, tape = record(tape, operations.CROSS_ENTROPY, logits, target)
    if smoothing:
        losses, tape = record(tape, operations.SCALE, losses, factor=1 - smoothing)
        logs, tape = record(tape, operations.LOG_SOFTMAX, logits)
        share, tape = autograd.mean(tape, logs, axis=1)
        share, tape = record(tape, operations.SCALE, share, factor=smoothing)
        losses, tape = autograd.sub(tape, losses, share)
    return reduced("cross_entropy", tape, losses, reduction, sample_weight)


def kl_divergence(
    tape: Tape, logits: Variable, target: Variable, reduction: str = "mean", sample_weight: Variable | None = None
) -> Traced[Variable]:
    r"""Record how far softmax(logits), p, is from probabilities t, :math:`\sum_j t_j (\ln t_j - \ln p_j)` of rows [1]_.

    Parameters and errors are those of :func:`cross_entropy`, with probabilities [rows, classes] as the target.

    References
    ----------
    .. [1] S. Kullback and R. A. Leibler, On information and sufficiency, Annals of Mathematical Statistics 22(1), 1951.

    Examples
    --------
    >>> x, tape = autograd.new_variable(autograd.new_tape(), [[0.0, 0.0]])
    >>> t, tape = autograd.new_constant(tape, [[1.0, 0.0]])
    >>> round(float(kl_divergence(tape, x, t).value.data), 4)
    0.6931
    """
    alike("kl_divergence", tape, logits, target)
    losses, tape = record(tape, operations.CROSS_ENTROPY, logits, target)
    certain, tape = autograd.log(tape, target)
    certain, tape = autograd.mul(tape, certain, target)
    certain, tape = autograd.where(tape, target, certain, 0.0)  # 0 · ln 0 = 0
    certain, tape = autograd.sum(tape, certain, axis=1)
    losses, tape = autograd.add(tape, losses, certain)
    return reduced("kl_divergence", tape, losses, reduction, sample_weight)


def focal_loss(
    tape: Tape,
    logits: Variable,
    target: Variable,
    gamma: float = 2.0,
    reduction: str = "mean",
    sample_weight: Variable | None = None,
) -> Traced[Variable]:
    r"""Record the binary cross-entropy, times :math:`(1 - p_t)^\gamma`, which makes little of what is easy [1]_.

    :math:`p_t` is the probability of the target, :math:`\sigma(x)` for 1 and :math:`1 - \sigma(x)` for 0.

    Parameters, returns and errors are those of :func:`binary_cross_entropy`; ``gamma`` is at least 0.

    References
    ----------
    .. [1] T.-Y. Lin et al., Focal loss for dense object detection, ICCV 2017, arXiv:1708.02002.

    Examples
    --------
    >>> x, tape = autograd.new_variable(autograd.new_tape(), [0.0])
    >>> t, tape = autograd.new_constant(tape, [1.0])
    >>> round(float(focal_loss(tape, x, t).value.data), 4)    # ¼ ln 2
    0.1733
    """
    power = real("focal_loss", "gamma", gamma)
    if not power >= 0:
        raise InvalidValue(f"gamma={gamma!r}", operation="focal_loss", hint="give a number of at least 0")
    entropy, tape = record(tape, operations.BINARY_CROSS_ENTROPY, logits, target)
    chance, tape = record(tape, operations.SIGMOID, logits)
    opposite, tape = record(tape, operations.SCALE, logits, factor=-1.0)
    against, tape = record(tape, operations.SIGMOID, opposite)  # 1 - σ(x) with all its digits
    off, tape = autograd.sub(tape, 1.0, target)
    missed, tape = autograd.mul(tape, off, chance)
    other, tape = autograd.mul(tape, target, against)
    missed, tape = autograd.add(tape, missed, other)
    missed, tape = autograd.pow(tape, missed, power)
    losses, tape = autograd.mul(tape, missed, entropy)
    return reduced("focal_loss", tape, losses, reduction, sample_weight)


def poisson_loss(
    tape: Tape, log_rate: Variable, target: Variable, reduction: str = "mean", sample_weight: Variable | None = None
) -> Traced[Variable]:
    r"""Record the negative log-likelihood of counts, :math:`e^x - t x`, without the term that no x changes.

    Parameters
    ----------
    log_rate : Variable
        x, the logarithm of the rate that is predicted.
    target : Variable
        Counts of at least 0. They are checked when they are recorded.

    Other parameters, returns and errors are those of :func:`mse_loss`.

    Examples
    --------
    >>> x, tape = autograd.new_variable(autograd.new_tape(), [0.0])
    >>> t, tape = autograd.new_constant(tape, [3.0])
    >>> loss, tape = poisson_loss(tape, x, t)
    >>> float(loss.data), autograd.backward(tape, loss)[x]
    (1.0, array([-2.], dtype=float32))
    """
    alike("poisson_loss", tape, log_rate, target)
    check_targets("poisson_loss", target, target.data >= 0, "counts are at least 0")
    rate, tape = autograd.exp(tape, log_rate)
    product, tape = autograd.mul(tape, target, log_rate)
    losses, tape = autograd.sub(tape, rate, product)
    return reduced("poisson_loss", tape, losses, reduction, sample_weight)


def gamma_loss(
    tape: Tape, log_mean: Variable, target: Variable, reduction: str = "mean", sample_weight: Variable | None = None
) -> Traced[Variable]:
    r"""Record the negative log-likelihood of gamma-distributed amounts, :math:`x + t e^{-x}`, up to its constant terms.

    Parameters
    ----------
    log_mean : Variable
        x, the logarithm of the mean that is predicted.
    target : Variable
        Amounts above 0. They are checked when they are recorded.

    Other parameters, returns and errors are those of :func:`mse_loss`.

    Examples
    --------
    >>> x, tape = autograd.new_variable(autograd.new_tape(), [0.0])
    >>> t, tape = autograd.new_constant(tape, [3.0])
    >>> loss, tape = gamma_loss(tape, x, t)
    >>> float(loss.data), autograd.backward(tape, loss)[x]
    (3.0, array([-2.], dtype=float32))
    """
    alike("gamma_loss", tape, log_mean, target)
    check_targets("gamma_loss", target, target.data > 0, "amounts are above 0")
    inverse, tape = autograd.sequence(record(tape, operations.SCALE, log_mean, factor=-1.0), autograd.exp)
    share, tape = autograd.mul(tape, target, inverse)
    losses, tape = autograd.add(tape, log_mean, share)
    return reduced("gamma_loss", tape, losses, reduction, sample_weight)


def gaussian_loss(
    tape: Tape,
    mean: Variable,
    log_variance: Variable,
    target: Variable,
    reduction: str = "mean",
    sample_weight: Variable | None = None,
) -> Traced[Variable]:
    r"""Record the negative log-likelihood of a normal distribution whose variance is predicted, too [1]_.

    .. math:: \tfrac{1}{2} (s + (t - \mu)^2 e^{-s})

    with the logarithm of the variance, :math:`s = \ln \sigma^2`, and without the constant ½ ln 2π.

    Parameters, returns and errors are those of :func:`mse_loss`; ``mean``, ``log_variance`` and ``target`` have one
    shape.

    References
    ----------
    .. [1] D. A. Nix and A. S. Weigend, Estimating the mean and variance of the target probability distribution, ICNN
       1994.

    Examples
    --------
    >>> m, tape = autograd.new_variable(autograd.new_tape(), [1.0])
    >>> s, tape = autograd.new_variable(tape, [0.0])
    >>> t, tape = autograd.new_constant(tape, [3.0])
    >>> float(gaussian_loss(tape, m, s, t).value.data)
    2.0
    """
    alike("gaussian_loss", tape, log_variance, target)
    difference, tape = subtracted("gaussian_loss", tape, mean, target)
    square, tape = autograd.square(tape, difference)
    precision, tape = autograd.sequence(record(tape, operations.SCALE, log_variance, factor=-1.0), autograd.exp)
    share, tape = autograd.mul(tape, square, precision)
    both, tape = autograd.add(tape, log_variance, share)
    losses, tape = record(tape, operations.SCALE, both, factor=0.5)
    return reduced("gaussian_loss", tape, losses, reduction, sample_weight)
