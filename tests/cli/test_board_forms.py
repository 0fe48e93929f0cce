"""``hdapbench board --output`` and ``--format``: which form a board is written in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hdapbench.cli.main import main
from hdapbench.spec import canonical_json, spec_hash
from hdapbench.store.sqlite import open_store
from hdapbench.testing.store_contract import example_result
from tests.boards import SPEC, spec_of, trial

BEGINS = {"md": "# example", "csv": "board,fleet,target,", "tex": "% needs", "json": "{"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Current directory, with the database of one result."""
    monkeypatch.chdir(tmp_path)
    spec, result = spec_of(SPEC), example_result(trial("uniform"))
    with open_store(tmp_path / ".hdapbench" / "results.db") as store:
        ids = [result.trial.id]
        store.register(spec.name, spec_hash=spec_hash(spec), spec_json=canonical_json(spec), trial_ids=ids)
        store.add(result)
    return tmp_path


@pytest.mark.parametrize("form", BEGINS)
def test_the_suffix_of_the_file_is_the_form_of_the_board(form: str, folder: Path) -> None:
    path = folder / f"board.{form}"

    assert main(["board", "example", "--output", str(path)]) == 0

    assert path.read_text().startswith(BEGINS[form])
    assert main(["board", "example", "--output", str(path), "--check"]) == 0


def test_a_suffix_that_is_no_form_is_refused_with_those_that_are(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["board", "example", "--output", "board.xls"]) == 2

    said = capsys.readouterr().err
    assert all(f".{form}" in said for form in BEGINS)
    assert not (folder / "board.xls").exists()


@pytest.mark.parametrize("form", BEGINS)
def test_every_form_can_be_printed(form: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["board", "example", "--format", form]) == 0

    text = capsys.readouterr().out
    assert text.startswith(BEGINS[form])
    assert "\r" not in text


def test_json_of_a_board_says_which_version_of_its_schema_it_has(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["board", "example", "--json"]) == 0

    assert json.loads(capsys.readouterr().out)["schema"] == 1
