"""An executor of calls in one parallel region, for a batch or one after another for many."""

from time import perf_counter

import numpy

from cpython.buffer cimport PyBUF_FORMAT, PyBUF_ND, PyBUF_C_CONTIGUOUS, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int64_t, uintptr_t
from libc.string cimport memcpy

from viva_tensor.kernels._team cimport Pace, run as run_team, run_phases, threads_in_force
from viva_tensor.kernels._updates cimport Rule, next_step
from viva_tensor.kernels.cores cimport Core, MatmulArgs
from viva_tensor.program._calls cimport Address, Call, Calls
from viva_tensor.program._guard cimport Guard

cdef extern from "clock.h" nogil:
    double seconds_now "viva_seconds" ()

cdef object NDARRAY = numpy.ndarray

cdef enum:
    MOST_INPUTS = 16
    CHECK_FLOPS = 20_000_000    # work between two looks at the clock

cdef double CHECK_SECONDS = 0.02    # for which batches run before control returns to Python

INPUTS_AT_MOST = MOST_INPUTS


cdef struct Gather:     # target[i] = source[order[i]], rows of `bytes`
    const char* source
    char* target
    const int64_t* order
    Py_ssize_t rows, bytes


cdef struct Program:
    const Call* calls
    Py_ssize_t* phases  # of each phase the first call, and at last how many there are
    Py_ssize_t first, last  # calls of the region, of the phases from `phase` on
    int phase
    Gather* gathers
    int gather_count    # 0: the inputs are read in place


cdef void gather(const Gather* args, int thread, int threads) noexcept nogil:
    cdef Py_ssize_t i, end = args.rows * (thread + 1) // threads
    for i in range(args.rows * thread // threads, end):
        memcpy(args.target + i * args.bytes, args.source + args.order[i] * args.bytes, args.bytes)


cdef void execute(const void* packed, int phase, int lane, int lanes) noexcept nogil:
    """Do a lane of a phase: the batch is gathered, or the calls are made up to the next barrier."""
    cdef Program* program = <Program*> packed
    cdef const Call* call
    cdef Py_ssize_t i, begin, end
    cdef int first, team
    if program.gather_count:
        if phase == 0:
            for i in range(program.gather_count):
                gather(&program.gathers[i], lane, lanes)
            return
        phase -= 1
    begin = max(program.phases[program.phase + phase], program.first)
    end = min(program.phases[program.phase + phase + 1], program.last)
    for i in range(begin, end):
        call = program.calls + i
        first = min(call.first, lanes - 1)
        team = min(call.threads, lanes)
        if first <= lane < first + team:
            call.core(call.args, lane - first, team)


cdef class Executor(Calls):
    """Calls for one number of threads, and what runs them."""

    cdef Program program
    cdef int threads, allowed
    cdef const void* output
    cdef Pace* pace
    cdef Guard guard
    cdef Py_ssize_t* dims       # of each input: the number of axes, and their sizes

    def __cinit__(self, str dtype, int threads, int allowed, tuple inputs, Guard guard, Rule rule, int returned=0):
        self.threads, self.allowed, self.guard = threads, allowed, guard
        if self.input_count > MOST_INPUTS:
            raise ValueError
        self.dims = <Py_ssize_t*> self.memory(sum([1 + len(shape) for shape in inputs]) * sizeof(Py_ssize_t))
        dims = self.dims
        for shape in inputs:
            dims[0] = len(shape)
            for i, size in enumerate(shape):
                dims[1 + i] = size
            dims += 1 + dims[0]
        self.pace = <Pace*> self.memory(sizeof(Pace))
        self.program.gathers = <Gather*> self.memory(max(1, self.input_count) * sizeof(Gather))

    def finish(self, Address output):
        """Give the products a workspace for each thread, which they use in turn; None: the output is no number here."""
        cdef Py_ssize_t i, most = 0, phases = 0
        cdef MatmulArgs* args
        cdef char* workspace
        self.program.calls = self.made
        self.output = NULL
        if output is not None:
            self.output = <const void*> output.at
        for i in range(self.count):
            if self.multiplies(i):
                args = <MatmulArgs*> self.made[i].args
                most = max(most, args.workspace_bytes)
        self.program.phases = <Py_ssize_t*> self.memory((self.count + 2) * sizeof(Py_ssize_t))
        for i in range(1, self.count):
            if self.made[i].barrier and self.threads > 1:
                phases += 1
                self.program.phases[phases] = i
        self.program.phases[phases + 1] = self.count
        workspace = <char*> self.memory(most * self.threads + 64)
        for i in range(self.count):
            if self.multiplies(i):
                args = <MatmulArgs*> self.made[i].args
                args.workspace, args.workspace_bytes = workspace + self.made[i].first * most, most

    cdef bint multiplies(self, Py_ssize_t i) noexcept nogil:
        """Return whether the arguments of a call begin with those of a product."""
        cdef Core core = self.made[i].core
        return core == self.cores.matmul or core == self.cores.matmul_batch

    cdef void step(self, const void** data, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
        cdef Py_ssize_t i
        cdef Program part = self.program
        for i in range(self.patch_count):
            self.patches[i].field[0] = <const char*> data[self.patches[i].slot] + self.patches[i].offset
        if self.rule != NULL and first == 0:
            next_step(self.rule)
        if first == last:
            return
        part.first, part.last, part.phase = first, last, self.phase_of(first)
        run_phases(
            execute, &part, self.phase_of(last - 1) - part.phase + 1 + (part.gather_count > 0), self.threads, 0,
            self.pace if last - first == self.count else NULL,
        )

    cdef int phase_of(self, Py_ssize_t call) noexcept nogil:
        """Find the phase of a call, which there must be."""
        cdef int phase = 0
        while self.program.phases[phase + 1] <= call:
            phase += 1
        return phase

    cdef double scalar(self) noexcept nogil:
        """Return the first element of the output, which is the loss of a step; 0 without elements."""
        if self.output == NULL:
            return 0
        return (<const float*> self.output)[0] if self.size == 4 else (<const double*> self.output)[0]

    def run(self, tuple arrays, bint held=False, Py_ssize_t first=0, Py_ssize_t last=-1):
        """Run once on arrays of the planned shapes, then those to return, holding the guard if any; return the loss.

        Return None if they are not plain arrays of these shapes, or if the number of threads is not the planned one.
        With `held`, the caller holds the guard. With `last`, only the calls from `first` up to `last` are made, with
        any number of threads: parts in order are a step, and the last one returns the loss.
        """
        cdef Py_buffer views[MOST_INPUTS]
        cdef const void* data[MOST_INPUTS]
        cdef const Py_ssize_t* dims = self.dims
        cdef bint guarded = self.guard is not None and not held
        cdef double loss
        cdef int i, got = 0
        if len(arrays) != self.input_count or last < 0 and threads_in_force() != self.allowed:
            return None
        if last < 0:
            last = self.count
        if not 0 <= first <= last <= self.count:
            raise IndexError
        try:
            while got < self.input_count:
                if type(arrays[got]) is not NDARRAY:    # a masked array would lose its mask
                    return None
                PyObject_GetBuffer(arrays[got], &views[got], PyBUF_ND | PyBUF_FORMAT | PyBUF_C_CONTIGUOUS)
                got += 1
                if not self.fits(&views[got - 1], dims):
                    return None
                data[got - 1] = views[got - 1].buf
                dims += 1 + dims[0]
            if guarded:
                self.guard.acquire()
            with nogil:
                self.step(data, first, last)
                loss = self.scalar()
            if guarded:
                self.guard.release()
            return loss
        except (BufferError, ValueError, TypeError):
            return None
        finally:
            for i in range(got):
                PyBuffer_Release(&views[i])

    cdef bint fits(self, const Py_buffer* view, const Py_ssize_t* dims) noexcept:
        cdef int i
        if view.format[0] != self.letter or view.format[1] != 0 or view.ndim != dims[0] \
                or view.len and <uintptr_t> view.buf % self.size:
            return False
        for i in range(view.ndim):
            if view.shape[i] != dims[1 + i]:
                return False
        return True

    def run_batches(self, list arrays, const int64_t[::1] order, Py_ssize_t begin, Py_ssize_t end, Py_ssize_t flops,
                    double total, const double[:, ::1] rates=None):
        """Run once for each whole batch of rows from `begin` to `end`, in an order if there is one, for a short time.

        The rates, if given, are those of each batch: the learning rate and the weight decay come first. Return the sum
        of `total` and the losses, and the row at which to continue. The caller holds the guard, and checks for Ctrl-C
        in between. The arrays are plain, with all the rows that the order names.
        """
        cdef Py_buffer views[MOST_INPUTS]
        cdef const void* data[MOST_INPUTS]
        cdef char* sources[MOST_INPUTS]
        cdef Py_ssize_t strides[MOST_INPUTS]
        cdef Py_ssize_t rows = self.inputs[0][0], at = begin, since = 0, batch = 0
        cdef double start = seconds_now()
        cdef int i, got = 0
        if rates is not None and rates.shape[0] < (end - begin) // rows:
            raise ValueError
        try:
            for i in range(self.input_count):
                PyObject_GetBuffer(arrays[i], &views[i], PyBUF_ND | PyBUF_FORMAT | PyBUF_C_CONTIGUOUS)
                got += 1
                sources[i] = <char*> views[i].buf
                strides[i] = views[i].len // views[i].shape[0]
                if order is not None:
                    if self.program.gathers[i].target == NULL:
                        self.program.gathers[i].target = <char*> self.memory(strides[i] * rows + 64)
                    self.program.gathers[i].source = sources[i]
                    self.program.gathers[i].rows, self.program.gathers[i].bytes = rows, strides[i]
                    data[i] = self.program.gathers[i].target
            self.program.gather_count = 0 if order is None else self.input_count
            with nogil:
                while at + rows <= end:
                    if rates is not None:
                        self.rule.lr, self.rule.decay = rates[batch, 0], rates[batch, 1]
                        batch += 1
                    for i in range(self.input_count):
                        if order is None:
                            data[i] = sources[i] + at * strides[i]
                        else:
                            self.program.gathers[i].order = &order[at]
                    self.step(data, 0, self.count)
                    total += self.scalar()
                    at += rows
                    since += flops + 100
                    if since >= CHECK_FLOPS:
                        since = 0
                        if not 0 <= seconds_now() - start < CHECK_SECONDS:
                            break
        finally:
            self.program.gather_count = 0
            for i in range(got):
                PyBuffer_Release(&views[i])
        return total, at

    def profile(self, tuple arrays, int times):
        """Return the best time in seconds of each call in a region of its own, over some steps."""
        cdef Py_buffer views[MOST_INPUTS]
        cdef Py_ssize_t i
        cdef list best = [float("inf")] * self.count
        cdef int got = 0
        try:
            for i in range(self.input_count):
                PyObject_GetBuffer(arrays[i], &views[i], PyBUF_ND | PyBUF_FORMAT | PyBUF_C_CONTIGUOUS)
                got += 1
            for i in range(self.patch_count):
                self.patches[i].field[0] = <const char*> views[self.patches[i].slot].buf + self.patches[i].offset
            if self.rule != NULL:
                next_step(self.rule)
            for _ in range(times):
                for i in range(self.count):
                    start = perf_counter()
                    with nogil:
                        run_team(self.made[i].core, self.made[i].args, self.made[i].threads)
                    best[i] = min(best[i], perf_counter() - start)
        finally:
            for i in range(got):
                PyBuffer_Release(&views[i])
        return best

    def calls(self):
        return self.count

    def barriers(self):
        cdef Py_ssize_t i
        return sum([self.made[i].barrier for i in range(self.count)])


def put(const int64_t[:, ::1] copies, Rule rule, Py_ssize_t steps):
    """Copy memory (from, to, bytes) and set the number of steps, without a moment at which Ctrl-C could interrupt."""
    cdef Py_ssize_t i
    for i in range(copies.shape[0]):
        memcpy(<void*> <uintptr_t> copies[i, 1], <const void*> <uintptr_t> copies[i, 0], copies[i, 2])
    rule.values.steps = steps
