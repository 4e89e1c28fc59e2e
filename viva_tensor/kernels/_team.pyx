"""Teams of threads: the size of a call's team, the region around a core, and scratch memory.

GCC's runtime keeps a team for each thread that opened a region. It ends the process if it cannot start a thread, so we
first try whether it can. A child forked from a thread with a team would wait for threads that it does not have, so the
team is dismissed before a fork.
"""

from warnings import warn

from libc.stdint cimport uintptr_t
from libc.stdlib cimport free, malloc

from viva_tensor.kernels.cores cimport Core
from viva_tensor.kernels.fences cimport fence
from viva_tensor.kernels.native cimport at_fork, can_start
from viva_tensor.kernels.openmp cimport (
    OPENMP,
    openmp_dismiss,
    openmp_max_threads,
    openmp_processors,
    openmp_team,
)

cdef extern from * nogil:
    """
    #if defined(_MSC_VER)
    #define VIVA_OF_THREAD static __declspec(thread) int
    #else
    #define VIVA_OF_THREAD static _Thread_local int
    #endif
    VIVA_OF_THREAD viva_local_threads = 0;
    VIVA_OF_THREAD viva_ready = 1;
    VIVA_OF_THREAD viva_lost = 0;
    VIVA_OF_THREAD viva_orphan = 0;
    """
    # The state of the calling thread
    int local "viva_local_threads"  # the number that num_threads() set; 0: none
    int ready "viva_ready"          # threads of its last team, which are kept for the next one
    bint lost "viva_lost"           # its team could not be dismissed before a fork
    bint orphan "viva_orphan"       # it was forked with such a team

cdef extern from "Python.h" nogil:
    const Py_ssize_t PY_SSIZE_T_MAX

cdef int chosen = 0     # the number that set_num_threads() set; 0: none
cdef int quota = 0      # processors that the control group grants; 0: no limit
cdef double eagerness = 1   # divides thresholds; only the script that measures them changes it
cdef bint refused = False   # threads could not be started


cdef int threads_in_force() noexcept nogil:
    cdef int n
    if orphan or refused or OPENMP == 0:
        return 1
    if local > 0:
        return local
    if chosen > 0:
        return chosen
    n = min(openmp_max_threads(), openmp_processors())
    return max(min(n, quota) if quota > 0 else n, 1)


cdef int team_size(double work, double share) noexcept nogil:
    """Return the threads for `work`, each with at least `share` of it; small work never asks how many there are."""
    share /= eagerness
    if work < 2 * share:
        return 1
    return <int> min(work / share, <double> threads_in_force())


cdef void refuse(int threads) noexcept with gil:
    """Use one thread from now on, until set_num_threads() is called."""
    global refused
    refused = True
    warn(f"{threads - 1} more threads cannot be started, so one thread is used: the limit of processes or of memory is "
         "reached. set_num_threads() tries again.", RuntimeWarning)


cdef void run(Core core, const void* args, int threads) noexcept nogil:
    global ready
    if threads > 1 and threads != ready and not can_start(threads - ready, threads):
        refuse(threads)
        threads = 1
    if threads == 1:
        core(args, 0, 1)
    else:
        ready = threads
        openmp_team(core, args, threads)


cdef char* workspace(Py_ssize_t size) except? NULL:
    """Return memory aligned to 64 bytes, or NULL without an error for a size of 0."""
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
    """Return (in force, set for the thread, for the process, OpenMP's maximum, processors, lost in a fork, refused)."""
    return threads_in_force(), local, chosen, openmp_max_threads(), openmp_processors(), orphan, refused


def choose(int n):
    global chosen, refused
    chosen, refused = n, False


def choose_local(int n):
    global local
    local = n


def set_quota(int n):
    global quota
    quota = n


def set_eagerness(double factor):
    global eagerness
    eagerness = factor


def openmp_version():
    return OPENMP


cdef void before_fork() noexcept nogil:
    global lost, ready
    lost = ready > 1 and not openmp_dismiss()
    if not lost:
        ready = 1


cdef void in_child() noexcept nogil:
    global orphan
    orphan = orphan or lost


if at_fork(before_fork, in_child):
    raise MemoryError
