from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from hdapbench.errors import StoreError
from hdapbench.store import sqlite_file
from hdapbench.store.network_folder import network_folder_kind
from hdapbench.store.sqlite import open_store
from hdapbench.testing.store_contract import example_result

MOUNTS = """\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
31 27 0:28 / /home rw,relatime shared:5 - nfs4 server:/home rw,vers=4.2
32 31 0:29 / /home/ann/my\\040disk rw,relatime - ext4 /dev/vdb rw
33 27 0:30 / /mnt/share rw - cifs //server/share rw
34 27 0:31 / /mnt/ssh rw - fuse.sshfs ann@server: rw
35 27 0:32 / /twice rw - nfs server:/x rw
36 27 0:33 / /twice rw - tmpfs none rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/srv/results.db", None),
        ("/home/ann/.hdapbench/results.db", "nfs4"),
        ("/home/ann/my disk/results.db", None),
        ("/homely/results.db", None),
        ("/mnt/share/results.db", "cifs"),
        ("/mnt/ssh/a/b/results.db", "fuse.sshfs"),
        ("/twice/results.db", None),
    ],
)
def test_a_folder_of_the_network_is_known_by_what_is_mounted_there(tmp_path: Path, path: str, kind: str | None) -> None:
    (tmp_path / "mountinfo").write_text(MOUNTS)

    assert network_folder_kind(Path(path), tmp_path / "mountinfo") == kind


def test_a_system_that_does_not_tell_its_mounts_has_folders_of_its_own(tmp_path: Path) -> None:
    assert network_folder_kind(tmp_path, tmp_path / "absent") is None


def journal(path: Path) -> str:
    connection = sqlite3.connect(path)
    (found,) = connection.execute("PRAGMA journal_mode").fetchone()
    connection.close()
    return str(found)


def test_a_database_in_a_network_folder_keeps_no_journal_in_shared_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, result = tmp_path / "results.db", example_result()
    with open_store(path) as store:
        store.add(result)
    assert journal(path) == "wal"

    monkeypatch.setattr(sqlite_file, "network_folder_kind", lambda _: "nfs4")
    with open_store(path) as store:
        assert store.get(result.trial.id) == result
        store.add(result)
        assert not path.with_name("results.db-wal").exists()

    assert journal(path) == "delete"


def test_a_database_that_another_run_has_open_on_shared_memory_is_refused_in_a_network_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "results.db"
    with open_store(path) as store:
        store.add(example_result())
        monkeypatch.setattr(sqlite_file, "network_folder_kind", lambda _: "nfs4")
        monkeypatch.setattr(sqlite_file, "BUSY_SECONDS", 0.1)

        with pytest.raises(StoreError, match=r"network folder \(nfs4\).*--store postgresql"), open_store(path):
            pass
