"""A spec runs code once its reader has agreed, and asks again when the code has changed."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from hdapbench.cli.main import main

NET = """\
from pathlib import Path
from hdapbench.testing.models import build as small
Path("ran").touch()
def build(n_classes): return small("plain", n_classes=n_classes)
"""
PLUGIN = """\
from pathlib import Path
from hdapbench_methods.uniform import Uniform
Path("ran").touch()
class Mine(Uniform):
    name = "mine"
"""
pytestmark = pytest.mark.usefixtures("in_the_folder_of_the_spec")


@pytest.fixture(autouse=True)
def _nobody_trusts(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HDAPBENCH_TRUST", "")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))


def write(model: str = "./net.py:build", plugins: str = "[]") -> None:
    text = (
        Path("tiny.yaml")
        .read_text()
        .replace("name: resnet20, input_shape: [1, 8, 8]", f"name: '{model}', input_shape: [3, 8, 8]")
    )
    Path("tiny.yaml").write_text(f"{text}plugins: {plugins}\n")
    Path("net.py").write_text(NET)
    Path("mine.py").write_text(PLUGIN)


def checked(*options: str) -> tuple[int, bool]:
    """Exit code of ``check``, and whether code of the spec ran."""
    Path("ran").unlink(missing_ok=True)
    return main(["check", "tiny.yaml", *options]), Path("ran").exists()


@pytest.mark.parametrize(
    ("model", "plugins", "place"),
    [
        ("./net.py:build", "[]", "tiny.yaml:3:9 model.name: './net.py:build' is code that would be run"),
        ("somewhere.nets:build", "[]", "model.name: 'somewhere.nets:build' is code that would be run"),
        ("os:mkdir", "[]", "model.name: 'os:mkdir' is code that would be run"),
        ("resnet20", "[./mine.py]", "plugins[0]: './mine.py' is code that would be run"),
    ],
)
def test_code_that_nobody_agreed_to_is_named_and_not_run(
    model: str, plugins: str, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write(model, plugins)

    assert checked() == (2, False)
    assert main(["run", "tiny.yaml"]) == main(["measure", "tiny.yaml"]) == 2
    assert not Path("ran").exists()

    said = capsys.readouterr().err
    assert place in said
    assert "if you trust it, add --trust" in said


def test_who_agreed_once_is_asked_again_when_the_code_or_its_arguments_change() -> None:
    write(plugins="[./mine.py]")

    assert checked("--trust") == (0, True)
    assert checked() == (0, True)

    Path("mine.py").write_text(f"{PLUGIN}# edited\n")
    assert checked() == (2, False)
    assert checked("--trust")[1]
    text = Path("tiny.yaml").read_text()
    Path("tiny.yaml").write_text(text.replace("input_shape: [3", "arguments: {n_classes: 3}, input_shape: [3"))
    assert checked() == (2, False)


def test_what_the_user_types_and_what_lies_in_a_folder_of_theirs_needs_no_word(monkeypatch: pytest.MonkeyPatch) -> None:
    write()

    assert checked("--set", "model.name=./net.py:build") == (0, True)
    assert checked("--set", "model.name=resnet20", "--method", "./mine.py") == (0, True)

    monkeypatch.setenv("HDAPBENCH_TRUST", "/nowhere")
    assert checked() == (2, False)
    monkeypatch.setenv("HDAPBENCH_TRUST", f"/nowhere:{Path.cwd().parent}")
    assert checked() == (0, True)


def test_files_beside_a_spec_run_by_default_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("HDAPBENCH_TRUST")
    plain = Path("tiny.yaml").read_text()
    write(plugins="[./mine.py]")
    assert checked() == (0, True)

    elsewhere = tmp_path_factory.mktemp("elsewhere") / "net.py"
    elsewhere.write_text(NET)
    Path("link.py").symlink_to(elsewhere)
    for model in (f"{elsewhere}:build", "./link.py:build", "net:build", "torch.hub:load"):
        Path("tiny.yaml").write_text(plain)
        write(model)
        assert checked() == (2, False), model

    assert capsys.readouterr().err.count("is code that would be run") == 4


@pytest.mark.parametrize(("answer", "ended"), [("y\n", (0, True)), ("\n", (2, False)), ("", (2, False))])
def test_at_a_terminal_the_user_is_asked(
    answer: str, ended: tuple[int, bool], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    write()
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    monkeypatch.setattr(sys, "stderr", Terminal())

    assert checked() == ended


def test_python_itself_has_no_networks_whoever_trusts_it(capsys: pytest.CaptureFixture[str]) -> None:
    write("os:mkdir")

    assert checked("--trust")[0] == 2

    assert "'os' belongs to Python, which has no networks" in capsys.readouterr().err


def test_commands_of_a_fleet_are_asked_for_wherever_the_fleet_stands(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    fleet = "{name: lab, kind: command, run: 'touch ran {models}', inventory: boards.yaml, runs: 1}"
    Path("boards.yaml").write_text("- {name: a}\n- {name: b}\n")
    Path("lab.yaml").write_text(fleet)
    lines = Path("tiny.yaml").read_text().splitlines()
    Path("tiny.yaml").write_text("\n".join(f"  - {fleet}" if "simulated" in line else line for line in lines) + "\n")
    probe = ["fleet", "fingerprint", "lab.yaml", "--model", "resnet6", "--input-shape", "1,8,8", "--classes", "10"]

    assert main(["run", "tiny.yaml"]) == 2
    assert main(probe) == 2

    said = capsys.readouterr().err
    assert "fleets[0].run: 'touch ran {models}' is code that would be run; if you trust it, add --trust" in said
    assert "'lab.yaml': 'touch ran {models}' is code that would be run" in said
    assert not Path("ran").exists()
    assert main([*probe, "--trust"]) == 2  # it runs, and tells no latencies
    assert Path("ran").exists()
    assert "a is quarantined: the last line is no JSON" in capsys.readouterr().err
    assert main(["check", "tiny.yaml"]) == 0  # the same commands, trusted now
    Path("boards.yaml").write_text("- {name: a, at: elsewhere}\n")
    assert main(["check", "tiny.yaml"]) == 2
    assert "is code that would be run" in capsys.readouterr().err
