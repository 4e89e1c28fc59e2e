"""What was recorded for some number of rows, for another: the attributes of nodes that name sizes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import takewhile
from typing import Any, NamedTuple, TypeVar

from viva_tensor.autograd import Node, Variable, operations
from viva_tensor.autograd.operations import Shape
from viva_tensor.error import InvalidShape
from viva_tensor.kernels.arrays import axes_of

T = TypeVar("T")


def leading(node: Node, values: Sequence[T]) -> T:
    """Return which of a node's inputs gives its attributes their sizes."""
    return values[1 if node.operation is operations.PLACE else 0]


def check_exact(node: Node, shapes: Sequence[Shape]) -> None:
    """Raise InvalidShape if inputs of these shapes are to be repeated as they were not when recorded, and may not."""
    if exact := node.attributes.get("exact"):
        (given, wanted), (one, whole) = shapes, (variable.shape for variable in node.inputs)
        sizes = zip(one, whole, given, wanted, strict=True)
        if any(before == after and now != then for before, after, now, then in sizes):
            operation, hint = exact
            got = f"{given} for {wanted}, recorded as {one} for {whole}"
            raise InvalidShape(got, operation=operation, hint=hint)


class Factor(NamedTuple):
    """A size that an axis, or a part of one, was recorded with, and the size it has now."""

    recorded: int
    now: int


class Stretching:
    """The attributes of recorded nodes for inputs that may have more or fewer rows than recorded.

    Parameters
    ----------
    nodes : sequence of Node
        In their order.
    shape_of : callable
        Returns the shape that a variable has now; those before a node are known when its attributes are asked for.

    Examples
    --------
    >>> from viva_tensor import autograd
    >>> x, tape = autograd.new_constant(autograd.new_tape(), [[0.0] * 6] * 4)
    >>> y, tape = autograd.reshape(tape, x, (4, 3, 2))
    >>> dict(Stretching(tape.nodes(), {x.id: (5, 6)}.__getitem__).attributes(tape.nodes()[-1]))
    {'shape': (5, 3, 2)}
    """

    def __init__(self, nodes: Sequence[Node], shape_of: Callable[[int], Shape]) -> None:
        self._makers = {node.output.id: node for node in nodes}
        self._shape_of = shape_of
        self._cut: dict[int, list[Factor]] = {}  # of each variable, as each axis of what is made of it asks

    def inputs(self, node: Node) -> list[Shape]:
        """Return the shapes of a node's inputs; of one that only says a shape to repeat to, what fits the other.

        Raises
        ------
        InvalidShape
            If an axis of size 1 was repeated to as many as the rows, which are others now.
        """
        shapes = [self._shape_of(one.id) for one in node.inputs]
        if node.operation is not operations.BROADCAST:
            return shapes
        recorded, wanted = (one.shape for one in node.inputs)
        maker = self._makers.get(node.inputs[1].id)
        if maker is not None and maker.operation is operations.CONSTANT and shapes[1] == wanted:
            lead = len(wanted) - len(recorded)
            axes = [*zip(recorded, shapes[0], wanted[lead:], strict=True)]
            rows = {size for size, now, _ in axes if size != now}
            if any(size == 1 < whole in rows for size, _, whole in axes):
                got = f"{shapes[0]}, recorded as {recorded} to {wanted}, in which two sizes may be those of the rows"
                hint = "give as many rows as were recorded, or record another number of them"
                raise InvalidShape(got, operation="broadcast_to", hint=hint)
            shapes[1] = (*wanted[:lead], *(now if size == whole > 1 else whole for size, now, whole in axes))
        return shapes

    def attributes(self, node: Node) -> Mapping[str, Any]:
        """Return a node's attributes.

        Raises
        ------
        InvalidShape
            If what was recorded makes sense only for the recorded number of rows.
        """
        attributes = node.attributes
        if not node.inputs:
            return attributes
        first = leading(node, node.inputs)
        recorded, shape = first.shape, self._shape_of(first.id)
        if recorded == shape:
            return attributes
        if node.operation is operations.RESHAPE:
            return {"shape": self._reshaped(attributes["shape"], first)}
        if node.operation in (operations.SLICE, operations.PLACE):
            whole = zip(attributes["spans"], recorded, shape, strict=True)
            return {"spans": tuple(_span(span, size, now, recorded, shape) for span, size, now in whole)}
        return attributes

    def _reshaped(self, wanted: Shape, x: Variable) -> Shape:
        """Return a recorded shape for another number of rows.

        -1 is what remains, other rows only if the sizes after it divide what comes after the axis of rows; a multiple
        of the rows goes along, beside a -1 only their number; and axes that were joined before are parted as they were,
        if -1 says nothing else; axes that were cut and joined only if the rows stay first.
        """
        recorded, shape = x.shape, self._shape_of(x.id)
        if isinstance(wanted, operations.JoinedAxes):
            sizes = [math.prod(shape[axis] for axis in group) for group in wanted.groups]
            return operations.JoinedAxes(sizes, wanted.groups)
        first, *others = wanted or (1,)
        rest = math.prod(others)
        if isinstance(wanted, operations.RowGroups):
            return operations.RowGroups((math.prod(shape) // rest, *others))
        remaining = isinstance(wanted, operations.OpenSize) and rest
        factors = [factor for axis in range(len(shape)) for factor in self._factors(x, axis)]
        were_joined = len(factors) > len(shape)
        rows = max(axis for axis, (size, now) in enumerate(zip(recorded, shape, strict=True)) if size != now)
        parted = self._parted(factors, wanted, x, rows) if were_joined else None
        later = isinstance(wanted, operations.OpenLater)
        if parted is not None and (not remaining or parted[1:] == tuple(others)):
            return parted
        if parted is None and remaining and math.prod(shape[rows + 1 :]) % rest == 0:
            return operations.OpenSize((math.prod(shape) // rest, *others))
        as_many = recorded[0] > 1 and (first == recorded[0] if later else first % recorded[0] == 0)
        if not were_joined and as_many and recorded[1:] == shape[1:]:
            return (first // recorded[0] * shape[0], *others)
        if parted is None and (remaining or not self._of_one_row(x)):
            for node in self._makers.values():  # from the first on: Python has no stack for a long chain
                if node.operation is operations.RESHAPE and node.inputs[0].id < x.id:
                    self._cut_factors(node.inputs[0])
            cut = self._cut_factors(x)
            axes = set(zip(recorded, shape, strict=True))
            known = were_joined or any(one.recorded != one.now and one not in axes for one in cut)
            parted = self._parted(cut, wanted, x, rows) if known else None
            if parted is not None and parted[1:] == tuple(others):
                return parted
        got = f"{shape}, recorded as {recorded} to {tuple(wanted)}, which says nothing of other rows"
        hint = "give as many rows as were recorded, or keep the rows on the first axis, with -1 for its size"
        raise InvalidShape(got, operation="reshape", hint=hint)

    def _parted(self, factors: Sequence[Factor], wanted: Shape, x: Variable, rows: int) -> Shape | None:
        """Return sizes that are products of factors, as the recorded ones are; None if -1 may mean something else."""
        parted = _parted(factors, wanted, one_row=self._of_one_row(x))
        if parted is None or not isinstance(wanted, operations.OpenLater):
            return parted
        return parted if _follows(factors, wanted, parted, x.shape[rows + 1 :]) else None

    def _of_one_row(self, x: Variable) -> bool:
        """Return whether a variable was made of one that was recorded with one row, and has other rows now."""
        left, seen = [x], {x.id}
        while left:
            one = left.pop()
            if one.shape[:1] == (1,) != self._shape_of(one.id)[:1]:
                return True
            made = self._makers.get(one.id)
            new = [source for source in (made.inputs if made else ()) if source.id not in seen]
            seen |= {source.id for source in new}
            left += new
        return False

    def _cut_factors(self, x: Variable) -> list[Factor]:
        """Return the sizes of which the axes, or parts of them, were joined, without sizes of 1."""
        if x.id not in self._cut:
            factors = [factor for axis in range(len(x.shape)) for factor in self._factors(x, axis, cut=True)]
            self._cut[x.id] = _merged([factor for factor in factors if factor != (1, 1)])
        return self._cut[x.id]

    def _factors(self, x: Variable, axis: int, cut: bool = False) -> Iterator[Factor]:
        """Yield the sizes of which an axis was joined, the outermost first; its own size if it never was."""
        whole = Factor(x.shape[axis], self._shape_of(x.id)[axis])
        node = self._makers.get(x.id)
        while node is not None and node.inputs:
            if node.operation is operations.RESHAPE:
                yield from self._joined(node, axis, whole, cut)
                return
            origins = ((node.inputs[index], from_axis) for index, from_axis in _origins(node, axis))
            same = ((one, at) for one, at in origins if (one.shape[at], self._shape_of(one.id)[at]) == whole)
            origin, axis = next(same, (None, axis))
            node = None if origin is None else self._makers.get(origin.id)
        yield whole

    def _joined(self, node: Node, axis: int, whole: Factor, cut: bool) -> list[Factor]:
        """Return the sizes that a reshape joined to one, which has these sizes; that alone if it is not clear which."""
        (x,), shape = node.inputs, node.attributes["shape"]
        if isinstance(shape, operations.JoinedAxes):
            return [factor for part in shape.groups[axis] for factor in self._factors(x, part, cut)]
        if cut:
            outer = Factor(math.prod(shape[:axis]), math.prod(self._shape_of(node.output.id)[:axis]))
            _, left = _cut(self._cut_factors(x), outer)
            return _cut(left, whole)[0] or [whole]
        begin, end = math.prod(shape[:axis]), math.prod(shape[: axis + 1])
        factors: list[Factor] = []
        for part, size in enumerate(x.shape):
            before = math.prod(x.shape[:part])
            if begin <= before < end or (before == end and size == 1):
                factors += self._factors(x, part)
                if (math.prod(one.recorded for one in factors), math.prod(one.now for one in factors)) == whole:
                    return factors
        return [whole]


def _cut(factors: Sequence[Factor], product: Factor) -> tuple[list[Factor], list[Factor]]:
    """Return the first factors, which have this product, and those that are left; none and none if no first ones have.

    A factor that no number of rows changes is cut in two if a part of it is needed.
    """
    taken, left, (recorded, now) = [], [*factors], (1, 1)
    while (recorded, now) != product:
        if not left or not recorded:
            return [], []
        factor, part = left.pop(0), product.recorded // recorded
        if factor.recorded == factor.now > part > 1 and factor.recorded % part == 0:
            left.insert(0, Factor(*[factor.recorded // part] * 2))
            factor = Factor(part, part)
        taken.append(factor)
        recorded, now = recorded * factor.recorded, now * factor.now
    return taken, left


def _span(span: tuple[int, ...], size: int, now: int, recorded: Shape, shape: Shape) -> tuple[int, ...]:
    if size == now:
        return span
    if isinstance(span, operations.OpenSize):
        backwards = span[2] < 0
        return operations.OpenSize((max(now - 1, 0), now, -1) if backwards else (0, now, 1))
    raise InvalidShape(
        f"{shape}, recorded as some rows of {recorded}",
        operation="slice",
        hint="give as many rows as were recorded, or take all rows with :",
    )


def _parted(factors: Sequence[Factor], wanted: Shape, *, one_row: bool) -> Shape | None:
    """Return sizes that are products of factors, one after another, as the recorded ones are; None if they are not.

    One row may have become any of several axes of size 1: that is not clear, either.
    """
    left, sizes = _merged(factors), []
    for place, wanted_size in enumerate(wanted):
        recorded, size = 1, 1
        if wanted_size == 1 and left and left[0].recorded == 1:
            ones = len([*takewhile(lambda one: one.recorded == 1, left)])
            if len([*takewhile(lambda one: one == 1, wanted[place:])]) > ones:
                return None
            size = left.pop(0).now
        elif wanted_size == 1 and one_row and left and left[0].recorded != left[0].now:
            return None
        while left and recorded < wanted_size:
            factor = left.pop(0)
            if factor.recorded == factor.now and factor.recorded * recorded > wanted_size:  # any part of it
                inner = recorded * factor.recorded // wanted_size
                left.insert(0, Factor(inner, inner))
                factor = Factor(*[factor.recorded // inner] * 2)
            elif factor.recorded == 1 != factor.now:
                return None
            recorded, size = recorded * factor.recorded, size * factor.now
        if recorded != wanted_size:
            return None
        sizes.append(size)
    return tuple(sizes) if all(factor == (1, 1) for factor in left) else None


def _follows(factors: Sequence[Factor], wanted: operations.OpenLater, parted: Shape, after: Shape) -> bool:
    """Return whether each size beside a -1 that follows the rows is as many as were recorded.

    A single row is as many as any 1: then -1 has to be of the axes after that of the rows.
    """
    rows = {factor.recorded for factor in factors if factor.recorded != factor.now}
    sizes = enumerate(zip(wanted, parted, strict=True))
    following = {size for axis, (size, now) in sizes if size != now and axis != wanted.place}
    open_part = math.prod(wanted[wanted.place :]) or 1
    return following <= rows and (1 not in following or math.prod(after) % open_part == 0)


def _merged(factors: Sequence[Factor]) -> list[Factor]:
    """Return factors with those one after another that no number of rows changes as one, of which any part may be."""
    merged: list[Factor] = []
    for factor in factors:
        if merged and factor.recorded == factor.now > 1 and merged[-1].recorded == merged[-1].now > 1:
            size = merged.pop().now * factor.now
            factor = Factor(size, size)
        merged.append(factor)
    return merged


def _origins(node: Node, axis: int) -> Iterator[tuple[int, int]]:
    """Yield the inputs, by index, and axes along which a result may have the same rows as along an axis of its own."""
    ndim, operation = len(node.output.shape), node.operation
    moved = _moved(node)
    if moved is not None:
        if (from_axis := moved[axis]) is not None:
            yield 0, from_axis
    elif operation in (operations.MATMUL, operations.BATCH_MATMUL) and axis >= ndim - 2:
        side = axis - (ndim - 2)
        yield side, len(node.inputs[side].shape) - 2 + side
    elif operation is operations.LINEAR:
        yield axis, 0  # rows of x, and rows of the weights
    elif operation.name == "concatenate":
        if axis != node.attributes["axis"]:
            yield from ((index, axis) for index in range(len(node.inputs)))
    elif operation.broadcasts or operation.keeps_axes or operation is operations.BATCH_MATMUL:
        for index, variable in enumerate(node.inputs):
            if len(variable.shape) > (from_axis := axis - ndim + len(variable.shape)) >= 0:
                yield index, from_axis


def _moved(node: Node) -> list[int | None] | None:
    """Return for each axis of a result the axis of the only input that it was, if the operation moves or drops axes."""
    axes: list[int | None] = [*range(len(node.inputs[0].shape))]
    if node.operation is operations.TRANSPOSE:
        return [axes[axis] for axis in node.attributes["axes"] or range(len(axes))[::-1]]
    if node.operation is operations.EXPAND_DIMS:
        axes.insert(node.attributes["axis"], None)
    elif node.operation is operations.SQUEEZE:
        axes = [axis for axis in axes if axis not in node.attributes["axes"]]
    elif "keepdims" in node.attributes and len(node.inputs) == 1:  # a reduction
        reduced = axes_of(node.operation.name, node.attributes["axis"], node.inputs[0].shape)
        if node.attributes["keepdims"]:
            axes = [None if axis in reduced else axis for axis in axes]
        else:
            axes = [axis for axis in axes if axis not in reduced]
    elif node.operation is not operations.SLICE:
        return None
    return axes
