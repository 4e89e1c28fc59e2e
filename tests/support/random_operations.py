"""Rules of a state machine of hypothesis that begin a random program and add leaves and operations to it."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from support.played_programs import TRIED, Call, Leaf, numbers
from viva_tensor import autograd, error, nn
from viva_tensor.autograd import operations

ROWS = (1, 2, 3, 5, 16, 24, 33, 50, 0)
FEATURES = (1, 2, 3, 8, 10, 17, 33, 40, 0)
EVERY_SO_OFTEN = st.sampled_from([False] * 7 + [True])


def slope(tape, y, x):
    """The gradient of the sum of y."""
    total, tape = autograd.sum(tape, y)
    return autograd.gradient(tape, total, x)


class Operations(RuleBasedStateMachine):
    """One program for each run, to which rules add."""

    def __init__(self):
        super().__init__()
        self.steps = []
        self.made = []
        self.tape = autograd.new_tape()
        self.derivatives = 0

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
        if network:  # without a product there is but one thread
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
        """Record an operation; None, and nothing is changed, if it is refused or its result is too large.

        Numbers of a million or more, and what is none, are too large in all but wild programs.
        """
        try:
            traced = function(self.tape, np.random.default_rng(0), *(self.made[i] for i in inputs))
        except error.TensorError:
            TRIED["refused"] += 1
            return None
        big = not (np.abs(traced.value.data) < 1e6).all()
        if (big and not self.wild) or traced.value.data.size > 50_000:
            return None
        TRIED.update(f"recorded {node.operation.name}" for node in traced.tape.nodes()[len(self.tape) :])
        self.tape = traced.tape
        self.steps.append(Call(name, inputs, function))
        self.made.append(traced.value)
        TRIED["operations"] += 1
        TRIED[f"operation {name}"] += 1
        return len(self.made) - 1

    def shape(self, place):
        return self.made[place].data.shape

    def any(self, data, wanted=lambda shape: True, leaves=False):
        """The number of some variable of a wanted shape, those of calls and late ones rather; None if there is none.

        With `leaves` it is a leaf as often as not.
        """
        fitting = [
            i for i in range(len(self.made)) if wanted(self.shape(i)) and not getattr(self.steps[i], "classes", 0)
        ]
        own = [i for i in fitting if isinstance(self.steps[i], Leaf)]
        if leaves and own and data.draw(st.booleans()):
            return data.draw(st.sampled_from(own))
        return data.draw(st.sampled_from(fitting[::-1])) if fitting else None

    @rule(kind=st.sampled_from(["batch", "parameter", "constant", "given"]), data=st.data())
    def new_leaf(self, kind, data):
        size = st.sampled_from([*self.features, 1])
        if kind == "batch":
            shape = (self.rows, *data.draw(st.lists(size, max_size=2)))
        elif kind == "given":  # its first axis must not be taken for rows
            shape = tuple(data.draw(st.lists(size, max_size=2)))
            shape = () if shape[:1] == (self.rows,) else shape
        else:
            shape = tuple(data.draw(st.lists(st.one_of(size, st.just(self.rows)), max_size=3)))
        self.leaf(kind, shape)

    @rule(
        name=st.sampled_from(["add", "sub", "mul", "div", "maximum", "minimum", "less", "less_equal", "equal"]),
        data=st.data(),
    )
    def of_two(self, name, data):
        a = self.any(data)
        b = self.any(data, lambda shape: fits(shape, self.shape(a)))
        a, b = (a, b) if data.draw(st.booleans()) else (b, a)
        self.call(name, lambda tape, rng, p, q: getattr(autograd, name)(tape, p, q), a, b)

    @rule(
        name=st.sampled_from(
            [
                "abs",
                "sin",
                "cos",
                "sign",
                "exp",
                "sigmoid",
                "tanh",
                "softplus",
                "silu",
                "mish",
                "gelu",
                "relu",
                "relu",
                "softmax",
                "log_softmax",
            ]
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
                ("ELU", {"alpha": 0.7}),
                ("LOG_COSH", {}),
                ("AT_LEAST", {"bound": -0.2}),
                ("AT_MOST", {"bound": 0.3}),
                ("NORMALIZE", {"epsilon": 1e-5}),
                ("NORMALIZE", {"epsilon": 1.0}),
                ("SCALE", {"factor": -0.3}),
                ("EXPAND_DIMS", {"axis": 0}),
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

    @rule(batch=st.sampled_from([(2,), (3, 1), ()]), data=st.data())
    def batches(self, batch, data):
        x = self.any(data, lambda shape: len(shape) >= 2)
        if x is not None:
            w = self.leaf("parameter", (*batch, self.shape(x)[-1], 4))
            self.call("matmul of a batch", lambda tape, rng, a, b: autograd.matmul(tape, a, b), x, w)

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

    @rule(name=st.sampled_from(["max", "min", "norm", "logsumexp"]), keepdims=st.booleans(), data=st.data())
    def reduced(self, name, keepdims, data):
        x = self.any(data, len)
        axis = data.draw(st.sampled_from([None, *range(len(self.shape(x)))]))
        self.call(name, lambda tape, rng, x: getattr(autograd, name)(tape, x, axis=axis, keepdims=keepdims), x)

    @rule(data=st.data())
    def squares(self, data):
        x = self.any(data, leaves=True)
        self.call("sum_of_squares", lambda tape, rng, x: autograd.sum_of_squares(tape, x), x)

    @rule(data=st.data())
    def added_up(self, data):
        x = self.any(data, len)
        axis = data.draw(st.integers(0, len(self.shape(x)) - 1))
        starts = data.draw(st.sampled_from([(), (self.shape(x)[axis] // 2,)])) if self.shape(x)[axis] else ()
        self.call("cumsum", lambda tape, rng, x: autograd.cumsum(tape, x, axis, starts), x)

    @rule(value=st.sampled_from([0.0, 1.0]), data=st.data())
    def padded(self, value, data):
        x = self.any(data, len)
        widths = [data.draw(st.tuples(st.integers(0, 2), st.integers(0, 9))) for _ in self.shape(x)]
        self.call("pad", lambda tape, rng, x: autograd.pad(tape, x, widths, value), x)

    @rule(data=st.data())
    def stopped(self, data):
        self.call("stop_gradient", lambda tape, rng, x: autograd.stop_gradient(tape, x), self.any(data))

    @rule(data=st.data())
    def turned(self, data):
        x = self.any(data, lambda shape: len(shape) > 1, leaves=True)
        axes = data.draw(st.one_of(st.none(), st.permutations(range(len(self.shape(x))))))
        self.call("transpose", lambda tape, rng, x: autograd.transpose(tape, x, axes), x)

    @rule(data=st.data())
    def reshaped(self, data):
        x = self.any(data, leaves=True)
        size = max(int(np.prod(self.shape(x)[1:])), 1)
        ways = [(-1,), (-1, 1), (1, -1)]
        ways += [(-1, size // n, n) for n in (1, 2, 3, 8) if size % n == 0]
        ways += [(-1, n) for n in (size, 2, 3) if size % n == 0]
        shape = data.draw(st.sampled_from(ways))
        self.call("reshape", lambda tape, rng, x: autograd.reshape(tape, x, shape), x)

    @rule(data=st.data())
    def sliced(self, data):
        x = self.any(data, len, leaves=True)
        index = []
        for size in self.shape(x):
            bound = st.one_of(st.none(), st.integers(-size, size))
            step = st.sampled_from([None, 1, 2, -1, -2])
            whole = st.integers(-size, size - 1) if size else st.just(slice(None))
            chosen = data.draw(st.one_of(st.just(slice(None)), st.builds(slice, bound, bound, step), whole))
            index.append(chosen)
        self.call("slice", lambda tape, rng, x: autograd.slice(tape, x, tuple(index)), x)

    @rule(as_variable=st.booleans(), data=st.data())
    def taken(self, as_variable, data):
        x = self.any(data, lambda shape: len(shape) and 0 not in shape, leaves=True)
        if x is None:
            return
        axis = data.draw(st.integers(0, len(self.shape(x)) - 1))
        size = self.shape(x)[axis]
        if as_variable:  # of the first element, or of those that a batch of classes names
            classes = [i for i, one in enumerate(self.steps) if getattr(one, "classes", size + 1) in range(1, size + 1)]
            if classes:
                indices = data.draw(st.sampled_from(classes))
                self.call("take", lambda tape, rng, x, own: autograd.take(tape, x, own, axis), x, indices)
            return
        indices = np.array(data.draw(st.lists(st.integers(-size, size - 1), max_size=9)), int)
        if axis == 0 and len(self.shape(x)) == 2 and len(indices) % 2 == 0:
            pairs = indices.reshape(-1, 2)
            weights = np.where(pairs % 2, 0.5, -1.5)
            self.call("bag", lambda tape, rng, x: autograd.embedding_bag(tape, x, pairs, weights.astype(x.dtype)), x)
            return
        self.call("take", lambda tape, rng, x: autograd.take(tape, x, indices, axis), x)

    @rule(count=st.integers(1, 3), data=st.data())
    def joined(self, count, data):
        first = self.any(data, len, leaves=True)
        axis = data.draw(st.integers(0, len(self.shape(first)) - 1))
        rest = self.shape(first)[:axis] + self.shape(first)[axis + 1 :]
        others = [
            self.any(data, lambda shape: len(shape) > axis and shape[:axis] + shape[axis + 1 :] == rest, leaves=True)
            for _ in range(count - 1)
        ]
        self.call("concatenate", lambda tape, rng, *parts: autograd.concatenate(tape, parts, axis), first, *others)

    @rule(kinds=st.permutations(["parameter", "constant", "parameter"]), own=st.booleans(), data=st.data())
    def pinned(self, kinds, own, data):
        """A bias of which some parts are trained and others stay, on its own or in a layer."""
        x = self.any(data, lambda shape: len(shape) == 2 and shape[1] > 0)
        if x is None:
            return
        width = self.shape(x)[1]
        cuts = sorted(data.draw(st.lists(st.integers(0, width), min_size=1, max_size=2)))
        sizes = np.diff([0, *cuts, width])
        parts = [self.leaf(kind, (int(size),)) for kind, size in zip(kinds, sizes, strict=False)]
        bias = self.call("concatenate", lambda tape, rng, *own: autograd.concatenate(tape, own, 0), *parts)
        if bias is None:
            return
        TRIED["biases of trained and fixed parts"] += len({*kinds[: len(parts)]}) > 1
        if own:
            self.call("add", lambda tape, rng, p, q: autograd.add(tape, p, q), x, bias)
        else:
            w = self.leaf("parameter", (width, width))
            self.call("linear", lambda tape, rng, *own: autograd.record(tape, operations.LINEAR, *own), x, w, bias)

    @rule(forward=st.booleans(), data=st.data())
    def derivative(self, forward, data):
        """The gradient of the sum of some variable for another one, or its change along that; twice at most."""
        if self.derivatives == 2:
            return
        x = self.any(data, leaves=True)
        y = self.any(data)

        def along(tape, rng, y, x):
            return autograd.jvp(tape, y, x, x) if forward else slope(tape, y, x)

        found = self.call("jvp" if forward else "gradient", along, y, x)
        self.derivatives += found is not None

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


def fits(a, b):
    try:
        return np.broadcast_shapes(a, b) is not None
    except ValueError:
        return False
