"""A lock for the state of a program, which waits for no one in the usual case and survives forks and signals."""

import os
import threading
from weakref import WeakValueDictionary

from cpython.exc cimport PyErr_CheckSignals
from cpython.pythread cimport (
    NOWAIT_LOCK,
    PY_LOCK_ACQUIRED,
    PyLockStatus,
    PyThread_acquire_lock,
    PyThread_allocate_lock,
    PyThread_free_lock,
    PyThread_release_lock,
    PyThread_type_lock,
)

cdef extern from "Python.h" nogil:
    PyLockStatus PyThread_acquire_lock_timed(PyThread_type_lock lock, long long microseconds, int interruptible)
    unsigned long PyThread_get_thread_ident()


cdef class Guard:
    """A lock for the state of a program, which costs next to nothing while no other thread holds it.

    Its owner may acquire it again, as a signal handler does that asks for the state. Waiting can be interrupted. A fork
    waits for all guards, so that the child finds no step half made and no lock held.
    """

    def __cinit__(self):
        self.lock = PyThread_allocate_lock()
        if self.lock == NULL:
            raise MemoryError
        _guards[id(self)] = self

    def __dealloc__(self):
        if self.lock != NULL:
            PyThread_free_lock(self.lock)

    cdef int acquire(self) except -1:
        cdef unsigned long me = PyThread_get_thread_ident()
        cdef PyLockStatus got
        if self.depth == 0 or self.owner != me:
            if not PyThread_acquire_lock(self.lock, NOWAIT_LOCK):
                while True:
                    with nogil:
                        got = PyThread_acquire_lock_timed(self.lock, -1, 1)
                    if got == PY_LOCK_ACQUIRED:
                        break
                    PyErr_CheckSignals()
            self.owner = me
        self.depth += 1
        return 0

    cdef void release(self) noexcept:
        self.depth -= 1
        if self.depth == 0:
            PyThread_release_lock(self.lock)

    def __enter__(self):
        self.acquire()

    def __exit__(self, *_):
        self.release()


_guards = WeakValueDictionary()
_forking = threading.Lock()     # else two threads that fork, with half of the guards each, would block each other
cdef list _held = []


def _before_fork():
    cdef Guard guard
    _forking.acquire()
    for reference in _guards.valuerefs():
        guard = reference()
        if guard is not None:
            guard.acquire()
            _held.append(guard)


def _after_fork():
    cdef Guard guard
    for guard in _held:
        guard.release()
    _held.clear()
    _forking.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
