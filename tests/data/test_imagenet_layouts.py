from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
import torch
from PIL import Image

from hdapbench.data import DataSplits, count_classes, live, load_data
from hdapbench.errors import DataError
from hdapbench.spec import DataSpec

SHAPE = (3, 8, 8)
WNIDS = ("n01443537", "n01629819", "n02124075")


def write(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (value, value, value)).save(path, quality=100)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """Tiny ImageNet as published: six train images and two validation images of each of three classes."""
    root = tmp_path / "tiny-imagenet-200"
    lines = []
    for number, wnid in enumerate(WNIDS):
        for index in range(6):
            write(root / "train" / wnid / "images" / f"{wnid}_{index}.JPEG", 50 * number + 5 * index)
        (root / "train" / wnid / f"{wnid}_boxes.txt").write_text("ignored\n")
        for index in range(2):
            write(root / "val" / "images" / f"val_{2 * number + index}.JPEG", 50 * number + 10 * index)
            lines.append(f"val_{2 * number + index}.JPEG\t{wnid}\t0\t0\t62\t62\n")
    (root / "val" / "val_annotations.txt").write_text("".join(lines))
    write(root / "test" / "images" / "test_0.JPEG", 0)
    (root / "wnids.txt").write_text("\n".join(WNIDS))
    return root


@pytest.fixture
def full(tmp_path: Path) -> Path:
    """ImageNet as torchvision lays it out: class folders in train/ and val/."""
    root = tmp_path / "imagenet"
    for number, wnid in enumerate(WNIDS):
        for index in range(8):
            write(root / "train" / wnid / f"{wnid}_{index}.JPEG", 60 * number + 5 * index)
        write(root / "val" / wnid / f"ILSVRC2012_val_{number}.JPEG", 60 * number)
    return root


def load(name: str, source: Path, **options: object) -> DataSplits:
    spec = DataSpec(name=name, path=str(source), search_share=0.2, **options)
    return load_data(spec, SHAPE, base_dir=Path(), cache_dir=source.parent / "cache")


def test_tiny_imagenet_is_read_as_published_from_a_folder_or_an_archive(tiny):
    archive = tiny.parent / "tiny.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tiny, arcname=tiny.name)

    data = load("tiny-imagenet", tiny)

    assert (len(data.train) + len(data.search), len(data.test), data.n_classes) == (18, 6, 3)
    # Values tell classes apart: 0.., 50.., 100.., saved as JPEG.
    for part in (data.train, data.search, data.test):
        assert part.labels.tolist() == [(value + 3) // 50 for value in part.images[:, 0, 4, 4].tolist()]
    assert load("tiny-imagenet", archive).content_hash == data.content_hash


def test_tiny_imagenet_with_sorted_validation_images_is_understood(tiny):
    expected = load("tiny-imagenet", tiny)
    for line in (tiny / "val" / "val_annotations.txt").read_text().splitlines():
        name, wnid = line.split("\t")[:2]
        (tiny / "val" / wnid / "images").mkdir(parents=True, exist_ok=True)
        (tiny / "val" / "images" / name).rename(tiny / "val" / wnid / "images" / name)

    data = load("tiny-imagenet", tiny)

    assert sorted(data.test.labels.tolist()) == sorted(expected.test.labels.tolist())


def test_validation_images_without_a_class_are_named(tiny):
    path = tiny / "val" / "val_annotations.txt"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))

    with pytest.raises(DataError, match=r"lacks 1 images, such as .*val_0\.JPEG"):
        load("tiny-imagenet", tiny)


def test_missing_annotations_are_said(tiny):
    (tiny / "val" / "val_annotations.txt").unlink()

    with pytest.raises(DataError, match=r"holds no val_annotations\.txt; get tiny-imagenet-200\.zip"):
        load("tiny-imagenet", tiny)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tiny-imagenet", r"get tiny-imagenet-200\.zip.*val_annotations"),
        ("imagenet", r"get ILSVRC2012_img_train\.tar.*val/<wnid>"),
    ],
)
def test_a_missing_set_says_where_to_get_it_and_how_to_lay_it_out(name, message, tmp_path):
    with pytest.raises(DataError, match=rf"there is no '.*absent'; {message}"):
        load(name, tmp_path / "absent")
    with pytest.raises(DataError, match=rf"data\.path is missing.*{message}"):
        load_data(DataSpec(name=name), SHAPE, base_dir=tmp_path, cache_dir=tmp_path)


def test_imagenet_is_read_from_class_folders(full):
    data = load("imagenet", full)

    assert (len(data.train) + len(data.search), len(data.test), data.n_classes) == (24, 3, 3)
    assert data.train.mean == pytest.approx((0.485, 0.456, 0.406))


def test_unsorted_validation_images_of_imagenet_are_explained(full):
    for path in (full / "val").rglob("*.JPEG"):
        path.rename(full / "val" / path.name)
    for path in (full / "val").iterdir():
        if path.is_dir():
            path.rmdir()

    with pytest.raises(DataError, match=r"no images under test/.*val/<wnid>"):
        load("imagenet", full)


def test_classes_without_validation_images_keep_the_numbers_of_the_others(tiny):
    path = tiny / "val" / "val_annotations.txt"
    lines = [line for line in path.read_text().splitlines(keepends=True) if WNIDS[0] not in line]
    path.write_text("".join(lines))
    for number in range(2):
        (tiny / "val" / "images" / f"val_{number}.JPEG").unlink()

    data = load("tiny-imagenet", tiny)

    assert data.n_classes == 3
    assert sorted(data.test.labels.tolist()) == [1, 1, 2, 2]


@pytest.mark.parametrize(("name", "fixture"), [("tiny-imagenet", "tiny"), ("imagenet", "full")])
def test_classes_are_counted_by_folders(name, fixture, request):
    root = request.getfixturevalue(fixture)
    archive = root.parent / "set.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(root, arcname=root.name)

    assert [count_classes(name, source) for source in (root, archive)] == [3, 3]


def test_live_images_are_those_that_are_decoded_once(full):
    once, alive = load("imagenet", full), load("imagenet", full, decode="live")

    for first, second in ((once.train, alive.train), (once.search, alive.search), (once.test, alive.test)):
        pairs = zip(first.batches(5, shuffle_seed=3), second.batches(5, shuffle_seed=3), strict=True)
        for (images, labels), (same_images, same_labels) in pairs:
            assert torch.equal(images, same_images)
            assert torch.equal(labels, same_labels)
    assert len(list((full.parent / "cache" / "data").glob("*/images.npy"))) == 2  # those that were decoded once


def test_live_images_are_hashed_once_and_anew_when_they_change(full, monkeypatch):
    first = load("imagenet", full, decode="live").content_hash
    monkeypatch.setattr(live, "write_listing", lambda *_: pytest.fail("hashed again"))
    again = load("imagenet", full, decode="live").content_hash
    monkeypatch.undo()
    write(full / "train" / WNIDS[0] / f"{WNIDS[0]}_0.JPEG", 255)

    assert first == again
    assert load("imagenet", full, decode="live").content_hash != first


def test_unreadable_live_images_are_left_out_by_choice(full):
    (full / "train" / WNIDS[0] / f"{WNIDS[0]}_0.JPEG").write_bytes(b"no image")

    with pytest.raises(DataError, match=r"_0\.JPEG"):
        load("imagenet", full, decode="live")
    data = load("imagenet", full, decode="live", corrupt="skip")

    assert data.n_skipped == 1
    assert len(data.train) + len(data.search) == 23


def test_large_folders_are_live_on_their_own(full, monkeypatch):
    monkeypatch.setattr("hdapbench.data.reading.LIVE_BYTES", 1000)

    data = load("imagenet", full)

    assert isinstance(data.train.images, live.FileImages)
    monkeypatch.undo()
    assert isinstance(load("imagenet", full).train.images, live.FileImages)  # once live, always live


def test_an_archive_cannot_be_read_live(full):
    archive = full.parent / "set.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(full, arcname="imagenet")

    with pytest.raises(DataError, match="unpack it"):
        load("imagenet", archive, decode="live")


def test_a_resized_crop_keeps_the_shape_and_shows_a_part(full):
    data = load("imagenet", full, augment="resized-crop")
    gradient = torch.arange(8).mul(30).to(torch.uint8).expand(4, 3, 8, 8).contiguous()
    part = type(data.train)(gradient, torch.arange(4), (0.0,) * 3, (1.0,) * 3, augment="resized-crop")

    images, _ = next(part.batches(4, shuffle_seed=1, augment=True))
    spans = images.amax((1, 2, 3)) - images.amin((1, 2, 3))

    assert images.shape == (4, 3, 8, 8)
    assert float(spans.max()) <= 210 / 255 + 1e-6
    assert float(spans.min()) < 200 / 255
    slopes = images[:, 0, 4, -1] - images[:, 0, 4, 0]
    assert {float(slope) > 0 for slope in slopes} == {True, False}  # some are mirrored


@pytest.mark.data
def test_the_real_tiny_imagenet_is_read_as_it_is_published(data_root, tmp_path):
    archive = data_root / "tiny-imagenet-200.tar.xz"
    if not archive.is_file():
        pytest.skip(f"there is no {archive}")
    sample = tmp_path / "tiny"
    n_images = 0
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isfile():
                is_image = member.name.endswith(".JPEG")
                n_images += is_image
                if not is_image or n_images % 20 == 0:
                    path = sample / member.name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(tar.extractfile(member).read())

    data = load("tiny-imagenet", sample)

    # The archive has 202 classes with 100 training images each, two of which no validation image shows.
    assert n_images == 25_200
    assert len(data.train) + len(data.search) + len(data.test) == n_images // 20
    assert data.n_classes == 202
    assert len(data.test) == 250
    assert len(set(data.test.labels.tolist())) > 100  # of the annotations, not the one folder
