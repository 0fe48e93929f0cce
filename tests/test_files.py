from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hdapbench.cli.main import main
from hdapbench.errors import DataError
from hdapbench.files import expand_path, process_mark, replacing, sweep_leftovers


def test_variables_defaults_and_the_home_folder_are_filled_in(monkeypatch):
    monkeypatch.setenv("SETS", "/sets")
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.delenv("ABSENT", raising=False)

    assert expand_path("${SETS}/cifar10") == Path("/sets/cifar10")
    assert expand_path("~/sets") == Path("/home/ada/sets")
    assert expand_path("${ABSENT:-~/sets}/tiny") == Path("/home/ada/sets/tiny")
    assert expand_path("${EMPTY:-../sets}") == Path("../sets")


def test_a_variable_that_is_not_set_is_named(monkeypatch):
    monkeypatch.delenv("ABSENT", raising=False)

    with pytest.raises(DataError, match=r"'\$\{ABSENT\}/cifar10'.*ABSENT is not set"):
        expand_path("${ABSENT}/cifar10")


@pytest.mark.parametrize(
    ("name", "path", "advice"),
    [
        ("imagefolder", "${SETS}/absent", "expected train/<class>/*.jpg"),
        ("cifar10", "~/absent", "cifar-10-python.tar.gz"),
        ("tiny-imagenet", "absent", "tiny-imagenet-200.zip"),
        ("imagenet", "absent", "image-net.org"),
        ("speech-commands", "absent", "speech_commands_v0.02.tar.gz"),
    ],
)
def test_a_missing_set_ends_a_run_with_one_line(tiny_spec, tmp_path, monkeypatch, capsys, name, path, advice):
    monkeypatch.setenv("SETS", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    shape = "[1, 49, 10]" if name == "speech-commands" else "[3, 32, 32]"
    text = tiny_spec.read_text().replace("{name: digits}", f'{{name: {name}, path: "{path}"}}')
    tiny_spec.write_text(text.replace("[1, 8, 8]", shape))

    code = main(["run", str(tiny_spec), "--workspace", str(tmp_path / "work"), "--quiet"])

    printed = capsys.readouterr().err
    assert code == 2
    assert "absent" in printed
    assert advice in printed
    assert "Traceback" not in printed


def test_a_link_is_written_through_and_what_is_no_file_is_written_to(tmp_path):
    (tmp_path / "board.md").write_text("old")
    (tmp_path / "link.md").symlink_to(tmp_path / "board.md")
    for path in (tmp_path / "link.md", Path(os.devnull)):
        with replacing(path) as partial:
            partial.write_text("new")

    assert (tmp_path / "board.md").read_text() == "new"
    assert (tmp_path / "link.md").is_symlink()
    assert not Path(os.devnull).is_file()


def test_what_dead_processes_left_behind_is_swept_and_what_others_write_stays(tmp_path):
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    mark = process_mark().replace(str(os.getpid()), dead.stdout.strip())
    kept = [f"{process_mark()}live.pt", f".{dead.stdout.strip()}@ffffff-of-another-host.pt", "base.pt", "a.partial-new"]
    swept = [f"{mark}base.pt", f".{dead.stdout.strip()}-state.pt", "key.partial-old"]
    for name in (*kept, *swept):
        (tmp_path / "inner").mkdir(exist_ok=True)
        (tmp_path / "inner" / name).write_text("")
    (tmp_path / "inner" / f"{mark}folder").mkdir()
    os.utime(tmp_path / "inner" / "key.partial-old", (0, 0))

    assert sweep_leftovers(tmp_path) == 4
    assert {path.name for path in (tmp_path / "inner").iterdir()} == set(kept)
