from __future__ import annotations

import json
from pathlib import Path

import pytest

from hdapbench.cli.main import main

NET = """
from torch import nn

def net(num_classes):
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 3, padding=1), nn.Flatten(),
        nn.Linear(256, num_classes)
    )

def odd(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NET)
    return tmp_path


def test_a_network_is_inspected_before_there_is_a_spec(folder, capsys) -> None:
    assert main(["inspect", "./net.py:net", "--input", "1x8x8", "--classes", "5", "--format", "json"]) == 0

    found = json.loads(capsys.readouterr().out)
    assert {group["name"]: group["n_channels"] for group in found["groups"]} == {"0": 8, "2": 4}
    assert [(layer["name"], layer["n_channels"]) for layer in found["frozen"]] == [("4", 5)]
    flops = {layer["name"]: layer["flops"] for layer in found["layers"]}
    assert flops == {"0": 9 * 8 * 64, "2": 9 * 8 * 4 * 64, "4": 256 * 5}
    assert found["flops"] == sum(flops.values())
    assert found["params"] == sum(layer["params"] for layer in found["layers"])
    assert found["minimum_flops"] == 9 * 64 + 9 * 64 + 64 * 5


def test_the_table_fits_into_eighty_columns(folder, capsys) -> None:
    assert main(["inspect", "resnet20"]) == 0

    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    for text in ("resnet20, input 3x32x32, 10 classes", "of the FLOPs can go", "is the model's output", "conv"):
        assert text in out


def test_the_network_of_a_spec_is_inspected(folder, capsys) -> None:
    assert main(["inspect", "quickstart", "--json"]) == 0

    assert json.loads(capsys.readouterr().out)["n_classes"] == 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resnet21"], "unknown model 'resnet21'; did you mean 'resnet20'"),
        (["./net.py:odd", "--input", "1x8x8"], "no channel group of Sequential can be pruned"),
        (["./net.py:net", "--input", "3x8x8"], "expected input"),
    ],
)
def test_what_is_wrong_is_one_line(folder, capsys, arguments, message) -> None:
    assert main(["inspect", *arguments]) == 2

    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert "Traceback" not in error


def test_a_shape_that_is_none_is_refused_by_the_parser(folder, capsys) -> None:
    with pytest.raises(SystemExit):
        main(["inspect", "resnet20", "--input", "3x8"])

    assert "'3x8' is not channels x height x width" in capsys.readouterr().err
