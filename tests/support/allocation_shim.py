"""A library that makes the n-th allocation of a process fail, and perhaps some after it, when it is told to."""

import subprocess
from pathlib import Path

from support.fresh import python_path

SHIM = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <link.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

static _Thread_local long left, fired, more;
static uintptr_t spared[8][2];
static int count;

/* GCC's OpenMP runtime and Rust's end the process when they have no memory; the loader helps to start threads. */
static int note(struct dl_phdr_info *info, size_t size, void *unused) {
    (void)size; (void)unused;
    if (info->dlpi_name == NULL || !(strstr(info->dlpi_name, "libgomp") || strstr(info->dlpi_name, "ld-linux") ||
                                     strstr(info->dlpi_name, "safetensors")))
        return 0;
    for (int i = 0; i < info->dlpi_phnum && count < 8; i++)
        if (info->dlpi_phdr[i].p_type == PT_LOAD && info->dlpi_phdr[i].p_flags & PF_X) {
            spared[count][0] = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
            spared[count][1] = spared[count][0] + info->dlpi_phdr[i].p_memsz;
            count++;
        }
    return 0;
}

void fail_at(long n, long in_a_row) {
    count = 0;
    dl_iterate_phdr(note, NULL);    /* anew: a call may have loaded one */
    fired = 0; more = in_a_row; left = n;
}

long end_failing(void) { left = 0; return fired; }

static int fails(void *caller) {
    if (!left) return 0;
    for (int i = 0; i < count; i++)
        if (spared[i][0] <= (uintptr_t)caller && (uintptr_t)caller < spared[i][1]) return 0;
    if (left > 1) { left--; return 0; }
    if (--more <= 0) left = 0;
    fired++;
    errno = ENOMEM;
    return 1;
}

void *malloc(size_t size) { return fails(__builtin_return_address(0)) ? NULL : __libc_malloc(size); }
void *calloc(size_t n, size_t size) { return fails(__builtin_return_address(0)) ? NULL : __libc_calloc(n, size); }
void *realloc(void *old, size_t size) {
    return fails(__builtin_return_address(0)) ? NULL : __libc_realloc(old, size);
}
void *memalign(size_t to, size_t size) { return fails(__builtin_return_address(0)) ? NULL : __libc_memalign(to, size); }
void *aligned_alloc(size_t to, size_t size) {
    return fails(__builtin_return_address(0)) ? NULL : __libc_memalign(to, size);
}
int posix_memalign(void **out, size_t to, size_t size) {
    if (fails(__builtin_return_address(0))) return ENOMEM;
    *out = __libc_memalign(to, size);
    return *out == NULL ? ENOMEM : 0;
}
"""


def shim(folder: str | Path) -> Path:
    """Compile the library that makes allocations fail; return its path."""
    source, library = Path(folder, "failing.c"), Path(folder, "failing.so")
    source.write_text(SHIM)
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, source], check=True, capture_output=True)
    return library


def environment(library: Path) -> dict[str, str]:
    """Return what a process needs to be told for its allocations to fail on command."""
    return {
        "LD_PRELOAD": str(library),
        "PYTHONMALLOC": "malloc",
        "PYTHONFAULTHANDLER": "1",
        "PYTHONPATH": python_path(),
        "OMP_NUM_THREADS": "2",
    }
