from __future__ import annotations

import json
import re
import sqlite3
from pathlib import Path

import pytest

from hdapbench.cli.main import main
from hdapbench.models import keep_state, kept_state
from hdapbench.spec import load_spec, spec_hash

NET = """\
from torch import nn

WIDTH = 8


def build(n_classes):
    return nn.Sequential(
        nn.Conv2d(1, WIDTH, 3), nn.ReLU(), nn.Conv2d(WIDTH, 12, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, n_classes)
    )
"""


@pytest.fixture
def spec(tiny_spec: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Spec of a network in a file beside it; the current folder is the spec's."""
    monkeypatch.chdir(tiny_spec.parent)
    Path("net.py").write_text(NET)
    text = tiny_spec.read_text().replace("name: resnet20", 'name: "./net.py:build"')
    text = text.replace("{flops: 0.5x}, {flops: 0.3x}", "{flops: 0.6x}").replace("[uniform, random]", "[uniform]")
    tiny_spec.write_text(text.replace("epochs: 1,", "epochs: 0.2,"))
    return tiny_spec


def run(spec: Path, *arguments: str) -> int:
    return main(["run", str(spec), *arguments])


def results(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, object]]:
    """Method -> metrics."""
    capsys.readouterr()
    main(["show", "tiny", "--json"])
    return {found["trial"]["method"]: found["metrics"] for found in json.loads(capsys.readouterr().out)}


def test_an_edited_network_has_trials_of_its_own_and_check_says_why(
    spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(spec, "--quiet")
    narrow = results(capsys)

    Path("net.py").write_text(NET.replace("WIDTH = 8", "WIDTH = 32"))
    main(["check", str(spec)])
    told = capsys.readouterr().out
    run(spec, "--quiet")
    wide = results(capsys)

    assert "trials: 2, of which 0 done" in told
    assert re.search(r"2 of 2 trials were stored.*, and are made again because.*:\n    the model's code\n", told)
    assert wide["dense"]["flops"] > 3 * narrow["dense"]["flops"]
    assert wide["uniform"]["flops_target"] == int(0.6 * wide["dense"]["flops"])
    assert main(["board", "tiny", "--check"]) == 0


def test_a_board_is_that_of_the_spec_that_ran_whatever_was_registered_meanwhile(
    spec: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from hdapbench.store.sqlite import Store

    add = Store.add

    def interfering(self: Store, result: object, **named: object) -> None:
        add(self, result, **named)  # type: ignore[arg-type]
        self.register("tiny", spec_hash="f" * 16, spec_json="{}", trial_ids=[])

    monkeypatch.setattr(Store, "add", interfering)

    assert run(spec, "--quiet") == 0

    assert f"content hash `{spec_hash(load_spec(spec))}`" in Path("leaderboards/tiny.md").read_text()
    assert "2 of 2 trials have ended" in Path("leaderboards/tiny.md").read_text()
    assert main(["board", str(spec)]) == 0
    assert capsys.readouterr().out.endswith(Path("leaderboards/tiny.md").read_text())
    assert main(["board", "tiny", "--check"]) == 0, "the board is compared with the spec that it shows"


def test_damage_to_rows_and_caches_is_said_and_made_good(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(spec)
    board = Path("leaderboards/tiny.md").read_text()
    cache = Path(".hdapbench/cache")
    (base,) = (cache / "base").iterdir()
    base.write_bytes(base.read_bytes()[:-100])
    with sqlite3.connect(".hdapbench/results.db") as connection:
        connection.execute("UPDATE result SET content = replace(content, '\"params\":', '\"params\":1')")
    (cache / "base" / ".999999999-x.pt").write_text("of a process that is dead")
    capsys.readouterr()

    assert main(["board", "tiny", "--check"]) == 0, "what boards take of the results is whole"
    with sqlite3.connect(".hdapbench/results.db") as connection:
        connection.execute("UPDATE brief SET content = replace(content, 'uniform', 'uniforn')")
    assert main(["board", "tiny"]) == 2
    assert "run their spec again" in capsys.readouterr().err
    main(["check", str(spec)])
    assert capsys.readouterr().out.count("damaged in the database, to be made again") == 2
    assert run(spec) == 0

    told = capsys.readouterr().err
    assert told.count("is damaged and is made again") == 2
    assert "is damaged; it is trained again" in told
    assert Path("leaderboards/tiny.md").read_text() == board
    assert [path.name for path in (cache / "base").iterdir()] == [base.name]


def test_results_of_two_base_models_never_meet_on_a_board(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(spec, "--quiet")
    (base,) = Path(".hdapbench/cache/base").iterdir()
    state = kept_state(base)
    assert state is not None
    keep_state({name: value * 1.01 for name, value in state.items()}, base)  # as another torch might train it
    spec.write_text(spec.read_text().replace("[uniform]", "[uniform, random]"))
    capsys.readouterr()

    assert run(spec, "--quiet") == 2

    assert "the stored trials began from" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["", "{", "[]", "{}", '{"flops": 1}', "\x00\xff"])
def test_a_damaged_inspection_is_made_again(
    tiny_spec: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    monkeypatch.chdir(tiny_spec.parent)
    main(["check", str(tiny_spec)])
    expected = capsys.readouterr().out
    (note,) = Path(".hdapbench/cache/inspection").iterdir()
    whole = note.read_text()
    note.write_text(damage)

    assert main(["check", str(tiny_spec)]) == 0

    assert capsys.readouterr().out == expected
    assert note.read_text() == whole
