from __future__ import annotations

import pickle
import threading
import traceback
from pathlib import Path

import pytest

from hdapbench.errors import StoreError
from hdapbench.store.checksums import result_checksums
from hdapbench.store.migrations import MIGRATIONS
from hdapbench.store.place import Place, Postgres, place_of
from hdapbench.store.sqlite import open_store
from hdapbench.testing.store_contract import example_gap, example_result, example_trial
from hdapbench.trial import Status

psycopg = pytest.importorskip("psycopg", reason="the extra postgres is not installed")


@pytest.fixture
def team(postgres: str) -> Postgres:
    from tests.postgres import empty_schema

    return Postgres(empty_schema(postgres))


def execute(place: Postgres, *statements: str) -> None:
    with psycopg.connect(place.plain_url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def test_results_in_postgresql_survive_closing_and_opening_again(team: Postgres) -> None:
    result = example_result()
    with open_store(team) as store:
        store.add(result)

    with open_store(team) as store:
        assert store.get(result.trial.id) == result


def test_a_newer_schema_in_postgresql_is_refused_with_the_command_that_upgrades(team: Postgres) -> None:
    with open_store(team):
        pass
    execute(team, "UPDATE hdapbench_schema SET version = 999")

    with (
        pytest.raises(StoreError, match=r"newer hdapbench \(schema 999.*pip install --upgrade hdapbench"),
        open_store(team),
    ):
        pass


@pytest.mark.parametrize("version", range(1, len(MIGRATIONS)))
def test_an_older_schema_in_postgresql_is_migrated_and_keeps_its_results(
    team: Postgres, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    result = example_result()
    newest = MIGRATIONS[version:]
    del MIGRATIONS[version:]
    try:
        with open_store(team) as store:
            store._connection.execute(
                "INSERT INTO result (trial_id, benchmark, method, fleet, seed, status, accuracy, latency_ms, content)"
                " VALUES (?, 'example', 'uniform', 'nx', 0, 'complete', 0.9, 10.0, ?)",
                (result.trial.id, result.model_dump_json(exclude={"devices"})),
            )
    finally:
        MIGRATIONS.extend(newest)

    with open_store(team) as store:
        assert store._connection.execute("SELECT version FROM hdapbench_schema").fetchone() == (len(MIGRATIONS),)
        if version == 1:  # there were no checksums: what is there is taken as it is
            assert store.get(result.trial.id) == result.model_copy(update={"devices": ()})
        else:
            assert store.damaged([result.trial.id]) == (result.trial.id,)


def test_tables_of_another_program_in_postgresql_are_left_alone(team: Postgres) -> None:
    execute(team, "CREATE TABLE result (x INTEGER)")

    with pytest.raises(StoreError, match="tables of another program; choose another database"), open_store(team):
        pass


def test_many_who_open_a_new_database_of_postgresql_at_once_all_succeed(team: Postgres) -> None:
    problems: list[Exception] = []

    def open_it() -> None:
        try:
            with open_store(team) as store:
                store.add(example_result())
        except StoreError as error:
            problems.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert problems == []


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE result SET content = replace(content, '0.9', '0.8')",
        "UPDATE result SET accuracy = 0.5",
        "UPDATE device_latency SET latency_ms = latency_ms / 2 WHERE run = 0",
        "DELETE FROM device_latency WHERE run = 1",
        "UPDATE brief SET content = '[]', samples = ''; UPDATE result SET seed = 3",
    ],
)
def test_a_damaged_row_in_postgresql_means_what_it_does_in_a_file(team: Postgres, damage: str) -> None:
    result, other = example_result(), example_result(example_trial(seed=1))
    ids = [result.trial.id, other.trial.id]
    with open_store(team) as store:
        store.add(result)
        execute(team, *damage.split(";"))
        store.add(other)

        assert store.damaged(ids) == (result.trial.id,)
        with pytest.raises(StoreError, match=rf"results of 1 trials are damaged: {result.trial.id}; run their spec"):
            store.results(trial_ids=ids)
        store.add(result)
        assert store.results(trial_ids=ids) == [result, other]


@pytest.mark.parametrize("weight", [2.0, float("nan")])
def test_the_tables_of_postgresql_refuse_impossible_values_too(team: Postgres, weight: float) -> None:
    result = example_result()
    impossible = result.devices[0].model_copy(update={"weight": weight})
    with open_store(team) as store:
        store.add(result)

        with pytest.raises(StoreError, match=rf"the result of uniform .*{result.trial.id}.* cannot be stored"):
            store.add(result.model_copy(update={"devices": (impossible,)}))

        assert store.get(result.trial.id) == result


def test_both_databases_hold_a_result_under_the_same_checksum(team: Postgres, tmp_path: Path) -> None:
    results = [
        example_result(notes={"name": "é\u2028"}),
        example_gap(example_trial(seed=-1), status=Status.TIMEOUT, reason="zero \0 byte, \U0001f600"),
    ]
    found = []
    for place in (team, tmp_path / "results.db"):
        with open_store(place) as store:
            for result in results:
                store.add(result)
            found.append(result_checksums(store.connection, [result.trial.id for result in results]))
            assert store.get(results[0].trial.id) == results[0]

    assert found[0] == found[1]


SECRET = "hunter2-x%40y"  # noqa: S105 - nobody's


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql+psycopg://ann:{SECRET}@127.0.0.1:1/results",
        f"postgresql://ann:{SECRET}@127.0.0.1:port/results",
        f"postgresql://ann:{SECRET}@127.0.0.1:1/results?no_such=1",
        f"postgresql://127.0.0.1:1/results?user=ann&password={SECRET}",
        f"postgresql+psycopg2://ann:{SECRET}@host/results",
        f"mysql://ann:{SECRET}@host/results",
    ],
)
def test_no_error_tells_a_password(url: str) -> None:
    with pytest.raises(StoreError) as caught, open_store(place_of(url)):
        pass

    told = "".join(traceback.format_exception(caught.value))
    assert "hunter2" not in told
    assert "\n" not in str(caught.value)


def test_a_place_as_text_has_no_password_and_still_opens_in_another_process() -> None:
    place = place_of(f"postgresql+psycopg://ann:{SECRET}@host/results?sslmode=require")

    assert str(place) == repr(place) == "postgresql+psycopg://ann:***@host/results?sslmode=require"
    assert pickle.loads(pickle.dumps(place)) == place  # noqa: S301 - of this test
    assert f"{[place]}" == f"[{place}]"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("results/team.db", Path("results/team.db")),
        ("sqlite:///results/team.db", Path("results/team.db")),
        ("sqlite:////srv/team.db", Path("/srv/team.db")),
        ("C:\\results.db", Path("C:\\results.db")),
        ("postgres://host/results", Postgres("postgres://host/results")),
    ],
)
def test_a_store_is_named_by_a_path_or_a_url(text: str, place: Place) -> None:
    assert place_of(text) == place
