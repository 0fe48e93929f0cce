from __future__ import annotations

import os
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import pytest
import torch

from hdapbench.errors import ModelError
from hdapbench.models import build_model, load_weights, read_state, yolo
from hdapbench.spec import ModelSpec
from tests.zoo import needs_yolo, with_statistics

# Not importorskip: ultralytics must only be imported with the switches that keep it offline.
pytestmark = needs_yolo


class Trap:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("trapped",)


def build(name: str, n_classes: int = 80, base_dir: Path = Path(), **arguments: object) -> torch.nn.Module:
    spec = ModelSpec(name=f"ultralytics:{name}", input_shape=(3, 64, 64), arguments=arguments)
    return build_model(spec, n_classes=n_classes, base_dir=base_dir)


@pytest.fixture
def stock(monkeypatch) -> torch.nn.Module:
    """YOLOv8n as ultralytics builds it, with batch norms that are not the identity."""
    monkeypatch.setattr(yolo, "split_blocks", lambda _: 0)
    torch.manual_seed(0)
    return with_statistics(build("yolov8n.yaml", n_classes=5))


def test_splitting_blocks_changes_no_output(stock, monkeypatch):
    image = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        before = stock(image)[0]
        n_blocks = undo_and_split(stock, monkeypatch)
        after = stock(image)[0]

    assert n_blocks == 8
    assert torch.equal(before, after)


def undo_and_split(model: torch.nn.Module, monkeypatch) -> int:
    monkeypatch.undo()
    return yolo.split_blocks(model)


@pytest.mark.parametrize("entry", ["model", "ema"])
def test_files_of_ultralytics_load_though_no_pickled_code_is_run(stock, monkeypatch, tmp_path, entry):
    path = tmp_path / "yolov8n.pt"
    content = {"epoch": -1, "model": None, "ema": None, "date": "2024", "train_args": {"imgsz": 640}}
    torch.save({**content, entry: stock}, path)
    image = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        expected = stock(image)[0]
    monkeypatch.undo()
    model = build("yolov8n.yaml", n_classes=5).eval()
    monkeypatch.setattr(type(stock), "__setstate__", lambda *_: pytest.fail("unpickled"), raising=False)

    load_weights(model, path)

    with torch.no_grad():
        assert torch.equal(model(image)[0], expected)


def test_half_precision_files_come_out_in_single_precision(stock, tmp_path):
    torch.save({"model": deepcopy(stock).half()}, tmp_path / "half.pt")

    state = read_state(tmp_path / "half.pt")

    assert set(state) == set(stock.state_dict())
    assert {value.dtype for value in state.values()} == {torch.float32, torch.int64}


def test_code_beside_the_network_is_not_run(stock, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": stock, "trap": Trap()}, tmp_path / "trap.pt")

    state = read_state(tmp_path / "trap.pt")

    assert set(state) == set(stock.state_dict())
    assert not (tmp_path / "trapped").exists()


def test_weights_for_other_classes_are_refused_by_name(stock, tmp_path, monkeypatch):
    torch.save({"model": stock}, tmp_path / "five.pt")
    monkeypatch.undo()

    with pytest.raises(ModelError, match=r"of another shape: model\.22\.cv3"):
        load_weights(build("yolov8n.yaml", n_classes=7), tmp_path / "five.pt")


def test_split_blocks_keep_the_number_of_parameters():
    model = build("yolov8n.yaml")

    assert sum(parameter.numel() for parameter in model.parameters()) == 3_157_200
    assert not any(type(module).__name__ == "C2f" for module in model.modules())


def test_building_leaves_environment_threads_and_home_alone(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    environment, threads = dict(os.environ), torch.get_num_threads()

    build("yolov8n.yaml")

    assert dict(os.environ) == environment
    assert torch.get_num_threads() == threads
    assert list(tmp_path.iterdir()) == []


def test_building_replaces_no_function_of_other_packages():
    code = (
        "import numpy, torch, PIL.Image; before = PIL.Image.open, torch.save, str(numpy.get_printoptions());"
        "from pathlib import Path; from hdapbench.models import build_model; from hdapbench.spec import ModelSpec;"
        "spec = ModelSpec(name='ultralytics:yolov8n.yaml', input_shape=(3, 64, 64));"
        "build_model(spec, n_classes=2, base_dir=Path());"
        "assert before == (PIL.Image.open, torch.save, str(numpy.get_printoptions()))"
    )

    subprocess.run([sys.executable, "-c", code], check=True)


def test_nothing_is_printed(capfd):
    build("yolov8n.yaml")

    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        *((name, "name a yaml file") for name in ("https://example.org/yolov8n.yaml", "yolov8n.pt", "yolov8n")),
        ("yolovv8.yaml", r"did you mean 'yolov8\.yaml'"),
        ("yolov8n-seg.yaml", "segment"),
    ],
)
def test_only_yaml_files_of_detectors_are_taken(name, message):
    with pytest.raises(ModelError, match=message):
        build(name)


def test_a_yaml_of_the_user_that_makes_no_network_is_one_error(tmp_path):
    (tmp_path / "mine.yaml").write_text("head: [[-1, 1, Detect, [nc]]]\nbackbone: 3\nnc: 2\n")

    with pytest.raises(ModelError, match=r"ultralytics:mine\.yaml cannot be built"):
        build("mine.yaml", base_dir=tmp_path)


def test_a_classifier_of_ultralytics_returns_its_logits_in_both_modes():
    model, image = build("yolov8n-cls.yaml", n_classes=5), torch.rand(2, 3, 64, 64)
    model.model[-1].drop.p = 0.0

    with torch.no_grad():
        logits = model.eval()(image)
    trained = deepcopy(model).eval()
    trained.training = True  # of the network alone: batch norms stay as they are
    trained.model[-1].training = True

    assert logits.shape == (2, 5)
    assert not torch.allclose(logits.sum(1), torch.ones(2))
    torch.testing.assert_close(trained(image), logits)
