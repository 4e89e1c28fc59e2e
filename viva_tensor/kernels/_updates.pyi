from viva_tensor.kernels._arrays import Array

def sgd(
    w: Array,
    grad: Array,
    out: Array,
    lr: float,
    momentum: float = 0,
    velocity: Array | None = None,
    new_velocity: Array | None = None,
) -> None: ...
