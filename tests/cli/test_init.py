from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from hdapbench.cli.main import COMMANDS, main

NETWORK = """
from torch import nn

def build(n_classes):
    return nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, n_classes)
    )
"""
METHOD = """
from hdapbench.method import Method

class Mine(Method):
    name = "mine"

    def compress(self, problem):
        return problem.plan_by_importance(dict.fromkeys(problem.groups, problem.solve_ratio()), "l2")
"""


def test_the_spec_that_init_writes_passes_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert main(["init", "my-bench.yaml"]) == 0

    assert main(["check", "my-bench.yaml"]) == 0


def test_a_spec_for_a_network_and_images_of_ones_own_passes_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(NETWORK)
    for folder in ("train/cats", "train/dogs", "test/cats", "test/dogs"):
        Path("images", folder).mkdir(parents=True)
        for number in range(10):
            Image.new("RGB", (48, 48), (number, 0, 0)).save(Path("images", folder, f"{number}.png"))

    assert main(["init", "--model", "./net.py:build", "--shape", "3", "48", "48", "--data", "images"]) == 0
    assert main(["init"]) == 2

    assert "'bench.yaml' is there already" in capsys.readouterr().err
    assert main(["check", "bench.yaml"]) == 0
    assert "classes: 2" in capsys.readouterr().out


def test_what_the_comments_of_a_new_spec_offer_passes_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(METHOD)
    assert main(["init", "bench.yaml"]) == 0
    text = Path("bench.yaml").read_text()

    text = (
        text.replace("# plugins:", "plugins:")
        .replace("- uniform", "- mine")
        .replace("# - {name: here", "- {name: here")
    )
    offered = re.search(r"flops: 0\.5x +# .*or (\S+), or ({.*?}), ({.*?})", text)
    assert offered is not None
    targets = "\n".join([f"  - flops: {offered[1]}", *(f"  - {target}" for target in offered.groups()[1:])])
    Path("bench.yaml").write_text(text.replace("  - flops: 0.5x", f"{targets}\n  - flops: 0.5x"))

    assert main(["check", "bench.yaml"]) == 0


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
