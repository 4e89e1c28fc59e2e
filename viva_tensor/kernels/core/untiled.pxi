# Products for which tiles would be a waste: no depth or a few steps of it, few rows (gemv.pxi), few outputs over a
# great depth (deep.pxi), or few multiply-adds in all.

cdef enum:
    STRIP_ROWS = 4      # rows that share a load of b
    ROWS_AT_ONCE = 8    # rows that are written from left to right before the next, at least
    BYTES_AT_ONCE = 16384   # of them, half of a first-level cache
    ROWS_OF_COPY = 64   # rows that share a copy of a strip of b
    STEPS_OF_QUARTER = 4    # that are transposed with one load of each column
    PAGE = 4096         # bytes of a page of memory, at least


cdef struct Strip:      # b, as wide as a part of the output
    const real* b
    Py_ssize_t step     # from one step of the depth to the next


cdef inline void copy_transposed(const Matrix* b, Py_ssize_t depth, Py_ssize_t column, int columns, Py_ssize_t step,
                                 real* copied) noexcept nogil:
    """Copy a vector's columns of b, each contiguous; zeros if there are none, else what is of no use follows them."""
    cdef vec lines[LANES]
    cdef Py_ssize_t k = 0
    cdef int i, size
    for i in range(LANES):
        lines[i] = ZERO
    while k < depth:
        size = <int> min(<Py_ssize_t> LANES, depth - k)
        if columns == LANES:
            load_transposed(at(b, k, column), b.column, LANES, size, lines)
        elif columns > 0:
            load_some_transposed(at(b, k, column), b.column, columns, size, lines)
        for i in range(size):
            (<vec*> (copied + (k + i) * step))[0] = lines[i]
        k += LANES


cdef inline Strip strip_of(int vecs, const MatmulArgs* args, const Part* part, real* copied) noexcept nogil:
    """Find the columns of b of a part; they are copied if they are not adjacent or not whole vectors."""
    cdef Strip strip
    cdef Py_ssize_t k
    cdef int j
    strip.b, strip.step = at(&args.b, 0, part.column), args.b.row
    if args.b.row == 1 and args.b.column != 1 and args.depth > 1:
        strip.b, strip.step = copied, vecs * LANES
        for j in range(vecs):
            copy_transposed(&args.b, args.depth, part.column + j * LANES, lanes_of(part.columns, j), strip.step,
                            copied + j * LANES)
    elif args.b.column != 1 or part.columns < vecs * LANES:
        strip.b, strip.step = copied, vecs * LANES
        for k in range(args.depth):
            for j in range(vecs):
                (<vec*> (copied + (k * vecs + j) * LANES))[0] = read(&args.b, k, part.column + j * LANES,
                                                                     lanes_of(part.columns, j))
    return strip


cdef inline void strip_rows(int height, int vecs, Reach reach, Strip strip, const MatmulArgs* args,
                            Part part) noexcept nogil:
    """Compute rows of a part of the output, `height` at a time down each of its panels; the last few are left."""
    cdef vec sums[STRIP_ROWS * TILE_VECS]
    cdef vec finished[STRIP_ROWS * TILE_VECS]   # in memory: only what is there has an address
    cdef const real* a
    cdef const real* b
    cdef real* out
    cdef Py_ssize_t a_row = args.a.row, a_step = args.a.column, out_row = args.out.row, depth = args.depth
    cdef Py_ssize_t end = part.row + part.rows, right = part.column + part.columns, top = part.row, k
    cdef Py_ssize_t columns = part.columns      # of a strip that is narrower than its vectors
    cdef int i, j
    cdef bint plainly = stores_only(args)
    part.rows = height
    while part.column < right:
        part.row, part.columns = top, min(<Py_ssize_t> vecs * LANES, right - part.column)
        a = at(&args.a, part.row, 0)
        out = at(&args.out, part.row, part.column)
        while part.row + height <= end:
            for i in range(height):
                for j in range(vecs):
                    sums[i * TILE_VECS + j] = ZERO
            b = strip.b
            for k in range(depth):
                multiply_step(height, vecs, a + k * a_step, a_row, b, sums)
                b += strip.step
            if plainly:
                for i in range(height):
                    for j in range(vecs):
                        if reach == WHOLE:
                            (<vec*> (out + i * out_row + j * LANES))[0] = sums[i * TILE_VECS + j]
                        else:
                            store_part(out + i * out_row + j * LANES, sums[i * TILE_VECS + j], lanes_of(columns, j))
            else:
                copy_sums(height, vecs, sums, finished)
                follow(height, vecs, reach, args, &part, finished)
                write_output(height, vecs, reach, args, &part, finished)
            part.row += height
            a += height * a_row
            out += height * out_row
        part.column += vecs * LANES
        strip.b += vecs * LANES


cdef inline void outer_rows(const real* b, const MatmulArgs* args, const Part* part) noexcept nogil:
    """Set out[i, j] = a[i]·b[j], added to zero like every sum, in whole panels: no loads between stores but of a."""
    cdef vec line[TILE_VECS]
    cdef vec value
    cdef const real* a
    cdef real* out
    cdef Py_ssize_t column = 0, columns = part.columns, a_row = args.a.row, out_row = args.out.row, i
    cdef int j
    while column < columns:
        for j in range(TILE_VECS):
            line[j] = (<const vec*> (b + column + j * LANES))[0]
        a = at(&args.a, part.row, 0)
        out = at(&args.out, part.row, part.column + column)
        for i in range(part.rows):
            value = splat(a[0])
            for j in range(TILE_VECS):
                (<vec*> (out + j * LANES))[0] = fused(line[j], value, ZERO)
            a += a_row
            out += out_row
        column += TILE_COLUMNS


cdef inline void shallow_part(int vecs, Reach reach, const MatmulArgs* args, Part part) noexcept nogil:
    """Compute a part of the output: whole panels of which each lies beside the next, or a strip that is narrower."""
    cdef real copied[FEW_STEPS * TILE_COLUMNS]
    cdef Strip strip = strip_of(vecs, args, &part, copied)
    if reach == WHOLE and args.depth == 1 and stores_only(args):
        outer_rows(strip.b, args, &part)
        return
    strip_rows(STRIP_ROWS, vecs, reach, strip, args, part)
    part.row += part.rows // STRIP_ROWS * STRIP_ROWS
    part.rows %= STRIP_ROWS
    if part.rows:
        strip_rows(1, vecs, reach, strip, args, part)


cdef inline Py_ssize_t one_row_across(int most, const MatmulArgs* args, Py_ssize_t column,
                                      Py_ssize_t end) noexcept nogil:
    """Compute whole vectors of one row from contiguous columns of at most `most` elements; return where they end."""
    cdef vec lines[LANES]
    cdef vec total
    cdef const real* b = at(&args.b, 0, column)
    cdef real* out = at(&args.out, 0, column)
    cdef int depth = <int> args.depth, k
    while column + LANES <= end:
        load_transposed(b, args.b.column, LANES, min(depth, most), lines)
        total = ZERO
        for k in range(min(depth, most)):
            total = fused(lines[k], splat(at(&args.a, 0, k)[0]), total)
        (<vec*> out)[0] = total
        b += LANES * args.b.column
        out += LANES
        column += LANES
    return column


cdef inline bint is_one_row_across(const MatmulArgs* args, const Rectangle* local) noexcept nogil:
    """Return whether a shallow product has one row, stored as it is, and contiguous columns of few elements."""
    return (args.rows == 1 and local.bottom > local.top and args.depth <= LANES
            and args.b.row == 1 and args.b.column != 1 and plain(&args.out) and stores_only(args))


cdef inline bint lie_in_rows(const MatmulArgs* args) noexcept nogil:
    """Return whether b, the output and the mask have whole rows of adjacent elements."""
    return (args.b.column == 1 and plain(&args.b) and plain(&args.out)
            and (not args.has_mask or plain(&args.mask)))


cdef void shallow(const MatmulArgs* args, const Rectangle* local) noexcept nogil:
    """Compute a product of a few steps: some rows from left to right, then the next; in panels, one after another."""
    cdef Part part = part_of(local.top, local.left, 0, 0)
    cdef bint in_rows = lie_in_rows(args)
    cdef Py_ssize_t at_once = args.rows, left = local.left
    if is_one_row_across(args, local):
        if args.depth <= STEPS_OF_QUARTER:
            left = one_row_across(STEPS_OF_QUARTER, args, left, local.right)
        else:
            left = one_row_across(LANES, args, left, local.right)
    if plain(&args.out) and local.right - local.left > TILE_COLUMNS:
        at_once = ROWS_OF_COPY
        if in_rows:
            at_once = BYTES_AT_ONCE // <Py_ssize_t> sizeof(real) // (local.right - local.left)
            at_once = max(<Py_ssize_t> ROWS_AT_ONCE, at_once // STRIP_ROWS * STRIP_ROWS)
    while part.row < local.bottom:
        part.rows = min(at_once, local.bottom - part.row)
        if not joined(&args.a):
            part.rows = min(part.rows, PANEL - part.row % PANEL)
        part.column = left
        while part.column < local.right:
            part.columns = local.right - part.column
            if part.columns >= TILE_COLUMNS:
                part.columns = part.columns // TILE_COLUMNS * TILE_COLUMNS if in_rows else TILE_COLUMNS
                shallow_part(TILE_VECS, WHOLE, args, part)
            elif part.columns > LANES:
                shallow_part(TILE_VECS, EDGE, args, part)
            else:
                shallow_part(1, EDGE, args, part)
            part.column += part.columns
        part.row += part.rows


cdef inline bint reaches_beyond_page(const real* source, int size) noexcept nogil:
    """Return whether a vector from here lies on two pages and its first elements on one.

    A masked load of such a vector takes a hundred times as long if the second page is not mapped.
    """
    cdef uintptr_t start = <uintptr_t> source
    return (start + size * sizeof(real) - 1) // PAGE != (start + LANES * sizeof(real) - 1) // PAGE


cdef inline void row_by_row(const MatmulArgs* args, const Rectangle* local) noexcept nogil:
    """Compute a vector for each row: at most LANES columns, adjacent in b."""
    cdef real copied[FEW]
    cdef vec sums, total
    cdef const real* a
    cdef const real* b
    cdef const real* top = <const real*> args.b.data + local.left
    cdef Py_ssize_t step = args.b.row, i, k, chunk
    cdef Part part = part_of(0, local.left, 1, local.right - local.left)
    cdef int size = <int> (local.right - local.left), j
    if size > 0 and reaches_beyond_page(top + (args.depth - 1 if step > 0 else 0) * step, size):
        for k in range(args.depth):
            for j in range(size):
                copied[k * size + j] = top[k * step + j]
        top, step = copied, size
    for i in range(local.top, local.bottom):
        total = ZERO
        chunk = 0
        while chunk < args.depth:
            a = <const real*> args.a.data + i * args.a.row + chunk * args.a.column
            b = top + chunk * step
            sums = ZERO
            for k in range(min(CHUNK, args.depth - chunk)):
                sums = fused(load_part(b, size), splat(a[0]), sums)
                a += args.a.column
                b += step
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


cdef inline void without_tiles(const MatmulArgs* args, const Rectangle* local, real* buffer) noexcept nogil:
    """Compute a thread's share of a product that takes no tiles."""
    if args.path == ROW_BY_ROW:
        row_by_row(args, local)
    elif args.path == SHALLOW:
        shallow(args, local)
    elif args.path == NO_DEPTH:
        without_depth(args, local)
    elif args.path == DEEP:
        deep(args, local)
    else:
        few_rows(args, local, buffer)
