from __future__ import annotations

import os
import platform
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from hdapbench.errors import SpecError
from hdapbench.files import file_hash
from hdapbench.fleet.simulated.profile import known_skus
from hdapbench.method.registry import MethodRegistry
from hdapbench.run import contents
from hdapbench.run.changes import changes
from hdapbench.run.contents import images_hash
from hdapbench.run.grid import named_by_content, plan_trials
from hdapbench.spec import load, spec_hash
from hdapbench.testing.store_contract import example_result

ROOT = Path(__file__).parents[2]
NANO = (ROOT / "hdapbench/fleet/simulated/skus/nano.yaml").read_text()
NET = (
    "from torch import nn\nfrom helper import WIDTH\n\ndef build(n_classes):\n    return nn.Linear(WIDTH, n_classes)\n"
)


def ids(spec: Path, *overrides: str, cache_dir: Path | None = None) -> list[str]:
    return [trial.id for trial in plan_trials(load(str(spec), overrides), MethodRegistry(), cache_dir=cache_dir)]


def all_differ(first: list[str], second: list[str]) -> bool:
    return len(first) == len(second) and not set(first) & set(second)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def model_of(spec: Path, name: str) -> list[str]:
    return ids(spec, f"model.name={name}")


def test_ids_follow_the_model_s_file_and_what_it_imports_from_beside_it_and_nothing_else(tiny_spec: Path) -> None:
    folder = tiny_spec.parent
    write(folder / "net.py", NET)
    write(folder / "helper.py", "from parts import one\nWIDTH = one.W\n")
    write(folder / "parts" / "__init__.py", "")
    write(folder / "parts" / "one.py", "def late():\n    from . import two\nW = 4\n")
    write(folder / "parts" / "two.py", "X = 1\n")
    write(folder / "other.py", "Y = 1\n")
    found = [model_of(tiny_spec, "./net.py:build")]

    write(folder / "other.py", "Y = 2\n")
    assert model_of(tiny_spec, "./net.py:build") == found[0]
    for file in ("net.py", "helper.py", "parts/__init__.py", "parts/one.py", "parts/two.py"):
        (folder / file).write_text((folder / file).read_text() + "# edited\n")
        found.append(model_of(tiny_spec, "./net.py:build"))

    assert all(all_differ(a, b) for n, a in enumerate(found) for b in found[:n])


def test_ids_follow_a_model_of_a_module_on_the_path(tiny_spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tiny_spec.parent / "elsewhere"
    monkeypatch.syspath_prepend(root)
    write(root / "my_nets" / "__init__.py", "")
    write(root / "my_nets" / "small.py", "from .base import build\n")
    write(root / "my_nets" / "base.py", "def build(n_classes): ...\n")
    before = model_of(tiny_spec, "my_nets.small:build")

    write(root / "my_nets" / "base.py", "def build(n_classes, width=2): ...\n")

    assert all_differ(before, model_of(tiny_spec, "my_nets.small:build"))
    assert "my_nets" not in sys.modules


def test_ids_follow_an_ultralytics_yaml_of_the_user_s(tiny_spec: Path) -> None:
    write(tiny_spec.parent / "mine.yaml", "nc: 2\n")
    before = model_of(tiny_spec, "ultralytics:./mine.yaml")

    write(tiny_spec.parent / "mine.yaml", "nc: 3\n")

    assert all_differ(before, model_of(tiny_spec, "ultralytics:./mine.yaml"))


def test_a_sku_s_file_counts_by_content_wherever_it_lies_and_paths_start_from_the_spec(
    tiny_spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    mine = write(tiny_spec.parent / "boards" / "mine.yaml", NANO)
    before = ids(tiny_spec, "fleets[0].sku=boards/mine.yaml")
    other = write(tmp_path / "other" / "board.yml", NANO)

    assert ids(tiny_spec, f"fleets[0].sku={other}") == before
    write(mine, NANO.replace("launch_us: ", "launch_us: 1"))
    assert mine.read_text() != NANO
    assert all_differ(before, ids(tiny_spec, "fleets[0].sku=boards/mine.yaml"))
    assert known_skus() == ("nano", "xavier_nx")


def test_a_recording_counts_by_content_and_so_does_the_spec_that_names_it(tiny_spec: Path) -> None:
    recorded = ["fleets=[{name: r, kind: recorded, path: latencies.csv}]"]
    table = write(tiny_spec.parent / "latencies.csv", "device,plan,latency_ms\na,p,1\n")
    before, named = ids(tiny_spec, *recorded), spec_hash(named_by_content(load(str(tiny_spec), recorded)))

    write(table, "device,plan,latency_ms\na,p,2\n")

    assert all_differ(before, ids(tiny_spec, *recorded))
    assert spec_hash(named_by_content(load(str(tiny_spec), recorded))) != named


@pytest.mark.parametrize(
    "fleet",
    [
        "{name: r, kind: recorded, path: absent.csv}",
        "{name: r, kind: simulated, sku: absent.yaml, scenario: mixed, n_devices: 2}",
    ],
)
def test_a_fleet_s_file_that_is_not_there_is_a_located_problem_of_the_spec(tiny_spec: Path, fleet: str) -> None:
    text = tiny_spec.read_text()
    start = text.index("  - {name: six")
    tiny_spec.write_text(f"{text[:start]}  - {fleet}\n{text[text.index('targets') :]}")

    with pytest.raises(SpecError, match=r"tiny.yaml:8:\d+ fleets\[0\]\.(sku|path): there is no file '.*absent"):
        ids(tiny_spec)


@pytest.fixture
def images(tiny_spec: Path) -> Path:
    """Two classes in two splits beside the spec."""
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            write(tiny_spec.parent / "pets" / split / name / "1.png", f"{split} {name}")
    return tiny_spec.parent / "pets"


def with_images(spec: Path, path: str = "pets", name: str = "imagefolder", **options: Any) -> list[str]:
    return ids(spec, f"data={{name: {name}, path: {path}}}", **options)


def test_ids_follow_the_content_of_images_and_not_their_times(tiny_spec: Path, images: Path) -> None:
    before = with_images(tiny_spec)

    os.utime(images / "train" / "cat" / "1.png", (1, 1))
    write(images / "notes.txt", "no image of the set")
    assert with_images(tiny_spec) == before
    write(images / "train" / "cat" / "1.png", "train cow")

    assert all_differ(before, with_images(tiny_spec))


def test_images_behind_links_count_as_those_in_the_folder(tiny_spec: Path, images: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (images / "train" / "cat").rename(outside)
    (images / "train" / "cat").symlink_to(outside)
    (images / "train" / "dog" / "round").symlink_to(images / "train")
    (images / "test" / "dog" / "2.png").symlink_to(tmp_path / "nothing")
    before = with_images(tiny_spec)

    write(outside / "1.png", "train cow")

    assert all_differ(before, with_images(tiny_spec))


def test_an_archive_counts_by_content(tiny_spec: Path, images: Path) -> None:
    with tarfile.open(images.parent / "pets.tar", "w") as tar:
        tar.add(images, arcname="pets")
    before = with_images(tiny_spec, "pets.tar")

    with tarfile.open(images.parent / "pets.tar", "a") as tar:
        tar.add(images, arcname="more")

    assert all_differ(before, with_images(tiny_spec, "pets.tar"))


@pytest.mark.parametrize("entry", ["images/train", "../images/train", "list.txt"])
def test_labels_of_boxes_count_as_their_images_do(tmp_path: Path, entry: str) -> None:
    folder = tmp_path / "set"
    source = write(folder / "data.yaml", f"train: {entry}\nval: images/val\nnames: [a]\n")
    write(folder / "list.txt", "./images/train/1.jpg\n")
    for split in ("train", "val"):
        write(folder / "images" / split / "1.jpg", split)
        write(folder / "labels" / split / "1.txt", "0 .5 .5 .1 .1\n")
    before = [images_hash("yolo", place) for place in (source, folder)]
    write(folder / "results" / "notes.txt", "beside the set")
    assert [images_hash("yolo", place) for place in (source, folder)] == before

    write(folder / "labels" / "train" / "1.txt", "1 .5 .5 .1 .1\n")

    assert not set(before) & {images_hash("yolo", place) for place in (source, folder)}


def test_images_are_read_once_until_they_change_and_a_damaged_note_is_made_again(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    hashed = contents.file_hash
    monkeypatch.setattr(contents, "file_hash", lambda path: (read.append(path), hashed(path))[1])
    found = [images_hash("imagefolder", images, cache_dir=tmp_path / "cache") for _ in range(2)]
    assert len(read) == 4

    (note,) = (tmp_path / "cache" / "contents").iterdir()
    note.write_text('"3f')
    found.append(images_hash("imagefolder", images, cache_dir=tmp_path / "cache"))

    assert len(read) == 8
    assert len(set(found)) == 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes among files on this system")
@pytest.mark.timeout(300)
def test_pipes_and_devices_among_images_are_not_read(images: Path) -> None:
    before = images_hash("imagefolder", images)
    folder = next(path.parent for path in images.rglob("*.png"))
    os.mkfifo(folder / "odd.png")
    (folder / "endless.png").symlink_to("/dev/zero")

    found = images_hash("imagefolder", images)

    assert found not in (None, before)
    with pytest.raises(OSError, match="not a plain file"):
        file_hash(folder / "endless.png")


def test_a_workspace_inside_the_images_is_no_image(tmp_path: Path) -> None:
    write(tmp_path / "cifar-10-batches-py" / "data_batch_1", "x")
    before = images_hash("cifar10", tmp_path)

    write(tmp_path / "ws" / "results.db", "")
    write(tmp_path / ".hdapbench" / "cache" / "x.npy", "")

    assert images_hash("cifar10", tmp_path) == before


def test_a_local_fleet_s_ids_are_those_of_its_host(tiny_spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    local = "fleets=[{name: here, kind: local, devices: [{name: one}]}]"
    before, simulated = ids(tiny_spec, local), ids(tiny_spec)

    monkeypatch.setattr(platform, "node", lambda: "another-host")

    assert all_differ(before, ids(tiny_spec, local))
    assert ids(tiny_spec) == simulated


def test_a_change_of_how_the_program_computes_changes_all_ids(tiny_spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = ids(tiny_spec)

    monkeypatch.setattr("hdapbench.run.grid.NUMBERS", 7)

    assert all_differ(before, ids(tiny_spec))


def test_code_of_other_packages_counts_and_that_which_ships_does_not(installed: Path) -> None:
    before = MethodRegistry().code("leading")
    assert before is not None
    assert MethodRegistry().code("hdap") is None

    file = installed / "leading_channels" / "methods.py"
    original = file.read_text()
    file.write_text(original + "# edited\n")
    try:
        assert MethodRegistry().code("leading") not in (None, before)
    finally:
        file.write_text(original)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("net.py", NET + "#\n"), ["the model's code"]),
        (("mine.yaml", NANO + "#\n"), ["the content of the file that fleets.six.sku names"]),
        (("weights.pt", "other"), ["the content of model.weights"]),
        ("fine_tune.epochs=0.3", ["fine_tune.epochs: 0.2 -> 0.3"]),
        ("fleets[0].n_devices=8", ["fleets.six.n_devices: 6 -> 8"]),
        ("methods=[uniform, random, fpgm]", []),
    ],
)
def test_what_changed_since_the_stored_trials_is_said(
    tiny_spec: Path, change: tuple[str, str] | str, expected: list[str]
) -> None:
    folder = tiny_spec.parent
    for name, text in (("net.py", NET), ("mine.yaml", NANO), ("weights.pt", "any")):
        write(folder / name, text)
    overrides = ["model.name=./net.py:build", "model.weights=weights.pt", "fleets[0].sku=mine.yaml"]
    before = load(str(tiny_spec), overrides)
    stored = [example_result(trial) for trial in plan_trials(before, MethodRegistry())]
    recorded = named_by_content(before).model_dump(mode="json")

    if isinstance(change, tuple):
        write(folder / change[0], change[1])
    else:
        overrides.append(change)
    now = load(str(tiny_spec), overrides)

    assert changes(recorded, stored, named_by_content(now), plan_trials(now, MethodRegistry())) == expected
