"""Optimiser updates: new arrays from old ones, in one pass; `update_vector` has the formulas.

Arguments that do not fit raise a bare ValueError; the Python wrapper converts or explains them.
"""

cimport cython
from libc.math cimport sqrt
from libc.string cimport memset

from cpython.buffer cimport PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBuffer_Release, PyObject_GetBuffer

from numpy import dtype, empty, ndarray

from viva_tensor.kernels._dispatch cimport cores_for, float_cores
from viva_tensor.kernels._team cimport call_for_elements
from viva_tensor.kernels._views cimport aligned, kind_of, memory_of
from viva_tensor.kernels.cores cimport (
    ADAM,
    DESCENT,
    LION,
    RMSPROP,
    Cores,
    SquaredNormArgs,
    UpdateArgs,
    UpdateKind,
    UpdateRule,
    clip_factor,
)

cdef object FLOAT = dtype("float32"), DOUBLE = dtype("float64")
cdef dict KINDS = {"descent": DESCENT, "adam": ADAM, "rmsprop": RMSPROP, "lion": LION}


cdef double power(double base, Py_ssize_t exponent) noexcept nogil:
    """Return a power by repeated squaring, so that its bits depend on no C library."""
    cdef double result = 1
    while exponent > 0:
        if exponent & 1:
            result *= base
        base *= base
        exponent >>= 1
    return result


cdef void next_step(UpdateRule* rule) noexcept nogil:
    """Count a step and set the numbers that depend on the count."""
    rule.steps += 1
    rule.rate, rule.correction, rule.epsilon = rule.lr, 1, rule.eps
    if rule.kind == ADAM:
        rule.rate /= 1 - power(rule.momentum, rule.steps)
        rule.correction = 1 / sqrt(1 - power(rule.square_momentum, rule.steps))
        if rule.epsilon_hat:
            rule.epsilon *= rule.correction


@cython.final
@cython.auto_pickle(False)
cdef class Rule:
    """An optimiser as kernels see it, and the number of steps that it has made."""

    def __init__(self, str kind, double lr, *, double momentum=0, double square_momentum=0, double epsilon=0,
                 double decay=0, bint nesterov=False, bint decoupled=False, bint epsilon_hat=False, Py_ssize_t steps=0):
        self.values.kind = <UpdateKind> <int> KINDS[kind]
        self.values.lr, self.values.momentum, self.values.square_momentum = lr, momentum, square_momentum
        self.values.eps, self.values.decay, self.values.epsilon_hat = epsilon, decay, epsilon_hat
        self.values.nesterov, self.values.decoupled, self.values.steps = nesterov, decoupled, steps

    @property
    def lr(self):
        return self.values.lr

    @lr.setter
    def lr(self, double value):
        self.values.lr = value

    @property
    def decay(self):
        return self.values.decay

    @decay.setter
    def decay(self, double value):
        self.values.decay = value

    @property
    def steps(self):
        return self.values.steps

    @steps.setter
    def steps(self, Py_ssize_t value):
        self.values.steps = value

    def next_step(self):
        """Count a step, on which the updates depend until the next one."""
        next_step(&self.values)


cdef int flat(object array, const void** data, Py_ssize_t* size, char* kind) except -1:
    """Find the address of an array without gaps, of any rank, and the number and kind of its elements."""
    cdef Py_buffer view
    cdef Py_ssize_t itemsize
    if type(array) is not ndarray:
        raise TypeError
    PyObject_GetBuffer(array, &view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT)
    kind[0] = kind_of(&view)
    itemsize = sizeof(float) if kind[0] == b"f" else sizeof(double)
    data[0], size[0] = view.buf, view.len // itemsize
    PyBuffer_Release(&view)
    if kind[0] == 0 or not (size[0] == 0 or aligned(data[0], 0, itemsize)):
        raise ValueError
    return 0


cdef object replaced(object array, object shape, char wanted, const void** old, void** new):
    """Return a new array to replace one of this shape and kind; None for None."""
    cdef Py_ssize_t size
    cdef char kind
    if array is None:
        return None
    if array.shape != shape:
        raise ValueError
    flat(array, old, &size, &kind)
    if kind != wanted:
        raise ValueError
    result = empty(shape, FLOAT if kind == b"f" else DOUBLE)
    new[0] = memory_of(result)
    return result


def update(Rule rule, w, grad, first=None, second=None, double scale=1, tuple factors=(1, 1)):
    """Return the new weights and moments after the current step of `rule`.

    The gradient is multiplied by a scale, and the rule's rate and decay by factors.
    """
    cdef UpdateArgs args
    cdef Py_ssize_t size
    cdef char kind, other
    cdef float single = <float> scale
    memset(&args, 0, sizeof(UpdateArgs))
    shape = w.shape
    flat(w, &args.w, &args.size, &kind)
    flat(grad, &args.grad, &size, &other)
    squares = rule.values.kind == ADAM or rule.values.kind == RMSPROP
    means = rule.values.kind == ADAM or rule.values.kind == LION
    if other != kind or grad.shape != shape or (second is not None) != squares or (first is None and means):
        raise ValueError
    new_w = replaced(w, shape, kind, &args.w, &args.new_w)
    new_first = replaced(first, shape, kind, &args.first, &args.new_first)
    new_second = replaced(second, shape, kind, &args.second, &args.new_second)
    args.rule = &rule.values
    args.rate_factor, args.decay_factor = factors
    if scale != 1:
        args.scale = <void*> &single if kind == b"f" else <void*> &scale
    if args.size:
        call_for_elements(cores_for(kind).update, &args, args.size)
    return new_w, new_first, new_second


def chunk_squares(x):
    """Return Σ x² of each chunk, in the order of core/norms.pxi."""
    cdef SquaredNormArgs args
    cdef const Cores* cores
    cdef char kind
    flat(x, &args.x, &args.size, &kind)
    cores = cores_for(kind)
    result = empty((cores.sum_chunks(args.size),), FLOAT if kind == b"f" else DOUBLE)
    args.partials = memory_of(result)
    call_for_elements(cores.squared_norm, &args, args.size)
    return result


def clipping(double squared_norm, double max_norm):
    """Return the factor that scales arrays of this squared norm down to `max_norm`."""
    return clip_factor(squared_norm, max_norm)


def sum_chunks(Py_ssize_t size):
    """Return the number of chunks of an array of this size: its squared norm has as many partials."""
    return float_cores.sum_chunks(size)
