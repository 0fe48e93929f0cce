from __future__ import annotations

import errno
import io
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hdapbench.data import DataSplits, load_data
from hdapbench.errors import DataError
from hdapbench.spec import DataSpec

SHAPE = (3, 8, 8)
CLASSES = ("cat", "dog")


def write_image(path: Path, value: int, size: tuple[int, int] = (8, 8)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, 255 - value, 7)).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten train and three test images of each of two classes; the red value is unique."""
    root = tmp_path / "pets"
    value = 0
    for split, count in (("train", 10), ("test", 3)):
        for name in CLASSES:
            for number in range(count):
                write_image(root / split / name / f"{number:02}.png", value)
                value += 1
    return root


def load(source: Path, input_shape=SHAPE, **options) -> DataSplits:
    spec = DataSpec(name="imagefolder", path=str(source), search_share=0.2)
    return load_data(spec, input_shape, base_dir=Path(), cache_dir=source.parent / "cache", **options)


def pack(folder: Path, name: str, mode: str, inner: str) -> Path:
    archive = folder.parent / name
    with tarfile.open(archive, mode) as tar:
        tar.add(folder, arcname=inner)
    return archive


def red(part) -> list[int]:
    return part.images[:, 0, 0, 0].tolist()


def test_folders_become_disjoint_splits_with_the_right_labels(folder):
    data = load(folder)

    assert [len(part) for part in (data.train, data.search, data.test)] == [16, 4, 6]
    assert data.n_classes == 2
    assert sorted(red(data.train) + red(data.search)) == list(range(20))
    assert sorted(red(data.test)) == list(range(20, 26))
    for part, first_dog in ((data.train, 10), (data.search, 10), (data.test, 23)):
        assert part.labels.tolist() == [int(value >= first_dog) for value in red(part)]
    assert data.search.labels.bincount().tolist() == [2, 2]


@pytest.mark.parametrize(
    ("name", "mode", "inner"),
    [("pets.tar", "w", "pets"), ("pets.tar.gz", "w:gz", "."), ("pets.tar.xz", "w:xz", "deep")],
)
def test_an_archive_gives_what_its_folder_gives(folder, name, mode, inner):
    archive = pack(folder, name, mode, inner)

    assert load(archive).content_hash == load(folder).content_hash


def test_a_folder_of_validation_images_serves_as_test(folder):
    expected = load(folder).content_hash
    (folder / "test").rename(folder / "val")

    assert load(folder).content_hash == expected


def test_decoding_happens_once(folder):
    lines: list[str] = []
    first = load(folder, on_progress=lines.append)
    n_lines = len(lines)

    second = load(folder, on_progress=lines.append)

    assert n_lines == len(lines) == 2
    assert first.content_hash == second.content_hash
    assert not [path for path in (folder.parent / "cache").rglob("*") if "partial" in path.name]


def test_a_changed_folder_is_decoded_anew(folder):
    before = load(folder).content_hash
    write_image(folder / "train" / "cat" / "new.png", 200)

    assert load(folder).content_hash != before


def test_other_sizes_are_cut_to_the_aspect_ratio_and_resized(folder):
    wide = np.zeros((16, 40, 3), dtype=np.uint8)
    wide[:, 10:30] = 200  # the middle square, and the pixels beside it that resizing looks at
    for path in folder.rglob("*.png"):
        Image.fromarray(wide).save(path)

    data = load(folder)

    assert data.train.images.shape[1:] == SHAPE
    assert int(data.train.images.min()) == 200


def test_grey_networks_get_grey_images(folder):
    data = load(folder, (1, 8, 8))

    assert data.train.images.shape[1:] == (1, 8, 8)
    assert len(data.train.mean) == 1


def test_damaged_images_are_all_named_and_nothing_is_cached(folder):
    (folder / "train" / "cat" / "03.png").write_bytes(b"no image")
    (folder / "train" / "dog" / "04.png").write_bytes(b"")

    with pytest.raises(DataError, match=r"train/cat/03\.png.*train/dog/04\.png"):
        load(folder)

    assert list((folder.parent / "cache" / "data").iterdir()) == []


@pytest.mark.parametrize("packed", [False, True])
def test_damaged_images_are_left_out_and_counted_by_choice(folder, packed):
    whole = load(folder)
    (folder / "train" / "cat" / "03.png").write_bytes(b"no image")
    (folder / "test" / "dog" / "01.png").write_bytes(b"")
    source = pack(folder, "pets.tar", "w", "pets") if packed else folder
    lines: list[str] = []
    spec = DataSpec(name="imagefolder", path=str(source), search_share=0.2, corrupt="skip")

    data = load_data(spec, SHAPE, base_dir=Path(), cache_dir=source.parent / "cache", on_progress=lines.append)

    assert data.n_skipped == 2
    assert sorted(red(data.train) + red(data.search)) == [value for value in range(20) if value != 3]
    assert len(data.test) == 5
    assert any("1 unreadable files left out" in line for line in lines)
    assert whole.n_skipped == 0
    with pytest.raises(DataError, match=r"03\.png.*data\.corrupt: skip"):
        load(source)


def test_nothing_but_damaged_images_is_an_error(folder):
    for path in (folder / "train").rglob("*.png"):
        path.write_bytes(b"no image")
    spec = DataSpec(name="imagefolder", path=str(folder), corrupt="skip")

    with pytest.raises(DataError, match="cannot decode"):
        load_data(spec, SHAPE, base_dir=Path(), cache_dir=folder.parent / "cache")


def test_a_truncated_archive_is_one_error(folder):
    archive = pack(folder, "pets.tar.xz", "w:xz", "pets")
    archive.write_bytes(archive.read_bytes()[:-300])

    with pytest.raises(DataError, match="neither a folder nor a whole tar archive"):
        load(archive)


def test_a_binary_file_is_one_error(tmp_path):
    (tmp_path / "noise.tar").write_bytes(bytes(range(256)) * 20)

    with pytest.raises(DataError, match=r"noise\.tar' is neither a folder nor a whole tar archive"):
        load(tmp_path / "noise.tar")


def test_members_that_point_outside_the_archive_are_not_images_of_it(folder):
    archive = folder.parent / "evil.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(folder, arcname="pets")
        member = tarfile.TarInfo("../../train/cat/evil.png")
        tar.addfile(member, io.BytesIO())

    assert len(load(archive).test) == 6
    assert not list(folder.parent.rglob("evil.png"))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (shutil.rmtree, "there is no"),
        (lambda root: shutil.rmtree(root / "train"), "no images under train/"),
        (lambda root: shutil.rmtree(root / "test"), "no images under test/"),
        (lambda root: shutil.rmtree(root / "test" / "dog"), "the same classes; only in one of them: dog"),
    ],
)
def test_other_layouts_are_refused_with_a_reason(folder, spoil, message):
    spoil(folder)

    with pytest.raises(DataError, match=message):
        load(folder)


def test_a_missing_path_says_what_is_expected(tmp_path):
    with pytest.raises(DataError, match=r"data\.path is missing.*train/<class>"):
        load_data(DataSpec(name="imagefolder"), SHAPE, base_dir=tmp_path, cache_dir=tmp_path)


def test_paths_start_at_the_base_folder_and_take_variables(folder, monkeypatch):
    monkeypatch.setenv("PETS", "pets")
    spec = DataSpec(name="imagefolder", path="${PETS}")

    data = load_data(spec, SHAPE, base_dir=folder.parent, cache_dir=folder.parent / "cache")

    assert len(data.test) == 6


@pytest.mark.parametrize("decode", ["once", "live"])
@pytest.mark.parametrize("damage", ["cut", "overwritten"])
def test_a_damaged_cache_is_made_again_with_a_line(folder, decode, damage):
    lines = []
    spec = DataSpec(name="imagefolder", path=str(folder), search_share=0.2, decode=decode)
    cache = folder.parent / "cache"

    def content_hash() -> str:
        return load_data(spec, SHAPE, base_dir=Path(), cache_dir=cache, on_progress=lines.append).content_hash

    before = content_hash()
    part = next(cache.rglob("*.json" if decode == "live" else "images.npy"))
    whole = part.read_bytes()
    half = len(whole) // 2
    part.write_bytes({"cut": whole[:half], "overwritten": whole[:half] + b"0" * 9 + whole[half + 9 :]}[damage])
    lines.clear()

    assert content_hash() == before
    assert part.read_bytes() == whole
    assert [line for line in lines if "made again" in line]


def test_a_disk_without_place_ends_decoding_in_one_line(folder, monkeypatch):
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)

    with pytest.raises(DataError, match="cannot be written: No space left on device"):
        load(folder)
    assert not any(path.is_file() for path in (folder.parent / "cache").rglob("*"))


@pytest.mark.data
def test_real_cifar10_images_are_read_from_a_folder_or_an_archive(data_root, tmp_path):
    sample = tmp_path / "sample"
    if (data_root / "cifar10").is_dir():
        copy_first_images(data_root / "cifar10", sample)
    elif (data_root / "cifar10.tar.xz").is_file():
        extract_first_images(data_root / "cifar10.tar.xz", sample)
    else:
        pytest.skip(f"there is neither cifar10/ nor cifar10.tar.xz in {data_root}")

    data = load(sample, (3, 32, 32))

    assert (len(data.train) + len(data.search), len(data.test), data.n_classes) == (50, 50, 10)
    images, _ = next(data.train.batches(50, shuffle_seed=None))
    assert 0.5 < float(images.std()) < 1.6
    assert bool(torch.isfinite(images).all())


def copy_first_images(source: Path, target: Path) -> None:
    for split in ("train", "test"):
        for folder in (source / split).iterdir():
            (target / split / folder.name).mkdir(parents=True)
            for path in sorted(folder.iterdir())[:5]:
                shutil.copy(path, target / split / folder.name)


def extract_first_images(archive: Path, target: Path) -> None:
    with tarfile.open(archive) as tar:
        for member in tar:
            _, *parts = Path(member.name).parts
            if member.isfile() and parts[-1] < "0005":
                path = target.joinpath(*parts)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(tar.extractfile(member).read())
