from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hdapbench.quant.deploy.execute import run_integer
from hdapbench.quant.deploy.lower import lower
from hdapbench.quant.deploy.onnx_export import export_onnx
from hdapbench.quant.deploy.post_training import OnnxNetwork
from tests.quant.quant_networks import KINDS, SHAPE, Awkward, fixed, images, lowered

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


def nodes(path: Path, op_type: str) -> int:
    return sum(node.op_type == op_type for node in onnx.load(str(path)).graph.node)


def test_a_layer_of_several_bit_widths_is_one_integer_kernel(tmp_path):
    _, model = lowered("residual")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "fused.onnx")

    export_onnx(model, tmp_path / "model.onnx")
    onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), options, providers=["CPUExecutionProvider"])

    assert any(len(layer.parts) > 1 for layer in model.layers.values())
    assert nodes(tmp_path / "model.onnx", "Conv") == len(model.layers) - 1
    assert nodes(tmp_path / "fused.onnx", "QLinearConv") == len(model.layers) - 1


def kinds(path: Path) -> dict[str, tuple[int, frozenset[int]]]:
    """Layer -> type of its weight, and zero points."""
    constants = {t.name: t for t in onnx.load(str(path)).graph.initializer}
    zeros = {
        name: frozenset(onnx.numpy_helper.to_array(constants[f"{name}.zero"]).tolist())
        for name in constants
        if name.endswith(".weight")
    }
    return {name.removesuffix(".weight"): (constants[name].data_type, found) for name, found in zeros.items()}


@pytest.mark.parametrize("activation_bits", [8, 4])
def test_portable_files_have_unsigned_weights_where_pairs_of_products_exceed_16_bits(activation_bits, tmp_path):
    quantised, folded = fixed("residual", activation_bits=activation_bits)
    model = lower(quantised, folded.group_set, SHAPE)

    told = export_onnx(model, tmp_path / "fast.onnx")
    portable = export_onnx(model, tmp_path / "portable.onnx", portable=True)

    saturating = set()
    for name, layer in model.layers.items():
        flat = layer.filters.flatten(1).long()
        pair = max(
            int(flat.topk(2).values.clamp_min(0).sum(1).max()), int((-flat).topk(2).values.clamp_min(0).sum(1).max())
        )
        if pair * (2**activation_bits - 1) > 32767:
            saturating.add(name)
    signed = (onnx.TensorProto.INT8, frozenset({0}))
    unsigned = (onnx.TensorProto.UINT8, frozenset({128}))
    assert bool(saturating) == (activation_bits == 8)
    assert set(told.saturating) == saturating
    assert ("--portable" in str(told)) == bool(saturating)
    assert not portable.saturating
    assert set(kinds(tmp_path / "fast.onnx").values()) == {signed}
    assert kinds(tmp_path / "portable.onnx") == {
        name: unsigned if name in saturating else signed for name in model.layers
    }
    x = images(64, seed=5)
    assert torch.allclose(scores(tmp_path / "fast.onnx", x), scores(tmp_path / "portable.onnx", x), atol=1e-5)


@pytest.mark.parametrize("bits", [2, 4])
def test_weights_of_few_bits_are_stored_in_them_where_asked_for(bits, tmp_path):
    quantised, folded = fixed("residual", choices=(2, bits))
    model = lower(quantised, folded.group_set, SHAPE)
    x = images(64, seed=5)

    export_onnx(model, tmp_path / "bytes.onnx")
    export_onnx(model, tmp_path / "small.onnx", small=True)

    n_weights = sum(layer.filters.numel() for layer in model.layers.values())
    sizes = [(tmp_path / name).stat().st_size for name in ("bytes.onnx", "small.onnx")]
    assert sizes[0] - sizes[1] > 0.8 * n_weights * (8 - bits) / 8 - 1000
    assert torch.equal(scores(tmp_path / "small.onnx", x), scores(tmp_path / "bytes.onnx", x))


def test_unusual_windows_and_grouped_convolutions_of_several_bit_widths_are_exported(tmp_path):
    torch.manual_seed(0)
    shape, x = (3, 9, 9), torch.randn(32, 3, 9, 9)
    quantised, folded = fixed(Awkward().eval(), shape=shape, x=x)
    model = lower(quantised, folded.group_set, shape)

    export_onnx(model, tmp_path / "model.onnx")

    assert len(model.layers["grouped"].parts) > 1
    expected = run_integer(model, x) * model.operations[-1].scale
    found = scores(tmp_path / "model.onnx", x)
    assert float((found - expected).abs().max()) < float(expected.abs().max()) / 50
