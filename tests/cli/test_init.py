from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from hdapbench.cli.main import COMMANDS, main


def test_the_spec_that_init_writes_passes_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert main(["init", "my-bench.yaml"]) == 0

    assert main(["check", "my-bench.yaml"]) == 0


def test_init_writes_a_spec_for_a_network_and_images_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    assert main(["init", "--model", "./net.py:build", "--shape", "3", "48", "48", "--data", "images"]) == 0
    assert main(["init"]) == 2

    assert "'bench.yaml' is there already" in capsys.readouterr().err
    text = Path("bench.yaml").read_text()
    for line in ("name: ./net.py:build", "input_shape: [3, 48, 48]", "path: images", "name: image-folder"):
        assert line in text


def test_a_shell_completes_every_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bash"]) == 0

    script = tmp_path / "completion.sh"
    script.write_text(capsys.readouterr().out)
    asked = "COMP_WORDS=(hdapbench ''); COMP_CWORD=1; _shtab_hdapbench; echo \"${COMPREPLY[@]}\""
    answer = subprocess.run(
        [str(shutil.which("bash")), "-c", f"source {script}; {asked}"], capture_output=True, text=True, check=True
    )
    assert set(COMMANDS) <= set(answer.stdout.split())


def test_a_spec_that_ships_is_found_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    assert main(["check", "quickstart"]) == 0
    assert main(["check", "quikstart"]) == 2

    assert "quikstart is no file and no spec that ships; did you mean 'quickstart'?" in capsys.readouterr().err
