# One tile of a matrix product: its sums in registers, then the epilogue on the way to the output. If a last panel of a
# is at most a third or two thirds full, its tiles have that height; if a last panel of b is at most one vector wide,
# its tiles have that width.
#
# Sums stay in registers only if every loop over them is unrolled early. GCC does so for loops of up to 16 turns within
# another loop: so loops over a tile go over its rows, and within a row over its vectors, all inside the loop over the
# tiles of a block. The structs below are passed by value, so that their fields become registers or constants.

cdef enum:
    PIECE = 32          # steps of the depth between prefetches
    FETCH_ROWS = 2      # rows of the output prefetched with each piece of the depth
    THIRD = TILE_ROWS // 3
    LINE = 64           # bytes of a cache line


cdef struct Operand:    # a block of a or of bᵀ: vectors of the depth, in panels of TILE_ROWS or TILE_COLUMNS vectors
    Matrix vectors
    Py_ssize_t first        # vector
    Py_ssize_t size         # vectors
    bint packs
    bint padded             # a last part panel may be read in place, as if it were whole
    real* buffer            # the packed panels; without packing only the last panel, if neither whole nor padded


cdef struct Left:       # rows of a, as a tile reads them
    const real* data
    Py_ssize_t vector       # from one row to the next
    Py_ssize_t step         # from one step of the depth to the next
    Py_ssize_t jump         # in addition, after each PANEL steps
    bint in_panels          # pieces of the depth end where panels do


cdef struct Right:      # a panel of b, as a tile reads it
    const real* data
    Py_ssize_t step         # from one step of the depth to the next
    bint fetch_next         # prefetch the panel to the right
    const real* next_panel  # the next panel, to be prefetched too
    Py_ssize_t next_step    # from its lines for one PANEL of the depth to those for the next
    Py_ssize_t next_lines   # its cache lines for each PANEL of the depth; 0: none


cdef struct Fetch:      # rows to prefetch while sums are computed: of the output, and of another operand
    const real* out
    const real* beside      # NULL: nothing
    Py_ssize_t step         # from one row to the next, of both
    int rows


cdef enum Reach:        # how the vectors of a tile's sums lie in the output
    ANY_LAYOUT
    EDGE                # adjacent elements, the last vector perhaps not all
    WHOLE               # adjacent elements, all of each vector


cdef struct Part:       # a part of the output, and of the sums that go there
    Py_ssize_t row, column      # where it begins
    Py_ssize_t rows, columns    # as far as the output reaches
    bint first, last            # block of the depth


cdef inline void multiply_step(int height, int vecs, const real* a, Py_ssize_t vector, const real* b,
                               vec* sums) noexcept nogil:
    cdef vec line[TILE_VECS]
    cdef int i, j
    for j in range(vecs):
        line[j] = (<const vec*> (b + j * LANES))[0]
    for i in range(height):
        for j in range(vecs):
            if BROADCAST > 1 and known(vector) and vector == BROADCAST:
                sums[i * TILE_VECS + j] = fused(line[j], (<const vec*> (a + i * vector))[0], sums[i * TILE_VECS + j])
            else:
                sums[i * TILE_VECS + j] = fused(line[j], splat(a[i * vector]), sums[i * TILE_VECS + j])


cdef inline void fetch_row(const real* row) noexcept nogil:
    cdef int j
    for j in range(<int> ((TILE_COLUMNS * sizeof(real) + LINE - 1) // LINE)):
        prefetch(row + j * (LINE // <int> sizeof(real)))
    prefetch(row + TILE_COLUMNS - 1)


cdef inline void multiply(int height, int vecs, Py_ssize_t depth, Left a, Right b, Fetch fetch,
                          vec* sums) noexcept nogil:
    """Compute sums = a panel · b panel: the innermost loop of the library, in pieces that lie within a panel of a.

    A few rows are prefetched with each piece: prefetched all at once, or not at all, they cost a tenth of the time of a
    1024³ product. A prefetch never faults, so a part tile may prefetch beyond its array.
    """
    cdef Py_ssize_t k, steps, piece = PANEL if a.in_panels else PIECE
    cdef int i, j
    for i in range(height):
        for j in range(vecs):
            sums[i * TILE_VECS + j] = ZERO
    while depth > 0:
        for i in range(FETCH_ROWS):
            if fetch.rows > 0:
                fetch_row(fetch.out)
                fetch.out += fetch.step
                if fetch.beside != NULL:
                    fetch_row(fetch.beside)
                    fetch.beside += fetch.step
                fetch.rows -= 1
        for k in range(b.next_lines):
            prefetch(b.next_panel + k * (LINE // <int> sizeof(real)))
        b.next_panel += b.next_step
        steps = min(depth, piece)
        if b.fetch_next:
            for k in range(steps):
                fetch_row(b.data + k * b.step + TILE_COLUMNS)
        for k in range(steps):      # never a constant number: unrolled, it would need more registers than there are
            multiply_step(height, vecs, a.data, a.vector, b.data, sums)
            a.data += a.step
            b.data += b.step
        a.data += a.jump
        depth -= steps


cdef inline vec beside(const Matrix* matrix, const real* first, const Part* part, int i, int j,
                       Reach reach) noexcept nogil:
    """Return vector j of row i of a matrix with the layout of a part of the output; that part begins at `first`."""
    if reach == WHOLE:
        return (<const vec*> (first + i * matrix.row + j * LANES))[0]
    if reach == EDGE:
        return load_part(first + i * matrix.row + j * LANES, lanes_of(part.columns, j))
    return read(matrix, part.row + i, part.column + j * LANES, lanes_of(part.columns, j))


cdef inline void add_bias(int height, int vecs, Reach reach, const MatmulArgs* args, const Part* part,
                          vec* sums) noexcept nogil:
    cdef const real* bias = at(&args.bias, part.row, part.column)
    cdef int i, j
    for i in range(height):
        for j in range(vecs):
            sums[i * TILE_VECS + j] += beside(&args.bias, bias, part, i, j, reach)


cdef inline void apply_relu(int height, int vecs, vec* sums) noexcept nogil:
    cdef int i, j
    for i in range(height):
        for j in range(vecs):
            sums[i * TILE_VECS + j] = relu_of(sums[i * TILE_VECS + j])


cdef inline void apply_mask(int height, int vecs, Reach reach, const MatmulArgs* args, const Part* part,
                            vec* sums) noexcept nogil:
    cdef const real* mask = at(&args.mask, part.row, part.column)
    cdef int i, j
    for i in range(height):
        for j in range(vecs):
            sums[i * TILE_VECS + j] = masked(sums[i * TILE_VECS + j], beside(&args.mask, mask, part, i, j, reach))


cdef inline void write_output(int height, int vecs, Reach reach, const MatmulArgs* args, const Part* part,
                              const vec* sums) noexcept nogil:
    cdef real* out = at(&args.out, part.row, part.column)
    cdef Py_ssize_t columns = part.columns      # read again after each store, it would take time
    cdef int i, j
    for i in range(height):
        for j in range(vecs):
            if reach == WHOLE:
                (<vec*> (out + j * LANES))[0] = sums[i * TILE_VECS + j]
            elif reach == EDGE:
                store_part(out + j * LANES, sums[i * TILE_VECS + j], lanes_of(columns, j))
            else:
                write(&args.out, part.row + i, part.column + j * LANES, sums[i * TILE_VECS + j],
                      lanes_of(part.columns, j))
        out += args.out.row


cdef inline void follow(int height, int vecs, Reach reach, const MatmulArgs* args, const Part* part,
                        vec* sums) noexcept nogil:
    """Apply what follows the finished sums of a part of the output."""
    if args.has_bias:
        add_bias(height, vecs, reach, args, part, sums)
    if args.relu:
        apply_relu(height, vecs, sums)
    if args.has_mask:
        apply_mask(height, vecs, reach, args, part, sums)


cdef inline void epilogue(int height, int vecs, Reach reach, const MatmulArgs* args, const Part* part,
                          vec* sums) noexcept nogil:
    """Finish the sums of a part of the output: bias, relu, mask, then an update of weights or the output itself."""
    if part.last:
        follow(height, vecs, reach, args, part, sums)
    if part.last and args.update != NULL:
        update_part(height, vecs, reach, args, part, sums)
    else:
        write_output(height, vecs, reach, args, part, sums)


cdef inline void update_part(int height, int vecs, Reach reach, const MatmulArgs* args, const Part* part,
                             vec* sums) noexcept nogil:
    """Update the weights whose gradient is a part of the output; the output is then only a buffer for sums."""
    cdef Py_ssize_t offset = at(&args.out, part.row, part.column) - <real*> args.out.data, k
    cdef const real* grads = <const real*> sums
    cdef real turned[(TILE_ROWS + FEW_ROWS) * TILE_COLUMNS]     # of tiles, or of a few whole rows
    cdef int i, j
    if reach == WHOLE:
        descend(height, vecs, args.update, offset, args.out.row, sums)
    elif args.out.column == 1:
        update_rows(args.update, offset, args.out.row, grads, TILE_COLUMNS, height, part.columns)
    else:       # the rows of a column follow each other, as weights lie in one way or the other
        for k in range(part.columns):
            for i in range(height):
                turned[k * height + i] = grads[i * TILE_COLUMNS + k]
        update_rows(args.update, offset, args.out.column, turned, height, part.columns, height)


cdef void epilogue_in_any_layout(vec* sums, const MatmulArgs* args, const Part* part) noexcept nogil:
    cdef int height = <int> part.rows, vecs = <int> panels(part.columns, LANES)
    if args.out.column == 1 and (not part.last or ends_in_registers(EDGE, args)):
        epilogue(height, vecs, EDGE, args, part, sums)
    else:
        epilogue(height, vecs, ANY_LAYOUT, args, part, sums)


cdef inline Fetch fetched(const MatmulArgs* args, const Part* part, int height) noexcept nogil:
    """Find the rows that the epilogue of a tile will read or write, if they have the layout of the output."""
    cdef Fetch fetch
    cdef Py_ssize_t offset = at(&args.out, part.row, part.column) - <real*> args.out.data
    fetch.out, fetch.beside = <const real*> args.out.data + offset, NULL
    fetch.step, fetch.rows = args.out.row, height
    if part.last and args.update != NULL:
        fetch.out = <const real*> args.update.w + offset
        fetch.beside = <const real*> (args.update.first if args.update.first != NULL else args.update.second)
        if fetch.beside != NULL:
            fetch.beside += offset
    if part.last and args.has_mask and args.mask.row == args.out.row:
        fetch.beside = at(&args.mask, part.row, part.column)
    return fetch


cdef inline bint in_whole_vectors(int height, int vecs, const MatmulArgs* args, const Part* part) noexcept nogil:
    """Return whether the output takes a tile's sums straight from registers."""
    return args.out.column == 1 and part.rows >= height and (part.columns >= vecs * LANES or args.padded)


cdef inline bint ends_in_registers(Reach reach, const MatmulArgs* args) noexcept nogil:
    """Return whether bias, mask and update take the sums as the output does."""
    return ((not args.has_bias or args.bias.column == 1) and (not args.has_mask or args.mask.column == 1)
            and (args.update == NULL or (reach == WHOLE and plain_descent(args.update))))


cdef inline void copy_sums(int height, int vecs, const vec* source, vec* target) noexcept nogil:
    cdef int i, j
    for i in range(height):
        for j in range(vecs):
            target[i * TILE_VECS + j] = source[i * TILE_VECS + j]


cdef inline void add_totals(int height, int vecs, const vec* totals, vec* sums) noexcept nogil:
    """Add the sums of this chunk of the depth to those of earlier chunks."""
    cdef int i, j
    for i in range(height):
        for j in range(vecs):
            sums[i * TILE_VECS + j] = totals[i * TILE_VECS + j] + sums[i * TILE_VECS + j]


cdef inline void add_output(int height, int vecs, Reach reach, const MatmulArgs* args, const Part* part,
                            vec* sums) noexcept nogil:
    """Add the sums of a tile to those of earlier blocks of the depth."""
    cdef const real* out = at(&args.out, part.row, part.column)
    cdef int i, j
    for i in range(height):
        for j in range(vecs):
            sums[i * TILE_VECS + j] = beside(&args.out, out, part, i, j, reach) + sums[i * TILE_VECS + j]


cdef void add_output_in_any_layout(vec* sums, const MatmulArgs* args, const Part* part) noexcept nogil:
    cdef int height = <int> part.rows, vecs = <int> panels(part.columns, LANES)
    if args.out.column == 1:
        add_output(height, vecs, EDGE, args, part, sums)
    else:
        add_output(height, vecs, ANY_LAYOUT, args, part, sums)


cdef inline void tile(int height, int vecs, Py_ssize_t depth, Left a, Right b, const MatmulArgs* args,
                      const Part* part) noexcept nogil:
    """Compute a tile, one chunk of its depth after another. The first block of the depth never reads the output."""
    cdef vec sums[TILE_ROWS * TILE_VECS]
    cdef vec totals[TILE_ROWS * TILE_VECS]
    cdef Py_ssize_t chunk
    cdef Fetch fetch = fetched(args, part, height)
    cdef bint begun = False, whole = in_whole_vectors(height, vecs, args, part)
    if part.first and depth > CHUNK:
        fetch.rows = 0      # prefetch while the last chunk is multiplied
    while True:
        chunk = min(depth, CHUNK)
        if part.first and chunk == depth:
            fetch.rows = height
        multiply(height, vecs, chunk, a, b, fetch, sums)
        fetch.rows = 0
        if begun:
            add_totals(height, vecs, totals, sums)
        elif not part.first and whole:
            add_output(height, vecs, WHOLE, args, part, sums)
        elif not part.first:
            copy_sums(height, vecs, sums, totals)   # only what is in memory has an address
            add_output_in_any_layout(totals, args, part)
            copy_sums(height, vecs, totals, sums)
        depth -= chunk
        if depth == 0:
            break
        copy_sums(height, vecs, sums, totals)
        begun = True
        a.data += chunk * a.step + chunk // PANEL * a.jump
        b.data += chunk * b.step
        b.next_panel += chunk // PANEL * b.next_step
    if whole and (not part.last or ends_in_registers(WHOLE, args)):
        epilogue(height, vecs, WHOLE, args, part, sums)
        return
    copy_sums(height, vecs, sums, totals)
    epilogue_in_any_layout(totals, args, part)


cdef inline void tile_of_height(int vecs, Py_ssize_t depth, Left a, Right b, const MatmulArgs* args,
                                const Part* part) noexcept nogil:
    if EXACT_TILES:
        tile(<int> part.rows, vecs, depth, a, b, args, part)
    elif part.rows > 2 * THIRD:
        tile(TILE_ROWS, vecs, depth, a, b, args, part)
    elif part.rows > THIRD:
        tile(2 * THIRD, vecs, depth, a, b, args, part)
    else:
        tile(THIRD, vecs, depth, a, b, args, part)


cdef inline Left left_of(Path walk, const Operand* a, Py_ssize_t i, Py_ssize_t begin, Py_ssize_t depth,
                         Py_ssize_t* rows) noexcept nogil:
    """Return the rows of a block from i on as a tile reads them; strides known from `walk` are constants."""
    cdef Left left
    left.in_panels = walk == ROW_PANELS or walk == COLUMN_PANELS
    if walk == PACKED:
        left.data, left.vector, left.step = a.buffer + i * BROADCAST * depth, BROADCAST, TILE_ROWS * BROADCAST
        left.jump = 0
    elif walk == ROW_PANELS:
        rows[0] = min(rows[0], PANEL - (a.first + i) % PANEL)
        left.data, left.vector, left.step, left.jump = at(&a.vectors, a.first + i, begin), 1, PANEL, 0
    elif walk == COLUMN_PANELS:
        left.data, left.vector, left.step = at(&a.vectors, a.first + i, begin), PANEL, 1
        left.jump = a.vectors.across - PANEL
    else:
        if not joined(&a.vectors):     # else tiles may reach over the end of a panel of rows
            rows[0] = min(rows[0], PANEL - (a.first + i) % PANEL)
        left.data, left.vector, left.step, left.jump = a.buffer, 1, TILE_ROWS, 0
        if a.packs:
            left.data, left.vector, left.step = a.buffer + i * BROADCAST * depth, BROADCAST, TILE_ROWS * BROADCAST
        elif rows[0] == TILE_ROWS or a.padded:
            left.data = at(&a.vectors, a.first + i, begin)
            left.vector, left.step = a.vectors.row, a.vectors.column
            left.jump = a.vectors.across - PANEL * left.step
        left.in_panels = left.jump != 0
    return left


cdef inline void tiles_down(Path walk, const MatmulArgs* args, const Operand* a, Right b, Py_ssize_t begin,
                            Py_ssize_t depth, Part part) noexcept nogil:
    """Compute every tile of a block of a against one panel of b."""
    cdef Py_ssize_t i = 0, fetched_lines = b.next_lines * (LINE // <Py_ssize_t> sizeof(real))
    cdef const real* following = b.next_panel
    cdef Left left
    if walk != STRIDED:
        b.step = TILE_COLUMNS
    if walk == PACKED or walk == STRIDED:
        b.next_panel, b.next_step, b.next_lines = NULL, 0, 0
    # rows so far apart that the hardware prefetches nothing by itself
    b.fetch_next = walk == STRIDED and b.step > TILE_COLUMNS and a.size <= TILE_ROWS
    while i < a.size:
        part.row, part.rows = a.first + i, min(TILE_ROWS, a.size - i)
        left = left_of(walk, a, i, begin, depth, &part.rows)
        if walk == ROW_PANELS or walk == COLUMN_PANELS:
            b.next_panel = following + i // TILE_ROWS * fetched_lines
        if part.columns <= LANES:
            tile_of_height(1, depth, left, b, args, &part)
        else:
            tile_of_height(TILE_VECS, depth, left, b, args, &part)
        i += part.rows
        b.fetch_next = False


cdef void packed_tiles(const MatmulArgs* args, const Operand* a, Right b, Py_ssize_t begin, Py_ssize_t depth,
                       Part part) noexcept nogil:
    tiles_down(PACKED, args, a, b, begin, depth, part)


cdef void row_panel_tiles(const MatmulArgs* args, const Operand* a, Right b, Py_ssize_t begin, Py_ssize_t depth,
                          Part part) noexcept nogil:
    tiles_down(ROW_PANELS, args, a, b, begin, depth, part)


cdef void column_panel_tiles(const MatmulArgs* args, const Operand* a, Right b, Py_ssize_t begin, Py_ssize_t depth,
                             Part part) noexcept nogil:
    tiles_down(COLUMN_PANELS, args, a, b, begin, depth, part)


cdef void strided_tiles(const MatmulArgs* args, const Operand* a, Right b, Py_ssize_t begin, Py_ssize_t depth,
                        Part part) noexcept nogil:
    tiles_down(STRIDED, args, a, b, begin, depth, part)
