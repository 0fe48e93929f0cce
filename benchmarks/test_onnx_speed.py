"""Time of the ONNX files of networks with bit-widths in onnxruntime, against the float network's file."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from hdapbench.models import build_model
from hdapbench.quant.deploy.lower import lower
from hdapbench.quant.deploy.onnx_export import export_onnx
from hdapbench.quant.graph.folded import FoldedModel
from hdapbench.quant.training.calibrate import calibrate_clips
from hdapbench.quant.training.fixed import FixedNetwork
from hdapbench.runtimes.on_onnxruntime import session_options
from hdapbench.runtimes.onnx_file import write_onnx
from hdapbench.spec import ModelSpec

onnxruntime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")

SHAPES = {"resnet6": (1, 8, 8), "resnet8": (3, 32, 32), "dscnn": (1, 49, 10)}
ROUNDS, SECONDS_A_ROUND = 15, 0.005
MOST = {("resnet8", 8): 0.8, ("resnet8", 4): 0.8, ("dscnn", 8): 0.95, ("dscnn", 4): 1.1, ("resnet6", 8): 1.3}
"""Of the float file's time. DS-CNN was at 0.78 to 0.85: onnxruntime's float depthwise layers are the faster ones. The digits
network takes 20 us, most of them between its nodes, and has more of these as integers."""

BITS = {"w8": (8,), "w4": (4,), "w2": (2,), "mixed": (2, 4, 8)}


def session(path: Path):
    """A session on one thread, as boards are measured."""
    options = session_options(threads=1, graph_optimization="all")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def ratios(name: str, folder: Path, activation_bits: int) -> dict[str, float]:
    """Least processor time of each file over that of the float one; all are run in turn, so that load hits all alike."""
    torch.manual_seed(0)
    shape = SHAPES[name]
    model = build_model(ModelSpec(name=name, input_shape=shape), n_classes=10, base_dir=Path()).eval()
    folded = FoldedModel.of(model, shape)
    clips = calibrate_clips(folded.model, folded.graph, [torch.rand(8, *shape)], bits=[activation_bits])[:, 0]
    write_onnx(model, shape, folder / "float.onnx")
    for kind, choices in BITS.items():
        widths = {layer: folded.graph.by_name[layer].shape[0] for layer in folded.graph.layers}
        bits = {layer: tuple(choices[k % len(choices)] for k in range(width)) for layer, width in widths.items()}
        inputs = [activation_bits] * len(folded.graph.quantizers)
        fixed = FixedNetwork(folded.model, folded.graph, clips, weight_bits=bits, activation_bits=inputs)
        export_onnx(lower(fixed.eval(), folded.group_set, shape), folder / f"{kind}.onnx")
    sessions = {path.stem: session(path) for path in sorted(folder.glob("*.onnx"))}
    x = {"images": torch.rand(1, *shape).numpy()}
    seconds: dict[str, list[float]] = {kind: [] for kind in sessions}
    repeats = 1
    for number in range(ROUNDS + 1):
        for kind, found in sessions.items():
            found.run(None, x)
            started = time.thread_time()
            for _ in range(repeats):
                found.run(None, x)
            seconds[kind].append((time.thread_time() - started) / repeats)
        if number == 0:  # the first round warms up, and tells how long one takes
            repeats = max(1, round(SECONDS_A_ROUND / seconds["float"][0]))
            seconds = {kind: [] for kind in sessions}
    least = {kind: min(values) for kind, values in seconds.items()}
    print(name, {kind: f"{1e3 * value:.3f} ms, {value / least['float']:.2f}x" for kind, value in least.items()})
    return {kind: value / least["float"] for kind, value in least.items() if kind != "float"}


@pytest.mark.parametrize(("name", "activation_bits"), MOST)
def test_files_of_few_bits_run_faster_than_the_float_network(name, activation_bits, tmp_path):
    found = ratios(name, tmp_path, activation_bits)

    assert max(found.values()) <= MOST[name, activation_bits], found
