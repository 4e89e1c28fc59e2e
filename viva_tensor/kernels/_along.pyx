"""Extremes and running sums along an axis (see core/along.pxi). Operands are contiguous, as the wrapper made them."""

from viva_tensor.kernels._dispatch cimport cores_for
from viva_tensor.kernels._team cimport call_for_elements
from viva_tensor.kernels._views cimport Operand, adjacent, read
from viva_tensor.kernels.cores cimport MAX_ALONG, RUNNING_SUMS, MIN_ALONG, SUMS_FROM, AlongArgs, AlongRule

RULES = {
    "max": <int> MAX_ALONG,
    "min": <int> MIN_ALONG,
    "cumsum": <int> RUNNING_SUMS,
    "cumsum_backward": <int> SUMS_FROM,
}


def along(str rule, x, out, Py_ssize_t axis, const Py_ssize_t[::1] starts):
    """Set out along the axis of x [outer·axis, inner], all with elements; running sums begin anew at each start."""
    cdef Operand source, target
    cdef AlongArgs args
    read(&source, x)
    read(&target, out)
    args.rule = <AlongRule> <int> RULES[rule]
    args.outer, args.axis, args.inner = source.rows // axis, axis, source.columns
    args.runs, args.starts = starts.shape[0], &starts[0] if starts.shape[0] else NULL
    args.x, args.out = source.at.data, target.at.data
    if source.kind != target.kind or not (adjacent(&source) and adjacent(&target)) or target.columns != args.inner \
            or target.rows != (args.outer if args.rule <= MIN_ALONG else source.rows):
        raise ValueError
    call_for_elements(cores_for(source.kind).along, &args, <double> source.rows * args.inner)
