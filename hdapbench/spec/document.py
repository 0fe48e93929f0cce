"""YAML text -> plain values with the line and column of every one of them. Never executes or expands anything."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import yaml

from hdapbench.errors import SpecError, SpecProblem

MAX_BYTES = 1 << 20
MAX_NODES = 20_000
MAX_DEPTH = 40

_COLLECTION_TAGS = frozenset({"tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"})

Path_ = tuple[str | int, ...]
Places = dict[Path_, tuple[int, int]]
Texts = dict[Path_, str]


INT, FLOAT, BOOL = (f"tag:yaml.org,2002:{kind}" for kind in ("int", "float", "bool"))


class _Loader(yaml.SafeLoader):
    """SafeLoader whose numbers are those of YAML 1.2: 1e-3 and 0o17 are some, 010 is ten, 1_000 and 1:30 are texts."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in (INT, FLOAT)]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(INT, re.compile(r"^([-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    FLOAT,
    re.compile(r"^([-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"),
    list("-+.0123456789"),
)


class Document:
    """The values of a YAML file, and where each of them stands.

    Attributes
    ----------
    values
        The top-level mapping.
    places
        Path -> (line, column), from 1, of its key in a mapping, or of the value itself in a list.
    problems
        Keys that stand twice, and tags that are not plain data.
    texts
        Path -> number or truth value as it was written, for where a text is asked for: ``001``, ``12e4``, ``no``.
    """

    def __init__(self, values: dict[str, Any], places: Places, problems: list[SpecProblem], texts: Texts) -> None:
        self.values = values
        self.places = places
        self.problems = problems
        self.texts = texts

    def put(self, path: Path_, value: Any, texts: Texts) -> None:
        """Put a value, and the texts below it, at a path; see `set_value`."""
        set_value(self.values, path, value)
        self.texts = {known: text for known, text in self.texts.items() if known[: len(path)] != path}
        self.texts |= {(*path, *below): text for below, text in texts.items()}

    def infinite(self) -> list[Path_]:
        """Paths of numbers that are infinite or not a number."""
        found: list[Path_] = []
        pending: list[tuple[Path_, Any]] = [((), self.values)]
        while pending:
            path, value = pending.pop()
            if isinstance(value, dict | list):
                inner = value.items() if isinstance(value, dict) else enumerate(value)
                pending += [((*path, key), below) for key, below in inner]
            elif isinstance(value, float) and not math.isfinite(value):
                found.append(path)
        return found

    def place(self, path: Path_) -> tuple[int, int]:
        """Line and column of a path, or of the nearest enclosing one that stands in the file."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.places:
                return self.places[path[:length]]
        return (1, 1)


def read_document(path: Path) -> Document:
    """Document of a YAML file.

    Raises
    ------
    SpecError
        With one problem when the file is absent, not text, too large, not YAML, not a mapping, or nested or aliased
        beyond reason.
    """
    return parse_document(_read_text(path), str(path))


def parse_document(text: str, source: str) -> Document:
    """Document of YAML text; ``source`` names it in problems.

    Raises
    ------
    SpecError
        As for `read_document`.
    """
    try:
        nodes = list(yaml.compose_all(text, Loader=_Loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise _refusal(source, place, f"not valid YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise _refusal(source, (1, 1), f"not valid YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise _refusal(source, (1, 1), f"nested deeper than {MAX_DEPTH} levels") from None
    if not nodes or nodes[0] is None:
        raise _refusal(source, (1, 1), "the file is empty; start from specs/quickstart.yaml")
    if len(nodes) > 1:
        mark = nodes[1].start_mark
        raise _refusal(source, (mark.line + 1, mark.column + 1), "a second YAML document; a spec is one document")
    if not isinstance(nodes[0], yaml.MappingNode):
        raise _refusal(source, (1, 1), "a spec is a mapping of keys to values")
    reader = _Reader(source)
    values = reader.value(nodes[0], ())
    return Document(values, reader.places, reader.problems, reader.texts)


def parse_value(text: str) -> tuple[Any, Texts]:
    """Value of one YAML scalar or flow collection, as after ``--set key=``, and numbers in it as they were written.

    Raises
    ------
    ValueError
        When it is not valid YAML.
    """
    reader = _Reader("--set")
    try:
        node = yaml.compose(text, Loader=_Loader)
        return None if node is None else reader.value(node, ()), reader.texts
    except (yaml.YAMLError, RecursionError, SpecError) as error:
        raise ValueError(" ".join(str(error).split())) from None


def _read_text(path: Path) -> str:
    source = str(path)
    try:
        if path.is_dir():
            raise _refusal(source, (0, 0), "is a directory; name a YAML file")
        if path.stat().st_size > MAX_BYTES:
            raise _refusal(source, (0, 0), f"is larger than {MAX_BYTES >> 20} MiB; a spec is a small YAML file")
        raw = path.read_bytes()
    except FileNotFoundError:
        raise _refusal(source, (0, 0), "does not exist") from None
    except (OSError, ValueError) as error:
        raise _refusal(source, (0, 0), f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if b"\0" in raw:
        raise _refusal(source, (0, 0), "is a binary file; a spec is YAML text")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _refusal(source, (0, 0), f"is not UTF-8 text (byte {error.start}); a spec is YAML text") from None


def _refusal(source: str, place: tuple[int, int], message: str) -> SpecError:
    return SpecError([SpecProblem(source, place[0], place[1], "", message)])


class _Reader:
    """Turns nodes into values, noting places; counts nodes so that aliases cannot blow up."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.places: Places = {}
        self.problems: list[SpecProblem] = []
        self.texts: Texts = {}
        self._n_nodes = 0
        self._constructor = _Loader("")

    def value(self, node: yaml.Node, path: Path_) -> Any:
        """Value of a node and of all below it.

        Raises
        ------
        SpecError
            When there are too many values, or too many levels.
        """
        place = (node.start_mark.line + 1, node.start_mark.column + 1)
        self._n_nodes += 1
        if self._n_nodes > MAX_NODES:
            raise _refusal(self.source, place, f"more than {MAX_NODES} values (aliases counted); refused")
        if len(path) > MAX_DEPTH:
            raise _refusal(self.source, place, f"nested deeper than {MAX_DEPTH} levels; refused")
        self.places.setdefault(path, place)
        if isinstance(node, yaml.CollectionNode) and node.tag not in _COLLECTION_TAGS:
            self._report(place, path, f"the tag {node.tag} is not plain data; tags are not supported")
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        return [self.value(child, (*path, number)) for number, child in enumerate(node.value)]

    def _mapping(self, node: yaml.MappingNode, path: Path_) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            place = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == "tag:yaml.org,2002:merge":
                self._report(place, path, "keys are plain words; merges and complex keys are not supported")
                continue
            key = key_node.value
            if key in values:
                self._report(place, (*path, key), "stands twice; remove one of the two")
                continue
            self.places[(*path, key)] = place
            values[key] = self.value(value_node, (*path, key))
        return values

    def _scalar(self, node: yaml.ScalarNode, path: Path_) -> Any:
        if node.tag in {"tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:value"}:
            return node.value
        try:
            if node.tag in {INT, FLOAT, BOOL}:
                value = _number(node) if node.tag != BOOL else self._constructor.construct_object(node)
                if node.style is None:
                    self.texts[path] = node.value
                return value
            return self._constructor.construct_object(node, deep=True)
        except (yaml.YAMLError, ValueError, OverflowError):
            place = (node.start_mark.line + 1, node.start_mark.column + 1)
            self._report(place, path, f"'{node.value}' with the tag {node.tag} is not plain data")
            return None

    def _report(self, place: tuple[int, int], path: Path_, message: str) -> None:
        self.problems.append(SpecProblem(self.source, *place, path_text(path), message))


def _number(node: yaml.Node) -> int | float:
    """Number of a scalar that YAML 1.2 takes for one, or whose tag says that it is.

    Raises
    ------
    ValueError
        When it is none.
    """
    text = node.value.lower()
    if node.tag == FLOAT:
        return float(text.replace(".inf", "inf").replace(".nan", "nan"))
    base = {"0o": 8, "0x": 16}.get(text[:2], 10)
    return int(text, base) if base != 10 else int(text)


def path_text(path: Path_) -> str:
    """Path as people write it: ``methods[0].parameters.steps``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def set_value(values: Any, path: Path_, value: Any) -> None:
    """Put a value at a path of nested mappings and lists, making mappings on the way.

    Raises
    ------
    ValueError
        When the path runs through something that is no mapping or list, or past a list's end.
    """
    for number, part in enumerate(path):
        last = number == len(path) - 1
        if isinstance(values, list):
            if not isinstance(part, int) or not 0 <= part < len(values):
                raise ValueError(f"'{path_text(path[:number])}' has entries 0..{len(values) - 1}, not '{part}'")
        elif not isinstance(values, dict):
            raise ValueError(f"'{path_text(path[:number])}' holds a single value, nothing can be set inside it")
        if last:
            values[part] = value
        elif isinstance(values, dict):
            values = values.setdefault(part, {})
        else:
            values = values[part]
