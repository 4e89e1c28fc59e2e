# One tile of a matrix product: its sums in registers, then what follows them on the way to the output. A last panel of
# a that is at most a third or two thirds full takes a tile of that height.

cdef enum:
    FETCH_STEPS = 4     # steps along the depth from the fetch of one row of the output to the next
    THIRD = TILE_ROWS // 3
    LINE = 64           # bytes that come from memory together


cdef inline void multiply_step(int height, const real* a, Py_ssize_t vector, const real* b,
                               vec* sums) noexcept nogil:
    cdef vec line[TILE_VECS]
    cdef int i, j
    for j in range(TILE_VECS):
        line[j] = (<const vec*> (b + j * LANES))[0]
    for i in range(height):
        for j in range(TILE_VECS):
            sums[i * TILE_VECS + j] += line[j] * a[i * vector]


cdef inline void multiply(int height, Py_ssize_t depth, const real* a, Py_ssize_t vector, Py_ssize_t step,
                          const real* b, Py_ssize_t b_row, const real* out, Py_ssize_t out_row,
                          vec* sums) noexcept nogil:
    """sums = a panel · b panel: the innermost loop of the library.

    Meanwhile the output comes from memory, a row now and then: fetched all at once, or not at all, it costs a tenth of
    the time of a 1024³ product. A fetch never faults, so a part tile may fetch beyond its array.
    """
    cdef Py_ssize_t k, done = 0, steps
    cdef int i, fetched = 0
    for i in range(height * TILE_VECS):
        sums[i] = ZERO
    while done < depth:
        steps = depth - done
        if fetched < height:
            fetched += 1
            steps = min(steps, FETCH_STEPS)
            for i in range(<int> ((TILE_COLUMNS * sizeof(real) + LINE - 1) // LINE)):
                prefetch(out + i * (LINE // <int> sizeof(real)))
            prefetch(out + TILE_COLUMNS - 1)
            out += out_row
        for k in range(steps):      # never a constant number: unrolled, it would need more registers than there are
            multiply_step(height, a, vector, b, sums)
            a += step
            b += b_row
        done += steps


cdef inline void gather(const Matrix* matrix, Py_ssize_t row, Py_ssize_t column, Py_ssize_t rows, Py_ssize_t columns,
                        real* tile) noexcept nogil:
    """A part of a matrix, as the upper left part of a tile."""
    cdef const real* source = <const real*> matrix.data + row * matrix.row + column * matrix.column
    cdef Py_ssize_t i, j
    for i in range(rows):
        if matrix.column == 1 and columns == TILE_COLUMNS:
            memcpy(tile, source, TILE_COLUMNS * sizeof(real))
        elif matrix.column == 1:
            memcpy(tile, source, columns * sizeof(real))
        else:
            for j in range(columns):
                tile[j] = source[j * matrix.column]
        source += matrix.row
        tile += TILE_COLUMNS


cdef inline void scatter(const real* tile, const Matrix* matrix, Py_ssize_t row, Py_ssize_t column, Py_ssize_t rows,
                         Py_ssize_t columns) noexcept nogil:
    cdef real* target = <real*> matrix.data + row * matrix.row + column * matrix.column
    cdef Py_ssize_t i, j
    for i in range(rows):
        if matrix.column == 1 and columns == TILE_COLUMNS:
            memcpy(target, tile, TILE_COLUMNS * sizeof(real))
        elif matrix.column == 1:
            memcpy(target, tile, columns * sizeof(real))
        else:
            for j in range(columns):
                target[j * matrix.column] = tile[j]
        target += matrix.row
        tile += TILE_COLUMNS


cdef void finish(vec* sums, const MatmulArgs* args, Py_ssize_t row, Py_ssize_t column, Py_ssize_t rows,
                 Py_ssize_t columns, bint first, bint last) noexcept nogil:
    """What follows the sums of a tile that is part, or of an output that is more than product and bias.

    Everything is done on whole tiles, of which only rows × columns hold anything.
    """
    cdef vec others[TILE_ROWS * TILE_VECS]
    cdef real* value = <real*> sums
    cdef real* other = <real*> others
    cdef int i
    for i in range(TILE_ROWS * TILE_VECS):
        others[i] = ZERO
    if not first:
        gather(&args.out, row, column, rows, columns, other)
        for i in range(TILE_ROWS * TILE_VECS):
            sums[i] = others[i] + sums[i]
    if not last:
        scatter(value, &args.out, row, column, rows, columns)
        return
    if args.bias.data != NULL:
        gather(&args.bias, row, column, rows, columns, other)
        for i in range(TILE_ROWS * TILE_VECS):
            sums[i] += others[i]
    if args.relu:
        for i in range(TILE_ROWS * TILE_COLUMNS):
            value[i] = apply(RELU, value[i], 0, 0)
    if args.mask.data != NULL:
        gather(&args.mask, row, column, rows, columns, other)
        for i in range(TILE_ROWS * TILE_COLUMNS):
            value[i] = apply(RELU_BACKWARD, value[i], other[i], 0)
    if args.update == NULL:
        scatter(value, &args.out, row, column, rows, columns)
    elif columns == TILE_COLUMNS:
        for i in range(rows):
            update_run(args.update, (row + i) * args.columns + column, value + i * TILE_COLUMNS, TILE_COLUMNS)
    else:
        for i in range(rows):
            update_run(args.update, (row + i) * args.columns + column, value + i * TILE_COLUMNS, columns)


cdef inline void tile(int height, Py_ssize_t depth, const real* a, Py_ssize_t vector, Py_ssize_t step, const real* b,
                      Py_ssize_t b_row, const MatmulArgs* args, Py_ssize_t row, Py_ssize_t column,
                      Py_ssize_t rows, Py_ssize_t columns, bint first, bint last) noexcept nogil:
    """The tile at (row, column), of which rows × columns lie inside the output. The first chunk never reads it."""
    cdef vec sums[TILE_ROWS * TILE_VECS]
    cdef vec kept[TILE_ROWS * TILE_VECS]
    cdef vec value
    cdef real* out = <real*> args.out.data + row * args.out.row + column * args.out.column
    cdef const real* bias = NULL
    cdef const real* mask = NULL
    cdef int i, j
    multiply(height, depth, a, vector, step, b, b_row, out, args.out.row, sums)
    if rows < height or columns < TILE_COLUMNS or args.out.column != 1 or last and (
            args.update != NULL or args.bias.data != NULL and args.bias.column != 1
            or args.mask.data != NULL and args.mask.column != 1):
        for i in range(TILE_ROWS * TILE_VECS):
            kept[i] = sums[i] if i < height * TILE_VECS else ZERO
        finish(kept, args, row, column, rows, columns, first, last)
        return
    if last and args.bias.data != NULL:
        bias = <const real*> args.bias.data + column
    if last and args.mask.data != NULL:
        mask = <const real*> args.mask.data + row * args.mask.row + column
    for i in range(height):
        for j in range(TILE_VECS):
            value = sums[i * TILE_VECS + j]
            if not first:
                value = (<vec*> (out + j * LANES))[0] + value
            if bias != NULL:
                value += (<const vec*> (bias + j * LANES))[0]
            if last and args.relu:
                value = relu_of(value)
            if mask != NULL:
                value = masked(value, (<const vec*> (mask + j * LANES))[0])
            (<vec*> (out + j * LANES))[0] = value
        out += args.out.row
        if mask != NULL:
            mask += args.mask.row


cdef inline void any_tile(Py_ssize_t depth, const real* a, Py_ssize_t vector, Py_ssize_t step, const real* b,
                          Py_ssize_t b_row, const MatmulArgs* args, Py_ssize_t row, Py_ssize_t column, Py_ssize_t rows,
                          Py_ssize_t columns, bint first, bint last) noexcept nogil:
    if rows > 2 * THIRD:
        tile(TILE_ROWS, depth, a, vector, step, b, b_row, args, row, column, rows, columns, first, last)
    elif rows > THIRD:
        tile(2 * THIRD, depth, a, vector, step, b, b_row, args, row, column, rows, columns, first, last)
    else:
        tile(THIRD, depth, a, vector, step, b, b_row, args, row, column, rows, columns, first, last)


cdef void packed_tile(Py_ssize_t depth, const real* a, const real* b, const MatmulArgs* args, Py_ssize_t row,
                      Py_ssize_t column, Py_ssize_t rows, Py_ssize_t columns, bint first, bint last) noexcept nogil:
    any_tile(depth, a, 1, TILE_ROWS, b, TILE_COLUMNS, args, row, column, rows, columns, first, last)


cdef void strided_tile(Py_ssize_t depth, const real* a, Py_ssize_t vector, Py_ssize_t step, const real* b,
                       Py_ssize_t b_row, const MatmulArgs* args, Py_ssize_t row, Py_ssize_t column, Py_ssize_t rows,
                       Py_ssize_t columns, bint first, bint last) noexcept nogil:
    any_tile(depth, a, vector, step, b, b_row, args, row, column, rows, columns, first, last)
