"""An executor of planned instructions in one parallel region, with the same cores as eager calls."""

import os
import threading
from time import perf_counter
from weakref import WeakValueDictionary

import numpy

cimport cython
from cpython.buffer cimport PyBUF_FORMAT, PyBUF_ND, PyBUF_C_CONTIGUOUS, PyBuffer_Release, PyObject_GetBuffer
from cpython.exc cimport PyErr_CheckSignals
from cpython.pythread cimport (
    NOWAIT_LOCK,
    PY_LOCK_ACQUIRED,
    PyLockStatus,
    PyThread_acquire_lock,
    PyThread_allocate_lock,
    PyThread_free_lock,
    PyThread_release_lock,
    PyThread_type_lock,
)
from libc.stdint cimport int64_t, uint64_t, uintptr_t
from libc.string cimport memcpy

from viva_tensor.kernels._along import RULES
from viva_tensor.kernels._elementwise import FORMULAS, ROW_FORMULAS

from viva_tensor.kernels._dispatch cimport double_cores, float_cores
from viva_tensor.kernels._matmul cimport path_name, plan_batch
from viva_tensor.kernels._team cimport Pace, run as run_team, run_phases, threads_in_force
from viva_tensor.kernels._updates cimport Rule, next_step
from viva_tensor.kernels.cores cimport (
    AlongArgs,
    AlongRule,
    BagArgs,
    BatchArgs,
    ClipArgs,
    Core,
    Cores,
    DropoutArgs,
    MatmulArgs,
    Matrix,
    PairArgs,
    PanelArgs,
    SquaredErrorArgs,
    SquaredNormArgs,
    SumArgs,
    TakeArgs,
    UpdateArgs,
    UpdateRule,
)
from viva_tensor.kernels.fences cimport fence

cdef extern from "Python.h" nogil:
    PyLockStatus PyThread_acquire_lock_timed(PyThread_type_lock lock, long long microseconds, int interruptible)
    unsigned long PyThread_get_thread_ident()

cdef extern from "clock.h" nogil:
    double seconds_now "viva_seconds" ()

cdef object NDARRAY = numpy.ndarray

cdef enum:
    MOST_INPUTS = 16
    CHECK_FLOPS = 20_000_000    # work between two looks at the clock

cdef double CHECK_SECONDS = 0.02    # for which batches run before control returns to Python

DEPTH_BLOCK = float_cores.depth_block
INPUTS_AT_MOST = MOST_INPUTS


cdef struct Instruction:
    Core core
    void* args
    int first       # thread
    int threads
    bint barrier    # before it


cdef struct Patch:      # an address within an input
    const void** field
    int slot
    Py_ssize_t offset


cdef struct Gather:     # target[i] = source[order[i]], rows of `bytes`
    const char* source
    char* target
    const int64_t* order
    Py_ssize_t rows, bytes


cdef struct Program:
    Instruction* instructions
    Py_ssize_t* phases  # of each phase the first instruction, and at last how many there are
    Py_ssize_t first, last  # instructions of the region, of the phases from `phase` on
    int phase
    Gather* gathers
    int gather_count    # 0: the inputs are read in place


cdef void gather(const Gather* args, int thread, int threads) noexcept nogil:
    cdef Py_ssize_t i, end = args.rows * (thread + 1) // threads
    for i in range(args.rows * thread // threads, end):
        memcpy(args.target + i * args.bytes, args.source + args.order[i] * args.bytes, args.bytes)


cdef void execute(const void* packed, int phase, int lane, int lanes) noexcept nogil:
    """Do a lane of a phase: the batch is gathered, or the instructions are run up to the next barrier."""
    cdef Program* program = <Program*> packed
    cdef Instruction* instruction
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
        instruction = program.instructions + i
        first = min(instruction.first, lanes - 1)
        team = min(instruction.threads, lanes)
        if first <= lane < first + team:
            instruction.core(instruction.args, lane - first, team)


cdef class Guard:
    """A lock for the state of a program, which costs next to nothing while no other thread holds it.

    Its owner may acquire it again, as a signal handler does that asks for the state. Waiting can be interrupted. A fork
    waits for all guards, so that the child finds no step half made and no lock held.
    """

    cdef object __weakref__
    cdef PyThread_type_lock lock
    cdef unsigned long owner
    cdef int depth

    def __cinit__(self):
        self.lock = PyThread_allocate_lock()
        if self.lock == NULL:
            raise MemoryError
        _guards[id(self)] = self

    def __dealloc__(self):
        if self.lock != NULL:
            PyThread_free_lock(self.lock)

    cdef int acquire(self) except -1:
        cdef unsigned long me = PyThread_get_thread_ident()
        cdef PyLockStatus got
        if self.depth == 0 or self.owner != me:
            if not PyThread_acquire_lock(self.lock, NOWAIT_LOCK):
                while True:
                    with nogil:
                        got = PyThread_acquire_lock_timed(self.lock, -1, 1)
                    if got == PY_LOCK_ACQUIRED:
                        break
                    PyErr_CheckSignals()
            self.owner = me
        self.depth += 1
        return 0

    cdef void release(self) noexcept:
        self.depth -= 1
        if self.depth == 0:
            PyThread_release_lock(self.lock)

    def __enter__(self):
        self.acquire()

    def __exit__(self, *_):
        self.release()


_guards = WeakValueDictionary()
_forking = threading.Lock()     # else two threads that fork, with half of the guards each, would block each other
cdef list _held = []


def _before_fork():
    cdef Guard guard
    _forking.acquire()
    for reference in _guards.valuerefs():
        guard = reference()
        if guard is not None:
            guard.acquire()
            _held.append(guard)


def _after_fork():
    cdef Guard guard
    for guard in _held:
        guard.release()
    _held.clear()
    _forking.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)


@cython.auto_pickle(False)
@cython.final
cdef class Address:
    """The address of an array that lives as long as the executor."""

    cdef readonly uintptr_t at

    def __cinit__(self, uintptr_t at):
        self.at = at


@cython.auto_pickle(False)
@cython.final
cdef class InputOffset:
    """The offset of an array within an input or a returned array, whose address is another in each call."""

    cdef readonly int slot
    cdef readonly Py_ssize_t offset     # in bytes

    def __cinit__(self, int slot, Py_ssize_t offset):
        self.slot, self.offset = slot, offset


cdef class Executor:
    """Instructions for one dtype, one shape of each input, and one number of threads.

    The last `returned` of the arrays of a call are written, the others are inputs.
    """

    cdef Program program
    cdef const Cores* cores
    cdef list held
    cdef Patch* patches
    cdef UpdateRule* rule
    cdef Py_ssize_t size, count, patch_count, capacity
    cdef int threads, allowed, input_count, read_only
    cdef char letter
    cdef readonly tuple inputs
    cdef const void* output
    cdef Pace* pace
    cdef Guard guard
    cdef Py_ssize_t* dims       # of each input: the number of axes, and their sizes

    def __cinit__(self, str dtype, int threads, int allowed, tuple inputs, Guard guard, Rule rule, int returned=0):
        self.letter = ord(dtype)
        self.cores = float_cores if dtype == "f" else double_cores
        self.size = 4 if dtype == "f" else 8
        self.threads, self.allowed, self.inputs, self.input_count = threads, allowed, inputs, len(inputs)
        self.read_only = self.input_count - returned
        if self.input_count > MOST_INPUTS:
            raise ValueError
        self.held = [rule]
        self.rule = NULL if rule is None else &rule.values
        self.guard = guard
        self.dims = <Py_ssize_t*> self.memory(sum([1 + len(shape) for shape in inputs]) * sizeof(Py_ssize_t))
        dims = self.dims
        for shape in inputs:
            dims[0] = len(shape)
            for i, size in enumerate(shape):
                dims[1 + i] = size
            dims += 1 + dims[0]
        self.pace = <Pace*> self.memory(sizeof(Pace))
        self.program.gathers = <Gather*> self.memory(max(1, self.input_count) * sizeof(Gather))
        self.reserve(64)

    cdef void* memory(self, Py_ssize_t size) except NULL:
        """Return zeroed memory that lives as long as the executor, aligned to 64 bytes."""
        cdef bytearray raw = bytearray(size + 64)
        cdef char* memory = <char*> ((<uintptr_t> <char*> raw + 63) // 64 * 64)
        self.held.append(raw)
        fence(memory + size, 64 - (memory - <char*> raw))
        return memory

    cdef int reserve(self, Py_ssize_t capacity) except -1:
        """Make the arrays large enough for so many instructions."""
        cdef Instruction* instructions = <Instruction*> self.memory(capacity * sizeof(Instruction))
        cdef Patch* patches = <Patch*> self.memory(8 * capacity * sizeof(Patch))
        if self.capacity:
            memcpy(instructions, self.program.instructions, self.count * sizeof(Instruction))
            memcpy(patches, self.patches, self.patch_count * sizeof(Patch))
        self.program.instructions, self.patches, self.capacity = instructions, patches, capacity
        return 0

    cdef int add(self, Core core, void* args, tuple team) except -1:
        cdef Instruction* instruction
        if self.count + 2 >= self.capacity:
            self.reserve(2 * self.capacity)
        instruction = self.program.instructions + self.count
        instruction.core, instruction.args = core, args
        instruction.first, instruction.threads, instruction.barrier = team
        self.count += 1
        return 0

    cdef int read(self, const void** field, object where) except -1:
        """Set where an instruction reads; within an array of a call, each call sets it again."""
        if isinstance(where, Address):
            field[0] = <const void*> (<Address> where).at
            return 0
        cdef InputOffset within = <InputOffset?> where
        self.patches[self.patch_count].field = field
        self.patches[self.patch_count].slot = within.slot
        self.patches[self.patch_count].offset = within.offset
        self.patch_count += 1
        return 0

    cdef int write(self, void** field, object where) except -1:
        """Set where an instruction writes: never in an input."""
        if isinstance(where, InputOffset) and (<InputOffset> where).slot < self.read_only:
            raise TypeError("an input, wanted an Address or the InputOffset of a returned array")
        return self.read(<const void**> field, where)

    cdef int read_matrix(self, Matrix* matrix, tuple where) except -1:
        if where is not None:
            self.read(<const void**> &matrix.data, where[0])
            matrix.row, matrix.column, matrix.down, matrix.across = where[1:]
        return 0

    cdef int write_matrix(self, Matrix* matrix, tuple where) except -1:
        self.write(&matrix.data, where[0])
        matrix.row, matrix.column, matrix.down, matrix.across = where[1:]
        return 0

    def keep(self, item):
        """Keep an object alive that addresses point into."""
        self.held.append(item)

    cdef UpdateArgs* update_args(self, tuple update) except NULL:
        """Return the arguments of an optimiser's step (scale, penalty, w, size, addresses of moments, two factors)."""
        cdef UpdateArgs* args = <UpdateArgs*> self.memory(sizeof(UpdateArgs))
        scale, penalty, w, args.size, first, second, (args.rate_factor, args.decay_factor) = update
        args.rule = self.rule
        self.write(&args.new_w, w)
        args.w = args.new_w
        args.first = args.new_first = <void*> <uintptr_t> first
        args.second = args.new_second = <void*> <uintptr_t> second
        if scale is not None:
            self.read(&args.scale, scale)
        if penalty is not None:
            self.read(&args.penalty, penalty)
        return args

    def matmul(self, sizes, a, b, out, bias, bint relu, mask, tuple update, bint padded, bint by_rows, tuple team):
        """Add out = a · b with what is fused; with an `update`, out is only a buffer for sums. Return the path."""
        cdef MatmulArgs* args = <MatmulArgs*> self.memory(sizeof(MatmulArgs))
        args.rows, args.columns, args.depth = sizes
        args.a.row, args.a.column, args.a.down, args.a.across = a[1:]
        args.b.row, args.b.column, args.b.down, args.b.across = b[1:]
        self.write_matrix(&args.out, out)
        self.read_matrix(&args.bias, bias)
        self.read_matrix(&args.mask, mask)
        args.has_bias, args.relu, args.has_mask = bias is not None, relu, mask is not None
        args.padded, args.by_rows = padded, by_rows
        if update is not None:
            args.update = self.update_args(update)
        self.cores.matmul_plan(args, team[1])
        if args.swapped:
            a, b = b, a
        self.read(<const void**> &args.a.data, a[0])
        self.read(<const void**> &args.b.data, b[0])
        if args.rows and args.columns:
            self.add(self.cores.matmul, args, team)
        return path_name(args)

    def batch_matmul(self, sizes, a, b, out, const int64_t[::1] a_offsets, const int64_t[::1] b_offsets, tuple team):
        """Add products of one shape, whose operands lie at offsets from the first, and their results side by side."""
        cdef BatchArgs* args = <BatchArgs*> self.memory(sizeof(BatchArgs))
        cdef Py_ssize_t* offsets
        args.each.rows, args.each.columns, args.each.depth = sizes
        args.count = a_offsets.shape[0]
        offsets = <Py_ssize_t*> self.memory(2 * args.count * sizeof(Py_ssize_t))
        for i in range(args.count):
            offsets[i], offsets[args.count + i] = a_offsets[i], b_offsets[i]
        args.a, args.b, args.out = offsets, offsets + args.count, args.each.rows * args.each.columns
        args.each.a.row, args.each.a.column = a[1:3]
        args.each.b.row, args.each.b.column = b[1:3]
        self.write(&args.each.out.data, out)
        args.each.out.row, args.each.out.column = args.each.columns, 1
        plan_batch(self.cores, args, team[1])
        if args.each.swapped:
            a, b = b, a
        self.read(<const void**> &args.each.a.data, a[0])
        self.read(<const void**> &args.each.b.data, b[0])
        self.add(self.cores.matmul_batch, args, team)
        return path_name(&args.each)

    def pairs(self, str name, shape, a, b, out, double factor, bint by_rows, tuple team):
        """Add a formula of each pair of elements, or of rows."""
        cdef PairArgs* args = <PairArgs*> self.memory(sizeof(PairArgs))
        args.rows, args.columns = shape
        args.factor, args.by_rows = factor, by_rows
        self.read_matrix(&args.a, a)
        self.read_matrix(&args.b, b)
        self.write_matrix(&args.out, out)
        if name in FORMULAS:
            args.formula = FORMULAS[name]
            self.add(self.cores.pair, args, team)
        else:
            args.formula = ROW_FORMULAS[name]
            self.add(self.cores.pair_rows, args, team)

    def sum(self, sizes, x, out, double divisor, tuple update, tuple team):
        """Add sums over the second of three axes of a contiguous x, written to `out` or used by an `update`."""
        cdef SumArgs* args = <SumArgs*> self.memory(sizeof(SumArgs))
        args.outer, args.axis, args.inner = sizes
        if args.outer == 0 or args.inner == 0:
            return
        args.x_outer, args.x_axis, args.x_inner = args.axis * args.inner, args.inner, 1
        args.out.row, args.out.column, args.divisor = args.inner, 1, divisor
        self.read(&args.x, x)
        if update is not None:
            args.update = self.update_args(update)
        else:
            self.write(&args.out.data, out)
        chunks = self.cores.sum_chunks(args.axis)
        if args.inner == 1 and chunks > 1:
            args.partials = self.memory(args.outer * chunks * self.size)
        self.add(self.cores.sum, args, team)
        if args.partials != NULL:
            self.add(self.cores.sum_join, args, (0, 1, True) if team[1] > 1 else (team[0], 1, False))

    def along(self, str rule, sizes, tuple starts, x, out, tuple team):
        """Add what reduces a contiguous x along the second of three axes, or adds it up from each start on."""
        cdef AlongArgs* args = <AlongArgs*> self.memory(sizeof(AlongArgs))
        cdef Py_ssize_t* positions = NULL
        cdef Py_ssize_t i
        args.runs = len(starts)
        if args.runs:
            positions = <Py_ssize_t*> self.memory(args.runs * sizeof(Py_ssize_t))
        for i in range(args.runs):
            positions[i] = starts[i]
        args.starts = positions
        args.rule = <AlongRule> <int> RULES[rule]
        args.outer, args.axis, args.inner = sizes
        self.read(&args.x, x)
        self.write(<void**> &args.out, out)
        self.add(self.cores.along, args, team)

    def take(self, sizes, Py_ssize_t rows, x, indices, out, bint backward, tuple team):
        """Add what takes elements of an axis by their indices, or sums what was taken."""
        cdef TakeArgs* args = <TakeArgs*> self.memory(sizeof(TakeArgs))
        args.outer, args.size, args.count, args.inner = sizes
        args.rows = rows
        self.read(&args.x, x)
        self.read(&args.indices, indices)
        self.write(<void**> &args.out, out)
        self.add(self.cores.take_backward if backward else self.cores.take, args, team)

    def embedding_bag(self, sizes, x, indices, weights, out, bint backward, tuple team):
        """Add what sums rows of a table, weighted, by their indices, or what lands on each row of the table."""
        cdef BagArgs* args = <BagArgs*> self.memory(sizeof(BagArgs))
        args.rows, args.entries, args.size, args.columns = sizes
        self.read(&args.x, x)
        self.read(&args.indices, indices)
        self.read(&args.weights, weights)
        self.write(<void**> &args.out, out)
        self.add(self.cores.embedding_bag_backward if backward else self.cores.embedding_bag, args, team)

    def dropout(self, shape, x, out, double rate, uintptr_t factor, uintptr_t seed, tuple team):
        """Add a dropout by a seed, and a factor of its rate, that may change between steps."""
        cdef DropoutArgs* args = <DropoutArgs*> self.memory(sizeof(DropoutArgs))
        args.rows, args.columns = shape
        args.rate, args.factor, args.seed = rate, <const double*> factor, <const uint64_t*> seed
        self.read(&args.x, x)
        self.write(<void**> &args.out, out)
        self.add(self.cores.dropout, args, team)

    def to_panels(self, shape, x, out, tuple team):
        """Add the copy of a matrix into panels."""
        cdef PanelArgs* args = <PanelArgs*> self.memory(sizeof(PanelArgs))
        args.rows, args.columns = shape
        self.read_matrix(&args.source, x)
        self.write(<void**> &args.out, out)
        if args.source.down == 0:
            args.source.down = self.cores.tile_columns * args.source.row
        if args.source.across == 0:
            args.source.across = self.cores.tile_columns * args.source.column
        self.add(self.cores.to_panels, args, team)

    def squared_error(self, Py_ssize_t rows, Py_ssize_t size, a, b, loss, out, grad, tuple team):
        """Add the mean squared error of contiguous arrays, its gradient, or both."""
        cdef SquaredErrorArgs* args = <SquaredErrorArgs*> self.memory(sizeof(SquaredErrorArgs))
        cdef SumArgs* join = <SumArgs*> self.memory(sizeof(SumArgs))
        args.rows, args.size = rows, size
        self.read(&args.a, a)
        self.read(&args.b, b)
        if out is not None:
            self.write(<void**> &args.out, out)
            self.read(&args.grad, grad)
        cdef Py_ssize_t chunks = self.cores.sum_chunks(size)
        cdef int threads = team[1]
        if loss is not None:
            self.write(<void**> &args.loss, loss)
            args.partials = self.memory(chunks * self.size)
            join.partials, join.outer, join.axis, join.inner, join.divisor = args.partials, 1, size, 1, size
            join.out.row = join.out.column = 1
            self.write(&join.out.data, loss)
            threads = <int> min(threads, chunks)
        self.add(self.cores.squared_error, args, (team[0], threads, team[2]))
        if loss is not None and chunks > 1:
            self.add(self.cores.sum_join, join, (0, 1, True) if threads > 1 else (team[0], 1, False))

    def squared_norm(self, Py_ssize_t size, x, out, tuple team):
        """Add the partial sums, one for each chunk, of the squared norm of a contiguous x."""
        cdef SquaredNormArgs* args = <SquaredNormArgs*> self.memory(sizeof(SquaredNormArgs))
        args.size = size
        self.read(&args.x, x)
        self.write(<void**> &args.partials, out)
        self.add(self.cores.squared_norm, args, team)

    def clip(self, partials, tuple chunks, double max_norm, out, tuple team):
        """Add the factor that scales arrays down to a norm, from the partial sums of each."""
        cdef ClipArgs* args = <ClipArgs*> self.memory(sizeof(ClipArgs))
        cdef const void** addresses = <const void**> self.memory(len(chunks) * sizeof(void*))
        cdef Py_ssize_t* counts = <Py_ssize_t*> self.memory(len(chunks) * sizeof(Py_ssize_t))
        cdef Py_ssize_t i
        args.count, args.max_norm = len(chunks), max_norm
        for i in range(args.count):
            self.read(&addresses[i], partials[i])
            counts[i] = chunks[i]
        args.partials, args.chunks = addresses, counts
        self.write(<void**> &args.out, out)
        self.add(self.cores.clip, args, team)

    def update(self, grad, tuple update, tuple team):
        """Add a step of the optimiser in place."""
        cdef UpdateArgs* args = self.update_args(update)
        self.read(&args.grad, grad)
        self.add(self.cores.update, args, team)

    def finish(self, Address output):
        """Give the products a workspace for each thread, which they use in turn; None: the output is no number here."""
        cdef Py_ssize_t i, most = 0, phases = 0
        cdef MatmulArgs* args
        cdef char* workspace
        self.output = NULL if output is None else <const void*> output.at
        for i in range(self.count):
            if self.multiplies(i):
                args = <MatmulArgs*> self.program.instructions[i].args
                most = max(most, args.workspace_bytes)
        self.program.phases = <Py_ssize_t*> self.memory((self.count + 2) * sizeof(Py_ssize_t))
        for i in range(1, self.count):
            if self.program.instructions[i].barrier and self.threads > 1:
                phases += 1
                self.program.phases[phases] = i
        self.program.phases[phases + 1] = self.count
        workspace = <char*> self.memory(most * self.threads + 64)
        for i in range(self.count):
            if self.multiplies(i):
                args = <MatmulArgs*> self.program.instructions[i].args
                args.workspace, args.workspace_bytes = workspace + self.program.instructions[i].first * most, most

    cdef bint multiplies(self, Py_ssize_t i) noexcept nogil:
        """Return whether the arguments of an instruction begin with those of a product."""
        cdef Core core = self.program.instructions[i].core
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

    cdef int phase_of(self, Py_ssize_t instruction) noexcept nogil:
        """Find the phase of an instruction, which there must be."""
        cdef int phase = 0
        while self.program.phases[phase + 1] <= instruction:
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
        """Return the best time in seconds of each instruction in a region of its own, over some steps."""
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
                        run_team(self.program.instructions[i].core, self.program.instructions[i].args,
                                 self.program.instructions[i].threads)
                    best[i] = min(best[i], perf_counter() - start)
        finally:
            for i in range(got):
                PyBuffer_Release(&views[i])
        return best

    def calls(self):
        return self.count

    def barriers(self):
        cdef Py_ssize_t i
        return sum([self.program.instructions[i].barrier for i in range(self.count)])


def put(const int64_t[:, ::1] copies, Rule rule, Py_ssize_t steps):
    """Copy memory (from, to, bytes) and set the number of steps, without a moment at which Ctrl-C could interrupt."""
    cdef Py_ssize_t i
    for i in range(copies.shape[0]):
        memcpy(<void*> <uintptr_t> copies[i, 1], <const void*> <uintptr_t> copies[i, 0], copies[i, 2])
    rule.values.steps = steps
