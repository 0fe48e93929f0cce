"""Files that are data run no code: fingerprints, artifacts, networks in YAML; and nobody else's file is written to."""

from __future__ import annotations

import json
import tempfile
from argparse import Namespace
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from hdapbench.cli.fleet.source import remembered_variants
from hdapbench.cli.main import main
from hdapbench.errors import ModelError
from hdapbench.fleet.fingerprint import load_fingerprint, save_fingerprint
from hdapbench.models import build_model
from hdapbench.run.artifact import open_saved
from hdapbench.spec import ModelSpec
from hdapbench.testing import tiny_workbench

MARKER = (
    "import pathlib; pathlib.Path('ran').touch()\nfrom torch import nn\ndef build(n_classes): return nn.Linear(1, 1)\n"
)


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(MARKER)


def describe(model: str) -> Path:
    spec = {"name": model, "input_shape": [3, 8, 8]}
    Path("description.json").write_text(json.dumps({"model": spec, "n_classes": 2, "base_dir": "."}))
    return Path()


@pytest.mark.parametrize("model", ["./net.py:build", "os:system", "subprocess:run"])
def test_an_artifact_names_code_in_vain_unless_it_is_trusted(model: str) -> None:
    with pytest.raises(ModelError, match=f"names the model '{model}', which is code that would be run; .*--trust"):
        open_saved(describe(model))

    assert not Path("ran").exists()


def test_a_trusted_artifact_may_name_code() -> None:
    with pytest.raises(Exception):  # noqa: B017, PT011 - it is no network that can be cut
        open_saved(describe("./net.py:build"), trusted=True)

    assert Path("ran").exists()


def test_a_fingerprint_names_code_in_vain_unless_it_is_trusted(capsys: pytest.CaptureFixture[str]) -> None:
    main(["fleet", "make", "--devices", "6", "-o", "fleet.yaml"])
    main(["fleet", "fingerprint", "fleet.yaml", "--model", "resnet20", "--input-shape", "3,32,32", "-o", "f.parquet"])
    taken = load_fingerprint(Path("f.parquet"))
    local = {"name": "here", "kind": "local", "devices": [{"name": f"d{n}"} for n in range(6)]}
    forged = taken.conditions | {"fleet_spec": local}
    forged["model_spec"] = {**taken.conditions["model_spec"], "name": "./net.py:build"}
    save_fingerprint(replace(taken, conditions=forged), Path("forged.parquet"))
    capsys.readouterr()

    for action in ("estimate", "drift"):
        assert main(["fleet", action, "forged.parquet"]) == 2
        assert "'forged.parquet' names the model './net.py:build', which is code" in capsys.readouterr().err
    assert not Path("ran").exists()

    with pytest.raises(Exception):  # noqa: B017, PT011 - it is no network that can be traced
        remembered_variants(
            load_fingerprint(Path("forged.parquet")),
            LocalFleetStandIn(),  # type: ignore[arg-type]
            Namespace(trust=True, file=Path("forged.parquet")),
        )
    assert Path("ran").exists()


class LocalFleetStandIn:
    source = "measured"


@pytest.mark.skipif(find_spec("ultralytics") is None, reason="needs the yolo extra")
@pytest.mark.parametrize(
    ("activation", "layer"),
    [
        ("__import__('os').mkdir('ran')", "Conv"),
        ("nn.ReLU(__import__('os').mkdir('ran'))", "Conv"),
        ("(nn.ReLU(), __import__('os').mkdir('ran'))[0]", "Conv"),
        ("nn.ReLU()", "check_requirements"),
        ("nn.ReLU()", "torch_load"),
        ("nn.ReLU()", "DetectionModel"),
        ("nn.ReLU()", "nn.init"),
        ("nn.ReLU()", "torchvision.ops.misc"),
    ],
)
def test_a_network_in_yaml_evaluates_and_calls_layers_alone(activation: str, layer: str) -> None:
    head = "[[-1, 1, Conv, [16, 3, 2]], [-1, 1, Detect, [nc]]]" if layer == "Conv" else "[[-1, 1, Detect, [nc]]]"
    Path("net.yaml").write_text(
        f'nc: 2\nactivation: "{activation}"\nbackbone: [[-1, 1, Conv, [8, 3, 2]], [-1, 1, {layer}, [16, 3, 2]]]\nhead: {head}\n'
    )
    spec = ModelSpec(name="ultralytics:./net.yaml", input_shape=(3, 64, 64))

    with pytest.raises(ModelError, match=r"is no layer of (torch\.nn|ultralytics or torch\.nn)"):
        build_model(spec, n_classes=2, base_dir=Path())

    assert not Path("ran").exists()


@pytest.mark.skipif(find_spec("ultralytics") is None, reason="needs the yolo extra")
@pytest.mark.parametrize("activation", ["nn.ReLU()", "torch.nn.LeakyReLU(0.1)", "nn.Hardtanh(-1, 1, inplace=True)"])
def test_layers_of_torch_are_activations(activation: str) -> None:
    Path("net.yaml").write_text(
        f'nc: 2\nactivation: "{activation}"\nbackbone: [[-1, 1, Conv, [8, 3, 2]]]\nhead: [[-1, 1, Classify, [nc]]]\n'
    )
    spec = ModelSpec(name="ultralytics:./net.yaml", input_shape=(3, 64, 64))

    network = build_model(spec, n_classes=2, base_dir=Path())

    assert activation.partition("(")[0].rpartition(".")[2] in {type(module).__name__ for module in network.modules()}


def test_the_folder_of_tiny_problems_cannot_be_foreseen() -> None:
    folder = tiny_workbench("plain").directory

    assert folder.stat().st_mode & 0o077 == 0
    assert folder.parent == Path(tempfile.gettempdir())
