"""Averages: of weights over steps, for predictions, and of gradients over the parts of a batch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from viva_tensor import kernels
from viva_tensor.autograd import Tape, Traced
from viva_tensor.autograd.tape import new_variables, no_tape
from viva_tensor.error import InvalidValue, ShapeMismatch
from viva_tensor.kernels.arrays import Array, as_numbers, freeze, same_shape
from viva_tensor.kernels.checks import is_iterable, share
from viva_tensor.optim.steps import check_mapping
from viva_tensor.optim.trees import leaves, replaced

__all__ = ["Average", "Averaging", "average_init", "average_params", "average_update", "averaged_gradients"]


class Average(NamedTuple):
    """A running average of parameters.

    Attributes
    ----------
    arrays : tuple of ndarray
        One for each parameter, in the order of :func:`leaves`.
    number : int
        How many sets of parameters it is made of.
    """

    arrays: tuple[Array, ...]
    number: int


@dataclass(frozen=True, slots=True)
class Averaging:
    r"""How a compiled step averages its parameters: after each step, :math:`a \leftarrow a + (1 - d)(w - a)`.

    Parameters
    ----------
    decay : float, optional
        d, as for :func:`average_update`; by default the parameters before the first step and after each weigh the same.

    Raises
    ------
    InvalidValue
        If the decay is out of its range.

    Examples
    --------
    >>> Averaging(decay=0.999)
    Averaging(decay=0.999)
    """

    decay: float | None = None

    def __post_init__(self) -> None:
        if self.decay is not None:
            share("Averaging", "decay", self.decay)

    def kept(self, number: int) -> float:
        """Return d for an average of so many sets of parameters.

        Examples
        --------
        >>> Averaging().kept(3)
        0.75
        """
        return number / (number + 1) if self.decay is None else self.decay


def average_init(params: Any) -> Average:
    """Return the average of one set of parameters: the parameters.

    Parameters
    ----------
    params : Variable, or any tree of tuples, NamedTuples, lists and dicts of them

    Examples
    --------
    >>> from viva_tensor.autograd import new_tape, new_variable
    >>> w, tape = new_variable(new_tape(), [1.0])
    >>> average_init(w)
    Average(arrays=(array([1.], dtype=float32),), number=1)
    """
    return Average(tuple(variable.data for variable in leaves(params)), 1)


def average_update(average: Average, params: Any, decay: float | None = None) -> Average:
    r"""Return the average with one more set of parameters, :math:`a + (1 - d)(w - a)`.

    Parameters
    ----------
    average : Average
    params
        As for :func:`average_init`, such as ``step.params(autograd.new_tape()).value`` of a compiled step.
    decay : float, optional
        d, from 0 up to but not including 1, such as 0.999: an exponential average of the latest steps. By default all
        sets weigh the same, d = n / (n + 1) after n of them: averages of all steps [1]_, stochastic weight averaging
        [2]_.

    Raises
    ------
    InvalidValue, ShapeMismatch
        If the decay is out of its range; if these are other parameters.

    References
    ----------
    .. [1] B. T. Polyak and A. B. Juditsky, Acceleration of stochastic approximation by averaging, SIAM Journal on
       Control and Optimization 30(4), 1992.
    .. [2] P. Izmailov et al., Averaging weights leads to wider optima and better generalization, UAI 2018,
       arXiv:1803.05407.

    Examples
    --------
    >>> from viva_tensor.autograd import new_tape, new_variable
    >>> first, tape = new_variable(new_tape(), [1.0])
    >>> second, tape = new_variable(tape, [2.0])
    >>> average_update(average_init(first), second)
    Average(arrays=(array([1.5], dtype=float32),), number=2)
    """
    if decay is not None:
        share("average_update", "decay", decay)
    arrays = [variable.data for variable in leaves(params)]
    _check_alike("average_update", average, arrays)
    kept = Averaging(decay).kept(average.number)
    made = []
    for old, new in zip(average.arrays, arrays, strict=True):
        made.append(kernels.add(old, kernels.scale(kernels.sub(new, old), 1 - kept)))
        freeze(made[-1])
    return Average(tuple(made), average.number + 1)


def average_params(tape: Tape, average: Average, params: Any) -> Traced[Any]:
    """Record the average as parameters, in a tree like that of ``params``.

    Raises
    ------
    ShapeMismatch, InvalidValue
        If these are other parameters; if ``tape`` is none.

    Examples
    --------
    >>> from viva_tensor.autograd import new_tape, new_variable
    >>> w, tape = new_variable(new_tape(), [1.0])
    >>> average_params(tape, Average((np.array([3.0], "f4"),), 2), {"w": w}).value["w"].data
    array([3.], dtype=float32)
    """
    if not isinstance(tape, Tape):
        raise no_tape("average_params", tape)
    variables = leaves(params)
    _check_alike("average_params", average, [variable.data for variable in variables])
    made, tape = new_variables(tape, list(average.arrays))
    new = dict(zip(variables, made, strict=True))
    return Traced(replaced(params, new.__getitem__), tape)


def averaged_gradients(
    gradients: Iterable[Mapping[int, Array]], weights: Sequence[float] | None = None
) -> dict[int, Array]:
    r"""Return the mean of gradients, such as those of the parts of a batch that does not fit into memory at once.

    .. math:: \sum_i w_i g_i / \sum_i w_i

    Parameters
    ----------
    gradients : iterable of Gradients, or of other mappings from the ids of variables
        Of one set of variables: each part is recorded on the tape that the parameters were on.
    weights : sequence of float, optional
        The number of rows of each part; equal by default.

    Raises
    ------
    InvalidValue, ShapeMismatch
        If there are none, of different variables, or no mappings; if weights are negative, all 0, or not as many; if
        gradients of a variable differ in shape.

    Examples
    --------
    >>> averaged_gradients([{0: np.array([1.0])}, {0: np.array([4.0])}], weights=[2, 1])
    {0: array([2.])}
    """
    each: Any = gradients if is_iterable(gradients) else [gradients]
    parts: list[dict[int, Array]] = []
    for one in each:
        check_mapping("averaged_gradients", one)
        parts.append(dict(one))
    given = [1.0] * len(parts) if weights is None else weights
    shares = as_numbers("averaged_gradients", "weights", given, np.float64)
    hint = "give one mapping for each part of a batch, and their numbers of rows"
    if not parts or any(one.keys() != parts[0].keys() for one in parts):
        raise InvalidValue("no gradients, or of different variables", operation="averaged_gradients", hint=hint)
    if shares.shape != (len(parts),) or not (np.isfinite(shares).all() and (shares >= 0).all() and shares.any()):
        raise InvalidValue(f"weights={weights!r:.100}", operation="averaged_gradients", hint=hint)
    total = float(shares.sum())
    found = {key: kernels.scale(array, float(shares[0]) / total) for key, array in parts[0].items()}
    for one, weight in zip(parts[1:], shares[1:], strict=True):
        for key, array in one.items():
            same_shape("averaged_gradients", found[key].shape, np.shape(array), "give gradients of the same variables")
            found[key] = kernels.add(found[key], kernels.scale(array, float(weight) / total))
    return found


def _check_alike(operation: str, average: Average, arrays: Sequence[Array]) -> None:
    if not isinstance(average, Average) or len(average.arrays) != len(arrays):
        hint = "give what average_init made of these parameters"
        raise InvalidValue(f"an average of other than {len(arrays)} parameters", operation=operation, hint=hint)
    for old, new in zip(average.arrays, arrays, strict=True):
        if old.shape != new.shape or old.dtype != new.dtype:
            hint = "give the parameters that it is an average of"
            raise ShapeMismatch(old.shape, new.shape, operation=operation, hint=hint)
