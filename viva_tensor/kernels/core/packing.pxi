# Panels: the layout in which a tile of matmul reads its operands without a stride. A panel holds `width` vectors side
# by side, [depth][width]; zeros pad the last panel of a block. Rows of a and columns of b are packed in the same way.

cdef inline Py_ssize_t panels(Py_ssize_t size, Py_ssize_t width) noexcept nogil:
    return (size + width - 1) // width


cdef inline void set_panel_strides(Matrix* matrix) noexcept nogil:
    """Give plain matrices panels too: each begins where the last one ends."""
    if matrix.down == 0:
        matrix.down = PANEL * matrix.row
    if matrix.across == 0:
        matrix.across = PANEL * matrix.column


cdef inline bint joined(const Matrix* matrix) noexcept nogil:
    """Return whether the stride from one row to the next is the same across panels of rows."""
    return matrix.down == PANEL * matrix.row


cdef inline bint joined_across(const Matrix* matrix) noexcept nogil:
    """Return whether the stride from one column to the next is the same across panels of columns."""
    return matrix.across == PANEL * matrix.column


cdef inline bint in_lines(const Matrix* matrix) noexcept nogil:
    """Return whether rows are contiguous."""
    return matrix.column == 1 and joined_across(matrix)


cdef inline bint plain(const Matrix* matrix) noexcept nogil:
    return joined(matrix) and joined_across(matrix)


cdef inline real* at(const Matrix* matrix, Py_ssize_t row, Py_ssize_t column) noexcept nogil:
    return <real*> matrix.data + (row // PANEL * matrix.down + row % PANEL * matrix.row
                                  + column // PANEL * matrix.across + column % PANEL * matrix.column)


cdef inline void transpose_matrix(Matrix* matrix) noexcept nogil:
    matrix.row, matrix.column = matrix.column, matrix.row
    matrix.down, matrix.across = matrix.across, matrix.down


cdef inline vec read(const Matrix* matrix, Py_ssize_t row, Py_ssize_t column, int size) noexcept nogil:
    """Return `size` elements of a row, as part of a vector."""
    cdef const real* source = at(matrix, row, column)
    cdef vec value
    cdef int i
    if matrix.column == 1:
        return load_part(source, size)
    value = ZERO
    for i in range(size):
        (<real*> &value)[i] = source[i * matrix.column]
    return value


cdef inline void write(const Matrix* matrix, Py_ssize_t row, Py_ssize_t column, vec value, int size) noexcept nogil:
    cdef real* target = at(matrix, row, column)
    cdef int i
    if matrix.column == 1:
        store_part(target, value, size)
    else:
        for i in range(size):
            target[i * matrix.column] = (<real*> &value)[i]


cdef inline void pack_adjacent(const real* source, Py_ssize_t along, Py_ssize_t depth, Py_ssize_t used, int width,
                               real* target) noexcept nogil:
    """Copy a panel whose vectors are adjacent in memory, `width` elements at a time."""
    cdef Py_ssize_t k
    cdef int j
    for k in range(depth):
        if used == width:
            memcpy(target, source, width * sizeof(real))
        else:
            for j in range((width + LANES - 1) // LANES):
                store_part(target + j * LANES, load_part(source + j * LANES, lanes_of(used, j)), lanes_of(width, j))
        source += along
        target += width


cdef inline void pack_transposed(const real* source, Py_ssize_t across, Py_ssize_t depth, Py_ssize_t used, int width,
                                 real* target) noexcept nogil:
    """Copy a panel of vectors that are each contiguous, transposed in registers: LANES vectors by LANES elements.

    A group narrower than a register spills what is of no use over its neighbour, which is written later: the last group
    of a panel goes first. The buffer has room for what spills after the last panel. Beyond `used` vectors are zeros.
    """
    cdef vec rows[LANES]
    cdef const real* first
    cdef Py_ssize_t k
    cdef int group = (width - 1) // LANES, i, begin, size = depth % LANES
    while group >= 0:
        begin = group * LANES
        first = source + begin * across
        for k in range(depth // LANES):
            if used == width:
                load_transposed(first + k * LANES, across, min(<int> LANES, width - begin), LANES, rows)
            else:
                for i in range(LANES):
                    rows[i] = (<const vec*> (first + i * across + k * LANES))[0] if begin + i < used else ZERO
                transpose(rows)
            for i in range(LANES):      # the next group: runs so short that the hardware sees them too late
                prefetch(first + (LANES + i) * across + k * LANES)
            for i in range(LANES):
                (<vec*> (target + (k * LANES + i) * width + begin))[0] = rows[i]
        if size:
            k = depth - size
            for i in range(LANES):
                rows[i] = load_part(first + i * across + k, size) if begin + i < used else ZERO
            transpose(rows)
            for i in range(LANES):
                if i < size:
                    (<vec*> (target + (k + i) * width + begin))[0] = rows[i]
        group -= 1


cdef inline void pack(const Matrix* vectors, Py_ssize_t first, Py_ssize_t begin, Py_ssize_t depth, Py_ssize_t size,
                      int width, real* target) noexcept nogil:
    """Pack `size` rows of a matrix from row `first` on, their elements from `begin` on."""
    cdef Py_ssize_t used, k, piece, length
    cdef Py_ssize_t whole = depth if joined_across(vectors) else PANEL
    cdef const real* source
    cdef int i
    while size > 0:
        used = min(size, width)
        piece = 0
        while piece < depth:
            length = min(whole, depth - piece)
            source = at(vectors, first, begin + piece)
            if vectors.column == 1:
                pack_transposed(source, vectors.row, length, used, width, target + piece * width)
            elif vectors.row == 1:
                pack_adjacent(source, vectors.column, length, used, width, target + piece * width)
            else:
                for k in range(length):
                    for i in range(width):
                        target[(piece + k) * width + i] = (
                            source[k * vectors.column + i * vectors.row] if i < used else 0)
            piece += length
        first += width
        target += width * depth
        size -= width


cdef void pack_a(const Matrix* a, Py_ssize_t row, Py_ssize_t begin, Py_ssize_t depth, Py_ssize_t rows,
                 real* target) noexcept nogil:
    """Pack panels of rows, each element BROADCAST times: packed at the end of the buffer, then repeated."""
    cdef Py_ssize_t k, i
    cdef const real* narrow
    if BROADCAST == 1:
        pack(a, row, begin, depth, rows, TILE_ROWS, target)
        return
    while rows > 0:
        narrow = target + (BROADCAST - 1) * TILE_ROWS * depth
        pack(a, row, begin, depth, min(rows, <Py_ssize_t> TILE_ROWS), TILE_ROWS, <real*> narrow)
        for k in range(depth * TILE_ROWS):
            for i in range(BROADCAST):
                target[k * BROADCAST + i] = narrow[k]
        row += TILE_ROWS
        rows -= TILE_ROWS
        target += BROADCAST * TILE_ROWS * depth


cdef void pack_b(const Matrix* b_transposed, Py_ssize_t column, Py_ssize_t begin, Py_ssize_t depth, Py_ssize_t columns,
                 real* target) noexcept nogil:
    pack(b_transposed, column, begin, depth, columns, TILE_COLUMNS, target)


cdef void to_panels(const void* packed, int thread, int threads) noexcept nogil:
    """Copy a matrix into panels of its columns; threads own rows."""
    cdef const PanelArgs* args = <const PanelArgs*> packed
    cdef Py_ssize_t row, column = 0, end = row_share(args.rows, thread + 1, threads)
    cdef real* target
    cdef int j
    while column < args.columns:
        for row in range(row_share(args.rows, thread, threads), end):
            target = <real*> args.out + column * args.rows + row * PANEL
            for j in range(TILE_VECS):
                (<vec*> (target + j * LANES))[0] = read(
                    &args.source, row, column + j * LANES, lanes_of(args.columns - column, j))
        column += PANEL
