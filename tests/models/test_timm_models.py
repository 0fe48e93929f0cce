from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hdapbench.bench.network import trace
from hdapbench.errors import ModelError
from hdapbench.models import build_model, load_weights
from hdapbench.spec import ModelSpec

timm = pytest.importorskip("timm")


def build(name: str, shape: tuple[int, int, int] = (3, 32, 32), **arguments: Any) -> nn.Module:
    spec = ModelSpec(name=f"timm:{name}", input_shape=shape, arguments=arguments)
    return build_model(spec, n_classes=5, base_dir=Path()).eval()


@pytest.mark.parametrize("name", ["resnet10t", "vit_tiny_patch16_224", "mobilenetv3_small_050"])
def test_a_network_by_name_has_the_classes_and_channels_of_the_spec_and_takes_its_images(name: str) -> None:
    assert build(name, (1, 48, 32))(torch.randn(2, 1, 48, 32)).shape == (2, 5)


def test_arguments_go_to_timms_builder() -> None:
    assert build("vit_tiny_patch16_224", patch_size=8, depth=1)(torch.randn(2, 3, 32, 32)).shape == (2, 5)


def test_weights_of_timms_own_network_load_and_give_its_outputs(tmp_path: Path) -> None:
    source = timm.create_model("vit_tiny_patch16_224", pretrained=False, num_classes=5, img_size=32, depth=2).eval()
    torch.save({"state_dict": source.state_dict(), "arch": "vit"}, tmp_path / "w.pth.tar")
    model = build("vit_tiny_patch16_224", depth=2)
    x = torch.randn(2, 3, 32, 32)

    load_weights(model, tmp_path / "w.pth.tar")

    with torch.no_grad():
        assert torch.allclose(model(x), source(x), atol=1e-5)


def test_scales_that_note_the_number_of_their_channels_do_not_freeze_them() -> None:
    groups = trace(build("poolformer_s12"), (3, 32, 32)).group_set

    assert [group.name for group in groups.frozen] == ["head.fc"]
    assert sum(group.n_channels for group in groups) > 64 + 128 + 320 + 512


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("resnet10", {}, r"timm has no architecture 'resnet10'; did you mean 'resnet1\w+'\? Known: "),
        ("resnet10t.c3_in1k", {}, "did you mean 'resnet10t'\\? Weights are named in model.weights"),
        ("resnet10t", {"pretrained": True}, "remove pretrained from the arguments"),
        ("resnet10t", {"depht": 3}, r"timm:resnet10t does not take the arguments \{'depht': 3\}"),
        ("vit_tiny_patch16_224", {"img_size": 30, "dynamic_img_pad": 3, "patch_size": 0}, "cannot be built"),
    ],
)
def test_what_timm_does_not_know_or_take_is_said_in_one_line(name, arguments, message) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        build(name, **arguments)

    assert "\n" not in str(caught.value)
