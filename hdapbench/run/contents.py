"""Files and folders by content: hashed once, and found again by their sizes, times and inodes. Imports no torch."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from hdapbench.errors import DataError
from hdapbench.files import expand_path, file_hash, replacing
from hdapbench.run.workspace import DATABASE

LARGE_BYTES = 20 * 2**30
"""Larger sets are named by the names, sizes and times of their files: to read them all would take minutes."""

ARCHIVE = ""
"""Name that a set in one file counts under."""

SPLITS = frozenset({"train", "test", "val", "valid"})
CLASS_FOLDERS = frozenset({"imagefolder", "imagenet", "tiny-imagenet"})
DATA_YAMLS = ("data.yaml", "data.yml", "dataset.yaml")
YAML_SUFFIXES = frozenset({".yaml", ".yml"})


@dataclass(frozen=True)
class _File:
    """A file, the name that it counts under, and what tells whether it has changed."""

    name: str
    path: Path
    status: os.stat_result | None

    @property
    def manifest(self) -> list[Any]:
        status = self.status
        if status is None:
            return [self.name]
        return [self.name, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_dev, status.st_ino]


def images_hash(data_set: str, source: Path, *, cache_dir: Path | None = None) -> str | None:
    """Sixteen hexadecimal digits of the images and labels of a set, links followed; None where there is nothing.

    Parameters
    ----------
    data_set
        Name in the spec, which tells what of a folder belongs to the set.
    source
        Archive, folder or data yaml.
    cache_dir
        Where hashes are kept under the sizes, times and inodes of the files that they are of.
    """
    if not source.exists():
        return None
    files = sorted(_files_of_set(data_set, source), key=lambda file: os.fsencode(file.name))
    manifest = hashlib.sha256(repr([file.manifest for file in files]).encode(errors="surrogateescape")).hexdigest()
    cached = None if cache_dir is None else cache_dir / "contents" / f"{manifest[:32]}.json"
    found = None if cached is None else read_json(cached)
    if not isinstance(found, str):
        found = _hashed(files)
        if cached is not None:
            write_json(cached, found)
    return found


def read_json(path: Path) -> Any:
    """What a cache file holds; None where there is none, or it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def write_json(path: Path, content: Any) -> None:
    """Write a cache file; a folder that cannot be written to goes without."""
    with suppress(OSError), replacing(path) as partial:
        partial.write_text(json.dumps(content), encoding="utf-8")


def _hashed(files: Iterable[_File]) -> str:
    files = list(files)
    if [file.name for file in files] == [ARCHIVE]:
        return file_hash(files[0].path)[:16]
    is_large = sum(file.status.st_size for file in files if file.status is not None) > LARGE_BYTES
    digest = hashlib.sha256()
    for file in files:
        told: object = "broken"
        if file.status is not None and is_large:
            told = (file.status.st_size, file.status.st_mtime_ns)
        elif file.status is not None:
            with suppress(OSError):
                told = file_hash(file.path)
        digest.update(os.fsencode(file.name) + f"|{told}\n".encode())
    return digest.hexdigest()[:16]


def _files_of_set(data_set: str, source: Path) -> Iterator[_File]:
    if source.is_file() and source.suffix.lower() not in YAML_SUFFIXES:
        yield _file(source, ARCHIVE)
    elif data_set in CLASS_FOLDERS:
        inner = [folder for folder in _folders(source) if folder.name in SPLITS]
        inner += [folder for outer in _folders(source) for folder in _folders(outer) if folder.name in SPLITS]
        for folder in inner:
            yield from _tree(folder, folder.relative_to(source).as_posix())
    elif data_set == "yolo":
        yield from _of_data_yaml(source)
    else:
        yield from _tree(source, "")


def _folders(source: Path) -> list[Path]:
    return sorted(path for path in source.iterdir() if path.is_dir() and not path.name.startswith("."))


def _tree(folder: Path, prefix: str, above: frozenset[tuple[int, int]] = frozenset()) -> Iterator[_File]:
    """Files under a folder but hidden ones, links followed, links to a folder around it and workspaces left out."""
    try:
        status = folder.stat()
        entries = sorted(os.scandir(folder), key=lambda entry: os.fsencode(entry.name))
    except OSError:
        return
    here = (status.st_dev, status.st_ino)
    if here in above or any(entry.name == DATABASE for entry in entries):
        return
    for entry in entries:
        name = str(PurePosixPath(prefix, entry.name))
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _tree(Path(entry.path), name, above | {here})
        else:
            yield _file(Path(entry.path), name)


def _file(path: Path, name: str) -> _File:
    try:
        return _File(name, path, path.stat())
    except OSError:
        return _File(name, path, None)


def _of_data_yaml(source: Path) -> Iterator[_File]:
    """The yaml, and the images and labels of the folders and lists that it names."""
    places = [source / name for name in DATA_YAMLS] + [path for name in DATA_YAMLS for path in source.glob(f"*/{name}")]
    path = source if source.is_file() else next((place for place in places if place.is_file()), None)
    if path is None:
        yield from _tree(source, "")
        return
    yield _file(path, path.name)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return
    if not isinstance(content, Mapping):
        return
    root = _root(path, content)
    for entry in _entries(content):
        for place in (root / entry, root / entry.removeprefix("../")):
            for number, part in enumerate(_with_labels(place)):
                name = f"{entry}:{number}"
                yield from _tree(part, name) if part.is_dir() else _listed(part, name, root)


def _entries(content: Mapping[str, Any]) -> list[str]:
    found = [content.get(key) or [] for key in ("train", "val", "test")]
    return [str(entry) for entries in found for entry in (entries if isinstance(entries, list) else [entries])]


def _root(path: Path, content: Mapping[str, Any]) -> Path:
    """Folder that entries are relative to: the yaml's ``path`` if that exists, else the yaml's own."""
    with suppress(DataError):
        given = path.parent / expand_path(str(content.get("path") or "."))
        return given if given.is_dir() else path.parent
    return path.parent


def _with_labels(images: Path) -> tuple[Path, ...]:
    """A folder of images, and that of their labels: ``labels`` for the last folder that is called ``images``."""
    parts = list(images.parts)
    if "images" not in parts:
        return (images,)
    place = len(parts) - 1 - parts[::-1].index("images")
    return images, Path(*parts[:place], "labels", *parts[place + 1 :])


def _listed(path: Path, name: str, root: Path) -> Iterator[_File]:
    """A list of images, the images and their labels."""
    if not path.is_file():
        return
    yield _file(path, name)
    with suppress(OSError):
        for line in filter(None, map(str.strip, path.read_text(encoding="utf-8", errors="replace").splitlines())):
            for number, place in enumerate((*_with_labels(path.parent / line), *_with_labels(root / line))):
                for file in (place, place.with_suffix(".txt")):
                    if file.is_file():
                        yield _file(file, f"{name}:{line}:{number}{file.suffix}")
