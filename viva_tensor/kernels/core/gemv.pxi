# Products for which tiles would be a waste: no depth, a depth of one, one row (a plan turns one column into one row),
# or few multiply-adds in all.

cdef enum:
    ROW_VECS = 8    # vectors of sums of one row: enough chains to hide the latency of a fused multiply-add


cdef inline Part part_of(Py_ssize_t row, Py_ssize_t column, Py_ssize_t rows, Py_ssize_t columns) noexcept nogil:
    """Return a part of the output whose sums are over the whole depth."""
    cdef Part part
    part.row, part.column, part.rows, part.columns, part.first, part.last = row, column, rows, columns, True, True
    return part


cdef inline void row_end(vec* sums, int vecs, const MatmulArgs* args, Py_ssize_t column,
                         Py_ssize_t columns) noexcept nogil:
    """Send the finished sums of one row to the output, a tile's width at a time."""
    cdef Part part = part_of(0, column, 1, columns)
    cdef vec line[TILE_VECS]
    cdef int j, first
    for first in range((vecs + TILE_VECS - 1) // TILE_VECS):
        if columns <= 0:
            return
        for j in range(TILE_VECS):
            line[j] = sums[first * TILE_VECS + j] if first * TILE_VECS + j < vecs else ZERO
        part.columns = min(TILE_COLUMNS, columns)
        epilogue_in_any_layout(line, args, &part)
        part.column += TILE_COLUMNS
        columns -= TILE_COLUMNS


cdef inline void row_beside(const MatmulArgs* args, int vecs, Py_ssize_t column, Py_ssize_t columns) noexcept nogil:
    """Compute `vecs` vectors of one row of the output from b with adjacent columns; the last may be a part vector."""
    cdef vec sums[ROW_VECS]
    cdef vec totals[ROW_VECS]
    cdef vec line
    cdef Py_ssize_t chunk = 0, k
    cdef const real* b
    cdef real value
    cdef int j
    while chunk < args.depth:
        b = at(&args.b, chunk, column)
        for j in range(vecs):
            sums[j] = ZERO
        for k in range(min(CHUNK, args.depth - chunk)):
            value = at(&args.a, 0, chunk + k)[0]
            for j in range(vecs):
                line = load_part(b + j * LANES // PANEL * args.b.across + j * LANES % PANEL, lanes_of(columns, j))
                sums[j] = fused(line, splat(value), sums[j])
            b += args.b.row
        for j in range(vecs):
            totals[j] = sums[j] if chunk == 0 else totals[j] + sums[j]
        chunk += CHUNK
    row_end(totals, vecs, args, column, columns)


cdef inline void row_across(const MatmulArgs* args, Py_ssize_t column, Py_ssize_t columns) noexcept nogil:
    """Compute at most LANES outputs of one row from b whose columns are contiguous: transposed in registers."""
    cdef vec rows[LANES]
    cdef vec sums, totals = ZERO
    cdef Py_ssize_t chunk = 0, end, k
    cdef const real* a
    cdef const real* b
    cdef int i, size
    while chunk < args.depth:
        sums = ZERO
        end = min(chunk + CHUNK, args.depth)
        k = chunk
        while k < end:
            size = min(LANES, end - k)
            a, b = at(&args.a, 0, k), at(&args.b, k, column)
            for i in range(LANES):
                rows[i] = load_part(b + i * args.b.column, size) if i < columns else ZERO
            transpose(rows)
            if size == LANES:
                for i in range(LANES):
                    sums = fused(rows[i], splat(a[i * args.a.column]), sums)
            else:
                for i in range(LANES):
                    if i < size:
                        sums = fused(rows[i], splat(a[i * args.a.column]), sums)
            k += LANES
        totals = sums if chunk == 0 else totals + sums
        chunk = end
    row_end(&totals, 1, args, column, columns)


cdef inline void outer(const MatmulArgs* args, const Rectangle* local) noexcept nogil:
    """Set out[i, j] = a[i]·b[j], added to zero like every sum, panel after panel."""
    cdef const real* b
    cdef const real* mask = NULL
    cdef real* out
    cdef vec value
    cdef vec line[TILE_VECS]
    cdef real factor
    cdef Py_ssize_t i, column = local.left
    cdef int j, size
    while column < local.right:
        b = at(&args.b, 0, column)
        for j in range(TILE_VECS):
            line[j] = load_part(b + j * LANES, lanes_of(local.right - column, j))
        out = at(&args.out, local.top, column)
        if args.has_mask:
            mask = at(&args.mask, local.top, column)
        for i in range(local.top, local.bottom):
            factor = at(&args.a, i, 0)[0]
            for j in range(TILE_VECS):
                size = lanes_of(local.right - column, j)
                value = fused(line[j], splat(factor), ZERO)
                if mask != NULL:
                    value = masked(value, load_part(mask + j * LANES, size))
                store_part(out + j * LANES, value, size)
            out += args.out.row
            if mask != NULL:
                mask += args.mask.row
        column += TILE_COLUMNS


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


cdef inline void one_row(const MatmulArgs* args, Py_ssize_t column, Py_ssize_t end) noexcept nogil:
    """Compute one row of the output from a column on, with as many chains as its width allows."""
    if args.path == ROW_ACROSS:
        while column < end:
            row_across(args, column, min(LANES, end - column))
            column += LANES
    while column + ROW_VECS * LANES // 2 < end:
        row_beside(args, ROW_VECS, column, min(ROW_VECS * LANES, end - column))
        column += ROW_VECS * LANES
    while column + LANES < end:
        row_beside(args, ROW_VECS // 2, column, min(ROW_VECS * LANES // 2, end - column))
        column += ROW_VECS * LANES // 2
    while column < end:
        row_beside(args, 1, column, min(LANES, end - column))
        column += LANES


cdef inline void without_tiles(const MatmulArgs* args, const Rectangle* local) noexcept nogil:
    """Compute a thread's share of a product whose path is defined in this file."""
    if args.path == ROW_BY_ROW:
        row_by_row(args, local)
    elif args.path == OUTER_PRODUCT:
        outer(args, local)
    elif args.path == NO_DEPTH:
        without_depth(args, local)
    else:
        one_row(args, local.left, local.right)
