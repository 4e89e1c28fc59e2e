"""Chooses the instruction set by the processor's feature bits, and holds its tables of cores."""

import os
from importlib import import_module

from cpython.pycapsule cimport PyCapsule_GetPointer

from viva_tensor.kernels.cores cimport Cores

cdef extern from "build_info.h":
    const char* VIVA_FLAGS
    const char* VIVA_VARIANTS
    bint VIVA_DEBUG

cdef extern from * nogil:
    """
    #if defined(__GNUC__) && (defined(__x86_64__) || defined(__i386__))
    static int viva_has_avx2(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
    static int viva_has_avx512(void) {
        return viva_has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    }
    #else
    static int viva_has_avx2(void) { return 0; }
    static int viva_has_avx512(void) { return 0; }
    #endif
    #if defined(__clang__) || !defined(__GNUC__)
    #define VIVA_COMPILER_NAME ""
    #else
    #define VIVA_COMPILER_NAME "GCC "
    #endif
    #if defined(__VERSION__)
    #define VIVA_COMPILER VIVA_COMPILER_NAME __VERSION__
    #else
    #define VIVA_COMPILER "MSVC"
    #endif
    """
    bint has_avx2 "viva_has_avx2" ()
    bint has_avx512 "viva_has_avx512" ()
    const char* COMPILER "VIVA_COMPILER"

compiler = COMPILER.decode()
flags = VIVA_FLAGS.decode()
variants = dict(item.split("=", 1) for item in VIVA_VARIANTS.decode().split(";"))
debug = bool(VIVA_DEBUG)


def supported():
    """Return the instruction sets that this build has and this processor runs, best last."""
    runs = {"avx2": has_avx2(), "avx512": has_avx512()}
    return [name for name in variants if runs.get(name, True)]


isa = os.environ.get("VIVA_TENSOR_ISA") or supported().pop()
if isa not in supported():
    raise ImportError(
        f"VIVA_TENSOR_ISA={isa}: this build on this processor offers {', '.join(supported())}; choose one or unset it"
    )
_tables = [import_module(f"viva_tensor.kernels._core_{kind}_{isa}").table() for kind in ("f32", "f64")]
float_cores = <const Cores*> PyCapsule_GetPointer(_tables[0], "viva_tensor.cores")
double_cores = <const Cores*> PyCapsule_GetPointer(_tables[1], "viva_tensor.cores")
