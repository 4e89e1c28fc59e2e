"""Programs that are played again and again with other arrays: on the tape and compiled, and held against each other.

``TRIED`` counts what was done.
"""

import itertools
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from support import reference
from viva_tensor import autograd, error, kernels, optim, program
from viva_tensor.program import thresholds

TRIED = Counter()
LOW = {  # thresholds at which small programs have several threads, share memory, and copy into panels
    **thresholds.EVERYWHERE,
    "unshared": 0,
    "own_rows": 0,
    "packed_twice": 0,
    "copied": 0,
}
# what programs may refuse and eager code does not
ONLY_FOR_THE_RECORDED_ROWS = ("reshape", "slice", "take", "embedding_bag")
CHECKED_AS_RECORDED = ("mse_loss", "mae_loss", "huber_loss", "layer_norm_forward")
REPEATED = "would be repeated"  # the same, of a single row beside a constant of many


class Leaf(NamedTuple):
    """A leaf. Classes are of so many; 0: numbers.

    Of a "batch" the first axis are rows, which may be more or fewer; "given" is as an input of always the same shape;
    a "parameter" may be trained, and a "constant" stays.
    """

    kind: str
    array: np.ndarray
    classes: int = 0


class Call(NamedTuple):
    """An operation on earlier steps, by number."""

    name: str
    inputs: tuple[int, ...]
    function: Callable[..., Any]  # (tape, rng, *variables) -> Traced


class Played(NamedTuple):
    """Steps, and the number of the one whose value counts."""

    steps: list[Leaf | Call]
    end: int

    def leaves(self, *kinds):
        """The leaves of some kinds, each with its number among all leaves."""
        found = enumerate(step for step in self.steps if isinstance(step, Leaf))
        return [(number, step) for number, step in found if not kinds or step.kind in kinds]

    def arrays(self):
        return [step.array for _, step in self.leaves()]

    def needed(self):
        """The numbers of the steps that the end depends on, itself included."""
        found = {self.end}
        for place in range(self.end, -1, -1):
            if place in found and isinstance(self.steps[place], Call):
                found.update(self.steps[place].inputs)
        return found

    def play(self, arrays, rng):
        """Record the steps on a new tape, with these arrays for the leaves: tape, the end, the variables of leaves."""
        tape, made, given = autograd.new_tape(), [], iter(arrays)
        for place, step in enumerate(self.steps):
            if isinstance(step, Leaf):
                new = autograd.new_variable if step.kind == "parameter" else autograd.new_constant
                variable, tape = new(tape, next(given))
            else:
                try:
                    variable, tape = step.function(tape, rng, *(made[i] for i in step.inputs))
                except error.TensorError:
                    if place in self.needed():
                        raise
                    raise DeadCallRefusedError from None
            made.append(variable)
        own = [variable for variable, step in zip(made, self.steps, strict=True) if isinstance(step, Leaf)]
        return tape, made[self.end], own

    def batch(self, rng, rows, arrays):
        """Other arrays for the inputs, batches of so many rows; of the other leaves, those given."""
        arrays = list(arrays)
        for number, step in self.leaves("batch", "given"):
            shape = (rows, *step.array.shape[1:]) if step.kind == "batch" else step.array.shape
            arrays[number] = numbers(rng, shape, step.array.dtype, step.classes)
        return arrays


class Run(NamedTuple):
    """How a program is compiled and called: the leaves that are inputs, and what else there is to choose."""

    inputs: list[int]
    rows: list[int]  # of each batch, the recorded ones first
    threads: list[int]
    lowered: set[str]  # the thresholds at which small programs are planned like large ones


class DeadCallRefusedError(Exception):
    """A call that the end does not depend on is refused: programs leave it out, eager code cannot."""


def lowered(names):
    """A context in which small programs are planned like large ones."""
    return thresholds.changed(**{name: LOW[name] for name in names})


def numbers(rng, shape, dtype, classes=0):
    if classes:
        return rng.integers(0, classes, shape).astype(dtype)
    return rng.standard_normal(shape).astype(dtype)


def same_bits(found, wanted):
    """Whether two arrays or numbers are the same, zeros with their sign; NaN is NaN."""
    found, wanted = np.asarray(found), np.asarray(wanted)
    return (
        found.dtype == wanted.dtype
        and np.array_equal(found, wanted, equal_nan=True)
        and np.array_equal(np.signbit(found)[found == 0], np.signbit(wanted)[wanted == 0])
    )


def tried(eager, compiled):
    """What both give; a refusal by eager code must be one by the program too, which may refuse more."""
    wanted = refusal = None
    try:
        wanted = eager()
    except DeadCallRefusedError:
        return None
    except error.TensorError as reason:
        of_values = isinstance(reason, error.InvalidValue) or reason.operation == "cross_entropy"  # classes too
        if of_values or "weight" in str(reason) or reason.operation in CHECKED_AS_RECORDED:
            return None  # checks of shapes by nn and of values by kernels, of which programs know nothing
        refusal = reason
    try:
        found = compiled()
    except error.TensorError as reason:
        own = reason.operation in ONLY_FOR_THE_RECORDED_ROWS or REPEATED in str(reason)
        if refusal is None and not own:
            raise
        TRIED["refused by programs"] += 1
        return None
    assert refusal is None, f"the program does what eager code refuses: {refusal}"
    if isinstance(found, np.ndarray):
        assert same_bits(found, wanted)
    TRIED["compared"] += 1
    return wanted, found


def compare_values(played, rng, run):
    """Predict eagerly and compiled, on batches of several sizes."""
    arrays = played.arrays()
    tape, output, leaves = played.play(arrays, None)
    with lowered(run.lowered), kernels.num_threads(run.threads[0]):
        forward = program.compile_forward(tape, output=output, inputs=[leaves[i] for i in run.inputs])
    for threads, rows in zip(itertools.cycle(run.threads), run.rows):
        arrays = played.batch(rng, rows, arrays)
        TRIED["predictions"] += 1
        with lowered(run.lowered), kernels.num_threads(threads):
            tried(
                lambda arrays=arrays: played.play(arrays, None)[1].data,
                lambda arrays=arrays: forward(*(arrays[i] for i in run.inputs)),
            )


def compare_gradients(played, rng, wild):
    """Hold values and gradients against NumPy, and those that ``wrt`` names against those of all."""
    tape, loss, leaves = played.play(played.arrays(), np.random.default_rng(1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of NumPy's, in the reference
        TRIED["values and gradients held against NumPy"] += 0 if wild else reference.check(tape, loss)
    nodes = tape.nodes()
    whole = autograd.backward(tape, loss, wrt=[node.output for node in nodes])
    named = [node.output for node in nodes if rng.random() < 0.2]
    found = autograd.backward(tape, loss, wrt=named)
    trained = [variable for variable in leaves if nodes[variable.id].operation.name == "variable"]
    assert set(found) == {variable.id for variable in (*named, *trained)}
    for place in found:
        assert same_bits(found[place], whole[place]), f"the gradient of %{place} depends on what else wrt names"
        TRIED["gradients that wrt names"] += 1


def compare_training(played, rng, run, optimizer, trained):
    """Train some leaves eagerly and compiled, on batches of several sizes."""
    arrays = played.arrays()
    tape, loss, leaves = played.play(arrays, np.random.default_rng(1))
    seed = int(rng.integers(1 << 32))
    draw_eager, draw_compiled = (np.random.default_rng(seed) for _ in range(2))
    with lowered(run.lowered), kernels.num_threads(run.threads[0]):
        step = program.compile_step(
            tape,
            loss=loss,
            params=[leaves[i] for i in trained],
            inputs=[leaves[i] for i in run.inputs],
            optimizer=optimizer,
            rng=draw_compiled,
        )
    TRIED["programs compiled"] += 1
    params = [autograd.new_variable(autograd.new_tape(), arrays[i]).value for i in trained]
    state = optim.init(optimizer, params)
    for threads, rows in zip(itertools.cycle(run.threads), run.rows):
        arrays = played.batch(rng, rows, arrays)
        for place, parameter in zip(trained, params, strict=True):
            arrays[place] = parameter.data

        def eagerly(arrays=arrays, state=state):
            before = draw_eager.bit_generator.state
            try:
                tape, loss, leaves = played.play(arrays, draw_eager)
            except (error.TensorError, DeadCallRefusedError):
                draw_eager.bit_generator.state = before
                raise
            own = [leaves[i] for i in trained]
            grads = autograd.backward(tape, loss)
            (new, kept), _ = optim.update(autograd.new_tape(), optimizer, state, own, grads)
            return float(loss.data), new, kept

        with lowered(run.lowered), kernels.num_threads(threads):
            both = tried(eagerly, lambda arrays=arrays: step(*(arrays[i] for i in run.inputs)))
        if both is None:
            draw_eager.bit_generator.state = draw_compiled.bit_generator.state
            continue
        TRIED["steps"] += 1
        TRIED[f"steps of {step._plans.current.threads} threads"] += 1
        (wanted, params, state), found = both
        assert same_bits(found, wanted), f"loss {found!r}, wanted {wanted!r}\n{step}"
        for place, (variable, wanted) in enumerate(zip(step.params(autograd.new_tape()).value, params, strict=True)):
            if not same_bits(variable.data, wanted.data):
                with np.errstate(all="ignore"):
                    difference = np.abs(variable.data - wanted.data).max()
                raise AssertionError(f"p{place} is off by {difference:.3g}\n{step}")
