"""The command line: ``viva-tensor train``, ``predict``, ``report``, ``info`` and ``bench``."""

from __future__ import annotations

import dataclasses
import math
import shlex
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import safetensors  # noqa: F401  # if missing, the error comes before the table is read
import tqdm  # noqa: F401

import viva_tensor as vt
from viva_tensor import bench as benchmark
from viva_tensor import files, nn
from viva_tensor import train as training
from viva_tensor.distributed import Ranks, default_threads
from viva_tensor.endings import Group, Interrupted, Unsaved, alone_in, failures, interruptions, printing, resuming, say
from viva_tensor.options import (
    COUNT,
    PATH,
    PICTURE,
    POSITIVE,
    SHARE,
    TABLE,
    Failure,
    NamedPath,
    Number,
    class_weights,
    names_option,
    of_one,
    parse_hidden,
    reading_of,
    reading_options,
    shares,
)
from viva_tensor.tabular import data, preparing, presets, reading, report, runs, saving, streaming
from viva_tensor.tabular.column_choice import Roles
from viva_tensor.tabular.defaults import GENTLE, MOMENTUM, OPTIMIZERS, SMALL
from viva_tensor.tabular.losses import LOSSES, QUANTILE
from viva_tensor.tabular.metrics import METRICS
from viva_tensor.tabular.model import MODEL, WEIGHTS, Run, check_own, load, taken
from viva_tensor.tabular.progress import bars

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

DEFAULTS = training.DEFAULTS
CHECKPOINT = "checkpoint.safetensors"
OF_TASK = ("test_fraction", "loss", "quantile", "metric", "interval", "class_weight")


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(vt.__version__, prog_name="viva-tensor")
@click.pass_context
def cli(context: click.Context) -> None:
    """Train multilayer networks on the processor, fast.

    Under mpiexec or srun, all processes train one network together; only the first one runs the other commands.
    """
    if context.invoked_subcommand != "train" and not Ranks(context.obj).first:
        context.exit()


@cli.command()
@click.argument("folder", type=PATH, required=False)
def info(folder: Path | None) -> None:
    """Show version, compiler, instruction set and threads, or the columns and target of the model in FOLDER."""
    if folder is None:
        with printing():
            vt.show_config()
        return
    with failures():
        say(report.describe(load(folder)))


def repeating(arguments: Sequence[str]) -> str:
    """Return the command that does the same again, from its beginning and in place of what it wrote."""
    kept = [one for one in arguments if one not in ("--resume", "--force")]
    return shlex.join(["viva-tensor", *kept, "--force"])


@cli.command(context_settings={"show_default": True})
@click.argument("file", type=TABLE, required=False)
@click.option("--target", metavar="COLUMN", help="Column to predict.  [default: price, without FILE]")
@click.option(
    "--task",
    "task_name",
    type=click.Choice(["regression", "classification"]),
    help="How to treat the target.  [default: classification of text, categories and booleans]",
)
@click.option(
    "--loss", type=click.Choice(LOSSES), help="What is minimised.  [default: squared; for classes always log-loss]"
)
@click.option(
    "--metric",
    type=click.Choice(METRICS),
    help="Validation score by which the best epoch is chosen.  [default: the loss]",
)
@click.option(
    "--quantile",
    metavar="SHARE,...",
    default="0.5",
    callback=shares,
    help="Share of rows that should lie below the prediction, with --loss quantile. If several are given, the one "
    "nearest 0.5 is the prediction.",
)
@click.option(
    "--interval",
    type=SHARE,
    help="Share of rows whose value should lie between the columns lower and upper, which are added to predictions.",
)
@click.option(
    "--class-weight",
    metavar="LABEL=NUMBER",
    multiple=True,
    callback=class_weights,
    help="Weight of each row of a class, or balanced to give all classes the same total weight.  [default: 1]",
)
@click.option("--id", metavar="COLUMN", help="Column that names rows: not a feature, but copied to predictions.")
@names_option("--drop", "COLUMN", "Columns to leave out; a name with a comma in quotes: '\"size, cm\"'.")
@names_option("--categorical", "COLUMN", "Columns whose numbers are categories.")
@names_option("--numeric", "COLUMN", "Columns to keep as numbers, although they look like codes or row numbers.")
@reading_options
@click.option(
    "--preset",
    type=click.Choice(presets.PRESETS),
    help="For tables in memory of 150 to 100,000 rows, or of up to ten million values. default: the mean of several "
    "networks, each trained without a part of the rows, with settings of their own; fast: one such network, in a tenth "
    "of the time; best: several kinds of networks, and boosted trees where scikit-learn is installed, blended, for "
    "--minutes. Other tables get one network with the settings below.  [default: default, but none with --resume or "
    "any of the settings below]",
)
@click.option(
    "--minutes",
    type=POSITIVE,
    help="Training time for --preset best; nothing new is begun after it.  [default: 10]",
)
@click.option(
    "--hidden",
    metavar="N,N,...",
    default=",".join(map(str, DEFAULTS.hidden)),
    callback=parse_hidden,
    help="Widths of the hidden layers.",
)
@click.option(
    "--epochs", type=COUNT, help=f"Passes over the training rows.  [default: {DEFAULTS.epochs}, more for small tables]"
)
@click.option(
    "--batch-size", type=COUNT, help=f"Rows in one step.  [default: {DEFAULTS.batch_size}, fewer for small tables]"
)
@click.option(
    "--activation",
    type=click.Choice(list(nn.ACTIVATIONS)),
    default=DEFAULTS.activation,
    help="Activation of the hidden layers.",
)
@click.option(
    "--optimizer",
    type=click.Choice(list(OPTIMIZERS)),
    default="sgd",
    help=f"How weights are updated; on tables below {SMALL:,} rows, sgd clips gradients to a norm of 1.",
)
@click.option(
    "--lr",
    type=POSITIVE,
    help=f"Initial learning rate.  [default: {', '.join(f'{name} {lr:g}' for name, (_, lr) in OPTIMIZERS.items())}; "
    f"sgd on tables below {SMALL:,} rows {GENTLE:g}]",
)
@click.option("--momentum", type=Number(0, 1), help=f"Momentum, for --optimizer sgd only.  [default: {MOMENTUM:g}]")
@click.option(
    "--patience",
    type=COUNT,
    help="Stop after this many epochs without a better validation loss, and keep the best.  [default: 20 on tables "
    "below 20,000 rows, or a quarter of the epochs if that is more]",
)
@click.option(
    "--test-fraction",
    type=SHARE,
    default=preparing.TEST_FRACTION,
    help="Fraction of the rows held out for the test.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=DEFAULTS.seed, help="Seed of the split, the weights and the order."
)
@click.option(
    "--memory",
    metavar="GB",
    type=Number(min=0),
    help="Memory for the table on one process; a .csv or .parquet file that needs more is read in blocks.  [default: "
    "half of what is free]",
)
@click.option("--threads", type=COUNT, help="Threads to compute with.  [default: see viva-tensor info]")
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    type=NamedPath(path_type=Path, readable=False),
    default=Path("viva-tensor-run"),
    help="Folder for the results.",
)
@click.option("--resume", is_flag=True, help="Resume an interrupted run from its folder.")
@click.option("--force", is_flag=True, help="Replace a run, its checkpoint, or files of the same names.")
@click.option(
    "--report", "timed", is_flag=True, help="Under mpiexec: show how long each process computes, waits and sums."
)
@click.pass_obj
def train(
    comm: Intracomm | None,
    /,
    file: Path | None,
    target: str | None,
    task_name: str | None,
    preset: str | None,
    memory: float | None,
    threads: int | None,
    output: Path,
    resume: bool,
    force: bool,
    timed: bool,
    **options: Any,  # of columns, of reading, and what settings_for takes
) -> None:
    """Train a network on FILE and test it on rows kept for the test.

    FILE is a table: .csv, .tsv or .txt (also as .gz, .bz2, .xz or .zip), .parquet, .feather, .json, .jsonl (or .ndjson)
    or .xlsx. Its columns may be numbers, booleans, dates, text and categories, with missing values. Everything guessed
    or left out is reported before training starts; rows are counted from 0. Without FILE, the bundled table of 53,940
    diamonds is used. Text, categories and booleans are predicted as classes, numbers as numbers.

    Under mpiexec -n N or srun, N processes share each batch and train the same network, up to rounding. All of them
    must see FILE and DIR; each reads its share of the rows of a .parquet file.
    """
    ranks = Ranks(comm)
    if file is None:
        file, target = data.diamonds_path(), target or "price"
    with failures():
        way = reading_of(options)
        reading.check_reading(file, way)
    if target is None:
        raise Failure(f"name the column to predict: viva-tensor train {file} --target COLUMN")
    if options["loss"] != QUANTILE and options["quantile"] != (preparing.Task.quantile,):
        raise Failure(f"--quantile {','.join(map(str, options['quantile']))} is for --loss quantile")
    roles = Roles(*(options.pop(name) for name in ("drop", "categorical", "numeric", "id")))
    checkpoint = output / CHECKPOINT
    if options["minutes"] is not None and preset != presets.BEST:
        raise Failure(f"--minutes {options['minutes']:g} is for --preset {presets.BEST}")
    with failures():  # before the work, not after it
        named = presets.named(preset, of_one(click.get_current_context()))
        preset = presets.ONE if resume and preset is None else named
        names = (*saving.NAMES, CHECKPOINT)
        saving.check_folder(output, names)
        saving.check_apart([file], [output / name for name in names])
    kind = {"regression": "number", "classification": "class", None: None}[task_name]
    asked = {name: options.pop(name) for name in OF_TASK}
    task = preparing.Task(target, kind, roles=roles, writing=way.writing, **asked)
    usual = default_threads(ranks)  # which all ranks find out together
    written: list[Path] = []
    with failures(), alone_in(output, ranks), interruptions(checkpoint, resume, written), resuming(resume):
        check_output(output, checkpoint, resume, force)
        with vt.num_threads(threads or usual), bars(ranks.first):
            if ranks.size > 1 and memory is not None:
                raise Failure("--memory is for one process; with several, each reads its share of a .parquet file")
            memory = math.inf if ranks.size > 1 else memory
            source = streaming.read_or_stream(file, way, task.expected, None if memory is None else 1e9 * memory)
            situation = presets.Situation.of(source, target, ranks=ranks.size)
            choice = presets.choose(preset, situation, options)
            if resume and choice.members is not None:
                raise Failure(f"nothing to resume: the preset {preset} keeps no checkpoint of tables of {choice.why}")
            run = runs.run(
                source,
                task,
                choice,
                started=lambda prepared: say(report.opening(prepared, file.name)),
                progress=True,
                checkpoint=checkpoint if choice.members is None else None,
                resume=resume,
                comm=comm,
                shared_folder=output,
                timed=timed,
            )
        if ranks.first:
            # where folders cannot be held, another run may have come
            free = output if resume or force else saving.unused(output)
            finish(run, free, file.name, checkpoint, written)


def finish(run: Run, output: Path, source: str, checkpoint: Path, written: list[Path]) -> None:
    """Write the files of a run, of which a list is kept, and show what it reached."""
    try:
        saving.save(run, output, source, repeating(sys.argv[1:]), written, True)  # as was found out before
        for path in (checkpoint, *(output / name for name in saving.NAMES)):
            files.remove_abandoned(path, any_age=True)  # nobody else writes to a folder that is held
        checkpoint.unlink(missing_ok=True)  # last: a full disk must not cost the run
    except OSError as error:
        raise Unsaved(f"cannot write to {output}: {error.strerror or error}") from error
    say("\n" + report.summary(run))
    if run.fit.times:
        say("\n" + report.shares(run.fit.times))
    say("Wrote " + "\n      ".join(map(str, written)))
    if run.fit.interrupted:
        raise Interrupted(f"interrupted; {output} holds the model of what had been trained by then")


@cli.command(name="report")
@click.argument("folder", metavar="FOLDER", type=PATH)
@click.option("--open", "shown", is_flag=True, help="Open it in a browser.")
def report_command(folder: Path, shown: bool) -> None:
    """Show where the report of the run in FOLDER is, and a summary of it."""
    page, short = folder / saving.PAGE, folder / saving.SHORT
    with failures():
        if not short.is_file():
            raise data.DataError(f"{folder} holds no report; it is not the folder of a run")
        say(short.read_text(encoding="utf-8"), nl=False)
        if not page.is_file():
            raise data.DataError(
                f"{folder} holds no {saving.PAGE}, which viva-tensor train writes with plotly: "
                'pip install "viva-tensor[train]"'
            )
        say(f"\n{page}")
    if shown and not click.launch(page.absolute().as_uri()) == 0:
        raise Failure(f"no browser was found; open {page} yourself")


def check_output(output: Path, checkpoint: Path, resume: bool, force: bool) -> None:
    """Raise if there is no run to resume in a folder, or anything that would be replaced."""
    if resume:
        if not checkpoint.is_file():
            raise Failure(f"nothing to resume in {output}: there is no {CHECKPOINT}")
        if not force:
            check_own(output, saving.NAMES, "--resume --force replaces it")
    elif not force:
        if checkpoint.exists():
            raise Failure(f"{output} has the checkpoint of a run; --resume goes on with it, --force starts anew")
        if (output / WEIGHTS).exists():
            raise Failure(f"{output} has the model of another run; --force replaces it, --output names another folder")
        if found := taken(output, saving.NAMES):
            hint = "--force replaces it, --output names another folder"
            raise Failure(f"{output} already holds {found.name}, a name that the run would use; {hint}")


@cli.command(context_settings={"show_default": True})
@click.argument("folder", metavar="MODEL_FOLDER", type=PATH)
@click.argument("file", type=TABLE)
@click.option(
    "-o",
    "--output",
    metavar="FILE.csv",
    type=NamedPath(path_type=Path, dir_okay=False),
    help="Where to write the predictions.  [default: standard output]",
)
@click.option("--id", metavar="COLUMN", help="Column to copy to the predictions.  [default: that of the training]")
@click.option(
    "--append",
    is_flag=True,
    help="Write the columns of FILE before the predictions, in place of the index and the name of the row.",
)
@reading_options
@click.option("--threads", type=COUNT, help="Threads to compute with.  [default: see viva-tensor info]")
def predict(
    folder: Path, file: Path, output: Path | None, id: str | None, append: bool, threads: int | None, **options: Any
) -> None:
    """Predict the rows of FILE with the model that viva-tensor train saved in MODEL_FOLDER.

    FILE needs the columns that the model was trained on, by name, in any order, written as in training. The predictions
    are written as CSV: the index of the row, from 0, its name if it has one, the prediction, and what else the model
    gives: the probability of each class, the ends of the interval (lower, upper), or each quantile. Values unlike those
    of the training rows are counted on stderr.
    """
    if output is None and sys.stdout is None:
        raise Failure("there is no standard output to write to; name a file with --output")
    with failures(), vt.num_threads(threads) if threads else nullcontext():
        if output is not None and not files.is_stream(output):
            saving.check_folder(output.parent, [output.name])
            saving.check_apart([file, *(folder / name for name in MODEL)], [output])
        model = load(folder)
        if id is not None:
            model = dataclasses.replace(model, origin=dataclasses.replace(model.origin, id=id))
        said = reading_of(options)
        reading.check_reading(file, said)
        way = dataclasses.replace(said, writing=said.writing.or_else(model.origin.writing))
        source = reading.read(file, way, model.expected(said.writing))
        table = data.rows_of(source.table, 0, len(source.table))
        if id is not None:
            data.check_column(table, id)
        predictions = model.predict(table)
        lines = [*model.unfamiliar(table), *source.notes]
    if unused := model.unused(table):
        lines.append(f"Not used, unknown to the model: {', '.join(unused)}")
    for line in report.first_of(lines, "in Python, load(folder).unfamiliar(table) has all"):
        click.echo(line, err=True)
    if append:
        predictions = saving.appended(reading.as_written(file, said), predictions, model.origin.id)
    if output is None:
        with printing():
            saving.write_csv(predictions, sys.stdout)
        return
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        saving.write_csv(predictions, output)
    except OSError as error:
        raise Failure(f"cannot write to {output}: {error.strerror or error}") from error
    if not files.is_stream(output):  # which may be where the predictions go
        say(f"Wrote {output}")


@cli.command(context_settings={"show_default": True})
@click.option("--threads", type=COUNT, help="Threads to compute with.  [default: 1, then all]")
@click.option("--seconds", type=POSITIVE, default=0.2, help="Time for each figure.")
@click.option("--plot", type=PICTURE, metavar="FILE.png", help="Draw the roofline of the last table.")
def bench(threads: int | None, seconds: float, plot: str | None) -> None:
    """Measure this machine and the kernels on it, beside NumPy (and PyTorch or JAX where installed).

    Shows the peak rate of fused multiply-adds, the rate of matrix products and their share of that peak, and the rate
    at which relu reads and writes memory. Run it while the machine does nothing else.
    """
    if plot and not find_spec("matplotlib"):
        raise Failure('--plot needs matplotlib; pip install "viva-tensor[plot]"')
    counts = [threads] if threads else sorted({1, vt.get_num_threads()})
    for count in counts:
        peak = benchmark.fma_peak(count, seconds=seconds)
        say(f"{count} {'thread' if count == 1 else 'threads'}, float32: FMA peak {peak:,.0f} GFLOPS\n")
        try:
            rates = benchmark.compare(count, benchmark.libraries(), seconds)
        except RuntimeError as error:
            raise Failure(f"cannot measure {error}") from error
        say(benchmark.table(rates, peak) + "\n")
    if plot:
        try:
            benchmark.plot(plot, peak, rates, counts[-1])
        except (OSError, ValueError) as error:
            raise Failure(f"cannot draw to {plot}: {error}") from error
        say(f"Wrote {plot}")
