from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hdapbench.data import BoxSet, DataSplits, load_data
from hdapbench.data.box_labels import label_path, parse_labels
from hdapbench.data.box_layout import read_classes
from hdapbench.errors import DataError
from hdapbench.spec import DataSpec

SHAPE = (3, 32, 32)
YAML = "path: .\ntrain: images/train\nval: images/val\nnames: {0: cell, 1: platelet}\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Twelve train and three val images of 40x20 pixels, each with one box; the value of image i is i."""
    folder = tmp_path / "blood"
    for split, numbers in (("train", range(12)), ("val", range(12, 15))):
        for number in numbers:
            image = folder / "images" / split / f"{number:02}.png"
            label = folder / "labels" / split / f"{number:02}.txt"
            image.parent.mkdir(parents=True, exist_ok=True)
            label.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (40, 20), (number, number, number)).save(image)
            label.write_text(f"{number % 2} 0.5 0.25 0.5 0.5\n")
    (folder / "data.yaml").write_text(YAML)
    return folder


def load(source: Path, **options: object) -> DataSplits:
    spec = DataSpec(name="yolo", path=str(source), search_share=0.25, **options)
    return load_data(spec, SHAPE, base_dir=Path(), cache_dir=source.parent / "cache")


def values(part: BoxSet) -> list[int]:
    """Value of each image in its middle."""
    return part.images[:, 0, 16, 16].tolist()


def test_a_yaml_its_folder_and_an_archive_give_the_same(root):
    archive = root.parent / "blood.tar.xz"
    with tarfile.open(archive, "w:xz") as tar:
        tar.add(root, arcname="blood")

    found = [load(source) for source in (root / "data.yaml", root, archive)]

    assert len({data.content_hash for data in found}) == 1
    data = found[0]
    assert [len(part) for part in (data.train, data.search, data.test)] == [9, 3, 3]
    assert data.n_classes == 2
    assert sorted(values(data.train) + values(data.search)) == list(range(12))
    assert sorted(values(data.test)) == [12, 13, 14]


def test_images_and_boxes_are_letterboxed_together(root):
    data = load(root)

    image, boxes = data.train.images[0], data.train.boxes_of(0)
    value = values(data.train)[0]

    # 40x20 becomes 32x16 with eight grey rows above and below.
    assert image[0, :, 16].unique(return_counts=True)[1].tolist() == [16, 16]
    assert image[0, :8].unique().tolist() == [114]
    np.testing.assert_allclose(boxes.numpy(), [[value % 2, 0.5, 8 / 32 + 0.25 * 16 / 32, 0.5, 0.25]])


def test_boxes_stay_with_their_images_in_every_part(root):
    data = load(root)

    for part in (data.train, data.search, data.test):
        assert [int(part.boxes_of(i)[0, 0]) for i in range(len(part))] == [value % 2 for value in values(part)]


def test_both_classes_are_in_the_search_images(root):
    assert sorted({int(label) for label in load(root).search.boxes[:, 0]}) == [0, 1]


def test_a_test_split_is_preferred_to_val(root):
    (root / "images" / "val").rename(root / "images" / "test")
    (root / "labels" / "val").rename(root / "labels" / "test")
    (root / "data.yaml").write_text(YAML.replace("val: images/val", "val: images/train\ntest: images/test"))

    assert sorted(values(load(root).test)) == [12, 13, 14]


def test_lists_of_images_in_text_files_are_understood(root):
    lines = [f"./images/train/{number:02}.png" for number in range(6)] + ["images/train/06.png"]
    (root / "train.txt").write_text("\n".join(lines) + "\n")
    (root / "data.yaml").write_text(YAML.replace("train: images/train", "train: train.txt"))

    assert sorted(values(load(root).train) + values(load(root).search)) == list(range(7))


def test_a_list_that_names_a_missing_image_is_one_error(root):
    (root / "train.txt").write_text("./images/train/99.png\n")
    (root / "data.yaml").write_text(YAML.replace("train: images/train", "train: train.txt"))

    with pytest.raises(DataError, match=r"train\.txt' lists 1 images that do not exist.*99\.png"):
        load(root)


def test_images_without_a_label_file_hold_no_objects(root):
    (root / "labels" / "train" / "00.txt").unlink()
    (root / "labels" / "train" / "01.txt").write_text("\n")

    data = load(root)

    assert len(data.train.boxes) + len(data.search.boxes) == 10


def test_no_label_file_at_all_is_an_error_that_says_where_they_belong(root):
    for path in (root / "labels" / "train").iterdir():
        path.unlink()

    with pytest.raises(DataError, match=r"no image of 12 has a label file.*labels/train/00\.txt"):
        load(root)


def spoil(root: Path) -> None:
    (root / "images" / "train" / "03.png").write_bytes(b"no image")
    (root / "labels" / "train" / "04.txt").write_text("7 0.5 0.5 0.1 0.1\n")
    (root / "labels" / "train" / "05.txt").write_text("0 0.5 0.5 1.4 0.1\n")


def test_unreadable_files_are_all_named(root):
    spoil(root)

    with pytest.raises(DataError, match=r"03\.png.*04\.png \(line 1 .* class 7, there are 2\).*05\.png.*corrupt: skip"):
        load(root)


def test_unreadable_files_are_left_out_and_counted_by_choice(root):
    spoil(root)

    data = load(root, corrupt="skip")

    assert data.n_skipped == 3
    assert sorted(values(data.train) + values(data.search)) == [0, 1, 2, *range(6, 12)]
    with pytest.raises(DataError, match="cannot decode"):  # the cache knows what it lacks
        load(root)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("names: [a]\n", "no images of train"),
        (YAML.replace("names: {0: cell, 1: platelet}", ""), "names must list the classes"),
        (YAML.replace("1: platelet", "2: platelet"), "names must list the classes"),
        (YAML.replace("images/val", "images/train"), "train and test share 12 images"),
        ("- a list\n", "is not a mapping"),
        ("a: [\n", "is not valid YAML"),
    ],
)
def test_yamls_that_say_too_little_are_refused_with_a_reason(root, text, message):
    (root / "data.yaml").write_text(text)

    with pytest.raises(DataError, match=message):
        load(root)


def test_a_missing_set_says_where_to_get_it_and_how_to_lay_it_out(tmp_path):
    with pytest.raises(DataError, match=r"there is no .*labels/ beside images/"):
        load(tmp_path / "absent")
    with pytest.raises(DataError, match=r"holds no data\.yaml"):
        load(tmp_path)


def test_nothing_is_written_beside_the_images(root):
    before = sorted(root.rglob("*"))

    load(root)

    assert sorted(root.rglob("*")) == before


def test_download_scripts_of_a_yaml_are_not_run(root, tmp_path):
    (root / "data.yaml").write_text(YAML + f"download: |\n  open('{tmp_path}/ran', 'w')\n")

    load(root)

    assert not (tmp_path / "ran").exists()


def test_classes_are_counted_without_looking_at_images(root):
    (root / "images").rename(root / "elsewhere")

    assert read_classes(root) == ("cell", "platelet")


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("images/train/a.jpg", "labels/train/a.txt"),
        ("/data/images/x/images/a.b.png", "/data/images/x/labels/a.b.txt"),
        ("plain/a.jpg", "plain/a.txt"),
    ],
)
def test_labels_lie_beside_images(image, label):
    assert label_path(image) == label


def test_polygons_become_the_boxes_around_them_and_repeats_count_once():
    boxes = parse_labels("1 0.1 0.2 0.5 0.2 0.5 0.6\n0 0.5 0.5 0.2 0.2\n0 0.5 0.5 0.2 0.2\n", 2)

    np.testing.assert_allclose(boxes, [[1, 0.3, 0.4, 0.4, 0.4], [0, 0.5, 0.5, 0.2, 0.2]], atol=1e-6)


@pytest.mark.parametrize(
    "line", ["0 0.5 0.5 0.1", "0.5 0.5 0.5 0.1 0.1", "0 nan 0.5 0.1 0.1", "a b c d e", "0 -1 0 1 1"]
)
def test_lines_that_are_no_boxes_are_refused(line):
    with pytest.raises(ValueError, match="line 2 of its label file"):
        parse_labels(f"0 0.5 0.5 0.1 0.1\n{line}\n", 1)


@pytest.mark.data
def test_the_blood_cells_are_read_from_their_archive(data_root, tmp_path):
    archive = data_root / "bccd.tar.xz"
    if not archive.is_file():
        pytest.skip(f"there is no {archive}")
    spec = DataSpec(name="yolo", path=str(archive))

    data = load_data(spec, (3, 64, 64), base_dir=tmp_path, cache_dir=tmp_path)

    assert (len(data.train) + len(data.search), len(data.test), data.n_classes) == (205, 87, 3)
    counts = torch.cat([data.train.boxes, data.search.boxes, data.test.boxes])[:, 0].long().bincount()
    assert counts[0] > counts[1:].sum()  # red cells abound


@pytest.mark.parametrize("archived", [False, True])
def test_roboflows_paths_are_understood_as_ultralytics_does(root: Path, archived: bool) -> None:
    expected = load(root).content_hash
    (root / "data.yaml").write_text("train: ../images/train\nval: [../images/val]\nnames: [cell, platelet]\n")

    source = root
    if archived:
        source = root.parent / "blood.tar"
        with tarfile.open(source, "w") as tar:
            tar.add(root, ".")

    assert load(source).content_hash == expected


@pytest.mark.parametrize("archived", [False, True])
@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_yamls_in_other_encodings_are_refused_in_one_line(root: Path, encoding: str, archived: bool) -> None:
    (root / "data.yaml").write_bytes(YAML.replace("cell", "\u00e9").encode(encoding))
    source = root
    if archived:
        source = root.parent / "blood.tar"
        with tarfile.open(source, "w") as tar:
            tar.add(root, ".")

    for read in (load, read_classes):
        with pytest.raises(DataError, match=r"data\.yaml' is not UTF-8 text \(byte \d+\)") as caught:
            read(source)
        assert str(caught.value).isprintable()


def test_a_yaml_with_a_byte_order_mark_is_read(root: Path) -> None:
    (root / "data.yaml").write_bytes(YAML.encode("utf-8-sig"))

    assert read_classes(root) == ("cell", "platelet")


def test_names_that_expand_beyond_reason_are_refused_unexpanded(root: Path) -> None:
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    (root / "data.yaml").write_text("\n".join(levels) + "\ntrain: images/train\nval: images/val\nnames: *a11\n")

    with pytest.raises(DataError, match="names must list the classes"):
        load(root)


def test_labels_behind_links_are_seen_when_they_change(root: Path) -> None:
    labels = root / "labels" / "train"
    labels.rename(root.parent / "labels-elsewhere")
    labels.symlink_to(root.parent / "labels-elsewhere")
    before = load(root).content_hash

    (root.parent / "labels-elsewhere" / "03.txt").write_text("1 0.5 0.5 0.5 0.5\n")

    assert load(root).content_hash != before


def test_images_outside_the_yamls_folder_are_seen_when_they_change(root: Path) -> None:
    inside = root / "yamls"
    inside.mkdir()
    (inside / "data.yaml").write_text("train: ../images/train\nval: ../images/val\nnames: [cell, platelet]\n")
    before = load(inside).content_hash

    (root / "labels" / "train" / "03.txt").write_text("1 0.5 0.5 0.5 0.5\n")

    assert load(inside).content_hash != before


def test_a_label_file_behind_a_broken_link_does_not_empty_its_image(root: Path) -> None:
    label = root / "labels" / "train" / "03.txt"
    label.unlink()
    label.symlink_to("nowhere.txt")

    with pytest.raises(DataError, match=r"labels/train/03\.txt' is a link that leads nowhere"):
        load(root)


@pytest.mark.parametrize("points", ["[1, 2]", "[2, 3]", "[17, 3]"])
def test_boxes_of_objects_with_key_points_are_read_past_the_points(root: Path, points: str) -> None:
    expected = load(root).content_hash
    (root / "data.yaml").write_text(f"{YAML}kpt_shape: {points}\n")
    n_points, n_values = (int(number) for number in points.strip("[]").split(","))
    for path in root.rglob("labels/*/*.txt"):
        path.write_text(path.read_text().strip() + " 0.9 0.9 2"[: 4 * n_values] * n_points + "\n")

    assert load(root).content_hash == expected
    (root / "labels" / "train" / "03.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    with pytest.raises(DataError, match=r"03\.png \(line 1 of its label file has 5 values, kpt_shape asks for \d+\)"):
        load(root)


@pytest.mark.parametrize("label", ["inf 0.5 0.5 0.1 0.1", "nan 0.5 0.5 0.1 0.1", "0 0.5 nan 0.1 0.1"])
def test_labels_that_are_not_finite_are_named(label: str) -> None:
    with pytest.raises(ValueError, match="line 1 of its label file is not made of finite numbers"):
        parse_labels(label, 2)


def test_a_class_of_which_no_image_can_be_read_is_never_dropped(root: Path) -> None:
    for number in range(1, 12, 2):
        (root / "images" / "train" / f"{number:02}.png").write_bytes(b"no image")

    with pytest.raises(DataError, match=r"no image of the class platelet can be read, such as images/train/01\.png"):
        load(root, corrupt="skip")


def test_images_of_other_kinds_are_counted(root: Path) -> None:
    (root / "images" / "train" / "20.heic").write_bytes(b"")

    assert load(root).n_skipped == 1
