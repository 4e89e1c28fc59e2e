"""The cores for one element type and one instruction set; every pair of them is built from this source."""

from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport uint64_t, uintptr_t
from libc.string cimport memcpy, memset

from viva_tensor.kernels.cores cimport *

cdef extern from "vector.h" nogil:
    # `vec` is LANES elements that add and multiply like one; only the C compiler knows their number and type.
    ctypedef float real "viva_real"
    ctypedef float vec "viva_vec"
    vec ZERO "VIVA_ZERO"
    vec fused "viva_fused" (vec a, vec b, vec c)               # a·b + c
    vec fused_from "viva_fused_from" (vec c, vec a, vec b)     # c - a·b
    real fused_real "VIVA_FUSED_REAL" (real a, real b, real c)
    vec relu_of "VIVA_RELU" (vec x)
    vec masked "VIVA_MASKED" (vec a, vec x)
    vec load_part "VIVA_LOAD_PART" (const real* source, int size)      # of the first `size` of LANES elements
    void store_part "VIVA_STORE_PART" (real* target, vec value, int size)
    bint known "VIVA_KNOWN" (Py_ssize_t x)     # while compiling
    void prefetch "VIVA_PREFETCH" (const void* address)
    void stays_in_memory "VIVA_STAYS_IN_MEMORY" (vec* array)
    void hide_origin "VIVA_HIDE_ORIGIN" (const real* address)  # a macro: of a variable
    enum:
        LANES "VIVA_VEC_LANES"
        TILE_ROWS "VIVA_TILE_ROWS"
        TILE_VECS "VIVA_TILE_VECS"
        EXACT_TILES "VIVA_EXACT_TILES"
        BROADCAST "VIVA_BROADCAST"
        BLOCK_A "VIVA_BLOCK_A"
        BLOCK_B "VIVA_BLOCK_B"

cdef extern from "transpose.h" nogil:
    void transpose "viva_transpose" (vec* rows)     # LANES of them
    void load_transposed "viva_load_transposed" (const real* source, Py_ssize_t stride, int rows, int size,
                                                 vec* columns)      # of at most LANES contiguous rows
    void load_some_transposed "viva_load_some_transposed" (const real* source, Py_ssize_t stride, int rows, int size,
                                                           vec* columns)    # not known while compiling
    void store_transposed "viva_store_transposed" (real* target, Py_ssize_t stride, int columns, int rows,
                                                   const vec* lines)    # to at most LANES contiguous columns

cdef enum:
    TILE_COLUMNS = TILE_VECS * LANES
    PANEL = TILE_COLUMNS


cdef inline Py_ssize_t share(Py_ssize_t size, Py_ssize_t unit, int thread, int threads) noexcept nogil:
    """Return the start of a thread's share when whole units of elements are dealt out evenly."""
    if threads == 1:
        return thread * size
    return min(size, (size + unit - 1) // unit * thread // threads * unit)


cdef inline Py_ssize_t row_share(Py_ssize_t rows, int thread, int threads) noexcept nogil:
    """Return the first row of a thread, in every operation whose threads own rows."""
    return share(rows, 4, thread, threads)


cdef inline int lanes_of(Py_ssize_t columns, int j) noexcept nogil:
    """Return the number of elements of vector j that lie within so many columns."""
    return <int> max(0, min(<Py_ssize_t> LANES, columns - j * LANES))


include "packing.pxi"
include "functions.pxi"
include "elementwise.pxi"
include "pair.pxi"
include "updates.pxi"
include "tiles.pxi"
include "matmul.pxi"
include "gemv.pxi"
include "deep.pxi"
include "untiled.pxi"
include "dropout.pxi"
include "sums.pxi"
include "rows.pxi"
include "pair_rows.pxi"
include "norms.pxi"
include "indexing.pxi"
include "along.pxi"
include "peak.pxi"


cdef Cores cores
cores.matmul_plan = matmul_plan
cores.matmul_rectangle = rectangle
cores.matmul = matmul
cores.matmul_batch = matmul_batch
cores.pair = pair
cores.pair_rows = pair_rows
cores.dropout = dropout
cores.sum_chunks = sum_chunks
cores.sum = sum_
cores.sum_join = sum_join
cores.along = along_axis
cores.take = take
cores.take_backward = take_backward
cores.embedding_bag = embedding_bag
cores.embedding_bag_backward = embedding_bag_backward
cores.squared_error = squared_error
cores.update = update
cores.squared_norm = squared_norm
cores.clip = clip
cores.to_panels = to_panels
cores.peak = peak
cores.chains = CHAINS
cores.lanes = LANES
cores.tile_rows = TILE_ROWS
cores.tile_columns = TILE_COLUMNS
cores.depth_block = DEPTH_BLOCK


def table():
    """Return the table of cores, as a capsule that `_dispatch` opens."""
    return PyCapsule_New(&cores, "viva_tensor.cores", NULL)
