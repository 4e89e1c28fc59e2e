"""Published recipes beside the packages of their authors, on tables of a folder: test error and fit time, in Markdown.

usage: python asv_benchmarks/recipes.py FOLDER [--only NAME,...] [--recipes realmlp,tabm] [--seeds N] [--epochs N]
       [--members N] [--width N] [--threads N]     (on a machine that does nothing else)

The folder holds NAME.train.csv and NAME.test.csv, and tables.json, which names each table's target and task, as
{"NAME": ["target", "regression"]} or "classification". Both get the same numbers, with medians for missing ones, the
same codes of categories, and for each seed the same fifth of the training rows for validation. An error is the root
mean squared error or the share of wrong classes on the test rows. The two are fitted in turn, in an order that changes
with the seed, with as many threads; a time is that of the whole fit, and ratios below 1 favour viva_tensor. The last
column is the difference of the mean errors in standard errors of it, over the seeds: within ±2 it is noise.

Where other programs run, take --threads 1: PyTorch's threads spin while they wait for each other, and a step of two of
them on two busy processors took twenty-five times as long as one of one thread, which says nothing about either side.

RealMLP is pytabkit's. For TabM the package tabm has the network, and its training is that of its own example: AdamW,
gradients clipped to a norm of 1, and patience. --epochs shortens RealMLP's schedule, and bounds TabM's epochs.
"""

# ruff: noqa: E402  # NumPy reads these variables while it is loaded

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, sleep
from typing import Any, NamedTuple

for name in [name for name in os.environ if name.startswith("OPENBLAS_")]:
    del os.environ[name]  # on some machines they slow NumPy

import numpy as np
import pandas as pd
import rtdl_num_embeddings
import tabm
import torch
from pytabkit import RealMLP_TD_Classifier, RealMLP_TD_Regressor
from sklearn.preprocessing import QuantileTransformer

import viva_tensor
from viva_tensor.tabular.recipes import RealMLP, Recipe, TabM

PAUSE = 0.2  # seconds: threads look for work for a while
RECIPES = ("realmlp", "tabm")


class Rows(NamedTuple):
    """Numbers, codes of categories, and targets: numbers, or numbers of classes."""

    x: Any
    codes: Any
    y: Any

    def take(self, rows: Any) -> Rows:
        return Rows(self.x[rows], self.codes[rows], self.y[rows])


class Case(NamedTuple):
    """A table: rows to train on, rows to test on, and the number of classes or None."""

    train: Rows
    test: Rows
    classes: int | None

    def error(self, predicted: Any) -> float:
        """The error of numbers, or of probabilities, on the test rows."""
        if self.classes is None:
            return float(np.sqrt(np.mean((np.asarray(predicted, float) - self.test.y) ** 2)))
        return float(np.mean(np.argmax(predicted, axis=1) != self.test.y))


Fit = Callable[[Case, Any, Any, int], Any]  # of a case, training rows, validation rows and a seed: test predictions


def read(folder: Path, name: str, target: str, task: str) -> Case:
    """Read a table; text is categories."""
    train, test = (pd.read_csv(folder / f"{name}.{part}.csv") for part in ("train", "test"))
    both = pd.concat([train, test], ignore_index=True)
    classes = task == "classification"
    y, labels = pd.factorize(both.pop(target), sort=True) if classes else (both.pop(target).to_numpy(float), ())
    numbers = both.select_dtypes("number")
    numbers = numbers.fillna(numbers[: len(train)].median()).to_numpy(np.float32)
    text = [pd.factorize(both[column])[0] for column in both.columns.difference(both.select_dtypes("number").columns)]
    codes = np.stack(text, axis=1) if text else np.zeros((len(both), 0), np.int64)
    rows = Rows(numbers, codes, y)
    count = len(train)
    return Case(rows.take(slice(count)), rows.take(slice(count, None)), len(labels) if classes else None)


def ours(recipe: Recipe) -> Fit:
    """Fit with viva_tensor."""

    def fit(case: Case, kept: Any, held_out: Any, seed: int) -> Any:
        x, codes, y = case.train
        fitted = recipe.fit(x, codes, y, validation=held_out, classes=case.classes, seed=seed)
        return fitted.predict(case.test.x, case.test.codes)

    return fit


def their_realmlp(epochs: int) -> Fit:
    """Fit with pytabkit."""

    def frame(rows: Rows) -> Any:
        made = pd.DataFrame(rows.x).rename(columns="x{}".format)
        for column, codes in enumerate(rows.codes.T):
            made[f"c{column}"] = pd.Series(np.where(codes < 0, None, codes.astype(str)), dtype="category")
        return made

    def fit(case: Case, kept: Any, held_out: Any, seed: int) -> Any:
        kind = RealMLP_TD_Regressor if case.classes is None else RealMLP_TD_Classifier
        threads = viva_tensor.get_num_threads()
        model = kind(device="cpu", random_state=seed, n_threads=threads, n_epochs=epochs, verbosity=0)
        model.fit(frame(case.train), case.train.y, val_idxs=held_out)
        return model.predict(frame(case.test)) if case.classes is None else model.predict_proba(frame(case.test))

    return fit


def their_tabm(recipe: TabM) -> Fit:
    """Fit with tabm, in the loop of its example."""

    def fit(case: Case, kept: Any, held_out: Any, seed: int) -> Any:
        torch.manual_seed(seed)
        train, validation = case.train.take(kept), case.train.take(held_out)
        batches = [torch_rows(part, train, seed) for part in (train, validation, case.test)]
        mean, deviation = (0.0, 1.0) if case.classes else (train.y.mean(), train.y.std())
        y = torch.tensor(train.y if case.classes else (train.y - mean) / deviation)
        y = y.long() if case.classes else y.float()
        numbers, codes = batches[0]
        bins = rtdl_num_embeddings.PiecewiseLinearEmbeddings(
            rtdl_num_embeddings.compute_bins(numbers, n_bins=recipe.bins),
            recipe.embedding,
            activation=False,
            version="B",
        )
        model = tabm.TabM.make(
            n_num_features=numbers.shape[1],
            cat_cardinalities=(train.codes.max(axis=0) + 2).tolist() if codes.shape[1] else None,
            d_out=case.classes or 1,
            num_embeddings=bins,
            k=recipe.members,
            d_block=recipe.width,
        )
        adam = torch.optim.AdamW(model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
        losses = torch.nn.functional.cross_entropy if case.classes else torch.nn.functional.mse_loss

        def outputs(rows: Any) -> Any:
            made = model(rows[0], rows[1] if codes.shape[1] else None)
            return made if case.classes else made.squeeze(-1)

        @torch.inference_mode()
        def predicted(rows: Any) -> Any:
            model.eval()
            parts = [outputs((a, b)) for a, b in zip(*(one.split(1024) for one in rows), strict=True)]
            made = torch.cat(parts)
            return (made.softmax(-1) if case.classes else made * deviation + mean).mean(1).numpy()

        judge = case._replace(test=validation)
        best, best_error, left, epoch = None, np.inf, recipe.patience, 0
        while left >= 0 and (recipe.epochs is None or epoch < recipe.epochs):
            epoch += 1
            for chosen in torch.randperm(len(y)).split(recipe.batch_size):
                model.train()
                adam.zero_grad()
                made = outputs((numbers[chosen], codes[chosen]))
                losses(made.flatten(0, 1), y[chosen].repeat_interleave(recipe.members, 0)).backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
                adam.step()
            error = judge.error(predicted(batches[1]))
            left -= 1
            if error < best_error:
                best, best_error, left = copy.deepcopy(model.state_dict()), error, recipe.patience
        model.load_state_dict(best)
        return predicted(batches[2])

    return fit


def torch_rows(rows: Rows, train: Rows, seed: int) -> tuple[Any, Any]:
    """Numbers as normal quantiles and codes, as tensors; columns of one value left out, a code for what is missing."""
    varied = (train.x != train.x[0]).any(axis=0)
    noise = np.random.default_rng(seed).normal(0, 1e-5, train.x[:, varied].shape)
    count = max(min(len(train.x) // 30, 1000), 10)
    normal = QuantileTransformer(n_quantiles=count, output_distribution="normal", subsample=10**9)
    normal.fit((train.x[:, varied] + noise).astype(np.float32))
    most = train.codes.max(axis=0, initial=-1) + 1
    codes = np.where((rows.codes < 0) | (rows.codes >= most), most, rows.codes)
    return torch.tensor(normal.transform(rows.x[:, varied]), dtype=torch.float32), torch.tensor(codes)


def compare(case: Case, both: tuple[Fit, Fit], seed: int) -> list[tuple[float, float]]:
    """Error and seconds of ours and theirs."""
    count = len(case.train.y)
    held_out = np.sort(np.random.default_rng(seed).permutation(count)[: round(0.2 * count)])
    kept = np.delete(np.arange(count), held_out)
    found: dict[int, tuple[float, float]] = {}
    for which in (0, 1) if seed % 2 else (1, 0):
        sleep(PAUSE)
        start = perf_counter()
        predicted = both[which](case, kept, held_out, seed)
        found[which] = case.error(predicted), perf_counter() - start
    return [found[0], found[1]]


def row(name: str, recipe: str, case: Case, both: tuple[Fit, Fit], seeds: int) -> str:
    ours, theirs = zip(*(compare(case, both, seed) for seed in range(seeds)), strict=True)
    errors = [np.array([error for error, _ in one]) for one in (ours, theirs)]
    cells = [f"{error.mean():.4g} ± {error.std(ddof=1):.2g}" for error in errors]
    seconds = statistics.median(a[1] / b[1] for a, b in zip(ours, theirs, strict=True))
    cells += [f"{errors[0].mean() / errors[1].mean():.3f}"]
    cells += [f"{statistics.median(second for _, second in one):.1f} s" for one in (ours, theirs)]
    spread = np.sqrt(sum(error.var(ddof=1) for error in errors) / seeds)
    away = (errors[0].mean() - errors[1].mean()) / spread if spread else 0.0
    return f"| {name}, {recipe} | {' | '.join(cells)} | {seconds:.2f} | {away:+.1f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", help="tables, with commas between them (default: all)")
    parser.add_argument("--recipes", default=",".join(RECIPES), help=f"of {', '.join(RECIPES)} (default: all)")
    parser.add_argument("--seeds", type=int, default=3, help="splits and random states of each table (default: 3)")
    parser.add_argument("--epochs", type=int, default=256, help="of RealMLP, and at most of TabM (default: 256)")
    parser.add_argument("--members", type=int, default=32, help="of TabM (default: 32)")
    parser.add_argument("--width", type=int, default=512, help="of TabM (default: 512)")
    parser.add_argument("--threads", type=int, help="of both (default: as many as viva_tensor takes)")
    arguments = parser.parse_args()
    if arguments.seeds < 2:
        parser.error("--seeds is at least 2")
    tables = json.loads((arguments.folder / "tables.json").read_text())
    names = arguments.only.split(",") if arguments.only else list(tables)
    chosen = arguments.recipes.split(",")
    for given, known in ((names, tables), (chosen, RECIPES)):
        if unknown := set(given) - set(known):
            parser.error(f"no {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    viva_tensor.set_num_threads(arguments.threads)
    torch.set_num_threads(viva_tensor.get_num_threads())
    warnings.simplefilter("ignore")  # of packages about each other
    small = TabM(members=arguments.members, width=arguments.width, epochs=arguments.epochs)
    pairs = {
        "realmlp": (ours(RealMLP(epochs=arguments.epochs)), their_realmlp(arguments.epochs)),
        "tabm": (ours(small), their_tabm(small)),
    }
    print("| table, recipe | error | theirs | ratio | fit | theirs | ratio | difference / standard error |")
    print("|---|---|---|---|---|---|---|---|")
    for name in names:
        case = read(arguments.folder, name, *tables[name])
        for recipe in chosen:
            print(row(name, recipe, case, pairs[recipe], arguments.seeds))
            sys.stdout.flush()


if __name__ == "__main__":
    main()
