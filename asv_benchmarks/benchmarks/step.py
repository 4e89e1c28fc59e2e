"""A whole eager training step, against the same step written by hand in NumPy."""

from functools import partial

import numpy as np

from viva_tensor import autograd

from .common import THREADS, Benchmark, ratio
from .workloads import WORKLOADS, NumPyStep, TapeStep, problem


class TrainingStep(Benchmark):
    param_names = ("workload", "threads")
    params = (tuple(WORKLOADS), THREADS)

    def setup(self, workload, threads):
        super().setup(threads)
        self.problem = problem(workload)

    def time_tape(self, *_):
        self.timed(TapeStep(*self.problem))

    def time_numpy(self, *_):
        self.timed(NumPyStep(*self.problem))


class OverNumPy(Benchmark):
    """Our time ÷ NumPy's on one thread; lower is better."""

    param_names = ("workload",)
    params = (tuple(WORKLOADS),)
    unit = "ratio"

    def setup(self, workload):
        super().setup()
        self.problem = problem(workload)

    def track_tape(self, _):
        tape, by_hand = TapeStep(*self.problem), NumPyStep(*self.problem)
        # A fast wrong step does not count; the second loss depends on every gradient of the first.
        for _ in range(2):
            np.testing.assert_allclose(tape(), by_hand(), rtol=1e-4)
        return ratio(tape, by_hand)


class PartsOfStep(Benchmark):
    """Of the step on a tape, on one thread."""

    param_names = ("workload",)
    params = (("seed-demo", "tabular", "mnist-mlp"),)

    def setup(self, workload):
        super().setup()
        self.step = TapeStep(*problem(workload))
        self.loss, self.tape = self.step.forward()

    def time_forward(self, _):
        self.timed(self.step.forward)

    def time_backward(self, _):
        self.timed(partial(autograd.backward, self.tape, self.loss))

    def time_update(self, _):
        self.timed(partial(self.step.update, autograd.backward(self.tape, self.loss)))
