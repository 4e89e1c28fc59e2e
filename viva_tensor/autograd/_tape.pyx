"""What runs at each recorded operation and at each gradient rule: the fields of tapes and variables, and both loops.

The classes that users see derive from these in tape.py, where the errors are explained, too.
"""

cimport cython

from types import MappingProxyType

from viva_tensor.autograd.custom import check_gradient, check_operation, check_result, check_rules
from viva_tensor.kernels import add
from viva_tensor.kernels.arrays import freeze

cdef enum Field:  # of a Node
    OPERATION, INPUTS, ATTRIBUTES, OUTPUT, WANTED, TRACKED

cdef enum:
    NODES_OF_BLOCK = 32

BLOCK = NODES_OF_BLOCK

cdef object Variable, Node, Traced, VARIABLE  # those of tape.py, and the operation of a leaf with gradient
cdef object Operation
cdef object NOTHING = MappingProxyType({})
cdef object new_tuple = tuple.__new__  # new_tuple(Node, fields) is Node(*fields) at half the cost


def derived(variable, node, traced, leaf):
    """Set the classes of what is recorded, and the operation of leaves to which gradients flow."""
    global Variable, Node, Traced, VARIABLE, Operation
    Variable, Node, Traced, VARIABLE, Operation = variable, node, traced, leaf, type(leaf)


def compute(operation, *arrays, **attributes):
    """Compute the result of an operation: the ``do`` of eager execution."""
    return operation.forward(*arrays, **attributes) if attributes else operation.forward(*arrays)


@cython.auto_pickle(False)
@cython.no_gc  # a number and an array of numbers: no cycle passes through them
cdef class Record:
    """The fields of a variable."""

    cdef readonly object id
    cdef readonly object data

    def __cinit__(self, object id, object data):
        self.id = id
        self.data = data


@cython.auto_pickle(False)
cdef class Nodes:
    """The fields of a tape: full blocks of nodes, the number of nodes in them, and the nodes after them."""

    cdef readonly object _blocks
    cdef readonly Py_ssize_t _full
    cdef readonly tuple _last

    cdef object find(self, variable):
        """Return the node of a variable; None for anything else."""
        if not isinstance(variable, Record):
            return None
        cdef Py_ssize_t number = (<Record> variable).id, offset = number - self._full
        cdef tuple block = self._last
        if -self._full <= offset < 0:
            block, offset = self._blocks.block(number // NODES_OF_BLOCK), number % NODES_OF_BLOCK
        if 0 <= offset < len(block):
            node = block[offset]
            if (<tuple> node)[OUTPUT] is variable:
                return node
        return None

    cdef object grown(self, operation, data, bint tracked, tuple inputs, attributes, tuple wanted):
        """Return a new variable with a read-only array, and the tape that ends with its node."""
        cdef Nodes tape = self.same()
        return new_tuple(Traced, (tape.append(operation, data, tracked, inputs, attributes, wanted), tape))

    cdef Nodes same(self):
        """Return a tape of its own with the same nodes, which may still grow."""
        cdef Nodes tape = Nodes.__new__(type(self))
        tape._blocks, tape._full, tape._last = self._blocks, self._full, self._last
        return tape

    cdef object append(self, operation, data, bint tracked, tuple inputs, attributes, tuple wanted):
        """Add a node to a tape that nobody else has seen; return its output."""
        output = Record.__new__(Variable, self._full + len(self._last), data)
        self._last += (new_tuple(Node, (operation, inputs, attributes, output, wanted, tracked)),)
        if len(self._last) == NODES_OF_BLOCK:
            self._blocks, self._full, self._last = self._blocks.followed(self._last), self._full + NODES_OF_BLOCK, ()
        return output


def made(kind, blocks, Py_ssize_t full, tuple last):
    """Return a tape of this class with nodes in full blocks, and the last ones."""
    cdef Nodes tape = Nodes.__new__(kind)
    tape._blocks, tape._full, tape._last = blocks, full, last
    return tape


def found(Nodes tape, variable):
    """Return the node of a variable on a tape; None if it has none."""
    return tape.find(variable)


def leaf(Nodes tape, operation, data):
    """Return a variable or constant with a read-only array, and the tape that ends with it."""
    return tape.grown(operation, data, operation is VARIABLE, (), NOTHING, ())


def new_variables(Nodes tape, arrays):
    """Return variables that hold new arrays, from now on read-only, and the tape that ends with them."""
    cdef Nodes longer = tape.same()
    cdef list made = []
    for data in arrays:
        freeze(data)
        made.append(longer.append(VARIABLE, data, True, (), NOTHING, ()))
    return new_tuple(Traced, (made, longer))


def recorded(Nodes tape, operation, tuple inputs, dict attributes):
    """Apply an operation to variables of a tape and record it; the tape explains what is not on it."""
    cdef list wanted = [], arrays = []
    cdef bint tracked = False
    if type(operation) is not Operation:
        check_operation(operation)
    for variable in inputs:
        node = tape.find(variable) or tape.node(variable, operation.name)
        flows = (<tuple> node)[TRACKED]
        tracked = tracked or flows
        wanted.append(flows)
        arrays.append((<Record> variable).data)
    data = operation.forward(*arrays, **attributes)
    if not operation.ours:
        data = check_result(operation, data, arrays, attributes, tracked)
    freeze(data)
    fixed = MappingProxyType(attributes) if attributes else NOTHING
    return tape.grown(operation, data, tracked, inputs, fixed, tuple(wanted))


def leaves(tuple nodes):
    """Return the variables among the outputs of nodes that `new_variable` made, by their index."""
    cdef dict found = {}
    for node in nodes:
        if (<tuple> node)[OPERATION] is VARIABLE:
            output = (<tuple> node)[OUTPUT]
            found[(<Record> output).id] = output
    return found


def pulled(tuple nodes, Py_ssize_t last, dict grads, kept, reached):
    """Walk back from the node at `last`: give gradients to the inputs of each node whose output has one.

    Gradients that are not `kept` are freed on the way. Returns the number of nodes on the way that are no leaves.
    """
    cdef tuple node
    cdef Py_ssize_t visited = 0, i
    for i in range(last, -1, -1):
        node = <tuple> nodes[i]
        if node[OPERATION] is VARIABLE:
            continue
        visited += 1
        index = (<Record> node[OUTPUT]).id
        if (node[TRACKED] or index in reached) and index in grads:
            pull(node, grads[index] if index in kept else grads.pop(index), grads, reached)
    return visited


cdef int pull(tuple node, grad, dict grads, reached) except -1:
    """Add the contributions of an output's gradient to the gradients of the node's inputs."""
    operation = node[OPERATION]
    cdef tuple inputs = node[INPUTS], wanted = node[WANTED], rules = operation.gradients
    cdef list values = [compute, grad, (<Record> node[OUTPUT]).data]
    cdef dict attributes = dict(node[ATTRIBUTES]) if node[ATTRIBUTES] else None
    cdef bint ours = operation.ours
    cdef Py_ssize_t i
    if len(rules) != len(inputs):
        check_rules(operation, len(inputs))
    for variable in inputs:
        values.append((<Record> variable).data)
    arguments = tuple(values)
    for i in range(len(inputs)):
        index = (<Record> inputs[i]).id
        if (wanted[i] or index in reached) and rules[i] is not None:
            more = rules[i](*arguments) if attributes is None else rules[i](*arguments, **attributes)
            if more is None:  # no slope for an input of this shape
                continue
            if not ours:
                more = check_gradient(operation, i, more, (<Record> inputs[i]).data)
            grads[index] = add(grads[index], more) if index in grads else more
    return 0
