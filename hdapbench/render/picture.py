"""Pictures of fleets: arrays -> PNG bytes, and a page that holds one. Pure; needs matplotlib."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hdapbench.arrays import Floats
from hdapbench.errors import MissingExtraError

if TYPE_CHECKING:
    from hdapbench.fleet.estimate.clustering import Clustering


_MOST_POINTS = 20_000  # more cannot be told apart
_SIZE = (7.2, 5.0)
_DPI = 130
_MARGIN = 1.05
_BIN = 0.03  # width of a histogram's bins in log latency
_FEW_LABELS = 8.0  # axes that span more than this factor label 1, 2, 3 and 5 alone


@dataclass(frozen=True)
class Curve:
    """Estimates against the number of measured devices: arrays of shape (n_numbers,)."""

    label: str
    n_measured: Sequence[int]
    mean_ms: Sequence[float]
    low_ms: Sequence[float]
    high_ms: Sequence[float]


def fingerprint_scatter(fingerprint_ms: Floats, clustering: Clustering, *, probes: Sequence[str], title: str) -> bytes:
    """Devices by two of their probes, coloured by cluster from fast to slow, representatives marked."""
    figure, axes = _figure(title)
    n_devices, n_probes = fingerprint_ms.shape
    shown = np.arange(n_devices)
    if n_devices > _MOST_POINTS:
        shown = np.sort(np.random.default_rng(0).choice(n_devices, _MOST_POINTS, replace=False))
    x, y = fingerprint_ms[:, 0], fingerprint_ms[:, min(1, n_probes - 1)]
    colour = clustering.labels / max(clustering.n_clusters - 1, 1)
    axes.scatter(x[shown], y[shown], c=colour[shown], cmap="viridis", s=9, alpha=0.6, linewidths=0, vmin=0, vmax=1)
    chosen = list(clustering.representatives)
    axes.scatter(
        x[chosen],
        y[chosen],
        c=colour[chosen],
        cmap="viridis",
        vmin=0,
        vmax=1,
        s=30 + 500 * clustering.weights,
        edgecolors="black",
        linewidths=1.2,
        label="representatives, area by share of the fleet",
    )
    axes.set(xlabel=f"{probes[0]} (ms)", ylabel=f"{probes[min(1, n_probes - 1)]} (ms)")
    _log_scale(axes, "x", x)
    _log_scale(axes, "y", y)
    legend = axes.legend(frameon=False, fontsize=8)
    for handle in legend.legend_handles:
        handle.set_sizes([40])  # as large as its cluster, the marker would look like a device
    return _png(figure)


def latency_histogram(latency_ms: dict[str, Floats], *, title: str, weights: Floats | None = None) -> bytes:
    """Distribution of latency over the devices, one outline per model, means marked.

    Bins are equally wide on the logarithmic axis, the same for all models. With weights, shares of the fleet instead of
    devices.
    """
    figure, axes = _figure(title)
    every = np.concatenate(list(latency_ms.values()))
    low, high = _ends(every)
    most = max(20, min(200, int(4 * np.sqrt(len(every) / len(latency_ms)))))  # few devices in many bins are a comb
    n_bins = int(np.clip(np.log(high / low) / _BIN, 20, most))
    edges = np.geomspace(low, high, n_bins + 1)
    for label, values in latency_ms.items():
        mean = np.average(values, weights=weights)
        named = f"{label}: {mean:.4g} ms"
        _, _, patches = axes.hist(values, edges, weights=weights, histtype="step", linewidth=1.6, label=named)
        axes.axvline(mean, color=patches[0].get_edgecolor(), linestyle=":", linewidth=1.2)
    what = "devices" if weights is None else "share of the fleet"
    axes.set(xlabel="latency (ms)", ylabel=f"{what} (bins of {edges[1] / edges[0] - 1:.1%})")
    _log_scale(axes, "x", every)
    axes.legend(frameon=False, fontsize=8, title="mean", title_fontsize=8)
    return _png(figure)


def estimate_curves(curves: Sequence[Curve], *, truth_ms: float | None, title: str) -> bytes:
    """Estimates with their 95 % intervals against the number of measured devices."""
    figure, axes = _figure(title)
    for number, curve in enumerate(curves):
        # Side by side, or intervals of equal n hide each other.
        x = np.asarray(curve.n_measured, dtype=float) * (1 + 0.04 * (number - (len(curves) - 1) / 2))
        mean = np.asarray(curve.mean_ms)
        spread = np.stack([mean - np.asarray(curve.low_ms), np.asarray(curve.high_ms) - mean])
        axes.errorbar(x, mean, yerr=spread, fmt="o", markersize=4, capsize=3, linewidth=1.2, label=curve.label)
    if truth_ms is not None:
        axes.axhline(
            truth_ms, color="black", linewidth=1, linestyle="--", label=f"mean of all devices: {truth_ms:.4g} ms"
        )
    numbers = sorted({n for curve in curves for n in curve.n_measured})
    axes.set_xscale("log", base=2)
    axes.set_xticks(numbers, [str(n) for n in numbers])
    axes.minorticks_off()
    axes.set(xlabel="measured devices", ylabel="estimated fleet average (ms)")
    axes.legend(frameon=False, fontsize=8)
    return _png(figure)


def page(picture: bytes, *, title: str) -> str:
    """HTML page that holds a picture and loads nothing."""
    safe = html.escape(title)
    data = base64.b64encode(picture).decode()
    return (
        f'<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{safe}</title>\n'
        "<style>body{font-family:system-ui,sans-serif;margin:2rem;max-width:60rem}img{max-width:100%}</style></head>\n"
        f'<body><img src="data:image/png;base64,{data}" alt="{safe}"></body>\n</html>\n'
    )


def _figure(title: str) -> tuple[Any, Any]:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("matplotlib", "report", "--plot") from None
    figure = Figure(figsize=_SIZE, dpi=_DPI, layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _ends(values: Floats) -> tuple[float, float]:
    """A little below the least and above the largest value, so that values all alike have an axis too."""
    low, high = float(values.min()), float(values.max())
    margin = _MARGIN * (high / low) ** 0.03
    return low / margin, high * margin


def _log_scale(axes: Any, name: str, values: Floats) -> None:
    """Logarithmic axis over the values, with as many labels as have room."""
    low, high = _ends(values)
    crowded = (4, 6, 7, 8, 9) if high / low > _FEW_LABELS else ()

    def label(value: float, _: int) -> str:
        digit = value / 10 ** np.floor(np.log10(value) + 1e-9)
        return "" if any(abs(digit - hidden) < 1e-6 for hidden in crowded) else f"{value:g}"

    axes.set(**{f"{name}scale": "log", f"{name}lim": (low, high)})
    axis = axes.xaxis if name == "x" else axes.yaxis
    axis.set_major_formatter(label)
    axis.set_minor_formatter(label)
    axis.set_tick_params(which="both", labelsize=8)


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
