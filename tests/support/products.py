"""Matrices in any layout, and how far a product of them may be from the exact one."""

import numpy as np

UNIT = {"float32": 2.0**-24, "float64": 2.0**-53}


def bound(a, b):
    """γ_k·|a||b|, elementwise; for float64 doubled, since the reference rounds too."""
    k = a.shape[1] * UNIT[a.dtype.name]
    slack = 1 if a.dtype == np.float32 else 2
    return slack * k / (1 - k) * (np.abs(a).astype("f8") @ np.abs(b).astype("f8"))


def reference(a, b):
    return a.astype("f8") @ b.astype("f8")


def laid_out(array, layout):
    """The same values in another memory layout."""
    if layout == "fortran":
        return np.asfortranarray(array)
    if layout == "reversed":
        return np.ascontiguousarray(array[::-1, ::-1])[::-1, ::-1]
    if layout == "strided":
        return np.repeat(np.repeat(array, 2, 0), 3, 1)[::2, ::3]
    return np.ascontiguousarray(array)
