from __future__ import annotations

import io
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hdapbench.data import DataSplits, count_classes, load_data
from hdapbench.errors import DataError
from hdapbench.spec import DataSpec

CLASSES = ("ant", "bee", "cat")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six train and two test images of each of three classes; every grey value is unique."""
    root = tmp_path / "pets"
    values = iter(range(100))
    for split, count in (("train", 6), ("test", 2)):
        for name in CLASSES:
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                Image.new("L", (8, 8), next(values)).save(root / split / name / f"{number}.png")
    return root


def load(source: Path, **options: object) -> DataSplits:
    lines = options.pop("lines", [])
    spec = DataSpec(name="imagefolder", path=str(source), search_share=0.2, **options)
    cache = source.parent / "cache"
    return load_data(spec, (1, 8, 8), base_dir=Path(), cache_dir=cache, on_progress=lines.append)


def greys(data: DataSplits) -> list[int]:
    return sorted(int(image[0, 0, 0]) for part in (data.train, data.search, data.test) for image in part.images)


def move_away(path: Path) -> None:
    """Put a file or folder elsewhere, and a link in its place."""
    away = path.parents[2] / f"away-{path.parent.name}-{path.name}"
    path.rename(away)
    path.symlink_to(away)


@pytest.mark.parametrize("linked", ["train/cat", "train", "train/cat/0.png", "test/bee"])
def test_images_behind_links_are_read_like_others(folder: Path, linked: str) -> None:
    whole = load(folder)

    move_away(folder / linked)

    assert load(folder).content_hash == whole.content_hash
    assert count_classes("imagefolder", folder) == 3


def test_a_link_to_a_folder_around_it_leads_to_nothing_new(folder: Path) -> None:
    (folder / "train" / "cat" / "all").symlink_to(folder)

    assert greys(load(folder)) == list(range(24))


def test_an_image_that_changes_behind_a_link_is_seen(folder: Path) -> None:
    move_away(folder / "train" / "cat")
    before = load(folder).content_hash

    Image.new("L", (8, 8), 200).save(folder / "train" / "cat" / "0.png")

    assert load(folder).content_hash != before


def test_an_image_in_place_of_one_of_the_same_size_and_time_is_seen(folder: Path) -> None:
    old, new = folder / "train" / "cat" / "0.bmp", folder.parent / "new.bmp"
    for path, value in ((old, 50), (new, 60)):
        Image.new("L", (8, 8), value).save(path)
        os.utime(path, (1, 1))
    before = load(folder).content_hash

    new.replace(old)

    assert load(folder).content_hash != before


def packed(folder: Path, change: Callable[[tarfile.TarFile], None], leave: str = "nothing") -> Path:
    archive = folder.parent / "pets.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, "pets", filter=lambda member: None if member.name == leave else member)
        change(tar)
    return archive


def link(tar: tarfile.TarFile, name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> None:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    tar.addfile(member)


@pytest.mark.parametrize(
    ("name", "target", "kind", "added"),
    [
        ("pets/train/ant/9.png", "pets/train/bee/0.png", tarfile.LNKTYPE, [6]),
        ("pets/train/ant/9.png", "../bee/0.png", tarfile.SYMTYPE, [6]),
        ("pets/train/ant/more", "../../test/ant", tarfile.SYMTYPE, [18, 19]),
        ("pets/train/ant/loop", "..", tarfile.SYMTYPE, []),
    ],
)
def test_links_in_an_archive_are_followed(folder: Path, name: str, target: str, kind: bytes, added: list[int]) -> None:
    archive = packed(folder, lambda tar: link(tar, name, target, kind))

    assert greys(load(archive)) == sorted([*range(24), *added])


def test_hard_links_that_tar_makes_of_a_file_with_two_names_are_read(folder: Path) -> None:
    (folder / "train" / "cat" / "again.png").hardlink_to(folder / "train" / "ant" / "0.png")

    assert load(packed(folder, lambda _: None)).content_hash == load(folder).content_hash


def test_a_folder_behind_a_link_out_of_the_archive_is_refused(folder: Path) -> None:
    away = packed(folder, lambda tar: link(tar, "pets/train/dog", "/home/me/dog"))

    with pytest.raises(DataError, match=r"pets/train/dog is a link to '/home/me/dog', .* tar --dereference"):
        load(away)


def test_a_broken_link_is_an_unreadable_image_or_refused_where_a_class_may_lie_behind_it(folder: Path) -> None:
    (folder / "train" / "cat" / "9.png").symlink_to("nowhere.png")

    with pytest.raises(DataError, match=r"train/cat/9\.png \(No such file or directory\).*data\.corrupt: skip"):
        load(folder)
    assert load(folder, corrupt="skip").n_skipped == 1

    (folder / "train" / "dog").symlink_to("nowhere")
    with pytest.raises(DataError, match="train/dog is a link that leads nowhere; repair or remove it"):
        load(folder, corrupt="skip")


def test_names_that_are_no_text_are_read_and_shown_on_one_line(folder: Path) -> None:
    place = os.fsencode(folder / "train" / "cat")
    shutil.copy(folder / "test" / "cat" / "0.png", place + b"/\xff.png")
    with open(place + b"/\xfe\n\x1b[31m.png", "wb") as stream:  # noqa: PTH123 - a name of bytes
        stream.write(b"no image")

    with pytest.raises(DataError, match=r"train/cat/\\udcfe\\n\\x1b\[31m\.png") as caught:
        load(folder)
    assert str(caught.value).isprintable()
    assert len(greys(load(folder, corrupt="skip"))) == 25


@pytest.mark.parametrize("suffix", ["tif", "tiff", "TIF", "pgm", "jfif", "pbm", "pnm", "gif", "webp", "avif", "dib"])
def test_images_of_all_kinds_that_torchvision_reads_are_read(folder: Path, suffix: str) -> None:
    path = folder / "train" / "cat" / f"9.{suffix}"
    if suffix == "avif" and ".avif" not in Image.registered_extensions():
        pytest.skip("this Pillow writes no AVIF")
    with path.open("wb") as stream:
        kind = {"jfif": "JPEG", "avif": "AVIF", "webp": "WEBP", "gif": "GIF", "dib": "DIB"}
        Image.new("L", (8, 8), 255).save(stream, kind.get(suffix, "TIFF" if "tif" in suffix.lower() else "PPM"))

    assert greys(load(folder)) == [*range(24), 255]


@pytest.mark.parametrize(("suffix", "mode"), [("png", "I;16"), ("tif", "I;16"), ("tif", "I;16B"), ("pgm", "I;16")])
def test_sixteen_bits_keep_their_upper_eight(folder: Path, suffix: str, mode: str) -> None:
    levels = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1024 + 77
    image = Image.fromarray(levels)
    path = folder / "train" / "cat" / f"9.{suffix}"
    (Image.frombytes(mode, (8, 8), levels.astype(">u2").tobytes()) if mode == "I;16B" else image).save(path)

    data = load(folder)

    stored = [image for part in (data.train, data.search) for image in part.images if len(image.unique()) > 1]
    assert [found[0].tolist() for found in stored] == [(levels >> 8).tolist()]


@pytest.mark.parametrize("mode", ["I", "F"])
def test_thirty_two_bits_are_refused_by_name(folder: Path, mode: str) -> None:
    Image.new(mode, (8, 8), 70_000).save(folder / "train" / "cat" / "9.tif")

    with pytest.raises(DataError, match=rf"9\.tif \(pixels of 32 bits \(mode {mode}\); save it with 8 or 16 bits\)"):
        load(folder)


@pytest.mark.parametrize("archived", [False, True])
def test_what_is_left_out_is_counted_and_named_in_every_run(folder: Path, archived: bool) -> None:
    for number in range(3):
        (folder / "train" / "cat" / f"{number}.heic").write_bytes(b"")
    shutil.copy(folder / "train" / "cat" / "0.png", folder / "train" / "stray.png")
    (folder / "train" / "cat" / "notes.txt").write_text("")
    source = packed(folder, lambda _: None) if archived else folder
    load(source)
    lines: list[str] = []

    data = load(source, lines=lines)

    assert data.n_skipped == 4
    assert lines == [f"{source.name}: 4 files are left out, being no images in a class: 3 .heic, 1 .png"]


@pytest.mark.parametrize("archived", [False, True])
@pytest.mark.parametrize("content", [None, "0.heic"])
def test_a_class_folder_without_images_is_refused_by_check_and_run(
    folder: Path, content: str | None, archived: bool
) -> None:
    (folder / "train" / "dog").mkdir()
    if content:
        (folder / "train" / "dog" / content).write_bytes(b"")
    source = packed(folder, lambda _: None) if archived else folder

    for ask in (load, lambda path: count_classes("imagefolder", path)):
        with pytest.raises(DataError, match=r"no images in the class folder (pets/)?train/dog; fill it or remove it"):
            ask(source)


def test_a_class_of_which_no_file_can_be_read_is_never_dropped(folder: Path) -> None:
    for path in (folder / "train" / "bee").iterdir():
        path.write_bytes(b"no image")

    with pytest.raises(DataError, match=r"no file of the class bee can be read, such as train/bee/0\.png \(cannot"):
        load(folder, corrupt="skip")


def test_a_class_whose_only_image_is_searched_on_is_refused(folder: Path) -> None:
    for path in sorted((folder / "train" / "bee").iterdir())[1:]:
        path.unlink()

    with pytest.raises(DataError, match="class 1 has too few images to be trained and searched on"):
        load_data(
            DataSpec(name="imagefolder", path=str(folder), search_share=0.75),
            (1, 8, 8),
            base_dir=Path(),
            cache_dir=folder.parent / "cache",
        )


def test_damage_in_the_middle_of_an_archive_does_not_end_it_early(folder: Path) -> None:
    archive = folder.parent / "pets.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(folder, "pets")
        offset = tar.getmember("pets/train/bee").offset
    content = bytearray(archive.read_bytes())
    content[offset + 10] ^= 1
    archive.write_bytes(content)

    with pytest.raises(DataError, match=r"neither a folder nor a whole tar archive: .*header"):
        load(archive)


def test_images_at_the_top_alone_and_zip_archives_get_one_line(folder: Path) -> None:
    zipped = Path(shutil.make_archive(str(folder), "zip", folder))
    top = folder.parent / "top"
    top.mkdir()
    shutil.copy(folder / "train" / "cat" / "0.png", top)

    with pytest.raises(DataError, match="it is a zip archive; unpack it"):
        load(zipped)
    with pytest.raises(DataError, match="holds no images under train/"):
        load(top)


@pytest.mark.parametrize("side", [10_000, 20_000])
def test_pictures_of_too_many_pixels_are_refused_by_name(folder: Path, side: int) -> None:
    Image.new("1", (side, side)).save(folder / "train" / "cat" / "9.png")

    with pytest.raises(DataError, match=r"9\.png \(more than 89,478,485 pixels; make it smaller\)"):
        load(folder)


def test_a_file_that_only_other_programs_can_draw_is_not_handed_to_them(folder: Path) -> None:
    Image.new("RGB", (8, 8)).save(folder / "train" / "cat" / "9.eps")
    (folder / "train" / "cat" / "9.eps").rename(folder / "train" / "cat" / "9.png")

    with pytest.raises(DataError, match=r"9\.png \(cannot identify image file\)"):
        load(folder)


def test_archives_that_expand_beyond_reason_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hdapbench.data.archive.FREE_BYTES", 1 << 20)
    zeros = io.BytesIO(bytes(64 << 20))

    def add(tar: tarfile.TarFile) -> None:
        member = tarfile.TarInfo("pets/zeros.bin")
        member.size = 64 << 20
        tar.addfile(member, zeros)

    with pytest.raises(DataError, match="expands to more than"):
        load(packed(folder, add))


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_headers_of_gigabytes_are_refused_unread(folder: Path, kind: bytes) -> None:
    archive = folder.parent / "pets.tar"
    member = tarfile.TarInfo("long")
    member.type, member.size = kind, 1 << 32
    archive.write_bytes(member.tobuf() + bytes(1 << 20))

    with pytest.raises(DataError, match="a header of 4,294,967,296 bytes"):
        load(archive)


def test_files_larger_than_any_picture_are_unreadable(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for room in ("source", "archive"):
        monkeypatch.setattr(f"hdapbench.data.{room}.MAX_FILE_BYTES", 1 << 20)
    (folder / "train" / "cat" / "9.png").write_bytes(bytes(2 << 20))

    for source in (folder, packed(folder, lambda _: None)):
        with pytest.raises(DataError, match=r"train/cat/9\.png \(larger than 1 MiB\)"):
            load(source)


def test_more_files_than_any_set_has_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hdapbench.data.archive.MAX_FILES", 20)

    with pytest.raises(DataError, match="holds more than 20 files"):
        load(packed(folder, lambda _: None))


def test_links_that_multiply_what_they_lead_to_are_refused(folder: Path) -> None:
    levels = folder.parent / "levels"
    for level in range(20):
        (levels / str(level)).mkdir(parents=True)
        for way in "ab":
            (levels / str(level) / way).symlink_to(f"../{level + 1}")
    (levels / "20").mkdir()
    (folder / "train" / "cat" / "deep").symlink_to(levels / "0")

    with pytest.raises(DataError, match="more than 100 links lead to"):
        load(folder)
