"""Simulated latencies of the nominal boards beside published ones: the table in docs/fleets.md.

    python -m studies.published [--check]

Needs the extra yolo. Nothing is left out that was found for these boards at batch 1; ``--check`` writes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from hdapbench.fleet.simulated.engine import kernel_times
from hdapbench.fleet.simulated.profile import load_profile
from studies.subjects import network
from studies.tables import options, publish


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


def nominal_ms(sku: str, model: str, side: int, precision: str) -> float:
    """Latency on the nominal board."""
    profile = load_profile(sku)
    kernels = network(model, (3, side, side), 80 if model.startswith("ultralytics") else 1000).kernels
    times = kernel_times(kernels, kernels.sizes, profile, precision)
    bound = [max(pair) for pair in zip(times.compute_ms[0], times.memory_ms[0], strict=True)]
    return float(sum(bound) + len(kernels) * profile.launch_us / 1000)


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


def main() -> int:
    """Print the table and write it into the documentation; 0."""
    check = options(__doc__, check="print, write nothing").parse_args().check
    publish("fleets.md", "published", "published", [table()], check=check)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
