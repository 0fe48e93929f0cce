from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from hdapbench.bench.network import trace
from hdapbench.errors import MissingExtraError, ModelError
from hdapbench.plan import Plan
from hdapbench.prune.surgery import apply_plan
from hdapbench.runtimes import onnx_file
from hdapbench.runtimes.on_onnxruntime import session_options
from hdapbench.runtimes.onnx_file import write_onnx
from hdapbench.runtimes.program_file import write_program
from tests.prune.small_networks import SHAPE, Concat, Depthwise, Grouped, Plain, Residual, seeded
from tests.zoo import built, needs_yolo

onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")


def computed(path: Path, x: torch.Tensor) -> torch.Tensor:
    options = session_options(threads=1, graph_optimization="none")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"images": x.numpy()})[0])


def halved(model: nn.Module, shape: tuple[int, int, int]) -> nn.Module:
    """Compact model with every second channel of every group."""
    network = trace(model, shape)
    plan = Plan(kept={name: tuple(range(0, int(size), 2)) for name, size in network.group_set.sizes.items()})
    return apply_plan(model, network.group_set, plan).eval()


@pytest.mark.parametrize("network", [Plain, Residual, Depthwise, Concat, Grouped])
def test_dense_and_pruned_models_are_written_so_that_onnxruntime_computes_the_same(network, tmp_path):
    dense = seeded(network).eval()
    compact = halved(dense, SHAPE)
    x = torch.randn(2, *SHAPE)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = write_onnx(dense, SHAPE, tmp_path / "dense.onnx", batch=2)
        after = write_onnx(compact, SHAPE, tmp_path / "compact.onnx", batch=2)

    assert after.n_bytes < before.n_bytes
    assert (after.opset, after.exporter) == (20, "torchscript")
    assert after.difference <= 1e-5 * max(after.largest, 1.0)
    with torch.no_grad():
        torch.testing.assert_close(computed(tmp_path / "compact.onnx", x), compact(x), rtol=1e-4, atol=1e-5)


def test_batch_norms_are_folded_and_the_same_model_gives_the_same_bytes(tmp_path):
    model = seeded(Residual)
    model.train()
    state = {name: value.clone() for name, value in model.state_dict().items()}

    write_onnx(model, SHAPE, tmp_path / "a.onnx")
    write_onnx(model, SHAPE, tmp_path / "b.onnx")

    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    kinds = {node.op_type for node in onnx.load(str(tmp_path / "a.onnx")).graph.node}
    assert "Conv" in kinds
    assert "BatchNormalization" not in kinds
    assert model.training
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())


@needs_yolo
def test_a_pruned_detector_is_written_with_its_decoded_boxes_alone(tmp_path):
    dense = built("ultralytics:yolov8n.yaml", (3, 64, 64), n_classes=3)
    compact = halved(dense, (3, 64, 64))

    written = write_onnx(compact, (3, 64, 64), tmp_path / "pruned.onnx")

    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = compact(x)[0]
    assert expected.shape == (1, 7, 84)
    torch.testing.assert_close(computed(tmp_path / "pruned.onnx", x), expected, rtol=1e-3, atol=1e-3)
    assert written.n_bytes < 4 * sum(parameter.numel() for parameter in dense.parameters()) / 2


class Detector(nn.Module):
    """Boxes in hundreds of pixels beside scores below one."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        scores = x.flatten(1).unsqueeze(1).sigmoid()
        return torch.cat([scores * 1000, scores], 1), [x]


def test_scores_beside_large_boxes_are_held_to_their_own_size(tmp_path, monkeypatch):
    def off_by_a_little(path: Path, x: torch.Tensor) -> np.ndarray:
        found = Detector()(x)[0].numpy().copy()
        found[:, 1] += 0.005  # far less than a thousandth of the largest box
        return found

    write_onnx(Detector(), SHAPE, tmp_path / "fine.onnx")
    monkeypatch.setattr(onnx_file, "_run_onnx", off_by_a_little)

    with pytest.raises(ModelError, match=r"differs from torch by 0\.005 where outputs reach 0\.\d+"):
        write_onnx(Detector(), SHAPE, tmp_path / "wrong.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["fine.onnx"]


@pytest.mark.parametrize("value", [1.0, float("nan")])
def test_a_file_that_computes_something_else_is_refused_and_leaves_nothing(value, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_file, "_run_onnx", lambda path, x: np.full((1, 5), value, dtype=np.float32))

    with pytest.raises(ModelError, match="differs from torch by"):
        write_onnx(nn.Sequential(nn.Flatten(), nn.Linear(192, 5)), SHAPE, tmp_path / "wrong.onnx")

    assert list(tmp_path.iterdir()) == []


class Python(nn.Module):
    """What neither exporter can follow."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.fft.fft(x).real.flatten(1) if np.asarray(x.detach()).any() else x


def test_a_model_that_cannot_be_written_is_refused_in_one_line(tmp_path):
    with pytest.raises(ModelError, match="cannot be written as ONNX") as caught:
        write_onnx(Python(), SHAPE, tmp_path / "python.onnx")

    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_file, "find_spec", lambda name: None)

    with pytest.raises(MissingExtraError, match=r"hdapbench\[onnx\]"):
        write_onnx(seeded(Plain), SHAPE, tmp_path / "plain.onnx")


def test_a_program_for_torch_computes_the_same_number_for_number(tmp_path):
    model = seeded(Depthwise).eval()

    written = write_program(model, SHAPE, tmp_path / "model.pt2")

    assert written.difference == 0.0
    assert written.exporter == "torch.export"
