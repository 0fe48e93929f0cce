"""Simulated latencies of the nominal boards beside published ones: the table in docs/fleets.md.

    python -m studies.published [--check]

Needs the extra yolo. Nothing is left out that was found for these boards at batch 1; ``--check`` writes nothing.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from hdapbench.cost.kernels import KernelModel
from hdapbench.fleet.simulated.engine import kernel_times
from hdapbench.fleet.simulated.profile import load_profile
from studies.tables import write

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs" / "fleets.md"


@dataclass(frozen=True)
class Published:
    """A published latency at batch 1."""

    sku: str
    model: str
    side: int
    precisions: tuple[str, ...]
    milliseconds: float
    source: str


TORCH2TRT = "NVIDIA-AI-IOT/torch2trt, TensorRT"
TRTUTILS = "trtutils benchmark files, JetPack 5, TensorRT engine alone"
PUBLISHED = (
    Published("nano", "torchvision:resnet18", 224, ("fp16",), 11.4, TORCH2TRT),
    Published("nano", "torchvision:resnet50", 224, ("fp16",), 29.8, TORCH2TRT),
    Published("nano", "torchvision:vgg16", 224, ("fp16",), 85.1, TORCH2TRT),
    Published("nano", "torchvision:mobilenet_v2", 224, ("fp16",), 17.65, "a public README, TensorRT"),
    Published("nano", "torchvision:mobilenet_v2", 224, ("fp32",), 19.53, "a public README, TensorRT"),
    Published("nano", "ultralytics:yolov8n.yaml", 640, ("fp16",), 1000 / 15, "a blog, end to end, 15 frames a second"),
    Published("xavier_nx", "ultralytics:yolov8n.yaml", 640, ("fp16", "tc16"), 8.24, TRTUTILS),
    Published("xavier_nx", "ultralytics:yolov8n.yaml", 320, ("fp16", "tc16"), 3.38, TRTUTILS),
    Published("xavier_nx", "ultralytics:yolov8s.yaml", 640, ("fp16", "tc16"), 14.27, TRTUTILS),
    Published("xavier_nx", "ultralytics:yolov8m.yaml", 640, ("fp16", "tc16"), 30.36, TRTUTILS),
)


@cache
def kernels(model: str, side: int) -> KernelModel:
    """Fused kernels of a model at side x side."""
    from hdapbench.bench.network import trace
    from hdapbench.models import build_model
    from hdapbench.spec import ModelSpec

    spec = ModelSpec(name=model, input_shape=(3, side, side))
    built = build_model(spec, n_classes=80 if model.startswith("ultralytics") else 1000, base_dir=ROOT)
    return trace(built.eval(), (3, side, side)).kernels


def nominal_ms(sku: str, model: str, side: int, precision: str) -> float:
    """Latency on the nominal board."""
    profile = load_profile(sku)
    network = kernels(model, side)
    times = kernel_times(network, network.sizes, profile, precision)
    bound = [max(pair) for pair in zip(times.compute_ms[0], times.memory_ms[0], strict=True)]
    return float(sum(bound) + len(network) * profile.launch_us / 1000)


def table() -> str:
    """Markdown: one row per published latency and precision."""
    lines = [
        "| board | network | pixels | precision | simulated (ms) | published (ms) | ratio | source of the published one |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for entry in PUBLISHED:
        for precision in entry.precisions:
            simulated = nominal_ms(entry.sku, entry.model, entry.side, precision)
            name = entry.model.split(":")[1].removesuffix(".yaml")
            lines.append(
                f"| {entry.sku} | {name} | {entry.side} | {precision} | {simulated:.4g} | {entry.milliseconds:.4g} | "
                f"{simulated / entry.milliseconds:.2f} | {entry.source} |"
            )
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Print the table and write it into the documentation; 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="print, write nothing")
    arguments = parser.parse_args(argv)
    text = table()
    print(text)
    if not arguments.check:
        write(DOCS, "published", "published", text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
