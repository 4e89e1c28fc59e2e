# Products for which tiles would be a waste: no depth or a few steps of it, few rows (gemv.pxi), or few multiply-adds in
# all.

cdef enum:
    STRIP_ROWS = 4      # rows that share a load of b
    ROWS_OF_COPY = 64   # rows that share a copy of a strip of b

cdef struct Strip:      # columns of a product of a few steps: where its operands lie
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


cdef inline bint finishes(const Strip* strip) noexcept nogil:
    return strip.bias != NULL or strip.relu or strip.mask != NULL


cdef inline void finish_strip(int height, int vecs, const Strip* strip, Py_ssize_t row, Py_ssize_t column,
                              const vec* sums, real* out) noexcept nogil:
    """Write the sums of a few rows, from a row and a column of a strip on, after bias, relu and mask."""
    cdef vec value
    cdef int i, j, size
    for i in range(height):
        for j in range(vecs):
            value, size = sums[i * TILE_VECS + j], lanes_of(strip.columns - column, j)
            if strip.bias != NULL:
                value += load_part(strip.bias + column + j * LANES, size)
            if strip.relu:
                value = relu_of(value)
            if strip.mask != NULL:
                value = masked(value, load_part(strip.mask + (row + i) * strip.mask_row + column + j * LANES,
                                                size))
            store_part(out + i * strip.out_row + j * LANES, value, size)


cdef inline void strip_rows(int height, int vecs, bint whole, const Strip* strip, Py_ssize_t first,
                            Py_ssize_t end) noexcept nogil:
    """Compute rows of a strip, some at a time down each of its panels; `whole` vectors take no masks."""
    cdef vec sums[STRIP_ROWS * TILE_VECS]
    cdef vec finished[STRIP_ROWS * TILE_VECS]   # in memory: only what is there has an address
    cdef const real* a
    cdef const real* b
    cdef real* out
    cdef Py_ssize_t a_row = strip.a_row, a_step = strip.a_step, b_step = strip.b_step, out_row = strip.out_row
    cdef Py_ssize_t columns = strip.columns, column = 0, row, k, depth = strip.depth
    cdef int i, j
    while column < columns:
        row = first
        a = strip.a + first * a_row
        out = strip.out + first * out_row + column
        while row + height <= end:
            for i in range(height):
                for j in range(vecs):
                    sums[i * TILE_VECS + j] = ZERO
            b = strip.b + column
            for k in range(depth):
                multiply_step(height, vecs, a + k * a_step, a_row, b, sums)
                b += b_step
            if finishes(strip):
                copy_sums(height, vecs, sums, finished)
                finish_strip(height, vecs, strip, row, column, finished, out)
            else:
                for i in range(height):
                    for j in range(vecs):
                        if whole:
                            (<vec*> (out + i * out_row + j * LANES))[0] = sums[i * TILE_VECS + j]
                        else:
                            store_part(out + i * out_row + j * LANES, sums[i * TILE_VECS + j], lanes_of(columns, j))
            row += height
            a += height * a_row
            out += height * out_row
        column += vecs * LANES


cdef inline void outer_rows(const Strip* strip, Py_ssize_t rows) noexcept nogil:
    """Set out[i, j] = a[i]·b[j], added to zero like every sum, in whole panels: no loads between stores but of a."""
    cdef vec line[TILE_VECS]
    cdef vec value
    cdef const real* a
    cdef real* out
    cdef Py_ssize_t column = 0, columns = strip.columns, a_row = strip.a_row, out_row = strip.out_row, i
    cdef int j
    while column < columns:
        for j in range(TILE_VECS):
            line[j] = (<const vec*> (strip.b + column + j * LANES))[0]
        a = strip.a
        out = strip.out + column
        for i in range(rows):
            value = splat(a[0])
            for j in range(TILE_VECS):
                (<vec*> (out + j * LANES))[0] = fused(line[j], value, ZERO)
            a += a_row
            out += out_row
        column += TILE_COLUMNS


cdef inline void shallow_strip(int vecs, bint whole, const MatmulArgs* args, const Part* part) noexcept nogil:
    cdef real copied[FEW_STEPS * TILE_COLUMNS]
    cdef Strip strip = strip_of(vecs, args, part, copied)
    cdef Py_ssize_t high = part.rows // STRIP_ROWS * STRIP_ROWS
    if whole and strip.depth == 1 and not finishes(&strip):
        outer_rows(&strip, part.rows)
        return
    strip_rows(STRIP_ROWS, vecs, whole, &strip, 0, high)
    if high < part.rows:
        strip_rows(1, vecs, whole, &strip, high, part.rows)


cdef inline bint lie_in_rows(const MatmulArgs* args) noexcept nogil:
    """Return whether b, the output and the mask have whole rows of adjacent elements."""
    return (args.b.column == 1 and plain(&args.b) and plain(&args.out)
            and (not args.has_mask or plain(&args.mask)))


cdef void shallow(const MatmulArgs* args, const Rectangle* local) noexcept nogil:
    """Compute a product of a few steps: a few rows after others where all lies in rows, else a panel after another."""
    cdef Part part = part_of(local.top, local.left, 0, 0)
    cdef bint in_rows = lie_in_rows(args)
    cdef Py_ssize_t at_once = args.rows
    if plain(&args.out) and local.right - local.left > TILE_COLUMNS:
        at_once = FEW_ROWS if in_rows else ROWS_OF_COPY
    while part.row < local.bottom:
        part.rows = min(at_once, local.bottom - part.row)
        if not joined(&args.a):
            part.rows = min(part.rows, PANEL - part.row % PANEL)
        part.column = local.left
        while part.column < local.right:
            part.columns = local.right - part.column
            if part.columns >= TILE_COLUMNS:
                part.columns = part.columns // TILE_COLUMNS * TILE_COLUMNS if in_rows else TILE_COLUMNS
                shallow_strip(TILE_VECS, True, args, &part)
            elif part.columns > LANES:
                shallow_strip(TILE_VECS, False, args, &part)
            else:
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
