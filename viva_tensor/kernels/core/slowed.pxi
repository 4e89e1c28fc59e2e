# Only in builds with VIVA_TENSOR_SLOWABLE=1, to show that the speed gate sees each core: VIVA_TENSOR_SLOWED=NAME makes
# the core of that name take 1.3 times as long.

import os

from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

cdef Cores quick = cores
cdef int slowed_kind = -1       # the formula, path or kind of update; -1: all that the core does


cdef double now() noexcept nogil:
    cdef timespec time
    clock_gettime(CLOCK_MONOTONIC, &time)
    return time.tv_sec + 1e-9 * time.tv_nsec


cdef inline void slowed(Core core, const void* args, int thread, int threads, int kind) noexcept nogil:
    cdef double start, end
    if slowed_kind >= 0 and kind != slowed_kind:    # without a look at the clock, which takes as long as small calls
        core(args, thread, threads)
        return
    start = now()
    core(args, thread, threads)
    end = now()
    end += 0.3 * (end - start)
    while now() < end:
        pass


cdef void slowed_matmul(const void* args, int thread, int threads) noexcept nogil:
    slowed(quick.matmul, args, thread, threads, (<const MatmulArgs*> args).path)


cdef void slowed_pair(const void* args, int thread, int threads) noexcept nogil:
    slowed(quick.pair, args, thread, threads, (<const PairArgs*> args).formula)


cdef void slowed_pair_rows(const void* args, int thread, int threads) noexcept nogil:
    slowed(quick.pair_rows, args, thread, threads, (<const PairArgs*> args).formula)


cdef void slowed_dropout(const void* args, int thread, int threads) noexcept nogil:
    slowed(quick.dropout, args, thread, threads, 0)


cdef void slowed_sum(const void* args, int thread, int threads) noexcept nogil:
    slowed(quick.sum, args, thread, threads, 0)


cdef void slowed_along(const void* args, int thread, int threads) noexcept nogil:
    slowed(quick.along, args, thread, threads, 0)


cdef void slowed_take(const void* args, int thread, int threads) noexcept nogil:
    slowed(quick.take, args, thread, threads, 0)


cdef void slowed_take_backward(const void* args, int thread, int threads) noexcept nogil:
    slowed(quick.take_backward, args, thread, threads, 0)


cdef void slowed_embedding_bag(const void* args, int thread, int threads) noexcept nogil:
    slowed(quick.embedding_bag, args, thread, threads, 0)


cdef void slowed_embedding_bag_backward(const void* args, int thread, int threads) noexcept nogil:
    slowed(quick.embedding_bag_backward, args, thread, threads, 0)


cdef void slowed_squared_error(const void* args, int thread, int threads) noexcept nogil:
    slowed(quick.squared_error, args, thread, threads, 0)


cdef void slowed_update(const void* args, int thread, int threads) noexcept nogil:
    slowed(quick.update, args, thread, threads, (<const UpdateArgs*> args).rule.kind)


cdef void slowed_squared_norm(const void* args, int thread, int threads) noexcept nogil:
    slowed(quick.squared_norm, args, thread, threads, 0)


cdef void slowed_to_panels(const void* args, int thread, int threads) noexcept nogil:
    slowed(quick.to_panels, args, thread, threads, 0)


include "slowed_names.pxi"  # made by the build
cdef dict UPDATES = {"descent": DESCENT, "adam": ADAM, "rmsprop": RMSPROP, "lion": LION}
cdef dict PATHS = {
    "no_depth": NO_DEPTH, "row_by_row": ROW_BY_ROW, "shallow": SHALLOW, "deep": DEEP, "rows_beside": ROWS_BESIDE,
    "rows_across": ROWS_ACROSS, "packed": PACKED, "row_panels": ROW_PANELS, "column_panels": COLUMN_PANELS,
    "strided": STRIDED,
}


def slow(str name):
    """Slow the core of a name down."""
    global slowed_kind
    core, _, kind = name.rpartition(" ")
    if name in FORMULAS:
        cores.pair, slowed_kind = slowed_pair, FORMULAS[name]
    elif name in ROW_FORMULAS:
        cores.pair_rows, slowed_kind = slowed_pair_rows, ROW_FORMULAS[name]
    elif core == "matmul":
        cores.matmul, slowed_kind = slowed_matmul, PATHS[kind]
    elif core == "update":
        cores.update, slowed_kind = slowed_update, UPDATES[kind]
    elif name == "dropout":
        cores.dropout = slowed_dropout
    elif name == "sum":
        cores.sum = slowed_sum
    elif name == "along":
        cores.along = slowed_along
    elif name == "take":
        cores.take = slowed_take
    elif name == "take_backward":
        cores.take_backward = slowed_take_backward
    elif name == "embedding_bag":
        cores.embedding_bag = slowed_embedding_bag
    elif name == "embedding_bag_backward":
        cores.embedding_bag_backward = slowed_embedding_bag_backward
    elif name == "squared_error":
        cores.squared_error = slowed_squared_error
    elif name == "squared_norm":
        cores.squared_norm = slowed_squared_norm
    elif name == "to_panels":
        cores.to_panels = slowed_to_panels
    else:
        raise ImportError(f"VIVA_TENSOR_SLOWED={name}: no such core")


if os.environ.get("VIVA_TENSOR_SLOWED"):
    slow(os.environ["VIVA_TENSOR_SLOWED"])
