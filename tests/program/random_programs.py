"""Random programs of every operation of the tape, as a state machine of hypothesis.

Rules add leaves and operations to a program, fork it, or train it. A program is a list of steps that can be played
again with other arrays, so that eager training and a compiled step can be compared batch by batch. ``TRIED`` counts
what was done.
"""

import itertools
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import reference
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from viva_tensor import autograd, error, kernels, nn, operations, optim, program
from viva_tensor.program import layouts, planning

TRIED = Counter()
THRESHOLDS = {  # from which small programs have several members, share memory, and copy into panels
    planning: {"PROGRAM": 1, "MULTIPLY_ADDS": 1, "ELEMENTS": 1, "SMALL": 0, "OWN_ROWS": 0, "PACKED_TWICE": 0},
    layouts: {"COPIED": 0},
}
ROWS = (1, 2, 3, 5, 16, 24, 33, 50, 0)
FEATURES = (1, 2, 3, 8, 10, 17, 33, 40, 0)
EVERY_SO_OFTEN = st.sampled_from([False] * 7 + [True])

optimizers = st.one_of(
    st.builds(
        optim.SGD,
        lr=st.sampled_from([0.5, 0.01]),
        momentum=st.just(0.5),
        nesterov=st.booleans(),
        weight_decay=st.sampled_from([0.0, 0.1]),
        clip_norm=st.sampled_from([None, 0.1, 100.0]),
    ),
    st.builds(optim.SGD, lr=st.just(0.1), clip_norm=st.sampled_from([None, 1.0])),
    st.builds(
        optim.Adam,
        lr=st.just(0.1),
        weight_decay=st.sampled_from([0.0, 0.1]),
        clip_norm=st.sampled_from([None, 0.1]),
    ),
    st.builds(optim.AdamW, lr=st.just(0.1), clip_norm=st.sampled_from([None, 0.1])),
    st.builds(
        optim.RMSprop,
        lr=st.just(0.1),
        momentum=st.sampled_from([0.0, 0.5]),
        weight_decay=st.sampled_from([0.0, 0.1]),
        clip_norm=st.sampled_from([None, 0.1]),
    ),
)


class Leaf(NamedTuple):
    """A leaf: of "batch" the first axis are rows, which may be more or fewer; classes are of so many, or numbers."""

    kind: str  # "batch", "parameter" or "constant"
    array: np.ndarray
    classes: int = 0


class Call(NamedTuple):
    """An operation on earlier steps, by number."""

    name: str
    inputs: tuple[int, ...]
    function: Callable[..., Any]  # (tape, rng, *variables) -> Traced


def numbers(rng, shape, dtype, classes=0):
    if classes:
        return rng.integers(0, classes, shape).astype(dtype)
    return rng.standard_normal(shape).astype(dtype)


class DeadCallRefusedError(Exception):
    """A call that the last step does not depend on is refused: programs leave it out, eager code cannot."""


def play(steps, arrays, rng):
    """Record steps on a new tape, with these arrays for the leaves; the tape and the variable of each step."""
    tape, made, given = autograd.new_tape(), [], iter(arrays)
    for place, step in enumerate(steps):
        if isinstance(step, Leaf):
            new = autograd.new_variable if step.kind == "parameter" else autograd.new_constant
            variable, tape = new(tape, next(given))
        else:
            try:
                variable, tape = step.function(tape, rng, *(made[i] for i in step.inputs))
            except error.TensorError:
                if place in needed(steps):
                    raise
                raise DeadCallRefusedError from None
        made.append(variable)
    return tape, made


def needed(steps):
    """The numbers of the steps that the last one depends on, itself included."""
    found = {len(steps) - 1}
    for place in range(len(steps) - 1, -1, -1):
        if place in found and isinstance(steps[place], Call):
            found.update(steps[place].inputs)
    return found


def same_bits(found, wanted):
    """Whether two arrays or numbers are the same, zeros with their sign; NaN is NaN."""
    found, wanted = np.asarray(found), np.asarray(wanted)
    return (
        found.dtype == wanted.dtype
        and np.array_equal(found, wanted, equal_nan=True)
        and np.array_equal(np.signbit(found)[found == 0], np.signbit(wanted)[wanted == 0])
    )


class Lowered:
    """A context in which small programs are planned like large ones."""

    def __init__(self, names):
        self.names = names

    def __enter__(self):
        self.before = [
            (module, name, getattr(module, name))
            for module, values in THRESHOLDS.items()
            for name in values
            if name in self.names
        ]
        for module, name, _ in self.before:
            setattr(module, name, THRESHOLDS[module][name])

    def __exit__(self, *reason):
        for module, name, value in self.before:
            setattr(module, name, value)


class Programs(RuleBasedStateMachine):
    """One program for each run."""

    def __init__(self):
        super().__init__()
        self.steps = []
        self.made = []
        self.tape = autograd.new_tape()
        self.forks = []

    @initialize(
        seed=st.integers(0, 2**32 - 1),
        dtype=st.sampled_from(["f4", "f8"]),
        rows=st.sampled_from(ROWS),
        features=st.lists(st.sampled_from(FEATURES), min_size=2, max_size=3),
        wild=EVERY_SO_OFTEN,
        network=st.booleans(),
        scale=st.sampled_from([1.0, 1.0, 1e-3, 30.0]),
    )
    def begin(self, seed, dtype, rows, features, wild, network, scale):
        TRIED["programs"] += 1
        self.rng, self.dtype, self.rows, self.wild = np.random.default_rng(seed), np.dtype(dtype), rows, wild
        self.features, self.scale = features, scale
        one, two = features[:2]
        for kind, shape in (
            ("batch", (rows, one)),
            ("batch", (rows, two)),
            ("parameter", (two, one)),
            ("parameter", (two,)),
            ("parameter", (features[-1], two)),
        ):
            self.leaf(kind, shape)
        if network:  # without a product there is but one member
            h = self.call("linear", lambda tape, rng, *own: autograd.record(tape, operations.LINEAR, *own), 0, 2, 3)
            h = h and self.call("relu", lambda tape, rng, x: nn.relu(tape, x), h)
            w = self.leaf("parameter", (features[-1],))
            h and self.call("linear", lambda tape, rng, *own: autograd.record(tape, operations.LINEAR, *own), h, 4, w)

    # leaves and calls

    def leaf(self, kind, shape, classes=0):
        array = numbers(self.rng, shape, self.dtype, classes)
        if not classes:
            array *= self.dtype.type(self.scale)
        new = autograd.new_variable if kind == "parameter" else autograd.new_constant
        variable, self.tape = new(self.tape, array)
        self.steps.append(Leaf(kind, array, classes))
        self.made.append(variable)
        return len(self.made) - 1

    def call(self, name, function, *inputs):
        """Record an operation; None, and nothing is changed, if it is refused or, mostly, if it is no number."""
        state = self.rng.bit_generator.state
        try:
            traced = function(self.tape, np.random.default_rng(0), *(self.made[i] for i in inputs))
        except error.TensorError:
            TRIED["refused"] += 1
            return None
        finally:
            self.rng.bit_generator.state = state
        big = not (np.abs(traced.value.data) < 1e6).all()
        if (big and not self.wild) or traced.value.data.size > 50_000:
            return None
        self.tape = traced.tape
        self.steps.append(Call(name, inputs, function))
        self.made.append(traced.value)
        TRIED["operations"] += 1
        TRIED[f"operation {name}"] += 1
        return len(self.made) - 1

    def shape(self, place):
        return self.made[place].data.shape

    def any(self, data, wanted=lambda shape: True):
        """The number of some variable of a wanted shape, those of calls and late ones rather; None if there is none."""
        fitting = [
            i for i in range(len(self.made)) if wanted(self.shape(i)) and not getattr(self.steps[i], "classes", 0)
        ]
        return data.draw(st.sampled_from(fitting[::-1])) if fitting else None

    @rule(kind=st.sampled_from(["batch", "parameter", "constant"]), data=st.data())
    def new_leaf(self, kind, data):
        size = st.sampled_from([*self.features, 1])
        if kind == "batch":
            shape = (self.rows, *data.draw(st.lists(size, max_size=2)))
        else:
            shape = tuple(data.draw(st.lists(st.one_of(size, st.just(self.rows)), max_size=3)))
        self.leaf(kind, shape)

    @rule(name=st.sampled_from(["add", "sub", "mul", "div", "maximum"]), data=st.data())
    def of_two(self, name, data):
        a = self.any(data)
        b = self.any(data, lambda shape: fits(shape, self.shape(a)))
        a, b = (a, b) if data.draw(st.booleans()) else (b, a)
        self.call(name, lambda tape, rng, p, q: getattr(autograd, name)(tape, p, q), a, b)

    @rule(
        name=st.sampled_from(
            ["abs", "exp", "sigmoid", "tanh", "softplus", "silu", "gelu", "relu", "relu", "softmax", "log_softmax"]
        ),
        data=st.data(),
    )
    def of_one(self, name, data):
        function = getattr(nn, name, None) or getattr(autograd, name)
        self.call(name, lambda tape, rng, x: function(tape, x), self.any(data))

    @rule(
        operation=st.sampled_from(
            [
                ("ERF", {}),
                ("GELU_TANH", {}),
                ("LEAKY_RELU", {"slope": 0.1}),
                ("HUBER", {"delta": 0.5}),
                ("NORMALIZE", {"epsilon": 1e-5}),
                ("NORMALIZE", {"epsilon": 1.0}),
                ("SCALE", {"factor": -0.3}),
                ("POW", {"exponent": 2}),
                ("POW", {"exponent": 3.0}),
                ("POW", {"exponent": 1}),
                ("POW", {"exponent": 0}),
            ]
        ),
        data=st.data(),
    )
    def with_a_number(self, operation, data):
        name, attributes = operation
        operation = getattr(operations, name)
        self.call(
            operation.name, lambda tape, rng, x: autograd.record(tape, operation, x, **attributes), self.any(data)
        )

    @rule(
        name=st.sampled_from(["log", "sqrt", "pow"]),
        exponent=st.sampled_from([-1.0, 0.5, 2.5]),
        safe=st.sampled_from([True] * 5 + [False]),
        data=st.data(),
    )
    def of_positive(self, name, exponent, safe, data):
        more = (exponent,) if name == "pow" else ()

        def function(tape, rng, x):
            if safe:
                x, tape = autograd.mul(tape, x, x)
                half, tape = autograd.new_constant(tape, x.data.dtype.type(0.5))
                x, tape = autograd.add(tape, x, half)
            return getattr(autograd, name)(tape, x, *more)

        self.call(name, function, self.any(data))

    @rule(data=st.data())
    def product(self, data):
        a = self.any(data, lambda shape: len(shape) == 2)
        b = self.any(data, lambda shape: len(shape) == 2 and shape[0] == self.shape(a)[1])
        if b is None:
            a, b = a, self.call("transpose", lambda tape, rng, x: autograd.transpose(tape, x), a)
        if b is not None:
            self.call("matmul", lambda tape, rng, p, q: autograd.matmul(tape, p, q), a, b)

    @rule(bend=st.sampled_from([None, "relu", "relu", "relu", "tanh", "gelu"]), fused=st.booleans(), data=st.data())
    def layer(self, bend, fused, data):
        x = self.any(data, lambda shape: len(shape) == 2)
        inputs = self.shape(x)[1]
        w = self.any(data, lambda shape: len(shape) == 2 and shape[1] == inputs and shape[0] > 0)
        if w is None or data.draw(st.booleans()):
            outputs = data.draw(st.sampled_from([size for size in self.features if size] or [3]))
            w = self.leaf("parameter", (outputs, inputs))
        b = self.any(data, lambda shape: shape == self.shape(w)[:1])
        if b is None:
            b = self.leaf("parameter", self.shape(w)[:1])

        def function(tape, rng, x, w, b):
            if fused:
                y, tape = autograd.record(tape, operations.LINEAR, x, w, b)
            else:
                turned, tape = autograd.transpose(tape, w)
                y, tape = autograd.matmul(tape, x, turned)
                y, tape = autograd.add(tape, y, b)
            return nn.ACTIVATIONS[bend](tape, y) if bend else autograd.Traced(y, tape)

        self.call(f"linear {'fused' if fused else 'unfused'} {bend}", function, x, w, b)

    @rule(mean=st.booleans(), keepdims=st.booleans(), data=st.data())
    def total(self, mean, keepdims, data):
        x = self.any(data, len)
        axes = data.draw(st.lists(st.integers(0, len(self.shape(x)) - 1), unique=True))
        axis = data.draw(st.sampled_from([tuple(axes), axes[0] - len(self.shape(x))])) if axes else None
        name = "mean" if mean else "sum"
        self.call(name, lambda tape, rng, x: getattr(autograd, name)(tape, x, axis=axis, keepdims=keepdims), x)

    @rule(data=st.data())
    def turned(self, data):
        x = self.any(data, lambda shape: len(shape) > 1)
        axes = data.draw(st.one_of(st.none(), st.permutations(range(len(self.shape(x))))))
        self.call("transpose", lambda tape, rng, x: autograd.transpose(tape, x, axes), x)

    @rule(data=st.data())
    def reshaped(self, data):
        x = self.any(data)
        size = max(int(np.prod(self.shape(x)[1:])), 1)
        ways = [(-1,), (-1, 1), (1, -1)]
        ways += [(-1, size // n, n) for n in (1, 2, 3, 8) if size % n == 0]
        ways += [(-1, n) for n in (size, 2, 3) if size % n == 0]
        shape = data.draw(st.sampled_from(ways))
        self.call("reshape", lambda tape, rng, x: autograd.reshape(tape, x, shape), x)

    @rule(data=st.data())
    def sliced(self, data):
        x = self.any(data, len)
        index = []
        for size in self.shape(x):
            bound = st.one_of(st.none(), st.integers(-size, size))
            step = st.sampled_from([None, 1, 2, -1, -2])
            whole = st.integers(-size, size - 1) if size else st.just(slice(None))
            chosen = data.draw(st.one_of(st.just(slice(None)), st.builds(slice, bound, bound, step), whole))
            index.append(chosen)
        self.call("slice", lambda tape, rng, x: autograd.slice(tape, x, tuple(index)), x)

    @rule(count=st.integers(1, 3), data=st.data())
    def joined(self, count, data):
        first = self.any(data, len)
        axis = data.draw(st.integers(0, len(self.shape(first)) - 1))
        rest = self.shape(first)[:axis] + self.shape(first)[axis + 1 :]
        others = [
            self.any(data, lambda shape: len(shape) > axis and shape[:axis] + shape[axis + 1 :] == rest)
            for _ in range(count - 1)
        ]
        self.call("concatenate", lambda tape, rng, *parts: autograd.concatenate(tape, parts, axis), first, *others)

    @rule(rate=st.sampled_from([0.0, 0.3, 0.9]), data=st.data())
    def dropout(self, rate, data):
        self.call("dropout", lambda tape, rng, x: nn.dropout(tape, x, rate, rng=rng), self.any(data))

    @rule(data=st.data())
    def layer_norm(self, data):
        x = self.any(data, len)
        w, b = (self.leaf("parameter", self.shape(x)[-1:]) for _ in "wb")
        self.call("layer_norm", lambda tape, rng, x, w, b: nn.layer_norm_forward(tape, nn.LayerNorm(w, b), x), x, w, b)

    @rule(
        name=st.sampled_from(
            ["mse_loss", "mae_loss", "huber_loss", "binary_cross_entropy", "cross_entropy", "cross_entropy"]
        ),
        reduction=st.sampled_from(["mean", "sum"]),
        weighted=st.booleans(),
        data=st.data(),
    )
    def loss(self, name, reduction, weighted, data):
        if name == "cross_entropy":
            x = self.any(data, lambda shape: len(shape) == 2 and shape[1] > 0)
        else:
            x = self.any(data)
        if x is None:
            return
        shape = self.shape(x)
        if name == "cross_entropy" and data.draw(st.booleans()):
            kind = "batch" if shape[0] == self.rows else "constant"
            target = self.leaf(kind, shape[:1], classes=shape[1])
        else:
            target = self.any(data, lambda own: own == shape)
            squash = {"cross_entropy": nn.softmax, "binary_cross_entropy": nn.sigmoid}.get(name)
            if squash:
                target = self.call(squash.__name__, lambda tape, rng, x: squash(tape, x), target)
            if target is None:
                return
        weights = []
        if weighted and shape:
            weights = [self.any(data, lambda own: own == shape[:1])]
            if weights[0] is None:
                weights = [self.leaf("batch" if shape[0] == self.rows else "constant", shape[:1])]
            weights = [self.call("abs", lambda tape, rng, x: autograd.abs(tape, x), *weights)]
            if weights[0] is None:
                return

        def function(tape, rng, x, target, weight=None):
            return getattr(nn, name)(tape, x, target, reduction=reduction, sample_weight=weight)

        self.call(f"{name} {reduction}{' weighted' * weighted}", function, x, target, *weights)

    # branches

    @rule()
    def fork(self):
        self.forks.append((self.tape, list(self.steps), list(self.made), str(self.tape)))

    @precondition(lambda self: self.forks)
    @rule()
    def back(self):
        self.tape, self.steps, self.made, printed = self.forks.pop()
        assert str(self.tape) == printed
        TRIED["branches"] += 1

    @invariant()
    def the_tape_is_whole(self):
        nodes = self.tape.nodes()
        assert len(nodes) == len(self.tape)
        assert all(nodes[variable.id].output is variable for variable in self.made)

    # training

    @precondition(lambda self: any(isinstance(step, Call) for step in self.steps))
    @rule(
        data=st.data(),
        optimizer=optimizers,
        names=st.one_of(
            st.just({"PROGRAM", "MULTIPLY_ADDS", "ELEMENTS"}),
            st.sets(st.sampled_from([name for values in THRESHOLDS.values() for name in values])),
        ),
        threads=st.permutations([1, 2, 3]),
        other=st.sampled_from(ROWS),
    )
    def train(self, data, optimizer, names, threads, other):
        ends = [i for i, step in enumerate(self.steps) if isinstance(step, Call)]
        chosen = data.draw(st.lists(st.sampled_from(ends[::-1]), min_size=1, max_size=2, unique=True))
        if ends[-1] not in chosen:
            chosen.append(ends[-1])
        steps = list(self.steps)
        for i in chosen:
            steps += [Call("", (i, i), lambda tape, rng, x, y: autograd.mul(tape, x, y))]
            steps += [Call("", (len(steps) - 1,), lambda tape, rng, x: autograd.mean(tape, x))]
        for i in range(1, len(chosen)):
            steps.append(
                Call(
                    "", (len(self.steps) + 2 * i + 1, len(steps) - 1), lambda tape, rng, x, y: autograd.add(tape, x, y)
                )
            )
        with Lowered(names):
            compare(steps, self.rng, optimizer, threads, self.rows, other, self.wild)

    @precondition(lambda self: any(isinstance(step, Call) for step in self.steps))
    @rule(data=st.data(), threads=st.integers(1, 3), other=st.sampled_from(ROWS))
    def predict(self, data, threads, other):
        end = data.draw(st.sampled_from([i for i, step in enumerate(self.steps) if isinstance(step, Call)][::-1]))
        steps = self.steps[: end + 1]
        if any(isinstance(step, Call) and step.name == "dropout" for step in steps):
            return
        inputs = [i for i, step in enumerate(steps) if isinstance(step, Leaf) and step.kind == "batch"]
        if not inputs:
            return
        arrays = [step.array for step in steps if isinstance(step, Leaf)]
        tape, made = play(steps, arrays, None)
        with Lowered({"PROGRAM", "MULTIPLY_ADDS", "ELEMENTS"}), kernels.num_threads(threads):
            forward = program.compile_forward(tape, output=made[-1], inputs=[made[i] for i in inputs])
            for rows in (self.rows, other, self.rows):
                arrays = batch(steps, self.rng, rows, arrays)
                given = [arrays[number] for number, step in leaves(steps) if step.kind == "batch"]
                TRIED["predictions"] += 1
                tried(lambda arrays=arrays: play(steps, arrays, None)[1][-1].data, lambda given=given: forward(*given))


def fits(a, b):
    try:
        return np.broadcast_shapes(a, b) is not None
    except ValueError:
        return False


def leaves(steps):
    """Numbered from 0."""
    return list(enumerate(step for step in steps if isinstance(step, Leaf)))


def batch(steps, rng, rows, arrays):
    """Other arrays for the leaves of batches, of so many rows; of the others, those given."""
    return [
        numbers(rng, (rows, *step.array.shape[1:]), step.array.dtype, step.classes) if step.kind == "batch" else array
        for (_, step), array in zip(leaves(steps), arrays, strict=True)
    ]


def tried(eager, compiled):
    """What both give; a refusal by eager code must be one by the program too, which may refuse more."""
    wanted = refusal = None
    try:
        wanted = eager()
    except DeadCallRefusedError:
        return None
    except error.TensorError as reason:
        if "weight" in str(reason) or reason.operation in ("mse_loss", "mae_loss", "huber_loss", "layer_norm_forward"):
            return None  # checks of nn as it records, of which programs know nothing
        refusal = reason
    try:
        found = compiled()
    except error.TensorError as reason:
        if refusal is None and reason.operation not in ("reshape", "slice"):
            raise
        TRIED["refused by programs"] += 1
        return None
    assert refusal is None, f"the program does what eager code refuses: {refusal}"
    if isinstance(found, np.ndarray):
        assert same_bits(found, wanted)
    TRIED["compared"] += 1
    return wanted, found


def compare(steps, rng, optimizer, threads, rows, other, wild):
    """Train eagerly and compiled, on batches of one size, another, and the first again."""
    arrays = [step.array for _, step in leaves(steps)]
    tape, made = play(steps, arrays, np.random.default_rng(1))
    variables = [made[i] for i, step in enumerate(steps) if isinstance(step, Leaf)]
    kinds = [step.kind for _, step in leaves(steps)]
    names = {i for i, kind in enumerate(kinds) if kind == "parameter"}
    inputs = [i for i, kind in enumerate(kinds) if kind == "batch"]
    loss = made[-1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of NumPy's, in the reference
        TRIED["values and gradients held against NumPy"] += 0 if wild else reference.check(tape, loss)
    seed = int(rng.integers(1 << 32))
    draw_eager, draw_compiled = (np.random.default_rng(seed) for _ in range(2))
    with kernels.num_threads(threads[0]):
        step = program.compile_step(
            tape,
            loss=loss,
            params=[variables[i] for i in sorted(names)],
            inputs=[variables[i] for i in inputs],
            optimizer=optimizer,
            rng=draw_compiled,
        )
    TRIED["programs compiled"] += 1
    params = [autograd.new_variable(autograd.new_tape(), arrays[i]).value for i in sorted(names)]
    state = optim.init(optimizer, params)
    for number, size in zip(itertools.cycle(threads), (rows, rows, other, rows)):
        arrays = batch(steps, rng, size, arrays)
        for place, parameter in zip(sorted(names), params, strict=True):
            arrays[place] = parameter.data

        def eagerly(arrays=arrays, params=params, state=state):
            before = draw_eager.bit_generator.state
            try:
                tape, made = play(steps, arrays, draw_eager)
            except (error.TensorError, DeadCallRefusedError):
                draw_eager.bit_generator.state = before
                raise
            variables = [made[i] for i, step in enumerate(steps) if isinstance(step, Leaf)]
            grads = autograd.backward(tape, made[-1])
            own = [variables[i] for i in sorted(names)]
            (new, kept), _ = optim.update(autograd.new_tape(), optimizer, state, own, grads)
            return float(made[-1].data), new, kept

        with kernels.num_threads(number):
            both = tried(eagerly, lambda arrays=arrays: step(*(arrays[i] for i in inputs)))
        if both is None:
            draw_eager.bit_generator.state = draw_compiled.bit_generator.state
            continue
        TRIED["steps"] += 1
        TRIED[f"steps of {step._current.members} members"] += 1
        (wanted, params, state), found = both
        assert same_bits(found, wanted), f"loss {found!r}, wanted {wanted!r}\n{step}"
        for place, (variable, wanted) in enumerate(zip(step.params(autograd.new_tape()).value, params, strict=True)):
            if not same_bits(variable.data, wanted.data):
                with np.errstate(all="ignore"):
                    difference = np.abs(variable.data - wanted.data).max()
                raise AssertionError(f"p{place} is off by {difference:.3g}\n{step}")
