# Products with few rows (a plan turns a few columns into rows), from b as it lies: some columns of all rows at a time.

cdef enum:
    ROW_VECS = 8        # vectors of sums of one row: enough chains to hide the latency of a fused multiply-add
    AHEAD = 16          # rows of b, or cache lines of its columns, between reading and prefetching
    MOST_CHUNKS = 4     # of a single vector, summed side by side; more would need more registers for addresses
    STREAMS = 8         # rows of b that are read side by side for one row; half as many for more
    STREAMED_ROWS = 4   # rows of a that share them, whose elements stay in registers
    ALWAYS_STREAMED = 2     # rows so few that they wait for memory however near rows of b lie
    FAR_APART = 8192    # bytes between rows of b from which more rows wait too
    RUN = 256           # vectors of all rows whose sums stay in the first-level cache
    SET_STRIDE = 4096   # bytes from one cache line to the next of the same set of the first-level cache
    SHORT = 1024        # elements of columns that end before a prefetch arrives: then the next columns are prefetched
    GROUPS = 3          # groups of columns whose sums of one row hide each other's latency
    FEW_GROUPS = 2      # of as many as GROUPED_ROWS rows
    GROUPED_ROWS = 4


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
    cdef vec lines[FEW_ROWS]
    cdef real* out = at(&args.out, part.row, part.column)
    cdef int i
    for i in range(height):
        lines[i] = sums[i * stride]
        if args.has_bias and i < part.rows:
            lines[i] += splat(at(&args.bias, part.row + i, 0)[0])
        if args.relu:
            lines[i] = relu_of(lines[i])
    if part.columns == LANES and part.rows == height:
        store_transposed(out, args.out.column, LANES, height, lines)
    else:
        store_transposed(out, args.out.column, <int> part.columns, <int> part.rows, lines)


cdef inline bint stores_only(const MatmulArgs* args) noexcept nogil:
    """Return whether finished sums go to adjacent elements of the output as they are."""
    return (args.out.column == 1 and not args.has_bias and not args.relu and not args.has_mask
            and args.update == NULL)


cdef void rows_end(int height, int vecs, const vec* sums, const MatmulArgs* args, Part part) noexcept nogil:
    """Send the finished sums of a few rows to the output: as they are, transposed, or a tile's width at a time."""
    cdef vec lines[FEW_ROWS * TILE_VECS]
    cdef Py_ssize_t columns = part.columns
    cdef int i, j, first
    if columns == vecs * LANES and stores_only(args):
        for i in range(min(<Py_ssize_t> height, part.rows)):
            for j in range(vecs):
                (<vec*> at(&args.out, part.row + i, part.column + j * LANES))[0] = sums[i * vecs + j]
        return
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

    One row that lies in panels is copied into `line`, which others do not need. In place of rows beyond the last one,
    that one stands again.
    """
    cdef int i
    cdef Py_ssize_t k
    if height == 1 and not joined_across(&args.a):
        for k in range(min(<Py_ssize_t> CHUNK, args.depth - chunk)):
            line[k] = at(&args.a, part.row, chunk + k)[0]
        a[0] = line
        return 1
    for i in range(height):
        a[i] = at(&args.a, part.row + min(<Py_ssize_t> i, part.rows - 1), chunk)
    return args.a.column


cdef inline void add_chunks(int height, int vecs, int chunks, bint whole, const MatmulArgs* args, const Part* part,
                            Py_ssize_t chunk, vec* sums) noexcept nogil:
    """Compute the sums of some chunks side by side, whose chains hide each other's latency, from adjacent columns."""
    cdef vec line[ROW_VECS]
    cdef const real* a[FEW_ROWS]
    cdef const real* b = at(&args.b, chunk, part.column)
    cdef const real* source
    cdef real copied[CHUNK]
    cdef Py_ssize_t step = starts(height, args, part, chunk, a, copied), k
    cdef Py_ssize_t next_a = CHUNK * step, next_b = CHUNK * args.b.row
    cdef real value
    cdef int c, i, j
    for i in range(chunks * height * vecs):
        sums[i] = ZERO
    for k in range(min(<Py_ssize_t> CHUNK, args.depth - chunk)):
        for c in range(chunks):
            for j in range(vecs):
                source = b + c * next_b + j * LANES // PANEL * args.b.across + j * LANES % PANEL
                line[j] = (<const vec*> source)[0] if whole else load_part(source, lanes_of(part.columns, j))
                if j * LANES * <int> sizeof(real) % LINE == 0:
                    prefetch(source + AHEAD * args.b.row)
            for i in range(height):
                value = a[i][k * step + c * next_a]
                for j in range(vecs):
                    sums[(c * height + i) * vecs + j] = fused(line[j], splat(value), sums[(c * height + i) * vecs + j])
        b += args.b.row


cdef inline void rows_beside(int height, int vecs, bint whole, const MatmulArgs* args,
                             const Part* part) noexcept nogil:
    """Compute `vecs` vectors of a few rows from b with adjacent columns; the last may be a part vector if not whole."""
    cdef vec sums[FEW_ROWS * ROW_VECS]
    cdef vec totals[FEW_ROWS * ROW_VECS]
    cdef Py_ssize_t chunk = 0
    cdef int chunks = max(1, MOST_CHUNKS // (height * vecs)), beside, c, i
    while chunk < args.depth:
        beside = chunks if plain(&args.a) and plain(&args.b) and chunk + chunks * CHUNK <= args.depth else 1
        if beside > 1:
            add_chunks(height, vecs, chunks, whole, args, part, chunk, sums)
        else:
            add_chunks(height, vecs, 1, whole, args, part, chunk, sums)
        for c in range(beside):
            for i in range(height * vecs):
                totals[i] = totals[i] + sums[c * height * vecs + i] if chunk + c else sums[i]
        stays_in_memory(totals)
        chunk += beside * CHUNK
    rows_end(height, vecs, totals, args, part[0])


cdef inline void add_streams(int height, int streams, const real* b, Py_ssize_t row, const real** a,
                             Py_ssize_t step, Py_ssize_t vecs, vec* sums) noexcept nogil:
    """Add some rows of b, each times the next element of each of a few rows of a, to sums in memory."""
    cdef vec values[STREAMS * STREAMED_ROWS]
    cdef vec line[STREAMS]
    cdef vec value
    cdef const real* beyond = b + streams // 2 * row
    cdef const real* source
    cdef Py_ssize_t j
    cdef int i, s
    for i in range(height):
        for s in range(streams):
            values[i * streams + s] = splat(a[i][s * step])
        a[i] += streams * step
    hide_origin(beyond)
    for j in range(vecs):
        if height > 1:
            for s in range(streams):
                line[s] = (<const vec*> (b + s * row + j * LANES))[0]
        for i in range(height):
            value = sums[i * vecs + j]
            for s in range(streams):
                source = b + s * row if s < streams // 2 else beyond + (s - streams // 2) * row
                value = fused(line[s] if height > 1 else (<const vec*> (source + j * LANES))[0],
                              values[i * streams + s], value)
            sums[i * vecs + j] = value


cdef inline void rows_streamed(int height, const MatmulArgs* args, const Part* part) noexcept nogil:
    """Compute whole vectors of a few rows, RUN of them at most, from adjacent columns of some rows of b at a time.

    Where rows of b lie far apart, memory and its translation take longer for strips that are a few vectors wide.
    """
    cdef vec sums[RUN]
    cdef vec totals[RUN]
    cdef const real* a[FEW_ROWS]
    cdef const real* b
    cdef real copied[CHUNK]
    cdef int streams = STREAMS if height == 1 else STREAMS // 2
    cdef Py_ssize_t chunk = 0, k, end, step, j, vecs = part.columns // LANES
    while chunk < args.depth:
        step = starts(height, args, part, chunk, a, copied)
        b = at(&args.b, chunk, part.column)
        end = min(<Py_ssize_t> CHUNK, args.depth - chunk)
        for j in range(height * vecs):
            sums[j] = ZERO
        k = 0
        while k + streams <= end:
            add_streams(height, streams, b, args.b.row, a, step, vecs, sums)
            b += streams * args.b.row
            k += streams
        while k < end:
            add_streams(height, 1, b, args.b.row, a, step, vecs, sums)
            b += args.b.row
            k += 1
        for j in range(height * vecs):
            totals[j] = sums[j] if chunk == 0 else totals[j] + sums[j]
        chunk += CHUNK
    rows_end(height, <int> vecs, totals, args, part[0])


cdef inline void transposed_block(const Matrix* b, const real* start, Py_ssize_t columns, int size, Py_ssize_t ahead,
                                  vec* lines) noexcept nogil:
    """Load the first `size` elements of at most LANES contiguous columns, transposed; prefetch what is so far ahead."""
    cdef int j
    if size == LANES and columns == LANES:
        load_transposed(start, b.column, LANES, LANES, lines)
        if ahead:
            for j in range(LANES):
                prefetch(start + j * b.column + ahead)
    else:
        for j in range(LANES):
            lines[j] = load_part(start + j * b.column, size) if j < columns else ZERO
        transpose(lines)


cdef inline void add_block(int height, int groups, int size, const vec* lines, const real** a, Py_ssize_t k,
                           vec* sums) noexcept nogil:
    """Add the first `size` rows of transposed blocks, each times its element of each of a few rows of a."""
    cdef vec value
    cdef int i, j, group
    for j in range(LANES):
        if j < size:
            for i in range(height):
                value = splat(a[i][k + j])
                for group in range(groups):
                    sums[i * groups + group] = fused(lines[group * LANES + j], value, sums[i * groups + group])


cdef inline void rows_across(int height, int groups, const MatmulArgs* args, const Part* part) noexcept nogil:
    """Compute `groups` times LANES columns of a few rows, or the last few columns, all contiguous along the depth."""
    cdef vec lines[GROUPS * LANES]
    cdef vec sums[FEW_ROWS]
    cdef vec totals[FEW_ROWS]
    cdef const real* a[FEW_ROWS]
    cdef const real* b
    cdef Py_ssize_t chunk = 0, end, k, columns = part.columns if groups == 1 else LANES
    cdef Py_ssize_t ahead = AHEAD * LANES if args.depth > SHORT else groups * LANES * args.b.column
    cdef int i, group, size
    if args.depth * args.columns <= LARGE:
        ahead = 0       # b lies in the second-level cache
    while chunk < args.depth:
        starts(height, args, part, chunk, a, NULL)
        for i in range(height * groups):
            sums[i] = ZERO
        end = min(<Py_ssize_t> CHUNK, args.depth - chunk)
        k = 0
        while k < end:
            size = <int> min(<Py_ssize_t> LANES, end - k)
            b = at(&args.b, chunk + k, part.column)
            for group in range(groups):
                transposed_block(&args.b, b + group * LANES * args.b.column, columns, size, ahead,
                                 lines + group * LANES)
            if size == LANES:
                add_block(height, groups, LANES, lines, a, k, sums)
            else:
                add_block(height, groups, size, lines, a, k, sums)
            k += LANES
        for i in range(height * groups):
            totals[i] = sums[i] if chunk == 0 else totals[i] + sums[i]
        stays_in_memory(totals)
        chunk += CHUNK
    rows_end(height, groups, totals, args, part[0])


cdef inline bint lies_apart(const Matrix* b) noexcept nogil:
    """Return whether columns that are read side by side do not evict each other: theirs would be the same cache set."""
    return plain(b) and b.column * <Py_ssize_t> sizeof(real) % SET_STRIDE != 0


cdef inline void along_columns(int height, const MatmulArgs* args, Part part, Py_ssize_t end) noexcept nogil:
    """Compute a few rows of the output from a column on, from b whose columns are contiguous."""
    cdef int groups = GROUPS if height == 1 else FEW_GROUPS
    part.columns = groups * LANES
    if height <= GROUPED_ROWS and lies_apart(&args.b) and joined_across(&args.out):
        while part.column + part.columns <= end:
            rows_across(height, groups, args, &part)
            part.column += part.columns
    while part.column < end:
        part.columns = min(<Py_ssize_t> LANES, end - part.column)
        rows_across(height, 1, args, &part)
        part.column += LANES


cdef inline void strips(int height, int vecs, const MatmulArgs* args, Part* part, Py_ssize_t end) noexcept nogil:
    """Compute strips of so many vectors from a column on, and a last one that fills more than half of them."""
    part.columns = vecs * LANES
    while part.column + part.columns <= end:
        rows_beside(height, vecs, True, args, part)
        part.column += part.columns
    if part.column + vecs // 2 * LANES < end:
        part.columns = end - part.column
        rows_beside(height, vecs, False, args, part)
        part.column = end


cdef inline bint streams_pay(int height, const MatmulArgs* args) noexcept nogil:
    """Return whether a few rows are faster from some rows of b side by side: such products wait for memory."""
    return plain(&args.b) and (height <= ALWAYS_STREAMED or (
        height <= STREAMED_ROWS and args.b.row * <Py_ssize_t> sizeof(real) >= FAR_APART))


cdef inline void along_rows(int height, const MatmulArgs* args, Part part, Py_ssize_t end) noexcept nogil:
    """Compute a few rows of the output from a column on, from b in rows, with as many chains as their width allows."""
    cdef int vecs = vecs_of(height)
    while streams_pay(height, args) and part.column + 2 * ROW_VECS * LANES <= end:
        part.columns = min(<Py_ssize_t> RUN // height, (end - part.column) // LANES) * LANES
        rows_streamed(height, args, &part)
        part.column += part.columns
    strips(height, vecs, args, &part, end)      # and halves, down to one vector: constants, so that each is unrolled
    if vecs >= 2:
        strips(height, vecs // 2, args, &part, end)
    if vecs >= 4:
        strips(height, vecs // 4, args, &part, end)
    if vecs >= 8:
        strips(height, vecs // 8, args, &part, end)


cdef void copy_lines(Matrix* matrix, Py_ssize_t rows, Py_ssize_t columns, real* buffer) noexcept nogil:
    """Copy a matrix into rows that are contiguous."""
    cdef Py_ssize_t row, column
    cdef const real* source
    for column in range(columns):
        source = at(matrix, 0, column)
        for row in range(rows):
            buffer[row * columns + column] = source[row * matrix.row]
    matrix.data = buffer
    matrix.row, matrix.column = columns, 1
    matrix.down = matrix.across = 0
    set_panel_strides(matrix)


cdef inline void rows_of_height(int height, const MatmulArgs* args, const Rectangle* local) noexcept nogil:
    cdef Part part = part_of(local.top, local.left, local.bottom - local.top, 0)
    if args.path == ROWS_ACROSS:
        along_columns(height, args, part, local.right)
    else:
        along_rows(height, args, part, local.right)


cdef void few_rows(const MatmulArgs* given, const Rectangle* local, real* buffer) noexcept nogil:
    """Compute a share of a product of few rows, of which a is copied into lines first if b lies along the depth."""
    cdef MatmulArgs lined
    cdef const MatmulArgs* args = given
    cdef Py_ssize_t rows = local.bottom - local.top
    if rows == 0 or local.left == local.right:
        return
    if args.path == ROWS_ACROSS and not in_lines(&args.a):
        lined = given[0]
        copy_lines(&lined.a, lined.rows, lined.depth, buffer)
        args = &lined
    if rows == 1:
        rows_of_height(1, args, local)
    elif rows == 2:
        rows_of_height(2, args, local)
    elif 2 < rows <= 4:
        rows_of_height(4, args, local)
    elif 4 < rows <= 6:
        rows_of_height(6, args, local)
    elif rows > 6:
        rows_of_height(FEW_ROWS, args, local)
