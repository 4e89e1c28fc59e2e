"""What a core takes and gives.

A core is the work of one member of a team: ``core(args, member, members)`` does its share of one operation and nothing
else; it allocates nothing and waits for nobody. Eager calls open a team around one core. ``Cores`` is the table of all
of them for one element type and one instruction set; ``_dispatch`` fills one for float32 and one for float64.

Strides count elements, not bytes.
"""

ctypedef void (*Core)(const void* args, int member, int members) noexcept nogil


cdef struct Matrix:
    void* data
    Py_ssize_t row      # from one row to the next
    Py_ssize_t column   # from one column to the next


cdef struct MatmulArgs:     # out[rows, columns] = a[rows, depth] · b[depth, columns] (+ bias[columns])
    Py_ssize_t rows, columns, depth
    Matrix a, b, out
    const void* bias        # NULL, or one element for each column, contiguous
    char* workspace         # members × workspace_bytes, aligned to 64
    Py_ssize_t workspace_bytes


cdef struct Rectangle:      # a part of an output
    Py_ssize_t top, bottom, left, right


cdef struct ElementwiseArgs:    # out[rows, columns] = f(a, b); a stride of 0 repeats an operand
    Py_ssize_t rows, columns
    Matrix a, b, out
    double scale


cdef struct SumArgs:        # out[outer, inner] = Σ over axis of x[outer, axis, inner], divided by divisor
    Py_ssize_t outer, axis, inner
    const void* x
    Py_ssize_t x_outer, x_axis, x_inner
    Matrix out
    void* partials          # chunks × outer, only for inner = 1 and more than one chunk
    double divisor


cdef struct SquaredErrorArgs:   # partials of Σ (a - b)², both contiguous, `size` elements; or out = scale · (a - b)
    Py_ssize_t size
    const void* a
    const void* b
    void* partials
    void* out
    double scale


cdef struct SGDArgs:        # velocity = momentum · velocity + grad; out = w - lr · velocity (NULL: velocity is grad)
    Py_ssize_t size
    const void* w
    const void* grad
    const void* velocity
    void* new_velocity
    void* out
    double lr, momentum


cdef struct PeakArgs:
    Py_ssize_t rounds
    double factor, term
    void* out               # members × 64 bytes, so that no work can be left out


cdef struct Cores:
    Py_ssize_t (*matmul_workspace)(const MatmulArgs* args, int members) noexcept nogil
    void (*matmul_rectangle)(Py_ssize_t rows, Py_ssize_t columns, int member, int members,
                             Rectangle* own) noexcept nogil
    Core matmul
    Core add
    Core sub
    Core mul
    Core relu
    Core relu_backward
    Core scale
    Py_ssize_t (*sum_chunks)(Py_ssize_t size) noexcept nogil
    Core sum
    Core sum_join
    Core squared_error
    Core squared_error_backward
    Core sgd
    Core peak
    int chains
    int lanes
