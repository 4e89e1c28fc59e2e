from viva_tensor.kernels._arrays import Array

FORMULAS: dict[str, int]
ROW_FORMULAS: dict[str, int]

def apply(formula: int, a: object, b: object, out: object = None, factor: float = 1.0) -> Array: ...
def apply_rows(formula: int, a: object, b: object, factor: float = 0.0) -> Array: ...
