"""What is committed for whoever keeps boards: the boards themselves, a CI workflow, a pre-commit hook."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from hdapbench.cli.main import main

ROOT = Path(__file__).parents[2]
HOSTING = sorted((ROOT / "docs" / "hosting").iterdir())


def commands() -> list[str]:
    """Every command of the files and the page, without shell variables and comments."""
    texts = [path.read_text() for path in (*HOSTING, ROOT / "docs" / "hosting.md")]
    lines = [
        line for text in texts for line in re.findall(r"^[ \w:-]*?(hdapbench (?:results|run|board) .*)$", text, re.M)
    ]
    return sorted({re.sub(r'"?\$\w+"?', "7", line.split("#")[0].strip()) for line in lines})


def test_every_committed_board_is_what_its_results_render_or_the_readme_says_that_it_cannot_be_checked(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["results", "check", str(ROOT / "leaderboards")]) == 0

    has_older = "cannot be checked until" in capsys.readouterr().out
    readme = " ".join((ROOT / "README.md").read_text().split())
    assert has_older is ("cannot be checked until they are run again" in readme)


def test_make_boards_checks_them_all() -> None:
    assert (
        "boards: $(VENV)/.installed\n\t$(BIN)/hdapbench results check leaderboards\n" in (ROOT / "Makefile").read_text()
    )


def test_there_are_commands_to_try() -> None:
    assert len(commands()) > 9


@pytest.mark.parametrize("command", commands())
def test_the_commands_of_the_workflow_the_hook_and_the_page_exist(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command.split()[1:], "--help"])

    assert ended.value.code == 0
    assert " ".join(command.split()[:2]) in capsys.readouterr().out


def test_the_workflow_checks_verifies_and_publishes_and_gives_pull_requests_no_rights() -> None:
    workflow: dict[Any, Any] = yaml.safe_load((ROOT / "docs/hosting/boards.yml").read_text())

    assert set(workflow[True]) == {"push", "pull_request"}  # YAML 1.1 reads `on` as true
    assert workflow["permissions"] == {"contents": "read"}
    assert list(workflow["jobs"]) == ["check", "verify", "pages"]
    assert "permissions" not in workflow["jobs"]["verify"]
    assert workflow["jobs"]["pages"]["needs"] == "check"


def test_the_hook_runs_when_boards_change() -> None:
    (repository,) = yaml.safe_load((ROOT / "docs/hosting/pre-commit-config.yaml").read_text())["repos"]
    (hook,) = repository["hooks"]

    assert re.search(hook["files"], "leaderboards/results/quickstart.jsonl.zst")
    assert hook["entry"] == "hdapbench results check leaderboards"
