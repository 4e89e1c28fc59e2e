"""The tape: variables and nodes in the order of recording, as a value that grows into new values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from types import MappingProxyType
from typing import Any, Generic, NamedTuple, NoReturn, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from viva_tensor.autograd import _tape, operations
from viva_tensor.autograd._tape import Nodes, Record, leaf
from viva_tensor.autograd._tape import new_variables as new_variables  # of which optimisers make many at once
from viva_tensor.autograd.operations import Operation
from viva_tensor.autograd.operators import ARITHMETIC, INDEXING, ORDER, VALUES, missing, refuses
from viva_tensor.error import ForeignVariable, InvalidValue, NoOperator
from viva_tensor.kernels.arrays import Array, as_array, freeze, may_change
from viva_tensor.kernels.checks import is_iterable

T = TypeVar("T")


class Unchanging:
    """A value that can be its own copy."""

    __slots__ = ()

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, known: object) -> Self:
        return self


@refuses(ARITHMETIC, ORDER, INDEXING, VALUES)
class Variable(Unchanging, Record):
    """A value on a tape: its index there, and its read-only array. Variables are compared by identity.

    A record, not a number: operators raise :class:`viva_tensor.error.NoOperator` with the function to call.

    Attributes
    ----------
    id : int
        The index of its node on the tape.
    data : ndarray, float32 or float64
    shape : tuple of int
    dtype : numpy.dtype
    ndim : int

    Examples
    --------
    >>> w, tape = new_variable(new_tape(), [1.0, 2.0])
    >>> w
    Variable(id=0, data=array([1., 2.], dtype=float32))
    >>> w.shape, w.ndim
    ((2,), 1)
    >>> 2 * w
    Traceback (most recent call last):
    viva_tensor.error.NoOperator: *: a Variable does not take this; call autograd.mul(tape, a, b); one of them may ...
    """

    __slots__ = ()

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.data.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.data.dtype

    @property
    def ndim(self) -> int:
        return self.data.ndim

    def __getattr__(self, name: str) -> NoReturn:
        missing(self, name)

    def __format__(self, spec: str) -> str:
        if spec:
            hint = 'take the value: f"{float(a.data):.2f}"'
            raise NoOperator(f"a Variable does not take {spec!r}", operation="format()", hint=hint)
        return repr(self)

    def __repr__(self) -> str:
        return f"Variable(id={self.id}, data={self.data!r})"

    def __reduce__(self) -> tuple[Callable[[int, Array], Variable], tuple[int, Array]]:
        return _unpickled, (self.id, self.data)


def _unpickled(number: int, data: Array) -> Variable:
    freeze(data)  # arrays come out of a pickle writeable
    return Variable(number, data)


def _unpickled_tape(nodes: tuple[Node, ...]) -> Tape:
    blocks, full = _Blocks(), len(nodes) // _tape.BLOCK * _tape.BLOCK
    for start in range(0, full, _tape.BLOCK):
        blocks = blocks.followed(nodes[start : start + _tape.BLOCK])
    return _tape.made(Tape, blocks, full, nodes[full:])


@refuses(ARITHMETIC)
class Traced(NamedTuple, Generic[T]):
    """A result and the tape that ends with it; unpacks as a pair."""

    value: T
    tape: Tape


class Node(NamedTuple):
    """One recorded operation."""

    operation: Operation
    inputs: tuple[Variable, ...]
    attributes: Mapping[str, Any]
    output: Variable
    wanted: tuple[bool, ...]  # for each input, whether a gradient must flow to it
    tracked: bool  # whether a gradient can flow to the output

    def __reduce__(self) -> tuple[Callable[..., Node], tuple[Any, ...]]:
        return _node, (self.operation, self.inputs, dict(self.attributes), *self[3:])


def _node(operation: Operation, inputs: tuple[Variable, ...], attributes: dict[str, Any], *rest: Any) -> Node:
    return Node(operation, inputs, MappingProxyType(attributes), *rest)


_tape.derived(Variable, Node, Traced, operations.VARIABLE)


class _Blocks:
    """Full blocks of nodes: an immutable list that shares all but its last block with the list from which it grew.

    Each list keeps the previous one and a jump further back, so that any block is found in logarithmic time (E. W.
    Myers, An applicative random-access stack, Information Processing Letters 17, 1983).
    """

    __slots__ = ("count", "jump", "nodes", "previous")

    count: int
    nodes: tuple[Node, ...]  # the last block; the empty list has none
    previous: _Blocks
    jump: _Blocks

    def __init__(self, previous: _Blocks | None = None, nodes: tuple[Node, ...] = ()) -> None:
        self.nodes = nodes
        if previous is None:
            self.count, self.previous, self.jump = 0, self, self
            return
        self.count, self.previous = previous.count + 1, previous
        jump = previous.jump
        even = previous.count - jump.count == jump.count - jump.jump.count
        self.jump = jump.jump if even else previous

    def followed(self, nodes: tuple[Node, ...]) -> _Blocks:
        """Return the list that goes on with a block."""
        return _Blocks(self, nodes)

    def block(self, number: int) -> tuple[Node, ...]:
        blocks = self
        while blocks.count > number + 1:
            blocks = blocks.jump if blocks.jump.count > number else blocks.previous
        return blocks.nodes


class Tape(Unchanging, Nodes):
    """An immutable list of nodes that shares all but its last few with the tape from which it was recorded.

    ``len(tape)`` counts the nodes, ``tape.nodes()`` lists them, ``print(tape)`` shows them. They are kept in blocks of
    32; recording copies only the last block.
    """

    __slots__ = ()

    def __new__(cls) -> Tape:
        return _EMPTY

    def __reduce__(self) -> str | tuple[Any, ...]:
        return _unpickled_tape, (self.nodes(),)

    def __len__(self) -> int:
        return self._full + len(self._last)

    def __bool__(self) -> bool:
        return True

    def nodes(self) -> tuple[Node, ...]:
        """Return all nodes in the order of recording; the node of a variable is at its ``id``."""
        found = [self._last]
        blocks = self._blocks
        while blocks.count:
            found.append(blocks.nodes)
            blocks = blocks.previous
        return tuple(chain.from_iterable(reversed(found)))

    def __repr__(self) -> str:
        return f"<Tape of {len(self)} nodes>"

    def __str__(self) -> str:
        return "\n".join(_line(node) for node in self.nodes()) or repr(self)

    def node(self, variable: Variable, operation: str = "node") -> Node:
        """Return the node whose output is a variable; errors name the ``operation`` that asks for it.

        Raises
        ------
        ForeignVariable
            If the variable is not on this tape.

        Examples
        --------
        >>> w, tape = new_variable(new_tape(), [1.0, 2.0])
        >>> tape.node(w).tracked
        True
        """
        node: Node | None = _tape.found(self, variable)
        if node is not None:
            return node
        if not isinstance(variable, Variable):
            raise ForeignVariable(
                f"got {type(variable).__name__}, wanted a variable of the tape",
                operation=operation,
                hint=_hint(variable),
            )
        raise ForeignVariable(
            f"variable {variable.id} of shape {variable.data.shape} is not on this tape of {len(self)} nodes",
            operation=operation,
            hint="use the tape that came back with the variable, or one recorded from it",
        )


def _hint(given: object) -> str:
    """Return how to make one variable of what was given for it."""
    if isinstance(given, Traced):
        return "unpack it: value, tape = ..."
    if not holds_variables(given):
        return "record it first with new_constant or new_variable"
    if hasattr(given, "_fields"):
        return "apply a layer with its function, such as linear_forward(tape, layer, x)"
    return "give one variable"


def holds_variables(given: object) -> bool:
    """Return whether something that is no variable is a sequence of them, such as a layer or a traced value.

    Examples
    --------
    >>> traced = new_variable(new_tape(), 1.0)
    >>> holds_variables(traced), holds_variables((1.0, 2.0))
    (True, False)
    """
    return isinstance(given, (tuple, list)) and any(isinstance(one, Variable | Tape) for one in given)


_EMPTY: Tape = _tape.made(Tape, _Blocks(), 0, ())


def node_of(tape: Tape, variable: Variable, operation: str) -> Node:
    """Return the node whose output is a variable, after checking that the tape is one.

    Examples
    --------
    >>> node_of(None, None, "relu")
    Traceback (most recent call last):
    viva_tensor.error.InvalidValue: relu: got NoneType where a tape belongs; the tape comes first, ...
    """
    if not isinstance(tape, Tape):
        raise no_tape(operation, tape)
    return tape.node(variable, operation)


def no_tape(operation: str, got: object) -> InvalidValue:
    """Return the error for an argument that is not a tape."""
    hint = "the tape comes first, then its variables; autograd.new_tape() gives an empty one"
    return InvalidValue(f"got {type(got).__name__} where a tape belongs", operation=operation, hint=hint)


def several(operation: str, name: str, variables: Any) -> tuple[Variable, ...]:
    """Return an argument for several variables as a tuple; raise if it is a single variable.

    Examples
    --------
    >>> x, tape = new_variable(new_tape(), [1.0])
    >>> several("backward", "wrt", x)
    Traceback (most recent call last):
    viva_tensor.error.InvalidValue: backward: wrt is a Variable; give a tuple of variables, such as wrt=(x,)
    """
    if isinstance(variables, Variable) or not is_iterable(variables):
        hint = f"give a tuple of variables, such as {name}=(x,)"
        raise InvalidValue(f"{name} is a {type(variables).__name__}", operation=operation, hint=hint)
    return tuple(variables)


def new_tape() -> Tape:
    """Return the empty tape.

    Examples
    --------
    >>> new_tape()
    <Tape of 0 nodes>
    """
    return _EMPTY


def new_variable(tape: Tape, data: ArrayLike) -> Traced[Variable]:
    """Record a leaf with gradient; its ``data`` is read-only.

    Parameters
    ----------
    tape : Tape
    data : array_like, float32 or float64
        Python numbers and lists become float32. Arrays that can be written, be it by what they are a view of, are
        copied; others are held as they are.

    Raises
    ------
    DtypeError
        If the dtype is neither float32 nor float64.

    Examples
    --------
    >>> w, tape = new_variable(new_tape(), [[1.0, 2.0]])
    >>> w.data.flags.writeable
    False
    """
    return _leaf("new_variable", tape, operations.VARIABLE, data)


def new_constant(tape: Tape, data: ArrayLike) -> Traced[Variable]:
    """Record a leaf without gradient, such as a batch of inputs or targets.

    Results that depend on constants alone cost nothing in :func:`backward`. Otherwise as :func:`new_variable`.

    Examples
    --------
    >>> from viva_tensor.autograd import backward, mul
    >>> x, tape = new_constant(new_tape(), 2.0)
    >>> w, tape = new_variable(tape, 3.0)
    >>> y, tape = mul(tape, x, w)
    >>> list(backward(tape, y)) == [w.id]
    True
    """
    return _leaf("new_constant", tape, operations.CONSTANT, data)


def new_leaves(
    tape: Tape, arrays: Iterable[ArrayLike], new: Callable[[Tape, Any], Traced[Variable]] = new_variable
) -> Traced[tuple[Variable, ...]]:
    """Record a leaf for each array, by :func:`new_variable` or :func:`new_constant`.

    Examples
    --------
    >>> (w, b), tape = new_leaves(new_tape(), ([1.0, 2.0], 0.0))
    >>> w.shape, len(tape)
    ((2,), 2)
    """
    made = []
    for array in arrays:
        variable, tape = new(tape, array)
        made.append(variable)
    return Traced(tuple(made), tape)


def _leaf(name: str, tape: Tape, operation: Operation, data: ArrayLike) -> Traced[Variable]:
    array = as_array(name, data)
    if array.flags.writeable:
        array = array.copy()
        freeze(array)
    elif array.base is not None and may_change(array):
        array = _copied(array)
    if not isinstance(tape, Tape):
        raise no_tape(name, tape)
    traced: Traced[Variable] = leaf(tape, operation, array)
    return traced


def _copied(array: Array) -> Array:
    """Return a read-only copy, in which elements that are repeated are so in no more memory."""
    once = array[tuple(slice(None, None if stride else 1) for stride in array.strides)].copy()
    freeze(once)
    return once if once.shape == array.shape else np.broadcast_to(once, array.shape)


def record(tape: Tape, operation: Operation, *inputs: Variable, **attributes: Any) -> Traced[Variable]:
    """Apply an operation to variables of a tape and record it; ``attributes`` are other arguments, such as an axis.

    Raises
    ------
    ForeignVariable
        If an input is not on this tape.
    TensorError
        If the operation's kernel raises it.

    Examples
    --------
    >>> x, tape = new_variable(new_tape(), [-1.0, 2.0])
    >>> record(tape, operations.RELU, x).value.data
    array([0., 2.], dtype=float32)
    """
    if not isinstance(tape, Tape):
        raise no_tape(operation.name, tape)
    traced: Traced[Variable] = _tape.recorded(tape, operation, inputs, attributes)
    return traced


def sequence(traced: Traced[T], *functions: Callable[[Tape, Any], Traced[Any]]) -> Traced[Any]:
    """Pass a traced value through functions (tape, value) -> Traced, one after another.

    Examples
    --------
    >>> from viva_tensor.autograd import relu, sum
    >>> value, tape = sequence(new_variable(new_tape(), [-1.0, 2.0]), relu, sum)
    >>> float(value.data), len(tape)
    (2.0, 3)
    """
    value: Any
    value, tape = traced
    for function in functions:
        value, tape = function(tape, value)
    return Traced(value, tape)


def _line(node: Node) -> str:
    inputs = ", ".join(f"%{variable.id}" for variable in node.inputs)
    attributes = "".join(f", {name}={value}" for name, value in node.attributes.items() if value is not None)
    data = node.output.data
    return f"%{node.output.id} = {node.operation.name}({inputs}{attributes})  {data.dtype} {data.shape}"
