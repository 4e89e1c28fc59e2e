"""One step, by default of SGD, of a multilayer perceptron with mean squared error, on a tape and by hand in NumPy."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from viva_tensor import autograd, nn, optim, program


class Workload(NamedTuple):
    batch: int
    widths: tuple[int, ...]


WORKLOADS = {
    "seed-demo": Workload(5, (1, 4, 1)),
    "tabular": Workload(64, (8, 64, 64, 1)),
    "mnist-mlp": Workload(128, (784, 256, 128, 10)),
    "wide": Workload(256, (1024, 4096, 1024)),
    "deep": Workload(512, (512,) * 9),
    "one row": Workload(1, (784, 256, 10)),
    "many rows": Workload(4096, (32, 64, 64, 1)),
    "odd": Workload(100, (37, 113, 59, 3)),
    "bottleneck": Workload(256, (512, 8, 512)),
}
LEARNING_RATE = 1e-3
SGD = optim.SGD(lr=LEARNING_RATE)


def problem(work):
    """A batch, its targets, and the weights and biases of each layer of a workload or its name, always the same."""
    batch, widths = WORKLOADS[work] if isinstance(work, str) else work
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal((batch, width), dtype="float32") for width in (widths[0], widths[-1]))
    weights = [
        (nn.initializers.xavier_uniform(rng, n_in, n_out).astype("float32"), np.zeros(n_out, "float32"))
        for n_in, n_out in pairwise(widths)
    ]
    return x, y, weights


class TapeStep:
    """Recorded anew on each call, with new parameters after it."""

    def __init__(self, x, y, weights, optimizer=SGD):
        self.x, self.y = x, y
        self.layers, self.tape = [], autograd.new_tape()
        for w, b in weights:
            w, self.tape = autograd.new_variable(self.tape, w)
            b, self.tape = autograd.new_variable(self.tape, b)
            self.layers.append(nn.Linear(w, b))
        self.optimizer = optimizer
        self.state = optim.init(self.optimizer, self.layers)

    def forward(self):
        hidden, tape = autograd.new_constant(self.tape, self.x)
        target, tape = autograd.new_constant(tape, self.y)
        *first, last = self.layers
        for layer in first:
            hidden, tape = nn.linear_forward(tape, layer, hidden)
            hidden, tape = nn.relu(tape, hidden)
        pred, tape = nn.linear_forward(tape, last, hidden)
        return nn.mse_loss(tape, pred, target)

    def compiled(self):
        """This step as a program."""
        loss, tape = self.forward()
        inputs = [tape.nodes()[len(self.tape) + i].output for i in range(2)]
        return program.compile_step(tape, loss=loss, params=self.layers, inputs=inputs, optimizer=self.optimizer)

    def update(self, grads):
        return optim.update(autograd.new_tape(), self.optimizer, self.state, self.layers, grads)

    def __call__(self):
        loss, tape = self.forward()
        (self.layers, self.state), self.tape = self.update(autograd.backward(tape, loss))
        return float(loss.data)


class CompiledStep(TapeStep):
    """Recorded and compiled once, replayed on each call."""

    def __init__(self, x, y, weights, optimizer=SGD):
        super().__init__(x, y, weights, optimizer)
        self.step = self.compiled()

    def __call__(self):
        return self.step(self.x, self.y)


class NumPyStep:
    """By hand, in arrays allocated once, with weights updated in place."""

    def __init__(self, x, y, weights):
        self.x, self.y = x, y
        self.weights = [(w.copy(), b.copy()) for w, b in weights]
        self.grads = [(np.empty_like(w), np.empty_like(b)) for w, b in weights]
        self.outputs = [np.empty((len(x), len(b)), "float32") for _, b in weights]
        self.slopes = [np.empty_like(output) for output in self.outputs]

    def forward(self):
        inputs, pred = self.x, self.outputs[-1]
        for (w, b), output in zip(self.weights, self.outputs, strict=True):
            np.matmul(inputs, w.T, out=output)
            output += b
            if output is not pred:
                np.maximum(output, 0, out=output)
            inputs = output
        error = np.subtract(pred, self.y, out=self.slopes[-1])
        return float(np.vdot(error, error)) / error.size

    def backward(self):
        self.slopes[-1] *= 2 / self.y.size
        for depth in reversed(range(len(self.weights))):
            slope, (dw, db) = self.slopes[depth], self.grads[depth]
            inputs = self.outputs[depth - 1] if depth else self.x
            np.matmul(slope.T, inputs, out=dw)
            slope.sum(axis=0, out=db)
            if depth:
                below = np.matmul(slope, self.weights[depth][0], out=self.slopes[depth - 1])
                below *= inputs > 0

    def update(self):
        for arrays, grads in zip(self.weights, self.grads, strict=True):
            for array, grad in zip(arrays, grads, strict=True):
                grad *= LEARNING_RATE
                array -= grad

    def __call__(self):
        loss = self.forward()
        self.backward()
        self.update()
        return loss
