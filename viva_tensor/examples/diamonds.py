"""The price of a diamond, step by step on the tape, where every value and gradient can be inspected.

A network of one hidden layer learns the logarithm of the price from the weight in carats and three lengths. The first
steps of gradient descent are plain Python, which shows all that training is; then the same step is compiled.

    python -m viva_tensor.examples.diamonds
"""

import numpy as np
import numpy.typing as npt

from viva_tensor import autograd, nn, optim, program
from viva_tensor.extras import extra

with extra("train"):
    import click
    import pandas as pd

    from viva_tensor.tabular.data import diamonds_path
    from viva_tensor.tabular.reading import read_table

COLUMNS = ["carat", "x", "y", "z"]


def standardised(table: pd.DataFrame) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return features and the logarithm of the price as float32, each column with mean 0 and standard deviation 1."""
    features = table[COLUMNS].to_numpy("f8")
    price = np.log(table["price"].to_numpy("f8"))[:, None]
    X, Y = (((array - array.mean(0)) / array.std(0)).astype("f4") for array in (features, price))
    return X, Y


def main(rows: int = 20_000, epochs: int = 10) -> float:
    """Train, print each stage, and return the share of the variance that is explained."""
    X, Y = standardised(read_table(diamonds_path()).sample(rows, random_state=0))
    rng = np.random.default_rng(0)
    layers, tape = nn.mlp(autograd.new_tape(), (len(COLUMNS), 16, 1), rng=rng, activation="tanh")
    sgd = optim.SGD(lr=0.05, momentum=0.9)
    state = optim.init(sgd, layers)

    print("Ten steps by hand, each recorded on a fresh tape")
    for number in range(1, 11):
        batch = rng.integers(rows, size=256)
        x, tape = autograd.new_constant(tape, X[batch])
        y, tape = autograd.new_constant(tape, Y[batch])
        pred, tape = nn.mlp_forward(tape, layers, x, activation="tanh")
        loss, tape = nn.mse_loss(tape, pred, y)
        grads = autograd.backward(tape, loss)
        steepest = max(float(np.abs(grads[variable]).max()) for layer in layers for variable in layer)
        print(f"  step {number:2}: loss {float(loss.data):.4f}, steepest gradient {steepest:.4f}")
        if number < 10:
            (layers, state), tape = optim.update(autograd.new_tape(), sgd, state, layers, grads)

    print("\nThe tape of the last step")
    print(tape)

    print("\nThe same step as a program")
    step = program.compile_step(tape, loss=loss, params=layers, inputs=(x, y), optimizer=sgd)
    print(step)
    losses = step.run(X, Y, batch_size=256, epochs=epochs, rng=rng)
    explained = 1 - losses[-1]  # the target has variance 1
    print(f"\nAfter {epochs} epochs, {100 * explained:.1f}% of the variance of the logarithm is explained")
    return explained


@click.command(context_settings={"show_default": True})
@click.option("--rows", type=click.IntRange(2, 53_940), default=20000, help="Diamonds.")
@click.option("--epochs", type=click.IntRange(min=1), default=10, help="Passes over them.")
def command(rows: int, epochs: int) -> None:
    """Learn the prices of diamonds, by hand and compiled."""
    main(rows, epochs)


if __name__ == "__main__":
    command()
