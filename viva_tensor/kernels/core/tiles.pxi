# One tile of a matrix product: its sums in registers, then what follows them on the way to the output. A last panel of
# a that is at most a third or two thirds full takes a tile of that height, a last panel of b no wider than a vector one
# of that width.
#
# Sums stay in registers only where every loop over them is unrolled early, which GCC does for loops of up to 16 turns
# within another loop: so loops over a tile go over its rows, and within a row over its vectors, all of them in the loop
# over the tiles of a block.

cdef enum:
    PIECE = 32          # steps of the depth without a look aside
    FETCH_ROWS = 2      # rows of the output fetched with each piece of the depth
    THIRD = TILE_ROWS // 3
    LINE = 64           # bytes that come from memory together


cdef enum Walk:
    PACKED          # a in panels of TILE_ROWS, as packing makes them
    ROW_PANELS      # a in panels of its rows: the transpose of a batch, in the gradient of weights
    COLUMN_PANELS   # a in panels of its columns: a batch, forward, and its gradients on the way back
    STRIDED         # everything else


cdef struct Operand:
    # A block of a or of b^T: vectors of the depth, in panels of TILE_ROWS or TILE_COLUMNS vectors
    Matrix vectors
    Py_ssize_t first        # vector
    Py_ssize_t size         # vectors
    bint packs
    bint padded             # a last part panel may be read where it lies, as if it were whole
    real* room              # the packed panels; without packing only the last one, if it is neither whole nor padded


cdef struct Ahead:
    # What comes from memory while a column of tiles is multiplied: the next panel of b, where it lies
    const real* data
    Py_ssize_t step     # from what one PANEL of the depth takes to the next
    Py_ssize_t lines    # with each PANEL of the depth of a tile; 0: nothing


cdef inline void multiply_step(int height, int vecs, const real* a, Py_ssize_t vector, const real* b,
                               vec* sums) noexcept nogil:
    cdef vec line[TILE_VECS]
    cdef int i, j
    for j in range(vecs):
        line[j] = (<const vec*> (b + j * LANES))[0]
    for i in range(height):
        for j in range(vecs):
            if SPREAD > 1 and known(vector) and vector == SPREAD:
                sums[i * TILE_VECS + j] = fused(line[j], (<const vec*> (a + i * vector))[0], sums[i * TILE_VECS + j])
            else:
                sums[i * TILE_VECS + j] = fused(line[j], splat(a[i * vector]), sums[i * TILE_VECS + j])


cdef inline void fetch_row(const real* row) noexcept nogil:
    cdef int j
    for j in range(<int> ((TILE_COLUMNS * sizeof(real) + LINE - 1) // LINE)):
        prefetch(row + j * (LINE // <int> sizeof(real)))
    prefetch(row + TILE_COLUMNS - 1)


cdef inline void multiply(int height, int vecs, Py_ssize_t depth, const real* a, Py_ssize_t vector, Py_ssize_t step,
                          Py_ssize_t jump, const real* b, Py_ssize_t b_row, const Ahead* ahead, bint fetch_next,
                          const real* out, const real* beside, Py_ssize_t out_row, int fetches,
                          vec* sums) noexcept nogil:
    """sums = a panel · b panel: the innermost loop of the library, in pieces that lie within a panel of a.

    Meanwhile some rows of the output come from memory, and of what lies `beside` it (a mask, moments), few with each
    piece: fetched all at once, or not at all, they cost a tenth of the time of a 1024³ product. A fetch never faults,
    so a part tile may fetch beyond its array.
    """
    cdef Py_ssize_t k, steps, piece = PANEL if jump or ahead != NULL else PIECE
    cdef const real* line = ahead.data if ahead != NULL else NULL
    cdef int i, j
    for i in range(height):
        for j in range(vecs):
            sums[i * TILE_VECS + j] = ZERO
    while depth > 0:
        for i in range(FETCH_ROWS):
            if fetches > 0:
                fetch_row(out)
                out += out_row
                if beside != NULL:
                    fetch_row(beside)
                    beside += out_row
                fetches -= 1
        if ahead != NULL:
            for k in range(ahead.lines):
                prefetch(line + k * (LINE // <int> sizeof(real)))
            line += ahead.step
        steps = min(depth, piece)
        if fetch_next:
            for k in range(steps):
                fetch_row(b + k * b_row + TILE_COLUMNS)
        for k in range(steps):      # never a constant number: unrolled, it would need more registers than there are
            multiply_step(height, vecs, a, vector, b, sums)
            a += step
            b += b_row
        a += jump
        depth -= steps


cdef void add_output(vec* sums, const MatmulArgs* args, Py_ssize_t row, Py_ssize_t column, Py_ssize_t rows,
                     Py_ssize_t columns) noexcept nogil:
    """Sums of earlier blocks of the depth, before those of a tile."""
    cdef Py_ssize_t i
    cdef int j, size
    for i in range(rows):
        for j in range(TILE_VECS):
            size = lanes_of(columns, j)
            if size:
                sums[i * TILE_VECS + j] = read(&args.out, row + i, column + j * LANES, size) + sums[i * TILE_VECS + j]


cdef inline void end_vector(const MatmulArgs* args, Py_ssize_t row, Py_ssize_t column, vec value, int size,
                            bint last) noexcept nogil:
    """What follows `size` sums of a row, in any layout."""
    cdef Py_ssize_t place
    cdef int k
    if last and args.bias.data != NULL:
        value += read(&args.bias, row, column, size)
    if last and args.relu:
        value = relu_of(value)
    if last and args.mask.data != NULL:
        value = masked(value, read(&args.mask, row, column, size))
    if not last or args.update == NULL:
        write(&args.out, row, column, value, size)
        return
    place = at(&args.out, row, column) - <real*> args.out.data
    if args.out.column == 1:
        update_run(args.update, place, <real*> &value, size)
    else:
        for k in range(size):
            update_run(args.update, place + k * args.out.column, <real*> &value + k, 1)


cdef void finish(vec* sums, const MatmulArgs* args, Py_ssize_t row, Py_ssize_t column, Py_ssize_t rows,
                 Py_ssize_t columns, bint last) noexcept nogil:
    """What follows the sums of a tile of which rows × columns lie inside the output, in any layout."""
    cdef Py_ssize_t i
    cdef int j, size
    if last and args.update != NULL and args.out.column == 1 and args.bias.data == NULL and not args.relu \
            and args.mask.data == NULL:
        update_rows(args.update, at(&args.out, row, column) - <real*> args.out.data, args.out.row, <real*> sums,
                    TILE_COLUMNS, rows, columns)
        return
    for i in range(rows):
        for j in range(TILE_VECS):
            size = lanes_of(columns, j)
            if size:
                end_vector(args, row + i, column + j * LANES, sums[i * TILE_VECS + j], size, last)


cdef inline void tile(int height, int vecs, Py_ssize_t depth, const real* a, Py_ssize_t vector, Py_ssize_t step,
                      Py_ssize_t jump, const real* b, Py_ssize_t b_row, Ahead* ahead, bint fetch_next,
                      const MatmulArgs* args, Py_ssize_t row, Py_ssize_t column, Py_ssize_t rows, Py_ssize_t columns,
                      bint first, bint last) noexcept nogil:
    """The tile at (row, column), of which rows × columns lie inside the output. The first block never reads it."""
    cdef vec sums[TILE_ROWS * TILE_VECS]
    cdef vec totals[TILE_ROWS * TILE_VECS]
    cdef real* out = at(&args.out, row, column)
    cdef const real* fetched = out
    cdef const real* beside = NULL
    cdef const real* bias = NULL
    cdef const real* mask = NULL
    cdef Py_ssize_t chunk, place = out - <real*> args.out.data
    cdef real factor
    cdef int i, j
    cdef bint begun = False
    cdef bint part = rows < height or columns < vecs * LANES and not args.padded or args.out.column != 1
    if last and args.update != NULL:
        fetched = <const real*> args.update.w + place
        beside = <const real*> (args.update.first if args.update.first != NULL else args.update.second)
        if beside != NULL:
            beside += place
    if last and args.mask.data != NULL and args.mask.row == args.out.row:
        beside = at(&args.mask, row, column)
    while True:
        chunk = min(depth, CHUNK)
        multiply(height, vecs, chunk, a, vector, step, jump, b, b_row, ahead, fetch_next, fetched, beside, args.out.row,
                 height if (chunk == depth if first else not begun) else 0, sums)
        if begun:
            for i in range(height):
                for j in range(vecs):
                    sums[i * TILE_VECS + j] = totals[i * TILE_VECS + j] + sums[i * TILE_VECS + j]
        elif not first and part:
            for i in range(height):
                for j in range(vecs):
                    totals[i * TILE_VECS + j] = sums[i * TILE_VECS + j]
            add_output(totals, args, row, column, rows, columns)
            for i in range(height):
                for j in range(vecs):
                    sums[i * TILE_VECS + j] = totals[i * TILE_VECS + j]
        elif not first:
            for i in range(height):
                for j in range(vecs):
                    sums[i * TILE_VECS + j] = (<vec*> (out + i * args.out.row + j * LANES))[0] + sums[i * TILE_VECS + j]
        depth -= chunk
        if depth == 0:
            break
        for i in range(height):
            for j in range(vecs):
                totals[i * TILE_VECS + j] = sums[i * TILE_VECS + j]
        begun = True
        a += chunk * step + chunk // PANEL * jump
        b += chunk * b_row
        if ahead != NULL:
            ahead.data += chunk // PANEL * ahead.step
    if part or last and (args.bias.data != NULL and args.bias.column != 1
                         or args.mask.data != NULL and args.mask.column != 1
                         or args.update != NULL and not plain_descent(args.update)):
        for i in range(height):
            for j in range(vecs):
                totals[i * TILE_VECS + j] = sums[i * TILE_VECS + j]
        finish(totals, args, row, column, rows, columns, last)
        return
    if last and args.bias.data != NULL:
        bias = at(&args.bias, row, column)
        for i in range(height):
            for j in range(vecs):
                sums[i * TILE_VECS + j] += (<const vec*> (bias + j * LANES))[0]
    if last and args.relu:
        for i in range(height):
            for j in range(vecs):
                sums[i * TILE_VECS + j] = relu_of(sums[i * TILE_VECS + j])
    if last and args.mask.data != NULL:
        mask = at(&args.mask, row, column)
        for i in range(height):
            for j in range(vecs):
                sums[i * TILE_VECS + j] = masked(sums[i * TILE_VECS + j], (<const vec*> (mask + j * LANES))[0])
            mask += args.mask.row
    if last and args.update != NULL and args.update.first != NULL:
        factor = <real> args.update.rule.momentum
        for i in range(height):
            for j in range(vecs):
                sums[i * TILE_VECS + j] = with_momentum(
                    args.update, place + i * args.out.row + j * LANES, sums[i * TILE_VECS + j], factor)
    if last and args.update != NULL:
        factor = <real> args.update.rule.rate
        for i in range(height):
            for j in range(vecs):
                descend(args.update, place + i * args.out.row + j * LANES, sums[i * TILE_VECS + j], factor)
        return
    for i in range(height):
        for j in range(vecs):
            (<vec*> (out + j * LANES))[0] = sums[i * TILE_VECS + j]
        out += args.out.row


cdef inline void high_tile(int vecs, Py_ssize_t depth, const real* a, Py_ssize_t vector, Py_ssize_t step,
                           Py_ssize_t jump, const real* b, Py_ssize_t b_row, Ahead* ahead, bint fetch_next,
                           const MatmulArgs* args, Py_ssize_t row, Py_ssize_t column, Py_ssize_t rows,
                           Py_ssize_t columns, bint first, bint last) noexcept nogil:
    if EXACT_TILES:
        tile(<int> rows, vecs, depth, a, vector, step, jump, b, b_row, ahead, fetch_next, args, row, column, rows,
             columns, first, last)
    elif rows > 2 * THIRD:
        tile(TILE_ROWS, vecs, depth, a, vector, step, jump, b, b_row, ahead, fetch_next, args, row, column, rows,
             columns, first, last)
    elif rows > THIRD:
        tile(2 * THIRD, vecs, depth, a, vector, step, jump, b, b_row, ahead, fetch_next, args, row, column, rows,
             columns, first, last)
    else:
        tile(THIRD, vecs, depth, a, vector, step, jump, b, b_row, ahead, fetch_next, args, row, column, rows,
             columns, first, last)


cdef inline void tiles_down(Walk walk, const MatmulArgs* args, const Operand* a, Py_ssize_t begin, Py_ssize_t depth,
                            const real* b, Py_ssize_t b_row, const Ahead* ahead, Py_ssize_t column,
                            Py_ssize_t columns, bint first, bint last) noexcept nogil:
    """Every tile of a block of a against one panel of b; the strides within a that `walk` stands for are constants."""
    cdef Py_ssize_t i = 0, rows, vector, step, jump
    cdef bint together = a.vectors.down == PANEL * a.vectors.row    # tiles may reach over the end of a panel of rows
    cdef const real* panel
    cdef Ahead own
    cdef Ahead* fetched = NULL
    # the next panel of a b in rows: rows far apart, of which the hardware fetches nothing by itself
    cdef bint fetch_next = walk == STRIDED and b_row > TILE_COLUMNS and a.size <= TILE_ROWS
    while i < a.size:
        rows = min(TILE_ROWS, a.size - i)
        if ahead != NULL:
            own = ahead[0]
            own.data += i // TILE_ROWS * own.lines * (LINE // <int> sizeof(real))
            fetched = &own
        if walk == PACKED:
            panel, vector, step, jump = a.room + i * SPREAD * depth, SPREAD, TILE_ROWS * SPREAD, 0
        elif walk == ROW_PANELS:
            rows = min(rows, PANEL - (a.first + i) % PANEL)
            panel, vector, step, jump = at(&a.vectors, a.first + i, begin), 1, PANEL, 0
        elif walk == COLUMN_PANELS:
            panel, vector, step = at(&a.vectors, a.first + i, begin), PANEL, 1
            jump = a.vectors.across - PANEL
        else:
            if not together:
                rows = min(rows, PANEL - (a.first + i) % PANEL)
            panel, vector, step, jump = a.room, 1, TILE_ROWS, 0
            if a.packs:
                panel, vector, step = a.room + i * SPREAD * depth, SPREAD, TILE_ROWS * SPREAD
            elif rows == TILE_ROWS or a.padded:
                panel, vector, step = at(&a.vectors, a.first + i, begin), a.vectors.row, a.vectors.column
                jump = a.vectors.across - PANEL * step
        if columns <= LANES:
            high_tile(1, depth, panel, vector, step, jump, b, b_row, fetched, fetch_next, args, a.first + i, column,
                      rows, columns, first, last)
        else:
            high_tile(TILE_VECS, depth, panel, vector, step, jump, b, b_row, fetched, fetch_next, args, a.first + i,
                      column, rows, columns, first, last)
        i += rows
        fetch_next = False


cdef void packed_tiles(const MatmulArgs* args, const Operand* a, Py_ssize_t begin, Py_ssize_t depth, const real* b,
                       Py_ssize_t column, Py_ssize_t columns, bint first, bint last) noexcept nogil:
    tiles_down(PACKED, args, a, begin, depth, b, TILE_COLUMNS, NULL, column, columns, first, last)


cdef void row_panel_tiles(const MatmulArgs* args, const Operand* a, Py_ssize_t begin, Py_ssize_t depth, const real* b,
                          const Ahead* ahead, Py_ssize_t column, Py_ssize_t columns, bint first,
                          bint last) noexcept nogil:
    tiles_down(ROW_PANELS, args, a, begin, depth, b, TILE_COLUMNS, ahead, column, columns, first, last)


cdef void column_panel_tiles(const MatmulArgs* args, const Operand* a, Py_ssize_t begin, Py_ssize_t depth,
                             const real* b, const Ahead* ahead, Py_ssize_t column, Py_ssize_t columns, bint first,
                             bint last) noexcept nogil:
    tiles_down(COLUMN_PANELS, args, a, begin, depth, b, TILE_COLUMNS, ahead, column, columns, first, last)


cdef void strided_tiles(const MatmulArgs* args, const Operand* a, Py_ssize_t begin, Py_ssize_t depth, const real* b,
                        Py_ssize_t b_row, Py_ssize_t column, Py_ssize_t columns, bint first, bint last) noexcept nogil:
    tiles_down(STRIDED, args, a, begin, depth, b, b_row, NULL, column, columns, first, last)
