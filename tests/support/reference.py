"""What each operation of the tape gives, value and gradients, in float64 by NumPy, with a bound on a kernel's error.

Each node of a tape is held against its formula on the very arrays that the library had, so errors do not pile up from
node to node. A formula gives its result, the sum of the magnitudes that are added up to make it, and how many there
are; a kernel's error then is at most (16 + terms)·u·magnitude, with u the unit of rounding (N. J. Higham, Accuracy and
Stability of Numerical Algorithms, 2nd ed., 2002, ch. 3): 16 covers exponentials and their kin, which are within four
units in the last place, and some operations after them.
"""

import numpy as np

from support.reference_gradients import BACKWARD
from support.reference_values import FORWARD, Found, exact
from viva_tensor import autograd
from viva_tensor.autograd import operations

UNIT = {"f": 2.0**-24, "d": 2.0**-53}
FLOOR = {"f": 1e-30, "d": 1e-290}  # below it, numbers may be subnormal on the way
CEILING = {"f": 1e12, "d": 1e90}  # beyond it, products may overflow on the way


def tame(array):
    """Whether nothing in an array can overflow on the way."""
    return bool((np.abs(array) < CEILING[array.dtype.char]).all())


def compare(what, array, found):
    unit, floor = UNIT[array.dtype.char], FLOOR[array.dtype.char]
    assert array.shape == found.value.shape, f"{what}: shape {array.shape}, wanted {found.value.shape}"
    bound = (16 + found.terms) * unit * found.size + floor * (1 + found.terms)
    wrong = np.argwhere(~(np.abs(array - found.value) <= bound))
    if len(wrong):
        place = tuple(wrong[0])
        raise AssertionError(f"{what} at {place}: {array[place]!r}, wanted {found.value[place]!r} ± {bound[place]:.3g}")


def check(tape, loss):
    """Hold each node of a tape, and the gradients of all that the loss depends on, against NumPy; how many were.

    Nodes whose numbers are so large that they may overflow, or NaN, are left out.
    """
    nodes = tape.nodes()[: loss.id + 1]
    grads = autograd.backward(tape, loss, wrt=[node.output for node in nodes])
    flows = {loss.id: [exact(np.ones(loss.data.shape))]}
    known = {loss.id: True}
    checked = 0
    for node in reversed(nodes):
        place, name = node.output.id, node.operation.name
        arrays = [variable.data.astype("f8") for variable in node.inputs]
        grad = grads[place]
        if place in flows and known[place]:
            parts = flows[place]
            total = Found(sum(p.value for p in parts), sum(p.size for p in parts), sum(p.terms for p in parts))
            if tame(grad) and (np.abs(total.size) < CEILING[grad.dtype.char]).all():
                compare(f"gradient of %{place} = {name}", grad, total)
                checked += 1
        if not node.inputs:
            continue
        arrays_are_tame = all(map(tame, (*(variable.data for variable in node.inputs), node.output.data)))
        fine = arrays_are_tame and name in FORWARD  # not what gradients alone are made of
        if fine:
            found = FORWARD[name](*arrays, **node.attributes)
            compare(f"%{place} = {name}", node.output.data, found)
            checked += 1
        if place not in flows:
            continue
        fine = fine and tame(grad)
        with np.errstate(all="ignore"):
            more = BACKWARD[name](grad.astype("f8"), *arrays, **node.attributes) if fine else [None] * len(arrays)
        for variable, own in zip(node.inputs, more, strict=True):
            known[variable.id] = known.get(variable.id, True) and own is not None
            flows.setdefault(variable.id, []).append(own)
    return checked


OF_RULES = {
    "broadcast",
    "chain_div",
    "chain_mul",
    "greater",
    "place",
    "unbroadcast",
}  # recorded by others alone
NAMES = {
    value.name
    for value in vars(operations).values()
    if isinstance(value, operations.Operation)
    and value.gradients
    and not value.name.endswith("_backward")
    and value.name not in OF_RULES
} | {"concatenate"}
for formulas, place in ((FORWARD, "reference_values.FORWARD"), (BACKWARD, "reference_gradients.BACKWARD")):
    assert set(formulas) == NAMES, (
        f"support.{place} and the operations of the tape differ in {sorted(set(formulas) ^ NAMES)}: add a formula of "
        "NumPy for each operation with gradients, or its name to OF_RULES if only other operations record it"
    )
