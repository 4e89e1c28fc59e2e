# out = a · b, blocked and packed; the epilogues of an output (bias, relu, mask, update) are in tiles.pxi.
#
#   for each block of columns of b          (BLOCK_B: the packed block of b stays in the last-level cache)
#     for each block of the depth           (DEPTH_BLOCK: the output is written, and read again, once for each)
#       for each block of rows of a         (BLOCK_A: the packed block of a stays in the second-level cache)
#         pack a[rows, depth] into panels of TILE_ROWS
#         for each panel of b               (TILE_COLUMNS wide, packed when the first block of rows needs it)
#           for each panel of a: one tile, its sums in registers
#
# An operand that few tiles read again is read in place instead, except for a last part panel; an operand in panels is
# always read in place. If a is in panels, one block has all its rows: a panel of b is packed and used at once, while
# the next panel is prefetched.
#
# The order of every sum is fixed: each CHUNK of the depth is one chain of sums from zero, and the chunks are added in
# order. CHUNK therefore belongs to the promised results; every other size here may change without changing a bit.

# Thresholds are measured by asv_benchmarks/products.py; FEW, DEEP_QUARTERS and READ_AGAIN by paths.py.
cdef enum:
    CHUNK = 256
    DEPTH_BLOCK = 4 * CHUNK
    FEW = 512               # multiply-adds that take less time row by row than in any other path
    PACKING = 16            # multiply-adds that take as long as packing an element
    SEAM = 2048             # multiply-adds that take as long as a cache line on its way between two threads
    FEW_ROWS = 8            # rows that take no tiles
    FEW_STEPS = 16          # depth that takes no tiles
    DEEP_QUARTERS = 5       # quarters of an output for each chunk, up to which chunks in lanes pay
    OUTPUT_BOUND = 32       # depth up to which a large output takes more time than the operands
    LARGE = BLOCK_B // 2    # elements beyond the second-level cache
    WIDE = 8 * TILE_COLUMNS     # columns so many that the strips below a panel of b lie far apart
    READ_AGAIN = 129        # rows of a (columns of b) from which packing the other operand pays


cdef inline Py_ssize_t busiest(Py_ssize_t rows, Py_ssize_t columns, int threads, int count, bint packs_a,
                               bint packs_b, Py_ssize_t seam) noexcept nogil:
    """Return a thread's work in a band of `count` threads, in whole tiles: multiply-adds per depth, and packing."""
    cdef Py_ssize_t tall = (panels(rows, TILE_ROWS) * count + threads - 1) // threads * TILE_ROWS
    cdef Py_ssize_t wide = (panels(columns, TILE_COLUMNS) + count - 1) // count * TILE_COLUMNS
    cdef Py_ssize_t each_row = (PACKING if packs_a else 0) + (seam if count > 1 else 0)
    return tall * (wide + each_row) + PACKING * (wide if packs_b else 0)


cdef inline Py_ssize_t seam_of(const MatmulArgs* args) noexcept nogil:
    """Return the multiply-adds per depth that a row costs where two threads write to the same or adjacent lines."""
    return SEAM // max(args.depth, 1) if plain(&args.out) else 0


cdef void rectangle(Py_ssize_t rows, Py_ssize_t columns, bint packs_a, bint packs_b, Py_ssize_t seam, int thread,
                    int threads, Rectangle* local) noexcept nogil:
    """Find a thread's share of the output: bands of rows, as high as they have threads, are dealt out by columns.

    Any number of threads is balanced, even a prime number; the number of bands minimises the work of the busiest
    thread.
    """
    cdef Py_ssize_t work, best = -1, tiles = panels(rows, TILE_ROWS)
    cdef int bands = 1, trial, count, larger, before, index
    for trial in range(1, threads + 1):
        count = threads // trial
        work = busiest(rows, columns, threads, count, packs_a, packs_b, seam)
        if threads % trial:
            work = max(work, busiest(rows, columns, threads, count + 1, packs_a, packs_b, seam))
        if best < 0 or work < best:
            best = work
            bands = trial
    count = threads // bands
    larger = threads % bands * (count + 1)      # threads in the bands that have one more
    if thread < larger:
        count += 1
        index = thread % count
    else:
        index = (thread - larger) % count
    before = thread - index
    local.top = min(rows, tiles * before // threads * TILE_ROWS)
    local.bottom = min(rows, tiles * (before + count) // threads * TILE_ROWS)
    local.left = share(columns, TILE_COLUMNS, index, count)
    local.right = share(columns, TILE_COLUMNS, index + 1, count)


cdef inline bint copying_pays(const MatmulArgs* args) noexcept nogil:
    """Return whether columns of b that are not adjacent are copied in less time than the copy saves."""
    if not plain(&args.b):
        return False
    if args.b.row == 1:     # transposed on their way from memory
        return args.rows > 2 or args.rows * args.depth <= LANES
    return args.rows > FEW_ROWS or args.depth <= LANES // 4


cdef inline bint is_shallow(const MatmulArgs* args) noexcept nogil:
    """Return whether a product has a few steps, one stride from each to the next, and writes to adjacent elements."""
    return (args.depth <= FEW_STEPS and args.out.column == 1 and args.update == NULL
            and (not args.has_bias or args.bias.column == 1)
            and (not args.has_mask or (args.mask.column == 1 and joined(&args.mask)))
            and (args.b.column == 1 or copying_pays(args))
            and (args.depth == 1 or (joined_across(&args.a) and joined(&args.b)))
            and not (args.by_rows and args.swapped))    # shares of columns then end within panels


cdef inline bint is_deep(const MatmulArgs* args) noexcept nogil:
    """Return whether a product has few outputs for its chunks, and operands that are contiguous along the depth.

    A row of them fits into a vector: 1, 2, 5 or 10 columns at most with 2, 4, 8 or 16 lanes.
    """
    cdef Py_ssize_t chunks = min((args.depth + CHUNK - 1) // CHUNK, <Py_ssize_t> LANES)
    cdef Py_ssize_t effort = args.rows * args.columns + max(args.rows, args.columns)    # sums, and lines to transpose
    return (chunks > 1 and effort * 4 <= chunks * DEEP_QUARTERS
            and args.b.row == 1 and plain(&args.b) and (args.rows == 1 or plain(&args.a)) and in_lines(&args.a))


cdef inline Path path_of(const MatmulArgs* args) noexcept nogil:
    """Return the path of a product: the first whose condition holds. All of them give the same bits."""
    if args.depth == 0:
        return NO_DEPTH
    if args.rows * args.columns * args.depth <= FEW and args.columns <= LANES and args.b.column == 1 \
            and plain(&args.a) and plain(&args.b):
        return ROW_BY_ROW
    if is_shallow(args):
        return SHALLOW
    if is_deep(args):
        return DEEP
    if args.rows == 1 or (args.rows <= FEW_ROWS and plain(&args.a)):
        if args.b.column == 1:
            return ROWS_BESIDE
        if args.b.row == 1:
            return ROWS_ACROSS
    if plain(&args.a):
        return PACKED if args.columns >= READ_AGAIN or (args.a.row != 1 and args.a.column != 1) else STRIDED
    if args.a.row == 1 and args.a.column == PANEL:
        return ROW_PANELS
    if args.a.row == PANEL and args.a.column == 1:
        return COLUMN_PANELS
    return STRIDED


cdef inline Py_ssize_t block_size(Py_ssize_t elements, Py_ssize_t width, Py_ssize_t depth) noexcept nogil:
    """Return the vectors of a block: whole panels, of so many elements at most."""
    return max(elements // min(depth, DEPTH_BLOCK) // width, 1) * width


cdef inline Py_ssize_t buffer_size(Py_ssize_t size, Py_ssize_t block, Py_ssize_t width, bint packed,
                                   Py_ssize_t depth) noexcept nogil:
    """Return the elements for the packed panels of a block, and for what packing spills after them."""
    cdef Py_ssize_t count = min(panels(size, width) * width, block_size(block, width, depth)) if packed else width
    return (count * min(depth, DEPTH_BLOCK) + 2 * LANES - 1) // LANES * LANES


cdef inline Py_ssize_t buffer_a(const MatmulArgs* args) noexcept nogil:
    return buffer_size(args.rows, BLOCK_A, TILE_ROWS, args.path == PACKED, args.depth) * BROADCAST


cdef inline Py_ssize_t buffer_b(const MatmulArgs* args) noexcept nogil:
    return buffer_size(args.columns, BLOCK_B, TILE_COLUMNS, args.packs_b and plain(&args.a), args.depth)


cdef inline double effort(Py_ssize_t rows, Py_ssize_t columns, Py_ssize_t depth, bint adjacent) noexcept nogil:
    """Return the instructions of the tiles that cover an output; elements that are not adjacent are accessed singly."""
    cdef Py_ssize_t vecs = columns // TILE_COLUMNS * TILE_VECS, chunks = (depth + CHUNK - 1) // CHUNK
    if columns % TILE_COLUMNS:
        vecs += 1 if columns % TILE_COLUMNS <= LANES else TILE_VECS
    return <double> panels(rows, TILE_ROWS) * TILE_ROWS * vecs * (depth + chunks * (1 if adjacent else 8 * LANES))


cdef inline bint pays_to_swap(const MatmulArgs* args) noexcept nogil:
    """Return whether outᵀ = bᵀ · aᵀ is less work; the panels of an output must be panels of its columns."""
    cdef Py_ssize_t few = 1 if args.rows * args.columns * args.depth <= FEW else FEW_ROWS
    if not plain(&args.out):
        return not joined(&args.out)
    if is_shallow(args):    # columns that fill half a vector are as fast as rows of them are stored
        return args.rows > 1 and plain(&args.b) and (
            args.columns == 1 or (args.columns <= min(few, <Py_ssize_t> LANES // 2) and args.a.row == 1))
    if args.rows == 1 and (args.b.row == 1 or args.b.column == 1):
        return False
    if args.columns == 1 and (args.a.row == 1 or args.a.column == 1):
        return True
    # a few rows take no tiles; nothing needs transposing in registers where the other operand's columns are adjacent
    if args.rows <= few and plain(&args.a) and (args.b.row == 1 or args.b.column == 1):
        if (args.a.row == 1) != (args.b.column == 1):
            return args.columns <= few and args.a.row == 1 and plain(&args.b)
        return args.columns < args.rows and plain(&args.b) and (args.a.row == 1 or args.a.column == 1)
    if args.columns <= few and plain(&args.b) and (args.a.row == 1 or args.a.column == 1):
        return True
    return (effort(args.columns, args.rows, args.depth, args.out.row == 1)
            < effort(args.rows, args.columns, args.depth, args.out.column == 1))


cdef void matmul_plan(MatmulArgs* args, int threads) noexcept nogil:
    """Swap the product to outᵀ = bᵀ · aᵀ, with the same sums, where that is less work; set its path and workspace."""
    cdef Py_ssize_t elements = 0
    set_panel_strides(&args.a)
    set_panel_strides(&args.b)
    set_panel_strides(&args.out)
    set_panel_strides(&args.bias)
    set_panel_strides(&args.mask)
    args.swapped = pays_to_swap(args)
    if args.swapped:
        args.rows, args.columns = args.columns, args.rows
        args.a, args.b = args.b, args.a
        transpose_matrix(&args.a)
        transpose_matrix(&args.b)
        transpose_matrix(&args.out)
        transpose_matrix(&args.bias)
        transpose_matrix(&args.mask)
    args.padded = args.padded and not plain(&args.out)  # one row in panels is a row like any other
    if args.columns == 1 and plain(&args.b) and plain(&args.out):   # one column is adjacent to itself
        args.b.column = args.out.column = 1
        args.b.across = args.out.across = PANEL
    args.path = path_of(args)
    args.packs_b = args.b.column != 1 or (plain(&args.b) and args.rows >= READ_AGAIN)
    if args.path >= PACKED:
        elements = buffer_a(args) + buffer_b(args)
    elif args.path == ROWS_ACROSS and not in_lines(&args.a):
        elements = args.rows * args.depth
    args.workspace_bytes = (elements * <Py_ssize_t> sizeof(real) + 63) // 64 * 64


cdef inline void block(const MatmulArgs* args, const Operand* a, const Operand* b, Py_ssize_t begin,
                       Py_ssize_t depth, bint fresh) noexcept nogil:
    """Compute every tile of a block of a against a block of b, which is packed on the way if it is `fresh`."""
    cdef Py_ssize_t j = 0, whole = a.size // TILE_ROWS * TILE_ROWS, high = panels(a.size, TILE_ROWS)
    cdef Right panel
    cdef Part part
    part.row, part.rows = a.first, a.size
    part.first, part.last = begin == 0, begin + depth == args.depth
    panel.fetch_next, panel.next_panel, panel.next_step, panel.next_lines = False, NULL, 0, 0
    if a.padded and b.padded:
        panel.next_step = b.vectors.across     # from one piece of the depth to the next
        panel.next_lines = (PANEL * PANEL * <Py_ssize_t> sizeof(real) // LINE + high - 1) // high
    if a.packs:
        pack_a(&a.vectors, a.first, begin, depth, a.size, a.buffer)
    elif whole < a.size and not a.padded:
        pack(&a.vectors, a.first + whole, begin, depth, a.size - whole, TILE_ROWS, a.buffer)
    while j < b.size:
        part.column, part.columns = b.first + j, min(TILE_COLUMNS, b.size - j)
        panel.data, panel.step = b.buffer, TILE_COLUMNS
        if b.packs and not a.padded:
            panel.data += j * depth
        elif not b.packs and (part.columns == TILE_COLUMNS or b.padded):
            panel.data, panel.step = at(&b.vectors, part.column, begin), b.vectors.column
        if fresh and (b.packs or panel.data == b.buffer):
            pack_b(&b.vectors, part.column, begin, depth, part.columns, <real*> panel.data)
        j += TILE_COLUMNS
        if j >= b.size:
            panel.next_lines = 0
        elif panel.next_lines:
            panel.next_panel = at(&b.vectors, part.column + TILE_COLUMNS, begin)
        if panel.step != TILE_COLUMNS or args.path == STRIDED:
            strided_tiles(args, a, panel, begin, depth, part)
        elif args.path == PACKED:
            packed_tiles(args, a, panel, begin, depth, part)
        elif args.path == ROW_PANELS:
            row_panel_tiles(args, a, panel, begin, depth, part)
        else:
            column_panel_tiles(args, a, panel, begin, depth, part)


cdef inline bint is_output_bound(const MatmulArgs* args) noexcept nogil:
    """Return whether a large output in rows takes more time than the operands."""
    return (args.depth <= OUTPUT_BOUND and args.columns >= WIDE and args.rows * args.columns >= LARGE
            and plain(&args.out))


cdef void matmul(const void* packed, int thread, int threads) noexcept nogil:
    """Set out[i, j] = Σₖ a[i, k]·b[k, j]."""
    cdef const MatmulArgs* args = <const MatmulArgs*> packed
    cdef Py_ssize_t begin, depth, rows, columns
    cdef Operand a, b
    cdef Rectangle local
    local.top, local.bottom, local.left, local.right = 0, args.rows, 0, args.columns
    if args.by_rows and args.swapped:
        local.left, local.right = row_share(args.columns, thread, threads), row_share(args.columns, thread + 1, threads)
    elif args.by_rows:
        local.top, local.bottom = row_share(args.rows, thread, threads), row_share(args.rows, thread + 1, threads)
    elif threads > 1:
        rectangle(args.rows, args.columns, args.path == PACKED, args.packs_b and args.path >= PACKED, seam_of(args),
                  thread, threads, &local)
    a.buffer = <real*> (args.workspace + thread * args.workspace_bytes)
    if args.path < PACKED:
        without_tiles(args, &local, a.buffer)
        return
    a.vectors, a.packs, a.padded = args.a, args.path == PACKED, not plain(&args.a)
    b.vectors, b.packs, b.padded = args.b, args.packs_b, not plain(&args.b)
    transpose_matrix(&b.vectors)
    b.buffer = a.buffer + buffer_a(args)
    rows = local.bottom - local.top if a.padded else block_size(BLOCK_A // BROADCAST, TILE_ROWS, args.depth)
    if not a.padded and is_output_bound(args):
        rows = TILE_ROWS        # the output is written row after row
    columns = block_size(BLOCK_B, TILE_COLUMNS, args.depth)
    b.first = local.left
    while b.first < local.right:
        b.size = min(columns, local.right - b.first)
        begin = 0
        while begin < args.depth:
            depth = min(DEPTH_BLOCK, args.depth - begin)
            a.first = local.top
            while a.first < local.bottom:
                a.size = min(rows, local.bottom - a.first)
                block(args, &a, &b, begin, depth, a.first == local.top)
                a.first += a.size
            begin += depth
        b.first += b.size


cdef void matmul_batch(const void* packed, int thread, int threads) noexcept nogil:
    """Compute products that groups of threads share out, each of them as `matmul` does."""
    cdef const BatchArgs* args = <const BatchArgs*> packed
    cdef int group = min(args.group, threads), which = thread // group
    cdef int groups = <int> min(<Py_ssize_t> (threads // group), args.count)
    cdef MatmulArgs each = args.each
    cdef Py_ssize_t i
    if which >= groups:
        return
    each.workspace = args.each.workspace + which * group * each.workspace_bytes
    for i in range(args.count * which // groups, args.count * (which + 1) // groups):
        each.a.data = <real*> args.each.a.data + args.a[i]
        each.b.data = <real*> args.each.b.data + args.b[i]
        each.out.data = <real*> args.each.out.data + i * args.out
        matmul(&each, thread - which * group, group)
