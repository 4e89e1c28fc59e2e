from viva_tensor.kernels._arrays import Array

def update(
    grad: Array,
    w: Array,
    new_w: Array,
    lr: float,
    momentum: float = 0,
    first: Array | None = None,
    new_first: Array | None = None,
    square_momentum: float = 0,
    correction: float = 1,
    epsilon: float = 0,
    second: Array | None = None,
    new_second: Array | None = None,
) -> None: ...
def descend(
    w: object, grad: object, lr: float, momentum: float = 0.0, velocity: object = None
) -> tuple[Array, Array | None]: ...
