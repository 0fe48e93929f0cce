"""Weights in a file of recordings: the share of the fleet that each device stands for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hdapbench.arrays import Floats
from hdapbench.errors import FleetError
from hdapbench.fleet.recorded.reading import collected, require_column
from hdapbench.spec import RecordedFleetSpec

if TYPE_CHECKING:
    import polars as pl


def recorded_weights(
    frame: pl.LazyFrame, spec: RecordedFleetSpec, path: Path, device_ids: tuple[str, ...]
) -> Floats | None:
    """Shares of the devices; those of dropped ones go to the others in proportion."""
    import polars as pl

    if spec.weight_column is None:
        return None
    require_column(frame, spec.weight_column, path)
    written = pl.col(spec.weight_column).cast(pl.String).str.strip_chars()
    found = collected(
        frame.select(
            pl.col(spec.device_column).cast(pl.String),
            written.alias("written"),
            written.cast(pl.Float64, strict=False).alias(spec.weight_column),
        )
        .group_by(spec.device_column)
        .agg(
            pl.col(spec.weight_column).first().alias("first"),
            pl.col(spec.weight_column).n_unique().alias("n"),
            pl.col("written").filter(pl.col(spec.weight_column).is_null()).drop_nulls().first().alias("odd"),
        )
        .drop_nulls(spec.device_column)
        .sort(spec.device_column),
        path,
    )
    odd = found.drop_nulls("odd")
    if not odd.is_empty():
        raise FleetError(
            f"{path}: the weight of device {odd[spec.device_column][0]} is no number: {odd['odd'][0][:40]!r}"
        )
    several = found.filter(pl.col("n") > 1)
    if not several.is_empty():
        raise FleetError(
            f"{path}: {len(several)} devices have more than one weight, such as {several[spec.device_column][0]}"
        )
    weights = found["first"].to_numpy().astype(float)
    if not (np.isfinite(weights) & (weights > 0)).all():
        raise FleetError(f"{path}: weights must be finite and positive; the least is {np.min(weights)}")
    total = float(weights.sum())
    if abs(total - 1) > 1e-3 and abs(total - len(weights)) > 1e-3 * len(weights):
        raise FleetError(
            f"{path}: the devices' weights sum to {total:g}; write shares that sum to 1, "
            f"or weights that average 1 (sum {len(weights)})"
        )
    kept = weights[found[spec.device_column].is_in(device_ids).to_numpy()]
    return np.asarray(kept / kept.sum())
