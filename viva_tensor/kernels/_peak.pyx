"""Multiply-adds at the peak rate, for `peak.py` to time."""

from viva_tensor.kernels._dispatch cimport double_cores, float_cores
from viva_tensor.kernels._team cimport release, run, workspace
from viva_tensor.kernels.cores cimport Cores, PeakArgs


def multiply_adds(Py_ssize_t rounds, int threads, bint double_precision):
    """Run multiply-adds on a team and return their number: rounds × chains × lanes × threads."""
    cdef const Cores* cores = double_cores if double_precision else float_cores
    cdef PeakArgs args
    args.rounds, args.factor, args.term = rounds, 0.9, 1e-3
    args.out = workspace(threads * 64)
    with nogil:
        run(cores.peak, &args, threads)
    release(<char*> args.out)
    return rounds * cores.chains * cores.lanes * threads
