"""Random programs of every operation of the tape, as a state machine of hypothesis.

The rules of `random_operations.py` make a program; those of this file fork it, train it or predict with it.
"""

from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from support.played_programs import LOW, TRIED, Call, Played, Run, compare_gradients, compare_training, compare_values
from support.random_operations import EVERY_SO_OFTEN, ROWS, Operations
from viva_tensor import autograd, optim
from viva_tensor.program import thresholds

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
    st.builds(optim.Lion, lr=st.just(0.01), weight_decay=st.sampled_from([0.0, 0.1])),
    st.builds(
        optim.RMSprop,
        lr=st.just(0.1),
        momentum=st.sampled_from([0.0, 0.5]),
        weight_decay=st.sampled_from([0.0, 0.1]),
        clip_norm=st.sampled_from([None, 0.1]),
    ),
)


class Programs(Operations):
    """One program for each run, and its branches."""

    def __init__(self):
        super().__init__()
        self.forks = []

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

    # training and predicting

    def run(self, data, played, threads):
        """Inputs in any order, of which the first that has axes is a batch, and batches of two sizes."""
        inputs = dict(data.draw(st.permutations(played.leaves("batch", "given"))))
        if next(leaf.kind for leaf in inputs.values() if leaf.array.ndim) == "given":
            inputs = dict(sorted(inputs.items(), key=lambda item: item[1].kind))
        low = data.draw(st.one_of(st.just(set(thresholds.EVERYWHERE)), st.sets(st.sampled_from(list(LOW)))))
        other = data.draw(st.sampled_from(ROWS))
        return Run(list(inputs), [self.rows, self.rows, other, self.rows], threads, low)

    def ends(self, data):
        """Some variables, calls and late ones rather, with the last call among them."""
        calls = [i for i, step in enumerate(self.steps) if isinstance(step, Call)]
        chosen = data.draw(st.lists(st.sampled_from(calls[::-1]), min_size=1, max_size=2, unique=True))
        return chosen if calls[-1] in chosen else [*chosen, calls[-1]]

    def mean_of(self, steps, place, square):
        """The mean of the elements or of their squares, as more steps; the number of the last."""
        if square:
            steps.append(Call("", (place, place), lambda tape, rng, x, y: autograd.mul(tape, x, y)))
            place = len(steps) - 1
        steps.append(Call("", (place,), lambda tape, rng, x: autograd.mean(tape, x)))
        return len(steps) - 1

    def element(self, data, steps, place):
        """One element as a view, as more steps; None if there is none."""
        shape = self.shape(place)
        if not shape:
            return place
        if 0 in shape:
            return None
        index = tuple(data.draw(st.sampled_from([-1, 0, size // 2])) for size in shape)
        if data.draw(st.booleans()):  # in two steps
            first = [index[0], *[slice(None)] * (len(shape) - 1)]
            steps.append(Call("", (place,), lambda tape, rng, x: autograd.slice(tape, x, tuple(first))))
            place, index = len(steps) - 1, index[1:]
        if index:
            steps.append(Call("", (place,), lambda tape, rng, x: autograd.slice(tape, x, index)))
        return len(steps) - 1

    def loss_of(self, data):
        """A scalar of the program: a sum of means, or one element of anything, also of a leaf."""
        steps = list(self.steps)
        if data.draw(st.sampled_from([False, False, True])):
            place = self.any(data, leaves=True)
            end = self.element(data, steps, place)
            if end is not None:
                TRIED[f"losses that are {'views of a ' * (end != place)}{self.kind(place)}"] += 1
                return Played(steps, end)
        square = data.draw(st.sampled_from([True, True, False]))
        total = None
        for place in self.ends(data):
            end = self.mean_of(steps, place, square)
            if total is not None:
                steps.append(Call("", (end, total), lambda tape, rng, x, y: autograd.add(tape, x, y)))
            total = len(steps) - 1
        return Played(steps, total)

    def kind(self, place):
        return getattr(self.steps[place], "kind", "temporary")

    @precondition(lambda self: any(isinstance(step, Call) for step in self.steps))
    @rule(data=st.data(), optimizer=optimizers, threads=st.permutations([1, 2, 3]))
    def train(self, data, optimizer, threads):
        played = self.loss_of(data)
        parameters = [number for number, _ in played.leaves("parameter")]
        trained = data.draw(
            st.one_of(st.just(parameters), st.lists(st.sampled_from(parameters), min_size=1, unique=True))
        )
        TRIED["programs with frozen parameters"] += len(trained) < len(parameters)
        run = self.run(data, played, threads)
        compare_gradients(played, self.rng, self.wild)
        compare_training(played, self.rng, run, optimizer, trained)

    @precondition(lambda self: any(isinstance(step, Call) for step in self.steps))
    @rule(data=st.data(), threads=st.permutations([1, 2, 3]))
    def predict(self, data, threads):
        place = self.any(data, leaves=data.draw(EVERY_SO_OFTEN))
        played = Played(self.steps[: place + 1], place)
        if not played.leaves("batch") or any(getattr(step, "name", "") == "dropout" for step in played.steps):
            return
        TRIED[f"outputs that are a {self.kind(place)}"] += 1
        compare_values(played, self.rng, self.run(data, played, threads))
