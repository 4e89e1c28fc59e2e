"""Teams of threads: how many threads a call gets, one region around one core, and their scratch memory.

GCC's runtime keeps a team for each thread that opened a region. It ends the process if a thread of a team cannot be
started, so whether they can is tried before; and a child forked from a thread with a team would wait for threads that
are not there, so the team is dismissed before.
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
    VIVA_OF_THREAD viva_own_threads = 0;
    VIVA_OF_THREAD viva_ready = 1;
    VIVA_OF_THREAD viva_lost = 0;
    VIVA_OF_THREAD viva_orphan = 0;
    """
    # Each is of the calling thread.
    int own "viva_own_threads"      # what num_threads() asked for; 0: nothing
    int ready "viva_ready"          # threads of its last team, which are kept for the next one
    bint lost "viva_lost"           # its team could not be dismissed before a fork
    bint orphan "viva_orphan"       # it was forked with such a team

cdef extern from "Python.h" nogil:
    const Py_ssize_t PY_SSIZE_T_MAX

cdef int chosen = 0     # what set_num_threads() asked for; 0: nothing
cdef int quota = 0      # processors that the control group grants; 0: no limit
cdef double eagerness = 1   # thresholds are divided by it; only the script that measures them changes it
cdef bint refused = False   # threads could not be started


cdef int default_threads() noexcept nogil:
    cdef int n = min(openmp_max_threads(), openmp_processors())
    if quota > 0:
        n = min(n, quota)
    return max(n, 1)


cdef int threads_in_force() noexcept nogil:
    if orphan or refused or OPENMP == 0:
        return 1
    if own > 0:
        return own
    if chosen > 0:
        return chosen
    return default_threads()


cdef int team_size(double work, double share) noexcept nogil:
    """Threads for `work`, so that each has at least `share` of it; small work never asks how many threads there are."""
    share /= eagerness
    if work < 2 * share:
        return 1
    return <int> min(work / share, <double> threads_in_force())


cdef void refuse(int threads) noexcept with gil:
    """From now on one thread, until set_num_threads() is called."""
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
    """(in force, asked on this thread, for the process, OpenMP's maximum, processors, team lost in a fork, refused)"""
    return threads_in_force(), own, chosen, openmp_max_threads(), openmp_processors(), orphan, refused


def choose(int n):
    global chosen, refused
    chosen, refused = n, False


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
