from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path

import pytest

import hdapbench
from hdapbench.cli.main import main
from hdapbench.spec import canonical_json, spec_hash
from hdapbench.store.place import Place, Postgres
from hdapbench.store.sqlite import open_store
from hdapbench.testing.store_contract import example_metrics, example_result
from hdapbench.trial import DENSE
from tests import boards
from tests.boards import spec_of, trial

SPEC = spec_of(boards.SPEC)
RESULTS = [
    example_result(trial(method, seed=seed), metrics=example_metrics(latency_ms=9.0 + seed))
    for method, seed in ((DENSE, 0), ("uniform", 0), ("uniform", 1))
]
IDS = [result.trial.id for result in RESULTS]
HERE = Path(".hdapbench/results.db")


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A workspace that holds the example, in an otherwise empty current directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HDAPBENCH_STORE", raising=False)
    with open_store(HERE) as store:
        store.register("example", spec_hash=spec_hash(SPEC), spec_json=canonical_json(SPEC), trial_ids=IDS)
        for result in RESULTS:
            store.add(result)


@pytest.fixture
def team(place: Place) -> str:
    """The other database, as a command line names it."""
    return place.url if isinstance(place, Postgres) else f"sqlite:///{place}"


def out(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    code = main([*words])
    told = capsys.readouterr()
    assert code == 0, told
    return told.out


def test_every_command_reads_the_store_that_is_named_as_it_reads_the_workspace(
    team: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = [
        ["board", "example"],
        ["show"],
        ["show", "example"],
        ["show", IDS[1]],
        ["compare", IDS[1], IDS[2]],
    ]
    before = [out(capsys, *command) for command in commands]
    assert "3 results and 1 specs copied, 0 results were there" in out(capsys, "store", "export", team)
    shutil.rmtree(".hdapbench")

    assert [out(capsys, *command, "--store", team) for command in commands] == before
    monkeypatch.setenv("HDAPBENCH_STORE", team)
    assert [out(capsys, *command) for command in commands] == before
    assert hdapbench.board("example").to_markdown() == before[0]
    monkeypatch.delenv("HDAPBENCH_STORE")
    assert hdapbench.board("example", store=team).to_markdown() == before[0]
    assert hdapbench.results("example", store=team) == RESULTS
    assert not Path(".hdapbench").exists()


def test_everything_is_imported_back(team: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = out(capsys, "board", "example")
    out(capsys, "store", "export", team)
    HERE.unlink()

    said = out(capsys, "store", "import", team)

    assert "3 results and 1 specs copied" in said
    assert out(capsys, "board", "example") == before


def test_check_names_what_is_damaged(team: str, capsys: pytest.CaptureFixture[str]) -> None:
    out(capsys, "store", "export", team)
    assert main(["store", "check", "--store", team]) == 0
    assert "3 results, 1 registered specs, 0 damaged" in capsys.readouterr().err
    from hdapbench.store.place import place_of

    with open_store(place_of(team)) as store:
        store.connection.execute("UPDATE result SET accuracy = 0.5 WHERE trial_id = ?", (IDS[1],))

    assert main(["store", "check", "--store", team]) == 1
    told = capsys.readouterr()
    assert told.out == f"the result of trial {IDS[1]} is damaged; run its spec again, which redoes it\n"
    assert "3 results, 1 registered specs, 1 damaged" in told.err
    assert main(["store", "export", "elsewhere.db", "--store", team]) == 1
    assert "2 results and 1 specs copied" in capsys.readouterr().out


def test_vacuum_says_how_small_the_database_is(team: str, capsys: pytest.CaptureFixture[str]) -> None:
    out(capsys, "store", "export", team)

    assert "MB now" in out(capsys, "store", "vacuum", "--store", team)


def test_a_file_with_a_damaged_page_is_said_to_be_damaged(capsys: pytest.CaptureFixture[str]) -> None:
    with sqlite3.connect(HERE) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'claim_by_owner'").fetchone()
    connection.close()
    content = bytearray(HERE.read_bytes())
    content[(root - 1) * 4096 : root * 4096] = b"\x0a\xff" * 2048
    HERE.write_bytes(content)

    assert main(["store", "check"]) == 1
    assert "the file is damaged: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["import", "nowhere.db"], "there is no database 'nowhere.db'"),
        (["export", str(HERE)], "is the database itself; name another one"),
        (["export", "mysql://ann:hunter2@host/x"], "a store of kind 'mysql' is not known"),
        (["check", "--store", "postgresql://ann:hunter2@127.0.0.1:1/x"], "postgresql://ann:***@127.0.0.1:1/x' cannot"),
    ],
)
def test_what_cannot_be_is_told_in_a_line_without_a_password(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["store", *words]) == 2

    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1
    assert "hunter2" not in told


def test_a_run_goes_on_in_the_store_that_is_named_and_prints_no_password(
    tiny_spec: Path, team: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(".hdapbench")
    words = ["run", str(tiny_spec), "--set", "methods=[uniform]", "--set", "targets=[{flops: 0.5x}]"]
    if team.startswith("postgresql"):
        team = team.replace("team@", "team:hunter2@")  # which this server does not ask for

    assert main([*words, "--limit", "1", "--store", team]) == 0
    first = capsys.readouterr()
    assert main([*words, "--store", team, "--output", "tiny.md"]) == 0
    second = capsys.readouterr()

    assert "1 of 2 trials are done and skipped" in second.err
    assert not HERE.exists()
    assert json.loads(out(capsys, "show", "--json", "--store", team)) == ["tiny"]
    out(capsys, "store", "export", "copy.db", "--store", team)
    stored = [path for path in Path().rglob("*") if path.is_file() and b"hunter2" in path.read_bytes()]
    assert stored == []
    assert "hunter2" not in f"{first}{second}"
