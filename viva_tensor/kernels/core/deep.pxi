# Products of few outputs over a great depth, from operands that are contiguous along it: the lanes of a vector are
# chunks of one sum, each a chain of its own, and are added in order at the end.

cdef enum:
    DEEP_ROWS = 2       # of a block of outputs, which share what is transposed
    DEEP_COLUMNS = 4    # a row's totals are lanes of one vector, as is_deep ensures


cdef struct Lines:      # of a few rows of a and columns of b
    const real* a[DEEP_ROWS]
    const real* b[DEEP_COLUMNS]


cdef inline void load(const real* source, Py_ssize_t stride, int rows, int size, vec* columns) noexcept nogil:
    """Load rows transposed, in place if their number and size are known while compiling."""
    if known(rows) and known(size):
        load_transposed(source, stride, rows, size, columns)
    else:
        load_some_transposed(source, stride, rows, size, columns)


cdef inline void add_steps(int height, int width, int chunks, int size, const Lines* lines, Py_ssize_t k,
                           vec* sums) noexcept nogil:
    """Add `size` steps of each of some chunks to the sums of a block of outputs."""
    cdef vec a[DEEP_ROWS * LANES]
    cdef vec b[DEEP_COLUMNS * LANES]
    cdef int i, j, step
    for i in range(height):
        load(lines.a[i] + k, CHUNK, chunks, size, a + i * LANES)
    for j in range(width):
        load(lines.b[j] + k, CHUNK, chunks, size, b + j * LANES)
    for step in range(LANES):
        if step < size:
            for i in range(height):
                for j in range(width):
                    sums[i * width + j] = fused(a[i * LANES + step], b[j * LANES + step], sums[i * width + j])


cdef inline void add_steps_from(int height, int width, int chunks, const Lines* lines, Py_ssize_t k, Py_ssize_t end,
                                vec* sums) noexcept nogil:
    """Add the steps from k to the end of each of some chunks."""
    while k + LANES <= end:
        if chunks == LANES:
            add_steps(height, width, LANES, LANES, lines, k, sums)
        else:
            add_steps(height, width, chunks, LANES, lines, k, sums)
        k += LANES
    if k < end:
        add_steps(height, width, chunks, <int> (end - k), lines, k, sums)


cdef inline void deep_block(int height, int width, const MatmulArgs* args, Part part) noexcept nogil:
    """Compute a block of outputs; its last column may lie beyond a part, and then is the one before again."""
    cdef vec sums[DEEP_ROWS * DEEP_COLUMNS]
    cdef vec ended[DEEP_ROWS * DEEP_COLUMNS]    # when the last chunk, which may be shorter, ends
    cdef vec totals[DEEP_ROWS]
    cdef Lines lines
    cdef real* total
    cdef real value
    cdef Py_ssize_t chunk = 0, tail
    cdef int chunks, i, j, lane
    for i in range(height):
        totals[i] = ZERO
    while chunk < args.depth:
        for i in range(height):
            lines.a[i] = at(&args.a, part.row + i, chunk)
        for j in range(width):
            lines.b[j] = at(&args.b, chunk, part.column + min(<Py_ssize_t> j, part.columns - 1))
        chunks = <int> min(<Py_ssize_t> LANES, (args.depth - chunk + CHUNK - 1) // CHUNK)
        tail = min(<Py_ssize_t> CHUNK, args.depth - chunk - (chunks - 1) * CHUNK)
        for i in range(height * width):
            sums[i] = ZERO
        add_steps_from(height, width, chunks, &lines, 0, tail, sums)
        for i in range(height * width):
            ended[i] = sums[i]
        if chunks > 1 and tail < CHUNK:
            add_steps_from(height, width, chunks - 1, &lines, tail, CHUNK, sums)
        stays_in_memory(sums)
        stays_in_memory(ended)
        for i in range(height * width):
            (<real*> &sums[i])[chunks - 1] = (<real*> &ended[i])[chunks - 1]
            total = <real*> &totals[i // width] + i % width
            for lane in range(chunks):
                value = (<real*> &sums[i])[lane]
                total[0] = total[0] + value if chunk + lane else value
        chunk += LANES * CHUNK
    rows_end(height, 1, totals, args, part)


cdef void deep(const MatmulArgs* args, const Rectangle* local) noexcept nogil:
    """Compute a few rows from columns of b."""
    cdef Part part = part_of(local.top, local.left, 0, 0)
    while part.row < local.bottom:
        part.rows = min(<Py_ssize_t> DEEP_ROWS, local.bottom - part.row)
        part.column = local.left
        while part.column < local.right:
            part.columns = min(<Py_ssize_t> (DEEP_COLUMNS if part.rows == DEEP_ROWS else 2), local.right - part.column)
            if part.rows == 1 and part.columns == 1:
                deep_block(1, 1, args, part)
            elif part.rows == 1:
                deep_block(1, 2, args, part)
            elif part.columns <= 2:
                deep_block(2, 2, args, part)
            else:
                deep_block(2, 4, args, part)
            part.column += part.columns
        part.row += part.rows
