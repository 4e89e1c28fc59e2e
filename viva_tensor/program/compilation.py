"""From a recorded training step to a program: alone, or with other ranks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from viva_tensor import autograd
from viva_tensor.autograd import Tape, Traced, Variable
from viva_tensor.autograd.tape import node_of, several
from viva_tensor.distributed.ranks import Ranks
from viva_tensor.error import DimensionError, InvalidValue
from viva_tensor.kernels.checks import check_count, flag
from viva_tensor.optim import Averaging, Optimizer, leaves
from viva_tensor.optim.factors import factors_of
from viva_tensor.optim.optimizers import check_optimizer
from viva_tensor.program.accumulation import AccumulatingStep
from viva_tensor.program.ranks import RankStep
from viva_tensor.program.row_means import check_loss
from viva_tensor.program.source import source_of
from viva_tensor.program.step import Step

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm


def compile_step(
    tape: Tape,
    *,
    loss: Variable | Sequence[Variable],
    params: Any,
    inputs: Sequence[Variable],
    optimizer: Optimizer,
    factors: Any = None,
    average: Averaging | None = None,
    rng: np.random.Generator | None = None,
    micro_batch: int | None = None,
    comm: Intracomm | None = None,
    overlap: bool = False,
    shard_state: bool = False,
) -> Step:
    """Compile a recorded training step.

    Parameters
    ----------
    tape : Tape
        Holds one forward pass, on a batch of the usual size.
    loss : Variable, or a sequence of them
        A scalar on the tape, or several, of which the sum is minimised and each is in ``Step.losses`` after a step.
    params : Variable, or any tree of tuples, NamedTuples, lists and dicts of them
        What the optimiser changes. Everything else that is not an input stays as recorded.
    inputs : sequence of Variable
        Leaves that each call replaces, from 1 to 16. The first that has axes says how many rows a batch has; those with
        as many rows change with it. :func:`viva_tensor.autograd.reshape` says which of its sizes do.
    optimizer : SGD, Adam, AdamW, RMSprop or Lion
    factors : Factors, or a tree of them, optional
        Factors of rate and decay for some parameters: a tree like ``params``, in which one record may stand for a
        whole branch. What is left out of ``params`` stays as it is.
    average : Averaging, optional
        Keeps an average of the parameters over the steps, for ``Step.average_params``.
    rng : numpy.random.Generator, optional
        Needed if the tape holds dropouts: each step draws new seeds from it, in recorded order, as recording the step
        again with this generator would.
    micro_batch : int, optional
        Batches are computed in parts of at most so many rows, one after another in the memory of one, and their
        gradients averaged for one update, weighted by their rows: the step of the whole batch, for a loss that is a
        mean over rows, up to rounding; of a weighted mean, weights count within their part alone. A loss that is a sum,
        an extreme or a norm over rows would be another one, as would functions of a mean over rows that are not linear,
        such as its root, a variance or a covariance, softmax, running sums or reversals along the rows, and pairs of
        rows: they are refused, also where no gradient passes. A quotient of two means over rows is taken, as in a
        weighted mean: each part has means of its own. Each part draws its own dropouts.
        Inputs with as many rows as the first that has any are divided; others are given to each part whole.
    comm : mpi4py.MPI.Intracomm, optional
        The ranks that train together, each on its own rows: gradients and loss are averaged over the rows of all ranks,
        for a loss that is a mean over rows; one with weights of rows is weighted within each rank alone, and dropouts
        draw masks for the rows of each rank. Parameters are those of rank 0. Every rank makes the same calls; the
        number of rows may differ between ranks, and may be 0. Needs ``pip install "viva-tensor[mpi]"``, or mpi4py on a
        site's own MPI.
    overlap : bool
        Only with ``comm``. True: gradients are summed over the ranks while others are still computed, in buckets of at
        least a MiB, the last layers first. False: all are summed at the end. With more than two ranks, MPI may add
        buckets in another order than the whole, which rounds differently.
    shard_state : bool
        Only with ``comm``. True: each of N ranks keeps 1/N of the optimiser's moments, updates 1/N of the parameters,
        and gets the rest from the others [1]_. Steps have the same bits with and without. Every rank must then call
        ``state``; a state may be restored on another number of ranks.

    Returns
    -------
    Step
        ``step(X, Y)`` has the bits of the same step on the tape, with any number of threads. With several ranks it
        equals a step on all rows up to rounding, and has the same bits whenever as many ranks have the same rows. With
        one rank, ``overlap`` and ``shard_state`` change nothing.

    Raises
    ------
    ForeignVariable
        If a variable is not on this tape.
    DimensionError, InvalidValue, DtypeError
        If the loss is not a scalar, an input or a parameter is no leaf, dtypes are mixed, or the optimiser is not one
        of these; if ``overlap`` or ``shard_state`` is given without ``comm``; if ``micro_batch`` makes parts of a sum
        or the like, or the tape takes no other number of rows.
    TensorError
        If an operation has no compiled form.
    RankError
        If ranks differ in shapes, dtype, optimiser, options, instruction set or versions, if one of them cannot compile
        its step, or if MPI was started for programs without threads. Raised on every rank.

    References
    ----------
    .. [1] S. Rajbhandari et al., ZeRO: memory optimizations toward training trillion parameter models, SC 2020,
       arXiv:1910.02054, its first stage.

    Examples
    --------
    >>> from viva_tensor import autograd, nn, optim
    >>> rng = np.random.default_rng(0)
    >>> x, tape = autograd.new_constant(autograd.new_tape(), np.ones((4, 2), np.float32))
    >>> y, tape = autograd.new_constant(tape, np.zeros((4, 1), np.float32))
    >>> layer, tape = nn.linear(tape, 2, 1, rng=rng)
    >>> pred, tape = nn.linear_forward(tape, layer, x)
    >>> loss, tape = nn.mse_loss(tape, pred, y)
    >>> step = compile_step(tape, loss=loss, params=layer, inputs=(x, y), optimizer=optim.SGD(lr=0.1))
    >>> step(x.data, y.data) == float(loss.data)
    True
    >>> step(x.data, y.data) < float(loss.data)
    True
    """
    overlap, shard_state = flag("compile_step", "overlap", overlap), flag("compile_step", "shard_state", shard_state)
    if comm is None and (overlap or shard_state):
        raise InvalidValue(
            f"overlap={overlap!r}, shard_state={shard_state!r} without ranks",
            operation="compile_step",
            hint="give comm=MPI.COMM_WORLD, or neither of them",
        )

    ranks = Ranks(comm, "compile_step")
    with ranks.fail_together("compile_step"):
        check_optimizer("compile_step", optimizer)
        micro_batch = None if micro_batch is None else check_count("compile_step", "micro_batch", micro_batch)
        variables = tuple(leaves(params))
        if not variables:
            raise InvalidValue("no parameters", operation="compile_step", hint="give the layers to train")
        if not (average is None or isinstance(average, Averaging)):
            got = f"average is a {type(average).__name__}"
            raise InvalidValue(got, operation="compile_step", hint="give optim.Averaging(), or None")
        each = factors_of("compile_step", factors, params)
        total, tape = _total(tape, loss)
        source = source_of("compile_step", tape, total, inputs, variables, optimizer, each)
        if micro_batch is not None or ranks.size > 1:
            check_loss(source, ranks.size)
        if source.seeds and not isinstance(rng, np.random.Generator):
            raise InvalidValue(
                f"{len(source.seeds)} dropouts, and rng is {type(rng).__name__}",
                operation="compile_step",
                hint="give rng=np.random.default_rng(seed), from which each step draws",
            )
    rng = rng if source.seeds else None
    if ranks.comm is not None:
        return RankStep(source, params, optimizer, rng, ranks.comm, overlap, shard_state, average, micro_batch)
    if micro_batch is not None:
        return AccumulatingStep(source, params, optimizer, rng, average, micro_batch)
    return Step(source, params, optimizer, rng, average)


def _total(tape: Tape, loss: Variable | Sequence[Variable]) -> Traced[tuple[Variable, ...]]:
    """Return what is minimised, and after it each loss if there are several."""
    losses = (loss,) if isinstance(loss, Variable) else several("compile_step", "loss", loss)
    if not losses:
        raise InvalidValue("no loss", operation="compile_step", hint="give a scalar on the tape, or several")
    for one in losses:
        node_of(tape, one, "compile_step")
        if one.data.shape != ():
            raise DimensionError(
                f"the loss has shape {one.data.shape}, wanted a scalar",
                operation="compile_step",
                hint="reduce it with sum or mean",
            )
    total, *others = losses
    for one in others:
        total, tape = autograd.add(tape, total, one)
    return Traced((total, *losses) if others else losses, tape)
