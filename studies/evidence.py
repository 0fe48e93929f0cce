"""What others measured, beside what we compute: the tables in docs/evidence.md.

    HDAPBENCH_DATA=... python -m studies.evidence [yolo | batch | rounding | latencies | ranks | speedup] [--check]

Published numbers and their sources are in `studies.others` and `studies.published`. ``ranks`` fine-tunes ResNet56 once per
importance, keeps what is done in ``--workspace`` and goes on from there. ``rounding`` and ``speedup`` read what other studies
wrote into the documentation. Needs the extras timm and yolo; some minutes, and a quarter of an hour for ``ranks``, on one core.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

from hdapbench.arrays import Floats, Integers
from hdapbench.bench.network import Network
from hdapbench.cost.kernels import KernelModel
from hdapbench.cost.target import fill, largest_share, widths_at_share
from hdapbench.fleet.simulated.engine import kernel_times
from hdapbench.fleet.simulated.profile import SkuProfile, load_profile
from studies.ablation import PUBLISHED as PAPER_SPEEDUP
from studies.others import BATCH, RESNET50, YOLO_FPS
from studies.published import (
    END_TO_END_MS,
    FRAMES,
    PUBLISHED,
    TORCH2TRT,
    TORCH_MS,
    Published,
    kernels_of,
    nominal_ms,
    ratio,
)
from studies.ranks import rank_lines
from studies.subjects import network, target_flops
from studies.tables import DOCS, options, publish

HOLDS = (0.67, 1.5)
"""Ratios of simulated to published latency within which we say that the simulation holds."""
DEPTHWISE = (0.08, 0.04, 0.02)
"""Efficiencies of depthwise kernels that are tried; the first is the profile's. Pooling has the same."""
TOUCHED = ("resnet18", "resnet50", "alexnet", "squeezenet1_1", "vgg11", "vgg16", "mobilenet_v2")
"""Networks of whose kinds of layers the changes are told: residual, linear, pooling, depthwise."""
LINES = re.compile(r"<!-- (.+): begin .*-->\n(.*?)<!-- \1: end", re.DOTALL)


def milliseconds(kernels: KernelModel, widths: Integers, sku: str, precision: str) -> Floats:
    """Latency of plans on the nominal board, shape (n_plans,)."""
    profile = load_profile(sku)
    times = kernel_times(kernels, widths, profile, precision)
    return np.maximum(times.compute_ms, times.memory_ms).sum(1) + len(kernels) * profile.launch_us / 1000


def kept(sizes: Integers, removed: float, *, round_to: int = 1) -> Integers:
    """Widths without a share of every group's channels, rounded as Torch-Pruning does: down, to multiples."""
    widths = np.floor(sizes * (1 - removed) + 1e-9).astype(np.int64)
    return np.maximum(widths // round_to * round_to, round_to)


def yolo() -> Iterator[str]:
    """YOLOv8s on a Jetson Nano, pruned as Torch-Pruning's example does: all layers alike, the head not at all."""
    found = network("ultralytics:yolov8s.yaml", (3, 640, 640), 80)
    producers = [[m.layer for m in group.members if m.side == "out"] for group in found.group_set.groups]
    head = np.array([all(layer.startswith("model.22.") for layer in layers) for layers in producers])
    host = None
    yield "| channels removed | G FLOPs | engine, simulated (ms) | in multiples of 16 | FPS, simulated | FPS, published |"
    yield "|--:|--:|--:|--:|--:|--:|"
    for removed, fps in YOLO_FPS.items():
        plans = np.stack(
            [
                np.where(head, found.cost.sizes, kept(found.cost.sizes, removed, round_to=multiple))
                for multiple in (1, 16)
            ]
        )
        engine, aligned = milliseconds(found.kernels, plans, "nano", "fp16")
        host = 1000 / fps - engine if host is None else host
        yield (
            f"| {removed:.0%} | {found.cost.flops(plans[0])[0] / 1e9:.2f} | {engine:.1f} | {aligned:.1f} | "
            f"{1000 / (host + engine):.1f} | {fps} |"
        )
    yield ""
    yield f"The FPS hold {host:.0f} ms besides the engine in every row: what is left of the dense model's published time."


def batched(kernels: KernelModel, batch: int) -> KernelModel:
    """Kernels of several images at once: to an engine, so many times the rows, with weights that are read once."""
    taller = (
        replace(kernel, height_in=batch * kernel.height_in, height_out=batch * kernel.height_out)
        for kernel in kernels.kernels
    )
    return replace(kernels, kernels=tuple(taller))


def batch() -> Iterator[str]:
    """ResNet50 at batch 64, uniform: shares of the dense latency."""
    found = network("ResNet50")
    plans = np.stack([kept(found.cost.sizes, removed, round_to=2) for removed, _, _ in RESNET50])
    many = batched(found.kernels, BATCH)
    engines = {
        f"Xavier NX fp32, batch {BATCH}": milliseconds(many, plans, "xavier_nx", "fp32"),
        f"Xavier NX tc16, batch {BATCH}": milliseconds(many, plans, "xavier_nx", "tc16"),
        "Nano fp16, batch 1": milliseconds(found.kernels, plans, "nano", "fp16"),
    }
    published = np.array([ms for _, _, ms in RESNET50])
    costs = found.cost.evaluate(plans)
    shares = {"published": published, "FLOPs": costs.flops} | engines
    of_dense = {name: np.asarray(values, float) / values[0] for name, values in shares.items()}
    yield f"| channels removed | G MACs, published | ours | {' | '.join(of_dense)} |"
    yield "|--:|--:|--:|" + "--:|" * len(of_dense)
    for number, (removed, macs, _) in enumerate(RESNET50):
        if number % 2 == 0:
            cells = " | ".join(f"{values[number]:.2f}" for values in of_dense.values())
            yield f"| {removed:.0%} | {macs:.2f} | {costs.flops[number] / 1e9:.2f} | {cells} |"
    away = {name: np.abs(of_dense[name] - of_dense["published"]) for name in of_dense if name != "published"}
    cells = " | ".join(f"{values.mean():.3f} (at most {values.max():.2f})" for values in away.values())
    yield f"| mean distance from published | | | | {cells} |"
    terms = np.stack([of_dense["FLOPs"], costs.activation_bytes / costs.activation_bytes[0], np.ones(len(plans))]).T
    weights, _ = nnls(terms, published)
    part = weights / weights.sum()
    error = np.abs(terms @ weights / published - 1).mean()
    yield ""
    yield (
        f"As a sum of FLOPs, bytes of activations and a constant, the published times are met to {error:.0%} on average. The sum "
        f"gives {part[0]:.0%} of the dense model's time to FLOPs, {part[1]:.0%} to activations and {part[2]:.0%} to the constant."
    )


def rounding() -> Iterator[str]:
    """ResNet50 at 1.0 G FLOPs, the same share of every group, exact and in multiples of 16: measured and simulated."""
    found = network("ResNet50")
    plans = {"dense": found.cost.sizes, "uniform": _uniform(found, 1), "uniform, multiples of 16": _uniform(found, 16)}
    widths = np.stack(list(plans.values()))
    boards = {
        "Nano fp16, simulated": milliseconds(found.kernels, widths, "nano", "fp16"),
        "Xavier NX fp16, simulated": milliseconds(found.kernels, widths, "xavier_nx", "fp16"),
    }
    measured = stored_rows("fleets.md", "local speedup")
    yield f"| ResNet50 | G FLOPs | onnxruntime, measured | {' | '.join(boards)} |"
    yield "|---|--:|--:|" + "--:|" * len(boards)
    for number, name in enumerate(plans):
        cells = " | ".join(f"{values[0] / values[number]:.2f}x" for values in boards.values())
        row = measured[name]
        yield f"| {name} | {found.cost.flops(widths[number])[0] / 1e9:.3f} | {row['speed-up']} | {cells} |"


def _uniform(found: Network, multiple: int) -> Integers:
    """Widths at 1.0 G FLOPs, shape (n_groups,)."""
    share = largest_share(found.cost, target_flops("ResNet50"), round_to=multiple)
    widths = widths_at_share(found.cost, share, round_to=multiple)
    return fill(found.cost, widths, target_flops("ResNet50"), round_to=multiple)


def latencies() -> Iterator[str]:
    """For which engine and measure simulated latencies hold, and what two changed terms would do."""
    yield f"| board | precision | what was timed | networks | ratios | within {HOLDS[0]} to {HOLDS[1]} | outside |"
    yield "|---|---|---|--:|--:|--:|---|"
    for key in dict.fromkeys((entry.sku, entry.precision, entry.measure) for entry in PUBLISHED):
        entries = [entry for entry in PUBLISHED if (entry.sku, entry.precision, entry.measure) == key]
        ratios = {f"{entry.name} at {entry.side} px": ratio(entry) for entry in entries}
        outside = [f"{name} ({value:.2f})" for name, value in ratios.items() if not HOLDS[0] <= value <= HOLDS[1]]
        ends = [f"{value:.2f}" for value in (min(ratios.values()), max(ratios.values()))]
        span = " to ".join(dict.fromkeys(ends))
        inside = len(ratios) - len(outside)
        yield f"| {' | '.join(key)} | {len(ratios)} | {span} | {inside} | {', '.join(outside) or '-'} |"
    times = sorted(TORCH_MS[e.name] / e.milliseconds for e in PUBLISHED if e.source == TORCH2TRT)
    yield ""
    yield f"In PyTorch, {len(times)} of the Nano's networks take {times[0]:.1f} to {times[-1]:.1f} times as long as in TensorRT (same source)."
    engine = next(e for e in PUBLISHED if (e.sku, e.name, e.side) == ("xavier_nx", "yolov8n", 640))
    slow, fast = (END_TO_END_MS[name] / engine.milliseconds for name in ("ultralytics, TensorRT", "trtutils"))
    frames = next(entry for entry in PUBLISHED if entry.measure == FRAMES)
    yield ""
    yield (
        f"End to end, YOLOv8n takes {fast:.1f} to {slow:.1f} times as long as its engine on the Xavier NX (TensorRT, same source). By "
        f"these factors the Nano's {frames.milliseconds:.1f} ms end to end hold an engine of {frames.milliseconds / slow:.1f} to "
        f"{frames.milliseconds / fast:.1f} ms, of which the simulated {nominal_ms(frames):.1f} ms are "
        f"{ratio(frames) * fast:.2f} to {ratio(frames) * slow:.2f}."
    )


def what_if() -> Iterator[str]:
    """The Nano's ratios with other efficiencies of depthwise kernels, and with linear layers bound by memory alone."""
    profile = load_profile("nano")
    slower = [profile.model_copy(update={"depthwise_efficiency": value}) for value in DEPTHWISE]
    variants: dict[str, Callable[[Published], float]] = {
        f"depthwise {board.depthwise_efficiency}": partial(_changed, board) for board in slower
    }
    variants["linear by memory"] = partial(_changed, profile, linear_by_memory=True)
    variants[f"and depthwise {DEPTHWISE[1]}"] = partial(_changed, slower[1], linear_by_memory=True)
    yield f"| Nano | what was timed | {' | '.join(variants)} |"
    yield "|---|---|" + "--:|" * len(variants)
    for entry in PUBLISHED:
        if entry.sku == "nano" and entry.name in TOUCHED:
            cells = " | ".join(f"{change(entry):.2f}" for change in variants.values())
            yield f"| {entry.name}, {entry.side} px, {entry.precision} | {entry.measure} | {cells} |"
    mobile = Published("nano", "mobilenetv1", 224, "fp16", 1.0, "", "")
    cells = " | ".join(f"{change(mobile):.2f} ms" for change in variants.values())
    yield f"| mobilenetv1, 224 px, fp16 | nothing published | {cells} |"


def _changed(profile: SkuProfile, entry: Published, *, linear_by_memory: bool = False) -> float:
    """Ratio of a changed simulation to the published latency."""
    kernels = kernels_of(entry)
    value = nominal_ms(entry, profile)
    if linear_by_memory:
        times = kernel_times(kernels, kernels.sizes, profile, entry.precision)
        linear = kernels.table["kind"] == "fc"
        value -= float(np.maximum(times.compute_ms - times.memory_ms, 0.0)[0, linear].sum())
    return value / entry.milliseconds


def stored_rows(document: str, part: str) -> dict[str, dict[str, str]]:
    """Rows of a table that another study wrote into the documentation: first cell -> column -> cell."""
    text = next(lines for name, lines in LINES.findall((DOCS / document).read_text()) if name == part)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return {row[0]: dict(zip(rows[0], row, strict=True)) for row in rows[2:]}


def speedup() -> Iterator[str]:
    """ResNet50 at 1.0 G FLOPs: the paper's speed-up, and those of our tables."""
    simulated = stored_rows("hdap.md", "speedup")
    measured = stored_rows("fleets.md", "local speedup")
    methods = ("uniform", "hdap, paper", "hdap, FLOPs used up", "hdap")
    yield f"| ResNet50 at 1.0 G FLOPs | {' | '.join(methods)} |"
    yield "|---|" + "--:|" * len(methods)
    yield f"| published, Xavier NX fleet (arXiv 2501.15240, abstract) | | {PAPER_SPEEDUP:.2f}x | | |"
    for fleet, cells in simulated.items():
        if fleet.startswith("xavier_nx"):
            yield f"| simulated, {fleet} | {' | '.join(cells[method] for method in methods)} |"
    cells = [measured[method]["speed-up"] if method in measured else "-" for method in methods]
    yield f"| measured, eight devices of one host, onnxruntime | {' | '.join(cells)} |"


def main() -> int:
    """Write the tables that were asked for; 0."""
    parser = options(__doc__, check="print, write nothing")
    parser.add_argument("parts", nargs="*", metavar="PART", help="default: all")
    parser.add_argument("--workspace", type=Path, default=Path(".hdapbench"), help="default %(default)s")
    arguments = parser.parse_args()
    tables: dict[str, Callable[[], Iterable[str]]] = {
        "yolo": yolo,
        "batch": batch,
        "rounding": rounding,
        "latencies": latencies,
        "what if": what_if,
        "ranks": lambda: rank_lines(arguments.workspace),
        "speedup": speedup,
    }
    if unknown := set(arguments.parts) - set(tables):
        parser.error(f"no part {', '.join(sorted(unknown))}; known: {', '.join(tables)}")
    for part in arguments.parts or tables:
        publish("evidence.md", "evidence", part, tables[part](), check=arguments.check)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
