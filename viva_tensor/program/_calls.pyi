from typing import Any, final

import numpy as np

from viva_tensor.kernels.updates import Rule
from viva_tensor.program._guard import Guard

DEPTH_BLOCK: int

@final
class Address:
    at: int

    def __init__(self, at: int) -> None: ...

@final
class InputOffset:
    slot: int
    offset: int

    def __init__(self, slot: int, offset: int) -> None: ...

Location = Address | InputOffset
Strided = tuple[Location, int, int, int, int]  # then the strides of rows and columns, and of panels of them
# scale, penalty, w, size, the addresses of the moments, and factors of rate and decay
UpdateStep = tuple[Location | None, Location | None, Location, int, int, int, tuple[float, float]]
Team = tuple[int, int, bool]  # first thread, threads, and whether a barrier comes before

class Calls:
    inputs: tuple[tuple[int, ...], ...]

    def __init__(
        self,
        dtype: str,
        threads: int,
        allowed: int,
        inputs: tuple[tuple[int, ...], ...],
        guard: Guard | None,
        rule: Rule | None,
        returned: int = 0,
    ) -> None: ...
    def keep(self, item: Any) -> None: ...
    def matmul(
        self,
        sizes: tuple[int, int, int],
        a: Strided,
        b: Strided,
        out: Strided,
        bias: Strided | None,
        relu: bool,
        mask: Strided | None,
        update: UpdateStep | None,
        padded: bool,
        by_rows: bool,
        team: Team,
    ) -> str: ...
    def batch_matmul(
        self,
        sizes: tuple[int, int, int],
        a: Strided,
        b: Strided,
        out: Location,
        a_offsets: np.ndarray[Any, np.dtype[np.int64]],
        b_offsets: np.ndarray[Any, np.dtype[np.int64]],
        team: Team,
    ) -> str: ...
    def pairs(
        self,
        name: str,
        shape: tuple[int, ...],
        a: Strided,
        b: Strided,
        out: Strided,
        factor: float,
        by_rows: bool,
        team: Team,
    ) -> None: ...
    def sum(
        self,
        sizes: tuple[int, int, int],
        x: Location,
        out: Location | None,
        divisor: float,
        update: UpdateStep | None,
        team: Team,
    ) -> None: ...
    def along(
        self, rule: str, sizes: tuple[int, int, int], starts: tuple[int, ...], x: Location, out: Location, team: Team
    ) -> None: ...
    def embedding_bag(
        self,
        sizes: tuple[int, ...],
        x: Location,
        indices: Location,
        weights: Location,
        out: Location,
        backward: bool,
        team: Team,
    ) -> None: ...
    def take(
        self,
        sizes: tuple[int, int, int, int],
        rows: int,
        x: Location,
        indices: Location,
        out: Location,
        backward: bool,
        team: Team,
    ) -> None: ...
    def dropout(
        self, shape: tuple[int, ...], x: Location, out: Location, rate: float, factor: int, seed: int, team: Team
    ) -> None: ...
    def to_panels(self, shape: tuple[int, ...], x: Strided, out: Location, team: Team) -> None: ...
    def squared_error(
        self,
        rows: int,
        size: int,
        a: Location,
        b: Location,
        loss: Location | None,
        out: Location | None,
        grad: Location | None,
        team: Team,
    ) -> None: ...
    def squared_norm(self, size: int, x: Location, out: Location, team: Team) -> None: ...
    def clip(
        self, partials: list[Location], chunks: tuple[int, ...], max_norm: float, out: Location, team: Team
    ) -> None: ...
    def update(self, grad: Location, update: UpdateStep, team: Team) -> None: ...
