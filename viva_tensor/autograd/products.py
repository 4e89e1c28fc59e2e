"""Matrix products and sums of products over named axes, as functions (tape, variables) -> Traced."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from viva_tensor.autograd import operations
from viva_tensor.autograd.functions import Operand, both, mul
from viva_tensor.autograd.reductions import sum
from viva_tensor.autograd.shaping import expand_dims, reshape, squeeze, transpose
from viva_tensor.autograd.tape import (
    Tape,
    Traced,
    Variable,
    new_tape,  # noqa: F401  # in the examples
    new_variable,  # noqa: F401
    node_of,
    record,
)
from viva_tensor.error import DimensionError, InvalidValue, ShapeMismatch

__all__ = ["einsum", "matmul"]


def matmul(tape: Tape, a: Operand, b: Operand) -> Traced[Variable]:
    """Record the matrix product of (..., m, k) and (..., k, n), by the rules of NumPy; see :func:`numpy.matmul`.

    All axes but the last two are broadcast. A vector is one row on the left and one column on the right, which the
    result lacks. A batch times one matrix is one product.

    Raises
    ------
    DimensionError, ShapeMismatch, BroadcastError, DtypeError
        As :func:`viva_tensor.kernels.matmul`.

    Examples
    --------
    >>> x, tape = new_variable(new_tape(), [[1.0, 2.0]])
    >>> matmul(tape, x, [[1.0], [2.0]]).value.data
    array([[5.]], dtype=float32)
    """
    (a, b), tape = both(tape, "matmul", a, b)
    left, right = (node_of(tape, one, "matmul").output.data.ndim for one in (a, b))
    if left == right == 2 or 0 in (left, right):  # the kernel refuses numbers
        return record(tape, operations.MATMUL, a, b)
    if left == 1:
        a, tape = expand_dims(tape, a, 0)
    if right == 1:
        b, tape = expand_dims(tape, b, 1)
    product, tape = record(tape, operations.MATMUL if a.ndim == b.ndim == 2 else operations.BATCH_MATMUL, a, b)
    single = [-1] * (right == 1) + [-2 if right > 1 else product.ndim - 2] * (left == 1)
    return squeeze(tape, product, single) if single else Traced(product, tape)


def einsum(tape: Tape, subscripts: str, *operands: Variable) -> Traced[Variable]:
    """Record sums of products over named axes, of one or two operands; see :func:`numpy.einsum`.

    Two operands become one product of batches of matrices: letters that both have and the result lacks are summed in
    it, those that all three have are its batch. Without letters to sum they are multiplied element by element.

    Parameters
    ----------
    tape : Tape
    subscripts : str
        A letter for each axis of each operand, such as "bij,bjk->bik". Without an arrow the result has the letters that
        occur once, in alphabetical order.
    *operands : Variable

    Raises
    ------
    InvalidValue
        If the subscripts are not of this form, or a letter occurs twice in an operand.
    DimensionError, ShapeMismatch
        If an operand has other axes than letters; if a letter stands for two sizes.

    Examples
    --------
    >>> x, tape = new_variable(new_tape(), [[1.0, 2.0], [3.0, 4.0]])
    >>> einsum(tape, "ij,ik->jk", x, x).value.data
    array([[10., 14.],
           [14., 20.]], dtype=float32)
    """
    names, result = _letters(subscripts, len(operands))
    sizes: dict[str, int] = {}
    for name, operand in zip(names, operands, strict=True):
        shape = node_of(tape, operand, "einsum").output.data.shape
        if len(shape) != len(name):
            hint = "give a letter for each axis"
            raise DimensionError(f"{name!r} for shape {shape}", operation="einsum", hint=hint)
        for letter, size in zip(name, shape, strict=True):
            if sizes.setdefault(letter, size) != size:
                expected = tuple(sizes.get(one, axis) for one, axis in zip(name, shape, strict=True))
                raise ShapeMismatch(expected, shape, operation=f"einsum of {subscripts!r}", hint=f"axis {letter}")
    parts = []
    for index, (name, operand) in enumerate(zip(names, operands, strict=True)):
        elsewhere = {*result, *"".join(names[:index] + names[index + 1 :])}
        alone = tuple(axis for axis, letter in enumerate(name) if letter not in elsewhere)
        kept = "".join(letter for letter in name if letter in elsewhere)
        summed, tape = sum(tape, operand, alone) if alone else Traced(operand, tape)
        parts.append((kept, summed))
    name, value = parts[0]
    if len(parts) == 2:
        name, value, tape = _contracted(tape, parts[0], parts[1], result)
    return _ordered(tape, value, name, result)


def _letters(subscripts: str, count: int) -> tuple[tuple[str, ...], str]:
    """Return the letters of each operand and of the result."""
    hint = 'give letters for one or two operands, such as "ij,jk->ik"'
    plain = subscripts.replace(" ", "") if isinstance(subscripts, str) else ""
    if not re.fullmatch(r"[A-Za-z]*(,[A-Za-z]*)?(->[A-Za-z]*)?", plain):
        raise InvalidValue(f"subscripts {subscripts!r}", operation="einsum", hint=hint)
    given, arrow, result = plain.partition("->")
    names = tuple(given.split(","))
    every = "".join(names)
    if not arrow:
        result = "".join(sorted(letter for letter in set(every) if every.count(letter) == 1))
    if len(names) != count:
        raise InvalidValue(f"subscripts {subscripts!r} for {count} operands", operation="einsum", hint=hint)
    for name in (*names, result):
        if twice := [letter for letter in name if name.count(letter) > 1]:
            got = f"subscripts {subscripts!r} have {twice[0]!r} twice in {name!r}"
            raise InvalidValue(got, operation="einsum", hint="give each axis of an operand a letter of its own")
    if unknown := [letter for letter in result if letter not in every]:
        got = f"subscripts {subscripts!r} have {unknown[0]!r} in the result, but in no operand"
        raise InvalidValue(got, operation="einsum", hint="the result has letters of the operands")
    return names, result


def _contracted(
    tape: Tape, left: tuple[str, Variable], right: tuple[str, Variable], result: str
) -> tuple[str, Variable, Tape]:
    """Return the letters and value of a product of two operands whose letters are in the other or in the result."""
    (a_name, a), (b_name, b) = left, right
    batch = [letter for letter in a_name if letter in b_name and letter in result]
    depth = [letter for letter in a_name if letter in b_name and letter not in result]
    rows, columns = [one for one in a_name if one not in b_name], [one for one in b_name if one not in a_name]
    name = "".join((*batch, *rows, *columns))
    if not depth:
        a, tape = _ordered(tape, a, a_name, "".join(batch + rows))
        b, tape = _ordered(tape, b, b_name, "".join(batch + columns))
        a, tape = _widened(tape, a, len(columns), a.ndim)
        b, tape = _widened(tape, b, len(rows), len(batch))
        product, tape = mul(tape, a, b)
        return name, product, tape
    sizes = dict(zip(a_name + b_name, a.shape + b.shape, strict=True))
    a, tape = _grouped(tape, a, a_name, (batch, rows, depth))
    b, tape = _grouped(tape, b, b_name, (batch, depth, columns))
    product, tape = matmul(tape, a, b)
    single = [axis for axis, group in ((-2, rows), (-1, columns)) if not group]
    if single:
        product, tape = squeeze(tape, product, single)
    if max(len(rows), len(columns)) > 1:
        product, tape = reshape(tape, product, [sizes[letter] for letter in name])
    return name, product, tape


def _grouped(tape: Tape, x: Variable, name: str, groups: tuple[Sequence[str], ...]) -> Traced[Variable]:
    """Record x with its axes in groups, each of them but the first joined to one axis."""
    x, tape = _ordered(tape, x, name, "".join(letter for group in groups for letter in group))
    batch, *others = groups
    if any(len(group) > 1 for group in others):
        counts = [1] * len(batch) + [len(group) for group in others if group]
        axes = iter(range(x.ndim))
        joined = tuple(tuple(next(axes) for _ in range(count)) for count in counts)
        shape = [math.prod(x.shape[axis] for axis in group) for group in joined]
        x, tape = record(tape, operations.RESHAPE, x, shape=operations.JoinedAxes(shape, joined))
    for number, group in enumerate(others):
        if not group:
            x, tape = expand_dims(tape, x, len(batch) + number)
    return Traced(x, tape)


def _widened(tape: Tape, x: Variable, count: int, place: int) -> Traced[Variable]:
    """Record x with so many new axes of size 1 at a place."""
    for _ in range(count):
        x, tape = expand_dims(tape, x, place)
    return Traced(x, tape)


def _ordered(tape: Tape, x: Variable, name: str, wanted: str) -> Traced[Variable]:
    """Record x with its axes in the order of some letters."""
    return Traced(x, tape) if name == wanted else transpose(tape, x, [name.index(letter) for letter in wanted])
