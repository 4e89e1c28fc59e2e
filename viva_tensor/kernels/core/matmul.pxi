# out = a · b (+ bias), blocked and packed.
#
#   for each block of columns of b          (COLUMN_BLOCK: the packed block of b stays in the last-level cache)
#     for each chunk of the depth           (CHUNK: one chain of fused multiply-adds for each output)
#       pack b[chunk, columns] into panels of TILE_COLUMNS
#       for each block of rows of a         (ROW_BLOCK: the packed block of a stays in the second-level cache)
#         pack a[rows, chunk] into panels of TILE_ROWS
#         for each panel of b, for each panel of a: one tile, its sums in registers
#
# An operand that few tiles read again is not packed but read where it lies, all but a last panel that is not whole.
#
# The order of every sum is fixed: a chain over each CHUNK of the depth from zero, the chunks added in order. CHUNK is
# therefore part of the numbers that the library promises; every other size here may change without changing a bit.

cdef enum:
    CHUNK = 256
    ROW_BLOCK = 120         # divides by every TILE_ROWS; 120 × 256 floats are 120 KiB, doubles 240 KiB
    COLUMN_BLOCK = 2048     # 2048 × 256 floats are 2 MiB, doubles 4 MiB
    READ_AGAIN = 64         # rows of a (columns of b) from which packing the other operand pays


cdef struct Panels:
    # One operand of a block: whole panels where they lie or packed, and the last one packed if it is not whole.
    const real* data
    Py_ssize_t panel        # from one panel to the next
    Py_ssize_t vector       # within a panel, from one row of a (column of b) to the next
    Py_ssize_t step         # within a panel, along the depth
    const real* last
    bint packed


cdef inline Py_ssize_t busiest(Py_ssize_t rows, Py_ssize_t columns, int members, int count) noexcept nogil:
    """Work of a member in a band of `count` members, all tiles being whole: multiply-adds per depth, and packing."""
    cdef Py_ssize_t tall = (panels(rows, TILE_ROWS) * count + members - 1) // members * TILE_ROWS
    cdef Py_ssize_t wide = (panels(columns, TILE_COLUMNS) + count - 1) // count * TILE_COLUMNS
    return tall * wide + 16 * (tall + wide)     # packing one element costs about as much as 16 of its multiply-adds


cdef void rectangle(Py_ssize_t rows, Py_ssize_t columns, int member, int members, Rectangle* own) noexcept nogil:
    """A member's part of the output: bands of rows as high as they have members, each dealt out by columns.

    Any number of members is balanced, also a prime one; the number of bands is the one with the least work for the
    busiest member.
    """
    cdef Py_ssize_t work, best = -1, tiles = panels(rows, TILE_ROWS)
    cdef int bands = 1, trial, count, larger, before, place
    for trial in range(1, members + 1):
        count = members // trial
        work = busiest(rows, columns, members, count)
        if members % trial:
            work = max(work, busiest(rows, columns, members, count + 1))
        if best < 0 or work < best:
            best = work
            bands = trial
    count = members // bands
    larger = members % bands * (count + 1)      # members in the bands that have one more
    if member < larger:
        count += 1
        place = member % count
        before = member - place
    else:
        place = (member - larger) % count
        before = member - place
    own.top = min(rows, tiles * before // members * TILE_ROWS)
    own.bottom = min(rows, tiles * (before + count) // members * TILE_ROWS)
    own.left = share(columns, TILE_COLUMNS, place, count)
    own.right = share(columns, TILE_COLUMNS, place + 1, count)


cdef inline bint packs_a(const MatmulArgs* args) noexcept nogil:
    return args.columns >= READ_AGAIN or (args.a.row != 1 and args.a.column != 1)


cdef inline bint packs_b(const MatmulArgs* args) noexcept nogil:
    return args.rows >= READ_AGAIN or args.b.column != 1


cdef inline Py_ssize_t room(Py_ssize_t size, Py_ssize_t block, Py_ssize_t width, bint packed,
                            Py_ssize_t depth) noexcept nogil:
    """Elements for the packed panels of a block, and for what packing spills behind them."""
    cdef Py_ssize_t count = min(panels(size, width) * width, block) if packed else width
    return (count * min(depth, CHUNK) + 2 * LANES - 1) // LANES * LANES


cdef inline Py_ssize_t room_a(const MatmulArgs* args) noexcept nogil:
    return room(args.rows, ROW_BLOCK, TILE_ROWS, packs_a(args), args.depth)


cdef Py_ssize_t matmul_workspace(const MatmulArgs* args, int members) noexcept nogil:
    """Bytes that each member needs for its packed blocks."""
    cdef Py_ssize_t b = room(args.columns, COLUMN_BLOCK, TILE_COLUMNS, packs_b(args), args.depth)
    return ((room_a(args) + b) * <Py_ssize_t> sizeof(real) + 63) // 64 * 64


cdef inline void multiply(Py_ssize_t depth, const real* a, Py_ssize_t vector, Py_ssize_t step, const real* b,
                          Py_ssize_t row, vec* sums) noexcept nogil:
    """sums = a panel · b panel: the innermost loop of the library."""
    cdef vec line[TILE_VECS]
    cdef Py_ssize_t k
    cdef int i, j
    for i in range(TILE_ROWS * TILE_VECS):
        sums[i] = ZERO
    for k in range(depth):
        for j in range(TILE_VECS):
            line[j] = (<const vec*> (b + j * LANES))[0]
        for i in range(TILE_ROWS):
            for j in range(TILE_VECS):
                sums[i * TILE_VECS + j] += line[j] * a[i * vector]
        a += step
        b += row


cdef inline void whole_tile(Py_ssize_t depth, const real* a, Py_ssize_t vector, Py_ssize_t step, const real* b,
                            Py_ssize_t b_row, real* out, Py_ssize_t row, const real* bias, bint first) noexcept nogil:
    """A tile that lies wholly inside an output with adjacent columns. The first chunk never reads the output."""
    cdef vec sums[TILE_ROWS * TILE_VECS]
    cdef int i, j
    # the output comes from memory while the sums are made: a quarter of the time of a 2048³ product without it
    for i in range(TILE_ROWS):
        prefetch_write(out + i * row)
        prefetch_write(out + i * row + TILE_COLUMNS - 1)
    multiply(depth, a, vector, step, b, b_row, sums)
    if not first:
        for i in range(TILE_ROWS):
            for j in range(TILE_VECS):
                sums[i * TILE_VECS + j] = (<vec*> (out + i * row + j * LANES))[0] + sums[i * TILE_VECS + j]
    if bias != NULL:
        for i in range(TILE_ROWS):
            for j in range(TILE_VECS):
                sums[i * TILE_VECS + j] += (<const vec*> (bias + j * LANES))[0]
    for i in range(TILE_ROWS):
        for j in range(TILE_VECS):
            (<vec*> (out + i * row + j * LANES))[0] = sums[i * TILE_VECS + j]


cdef void packed_tile(Py_ssize_t depth, const real* a, const real* b, real* out, Py_ssize_t row, const real* bias,
                      bint first) noexcept nogil:
    whole_tile(depth, a, 1, TILE_ROWS, b, TILE_COLUMNS, out, row, bias, first)


cdef void strided_tile(Py_ssize_t depth, const real* a, Py_ssize_t vector, Py_ssize_t step, const real* b,
                       Py_ssize_t b_row, real* out, Py_ssize_t row, const real* bias, bint first) noexcept nogil:
    whole_tile(depth, a, vector, step, b, b_row, out, row, bias, first)


cdef void part_tile(Py_ssize_t depth, const real* a, Py_ssize_t vector, Py_ssize_t step, const real* b,
                    Py_ssize_t b_row, real* out, Py_ssize_t row, Py_ssize_t column, const real* bias, bint first,
                    Py_ssize_t rows, Py_ssize_t columns) noexcept nogil:
    """A tile of which only rows × columns lie inside the output, or whose columns are not adjacent."""
    cdef vec sums[TILE_ROWS * TILE_VECS]
    cdef real* spare = <real*> sums
    cdef real* at
    cdef real value
    cdef Py_ssize_t i, j
    multiply(depth, a, vector, step, b, b_row, sums)
    for i in range(rows):
        for j in range(columns):
            at = out + i * row + j * column
            value = spare[i * TILE_COLUMNS + j]
            if not first:
                value = at[0] + value
            if bias != NULL:
                value = value + bias[j]
            at[0] = value


cdef void tiles(Panels* a, Panels* b, Py_ssize_t rows, Py_ssize_t columns, Py_ssize_t depth, real* out,
                Py_ssize_t row, Py_ssize_t column, const real* bias, bint first) noexcept nogil:
    """Every tile of a block of a against a block of b."""
    cdef Py_ssize_t i, j, high, wide, vector, step, b_row
    cdef const real* panel_a
    cdef const real* panel_b
    cdef real* at
    j = 0
    while j < columns:
        wide = min(TILE_COLUMNS, columns - j)
        panel_b = b.data + j // TILE_COLUMNS * b.panel if wide == TILE_COLUMNS else b.last
        b_row = b.step if wide == TILE_COLUMNS else TILE_COLUMNS
        i = 0
        while i < rows:
            high = min(TILE_ROWS, rows - i)
            panel_a = a.data + i // TILE_ROWS * a.panel if high == TILE_ROWS else a.last
            vector = a.vector if high == TILE_ROWS else 1
            step = a.step if high == TILE_ROWS else TILE_ROWS
            at = out + i * row + j * column
            if column != 1 or high < TILE_ROWS or wide < TILE_COLUMNS:
                part_tile(depth, panel_a, vector, step, panel_b, b_row, at, row, column, bias, first, high, wide)
            elif a.packed and b.packed:
                packed_tile(depth, panel_a, panel_b, at, row, bias, first)
            else:
                strided_tile(depth, panel_a, vector, step, panel_b, b_row, at, row, bias, first)
            i += TILE_ROWS
        if bias != NULL:
            bias += TILE_COLUMNS
        j += TILE_COLUMNS


cdef void matmul(const void* packed, int member, int members) noexcept nogil:
    """out[i, j] = Σₖ a[i, k]·b[k, j] (+ bias[j])"""
    cdef const MatmulArgs* args = <const MatmulArgs*> packed
    cdef const real* a
    cdef const real* b
    cdef const real* bias
    cdef real* out = <real*> args.out.data
    cdef real* room_for_a = <real*> (args.workspace + member * args.workspace_bytes)
    cdef real* room_for_b = room_for_a + room_a(args)
    cdef Py_ssize_t column, columns, chunk, depth, row, rows, whole
    cdef Panels of_a, of_b
    cdef Rectangle own

    rectangle(args.rows, args.columns, member, members, &own)
    if args.depth == 0:
        for row in range(own.top, own.bottom):
            for column in range(own.left, own.right):
                out[row * args.out.row + column * args.out.column] = \
                    0 if args.bias == NULL else (<const real*> args.bias)[column]
        return

    of_a.packed = packs_a(args)
    of_b.packed = packs_b(args)
    column = own.left
    while column < own.right:
        columns = min(COLUMN_BLOCK, own.right - column)
        chunk = 0
        while chunk < args.depth:
            depth = min(CHUNK, args.depth - chunk)
            bias = NULL
            if args.bias != NULL and chunk + depth == args.depth:
                bias = (<const real*> args.bias) + column
            b = <const real*> args.b.data + chunk * args.b.row + column * args.b.column
            whole = columns // TILE_COLUMNS * TILE_COLUMNS
            if of_b.packed:
                pack_b(b, args.b.row, args.b.column, depth, columns, room_for_b)
                of_b.data, of_b.panel, of_b.step = room_for_b, TILE_COLUMNS * depth, TILE_COLUMNS
                of_b.last = room_for_b + whole * depth
            else:
                pack_b(b + whole, args.b.row, 1, depth, columns - whole, room_for_b)
                of_b.data, of_b.panel, of_b.step, of_b.last = b, TILE_COLUMNS, args.b.row, room_for_b
            row = own.top
            while row < own.bottom:
                rows = min(ROW_BLOCK, own.bottom - row)
                a = <const real*> args.a.data + row * args.a.row + chunk * args.a.column
                whole = rows // TILE_ROWS * TILE_ROWS
                if of_a.packed:
                    pack_a(a, args.a.row, args.a.column, rows, depth, room_for_a)
                    of_a.data, of_a.panel, of_a.vector, of_a.step = room_for_a, TILE_ROWS * depth, 1, TILE_ROWS
                    of_a.last = room_for_a + whole * depth
                else:
                    pack_a(a + whole * args.a.row, args.a.row, args.a.column, rows - whole, depth, room_for_a)
                    of_a.data, of_a.panel = a, TILE_ROWS * args.a.row
                    of_a.vector, of_a.step, of_a.last = args.a.row, args.a.column, room_for_a
                tiles(&of_a, &of_b, rows, columns, depth, out + row * args.out.row + column * args.out.column,
                      args.out.row, args.out.column, bias, chunk == 0)
                row += rows
            chunk += depth
        column += columns
