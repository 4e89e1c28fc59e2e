# Panels: the layout in which a tile of matmul reads its operands without a stride. A panel holds `width` vectors side
# by side, [depth][width]; the last panel of a block is padded with zeros. Rows of a and columns of b are packed alike.

cdef inline Py_ssize_t panels(Py_ssize_t size, Py_ssize_t width) noexcept nogil:
    return (size + width - 1) // width


cdef inline void pack_adjacent(const real* source, Py_ssize_t along, Py_ssize_t depth, Py_ssize_t used, int width,
                               real* target) noexcept nogil:
    """A panel whose vectors are adjacent in memory: copied, `width` elements at a time."""
    cdef Py_ssize_t k
    for k in range(depth):
        if used == width:
            memcpy(target, source, width * sizeof(real))
        else:
            memcpy(target, source, used * sizeof(real))
            memset(target + used, 0, (width - used) * sizeof(real))
        source += along
        target += width


cdef inline void pack_transposed(const real* source, Py_ssize_t across, Py_ssize_t depth, Py_ssize_t used, int width,
                                 real* target) noexcept nogil:
    """A panel of vectors that each run along memory: transposed in registers, LANES of them by LANES elements.

    A group narrower than a register spills zeros into the place of what is written after it, so the last group of a
    panel goes first; after the last panel there is room for the spill.
    """
    cdef vec rows[LANES]
    cdef const real* at
    cdef Py_ssize_t k, size
    cdef int group = (width - 1) // LANES, i, first
    while group >= 0:
        first = group * LANES
        at = source + first * across
        for k in range(depth // LANES):
            for i in range(LANES):
                rows[i] = (<const vec*> (at + i * across + k * LANES))[0] if first + i < min(used, width) else ZERO
            for i in range(LANES):      # the next group's: short runs, which the hardware sees too late
                prefetch(at + (LANES + i) * across + k * LANES)
            transpose(rows)
            for i in range(LANES):
                (<vec*> (target + (k * LANES + i) * width + first))[0] = rows[i]
        size = depth % LANES
        if size:
            k = depth - size
            for i in range(LANES):
                rows[i] = ZERO
                if first + i < min(used, width):
                    memcpy(&rows[i], at + i * across + k, size * sizeof(real))
            transpose(rows)
            for i in range(LANES):
                if i < size:
                    (<vec*> (target + (k + i) * width + first))[0] = rows[i]
        group -= 1


cdef inline void pack(const real* source, Py_ssize_t along, Py_ssize_t across, Py_ssize_t depth, Py_ssize_t size,
                      int width, real* target) noexcept nogil:
    """Pack `size` vectors; element k of vector i is source[k * along + i * across]."""
    cdef Py_ssize_t used, k
    cdef int i
    while size > 0:
        used = min(size, width)
        if along == 1:
            pack_transposed(source, across, depth, used, width, target)
        elif across == 1:
            pack_adjacent(source, along, depth, used, width, target)
        else:
            for k in range(depth):
                for i in range(width):
                    target[k * width + i] = source[k * along + i * across] if i < used else 0
        source += width * across
        target += width * depth
        size -= width


cdef void pack_a(const real* a, Py_ssize_t row, Py_ssize_t column, Py_ssize_t rows, Py_ssize_t depth,
                 real* target) noexcept nogil:
    pack(a, column, row, depth, rows, TILE_ROWS, target)


cdef void pack_b(const real* b, Py_ssize_t row, Py_ssize_t column, Py_ssize_t depth, Py_ssize_t columns,
                 real* target) noexcept nogil:
    pack(b, row, column, depth, columns, TILE_COLUMNS, target)
