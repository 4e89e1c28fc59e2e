"""Targets as JSON has them, in the file of a model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from viva_tensor.tabular.data import DataError, one_line
from viva_tensor.tabular.targets import Classes, Count, Interval, Number, Quantiles, Ranged, Target


def target_to_dict(target: Target) -> dict[str, Any]:
    """Return the target as numbers, strings, lists and dicts for JSON."""
    record = {"kind": type(target).__name__.lower(), **asdict(target)}
    record.pop("loss", None)
    if isinstance(target, Ranged):  # once one class with both
        record = {**record, "kind": "ranged", "level": record.get("level"), "margin": record.get("margin", 0.0)}
    return record


def target_from_dict(record: Mapping[str, Any]) -> Target:
    """Return the target that `target_to_dict` described.

    Raises
    ------
    DataError
        If `record` is not such a description.
    """
    try:
        name = str(record["name"])
        if record["kind"] == "classes" and len(record["labels"]) > 1:
            return Classes(name, tuple(map(str, record["labels"])))
        mean, std = float(record["mean"]), float(record["std"])
        if record["kind"] == "number" and math.isfinite(mean) and math.isfinite(std) and std > 0:
            return Number(name, mean, std)
        if record["kind"] == "ranged" and math.isfinite(mean) and math.isfinite(std) and std > 0:
            return _ranged_from_dict(name, mean, std, record)
        if record["kind"] == "count" and math.isfinite(mean) and mean > 0:
            return Count(name, mean, std)
        raise ValueError("neither a finite mean and a positive std nor several labels")
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"not the description of a target: {one_line(error)}") from error


def _ranged_from_dict(name: str, mean: float, std: float, record: Mapping[str, Any]) -> Ranged:
    levels, margin = tuple(map(float, record["levels"])), float(record["margin"])
    level = None if record["level"] is None else float(record["level"])
    every = sorted(levels if level is None else (level, *levels))
    rising = all(low < high for low, high in zip([0.0, *every], [*every, 1.0], strict=True))
    if not (rising and levels == tuple(sorted(levels)) and math.isfinite(margin) and (level or len(levels) == 2)):
        raise ValueError("no quantiles between 0 and 1 that rise")
    if level is None:
        return Interval(name, mean, std, levels=levels, margin=margin)
    return Quantiles(name, mean, std, levels=levels, level=level)
