"""Teams of threads: how many members a call gets, one region around one core, and their scratch memory."""

import os

from libc.stdint cimport uintptr_t
from libc.stdlib cimport free, malloc

from viva_tensor.kernels.cores cimport Core
from viva_tensor.kernels.fences cimport fence
from viva_tensor.kernels.openmp cimport (
    OPENMP,
    openmp_max_threads,
    openmp_processors,
    openmp_team,
)

cdef extern from * nogil:
    """
    #if defined(_MSC_VER)
    static __declspec(thread) int viva_own_threads = 0;
    #else
    static _Thread_local int viva_own_threads = 0;
    #endif
    """
    int own "viva_own_threads"      # what num_threads() asked for on this Python thread; 0: nothing

cdef extern from "Python.h" nogil:
    const Py_ssize_t PY_SSIZE_T_MAX

cdef int chosen = 0     # what set_num_threads() asked for; 0: nothing
cdef int quota = 0      # processors that the control group grants; 0: no limit
cdef double eagerness = 1   # thresholds are divided by it; only the script that measures them changes it
cdef bint opened = False    # a region with more than one member has run in this process
cdef bint orphan = False    # this process was forked from one in which that had happened


cdef int default_threads() noexcept nogil:
    cdef int n = min(openmp_max_threads(), openmp_processors())
    if quota > 0:
        n = min(n, quota)
    return max(n, 1)


cdef int threads() noexcept nogil:
    if orphan or OPENMP == 0:
        return 1
    if own > 0:
        return own
    if chosen > 0:
        return chosen
    return default_threads()


cdef int team_size(double work, double share) noexcept nogil:
    """Members for `work`, so that each has at least `share` of it; small work never asks how many threads there are."""
    share /= eagerness
    if work < 2 * share:
        return 1
    return <int> min(work / share, <double> threads())


cdef void run(Core core, const void* args, int members) noexcept nogil:
    global opened
    if members == 1:
        core(args, 0, 1)
    else:
        opened = True
        openmp_team(core, args, members)


cdef char* workspace(Py_ssize_t size) except? NULL:
    """Memory aligned to 64 bytes. A size of 0 gives NULL, without an error."""
    cdef char* memory
    cdef char* aligned
    if size == 0:
        return NULL
    if size < 0 or size > PY_SSIZE_T_MAX - 128:
        raise MemoryError
    memory = <char*> malloc(size + 128)
    if memory == NULL:
        raise MemoryError
    aligned = memory + 128 - (<uintptr_t> memory) % 64
    (<char**> aligned - 1)[0] = memory
    fence(aligned + size, 128 - (aligned - memory))
    return aligned


cdef void release(char* memory) noexcept nogil:
    if memory != NULL:
        free((<char**> memory - 1)[0])


def get_threads():
    """(in force, asked on this thread, asked for the process, OpenMP's maximum, processors, forked after a region)"""
    return threads(), own, chosen, openmp_max_threads(), openmp_processors(), orphan


def choose(int n):
    global chosen
    chosen = n


def choose_own(int n):
    global own
    own = n


def set_quota(int n):
    global quota
    quota = n


def set_eagerness(double factor):
    global eagerness
    eagerness = factor


def openmp_version():
    return OPENMP


def _mark_child():
    global orphan
    orphan = opened


# libgomp's team does not survive a fork: the first region in the child would wait for threads that are not there.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_mark_child)
