from viva_tensor.kernels.cores cimport Core

# The work that is worth a thread, so a second thread starts at twice as much. There it gains a third where the threads
# are awake, and those that sleep are not woken for so little. `python asv_benchmarks/thresholds.py` measures it anew.
cdef enum:
    MULTIPLY_ADDS = 250_000
    ELEMENTS = 65_536
    BRIEF = 16_384      # of either: done before another Python thread could take the GIL

# the work of one lane of a phase; see team.h
ctypedef void (*Work)(const void* args, int phase, int lane, int lanes) noexcept nogil

cdef extern from "pace.h" nogil:
    ctypedef struct Pace "viva_pace":
        pass

cdef void run_phases(Work work, const void* args, int phases, int lanes, double seconds, Pace* pace) noexcept nogil
cdef int threads_in_force() noexcept nogil
cdef int team_size(double work, double share) noexcept nogil
cdef void run(Core core, const void* args, int threads, double seconds=*) noexcept nogil
cdef char* workspace(Py_ssize_t size) except? NULL
cdef void release(char* memory) noexcept nogil


cdef inline void call(Core core, const void* args, int threads, double work, double seconds) noexcept:
    """Run a core on a team for its work, without the GIL unless releasing it costs more than the work.

    It is expected to take one thread so many seconds (0: unknown).
    """
    if threads == 1 and work < BRIEF:
        core(args, 0, 1)
    else:
        with nogil:
            run(core, args, threads, seconds)


cdef inline void call_for_elements(Core core, const void* args, double count) noexcept:
    """Run a core on a team as large as so many elements are worth."""
    call(core, args, team_size(count, ELEMENTS), count, 0)
