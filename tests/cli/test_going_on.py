"""What commands say to go on with: lines that can be copied, and files that are what their names promise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hdapbench.cli.main import main
from hdapbench.run.runner import Run


def test_an_interrupted_run_goes_on_by_the_command_that_it_was_started_by(tiny_spec, monkeypatch, capsys):
    monkeypatch.chdir(tiny_spec.parent)
    monkeypatch.setattr(Run, "results", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    options = ["--set", "seeds=[0, 1]", "--set", "threads=1", "--method", "fpgm", "--workspace", "my work"]

    assert main(["run", "tiny.yaml", *options, "--output", "other.md"]) == 130

    told = capsys.readouterr().err
    assert (
        "go on with: hdapbench run tiny.yaml --set 'seeds=[0, 1]' --set threads=1 --method fpgm --output other.md "
        "--workspace 'my work'"
    ) in told


@pytest.fixture
def nothing_run(tiny_spec, monkeypatch) -> Path:
    """Folder with a registered benchmark."""
    monkeypatch.chdir(tiny_spec.parent)
    monkeypatch.setattr(Run, "results", lambda *_: iter(()))
    assert main(["run", "tiny.yaml", "--quiet", "--set", "targets=[{flops: 0.5x}]"]) == 0
    return tiny_spec.parent


def test_a_board_that_is_not_there_is_written_by_the_command_that_check_tells(nothing_run, capsys):
    assert main(["board", "tiny", "--check", "--output", "nope.md"]) == 1

    assert "nope.md is not there; write it with: hdapbench board tiny --output nope.md" in capsys.readouterr().err
    assert main(["board", "tiny", "--output", "nope.md"]) == 0
    assert main(["board", "tiny", "--check", "--output", "nope.md"]) == 0


@pytest.mark.parametrize("command", [["run", "tiny.yaml"], ["board", "tiny"]])
@pytest.mark.parametrize("name", ["x.xlsx", "x.pdf"])
def test_a_board_is_not_written_to_a_file_that_promises_a_form_that_it_has_not(
    command, name, tiny_spec, monkeypatch, capsys
):
    monkeypatch.chdir(tiny_spec.parent)

    assert main([*command, "--output", name]) == 2

    assert f"'{name}': no form of a board is called '{Path(name).suffix}'; end the name" in capsys.readouterr().err


def test_a_model_file_beside_the_spec_is_named_when_it_is_taken_for_a_package(tiny_spec, monkeypatch, capsys):
    monkeypatch.chdir(tiny_spec.parent)
    Path("mynet.py").write_text("def build(): ...\n")

    assert main(["check", "tiny.yaml", "--set", "model.name=mynet:build"]) == 2

    assert "No module named 'mynet'; for the file beside the spec, write ./mynet.py:build" in capsys.readouterr().err


def test_the_package_is_the_command():
    done = subprocess.run([sys.executable, "-m", "hdapbench", "--version"], capture_output=True, text=True)

    assert done.stdout.startswith("hdapbench ")
