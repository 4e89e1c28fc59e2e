"""A step whose gradients are averaged over the ranks of an MPI communicator, between backward and update.

Each rank makes its gradients times its number of rows, all in one block that ends with the loss and the number of rows;
one sum over the ranks in place, and the update divides by the rows of all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

import viva_tensor
from viva_tensor.error import RankError
from viva_tensor.kernels._arrays import as_array
from viva_tensor.kernels.threads import get_num_threads
from viva_tensor.optim import Optimizer
from viva_tensor.program.instructions import Buffer, Builder, Instruction, Symbol
from viva_tensor.program.layouts import Panels
from viva_tensor.program.passes import PASSES, update_in_product, update_in_sum
from viva_tensor.program.planning import Plan, plan
from viva_tensor.program.source import Array, Shapes, Source
from viva_tensor.program.step import Step

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

__all__ = ["RankStep", "agree", "gradients", "part"]

SEPARATE = tuple(improve for improve in PASSES if improve not in (update_in_product, update_in_sum))
UPDATING = ("update", "squared_norm", "clip")
TAIL = 3  # numbers behind the gradients: loss · rows, rows, and how many ranks have failed


def agree(comm: Intracomm, operation: str, facts: dict[str, object]) -> None:
    """Raise on every rank, naming the ranks, if they do not hold the same facts.

    Examples
    --------
    >>> class Alone:
    ...     def allgather(self, value):
    ...         return [value]
    >>> agree(Alone(), "compile_step", {"dtype": "float32"})
    """
    gathered = comm.allgather({name: str(value) for name, value in facts.items()})
    for name in facts:
        values = [one.get(name) for one in gathered]
        if len(set(values)) > 1:
            first = next(rank for rank, value in enumerate(values) if value != values[0])
            raise RankError(
                f"{name} is {values[0]} on rank 0 and {values[first]} on rank {first}",
                operation=operation,
                mend="start the same program with the same settings and packages on every rank",
            )


def part(count: int, rank: int, size: int) -> slice:
    """The own ones of so many things that the ranks share out, one after another.

    Examples
    --------
    >>> [part(10, rank, 4) for rank in range(4)]
    [slice(0, 2, None), slice(2, 5, None), slice(5, 7, None), slice(7, 10, None)]
    """
    return slice(count * rank // size, count * (rank + 1) // size)


def gradients(instructions: Sequence[Instruction], params: int, dtype: np.dtype[Any]) -> list[Instruction]:
    """What makes the gradients, without the updates.

    The gradient of parameter i then is parameter ``params + i``, an array of the caller's; one that is no array of its
    own, in rows, is copied into it.
    """
    build = Builder(dtype)
    kept = [one for one in instructions if one.kind not in UPDATING]
    made = {symbol.buffer for one in kept for symbol in one.results.values()}
    for one in instructions:
        if one.kind == "update":
            grad, index = one.operands["grad"], one.results["w"].buffer.index
            if not (grad.buffer in made and grad.buffer.kind == "temporary" and grad.size == grad.buffer.size):
                grad = build.scaled(grad, 1.0, grad.shape)
            grad.buffer.kind, grad.buffer.index, grad.buffer.name = "parameter", params + index, f"g{index}"
    return kept + build.instructions


class RankStep(Step):
    """A step on the rows of one rank, with the update that all rows of all ranks lead to.

    What :func:`viva_tensor.program.compile_step` makes with ``comm``. The loss is that of all rows. Parameters are
    those of rank 0 from the start, and then have the same bits on every rank. Where one rank cannot go on, all raise.
    """

    def __init__(
        self, source: Source, params: Any, optimizer: Optimizer, rng: np.random.Generator | None, comm: Intracomm
    ) -> None:
        self._comm = comm
        self._failure: BaseException | None = None
        self._scale = np.ones((), source.dtype)
        self._updates: dict[int, Plan] = {}
        self._gradients: tuple[Array, ...] = ()
        super().__init__(source, params, optimizer, rng)
        agree(
            comm,
            "compile_step",
            {
                "viva_tensor": viva_tensor.__version__,
                "numpy": np.__version__,
                "dtype": source.dtype,
                "the parameters' shapes": [variable.data.shape for variable in source.params],
                "the inputs' shapes": [variable.data.shape[1:] for variable in source.inputs],
                "optimizer": optimizer,
            },
        )
        for block in self._params:
            comm.Bcast(block)
        agree(comm, "compile_step", {"parameters": self.fingerprint()})

    def fingerprint(self) -> str:
        """The SHA-256 of all parameters, in hexadecimal: the same on every rank."""
        return hashlib.sha256(b"".join(array.tobytes() for array in self.state().params)).hexdigest()

    def __call__(self, *inputs: ArrayLike) -> float:
        """Make one step on this rank's rows, which may be none if others have some; the loss of all rows.

        Raises
        ------
        ShapeMismatch, DimensionError, DtypeError
            If the inputs are not like the recorded ones. Nothing is changed then, on any rank.
        RankError
            If that happened on another rank.
        """
        return self._together(inputs)[0]

    def run(
        self,
        *inputs: ArrayLike,
        batch_size: int,
        epochs: int = 1,
        rng: np.random.Generator | None = None,
        shuffle: bool = True,
        callback: Callable[[int, float], object] | None = None,
        schedule: Callable[[int], float] | None = None,
        rows: ArrayLike | None = None,
        shared: bool = False,
    ) -> list[float]:
        """Train for whole epochs, each rank on its own rows, ``batch_size`` of them in a step, or all on shared rows.

        As :meth:`Step.run`; a rank whose rows are used up takes part without any until the others are done too. The
        losses are those of all rows.
        """

        def called(epoch: int, loss: float) -> None:
            try:
                if callback is not None:
                    callback(epoch, loss)
            except BaseException as error:  # the other ranks are in the next step already
                self._failure = error

        losses = super().run(
            *inputs,
            batch_size=batch_size,
            epochs=epochs,
            rng=rng,
            shuffle=shuffle,
            callback=called,
            schedule=schedule,
            rows=rows,
            shared=shared,
        )
        self._raise(self._failure)
        return losses

    def _batches(
        self,
        inputs: Sequence[ArrayLike],
        batch_size: int,
        epochs: int,
        rng: np.random.Generator | None,
        shuffle: bool,
        rows: ArrayLike | None,
        shared: bool,
    ) -> tuple[list[Array], Array | None]:
        failure: BaseException | None = None
        arrays: list[Array] = []
        chosen: Array | None = None
        try:
            arrays, chosen = super()._batches(inputs, batch_size, epochs, rng, shuffle, rows, shared)
        except BaseException as error:
            failure = error
        self._raise(failure)
        facts: dict[str, object] = {"epochs": epochs, "shared": shared}
        if shared:
            facts |= {
                "batch_size": batch_size,
                "the number of rows": len(arrays[0]),
                "the rows": None if chosen is None else hashlib.sha256(chosen.data).hexdigest(),
                "rng": rng.bit_generator.state if shuffle and rng is not None else None,
            }
        agree(self._comm, "run", facts)
        return arrays, chosen

    def _epoch(
        self,
        arrays: list[Array],
        order: Array | None,
        rows: int,
        batch_size: int,
        schedule: Callable[[int], float] | None,
        shared: bool,
    ) -> float:
        from mpi4py import MPI

        steps = self._comm.allreduce(-(-rows // batch_size), op=MPI.MAX)
        total = seen = 0.0
        for begin in range(0, steps * batch_size, batch_size):
            batch = slice(begin, min(begin + batch_size, rows))
            if shared:
                own = part(batch.stop - batch.start, self._comm.rank, self._comm.size)
                batch = slice(begin + own.start, begin + own.stop)
            chosen: Any = batch if order is None else order[batch]
            if schedule is not None:
                self._rule.lr = self._optimizer.at_rate(schedule(self.steps + 1)).lr
            loss, count = self._together([array[chosen] for array in arrays])
            total += loss * count
            seen += count
        return total / seen

    def _together(self, inputs: Sequence[ArrayLike]) -> tuple[float, float]:
        """One step of all ranks: the loss of all rows, and their number."""
        from mpi4py import MPI

        failure: BaseException | None = None
        with self._lock:
            try:
                loss, rows = self._backward(inputs)
            except BaseException as error:  # also Ctrl-C: the other ranks wait
                failure, loss, rows = error, 0.0, 0
            tail = self._gradients[-1]
            tail[:] = loss * rows, rows, failure is not None
            self._comm.Allreduce(MPI.IN_PLACE, self._reduced)
            total, count, failed = map(float, tail)
            if failed:
                self._raise(failure)
            self._scale[...] = 1 / count
            if self._optimizer.clip_norm is not None:
                self._reduced *= self._scale  # its norm is what is clipped
            while self._update().executor.run(()) is None:
                pass  # another thread has changed the number of threads since
        return total / count, count

    def _backward(self, inputs: Sequence[ArrayLike]) -> tuple[float, int]:
        """Put this rank's gradients into the block; the loss, and the number of rows."""
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        arrays = tuple(np.ascontiguousarray(as_array("step", one, self._dtype(one))) for one in inputs)
        shapes = self._source.shapes("step", arrays)
        rows = shapes[0][0] if shapes[0] else 1
        self._draw()
        if not rows:
            self._reduced[:] = 0
            return 0.0, 0
        while (loss := self._plan(shapes).executor.run(arrays)) is None:
            pass
        return loss, rows

    def _raise(self, failure: BaseException | None) -> None:
        """Raise this rank's failure, or name that of another; every rank comes here, and goes on if none has failed."""
        self._failure = None
        known = self._comm.allgather(None if failure is None else f"{type(failure).__name__}: {failure}")
        if failure is not None:
            raise failure
        for rank, message in enumerate(known):
            if message is not None:
                raise RankError(f"rank {rank} failed with {message}", operation="step")

    def _lowered(self, shapes: Shapes) -> tuple[list[Instruction], Symbol]:
        rows = shapes[0][0] if shapes[0] else 1
        instructions, output = self._source.instructions(shapes, SEPARATE, float(rows))
        return gradients(instructions, len(self._source.params), self._source.dtype), output

    def _chosen(self, instructions: list[Instruction]) -> dict[int, Panels]:
        """A parameter lies in panels if a product makes its gradient, which then lies there too; clipped, none does."""
        count = len(self._source.params)
        made = {one.results["out"].buffer.index for one in instructions if one.kind == "matmul"}
        chosen = {} if self._optimizer.clip_norm is not None else super()._chosen(instructions)
        return {index: panels for index, panels in chosen.items() if index < count and count + index in made}

    def _made(self, instructions: list[Instruction], output: Symbol, shapes: Shapes, threads: int) -> Plan:
        if not self._gradients:
            self._reduced, self._gradients = self._blocks(TAIL)
        count = len(self._source.params)
        layouts = self._layouts | {count + index: panels for index, panels in self._layouts.items()}
        arrays = (*self._params, *self._gradients)
        return plan(
            instructions, output, arrays, shapes, self._source.dtype, threads, layouts=layouts, seeds=self._seeds
        )

    def _update(self) -> Plan:
        """The update of all parameters from their gradients, wherever they lie."""
        threads = get_num_threads()
        if threads not in self._updates:
            build = Builder(self._source.dtype)
            arrays = (*self._params, *self._gradients)
            flat = [
                Symbol((array.size,), (1,), Buffer("parameter", array.size, index))
                for index, array in enumerate(arrays)
            ]
            count = len(self._params)
            grads = flat[count : 2 * count]
            scale = Symbol((), (), Buffer("constant", 1, array=self._scale))
            if self._optimizer.clip_norm is not None:
                scale = build.clipping(grads, self._optimizer.clip_norm)
            more = {"moments": len(self._optimizer.slots)}
            updates = [
                Instruction("update", {"grad": grad, "scale": scale, "w": w}, {"w": w}, more)
                for w, grad in zip(flat[:count], grads, strict=True)
            ]
            self._updates[threads] = plan(
                build.instructions + updates,
                flat[0],
                arrays,
                (),
                self._source.dtype,
                threads,
                self._rule,
                self._moments,
            )
        return self._updates[threads]
