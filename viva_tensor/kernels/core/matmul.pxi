# out = a · b (+ bias), blocked and packed.
#
#   for each block of columns of b          (COLUMN_BLOCK: the packed block of b stays in the last-level cache)
#     for each chunk of the depth           (CHUNK: one chain of fused multiply-adds for each output)
#       pack b[chunk, columns] into panels of TILE_COLUMNS, zero-padded
#       for each block of rows of a         (ROW_BLOCK: the packed block of a stays in the second-level cache)
#         pack a[rows, chunk] into panels of TILE_ROWS, zero-padded
#         for each panel of b, for each panel of a: one tile, its sums in registers
#
# The order of every sum is fixed: a chain over each CHUNK of the depth from zero, the chunks added in order. CHUNK is
# therefore part of the numbers that the library promises; every other size here may change without changing a bit.

cdef enum:
    CHUNK = 256
    ROW_BLOCK = 120         # divides by every TILE_ROWS; 120 × 256 floats are 120 KiB, doubles 240 KiB
    COLUMN_BLOCK = 2048     # 2048 × 256 floats are 2 MiB, doubles 4 MiB

cdef enum:
    TILE_COLUMNS = TILE_VECS * LANES


cdef inline Py_ssize_t panels(Py_ssize_t size, Py_ssize_t width) noexcept nogil:
    return (size + width - 1) // width


cdef void grid(Py_ssize_t rows, Py_ssize_t columns, int members, int* down, int* across) noexcept nogil:
    """Deal output tiles to down × across = members rectangles: the least work of the busiest, packing included."""
    cdef Py_ssize_t tall, wide, work, best = -1
    cdef int d
    for d in range(1, members + 1):
        if members % d:
            continue
        tall = panels(panels(rows, TILE_ROWS), d) * TILE_ROWS
        wide = panels(panels(columns, TILE_COLUMNS), members // d) * TILE_COLUMNS
        # Packing one element costs about as much as 16 of its multiply-adds.
        work = tall * wide + 16 * (tall + wide)
        if best < 0 or work < best:
            best = work
            down[0] = d
            across[0] = members // d


cdef Py_ssize_t matmul_workspace(const MatmulArgs* args, int members) noexcept nogil:
    """Bytes that each member needs for its packed blocks."""
    cdef Py_ssize_t depth = min(args.depth, CHUNK)
    cdef Py_ssize_t rows = min(panels(args.rows, TILE_ROWS) * TILE_ROWS, ROW_BLOCK)
    cdef Py_ssize_t columns = min(panels(args.columns, TILE_COLUMNS) * TILE_COLUMNS, COLUMN_BLOCK)
    return ((rows + columns) * depth * <Py_ssize_t> sizeof(real) + 127) // 64 * 64


cdef void pack(const real* source, Py_ssize_t along, Py_ssize_t across, Py_ssize_t depth, Py_ssize_t size,
               Py_ssize_t width, real* target) noexcept nogil:
    """Copy `size` vectors of length `depth` into panels [size / width][depth][width], the last padded with zeros."""
    cdef Py_ssize_t panel, used, i, k
    for panel in range(panels(size, width)):
        used = min(width, size - panel * width)
        if used < width:
            for i in range(depth * width):
                target[i] = 0
        if across == 1:
            for k in range(depth):
                for i in range(used):
                    target[k * width + i] = source[k * along + i]
        else:
            for i in range(used):
                for k in range(depth):
                    target[k * width + i] = source[k * along + i * across]
        source += width * across
        target += width * depth


cdef inline void multiply(Py_ssize_t depth, const real* a, const real* b, vec* sums) noexcept nogil:
    """sums = a panel · b panel: the innermost loop of the library."""
    cdef vec row[TILE_VECS]
    cdef Py_ssize_t k
    cdef int i, j
    for i in range(TILE_ROWS * TILE_VECS):
        sums[i] = ZERO
    for k in range(depth):
        for j in range(TILE_VECS):
            row[j] = (<const vec*> (b + j * LANES))[0]
        for i in range(TILE_ROWS):
            for j in range(TILE_VECS):
                sums[i * TILE_VECS + j] += row[j] * a[i]
        a += TILE_ROWS
        b += TILE_COLUMNS


cdef void whole_tile(Py_ssize_t depth, const real* a, const real* b, real* out, Py_ssize_t row,
                     const real* bias, bint first) noexcept nogil:
    """A tile that lies wholly inside an output with adjacent columns. The first chunk never reads the output."""
    cdef vec sums[TILE_ROWS * TILE_VECS]
    cdef vec* at
    cdef int i, j
    multiply(depth, a, b, sums)
    for i in range(TILE_ROWS):
        for j in range(TILE_VECS):
            at = <vec*> (out + i * row + j * LANES)
            if not first:
                sums[i * TILE_VECS + j] = at[0] + sums[i * TILE_VECS + j]
            if bias != NULL:
                sums[i * TILE_VECS + j] += (<const vec*> (bias + j * LANES))[0]
            at[0] = sums[i * TILE_VECS + j]


cdef void part_tile(Py_ssize_t depth, const real* a, const real* b, real* out, Py_ssize_t row, Py_ssize_t column,
                    const real* bias, bint first, Py_ssize_t rows, Py_ssize_t columns) noexcept nogil:
    """A tile of which only rows × columns lie inside the output, or whose columns are not adjacent."""
    cdef vec sums[TILE_ROWS * TILE_VECS]
    cdef real* spare = <real*> sums
    cdef real* at
    cdef real value
    cdef Py_ssize_t i, j
    multiply(depth, a, b, sums)
    for i in range(rows):
        for j in range(columns):
            at = out + i * row + j * column
            value = spare[i * TILE_COLUMNS + j]
            if not first:
                value = at[0] + value
            if bias != NULL:
                value = value + bias[j]
            at[0] = value


cdef void tiles(const real* a, const real* b, Py_ssize_t rows, Py_ssize_t columns, Py_ssize_t depth, real* out,
                Py_ssize_t row, Py_ssize_t column, const real* bias, bint first) noexcept nogil:
    """Every tile of a packed block of a against a packed block of b."""
    cdef Py_ssize_t i, j
    cdef real* at
    j = 0
    while j < columns:
        i = 0
        while i < rows:
            at = out + i * row + j * column
            if column == 1 and rows - i >= TILE_ROWS and columns - j >= TILE_COLUMNS:
                whole_tile(depth, a + i * depth, b + j * depth, at, row, bias, first)
            else:
                part_tile(depth, a + i * depth, b + j * depth, at, row, column, bias, first,
                          min(TILE_ROWS, rows - i), min(TILE_COLUMNS, columns - j))
            i += TILE_ROWS
        if bias != NULL:
            bias += TILE_COLUMNS
        j += TILE_COLUMNS


cdef void matmul(const void* packed, int member, int members) noexcept nogil:
    """out[i, j] = Σₖ a[i, k]·b[k, j] (+ bias[j])"""
    cdef const MatmulArgs* args = <const MatmulArgs*> packed
    cdef const real* a = <const real*> args.a.data
    cdef const real* b = <const real*> args.b.data
    cdef real* out = <real*> args.out.data
    cdef const real* bias
    cdef real* packed_a = <real*> (args.workspace + member * args.workspace_bytes)
    cdef real* packed_b
    cdef int down = 1, across = 1
    cdef Py_ssize_t top, bottom, left, right, column, columns, chunk, depth, row, rows

    grid(args.rows, args.columns, members, &down, &across)
    top = share(args.rows, TILE_ROWS, member // across, down)
    bottom = share(args.rows, TILE_ROWS, member // across + 1, down)
    left = share(args.columns, TILE_COLUMNS, member % across, across)
    right = share(args.columns, TILE_COLUMNS, member % across + 1, across)
    if args.depth == 0:
        for row in range(top, bottom):
            for column in range(left, right):
                out[row * args.out.row + column * args.out.column] = \
                    0 if args.bias == NULL else (<const real*> args.bias)[column]
        return
    packed_b = packed_a + min(panels(args.rows, TILE_ROWS) * TILE_ROWS, ROW_BLOCK) * min(args.depth, CHUNK)

    column = left
    while column < right:
        columns = min(COLUMN_BLOCK, right - column)
        chunk = 0
        while chunk < args.depth:
            depth = min(CHUNK, args.depth - chunk)
            bias = NULL
            if args.bias != NULL and chunk + depth == args.depth:
                bias = (<const real*> args.bias) + column
            pack(b + chunk * args.b.row + column * args.b.column, args.b.row, args.b.column, depth, columns,
                 TILE_COLUMNS, packed_b)
            row = top
            while row < bottom:
                rows = min(ROW_BLOCK, bottom - row)
                pack(a + row * args.a.row + chunk * args.a.column, args.a.column, args.a.row, depth, rows,
                     TILE_ROWS, packed_a)
                tiles(packed_a, packed_b, rows, columns, depth, out + row * args.out.row + column * args.out.column,
                      args.out.row, args.out.column, bias, chunk == 0)
                row += rows
            chunk += depth
        column += columns
