# Products for which tiles would be a waste: no depth or a few steps of it, few rows (gemv.pxi), or few multiply-adds in
# all.

cdef enum:
    STRIP_ROWS = 4      # rows that share a load of b
    ROWS_OF_COPY = 64   # rows that share a copy of a strip of b

cdef struct Strip:      # a few columns of a product of a few steps: where its operands lie
    Py_ssize_t depth
    const real* a
    Py_ssize_t a_row, a_step    # from one row, and from one step of the depth, to the next
    const real* b
    Py_ssize_t b_step
    real* out
    Py_ssize_t out_row
    const real* mask            # NULL: none
    Py_ssize_t mask_row
    const real* bias            # NULL: none
    bint relu
    Py_ssize_t columns


cdef inline Strip strip_of(int vecs, const MatmulArgs* args, const Part* part, real* copied) noexcept nogil:
    """Find a part of the output and its operands; b is copied if its columns are not adjacent or not whole vectors."""
    cdef Strip strip
    cdef Py_ssize_t k
    cdef int j
    strip.depth, strip.columns, strip.relu = args.depth, part.columns, args.relu
    strip.a, strip.a_row, strip.a_step = at(&args.a, part.row, 0), args.a.row, args.a.column
    strip.out, strip.out_row = at(&args.out, part.row, part.column), args.out.row
    strip.mask, strip.mask_row = at(&args.mask, part.row, part.column) if args.has_mask else NULL, args.mask.row
    strip.bias = at(&args.bias, 0, part.column) if args.has_bias else NULL
    strip.b, strip.b_step = at(&args.b, 0, part.column), args.b.row
    if args.b.column != 1 or part.columns < vecs * LANES:
        strip.b, strip.b_step = copied, vecs * LANES
        for k in range(args.depth):
            for j in range(vecs):
                (<vec*> (copied + (k * vecs + j) * LANES))[0] = read(&args.b, k, part.column + j * LANES,
                                                                     lanes_of(part.columns, j))
    return strip


cdef inline void finish_strip(int height, int vecs, const Strip* strip, vec* sums) noexcept nogil:
    """Apply bias, relu and mask to the sums of a few rows of a strip."""
    cdef int i, j, size
    for j in range(vecs):
        size = lanes_of(strip.columns, j)
        for i in range(height):
            if strip.bias != NULL:
                sums[i * TILE_VECS + j] += load_part(strip.bias + j * LANES, size)
            if strip.relu:
                sums[i * TILE_VECS + j] = relu_of(sums[i * TILE_VECS + j])
            if strip.mask != NULL:
                sums[i * TILE_VECS + j] = masked(sums[i * TILE_VECS + j],
                                                 load_part(strip.mask + i * strip.mask_row + j * LANES, size))


cdef inline void strip_rows(int height, int vecs, bint whole, Strip* strip, Py_ssize_t rows) noexcept nogil:
    """Compute rows of a strip, some at a time; `whole` vectors take no masks."""
    cdef vec sums[STRIP_ROWS * TILE_VECS]
    cdef const real* a = strip.a
    cdef const real* b
    cdef real* out = strip.out
    cdef Py_ssize_t a_row = strip.a_row, a_step = strip.a_step, b_step = strip.b_step, out_row = strip.out_row
    cdef Py_ssize_t k, depth = strip.depth
    cdef int i, j
    cdef bint finishes = strip.bias != NULL or strip.relu or strip.mask != NULL
    while rows >= height:
        for i in range(height):
            for j in range(vecs):
                sums[i * TILE_VECS + j] = ZERO
        b = strip.b
        for k in range(depth):
            multiply_step(height, vecs, a + k * a_step, a_row, b, sums)
            b += b_step
        if finishes:
            finish_strip(height, vecs, strip, sums)
            strip.mask += height * strip.mask_row
        for i in range(height):
            for j in range(vecs):
                if whole:
                    (<vec*> (out + j * LANES))[0] = sums[i * TILE_VECS + j]
                else:
                    store_part(out + j * LANES, sums[i * TILE_VECS + j], lanes_of(strip.columns, j))
            out += out_row
        a += height * a_row
        rows -= height
    strip.a, strip.out = a, out


cdef inline void shallow_strip(int vecs, bint whole, const MatmulArgs* args, const Part* part) noexcept nogil:
    cdef real copied[FEW_STEPS * TILE_COLUMNS]
    cdef Strip strip = strip_of(vecs, args, part, copied)
    strip_rows(STRIP_ROWS, vecs, whole, &strip, part.rows)
    strip_rows(1, vecs, whole, &strip, part.rows % STRIP_ROWS)


cdef inline Py_ssize_t rows_at_once(const MatmulArgs* args, Py_ssize_t row, Py_ssize_t columns) noexcept nogil:
    """Return the rows after which a strip gives way to the next: as far as a panel of a, in rows with others beside."""
    if not joined(&args.a):
        return PANEL - row % PANEL
    if columns <= TILE_COLUMNS or not plain(&args.out):
        return args.rows
    return ROWS_OF_COPY


cdef void shallow(const MatmulArgs* args, const Rectangle* local) noexcept nogil:
    """Compute a product of a few steps, some rows at a time from left to right; in panels, one panel after another."""
    cdef Part part = part_of(local.top, local.left, 0, 0)
    while part.row < local.bottom:
        part.rows = min(rows_at_once(args, part.row, local.right - local.left), local.bottom - part.row)
        part.column = local.left
        while part.column < local.right:
            part.columns = local.right - part.column
            if part.columns >= TILE_COLUMNS:
                part.columns = TILE_COLUMNS
                shallow_strip(TILE_VECS, True, args, &part)
            else:
                part.columns = min(<Py_ssize_t> LANES, part.columns)
                shallow_strip(1, False, args, &part)
            part.column += part.columns
        part.row += part.rows


cdef inline void row_by_row(const MatmulArgs* args, const Rectangle* local) noexcept nogil:
    """Compute a vector for each row: at most LANES columns, adjacent in b."""
    cdef vec sums, total
    cdef const real* a
    cdef const real* b
    cdef Py_ssize_t i, k, chunk
    cdef Part part = part_of(0, local.left, 1, local.right - local.left)
    cdef int size = <int> (local.right - local.left)
    for i in range(local.top, local.bottom):
        total = ZERO
        chunk = 0
        while chunk < args.depth:
            a = <const real*> args.a.data + i * args.a.row + chunk * args.a.column
            b = <const real*> args.b.data + chunk * args.b.row + local.left
            sums = ZERO
            for k in range(min(CHUNK, args.depth - chunk)):
                sums = fused(load_part(b, size), splat(a[0]), sums)
                a += args.a.column
                b += args.b.row
            total = sums if chunk == 0 else total + sums
            chunk += CHUNK
        part.row = i
        epilogue(1, 1, ANY_LAYOUT, args, &part, &total)


cdef inline void without_depth(const MatmulArgs* args, const Rectangle* local) noexcept nogil:
    """Set the output of a product without depth: sums of nothing."""
    cdef vec none[TILE_VECS]
    cdef Part part
    cdef Py_ssize_t row, column
    cdef int j
    for row in range(local.top, local.bottom):
        column = local.left
        while column < local.right:
            for j in range(TILE_VECS):
                none[j] = ZERO
            part = part_of(row, column, 1, min(TILE_COLUMNS, local.right - column))
            epilogue_in_any_layout(none, args, &part)
            column += TILE_COLUMNS


cdef inline void without_tiles(const MatmulArgs* args, const Rectangle* local) noexcept nogil:
    """Compute a thread's share of a product whose path is defined in this file."""
    if args.path == ROW_BY_ROW:
        row_by_row(args, local)
    elif args.path == SHALLOW:
        shallow(args, local)
    elif args.path == NO_DEPTH:
        without_depth(args, local)
    else:
        few_rows(args, local)
