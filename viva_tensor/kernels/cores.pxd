"""The arguments of cores, and their table.

A core is the work of one thread of a team: ``core(args, thread, threads)`` does the thread's share of one operation. It
allocates nothing and waits for no other thread. Eager calls open a team around one core. ``Cores`` is the table of all
cores for one element type and one instruction set; ``_dispatch`` holds one for float32 and one for float64.

Strides count elements, not bytes.
"""

from libc.math cimport sqrt

from libc.stdint cimport uint64_t

ctypedef void (*Core)(const void* args, int thread, int threads) noexcept nogil


# The order in memory: plain strides, or panels. A matrix in panels of its columns is stored as [panel][row][column]; a
# panel has as many columns as a tile of matmul. Its transpose is a matrix in panels of its rows.
cdef struct Matrix:
    void* data
    Py_ssize_t row      # from one row to the next, within a panel
    Py_ssize_t column   # from one column to the next, within a panel
    Py_ssize_t down     # from one panel of rows to the next; 0: as if it were more rows
    Py_ssize_t across   # from one panel of columns to the next; 0: as if it were more columns


cdef enum UpdateKind:
    DESCENT, ADAM, RMSPROP, LION


cdef struct UpdateRule:     # an optimiser and the number of its step, for all parameters; see updates.pxi
    UpdateKind kind
    bint nesterov
    bint decoupled          # weights decay apart from the gradient
    bint epsilon_hat        # Adam's ε is added to the root before its correction
    double lr, decay, eps
    double momentum         # β₁ of Adam and Lion too
    double square_momentum  # β₂ of Adam and Lion, RMSprop's α
    Py_ssize_t steps        # with the current one; the fields below are for this step
    double rate             # lr, by Adam's correction of the first moment
    double correction       # Adam's, of the root of the second moment
    double epsilon          # what is added to the corrected root


cdef struct UpdateArgs:     # a step of an optimiser on `size` adjacent weights
    const UpdateRule* rule
    Py_ssize_t size
    const void* w
    const void* grad
    const void* scale       # one element, a factor of the gradient; NULL: none
    const void* penalty     # one element, whose multiple of w is added to the gradient; NULL: none
    double rate_factor      # of the rule's rate and decay, for these weights
    double decay_factor
    const void* first       # velocity, or the first moment; NULL: none
    const void* second      # running mean of the squared gradient; NULL: none
    void* new_w             # each may be the array that it replaces
    void* new_first
    void* new_second


cdef struct SquaredNormArgs:    # partials of Σ x², one for each chunk
    Py_ssize_t size
    const void* x
    void* partials


cdef struct ClipArgs:       # out = the factor that scales arrays down to a norm, from partials of their squared norms
    Py_ssize_t count
    const void** partials
    const Py_ssize_t* chunks
    double max_norm
    void* out               # one element


cdef inline double clip_factor(double squared_norm, double max_norm) noexcept nogil:
    """Return the factor that scales down to a norm, by PyTorch's formula. NaN stays NaN."""
    cdef double factor = max_norm / (sqrt(squared_norm) + 1e-6)
    return 1 if factor > 1 else factor


cdef enum Path:             # how a product is computed, as `path_of` in matmul.pxi chooses
    NO_DEPTH                # nothing to sum
    ROW_BY_ROW              # a few multiply-adds
    SHALLOW                 # a depth of a few steps
    DEEP                    # a few outputs over a great depth, a and b read along it
    ROWS_BESIDE             # a few rows, b read along its rows
    ROWS_ACROSS             # a few rows, b read along its columns
    PACKED                  # tiles, as all paths below; a is copied into panels of TILE_ROWS
    ROW_PANELS              # a is in panels of its rows: the transpose of a batch, for the gradient of weights
    COLUMN_PANELS           # a is in panels of its columns: a batch, or its gradients
    STRIDED                 # a is read in place, with any strides


cdef struct MatmulArgs:     # out[rows, columns] = mask(relu(a[rows, depth] · b[depth, columns] + bias[columns]))
    Py_ssize_t rows, columns, depth
    Matrix a, b, out
    bint has_bias, relu, has_mask
    Matrix bias             # row is 0
    Matrix mask             # the result is 0 where it is at most 0
    # NULL: none; else the result is the gradient of weights with the layout of `out`, a buffer for the sums
    const UpdateArgs* update
    bint padded             # matrices in panels, and what follows their columns, reach to the end of the last panel
    bint by_rows            # threads own rows of the output, the same rows for the same number of rows
    bint swapped            # by the plan: these are the arguments of outᵀ = bᵀ · aᵀ, with rows and columns swapped
    Path path               # by the plan
    bint packs_b            # by the plan: panels of b are copied
    char* workspace         # threads × workspace_bytes, aligned to 64
    Py_ssize_t workspace_bytes


cdef struct BatchArgs:      # products of one shape and one plan, and where each of them lies
    MatmulArgs each         # of the first; first of the fields, so that what finds a workspace finds it
    Py_ssize_t count
    int group               # threads of one product
    const Py_ssize_t* a     # offsets of each product's operands from those of the first
    const Py_ssize_t* b
    Py_ssize_t out          # from one output to the next


cdef struct Rectangle:      # a part of an output
    Py_ssize_t top, bottom, left, right


include "formulas.pxi"      # the enums Formula and RowFormula, made by the build


cdef struct PairArgs:       # out[rows, columns] = formula(a, b); a stride of 0 repeats an operand
    int formula
    Py_ssize_t rows, columns
    Matrix a, b, out
    double factor           # a number that the formula takes
    bint by_rows            # threads own rows; if `out` is in panels of its columns, so are a and b


cdef struct DropoutArgs:    # out = x / (1 - rate) where an element is kept, else 0; x and out are contiguous
    Py_ssize_t rows, columns
    const void* x
    void* out
    double rate
    const double* factor    # of the rate
    const uint64_t* seed


cdef struct SumArgs:        # out[outer, inner] = Σ over axis of x[outer, axis, inner], divided by divisor
    Py_ssize_t outer, axis, inner
    const void* x
    Py_ssize_t x_outer, x_axis, x_inner
    Matrix out
    void* partials          # chunks × outer, only for inner = 1 and more than one chunk
    double divisor
    const UpdateArgs* update    # NULL: none; else the results are the gradient of weights, and `out` is unused


cdef struct TakeArgs:       # out[outer, count, inner] = x[outer, size, inner] at `count` indices; or back
    Py_ssize_t outer, size, count, inner
    Py_ssize_t rows         # of which threads own whole ones: outer × count is a multiple
    const void* x           # back: the gradient [outer, count, inner]
    const void* indices     # elements, too
    void* out               # back: [outer, size, inner]


cdef struct BagArgs:        # out[rows, columns] = Σ weights[rows, entries] · x[size, columns] at indices[rows, entries]
    Py_ssize_t rows, entries, size, columns
    const void* x           # back: the gradient [rows, columns]
    const void* indices
    const void* weights
    void* out               # back: [size, columns]


cdef enum AlongRule:
    MAX_ALONG, MIN_ALONG        # out[outer, inner]
    RUNNING_SUMS, SUMS_FROM     # out[outer, axis, inner]: up to each element, and from it on


cdef struct AlongArgs:      # along the axis of x[outer, axis, inner], contiguous as out is
    AlongRule rule
    Py_ssize_t outer, axis, inner
    Py_ssize_t runs             # of running sums, which begin anew at each; 0: one
    const Py_ssize_t* starts
    const void* x
    void* out


cdef struct SquaredErrorArgs:   # partials of Σ (a - b)², all contiguous; out = 2·grad/size · (a - b)
    Py_ssize_t size
    Py_ssize_t rows         # without a loss threads own rows, as in a product
    const void* a
    const void* b
    void* loss              # NULL: only out
    void* partials          # for sum_join, if there is more than one chunk
    void* out               # NULL: only the loss
    const void* grad        # one element


cdef struct PanelArgs:      # source[rows, columns] copied into panels of its columns, the last padded with zeros
    Py_ssize_t rows, columns
    Matrix source
    void* out


cdef struct PeakArgs:
    Py_ssize_t rounds
    double factor, term
    void* out               # threads × 64 bytes, so that the compiler cannot omit the work


cdef struct Cores:
    void (*matmul_plan)(MatmulArgs* args, int threads) noexcept nogil
    void (*matmul_rectangle)(Py_ssize_t rows, Py_ssize_t columns, bint packs_a, bint packs_b, Py_ssize_t seam,
                             int thread, int threads, Rectangle* local) noexcept nogil
    Core matmul
    Core matmul_batch
    Core pair
    Core pair_rows
    Core dropout
    Py_ssize_t (*sum_chunks)(Py_ssize_t size) noexcept nogil
    Core sum
    Core sum_join
    Core along
    Core take
    Core take_backward
    Core embedding_bag
    Core embedding_bag_backward
    Core squared_error
    Core update
    Core squared_norm
    Core clip
    Core to_panels
    Core peak
    int chains
    int lanes
    int tile_rows, tile_columns
    int depth_block         # steps of the depth between writes of the output
