"""How much memory there is for a table, and how much a file would take."""

from __future__ import annotations

from pathlib import Path

from viva_tensor.kernels.threads import group_folders
from viva_tensor.tabular.text_files import COMPRESSED

TEXT = 2.5  # bytes in memory for each byte of text, while it becomes a table
UNPACKED = 6  # bytes of text for each byte of a compressed file
ROW = 64  # bytes for each row's target, part and order


def free_memory() -> int:
    """Return the bytes that this process may still take: what the system has, and its control group grants."""
    import psutil

    try:
        left = granted(Path("/sys/fs/cgroup"), Path("/proc/self/cgroup").read_text("utf-8"))
    except (OSError, ValueError):
        left = []
    return min([int(psutil.virtual_memory().available), *left])


def granted(root: Path, groups: str) -> list[int]:
    """Return what each control group of version 2 still grants, given its tree and /proc/self/cgroup."""
    left = []
    for line in groups.splitlines():
        if not line.startswith("0::/"):
            continue
        for group in group_folders(root, line.removeprefix("0::")):
            try:
                most, now = (int((group / name).read_text("ascii")) for name in ("memory.max", "memory.current"))
                stored = dict(line.split() for line in (group / "memory.stat").read_text("ascii").splitlines())
                left.append(max(0, most - now + int(stored.get("inactive_file", 0))))  # which the system takes back
            except (OSError, ValueError):  # no limit, or none that can be read
                continue
    return left


def needed_memory(path: Path) -> int:
    """Estimate the bytes that reading a text or Parquet file as a whole takes, with float32 features of its columns."""
    if not path.name.lower().endswith(".parquet"):
        packed = path.name.lower().rpartition(".")[2] in COMPRESSED
        return int(path.stat().st_size * (UNPACKED if packed else 1) * TEXT)
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        rows, columns = int(file.metadata.num_rows), int(file.metadata.num_columns)
    return rows * (4 * columns + ROW)
