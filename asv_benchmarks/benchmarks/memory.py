"""What eager steps leave behind, and the most they hold."""

import os
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from viva_tensor import tabular, telemetry
from viva_tensor.train import Settings

from .common import Benchmark
from .workloads import NumPyStep, TapeStep, problem

STATM = Path("/proc/self/statm")


def resident_bytes():
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def run(step, times):
    for _ in range(times):
        step()


class ResidentGrowth(Benchmark):
    """Of the process over 500 steps, after some in which allocators settle."""

    param_names = ("workload",)
    params = (("seed-demo", "tabular", "mnist-mlp"),)
    unit = "bytes"

    def setup(self, workload):
        if not STATM.exists():
            raise NotImplementedError("no /proc/self/statm on this system")
        super().setup()
        self.step = TapeStep(*problem(workload))
        # Telemetry keeps a window of latest latencies, which would fill during the first thousands of steps.
        for operation, latency in product(("linear_forward", "backward"), range(10_000, 20_000)):
            telemetry.record(operation, latency)
        run(self.step, 200)

    def teardown(self, *_):
        super().teardown()
        telemetry.reset()

    def track_growth(self, _):
        before = resident_bytes()
        run(self.step, 500)
        return max(0, resident_bytes() - before)


class ResidentStep(Benchmark):
    """What a compiled step adds to the process, as a share of what it may: a tenth more than its parameters and
    activations, and 30 MB."""

    param_names = ("workload",)
    params = (("mnist-mlp", "wide", "deep"),)
    unit = "ratio"

    def setup(self, workload):
        if not STATM.exists():
            raise NotImplementedError("no /proc/self/statm on this system")
        super().setup()
        x, y, weights = problem(workload)
        self.tape_step = TapeStep(x, y, weights)
        activations = sum(4 * len(x) * len(b) for _, b in weights)
        parameters = sum(w.nbytes + b.nbytes for w, b in weights)
        self.limit = 1.1 * (parameters + activations) + 30e6

    def track_share(self, _):
        self.tape_step.forward()
        before = resident_bytes()
        step = self.tape_step.compiled()
        run(partial(step, self.tape_step.x, self.tape_step.y), 20)
        return (resident_bytes() - before) / self.limit


class PeakMemory(Benchmark):
    """Of a process that takes a few wide steps."""

    def peakmem_tape(self):
        run(TapeStep(*problem("wide")), 3)

    def peakmem_numpy(self):
        run(NumPyStep(*problem("wide")), 3)


class TablePeakMemory:
    """Training on a table of 200,000 rows and 20 columns of float64, 32 MB, from its file to the scores."""

    params = ("parquet", "csv")
    param_names = ("format",)
    timeout = 300

    def setup_cache(self):
        values = np.random.default_rng(0).normal(size=(200_000, 20))
        table = pd.DataFrame(values, columns=[f"x{i}" for i in range(20)])
        table.to_parquet("table.parquet")
        table.round(6).to_csv("table.csv", index=False)

    def peakmem_train(self, kind):
        settings = Settings(hidden=(16,), epochs=1, batch_size=1024)
        tabular.run(tabular.read(f"table.{kind}", whole=False), "x0", settings)
