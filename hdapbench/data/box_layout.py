"""Data yamls of ultralytics: which images a detection set holds, in a folder or in an archive. Never runs anything."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from hdapbench.data.kinds import MAX_FILE_BYTES, is_image, shown
from hdapbench.data.source import decoded, kinds_of, list_contents, read_texts
from hdapbench.errors import DataError
from hdapbench.files import expand_path
from hdapbench.spec.data import ADVICE

MAX_CLASSES = 100_000
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
    n_key_points
        Values after the box on each line, where objects have key points: they are read past.
    left_out
        Kinds of files beside the images, and how many there are.
    """

    root: Path
    classes: tuple[str, ...]
    train: tuple[str, ...]
    test: tuple[str, ...]
    label_text: Callable[[str], str | None]
    n_key_points: int = 0
    left_out: Mapping[str, int] = field(default_factory=dict)


def read_layout(source: Path) -> BoxLayout:
    """Layout of a data yaml, or of the one in a folder or tar archive.

    Raises
    ------
    DataError
        When there is none, or it names no images or classes.
    """
    if not source.exists():
        raise DataError(f"there is no '{source}'; {ADVICE['yolo']}")
    if source.is_file() and source.suffix.lower() not in {".yaml", ".yml"}:
        return _of_archive(source)
    path = source if source.is_file() else _yaml_in(source)
    content = _parsed(_read(path), str(path))
    root = _root(path, content)
    beside: Counter[str] = Counter()

    def text(name: str) -> str | None:
        file = root / name
        if file.is_symlink() and not file.exists():
            raise DataError(f"'{shown(str(file))}' is a link that leads nowhere; repair or remove it")
        return _read(file, errors="replace") if file.is_file() else None

    def listed(entry: str) -> list[str]:
        entry = str(expand_path(entry))
        if (root / entry).is_dir():
            found = list_contents(root / entry)
            images = [name for name in sorted(found.files) if is_image(name)]
            beside.update(kinds_of(name for name in found.files if not is_image(name)))
            return [f"{entry.rstrip('/')}/{name}" for name in images]
        return _listed_in(entry, text(entry), lambda name: (root / name).is_file())

    return replace(_layout(root, content, str(path), listed, text), left_out=beside)


def read_classes(source: Path) -> tuple[str, ...]:
    """Names of the classes of a data yaml, or of the one in a folder or tar archive; images are not looked at.

    Raises
    ------
    DataError
        When there is no yaml, or it names no classes.
    """
    if not source.exists():
        raise DataError(f"there is no '{source}'; {ADVICE['yolo']}")
    if source.is_file() and source.suffix.lower() not in {".yaml", ".yml"}:
        texts = read_texts(source)
        name = _first_yaml(texts, source)
        origin = f"{source}:{name}"
        return _classes(_parsed(decoded(texts[name], origin), origin), origin)
    path = source if source.is_file() else _yaml_in(source)
    return _classes(_parsed(_read(path), str(path)), str(path))


def _of_archive(source: Path) -> BoxLayout:
    texts = read_texts(source)
    yaml_name = _first_yaml(texts, source)
    origin = f"{source}:{yaml_name}"
    content = _parsed(decoded(texts[yaml_name], origin), origin)
    root = posixpath.normpath(
        posixpath.join(posixpath.dirname(yaml_name), content["path"] if isinstance(content.get("path"), str) else ".")
    )
    contents = list_contents(source)
    images = [name for name in contents.files if is_image(name)]
    known = set(images)

    def text(name: str) -> str | None:
        return texts[name].decode("utf-8-sig", errors="replace") if name in texts else None

    def listed(entry: str) -> list[str]:
        folder = posixpath.normpath(posixpath.join(root, entry))
        inside = sorted(name for name in images if PurePosixPath(name).is_relative_to(folder))
        return inside or _listed_in(folder, text(folder), lambda name: posixpath.normpath(name) in known)

    layout = _layout(source, content, origin, listed, text)
    folders = {posixpath.dirname(name) for name in (*layout.train, *layout.test)}
    others = [name for name in contents.files if posixpath.dirname(name) in folders and not is_image(name)]
    return replace(layout, left_out=kinds_of(others))


def _layout(
    root: Path,
    content: Mapping[str, Any],
    origin: str,
    listed: Callable[[str], list[str]],
    text: Callable[[str], str | None],
) -> BoxLayout:
    def images(key: str) -> tuple[str, ...]:
        entries = content.get(key) or []
        entries = [entries] if isinstance(entries, str) else entries
        if not (isinstance(entries, list) and all(isinstance(entry, str) for entry in entries)):
            raise DataError(f"'{origin}': {key} must be a folder, a text file or a list of them; {ADVICE['yolo']}")
        found: list[str] = []
        for entry in entries:
            # Roboflow writes ../train/images where it means train/images; ultralytics understands it so too.
            found += listed(entry) or (listed(entry[3:]) if entry.startswith("../") else [])
        return tuple(dict.fromkeys(found))

    classes = _classes(content, origin)
    train, test = images("train"), images("test") or images("val")
    for key, found in (("train", train), ("test or val", test)):
        if not found:
            raise DataError(f"'{origin}': no images of {key} were found under '{root}'; {ADVICE['yolo']}")
    shared = set(train) & set(test)
    if shared:
        raise DataError(f"'{origin}': train and test share {len(shared)} images, such as {min(shared)}")
    return BoxLayout(root, classes, train, test, text, n_key_points=_n_key_points(content, origin))


def _classes(content: Mapping[str, Any], origin: str) -> tuple[str, ...]:
    names = content.get("names")
    if isinstance(names, Mapping) and sorted(names) == list(range(len(names))):
        names = [names[number] for number in range(len(names))]
    if names is None and isinstance(content.get("nc"), int):
        names = list(range(min(content["nc"], MAX_CLASSES)))
    if not isinstance(names, list) or not names or any(isinstance(name, list | Mapping) for name in names):
        raise DataError(f"'{origin}': names must list the classes, counted from 0; {ADVICE['yolo']}")
    return tuple(str(name) for name in names)


def _n_key_points(content: Mapping[str, Any], origin: str) -> int:
    """Values of the key points of one object; none where the yaml has no ``kpt_shape``."""
    shape = content.get("kpt_shape", [0, 2])
    if not (isinstance(shape, list) and len(shape) == 2 and isinstance(shape[0], int) and shape[1] in (2, 3)):
        raise DataError(f"'{origin}': kpt_shape must be [points, 2 or 3], not {shape!r:.60}")
    return int(shape[0] * shape[1])


def _read(path: Path, errors: str = "strict") -> str:
    """Text of a file of a set."""
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_FILE_BYTES)
    except OSError as error:
        raise DataError(f"'{shown(str(path))}' cannot be read: {error.strerror}") from error
    return decoded(content, shown(str(path))) if errors == "strict" else content.decode("utf-8-sig", errors)


def _parsed(text: str, origin: str) -> Mapping[str, Any]:
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DataError(f"'{origin}' is not valid YAML: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(content, Mapping):
        raise DataError(f"'{origin}' is not a mapping; {ADVICE['yolo']}")
    return content


def _root(path: Path, content: Mapping[str, Any]) -> Path:
    """Folder that a yaml's entries are relative to: its ``path`` if that exists, else the yaml's own folder."""
    given = content.get("path")
    if not isinstance(given, str):
        return path.parent
    root = path.parent / expand_path(given)
    # Yamls that ship with ultralytics name a folder under its datasets folder: here they lie beside the images.
    return root if root.is_dir() else path.parent


def _yaml_in(folder: Path) -> Path:
    for name in YAML_NAMES:
        for path in (folder / name, *sorted(folder.glob(f"*/{name}"))):
            if path.is_file():
                return path
    raise DataError(f"'{folder}' holds no {YAML_NAMES[0]}; {ADVICE['yolo']}")


def _first_yaml(texts: Collection[str], source: Path) -> str:
    found = [name for name in texts if PurePosixPath(name).name in YAML_NAMES]
    if not found:
        raise DataError(f"'{source}' holds no {YAML_NAMES[0]}; {ADVICE['yolo']}")
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
