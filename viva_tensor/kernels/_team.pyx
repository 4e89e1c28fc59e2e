"""Teams of threads: the size of a call's team, the region around a core, and scratch memory.

Each Python thread that needs one has a team of its own (``teams/team.h``), which ends with it; a forked child starts
another. OpenMP says how many threads there may be, and runs the teams where there are no POSIX threads.
"""

from warnings import warn

from libc.stdint cimport uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from viva_tensor.kernels.cores cimport Core
from viva_tensor.kernels.fences cimport fence
from viva_tensor.kernels.openmp cimport OPENMP, openmp_max_threads, openmp_processors

cdef extern from "team.h" nogil:
    bint prepare_teams "viva_prepare_teams" ()
    bint team_run "viva_run_team" (Work work, const void* args, int phases, int lanes, int most,
                                   double seconds, Pace* pace)
    void run_alone "viva_run_alone" (Work work, const void* args, int phases, int lanes)
    int taking_part "viva_taking_part" (const Pace* pace, int lanes)
    void keep_pace "viva_keep_pace" (Pace* pace, int lanes, double begin, double now)

cdef extern from * nogil:
    """
    #if defined(_MSC_VER)
    #define VIVA_OF_THREAD static __declspec(thread) int
    #else
    #define VIVA_OF_THREAD static _Thread_local int
    #endif
    VIVA_OF_THREAD viva_local_threads = 0;
    """
    int local "viva_local_threads"  # the number that num_threads() set on the calling thread; 0: none

cdef extern from "Python.h" nogil:
    const Py_ssize_t PY_SSIZE_T_MAX

cdef int chosen = 0     # the number that set_num_threads() set; 0: none
cdef int quota = 0      # processors that the control group grants; 0: no limit
cdef double eagerness = 1   # divides thresholds; only the script that measures them changes it
cdef bint refused = False   # threads could not be started


cdef int threads_in_force() noexcept nogil:
    cdef int n
    if refused or OPENMP == 0:
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


cdef void run_phases(Work work, const void* args, int phases, int lanes, double seconds, Pace* pace) noexcept nogil:
    """Do all lanes of each phase, then those of the next, on a team if there is more than one lane.

    Of its threads no more take part than processors are granted: the time of more would be used up early, and all
    would stand still for the rest of a period.
    """
    if lanes > 1:
        if team_run(work, args, phases, lanes, min(lanes, quota) if quota > 0 else lanes, seconds, pace):
            return
        refuse(lanes)
    run_alone(work, args, phases, lanes)


cdef struct Call:
    Core core
    const void* args


cdef void call_core(const void* packed, int phase, int lane, int lanes) noexcept nogil:
    cdef const Call* call = <const Call*> packed
    call.core(call.args, lane, lanes)


cdef void run(Core core, const void* args, int threads, double seconds=0) noexcept nogil:
    """Call a core on a team; it is expected to take so many seconds of one thread's time (0: unknown)."""
    cdef Call call
    if threads == 1:
        core(args, 0, 1)
        return
    call.core, call.args = core, args
    run_phases(call_core, &call, 1, threads, seconds, NULL)


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
    """Return (in force, set for the thread, for the process, OpenMP's maximum, processors, refused)."""
    return threads_in_force(), local, chosen, openmp_max_threads(), openmp_processors(), refused


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


def paced(int lanes, seconds, Py_ssize_t regions):
    """Return the threads that take part in each region, one after another, if with t threads it takes seconds(t)."""
    cdef Pace pace
    cdef double now = 1, begin
    cdef int threads
    cdef list taking = []
    memset(&pace, 0, sizeof(Pace))
    for _ in range(regions):
        threads = taking_part(&pace, lanes)
        taking.append(threads)
        begin = now
        now += seconds(threads)
        keep_pace(&pace, lanes, begin, now)
    return taking


def openmp_version():
    return OPENMP


if prepare_teams():
    raise MemoryError
