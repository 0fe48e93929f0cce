from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from hdapbench.errors import StoreError
from hdapbench.store.brief import brief_of
from hdapbench.store.checksums import result_checksum
from hdapbench.store.migrations import MIGRATIONS, migrate
from hdapbench.store.place import Place
from hdapbench.store.sqlite import Store, open_store
from hdapbench.testing.store_contract import StoreContract, example_gap, example_metrics, example_result, example_trial
from hdapbench.trial import DENSE, BitMetrics, Outcomes, Result, Status


class TestStore(StoreContract):
    @pytest.fixture
    def store(self, place: Place) -> Iterator[Store]:
        with open_store(place) as opened:
            yield opened


def test_results_survive_closing_and_opening_again(tmp_path: Path) -> None:
    result = example_result()
    with open_store(tmp_path / "new" / "folder" / "results.db") as store:
        store.add(result)

    with open_store(tmp_path / "new" / "folder" / "results.db") as store:
        assert store.get(result.trial.id) == result


def test_an_empty_database_says_to_run_a_spec_first(tmp_path: Path) -> None:
    with open_store(tmp_path / "results.db") as store:
        assert store.benchmarks() == ()
        with pytest.raises(StoreError, match="the database is empty, run a spec first"):
            store.benchmark("quickstart")


def test_a_dense_result_keeps_that_it_has_no_target(tmp_path: Path) -> None:
    result = example_result(example_trial(DENSE))
    with open_store(tmp_path / "results.db") as store:
        store.add(result)

        assert store.get(result.trial.id).trial.target is None
    with sqlite3.connect(tmp_path / "results.db") as connection:
        assert connection.execute("SELECT target FROM result").fetchone() == (None,)


def test_the_raw_repeats_lie_in_a_table_of_their_own(tmp_path: Path) -> None:
    with open_store(tmp_path / "results.db") as store:
        store.add(example_result())

    connection = sqlite3.connect(tmp_path / "results.db")
    rows = connection.execute("SELECT device, cluster, weight, run, latency_ms FROM device_latency ORDER BY 1, 4")
    assert rows.fetchall()[:2] == [("nx-003", 0, 0.75, 0, 9.5), ("nx-003", 0, 0.75, 1, 9.25)]
    assert connection.execute("SELECT instr(content, 'samples_ms') FROM result").fetchone() == (0,)
    connection.close()


def test_a_new_database_has_the_newest_schema_in_strict_tables_and_wal_mode(tmp_path: Path) -> None:
    with open_store(tmp_path / "results.db"):
        pass

    connection = sqlite3.connect(tmp_path / "results.db")
    tables = connection.execute(
        "SELECT name, strict FROM pragma_table_list WHERE schema = 'main' AND name NOT LIKE 's%'"
    )
    assert set(tables) == {
        (name, 1) for name in ("benchmark", "benchmark_trial", "result", "device_latency", "brief", "claim")
    }
    assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_a_database_of_an_older_version_is_migrated_and_keeps_its_results(tmp_path: Path) -> None:
    result = example_result()
    with open_store(tmp_path / "results.db") as store:
        store.add(result)

    def m_next(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE extra (x INTEGER) STRICT")

    MIGRATIONS.append(m_next)
    try:
        with open_store(tmp_path / "results.db") as store:
            assert store.get(result.trial.id) == result
            assert store._connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
            assert store._connection.execute("SELECT count(*) FROM extra").fetchone() == (0,)
    finally:
        MIGRATIONS.pop()


def test_a_migration_that_fails_leaves_the_old_schema_whole(tmp_path: Path) -> None:
    def m_broken(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE half_done (x INTEGER)")
        connection.execute("this is no SQL")

    connection = sqlite3.connect(tmp_path / "results.db")
    migrate(connection)
    version = connection.execute("PRAGMA user_version").fetchone()
    MIGRATIONS.append(m_broken)
    try:
        with pytest.raises(sqlite3.OperationalError):
            migrate(connection)
    finally:
        MIGRATIONS.pop()

    assert connection.execute("PRAGMA user_version").fetchone() == version
    assert connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'half_done'").fetchone() == (0,)
    connection.close()


def test_every_migration_is_numbered_in_its_place_and_says_what_it_does() -> None:
    for number, step in enumerate(MIGRATIONS, start=1):
        assert step.__name__.startswith(f"m{number:03}_")
        assert step.__doc__


def test_a_newer_schema_is_refused_with_the_command_that_upgrades(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "results.db")
    connection.execute("PRAGMA user_version = 999")
    connection.close()

    with (
        pytest.raises(StoreError, match=r"newer hdapbench \(schema 999.*pip install --upgrade hdapbench"),
        open_store(tmp_path / "results.db"),
    ):
        pass


def test_a_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "other.db")
    connection.execute("CREATE TABLE bookmarks (url TEXT)")
    connection.close()
    before = (tmp_path / "other.db").read_bytes()

    with pytest.raises(StoreError, match="of another program"), open_store(tmp_path / "other.db"):
        pass

    assert (tmp_path / "other.db").read_bytes() == before


def test_a_file_that_is_no_database_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "results.db").write_bytes(b"\x89PNG not a database at all" * 100)

    with pytest.raises(StoreError, match="is not a results database") as caught, open_store(tmp_path / "results.db"):
        pass

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", ["", "file.txt/results.db"])
def test_a_path_that_cannot_hold_a_file_is_refused(tmp_path: Path, path: str) -> None:
    (tmp_path / "file.txt").write_text("")

    with pytest.raises(StoreError, match="cannot be opened"), open_store(tmp_path / path):
        pass


def test_a_schema_that_is_no_text_is_a_store_error(tmp_path: Path) -> None:
    path = tmp_path / "results.db"
    with open_store(path):
        pass
    content = path.read_bytes()
    path.write_bytes(
        content.replace(b"CREATE TABLE benchmark (", b"CREATE TABLE \xc1\xc1\xc1\xc1\xc1\xc1\xc1\xc1\xc1 (", 1)
    )

    with pytest.raises(StoreError, match=r"results\.db' is not a results database, or is damaged"), open_store(path):
        pass


def test_damage_found_later_is_a_store_error_too(tmp_path: Path) -> None:
    with open_store(tmp_path / "results.db") as store:
        for seed in range(30):
            store.add(example_result(example_trial(seed=seed)))
    content = bytearray((tmp_path / "results.db").read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)  # everything behind the page that holds the schema
    (tmp_path / "results.db").write_bytes(content)

    with pytest.raises(StoreError, match="damaged"), open_store(tmp_path / "results.db") as store:
        store.finished(["0123456789ab"])


@pytest.mark.parametrize(
    ("table", "change"),
    [
        ("result", "accuracy = 1.5"),
        ("result", "latency_ms = 0"),
        ("result", "latency_ms = 9e999"),
        ("result", "content = 'no json'"),
        ("result", "status = 'failed', reason = NULL"),
        ("result", "seed = 'seven'"),
        ("device_latency", "latency_ms = 9e999"),
        ("device_latency", "latency_ms = NULL"),  # how SQLite stores a NaN
        ("device_latency", "weight = 2.0"),
        ("device_latency", "trial_id = 'unknown'"),
    ],
)
def test_the_tables_themselves_refuse_impossible_values(tmp_path: Path, table: str, change: str) -> None:
    with open_store(tmp_path / "results.db") as store:
        store.add(example_result())

        with pytest.raises(sqlite3.IntegrityError):
            store._connection.execute(f"UPDATE {table} SET {change}")  # noqa: S608 - from the list above


def test_a_result_that_is_refused_leaves_the_earlier_one_in_place(tmp_path: Path) -> None:
    result = example_result()
    impossible = result.devices[0].model_copy(update={"weight": 2.0})
    with open_store(tmp_path / "results.db") as store:
        store.add(result)

        with pytest.raises(StoreError, match=rf"the result of uniform .*{result.trial.id}.* cannot be stored"):
            store.add(result.model_copy(update={"devices": (result.devices[1], impossible)}))

        assert store.get(result.trial.id) == result


def test_many_who_open_a_new_database_at_once_all_succeed(tmp_path: Path) -> None:
    n_threads, n_databases = 6, 15
    barrier = threading.Barrier(n_threads)
    problems: list[Exception] = []

    def open_all() -> None:
        for number in range(n_databases):
            barrier.wait(timeout=600)
            try:
                with open_store(tmp_path / f"{number}.db") as store:
                    store.benchmarks()
            except StoreError as error:
                problems.append(error)

    threads = [threading.Thread(target=open_all) for _ in range(n_threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert problems == []


def _add_many(path: Path, method: str, n_results: int) -> None:
    with open_store(path) as store:
        for seed in range(n_results):
            store.add(example_result(example_trial(method, seed=seed)))


def test_two_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "results.db"

    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        writers = [pool.submit(_add_many, path, method, 60) for method in ("uniform", "random")]
        for writer in writers:
            writer.result(timeout=600)

    ids = [example_trial(method, seed=seed).id for method in ("uniform", "random") for seed in range(60)]
    with open_store(path) as store:
        assert list(store.finished(ids).values()) == [Status.COMPLETE] * 120
        assert all(len(result.devices) == 2 for result in store.results(trial_ids=ids))


def _die_in_the_middle_of_the_third_result(path: Path) -> None:
    with open_store(path) as store:
        store.add(example_result(example_trial(seed=0)))
        store.add(example_gap(example_trial(seed=1), status=Status.SKIPPED))

        def kill_before_the_latencies(statement: str) -> None:
            if "INTO device_latency" in statement:
                os.kill(os.getpid(), signal.SIGKILL)

        store._connection.set_trace_callback(kill_before_the_latencies)
        store.add(example_result(example_trial(seed=2)))


def test_kill_9_in_mid_write_loses_that_result_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "results.db"
    ids = [example_trial(seed=seed).id for seed in range(3)]
    writer = multiprocessing.get_context("spawn").Process(target=_die_in_the_middle_of_the_third_result, args=(path,))

    writer.start()
    writer.join(timeout=600)

    assert writer.exitcode == -signal.SIGKILL
    with open_store(path) as store:
        assert store.finished(ids) == {ids[0]: Status.COMPLETE, ids[1]: Status.SKIPPED}
        store.add(example_result(example_trial(seed=2), metrics=example_metrics(latency_ms=7.0)))
        assert len(store.finished(ids)) == 3


DAMAGE = [
    "UPDATE result SET content = replace(content, '0.9', '0.8')",
    "UPDATE result SET accuracy = 0.5",
    "UPDATE device_latency SET latency_ms = latency_ms / 2 WHERE run = 0",
    "DELETE FROM device_latency WHERE run = 1",
    "UPDATE result SET reason = CAST(x'ff' AS TEXT)",
]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_row_is_named_is_not_finished_and_is_replaced_by_the_next_result(tmp_path: Path, damage: str) -> None:
    result, other = example_result(), example_result(example_trial(seed=1))
    ids = [result.trial.id, other.trial.id]
    with open_store(tmp_path / "results.db") as store:
        store.add(result)
        store._connection.execute(damage)
        store._connection.commit()
        store.add(other)

        assert store.damaged(ids) == (result.trial.id,)
        assert list(store.finished(ids, include_failed=True)) == [other.trial.id]
        with pytest.raises(StoreError, match=rf"results of 1 trials are damaged: {result.trial.id}; run their spec"):
            store.results(trial_ids=ids)
        store.add(example_gap(result.trial))
        assert store.get(result.trial.id).status is Status.FAILED
        store.add(result)
        assert store.results(trial_ids=ids) == [result, other]


def test_a_damaged_spec_is_one_error_until_it_is_registered_again(tmp_path: Path) -> None:
    with open_store(tmp_path / "results.db") as store:
        store.register("b", spec_hash="1" * 16, spec_json='{"seeds": [0]}', trial_ids=["x", "y"])
        store._connection.execute("UPDATE benchmark_trial SET trial_id = 'z' WHERE position = 1")
        store._connection.commit()

        with pytest.raises(StoreError, match="benchmark 'b' is damaged; run its spec again"):
            store.benchmark("b")
        store.register("b", spec_hash="1" * 16, spec_json='{"seeds": [0]}', trial_ids=["x", "y"])
        assert store.benchmark("b").trial_ids == ("x", "y")


@pytest.mark.parametrize("status", [Status.FAILED, Status.TIMEOUT])
def test_a_failure_never_takes_the_place_of_what_is_done(tmp_path: Path, status: Status) -> None:
    result = example_result()
    with open_store(tmp_path / "results.db") as store:
        store.add(result)
        store.add(example_gap(result.trial, status=status))

        assert store.get(result.trial.id) == result


def test_a_result_with_a_field_of_a_newer_version_says_to_upgrade(tmp_path: Path) -> None:
    result = example_result()
    with open_store(tmp_path / "results.db") as store:
        store.add(result)
        connection = store._connection
        connection.execute("UPDATE result SET content = json_set(content, '$.carbon', 1)")
        connection.execute("UPDATE result SET checksum = ?", (result_checksum(connection, result.trial.id),))

        with pytest.raises(StoreError, match=r"newer hdapbench \(carbon: .*pip install --upgrade hdapbench"):
            store.get(result.trial.id)


def test_the_spec_of_a_hash_is_found_whatever_was_registered_later(tmp_path: Path) -> None:
    with open_store(tmp_path / "results.db") as store:
        store.register("b", spec_hash="1" * 16, spec_json="{}", trial_ids=["old"])
        store.register("b", spec_hash="2" * 16, spec_json="{}", trial_ids=["new"])

        assert store.benchmark("b", spec_hash="1" * 16).trial_ids == ("old",)
        assert store.benchmark("b", spec_hash="3" * 16).trial_ids == ("new",)


def bit_result() -> Result:
    bits = BitMetrics(
        weight_bytes=1000.5, packed_bytes=1200, bit_operations=1e6, mpic_cycles=None, ne16_cycles=1e5,
        channels_at_bits={2: 8, 8: 16}, integer_accuracy=0.9, argmax_differences=1, n_compared=360,
    )  # fmt: skip
    result = example_result(example_trial(seed=7, parameters={"preset": "\u00e9", "steps": 3}))
    metrics = example_metrics().model_copy(update={"bits": bits, "target_share": 0.97})
    outcomes = Outcomes(n_images=60, parts=(0.25, 1 / 3))
    return result.model_copy(update={"metrics": metrics, "outcomes": outcomes})


@pytest.mark.parametrize("lost", ["SELECT 1", "DELETE FROM brief", "UPDATE brief SET content = CAST(x'ff' AS TEXT)"])
def test_what_boards_take_of_results_is_that_of_the_results_themselves(tmp_path: Path, lost: str) -> None:
    """Whether it was stored with them, is not there yet, as in databases of before, or is damaged."""
    dense = example_result(example_trial(DENSE), notes={"n_classes": 10, "fleet": {"sku": "nano"}})
    right = example_result().model_copy(update={"outcomes": Outcomes.of_images(np.arange(359) % 3 > 0)})
    stored = [dense, right, bit_result(), example_gap(example_trial(seed=9))]
    ids = [result.trial.id for result in stored]
    with open_store(tmp_path / "results.db") as store:
        for result in stored:
            store.add(result)
        store._connection.execute(lost)

        for _ in range(2):
            assert store.briefs(trial_ids=[*ids, "unknown"]) == [brief_of(result) for result in stored]
        store.remove(ids[:1], [])
        assert [brief.id for brief in store.briefs(trial_ids=ids)] == ids[1:]
