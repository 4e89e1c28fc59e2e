# Products for which tiles would be a waste: no depth, a depth of one, a few rows (a plan turns a few columns into
# rows), or few multiply-adds in all.

cdef enum:
    ROW_VECS = 8        # vectors of sums of one row: enough chains to hide the latency of a fused multiply-add
    AHEAD = 16          # rows of b, or cache lines of its columns, between reading and prefetching
    STREAMS = 8         # rows of b that are read side by side for one row
    RUN = 256           # vectors of one row whose sums stay in the first-level cache
    SET_STRIDE = 4096   # bytes from one cache line to the next of the same set of the first-level cache
    GROUPS = 3          # groups of columns whose sums of one row hide each other's latency


cdef inline int vecs_of(int height) noexcept nogil:
    """Return the vectors of sums of each of a few rows: as many as registers hold, at least a tile's."""
    cdef int least = TILE_VECS if height <= TILE_ROWS else 1
    return min(ROW_VECS, max(least, (ROW_VECS * 2 if TILE_ROWS * TILE_VECS >= 2 * ROW_VECS else ROW_VECS) // height))


cdef inline Part part_of(Py_ssize_t row, Py_ssize_t column, Py_ssize_t rows, Py_ssize_t columns) noexcept nogil:
    """Return a part of the output whose sums are over the whole depth."""
    cdef Part part
    part.row, part.column, part.rows, part.columns, part.first, part.last = row, column, rows, columns, True, True
    return part


cdef inline bint ends_transposed(const MatmulArgs* args) noexcept nogil:
    """Return whether few rows of the output are few columns in memory, with at most a bias for each and relu."""
    return (args.out.row == 1 and args.out.column != 1 and plain(&args.out) and not args.has_mask
            and args.update == NULL and (not args.has_bias or args.bias.column == 0))


cdef inline void transposed_end(int height, const vec* sums, int stride, const MatmulArgs* args,
                                const Part* part) noexcept nogil:
    """Send a vector of each of a few rows to their places in columns, transposed in registers."""
    cdef vec lines[LANES]
    cdef real* out = at(&args.out, part.row, part.column)
    cdef int i, j
    for i in range(LANES):
        lines[i] = sums[i * stride] if i < height else ZERO
        if args.has_bias and i < part.rows:
            lines[i] += splat(at(&args.bias, part.row + i, 0)[0])
        if args.relu:
            lines[i] = relu_of(lines[i])
    transpose(lines)
    for j in range(LANES):
        if j < part.columns:
            store_part(out + j * args.out.column, lines[j], <int> part.rows)


cdef inline bint stores_only(const MatmulArgs* args) noexcept nogil:
    """Return whether finished sums go to adjacent elements of the output as they are."""
    return (args.out.column == 1 and not args.has_bias and not args.relu and not args.has_mask
            and args.update == NULL)


cdef inline void rows_end(int height, int vecs, const vec* sums, const MatmulArgs* args, Part part) noexcept nogil:
    """Send the finished sums of a few rows to the output, a tile's width at a time."""
    cdef vec lines[FEW_ROWS * TILE_VECS]
    cdef Py_ssize_t columns = part.columns
    cdef int i, j, first
    if height <= LANES and ends_transposed(args):
        for j in range(vecs):
            part.columns = min(<Py_ssize_t> LANES, columns - j * LANES)
            transposed_end(height, sums + j, vecs, args, &part)
            part.column += LANES
        return
    for first in range((vecs + TILE_VECS - 1) // TILE_VECS):
        if columns <= 0:
            return
        for i in range(height):
            for j in range(TILE_VECS):
                lines[i * TILE_VECS + j] = (
                    sums[i * vecs + first * TILE_VECS + j] if first * TILE_VECS + j < vecs else ZERO)
        part.columns = min(TILE_COLUMNS, columns)
        epilogue_in_any_layout(lines, args, &part)
        part.column += TILE_COLUMNS
        columns -= TILE_COLUMNS


cdef inline Py_ssize_t starts(int height, const MatmulArgs* args, const Part* part, Py_ssize_t chunk, const real** a,
                              real* line) noexcept nogil:
    """Find where the chunk begins in rows of a, and return the stride of their elements.

    One row that lies in panels is copied into a line. In place of rows beyond the last one, that one stands again.
    """
    cdef int i
    cdef Py_ssize_t k
    if height == 1 and not plain(&args.a):
        for k in range(min(<Py_ssize_t> CHUNK, args.depth - chunk)):
            line[k] = at(&args.a, 0, chunk + k)[0]
        a[0] = line
        return 1
    for i in range(height):
        a[i] = at(&args.a, part.row + min(<Py_ssize_t> i, part.rows - 1), chunk)
    return args.a.column


cdef inline void rows_beside(int height, int vecs, bint whole, const MatmulArgs* args,
                             const Part* part) noexcept nogil:
    """Compute `vecs` vectors of a few rows from b with adjacent columns; the last may be a part vector if not whole."""
    cdef vec sums[FEW_ROWS * ROW_VECS]
    cdef vec totals[FEW_ROWS * ROW_VECS]
    cdef vec line[ROW_VECS]
    cdef const real* a[FEW_ROWS]
    cdef const real* b
    cdef const real* source
    cdef real copied[CHUNK]
    cdef Py_ssize_t chunk = 0, k, step
    cdef real value
    cdef int i, j
    while chunk < args.depth:
        step = starts(height, args, part, chunk, a, copied)
        b = at(&args.b, chunk, part.column)
        for i in range(height):
            for j in range(vecs):
                sums[i * vecs + j] = ZERO
        for k in range(min(CHUNK, args.depth - chunk)):
            for j in range(vecs):
                source = b + j * LANES // PANEL * args.b.across + j * LANES % PANEL
                line[j] = (<const vec*> source)[0] if whole else load_part(source, lanes_of(part.columns, j))
                if j * LANES * <int> sizeof(real) % LINE == 0:
                    prefetch(source + AHEAD * args.b.row)
            for i in range(height):
                value = a[i][k * step]
                for j in range(vecs):
                    sums[i * vecs + j] = fused(line[j], splat(value), sums[i * vecs + j])
            b += args.b.row
        for i in range(height):
            for j in range(vecs):
                totals[i * vecs + j] = sums[i * vecs + j] if chunk == 0 else totals[i * vecs + j] + sums[i * vecs + j]
        chunk += CHUNK
    if whole and stores_only(args):
        for i in range(min(<Py_ssize_t> height, part.rows)):
            for j in range(vecs):
                (<vec*> at(&args.out, part.row + i, part.column + j * LANES))[0] = totals[i * vecs + j]
    else:
        rows_end(height, vecs, totals, args, part[0])


cdef inline void add_rows(int streams, const real* b, Py_ssize_t row, const real* a, Py_ssize_t step, Py_ssize_t vecs,
                          vec* sums) noexcept nogil:
    """Add some rows of b, each times its element of a, to sums in memory."""
    cdef vec values[STREAMS]
    cdef vec value
    cdef Py_ssize_t j
    cdef int i
    for i in range(streams):
        values[i] = splat(a[i * step])
    for j in range(vecs):
        value = sums[j]
        for i in range(streams):
            value = fused((<const vec*> (b + i * row + j * LANES))[0], values[i], value)
        sums[j] = value


cdef void one_row(const MatmulArgs* args, const Part* part) noexcept nogil:
    """Compute RUN whole vectors of one row at most from b with adjacent columns, of which some are read at a time.

    Where rows of b lie far apart, memory and its translation take longer for strips that are a few vectors wide.
    """
    cdef vec sums[RUN]
    cdef vec totals[RUN]
    cdef const real* a[FEW_ROWS]
    cdef const real* b
    cdef real copied[CHUNK]
    cdef Py_ssize_t chunk = 0, k, end, step, j, vecs = part.columns // LANES
    cdef Part piece = part[0]
    while chunk < args.depth:
        step = starts(1, args, part, chunk, a, copied)
        b = at(&args.b, chunk, part.column)
        end = min(<Py_ssize_t> CHUNK, args.depth - chunk)
        for j in range(vecs):
            sums[j] = ZERO
        k = 0
        while k + STREAMS <= end:
            add_rows(STREAMS, b, args.b.row, a[0] + k * step, step, vecs, sums)
            b += STREAMS * args.b.row
            k += STREAMS
        while k < end:
            add_rows(1, b, args.b.row, a[0] + k * step, step, vecs, sums)
            b += args.b.row
            k += 1
        for j in range(vecs):
            totals[j] = sums[j] if chunk == 0 else totals[j] + sums[j]
        chunk += CHUNK
    if stores_only(args) and plain(&args.out):
        memcpy(at(&args.out, part.row, part.column), totals, part.columns * sizeof(real))
        return
    while piece.column < part.column + part.columns:
        piece.columns = min(<Py_ssize_t> TILE_COLUMNS, part.column + part.columns - piece.column)
        epilogue_in_any_layout(totals + (piece.column - part.column) // LANES, args, &piece)
        piece.column += TILE_COLUMNS


cdef inline void rows_across(int height, const MatmulArgs* args, const Part* part) noexcept nogil:
    """Compute at most LANES columns of a few rows from b whose columns are contiguous: transposed in registers."""
    cdef vec lines[LANES]
    cdef vec sums[FEW_ROWS]
    cdef vec totals[FEW_ROWS]
    cdef const real* a[FEW_ROWS]
    cdef const real* b
    cdef real copied[CHUNK]
    cdef Py_ssize_t chunk = 0, end, k, step
    cdef int i, j, size
    while chunk < args.depth:
        step = starts(height, args, part, chunk, a, copied)
        for i in range(height):
            sums[i] = ZERO
        end = min(<Py_ssize_t> CHUNK, args.depth - chunk)
        k = 0
        while k < end:
            size = <int> min(<Py_ssize_t> LANES, end - k)
            b = at(&args.b, chunk + k, part.column)
            if size == LANES and part.columns == LANES:
                for j in range(LANES):
                    lines[j] = (<const vec*> (b + j * args.b.column))[0]
                    prefetch(b + j * args.b.column + AHEAD * LANES)
            else:
                for j in range(LANES):
                    lines[j] = load_part(b + j * args.b.column, size) if j < part.columns else ZERO
            transpose(lines)
            if size == LANES:
                for j in range(LANES):
                    for i in range(height):
                        sums[i] = fused(lines[j], splat(a[i][(k + j) * step]), sums[i])
            else:
                for j in range(LANES):
                    for i in range(height):
                        if j < size:
                            sums[i] = fused(lines[j], splat(a[i][(k + j) * step]), sums[i])
            k += LANES
        for i in range(height):
            totals[i] = sums[i] if chunk == 0 else totals[i] + sums[i]
        chunk += CHUNK
    if stores_only(args) and part.columns == LANES:
        for i in range(min(<Py_ssize_t> height, part.rows)):
            (<vec*> at(&args.out, part.row + i, part.column))[0] = totals[i]
    else:
        rows_end(height, 1, totals, args, part[0])


cdef inline void transposed_block(const real* b, Py_ssize_t column, int size, vec* lines) noexcept nogil:
    """Load the first `size` elements of LANES columns that are each contiguous, transposed."""
    cdef int j
    for j in range(LANES):
        if size == LANES:
            lines[j] = (<const vec*> (b + j * column))[0]
            prefetch(b + j * column + AHEAD * LANES)
        else:
            lines[j] = load_part(b + j * column, size)
    transpose(lines)


cdef inline bint lies_apart(const Matrix* b) noexcept nogil:
    """Return whether columns that are read side by side do not evict each other: theirs would be the same cache set."""
    return plain(b) and b.column * <Py_ssize_t> sizeof(real) % SET_STRIDE != 0


cdef void one_row_across(const MatmulArgs* args, const Part* part) noexcept nogil:
    """Compute three times LANES columns of one row from b whose columns are contiguous: sums that do not wait."""
    cdef vec first[LANES]
    cdef vec second[LANES]
    cdef vec third[LANES]
    cdef vec sums[GROUPS]
    cdef vec totals[GROUPS]
    cdef vec value
    cdef const real* a[FEW_ROWS]
    cdef const real* b
    cdef const real* from_a
    cdef real copied[CHUNK]
    cdef Py_ssize_t chunk = 0, end, k, step, column = args.b.column
    cdef int i, j, size
    while chunk < args.depth:
        step = starts(1, args, part, chunk, a, copied)
        from_a = a[0]
        b = at(&args.b, chunk, part.column)
        for i in range(GROUPS):
            sums[i] = ZERO
        end = min(<Py_ssize_t> CHUNK, args.depth - chunk)
        for k in range(end // LANES):
            transposed_block(b, column, LANES, first)
            transposed_block(b + LANES * column, column, LANES, second)
            transposed_block(b + 2 * LANES * column, column, LANES, third)
            for j in range(LANES):
                value = splat(from_a[j * step])
                sums[0] = fused(first[j], value, sums[0])
                sums[1] = fused(second[j], value, sums[1])
                sums[2] = fused(third[j], value, sums[2])
            b += LANES
            from_a += LANES * step
        size = <int> (end % LANES)
        if size:
            transposed_block(b, column, size, first)
            transposed_block(b + LANES * column, column, size, second)
            transposed_block(b + 2 * LANES * column, column, size, third)
            for j in range(size):
                value = splat(from_a[j * step])
                sums[0] = fused(first[j], value, sums[0])
                sums[1] = fused(second[j], value, sums[1])
                sums[2] = fused(third[j], value, sums[2])
        for i in range(GROUPS):
            totals[i] = sums[i] if chunk == 0 else totals[i] + sums[i]
        chunk += CHUNK
    rows_end(1, GROUPS, totals, args, part[0])


cdef inline void outer_strip(const MatmulArgs* args, Py_ssize_t top, Py_ssize_t bottom, Py_ssize_t column,
                             Py_ssize_t columns) noexcept nogil:
    """Set out[i, j] = a[i]·b[j], added to zero like every sum, in at most a panel's columns."""
    cdef const real* b = at(&args.b, 0, column)
    cdef const real* a = at(&args.a, top, 0)
    cdef const real* mask = at(&args.mask, top, column) if args.has_mask else NULL
    cdef real* out = at(&args.out, top, column)
    cdef vec value
    cdef vec line[TILE_VECS]
    cdef real factor
    cdef Py_ssize_t i
    cdef int j, size
    for j in range(TILE_VECS):
        line[j] = load_part(b + j * LANES, lanes_of(columns, j))
    if columns == TILE_COLUMNS and mask == NULL and plain(&args.a):
        for i in range(top, bottom):
            value = splat(a[0])
            for j in range(TILE_VECS):
                (<vec*> (out + j * LANES))[0] = fused(line[j], value, ZERO)
            a += args.a.row
            out += args.out.row
        return
    for i in range(top, bottom):
        factor = at(&args.a, i, 0)[0]
        for j in range(TILE_VECS):
            size = lanes_of(columns, j)
            value = fused(line[j], splat(factor), ZERO)
            if mask != NULL:
                value = masked(value, load_part(mask + j * LANES, size))
            store_part(out + j * LANES, value, size)
        out += args.out.row
        if mask != NULL:
            mask += args.mask.row


cdef void outer(const MatmulArgs* args, const Rectangle* local) noexcept nogil:
    """Compute an outer product, a few rows at a time from left to right; in panels, one panel after another."""
    cdef Py_ssize_t top = local.top, column, rows = FEW_ROWS if plain(&args.out) else local.bottom - local.top
    while top < local.bottom:
        column = local.left
        while column < local.right:
            outer_strip(args, top, min(top + rows, local.bottom), column,
                        min(<Py_ssize_t> TILE_COLUMNS, local.right - column))
            column += TILE_COLUMNS
        top += rows


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


cdef inline void along_rows(int height, const MatmulArgs* args, Part part, Py_ssize_t end) noexcept nogil:
    """Compute a few rows of the output from a column on, with as many chains as their width allows."""
    cdef int vecs = vecs_of(height)
    part.columns = GROUPS * LANES
    while height == 1 and args.path == ROWS_ACROSS and lies_apart(&args.b) and part.column + part.columns <= end:
        one_row_across(args, &part)
        part.column += part.columns
    while args.path == ROWS_ACROSS and part.column < end:
        part.columns = min(<Py_ssize_t> LANES, end - part.column)
        rows_across(height, args, &part)
        part.column += LANES
    while height == 1 and plain(&args.b) and part.column + 2 * vecs * LANES <= end:
        part.columns = min(<Py_ssize_t> RUN, (end - part.column) // LANES) * LANES
        one_row(args, &part)
        part.column += part.columns
    part.columns = vecs * LANES
    while part.column + part.columns <= end:
        rows_beside(height, vecs, True, args, &part)
        part.column += part.columns
    while part.column + vecs * LANES // 2 < end:
        part.columns = min(vecs * <Py_ssize_t> LANES, end - part.column)
        rows_beside(height, vecs, False, args, &part)
        part.column += vecs * LANES
    while height == 1 and part.column + LANES < end:
        part.columns = min(vecs * <Py_ssize_t> LANES // 2, end - part.column)
        rows_beside(height, vecs // 2, False, args, &part)
        part.column += vecs * LANES // 2
    while part.column < end:
        part.columns = min(<Py_ssize_t> LANES, end - part.column)
        rows_beside(height, 1, False, args, &part)
        part.column += LANES


cdef void few_rows(const MatmulArgs* args, const Rectangle* local) noexcept nogil:
    cdef Part part = part_of(local.top, local.left, local.bottom - local.top, 0)
    if part.rows == 1:
        along_rows(1, args, part, local.right)
    elif part.rows == 2:
        along_rows(2, args, part, local.right)
    elif 2 < part.rows <= 4:
        along_rows(4, args, part, local.right)
    elif 4 < part.rows <= 6:
        along_rows(6, args, part, local.right)
    elif part.rows > 6:
        along_rows(FEW_ROWS, args, part, local.right)


cdef inline void without_tiles(const MatmulArgs* args, const Rectangle* local) noexcept nogil:
    """Compute a thread's share of a product whose path is defined in this file."""
    if args.path == ROW_BY_ROW:
        row_by_row(args, local)
    elif args.path == OUTER_PRODUCT:
        outer(args, local)
    elif args.path == NO_DEPTH:
        without_depth(args, local)
    else:
        few_rows(args, local)
