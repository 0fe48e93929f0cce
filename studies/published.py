"""Simulated latencies of the nominal boards beside published ones: the table in docs/fleets.md.

    python -m studies.published [--check]

Needs the extras yolo and timm. Nothing is left out that was found for these boards at batch 1; ``--check`` writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from hdapbench.cost.kernels import KernelModel
from hdapbench.fleet.simulated.engine import kernel_times
from hdapbench.fleet.simulated.profile import SkuProfile, load_profile
from studies.subjects import network
from studies.tables import options, publish

ENGINE, SAMPLE, FRAMES = "engine, TensorRT", "sample program, TensorRT 5", "end to end"
"""What a latency holds: the engine alone, a program's own timing around it, or all from camera to boxes."""
TORCH2TRT = "https://github.com/NVIDIA-AI-IOT/torch2trt, its page of the Jetson Nano (`jetson_nano.md`)"
TRTUTILS = "https://github.com/justincdavis/trtutils, benchmark files of the Xavier NX 8 GB, JetPack 5"
NVIDIA = "NVIDIA, Jetson Nano Brings AI Computing to Everyone (2019), as quoted by https://jkjung-avt.github.io/tensorrt-googlenet/"
README = "a public README, 'TensorRT (C++) sample code for MobileNet v2 on Jetson Nano', JetPack 4.2.1"
BLOG = "https://rationaliser.net, 15 frames a second"


@dataclass(frozen=True)
class Published:
    """A published latency at batch 1: what it holds, and where it stands."""

    sku: str
    model: str
    side: int
    precision: str
    milliseconds: float
    measure: str
    source: str

    @property
    def name(self) -> str:
        """The network, as tables call it."""
        return self.model.split(":")[-1].removesuffix(".yaml")


def _torch2trt(milliseconds: dict[str, float]) -> Iterator[Published]:
    for name, value in milliseconds.items():
        yield Published("nano", f"torchvision:{name}", 224, "fp16", value, ENGINE, TORCH2TRT)


def _trtutils(name: str, side: int, milliseconds: float) -> Iterator[Published]:
    for precision in ("fp16", "tc16"):  # nobody says whether the engine took tensor cores
        yield Published("xavier_nx", f"ultralytics:{name}.yaml", side, precision, milliseconds, ENGINE, TRTUTILS)


PUBLISHED = (
    *_torch2trt(
        {
            "resnet18": 11.4,
            "resnet34": 20.2,
            "resnet50": 29.8,
            "resnet101": 51.1,
            "resnet152": 72.3,
            "alexnet": 14.7,
            "squeezenet1_0": 7.6,
            "squeezenet1_1": 4.34,
            "densenet121": 24.8,
            "densenet169": 31.2,
            "densenet201": 40.8,
            "densenet161": 65.8,
            "vgg11": 55.1,
            "vgg13": 68.7,
            "vgg16": 85.1,
            "vgg11_bn": 54.8,
            "vgg13_bn": 68.5,
            "vgg16_bn": 84.3,
        }
    ),
    Published("nano", "torchvision:mobilenet_v2", 300, "fp16", 1000 / 64, ENGINE, NVIDIA),
    Published("nano", "timm:inception_v4", 299, "fp16", 1000 / 11, ENGINE, NVIDIA),
    Published("nano", "torchvision:mobilenet_v2", 224, "fp16", 17.65, SAMPLE, README),
    Published("nano", "torchvision:mobilenet_v2", 224, "fp32", 19.53, SAMPLE, README),
    Published("nano", "ultralytics:yolov8n.yaml", 640, "fp16", 1000 / 15, FRAMES, BLOG),
    *_trtutils("yolov8n", 640, 8.24),
    *_trtutils("yolov8n", 320, 3.38),
    *_trtutils("yolov8s", 640, 14.27),
    *_trtutils("yolov8m", 640, 30.36),
)

TORCH_MS = {
    "resnet18": 34.7,
    "resnet34": 64.8,
    "resnet50": 81.7,
    "resnet101": 141.0,
    "resnet152": 204.0,
    "alexnet": 22.1,
    "squeezenet1_0": 24.2,
    "squeezenet1_1": 14.0,
    "densenet121": 84.5,
    "densenet169": 118.0,
    "densenet201": 141.0,
    "densenet161": 247.0,
    "vgg11": 114.0,
    "vgg13": 156.0,
    "vgg16": 201.0,
    "vgg11_bn": 117.0,
    "vgg13_bn": 162.0,
    "vgg16_bn": 207.0,
}
"""The same networks in PyTorch on the Nano, fp16; from `TORCH2TRT`."""
END_TO_END_MS = {"trtutils": 12.9, "ultralytics, TensorRT": 19.2, "ultralytics, torch": 27.5}
"""YOLOv8n at 640 pixels on the Xavier NX, end to end, by program; from `TRTUTILS`, whose engine alone takes 8.24 ms."""


def kernels_of(entry: Published) -> KernelModel:
    """Kernels of a network with as many outputs as usual."""
    return network(entry.model, (3, entry.side, entry.side), 80 if "yolo" in entry.model else 1000).kernels


def nominal_ms(entry: Published, profile: SkuProfile | None = None) -> float:
    """Latency on the nominal board, or on one of another profile."""
    board = profile or load_profile(entry.sku)
    kernels = kernels_of(entry)
    times = kernel_times(kernels, kernels.sizes, board, entry.precision)
    bound = [max(pair) for pair in zip(times.compute_ms[0], times.memory_ms[0], strict=True)]
    return float(sum(bound) + len(kernels) * board.launch_us / 1000)


@cache
def ratio(entry: Published) -> float:
    """Simulated over published latency."""
    return nominal_ms(entry) / entry.milliseconds


def table() -> Iterator[str]:
    """Markdown: one row per published latency, and where each stands."""
    sources = list(dict.fromkeys(entry.source for entry in PUBLISHED))
    yield "| board | network | pixels | precision | simulated (ms) | published (ms) | ratio | what was timed | source |"
    yield "|---|---|--:|---|--:|--:|--:|---|--:|"
    for entry in PUBLISHED:
        simulated = ratio(entry) * entry.milliseconds
        yield (
            f"| {entry.sku} | {entry.name} | {entry.side} | {entry.precision} | {simulated:.4g} | {entry.milliseconds:.4g} | "
            f"{ratio(entry):.2f} | {entry.measure} | {1 + sources.index(entry.source)} |"
        )
    yield ""
    yield "Sources:"
    yield ""
    yield from (f"{number}. {source}" for number, source in enumerate(sources, start=1))


def main() -> int:
    """Print the table and write it into the documentation; 0."""
    check = options(__doc__, check="print, write nothing").parse_args().check
    publish("fleets.md", "published", "published", table(), check=check)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
