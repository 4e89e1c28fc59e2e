"""What the tape costs beside the arithmetic on it."""

from functools import partial
from itertools import repeat
from time import perf_counter

from viva_tensor import autograd, nn, telemetry

from .common import Benchmark

NODES = 1_000


def chain(tape, x, nodes):
    """x + x, and the sum with x again and again."""
    total = x
    for _ in repeat(None, nodes):
        total, tape = autograd.add(tape, total, x)
    return total, tape


class Chain(Benchmark):
    """Additions of single numbers, one after another; the time of one."""

    def setup(self):
        super().setup()
        self.x, self.leaf_tape = autograd.new_variable(autograd.new_tape(), self.floats(1, 1))
        self.loss, self.tape = chain(self.leaf_tape, self.x, NODES)

    def time_record_node(self):
        self.timed(partial(chain, self.leaf_tape, self.x, NODES), parts=NODES)

    def time_backward_node(self):
        self.timed(partial(autograd.backward, self.tape, self.loss), parts=NODES)

    def time_find_oldest_node(self):
        """Recording on a long tape an operation on its first variable."""
        self.timed(partial(autograd.relu, self.tape, self.x))


class Leaf(Benchmark):
    """Arrays as leaves: a writeable one is copied, a read-only one is held."""

    param_names = ("writeable",)
    params = ((True, False),)

    def setup(self, writeable):
        super().setup()
        self.array = self.floats(256, 256)
        self.array.setflags(write=writeable)

    def time_new_variable(self, _):
        self.timed(partial(autograd.new_variable, autograd.new_tape(), self.array))


class Layer(Benchmark):
    param_names = ("fused",)
    params = ((True, False),)

    def setup(self, fused):
        super().setup()
        self.layer, tape = nn.linear(autograd.new_tape(), 8, 8, rng=self.rng)
        self.x, self.tape = autograd.new_constant(tape, self.floats(8, 8))

    def time_linear_forward(self, fused):
        self.timed(partial(nn.linear_forward, self.tape, self.layer, self.x, fused=fused))


class Telemetry(Benchmark):
    def teardown(self):
        super().teardown()
        telemetry.reset()

    def time_record(self):
        self.timed(partial(telemetry.record, "benchmark", 1_000))

    def time_snapshot_of_full_window(self):
        for _ in repeat(None, 10_000):
            telemetry.record("benchmark", 1_000)
        self.timed(telemetry.snapshot)


class Release(Benchmark):
    """Letting go of a long tape; the time of one node."""

    param_names = ("nodes",)
    params = ((1_000, 100_000),)
    number = 1

    def setup(self, nodes):
        super().setup()
        x, tape = autograd.new_variable(autograd.new_tape(), self.floats(1, 1))
        self.held = chain(tape, x, nodes)

    def time_release_node(self, nodes):
        start = perf_counter()
        self.held = None
        self._now += (perf_counter() - start) / nodes
