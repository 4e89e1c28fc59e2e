"""Handwritten digits: classification with dropout, a schedule, a checkpoint, and weights for PyTorch.

The 1,797 images of 8×8 pixels come with scikit-learn (E. Alpaydin and C. Kaynak, Optical recognition of handwritten
digits, UCI Machine Learning Repository, 1998).

    python -m viva_tensor.examples.digits
"""

import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from viva_tensor import autograd, checkpoint, nn, optim, program
from viva_tensor.extras import extra
from viva_tensor.train import Layers

with extra("train"):
    import click
with extra("sklearn"):
    from sklearn.datasets import load_digits

SIZES = (64, 128, 64, 10)
BATCH = 64


def accuracy(
    tape: autograd.Tape, layers: Layers, pixels: npt.NDArray[np.float32], labels: npt.NDArray[np.float32]
) -> float:
    """Return the share of images whose digit has the largest logit; without dropout."""
    x, tape = autograd.new_constant(tape, pixels[:1])
    logits, tape = nn.mlp_forward(tape, layers, x, activation="gelu")
    predict = program.compile_forward(tape, output=logits, inputs=(x,))
    return float((predict(pixels).argmax(axis=1) == labels).mean())


def main(epochs: int = 40) -> float:
    """Train, print each stage, and return the accuracy on test images."""
    pixels, digits = load_digits(return_X_y=True)
    X, Y = (pixels / 16).astype("f4"), digits.astype("f4")
    rng = np.random.default_rng(0)
    order = rng.permutation(len(X))
    test, train = order[:450], order[450:]

    layers, tape = nn.mlp(autograd.new_tape(), SIZES, rng=rng, activation="gelu")
    x, tape = autograd.new_constant(tape, X[train[:BATCH]])
    y, tape = autograd.new_constant(tape, Y[train[:BATCH]])
    logits, tape = nn.mlp_forward(tape, layers, x, activation="gelu", dropout_rate=0.2, rng=rng)
    loss, tape = nn.cross_entropy(tape, logits, y)
    adamw = optim.AdamW(lr=3e-3)
    step = program.compile_step(tape, loss=loss, params=layers, inputs=(x, y), optimizer=adamw, rng=rng)
    steps = epochs * -(-len(train) // BATCH)
    rate = optim.schedules.warm_up(optim.schedules.cosine(3e-3, steps), min(20, steps))

    def report(epoch: int, loss: float) -> None:
        if epoch == 1 or epoch % 10 == 0:
            print(f"  epoch {epoch:3}: cross-entropy {loss:.4f}")

    print(f"Training on {len(train)} images")
    step.run(X[train], Y[train], batch_size=BATCH, epochs=epochs, rng=rng, schedule=rate, callback=report)
    layers, tape = step.params(autograd.new_tape())
    found = accuracy(tape, layers, X[test], Y[test])
    print(f"{100 * found:.1f}% of {len(test)} test images are recognised")

    with tempfile.TemporaryDirectory() as folder:
        path = checkpoint.save_weights(Path(folder) / "digits.safetensors", layers)
        again, tape = checkpoint.load_weights(path)
        same = "as many" if accuracy(tape, again, X[test], Y[test]) == found else "?"
        print(f"The weights take {path.stat().st_size:,} bytes; read from the file, they recognise {same}")
    return found


@click.command(context_settings={"show_default": True})
@click.option("--epochs", type=click.IntRange(min=1), default=40, help="Passes over them.")
def command(epochs: int) -> None:
    """Learn handwritten digits."""
    main(epochs)


if __name__ == "__main__":
    command()
