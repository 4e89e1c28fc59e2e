"""Builds the compiled extensions after probing the compiler; everything else is in pyproject.toml.

Environment switches:
    VIVA_TENSOR_REQUIRE_OPENMP=1   no OpenMP is an error instead of a serial build with a warning
    VIVA_TENSOR_MARCH=native       one variant of the cores, for that -march, instead of one for each instruction set
    VIVA_TENSOR_DEBUG=1            checked build: bounds and None checks, no optimisation, debug symbols
    VIVA_TENSOR_SANITIZE=KINDS     the kinds for GCC's -fsanitize: address,undefined or thread; tests/stress/sanitize
                                   shows how Python loads such a build
    VIVA_TENSOR_SLOWABLE=1         a build in which VIVA_TENSOR_SLOWED names a core to slow (kernels/core/slowed.pxi)
"""

import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

KERNELS = "viva_tensor/kernels"
DEBUG = os.environ.get("VIVA_TENSOR_DEBUG", "0") not in ("", "0")
SANITIZE = os.environ.get("VIVA_TENSOR_SANITIZE", "")
MARCH = os.environ.get("VIVA_TENSOR_MARCH", "")
SLOWABLE = os.environ.get("VIVA_TENSOR_SLOWABLE", "0") not in ("", "0")
SHARED = "viva_tensor.kernels._cyutility"  # memoryview support, compiled once for all modules

DIRECTIVES = {
    "language_level": 3,
    "boundscheck": DEBUG,
    "wraparound": False,
    "initializedcheck": DEBUG,
    "nonecheck": DEBUG,
    "cdivision": True,
}

# Each is tried alone, and left out if the compiler refuses it. No flag here lets the compiler reorder sums.
OPTIONAL_FLAGS = [
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=off",  # the cores say what is fused (vector.h)
    "-fvisibility=hidden",
    "-fno-tree-loop-distribute-patterns",  # else zeroing sums that live in registers also calls memset
    "--param=max-completely-peeled-insns=400",  # unrolls loops over the sums of a tile, to keep them in registers
]
OPTIMISED = ["-O0", "-g"] if DEBUG else ["-O3", "-g0"]
SANITIZED = [f"-fsanitize={SANITIZE}"] if SANITIZE else []
if SANITIZE:
    OPTIMISED = ["-O1", "-g1", "-fno-omit-frame-pointer", "-fno-sanitize-recover=all", *SANITIZED]
    OPTIMISED += ["-fno-wrapv", "-fno-wrapv-pointer"]  # with Python's -fwrapv no overflow would be seen
    if "address" in SANITIZE:
        OPTIMISED.append("-fno-sanitize=null,object-size")  # ASan sees those accesses too; these would double the build

INSTRUCTION_SETS = {
    "baseline": ["-msse3"],  # the least that NumPy's wheels require
    "avx2": ["-mavx2", "-mfma"],
    "avx512": ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx2", "-mfma"],
}

PROBE = """
#ifdef _OPENMP
#include <omp.h>
#endif
#include <stdio.h>
int main(void) {
    int n = 0;
#ifdef _OPENMP
#pragma omp parallel num_threads(2)
#pragma omp atomic
    n++;
    n += omp_get_max_threads() > 0 ? 0 : 100;
#endif
    printf("%d\\n", n);
    return 0;
}
"""


class BuildExtensions(build_ext):
    """Probe the compiler, then cythonize, then compile in parallel."""

    def finalize_options(self):
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def probe(self, compile_flags, link_flags=(), run=False):
        """Return True if a program builds with these flags, or what it prints if it is to run; None if it fails."""
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "probe.c")
            source.write_text(PROBE)
            silent = os.open(os.devnull, os.O_WRONLY)
            stdout, stderr = os.dup(1), os.dup(2)
            try:
                os.dup2(silent, 1)
                os.dup2(silent, 2)
                objects = self.compiler.compile([str(source)], output_dir=folder, extra_postargs=list(compile_flags))
                self.compiler.link_executable(objects, "probe", output_dir=folder, extra_postargs=list(link_flags))
            except Exception:
                return None
            finally:
                os.dup2(stdout, 1)
                os.dup2(stderr, 2)
                for descriptor in (silent, stdout, stderr):
                    os.close(descriptor)
            if not run:
                return True
            try:
                done = subprocess.run([str(Path(folder, "probe"))], capture_output=True, text=True, timeout=60)
            except (OSError, subprocess.SubprocessError):  # built for another processor, or without its runtime
                return None
            return done.stdout.strip() if done.returncode == 0 else None

    def openmp_flags(self):
        """Return (compile flags, link flags) with which a parallel region ran, or None."""
        if self.compiler.compiler_type == "msvc":
            candidates = [(["/openmp"], [])]
        elif sys.platform == "darwin":
            # Apple's clang has the pragmas but no runtime: `brew install libomp` brings one.
            prefixes = ["/opt/homebrew/opt/libomp", "/usr/local/opt/libomp"]
            candidates = [(["-Xpreprocessor", "-fopenmp"], ["-lomp"])]
            candidates += [
                (["-Xpreprocessor", "-fopenmp", f"-I{p}/include"], [f"-L{p}/lib", f"-Wl,-rpath,{p}/lib", "-lomp"])
                for p in prefixes
            ]
            candidates.append((["-fopenmp"], ["-fopenmp"]))
        else:
            candidates = [(["-fopenmp"], ["-fopenmp"])]
        for compile_flags, link_flags in candidates:
            if int(self.probe(compile_flags, link_flags, run=True) or 0) > 0:
                return compile_flags, link_flags
        return None

    def flags(self):
        """Return the flags for every extension that this compiler accepts."""
        if self.compiler.compiler_type == "msvc":
            return ["/O2"]
        return OPTIMISED + [flag for flag in OPTIONAL_FLAGS if self.probe([flag, "-Werror"])]

    def variants(self):
        """Return {name: flags} of the variants of the cores to build, best last."""
        if MARCH:
            if not self.probe([f"-march={MARCH}"]):
                raise SystemExit(f"VIVA_TENSOR_MARCH={MARCH}: the compiler does not take -march={MARCH}")
            return {"native": [f"-march={MARCH}"]}
        if platform.machine().lower() not in ("x86_64", "amd64") or self.compiler.compiler_type == "msvc":
            return {"baseline": []}
        accepted = {name: flags for name, flags in INSTRUCTION_SETS.items() if self.probe(flags)}
        return {"baseline": []} | accepted  # a cross compiler accepts none of them

    def build_extensions(self):
        common = self.flags()
        openmp = self.openmp_flags()
        if openmp is None:
            message = "the compiler cannot build and run OpenMP code, so viva_tensor will use one thread only"
            if os.environ.get("VIVA_TENSOR_REQUIRE_OPENMP", "0") not in ("", "0"):
                raise SystemExit(f"VIVA_TENSOR_REQUIRE_OPENMP=1: {message}; unset it to build without")
            print(f"\n{'*' * 100}\nWARNING: {message}\n{'*' * 100}\n", file=sys.stderr)
        compile_openmp, link_openmp = openmp or ([], [])
        variants = self.variants()

        generated = Path(self.build_temp)
        generated.mkdir(parents=True, exist_ok=True)
        write_if_changed(generated / "build_info.h", build_info(variants, common + compile_openmp))
        for name, text in formulas().items():
            write_if_changed(generated / name, text)
        chosen = []
        for extension in self.extensions:
            extension.extra_compile_args = [*common]
            extension.extra_link_args = [*SANITIZED]
            if extension.name == SHARED:
                extension.sources = [str(generated / "_cyutility.c")]
            elif "_core_" in extension.name:
                name = extension.name.rpartition(".")[2]
                _, _, bits, variant = name.split("_")
                if variant not in variants:
                    continue
                source = generated / f"{name}.pyx"
                write_if_changed(source, 'include "core.pyx"\n' + 'include "slowed.pxi"\n' * SLOWABLE)
                extension.sources = [str(source)]
                extension.include_dirs = [f"{KERNELS}/core"]
                extension.define_macros = [("VIVA_REAL_BITS", bits[1:])]
                extension.extra_compile_args += variants[variant]
            else:
                extension.include_dirs = [str(generated), f"{KERNELS}/teams"]
                extension.extra_compile_args += compile_openmp
                extension.extra_link_args += link_openmp + (["-pthread"] if os.name == "posix" else [])
            chosen.append(extension)

        translated = cythonize(
            chosen,
            build_dir=str(generated),
            include_path=[".", f"{KERNELS}/core", str(generated)],
            compiler_directives=DIRECTIVES,
            shared_utility_qualified_name=SHARED,
            nthreads=os.cpu_count() if sys.platform == "linux" else 0,
            quiet=True,
        )
        for extension, result in zip(chosen, translated, strict=True):
            extension.sources = result.sources
            extension.depends = [str(header) for header in sorted(Path(KERNELS).glob("*/*.h"))]
        self.extensions[:] = chosen
        super().build_extensions()


def build_info(variants, flags):
    """Return a header with what show_config() reports of this build."""
    listed = ";".join(f"{name}={' '.join(special)}" for name, special in variants.items())
    return (
        f"#define VIVA_FLAGS {json.dumps(' '.join(flags))}\n"  # a JSON string is a C string too
        f"#define VIVA_VARIANTS {json.dumps(listed)}\n"
        f"#define VIVA_DEBUG {int(DEBUG)}\n"
    )


def formulas():
    """Return {file: text} made from the names of the cores' formulas: enums, tables for Python, and dispatch."""
    elements = names_in("elementwise", r"^cdef inline vec formula_(\w+)\(vec a, vec b, double factor\)")
    rows = names_in("rows", r"^cdef inline void row_(\w+)\(const Row\* row\)")
    arguments = "args, thread, threads"
    return {
        "formulas.pxi": enum("Formula", elements) + enum("RowFormula", rows),
        "formula_names.pxi": table("FORMULAS", elements, "cores.") + table("ROW_FORMULAS", rows, "cores."),
        "slowed_names.pxi": table("FORMULAS", elements) + table("ROW_FORMULAS", rows),
        "pair.pxi": dispatch(
            "inline vec apply(Formula formula, vec a, vec b, double factor)",
            {name: f"return formula_{name}(a, b, factor)" for name in elements},
            "return ZERO",
        )
        + dispatch(
            "void pair(const void* args, int thread, int threads)",
            {name: f"elementwise({name.upper()}, {arguments})" for name in elements},
        ),
        "pair_rows.pxi": dispatch(
            "inline void apply_to_row(RowFormula formula, const Row* row)", {name: f"row_{name}(row)" for name in rows}
        )
        + dispatch(
            "void pair_rows(const void* args, int thread, int threads)",
            {name: f"rows_of({name.upper()}, {arguments})" for name in rows},
        ),
    }


def names_in(file, pattern):
    source = Path(KERNELS, "core", f"{file}.pxi").read_text(encoding="utf-8")
    return re.findall(pattern, source, re.MULTILINE)


def enum(kind, names):
    return f"cdef enum {kind}:\n    {', '.join(names).upper()}\n\n\n"


def table(variable, names, prefix=""):
    return f"{variable} = {{{', '.join(f'{name!r}: {prefix}{name.upper()}' for name in names)}}}\n"


def dispatch(signature, calls, otherwise=""):
    """Return a function with a branch for each formula, which may be a constant when it is inlined."""
    given = "" if "formula" in signature else "    cdef int formula = (<const PairArgs*> args).formula\n"
    branches = "".join(f"    if formula == {name.upper()}:\n        {call}\n" for name, call in calls.items())
    if not otherwise:
        branches = branches.replace("    if", "    elif").replace("    elif", "    if", 1)
    return f"cdef {signature} noexcept nogil:\n{given}{branches}    {otherwise}\n\n\n"


def write_if_changed(path, text):
    """Leave an unchanged file's time stamp alone, so that nothing is compiled twice."""
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


MODULES = {
    "kernels": ["_team", "_dispatch", "_matmul", "_elementwise", "_sums", "_along", "_indexing", "_updates", "_peak"],
    "autograd": ["_tape"],
    "optim": ["_trees"],
    "program": ["_guard", "_calls", "_executor"],
}
variants = ["native"] if MARCH else list(INSTRUCTION_SETS)
setup(
    ext_modules=[
        Extension(SHARED, [f"{KERNELS}/_team.pyx"]),  # a stand-in: Cython writes its source in the build
        *(
            Extension(f"viva_tensor.{room}.{name}", [f"viva_tensor/{room}/{name}.pyx"])
            for room, names in MODULES.items()
            for name in names
        ),
        *(
            Extension(f"viva_tensor.kernels._core_{bits}_{variant}", [f"{KERNELS}/core/core.pyx"])
            for variant in variants
            for bits in ("f32", "f64")
        ),
    ],
    cmdclass={"build_ext": BuildExtensions},
)
