"""How long each preset takes on tables of so many rows and columns.

usage: python asv_benchmarks/table_times.py [--rows 1000,10000,100000] [--columns 10,100] [--presets fast,default]

Three quarters of the columns are numbers and a quarter text of ten values; the target is a smooth function of five
columns with noise. Prints the seconds of `tabular.fit`, which has no reading, start or report, as a Markdown table.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import pandas as pd

from viva_tensor import tabular


def table(rows: int, columns: int) -> pd.DataFrame:
    """Return a table to learn, with the target y."""
    rng = np.random.default_rng(0)
    numbers = 3 * columns // 4
    x = rng.standard_normal((rows, numbers))
    codes = rng.integers(0, 10, (rows, columns - numbers))
    given = {f"x{i}": x[:, i] for i in range(numbers)}
    given |= {f"c{i}": np.array(list("abcdefghij"))[codes[:, i]] for i in range(columns - numbers)}
    y = np.sin(2 * x[:, 0]) + x[:, 1] * x[:, 2] + (codes[:, 0] > 4) * x[:, 3] + 0.3 * rng.standard_normal(rows)
    return pd.DataFrame({**given, "y": y})


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="1000,10000,100000")
    parser.add_argument("--columns", default="10,100")
    parser.add_argument("--presets", default="fast,default")
    given = parser.parse_args()
    presets = given.presets.split(",")
    print("| rows | columns |" + "".join(f" {preset} |" for preset in presets))
    print("|---|---|" + "---|" * len(presets))
    for rows in map(int, given.rows.split(",")):
        for columns in map(int, given.columns.split(",")):
            cells = []
            for preset in presets:
                frame = table(rows, columns)
                start = time.perf_counter()
                tabular.fit(frame, "y", preset=preset)
                cells.append(f"{time.perf_counter() - start:.1f} s")
            print(f"| {rows:,} | {columns} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
