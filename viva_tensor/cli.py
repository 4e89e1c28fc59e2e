"""The command line: ``viva-tensor train``, ``viva-tensor info`` and ``viva-tensor bench``."""

from __future__ import annotations

import os
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path

import click

import viva_tensor as vt
from viva_tensor import bench as benchmark
from viva_tensor import data
from viva_tensor import train as training

DEFAULTS = training.DEFAULTS


class Failure(click.ClickException):
    """One line on stderr and exit code 2, as for a wrong option."""

    exit_code = 2


def parse_hidden(context: click.Context, parameter: click.Parameter, text: str) -> tuple[int, ...]:
    """Layer widths from a comma-separated list."""
    try:
        widths = tuple(int(width) for width in text.split(","))
    except ValueError:
        widths = ()
    if not widths or min(widths) < 1:
        raise Failure(f"--hidden takes layer widths such as 128,64; got {text!r}")
    return widths


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(vt.__version__, prog_name="viva-tensor")
def cli() -> None:
    """Train multilayer networks on the processor, fast."""


@cli.command()
def info() -> None:
    """Show version, compiler, instruction set and threads."""
    vt.show_config()


@cli.command(context_settings={"show_default": True})
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--target", metavar="COLUMN", help="Numeric column to predict.  [default: price, without FILE]")
@click.option(
    "--hidden",
    metavar="N,N,...",
    default=",".join(map(str, DEFAULTS.hidden)),
    callback=parse_hidden,
    help="Widths of the hidden layers.",
)
@click.option("--epochs", type=click.IntRange(min=1), default=DEFAULTS.epochs, help="Passes over the training rows.")
@click.option("--batch-size", type=click.IntRange(min=1), default=DEFAULTS.batch_size, help="Rows in one step.")
@click.option("--lr", type=click.FloatRange(min=0, min_open=True), default=DEFAULTS.lr, help="Highest learning rate.")
@click.option(
    "--momentum",
    type=click.FloatRange(0, 1, max_open=True),
    default=DEFAULTS.momentum,
    help="Share of a step carried on.",
)
@click.option(
    "--test-fraction",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=DEFAULTS.test_fraction,
    help="Share of the rows kept apart for the test.",
)
@click.option("--seed", type=click.IntRange(min=0), default=DEFAULTS.seed, help="Of split, weights and order.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads to compute with.  [default: see viva-tensor info]")
@click.option(
    "--output",
    metavar="DIR",
    type=click.Path(path_type=Path),
    default=Path("viva-tensor-run"),
    help="Folder for the results.",
)
def train(
    file: Path | None,
    target: str | None,
    hidden: tuple[int, ...],
    epochs: int,
    batch_size: int,
    lr: float,
    momentum: float,
    test_fraction: float,
    seed: int,
    threads: int | None,
    output: Path,
) -> None:
    """Train a network on FILE and test it on rows kept apart.

    FILE is a table with a header, as .csv, .tsv, .csv.gz, .tsv.gz or .parquet; its columns may be numbers, booleans,
    dates, text and categories, with missing values. Without FILE, the bundled table of 53,940 diamonds is used.
    """
    if file is None:
        file, target = data.diamonds_path(), target or "price"
    elif target is None:
        raise Failure(f"name the column to predict: viva-tensor train {file} --target COLUMN")
    settings = training.Settings(hidden, epochs, batch_size, lr, momentum, test_fraction, seed)
    # before the work, not after it
    above = next(path for path in (output, *output.absolute().parents) if os.path.exists(path))
    if not (os.path.isdir(above) and os.access(above, os.W_OK)):
        raise Failure(f"cannot write to {output}: {above} is not a folder to write in")
    try:
        with vt.num_threads(threads) if threads else nullcontext():
            table = data.read_table(file)
            run = training.run(table, target, settings, progress=True)
    except (data.DataError, training.DivergenceError) as error:
        raise Failure(str(error)) from error
    except MemoryError as error:
        raise Failure(f"not enough memory: {error}") from error
    try:
        written = training.save(run, output)
    except OSError as error:
        raise Failure(f"cannot write to {output}: {error.strerror or error}") from error
    click.echo(summary(run, file.name))
    click.echo("Wrote " + "\n      ".join(map(str, written)))


def summary(run: training.Run, name: str) -> str:
    """What a run used, reached and how fast, as lines of text."""
    rows = run.rows
    n_test = rows["test"]
    lines = [
        f"{name}: {rows['read']:,} rows; {run.target} from {len(run.encoding.columns)} columns "
        f"as {len(run.encoding.feature_names)} features"
    ]
    lines += [f"  left out: {column} ({reason})" for column, reason in run.encoding.left_out.items()]
    if rows["without_target"]:
        lines.append(f"  left out: {rows['without_target']:,} rows without a value of {run.target}")
    lines += ["", f"{f'Error on {n_test:,} test rows':<30} {'RMSE':>10} {'MAE':>10} {'R2':>8}"]
    lines += [
        f"  {kind:<28} {_quantity(s.rmse):>10} {_quantity(s.mae):>10} {s.r2:>8.4f}" for kind, s in run.scores.items()
    ]
    network, *baselines = (scores.rmse for scores in run.scores.values())
    if network >= min(baselines):
        lines.append("  The network is no better than a baseline: try more --epochs, or another --lr or --hidden.")
    lines += [
        "",
        f"Trained on {rows['train']:,} rows for {run.settings.epochs} epochs in {run.fit.seconds:.1f} s: "
        f"{run.fit.rows_per_second:,.0f} rows/s",
    ]
    return "\n".join(lines)


def _quantity(value: float) -> str:
    return f"{value:,.0f}" if 1e3 <= value < 1e12 else f"{value:.4g}"


@cli.command(context_settings={"show_default": True})
@click.option("--threads", type=click.IntRange(min=1), help="Threads to compute with.  [default: 1, then all]")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), default=0.2, help="For each figure.")
@click.option(
    "--plot", type=click.Path(path_type=Path), metavar="FILE.png", help="Draw the roofline of the last table."
)
def bench(threads: int | None, seconds: float, plot: Path | None) -> None:
    """Measure this machine and the kernels on it, beside NumPy (and PyTorch or JAX where installed).

    Shows the peak rate of fused multiply-adds, the rate of matrix products and their share of that peak, and the rate
    at which relu reads and writes memory. Run it while the machine does nothing else.
    """
    if plot and not find_spec("matplotlib"):
        raise Failure('--plot needs matplotlib; pip install "viva-tensor[plot]"')
    counts = [threads] if threads else sorted({1, vt.get_num_threads()})
    for count in counts:
        peak = benchmark.fma_peak(count, seconds=seconds)
        click.echo(f"{count} {'thread' if count == 1 else 'threads'}, float32: FMA peak {peak:,.0f} GFLOPS\n")
        try:
            rates = benchmark.compare(count, benchmark.libraries(), seconds)
        except RuntimeError as error:
            raise Failure(f"cannot measure {error}") from error
        click.echo(f"{'matrix product, GFLOPS':<24}" + "".join(f"{name:>14} (peak)" for name in rates))
        for i, size in enumerate(benchmark.SIZES):
            cells = (f"{one.products[i]:>14,.1f} {one.products[i] / peak:>6.0%}" for one in rates.values())
            click.echo(f"  {f'{size} x {size} x {size}':<22}" + "".join(cells))
        click.echo(f"\n{'relu, GB/s':<24}" + "".join(f"{name:>14}" + " " * 7 for name in rates).rstrip())
        for i, elements in enumerate(benchmark.ELEMENTS):
            cells = (f"{one.bandwidths[i]:>14,.1f}" + " " * 7 for one in rates.values())
            click.echo((f"  {f'{elements * 4 / 1024:,.0f} KiB':<22}" + "".join(cells)).rstrip())
        click.echo()
    if plot:
        try:
            benchmark.plot(plot, peak, rates, counts[-1])
        except (OSError, ValueError) as error:
            raise Failure(f"cannot draw to {plot}: {error}") from error
        click.echo(f"Wrote {plot}")
