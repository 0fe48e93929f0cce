from __future__ import annotations

import argparse
import hashlib
import os
import pickle
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision import models

from hdapbench.bench.network import trace
from hdapbench.errors import ModelError
from hdapbench.models import (
    build_model,
    calibrate_identity_shortcuts,
    kept_state,
    load_state,
    load_weights,
    published_state,
    state_hash,
)
from hdapbench.models.resnet import projection_shortcuts
from hdapbench.models.weights import read_state
from hdapbench.spec import ModelSpec
from hdapbench.tasks.checkpoint import Checkpoint


class OptionABlock(nn.Module):
    """Reference: a basic block whose shortcut takes every second pixel and pads channels with zeros."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_out)
        self.stride, self.padding = stride, (n_out - n_in) // 2

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        if self.stride == 2:
            x = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.padding, self.padding))
        return functional.relu(out + x)


class OptionAResNet(nn.Module):
    """Reference: the CIFAR ResNet of the paper with option-A shortcuts."""

    def __init__(self, n_blocks: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        for number, (n_in, n_out) in enumerate([(16, 16), (16, 32), (32, 64)], start=1):
            first = OptionABlock(n_in, n_out, 1 if number == 1 else 2)
            rest = [OptionABlock(n_out, n_out, 1) for _ in range(n_blocks - 1)]
            self.add_module(f"layer{number}", nn.Sequential(first, *rest))
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


@pytest.fixture
def resnet20() -> nn.Module:
    return build("resnet20")


def build(name: str, **arguments: object) -> nn.Module:
    torch.manual_seed(0)
    spec = ModelSpec(name=name, input_shape=(3, 32, 32), arguments=arguments)
    return build_model(spec, n_classes=10, base_dir=Path()).eval()


def saved(content: object, path: Path) -> Path:
    torch.save(content, path)
    return path


def option_a(n_blocks: int) -> OptionAResNet:
    """Option-A network whose norms saw some data, so that none of them is trivial."""
    torch.manual_seed(1)
    model = OptionAResNet(n_blocks)
    for _ in range(3):
        model(torch.randn(16, 3, 32, 32))
    return model.eval()


@pytest.mark.parametrize(("name", "n_blocks"), [("resnet20", 3), ("resnet56", 9)])
def test_option_a_weights_compute_the_same_with_projections(name, n_blocks, tmp_path):
    reference, model, images = option_a(n_blocks), build(name), torch.randn(4, 3, 32, 32)

    load_weights(model, saved(reference.state_dict(), tmp_path / "a.pt"))

    with torch.no_grad():
        torch.testing.assert_close(model(images), reference(images), atol=1e-5, rtol=0.0)


def test_option_a_weights_of_old_files_lack_batch_counts_and_are_completed(tmp_path):
    reference, model, images = option_a(3), build("resnet20"), torch.randn(4, 3, 32, 32)
    old = {name: value for name, value in reference.state_dict().items() if "num_batches" not in name}

    load_weights(model, saved(old, tmp_path / "a.pt"))

    with torch.no_grad():
        torch.testing.assert_close(model(images), reference(images), atol=1e-5, rtol=0.0)


def test_option_a_weights_load_into_padding_shortcuts_as_they_are(tmp_path):
    reference, model = option_a(3), build("resnet20", shortcuts="padding")

    load_weights(model, saved(reference.state_dict(), tmp_path / "a.pt"))

    assert set(model.state_dict()) == set(reference.state_dict())
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model(images), reference(images), atol=1e-5, rtol=0.0)


def test_padding_shortcuts_freeze_the_stages_widths_and_say_so():
    groups = trace(build("resnet20", shortcuts="padding"), (3, 32, 32)).group_set

    assert [group.name for group in groups] == [f"layer{s}.{b}.conv1" for s in (1, 2, 3) for b in range(3)]
    frozen = {group.name: group.reason for group in groups.frozen}
    assert frozen.pop("linear").startswith("is the model's output")
    assert list(frozen) == ["conv1", *(f"layer{s}.{b}.conv2" for s in (2, 3) for b in range(3))]
    assert "is padded to another width by constant_pad_nd" in frozen["conv1"]


def test_calibrated_shortcuts_stay_the_identity_and_survive_training_mode(tmp_path):
    reference, model, images = option_a(3), build("resnet20"), torch.randn(64, 3, 32, 32)
    load_weights(model, saved(reference.state_dict(), tmp_path / "a.pt"))

    n_calibrated = calibrate_identity_shortcuts(model, images.split(16))

    assert n_calibrated == 2
    with torch.no_grad():
        torch.testing.assert_close(model(images), reference(images), atol=1e-4, rtol=0.0)
        for _, norm in projection_shortcuts(model).values():
            norm.train()  # as in fine-tuning: standardised by the batch
        torch.testing.assert_close(model(images), reference(images), atol=1e-3, rtol=0.0)


def test_calibration_leaves_other_networks_alone(resnet20):
    before = state_hash(resnet20)

    assert calibrate_identity_shortcuts(resnet20, [torch.randn(2, 3, 32, 32)]) == 0
    assert state_hash(resnet20) == before


@pytest.mark.data
def test_published_resnet56_weights_load(data_root):
    path = data_root / "resnet56_cifar10.pt"
    if not path.is_file():
        pytest.skip(f"there is no {path}")
    model, reference = build("resnet56"), OptionAResNet(9).eval()
    reference.load_state_dict(torch.load(path, weights_only=True))

    load_weights(model, path)

    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model(images), reference(images), atol=1e-5, rtol=0.0)


def test_a_state_dict_that_lacks_more_than_shortcuts_is_not_completed(resnet20, tmp_path):
    state = option_a(3).state_dict()
    del state["linear.bias"]

    with pytest.raises(ModelError, match=r"11 missing: layer2\.0\.shortcut"):
        load_weights(resnet20, saved(state, tmp_path / "a.pt"))


def test_all_wrong_keys_and_shapes_are_in_one_error(resnet20, tmp_path):
    state = resnet20.state_dict()
    del state["conv1.weight"]
    state["extra"] = torch.zeros(1)
    state["linear.weight"] = torch.zeros(7, 64)

    with pytest.raises(ModelError) as caught:
        load_weights(resnet20, saved(state, tmp_path / "wrong.pt"))

    message = str(caught.value)
    assert "1 missing: conv1.weight" in message
    assert "1 unexpected: extra" in message
    assert "1 of another shape: linear.weight (7, 64) instead of (10, 64)" in message


def test_a_refused_state_dict_leaves_the_model_as_it_was(resnet20, tmp_path):
    before = state_hash(resnet20)
    state = {name: torch.zeros_like(value) for name, value in resnet20.state_dict().items()} | {"x": torch.zeros(1)}

    with pytest.raises(ModelError):
        load_weights(resnet20, saved(state, tmp_path / "wrong.pt"))

    assert state_hash(resnet20) == before


@pytest.mark.parametrize("wrapper", ["state_dict", "model"])
def test_wrapped_state_dicts_of_parallel_training_load(resnet20, tmp_path, wrapper):
    state = {f"module.{name}": value + 1 for name, value in resnet20.state_dict().items()}

    load_weights(resnet20, saved({wrapper: state, "epoch": 3}, tmp_path / "wrapped.pt"))

    assert torch.equal(resnet20.linear.bias, state["module.linear.bias"])


class Trap:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("trapped",)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: path.mkdir(), "a folder"),
        (lambda path: path.unlink(missing_ok=True), "no such file"),
        (lambda path: path.write_bytes(b""), "not a file of torch"),
        (lambda path: path.write_bytes(bytes(range(256)) * 9), "not a file of torch"),
        (lambda path: path.write_text("layer: 1\n"), "not a file of torch"),
        (lambda path: torch.save(nn.Linear(2, 2), path), "holds pickled objects"),
        (lambda path: torch.save({"a": Trap()}, path), "holds pickled objects"),
        (lambda path: path.write_bytes(pickle.dumps(Trap())), "not a file of torch"),
        (lambda path: torch.save([1, 2], path), "holds a list"),
        (lambda path: torch.save({"epoch": 3}, path), "its entries epoch are no tensors"),
        (lambda path: torch.save({}, path), "it is empty"),
    ],
)
def test_files_that_hold_no_state_dict_give_one_line_and_run_no_code(resnet20, tmp_path, monkeypatch, write, message):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights.pt"
    write(path)

    with pytest.raises(ModelError, match=message) as caught:
        load_weights(resnet20, path)

    assert "\n" not in str(caught.value)
    assert not (tmp_path / "trapped").exists()


def test_the_hash_of_a_state_follows_its_content_only():
    state = {"a": torch.arange(3.0), "b": torch.tensor(2), "c": torch.ones(2, dtype=torch.bfloat16)}
    reordered = dict(reversed(state.items()))
    changed = state | {"b": torch.tensor(3)}
    reshaped = state | {"a": torch.arange(3.0).reshape(1, 3)}

    assert state_hash(state) == state_hash(reordered)
    assert len({state_hash(state), state_hash(changed), state_hash(reshaped)}) == 3


def test_unknown_torchvision_weights_are_answered_with_the_known_ones():
    with pytest.raises(ModelError, match="did you mean 'IMAGENET1K_V2'"):
        published_state("resnet50", "IMAGENET1K_V3", n_classes=1000)


def test_torchvision_weights_of_other_classes_are_refused_before_any_download():
    with pytest.raises(ModelError, match="1000 classes apart, the data has 10"):
        published_state("resnet50", "DEFAULT", n_classes=10)


def net(**children: nn.Module) -> nn.Module:
    """Network with batch norm, and with a child of some name where one is given."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    for name, child in children.items():
        model.add_module(name, child)
    return model


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "model.", "model.net."])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model_state_dict"])
def test_a_state_dict_loads_whatever_wrapped_the_network(tmp_path, prefix, wrapper):
    source, model = net(), net()
    state = {f"{prefix}{name}": value + 1 for name, value in source.state_dict().items()}

    load_weights(model, saved({wrapper: state, "epoch": 3} if wrapper else state, tmp_path / "w.pt"))

    assert torch.equal(model[0].weight, source[0].weight + 1)


@pytest.mark.parametrize("name", ["module", "model"])
def test_a_child_that_is_called_like_a_wrapper_keeps_its_weights(tmp_path, name):
    source, model = (nn.ModuleDict({name: net()}) for _ in range(2))

    load_weights(model, saved(source.state_dict(), tmp_path / "w.pt"))
    assert state_hash(model) == state_hash(source)

    wrapped = {f"module.{key}": value for key, value in source.state_dict().items()}
    load_weights(model, saved(wrapped, tmp_path / "w.pt"))
    assert state_hash(model) == state_hash(source)


def test_weights_of_old_files_lack_batch_counts_and_load(tmp_path):
    source, model = net(), net()
    state = {name: value for name, value in source.state_dict().items() if "num_batches" not in name}

    load_weights(model, saved(state, tmp_path / "w.pt"))

    assert state_hash(model) == state_hash(source)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["0.weight", "1.running_var"])
def test_weights_that_are_not_finite_are_refused_by_name(tmp_path, name, value):
    model = net()
    before, state = state_hash(model), net().state_dict()
    state[name].view(-1)[1] = value

    with pytest.raises(ModelError, match=rf"w\.pt' hold values that are not finite .* in {name}"):
        load_weights(model, saved(state, tmp_path / "w.pt"))
    assert state_hash(model) == before


def test_complex_weights_are_refused_where_torch_would_drop_their_imaginary_part(tmp_path):
    state = net().state_dict()
    state["0.weight"] = state["0.weight"] * (1 + 1j)

    with pytest.raises(ModelError, match=r"w\.pt' do not fit the model; 1 complex: 0\.weight"):
        load_weights(net(), saved(state, tmp_path / "w.pt"))


def test_masks_may_hold_infinity(tmp_path):
    model = net()
    model.register_buffer("mask", torch.tensor([0.0, -torch.inf]))

    load_weights(model, saved(model.state_dict(), tmp_path / "w.pt"))


def test_weights_of_safetensors_load_and_what_is_none_is_refused_in_a_line(tmp_path):
    files = pytest.importorskip("safetensors.torch")
    source, model = net(), net()
    path = tmp_path / "w.safetensors"
    files.save_file(source.state_dict(), path)

    load_weights(model, path)
    assert state_hash(model) == state_hash(source)

    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ModelError, match="is not a file of safetensors"):
        load_weights(model, path)


@pytest.mark.parametrize("wrapper", ["model", "state_dict", "model_ema", "state_dict_ema"])
def test_checkpoints_of_training_programs_load_though_objects_lie_beside_the_weights(tmp_path, wrapper):
    source, model = net(), net()
    averaged = {"n_averaged": torch.tensor(3)} | {f"module.{name}": v for name, v in source.state_dict().items()}
    content = {wrapper: averaged, "args": argparse.Namespace(lr=0.1), "best": np.float64(0.7), "trap": Trap()}

    load_weights(model, saved(content, tmp_path / "w.pt"))

    assert state_hash(model) == state_hash(source)


def test_what_a_training_program_wrapped_beside_the_network_is_left_out(tmp_path):
    source, model = net(), net()
    state = {f"model.{name}": value for name, value in source.state_dict().items()}
    state |= {"teacher.0.weight": torch.zeros(3), "criterion.weight": torch.ones(2)}

    load_weights(model, saved({"state_dict": state, "pytorch-lightning_version": "2"}, tmp_path / "w.ckpt"))

    assert state_hash(model) == state_hash(source)


def test_a_file_that_expands_to_many_times_its_size_is_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr("hdapbench.files.FREE_BYTES", 1 << 16)
    plain, bomb = saved({"w": torch.zeros(1 << 18)}, tmp_path / "plain.pt"), tmp_path / "bomb.pt"
    assert read_state(plain).keys() == kept_state(plain).keys() == {"w"}
    with ZipFile(plain) as whole, ZipFile(bomb, "w", ZIP_DEFLATED) as packed:
        for member in whole.namelist():
            packed.writestr(member, whole.read(member))
    about = tmp_path / "0.ckpt"
    about.write_bytes(hashlib.sha256(bomb.read_bytes()).digest() + bomb.read_bytes())
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it is read"))

    with pytest.raises(ModelError, match=r"bomb.pt': the file expands to many times its size.*; save weights with"):
        read_state(bomb)
    assert kept_state(bomb) is None
    assert Checkpoint(about, {}, print).read() is None


@pytest.mark.parametrize(("name", "side"), [("vit_b_32", 64), ("maxvit_t", 224)])
def test_transformers_of_torchvision_are_built_for_the_images_of_the_spec(name, side):
    model = build_model(
        ModelSpec(name=f"torchvision:{name}", input_shape=(3, side, side)), n_classes=5, base_dir=Path()
    )

    with torch.no_grad():
        assert model.eval()(torch.randn(1, 3, side, side)).shape == (1, 5)


def test_a_vision_transformer_of_torchvision_is_equal_to_the_original():
    arguments = {"image_size": 64, "num_classes": 5}
    original = models.vit_b_32(weights=None, **arguments).eval()
    spec = ModelSpec(name="torchvision:vit_b_32", input_shape=(3, 64, 64))
    model = build_model(spec, n_classes=5, base_dir=Path()).eval()
    load_state(model, original.state_dict(), source="original")
    x = torch.randn(2, 3, 64, 64)

    with torch.no_grad():
        assert torch.allclose(model(x), original(x), atol=1e-5)
