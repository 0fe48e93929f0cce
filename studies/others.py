"""What others measured of pruned networks: their numbers as data, each with its source. `studies.evidence` sets ours beside them.

Published latencies of dense networks on our boards are in `studies.published`.
"""

from __future__ import annotations

from dataclasses import dataclass

YOLO_SOURCE = "https://github.com/NVIDIA/TensorRT/issues/3884"
YOLO_FPS = {0.0: 7.4, 0.2: 7.4, 0.4: 8.5}
"""Share of channels removed by Torch-Pruning -> frames a second of YOLOv8s in fp16 on a Jetson Nano, TensorRT 8.2."""

TORCH_PRUNING = "https://github.com/VainF/Torch-Pruning"
BATCH_SOURCE = f"{TORCH_PRUNING}, README, Latency"
BATCH = 64
RESNET50 = (
    *((0.00, 4.12, 45.22), (0.05, 3.68, 46.53), (0.10, 3.31, 43.85), (0.15, 2.97, 41.22), (0.20, 2.63, 39.28)),
    *((0.25, 2.35, 34.60), (0.30, 2.02, 33.38), (0.35, 1.74, 31.46), (0.40, 1.50, 29.04), (0.45, 1.26, 27.47)),
    *((0.50, 1.07, 20.68), (0.55, 0.85, 20.48), (0.60, 0.67, 18.12), (0.65, 0.53, 15.19), (0.70, 0.39, 13.47)),
    *((0.75, 0.29, 10.07), (0.80, 0.18, 8.96), (0.85, 0.10, 7.03), (0.90, 0.05, 5.81)),
)
"""Share of channels removed, G MACs and ms of ResNet50 at batch 64 in torch on a GPU that is not named; one layer is like the
other. The last two of its rows have one or two channels per layer and are left out."""

ROUNDING_SOURCE = f"{TORCH_PRUNING}/issues/38"
"""MobileNetV2 on onnxruntime and a CPU: pruned, its time tripled; in multiples of 16 it did not."""


@dataclass(frozen=True)
class Ranking:
    """Accuracies (%) of importances after pruning and fine-tuning, as published: all others equal."""

    name: str
    source: str
    dense: float
    accuracy: dict[str, float]


_PRUNING_BENCH = "PruningBench, https://github.com/HollyLee2000/PruningBench, README (arXiv 2406.12315)"
RANKINGS = (
    Ranking(
        "ResNet50, ImageNet, 2x",
        _PRUNING_BENCH,
        76.128,
        {
            "fpgm": 75.406,
            "obd-c": 74.361,
            "l1": 74.118,
            "group norm": 73.684,
            "taylor": 72.101,
            "hessian": 71.664,
            "bn-scale": 71.812,
            "random": 71.399,
            "lamp": 71.248,
        },
    ),
    Ranking(
        "ResNet18, ImageNet, 2x",
        _PRUNING_BENCH,
        69.758,
        {
            "group norm": 67.724,
            "l1": 67.652,
            "fpgm": 67.642,
            "bn-scale": 67.542,
            "obd-c": 67.319,
            "taylor": 67.220,
            "hessian": 66.934,
            "random": 64.788,
            "lamp": 58.308,
        },
    ),
    Ranking(
        "ResNet50, CIFAR-100, 2x",
        _PRUNING_BENCH,
        78.35,
        {
            "obd-c": 78.68,
            "taylor": 78.51,
            "fpgm": 78.37,
            "group norm": 78.32,
            "bn-scale": 78.30,
            "random": 77.97,
            "l1": 77.62,
            "hessian": 77.26,
            "lamp": 76.26,
        },
    ),
    Ranking(
        "ResNet18, CIFAR-100, 2x",
        _PRUNING_BENCH,
        75.61,
        {
            "taylor": 75.93,
            "l1": 75.80,
            "hessian": 75.79,
            "group norm": 75.72,
            "bn-scale": 75.51,
            "obd-c": 75.32,
            "fpgm": 75.16,
            "random": 74.20,
            "lamp": 73.95,
        },
    ),
    Ranking(
        "VGG19, CIFAR-100, 2x",
        _PRUNING_BENCH,
        73.87,
        {
            "l1": 73.62,
            "fpgm": 73.42,
            "lamp": 73.32,
            "obd-c": 73.25,
            "group norm": 73.22,
            "bn-scale": 73.12,
            "taylor": 73.08,
            "random": 72.75,
            "hessian": 71.79,
        },
    ),
    Ranking(
        "ResNet56, CIFAR-10, 2.11x",
        f"Torch-Pruning, {TORCH_PRUNING}, reproduce/readme.md",
        93.53,
        {"l1": 92.93, "bn-scale": 93.29, "group norm": 93.46},
    ),
)
"""Names are those of `studies.evidence`: PruningBench's MagnitudeL2 is torch-pruning's group norm. Its rows after sparse training
and of methods that we lack (CP) are left out; in Torch-Pruning's table bn-scale trains with a penalty first."""
