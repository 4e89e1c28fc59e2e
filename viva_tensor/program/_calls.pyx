"""Calls of cores, as eager kernels make them, with their arguments in memory: what planned instructions become."""

cimport cython
from libc.stdint cimport int64_t, uint64_t, uintptr_t
from libc.string cimport memcpy

from viva_tensor.kernels._along import RULES
from viva_tensor.kernels._elementwise import FORMULAS, ROW_FORMULAS

from viva_tensor.kernels._dispatch cimport double_cores, float_cores
from viva_tensor.kernels._matmul cimport path_name, plan_batch
from viva_tensor.kernels._updates cimport Rule
from viva_tensor.kernels.cores cimport (
    AlongArgs,
    AlongRule,
    BagArgs,
    BatchArgs,
    ClipArgs,
    Core,
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
)
from viva_tensor.kernels.fences cimport fence

DEPTH_BLOCK = float_cores.depth_block


@cython.auto_pickle(False)
cdef class Address:
    """The address of an array that lives as long as the calls that use it."""

    def __cinit__(self, uintptr_t at):
        self.at = at


@cython.auto_pickle(False)
cdef class InputOffset:
    """The offset of an array within an input or a returned array, whose address is another in each run."""

    def __cinit__(self, int slot, Py_ssize_t offset):
        self.slot, self.offset = slot, offset


cdef class Calls:
    """Calls for one dtype and one shape of each input, in order.

    The last `returned` of the arrays that a run is given are written, the others are inputs.
    """

    def __cinit__(self, str dtype, threads, allowed, tuple inputs, guard, Rule rule, int returned=0):
        self.letter = ord(dtype)
        self.cores = float_cores if dtype == "f" else double_cores
        self.size = 4 if dtype == "f" else 8
        self.inputs, self.input_count = inputs, len(inputs)
        self.read_only = self.input_count - returned
        self.held = [rule]
        self.rule = NULL if rule is None else &rule.values
        self.reserve(64)

    cdef void* memory(self, Py_ssize_t size) except NULL:
        """Return zeroed memory that lives as long as the calls, aligned to 64 bytes."""
        cdef bytearray raw = bytearray(size + 64)
        cdef char* memory = <char*> ((<uintptr_t> <char*> raw + 63) // 64 * 64)
        self.held.append(raw)
        fence(memory + size, 64 - (memory - <char*> raw))
        return memory

    cdef int reserve(self, Py_ssize_t capacity) except -1:
        """Make the arrays large enough for so many calls."""
        cdef Call* made = <Call*> self.memory(capacity * sizeof(Call))
        cdef Patch* patches = <Patch*> self.memory(8 * capacity * sizeof(Patch))
        if self.capacity:
            memcpy(made, self.made, self.count * sizeof(Call))
            memcpy(patches, self.patches, self.patch_count * sizeof(Patch))
        self.made, self.patches, self.capacity = made, patches, capacity
        return 0

    cdef int add(self, Core core, void* args, tuple team) except -1:
        cdef Call* call
        if self.count + 2 >= self.capacity:
            self.reserve(2 * self.capacity)
        call = self.made + self.count
        call.core, call.args = core, args
        call.first, call.threads, call.barrier = team
        self.count += 1
        return 0

    cdef int read(self, const void** field, object where) except -1:
        """Set where a core reads; within an array that a run is given, each run sets it again."""
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
        """Set where a core writes: never in an input."""
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
