from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hdapbench.errors import UnknownLayerError
from hdapbench.quant.deploy.execute import run_integer
from hdapbench.quant.deploy.lower import lower
from hdapbench.quant.deploy.onnx_export import export_onnx
from hdapbench.quant.deploy.post_training import OnnxNetwork
from tests.quant.quant_networks import KINDS, Awkward, fixed, images, lowered

onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")


def scores(path: Path, x: torch.Tensor) -> torch.Tensor:
    """What onnxruntime computes, on one thread."""
    return OnnxNetwork(path.read_bytes())(x)


@pytest.mark.parametrize("activation_bits", [8, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_onnxruntime_computes_what_the_integer_network_computes(kind, activation_bits, tmp_path):
    _, model = lowered(kind, activation_bits=activation_bits)
    x = images(64, seed=5)

    export_onnx(model, tmp_path / "model.onnx")

    expected = run_integer(model, x) * model.operations[-1].scale
    found = scores(tmp_path / "model.onnx", x)
    unit = float(expected.abs().max()) / 50
    assert float((found - expected).abs().max()) < unit
    assert float(((found - expected).abs() < unit / 100).float().mean()) > 0.8


def test_weights_of_2_and_4_bits_are_stored_in_4(tmp_path):
    export_onnx(lowered("residual")[1], tmp_path / "model.onnx")

    kinds = {
        tensor.name: tensor.data_type
        for tensor in onnx.load(str(tmp_path / "model.onnx")).graph.initializer
        if tensor.name.endswith(".weight")
    }
    assert kinds["body.stem.0.2bit.weight"] == kinds["body.stem.0.4bit.weight"] == onnx.TensorProto.INT4
    assert kinds["body.stem.0.8bit.weight"] == onnx.TensorProto.INT8


def test_unusual_windows_are_exported_or_refused_by_name(tmp_path):
    torch.manual_seed(0)
    shape, x = (3, 9, 9), torch.randn(32, 3, 9, 9)
    quantised, folded = fixed(Awkward().eval(), shape=shape, x=x)

    with pytest.raises(UnknownLayerError, match="'grouped'"):
        export_onnx(lower(quantised, folded.group_set, shape), tmp_path / "model.onnx")

    quantised.weight_bits = {name: (8,) * len(bits) for name, bits in quantised.weight_bits.items()}
    quantised._low, quantised._high = torch.full_like(quantised._low, -128), torch.full_like(quantised._high, 127)
    model = lower(quantised, folded.group_set, shape)
    export_onnx(model, tmp_path / "model.onnx")
    expected = run_integer(model, x) * model.operations[-1].scale
    found = scores(tmp_path / "model.onnx", x)
    assert float((found - expected).abs().max()) < float(expected.abs().max()) / 50
