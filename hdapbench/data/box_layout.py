"""Data yamls of ultralytics: which images a detection set holds, in a folder or in an archive. Never runs anything."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from hdapbench.data.source import file_names, is_image, read_texts
from hdapbench.errors import DataError
from hdapbench.files import expand_path

ADVICE = (
    "set data.path to an ultralytics data yaml (path, train, val or test, names), or to a folder or tar archive with a "
    "data.yaml in it; labels lie in labels/ beside images/, one .txt per image with lines 'class x y width height'"
)
YAML_NAMES = ("data.yaml", "data.yml", "dataset.yaml")


@dataclass(frozen=True)
class BoxLayout:
    """What a data yaml says.

    Attributes
    ----------
    root
        Folder or archive that names of images are relative to.
    classes
        Names of the classes, in their order.
    train, test
        Names of the images; ``val`` where the yaml has no ``test``.
    label_text
        Label file -> its text, or None when there is no such file.
    """

    root: Path
    classes: tuple[str, ...]
    train: tuple[str, ...]
    test: tuple[str, ...]
    label_text: Callable[[str], str | None]


def read_layout(source: Path) -> BoxLayout:
    """Layout of a data yaml, or of the one in a folder or tar archive.

    Raises
    ------
    DataError
        When there is none, or it names no images or classes.
    """
    if not source.exists():
        raise DataError(f"there is no '{source}'; {ADVICE}")
    if source.is_file() and source.suffix.lower() not in {".yaml", ".yml"}:
        return _of_archive(source)
    path = source if source.is_file() else _yaml_in(source)
    content = _parsed(path.read_text(encoding="utf-8"), str(path))
    root = _root(path, content)

    def text(name: str) -> str | None:
        file = root / name
        return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else None

    def listed(entry: str) -> list[str]:
        folder = root / expand_path(entry)
        if folder.is_dir():
            return [f"{entry.rstrip('/')}/{name}" for name in sorted(file_names(folder)) if is_image(name)]
        return _listed_in(entry, text(entry), lambda name: (root / name).is_file())

    return _layout(root, content, str(path), listed, text)


def read_classes(source: Path) -> tuple[str, ...]:
    """Names of the classes of a data yaml, or of the one in a folder or tar archive; images are not looked at.

    Raises
    ------
    DataError
        When there is no yaml, or it names no classes.
    """
    if not source.exists():
        raise DataError(f"there is no '{source}'; {ADVICE}")
    if source.is_file() and source.suffix.lower() not in {".yaml", ".yml"}:
        texts = read_texts(source)
        name = _first_yaml(texts, source)
        return _classes(_parsed(texts[name], f"{source}:{name}"), f"{source}:{name}")
    path = source if source.is_file() else _yaml_in(source)
    return _classes(_parsed(path.read_text(encoding="utf-8"), str(path)), str(path))


def _of_archive(source: Path) -> BoxLayout:
    texts = read_texts(source)
    yaml_name = _first_yaml(texts, source)
    origin = f"{source}:{yaml_name}"
    content = _parsed(texts[yaml_name], origin)
    root = posixpath.normpath(posixpath.join(posixpath.dirname(yaml_name), str(content.get("path") or ".")))
    images = [name for name in file_names(source) if is_image(name)]
    known = set(images)

    def listed(entry: str) -> list[str]:
        folder = posixpath.normpath(posixpath.join(root, entry))
        inside = sorted(name for name in images if PurePosixPath(name).is_relative_to(folder))
        return inside or _listed_in(folder, texts.get(folder), lambda name: posixpath.normpath(name) in known)

    return _layout(source, content, origin, listed, texts.get)


def _layout(
    root: Path,
    content: Mapping[str, Any],
    origin: str,
    listed: Callable[[str], list[str]],
    text: Callable[[str], str | None],
) -> BoxLayout:
    def images(key: str) -> tuple[str, ...]:
        entries = content.get(key) or []
        found = [name for entry in ([entries] if isinstance(entries, str) else entries) for name in listed(str(entry))]
        return tuple(dict.fromkeys(found))

    classes = _classes(content, origin)
    train, test = images("train"), images("test") or images("val")
    for key, found in (("train", train), ("test or val", test)):
        if not found:
            raise DataError(f"'{origin}': no images of {key} were found under '{root}'; {ADVICE}")
    shared = set(train) & set(test)
    if shared:
        raise DataError(f"'{origin}': train and test share {len(shared)} images, such as {min(shared)}")
    return BoxLayout(root, classes, train, test, text)


def _classes(content: Mapping[str, Any], origin: str) -> tuple[str, ...]:
    names = content.get("names")
    if isinstance(names, Mapping) and sorted(names) == list(range(len(names))):
        names = [names[number] for number in range(len(names))]
    if names is None and isinstance(content.get("nc"), int):
        names = list(range(content["nc"]))
    if not isinstance(names, list) or not names:
        raise DataError(f"'{origin}': names must list the classes, counted from 0; {ADVICE}")
    return tuple(str(name) for name in names)


def _parsed(text: str, origin: str) -> Mapping[str, Any]:
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise DataError(f"'{origin}' is not valid YAML: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(content, Mapping):
        raise DataError(f"'{origin}' is not a mapping; {ADVICE}")
    return content


def _root(path: Path, content: Mapping[str, Any]) -> Path:
    """Folder that a yaml's entries are relative to: its ``path`` if that exists, else the yaml's own folder."""
    given = content.get("path")
    if given is None:
        return path.parent
    root = path.parent / expand_path(str(given))
    # Yamls that ship with ultralytics name a folder under its datasets folder: here they lie beside the images.
    return root if root.is_dir() else path.parent


def _yaml_in(folder: Path) -> Path:
    for name in YAML_NAMES:
        for path in (folder / name, *sorted(folder.glob(f"*/{name}"))):
            if path.is_file():
                return path
    raise DataError(f"'{folder}' holds no {YAML_NAMES[0]}; {ADVICE}")


def _first_yaml(texts: Mapping[str, str], source: Path) -> str:
    found = [name for name in texts if PurePosixPath(name).name in YAML_NAMES]
    if not found:
        raise DataError(f"'{source}' holds no {YAML_NAMES[0]}; {ADVICE}")
    return min(found, key=lambda name: (name.count("/"), name))


def _listed_in(name: str, text: str | None, exists: Callable[[str], bool]) -> list[str]:
    """Images that a text file lists, relative to the file's folder when they begin with ``./``, else to the root."""
    if text is None:
        return []
    folder = posixpath.dirname(name)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    names = [posixpath.normpath(posixpath.join(folder, line)) if line.startswith("./") else line for line in lines]
    missing = [entry for entry in names if not exists(entry)]
    if missing:
        raise DataError(f"'{name}' lists {len(missing)} images that do not exist, such as {missing[0]}")
    return names
