# out = a · b, blocked and packed; what else an output may be (bias, relu, mask, update) follows in tiles.pxi.
#
#   for each block of columns of b          (COLUMN_BLOCK: the packed block of b stays in the last-level cache)
#     for each chunk of the depth           (CHUNK: one chain of fused multiply-adds for each output)
#       for each block of rows of a         (ROW_BLOCK: the packed block of a stays in the second-level cache)
#         pack a[rows, chunk] into panels of TILE_ROWS
#         for each panel of b               (packed, TILE_COLUMNS wide, when the first block of rows comes to it)
#           for each panel of a: one tile, its sums in registers
#
# An operand that few tiles read again is not packed but read where it lies, all but a last part panel. Fetching the
# next panels while a tile multiplies gains nothing: the hardware does.
#
# The order of every sum is fixed: a chain over each CHUNK of the depth from zero, the chunks added in order. CHUNK is
# therefore part of the numbers that the library promises; every other size here may change without changing a bit.

cdef enum:
    CHUNK = 256
    READ_AGAIN = 129        # rows of a (columns of b) from which packing the other operand pays


cdef struct Operand:
    # A block of a or of b^T: vectors of the depth, in panels of TILE_ROWS or TILE_COLUMNS vectors
    const real* source
    Py_ssize_t along        # from one element of a vector to the next
    Py_ssize_t across       # from one vector to the next
    Py_ssize_t size         # vectors
    bint packs
    real* room              # the packed panels; without packing only the last one, if it is not whole


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


cdef inline double effort(Py_ssize_t rows, Py_ssize_t columns, Py_ssize_t depth, bint adjacent) noexcept nogil:
    """Instructions of the tiles that cover an output; its elements, if not adjacent, are read and written singly."""
    cdef Py_ssize_t tiles = panels(rows, TILE_ROWS) * panels(columns, TILE_COLUMNS)
    cdef Py_ssize_t chunks = (depth + CHUNK - 1) // CHUNK
    return <double> tiles * TILE_ROWS * (depth * TILE_VECS + chunks * (TILE_VECS if adjacent else 8 * TILE_COLUMNS))


cdef void matmul_plan(MatmulArgs* args, int members) noexcept nogil:
    """Turn the product round where outᵀ = bᵀ · aᵀ is less work, with the same sums; bytes that each member needs."""
    cdef Matrix a = args.a, b = args.b
    cdef Py_ssize_t room_b
    if args.update == NULL and (
            effort(args.columns, args.rows, args.depth, args.out.row == 1)
            < effort(args.rows, args.columns, args.depth, args.out.column == 1)):
        args.rows, args.columns = args.columns, args.rows
        args.a.data, args.a.row, args.a.column = b.data, b.column, b.row
        args.b.data, args.b.row, args.b.column = a.data, a.column, a.row
        args.out.row, args.out.column = args.out.column, args.out.row
        args.bias.row, args.bias.column = args.bias.column, args.bias.row
        args.mask.row, args.mask.column = args.mask.column, args.mask.row
        args.by_rows *= 2
    room_b = room(args.columns, COLUMN_BLOCK, TILE_COLUMNS, packs_b(args), args.depth)
    args.workspace_bytes = ((room_a(args) + room_b) * <Py_ssize_t> sizeof(real) + 63) // 64 * 64


cdef inline const real* panel(const Operand* operand, Py_ssize_t at, int width, Py_ssize_t depth, Py_ssize_t* vector,
                              Py_ssize_t* step) noexcept nogil:
    """The panel of the vectors from `at`, and the steps within it."""
    vector[0], step[0] = 1, width
    if operand.packs:
        return operand.room + at * depth
    if at + width > operand.size:
        return operand.room
    vector[0], step[0] = operand.across, operand.along
    return operand.source + at * operand.across


cdef inline void block(const MatmulArgs* args, Operand* a, Operand* b, Py_ssize_t row, Py_ssize_t column,
                       Py_ssize_t depth, bint fresh, bint first, bint last) noexcept nogil:
    """Every tile of a block of a against a block of b, which is packed on the way if it is `fresh`."""
    cdef Py_ssize_t up, over, i, j, high, wide, vector, step, across, along, whole = a.size // TILE_ROWS * TILE_ROWS
    cdef const real* panel_a
    cdef const real* panel_b
    if a.packs:
        pack_a(a.source, a.across, a.along, a.size, depth, a.room)
    elif whole < a.size:
        pack_a(a.source + whole * a.across, a.across, a.along, a.size - whole, depth, a.room)
    for over in range(panels(b.size, TILE_COLUMNS)):
        j = over * TILE_COLUMNS
        wide = min(TILE_COLUMNS, b.size - j)
        if fresh and (b.packs or wide < TILE_COLUMNS):
            pack_b(b.source + j * b.across, b.along, b.across, depth, wide, b.room + (j * depth if b.packs else 0))
        panel_b = panel(b, j, TILE_COLUMNS, depth, &across, &along)
        for up in range(panels(a.size, TILE_ROWS)):
            i = up * TILE_ROWS
            high = min(TILE_ROWS, a.size - i)
            panel_a = panel(a, i, TILE_ROWS, depth, &vector, &step)
            if a.packs and b.packs:
                packed_tile(depth, panel_a, panel_b, args, row + i, column + j, high, wide, first, last)
            else:
                strided_tile(depth, panel_a, vector, step, panel_b, along, args, row + i, column + j, high, wide,
                             first, last)


cdef void matmul(const void* packed, int member, int members) noexcept nogil:
    """out[i, j] = Σₖ a[i, k]·b[k, j]"""
    cdef const MatmulArgs* args = <const MatmulArgs*> packed
    cdef Py_ssize_t row, column, chunk, depth
    cdef const real* a_data = <const real*> args.a.data
    cdef const real* b_data = <const real*> args.b.data
    cdef Operand a, b
    cdef Rectangle own
    own.top, own.bottom, own.left, own.right = 0, args.rows, 0, args.columns
    if args.by_rows == 1:
        own.top, own.bottom = share(args.rows, 4, member, members), share(args.rows, 4, member + 1, members)
    elif args.by_rows == 2:
        own.left, own.right = share(args.columns, 4, member, members), share(args.columns, 4, member + 1, members)
    elif members > 1:
        rectangle(args.rows, args.columns, member, members, &own)
    if thin(args, &own):
        return
    a.along, a.across, a.packs = args.a.column, args.a.row, packs_a(args)
    b.along, b.across, b.packs = args.b.row, args.b.column, packs_b(args)
    a.room = <real*> (args.workspace + member * args.workspace_bytes)
    b.room = a.room + room_a(args)
    column = own.left
    while column < own.right:
        b.size = min(COLUMN_BLOCK, own.right - column)
        chunk = 0
        while chunk < args.depth:
            depth = min(CHUNK, args.depth - chunk)
            b.source = b_data + chunk * b.along + column * b.across
            row = own.top
            while row < own.bottom:
                a.size = min(ROW_BLOCK, own.bottom - row)
                a.source = a_data + row * a.across + chunk * a.along
                block(args, &a, &b, row, column, depth, row == own.top, chunk == 0, chunk + depth == args.depth)
                row += a.size
            chunk += depth
        column += b.size
