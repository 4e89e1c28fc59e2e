"""A whole training step, on the tape and compiled, against the same step written by hand in NumPy."""

from functools import partial

import numpy as np

from viva_tensor import autograd, optim, program

from .common import THREADS, Benchmark, ratio
from .workloads import WORKLOADS, CompiledStep, NumPyStep, TapeStep, problem

OPTIMIZERS = {
    "SGD": optim.SGD(lr=1e-3),
    "momentum": optim.SGD(lr=1e-3, momentum=0.9),
    "Adam": optim.Adam(),
    "AdamW": optim.AdamW(),
    "RMSprop": optim.RMSprop(lr=1e-3),
    "Adam, clipped": optim.Adam(clip_norm=1.0),
}


class TrainingStep(Benchmark):
    param_names = ("workload", "threads")
    params = (tuple(WORKLOADS), THREADS)

    def setup(self, workload, threads):
        super().setup(threads)
        self.problem = problem(workload)

    def time_tape(self, *_):
        self.timed(TapeStep(*self.problem))

    def time_compiled(self, *_):
        self.timed(CompiledStep(*self.problem))

    def time_numpy(self, *_):
        self.timed(NumPyStep(*self.problem))


class OptimizerStep(Benchmark):
    """A whole step with other optimisers than plain SGD."""

    param_names = ("optimizer", "workload", "threads")
    params = (tuple(OPTIMIZERS), ("seed-demo", "mnist-mlp"), THREADS)

    def setup(self, optimizer, workload, threads):
        super().setup(threads)
        self.arguments = (*problem(workload), OPTIMIZERS[optimizer])

    def time_tape(self, *_):
        self.timed(TapeStep(*self.arguments))

    def time_compiled(self, *_):
        self.timed(CompiledStep(*self.arguments))


class Compile(Benchmark):
    """From a recorded step of 50 layers to a program, for as many threads as there are."""

    def setup(self):
        super().setup()
        rng = np.random.default_rng(0)
        self.x = rng.standard_normal((128, 64), dtype="float32")
        weights = [(rng.standard_normal((64, 64), dtype="float32"), np.zeros(64, "float32")) for _ in range(50)]
        self.step = TapeStep(self.x, self.x, weights)
        self.loss, self.tape = self.step.forward()
        self.inputs = [self.tape.nodes()[len(self.step.tape) + i].output for i in range(2)]

    def time_compile(self):
        self.timed(
            partial(
                program.compile_step,
                self.tape,
                loss=self.loss,
                params=self.step.layers,
                inputs=self.inputs,
                optimizer=self.step.optimizer,
            )
        )


class Run(Benchmark):
    """A step within ``run``, which needs no Python between steps."""

    param_names = ("workload",)
    params = (("seed-demo", "tabular"),)

    def setup(self, workload):
        super().setup()
        self.problem = problem(workload)
        self.step = CompiledStep(*self.problem).step
        x, y, _ = self.problem
        self.data = np.tile(x, (1000, 1)), np.tile(y, (1000, 1))

    def epoch(self):
        self.step.run(*self.data, batch_size=len(self.problem[0]), shuffle=False)

    def time_run(self, _):
        self.timed(self.epoch, parts=1000)


class RunOverNumPy(Run):
    """Its time ÷ NumPy's for the same steps on one thread; lower is better."""

    unit = "ratio"
    time_run = None

    def track_run(self, _):
        by_hand = NumPyStep(*self.problem)
        return ratio(self.epoch, lambda: [by_hand() for _ in range(1000)], pairs=5)


class OverNumPy(Benchmark):
    """Our time ÷ NumPy's on one thread; lower is better."""

    param_names = ("workload",)
    params = (tuple(WORKLOADS),)
    unit = "ratio"

    def setup(self, workload):
        super().setup()
        self.problem = problem(workload)

    def track_tape(self, _):
        return self.against(TapeStep)

    def track_compiled(self, _):
        return self.against(CompiledStep)

    def against(self, kind):
        ours, by_hand = kind(*self.problem), NumPyStep(*self.problem)
        # A fast wrong step does not count; the second loss depends on every gradient of the first.
        for _ in range(2):
            np.testing.assert_allclose(ours(), by_hand(), rtol=1e-4)
        return ratio(ours, by_hand)


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
