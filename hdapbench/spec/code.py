"""Code that names of a spec stand for, by content: files of the user, and what they import from beside them."""

from __future__ import annotations

import ast
import hashlib
import re
import sysconfig
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import EntryPoint, entry_points, packages_distributions
from importlib.util import find_spec
from pathlib import Path

from hdapbench.files import expand_path

ULTRALYTICS = "ultralytics"
OF_PACKAGES = frozenset({"torchvision", "timm", ULTRALYTICS})
"""What stands before the colon of models that are looked up by name in a package."""

OWN = "hdapbench"
"""The distribution whose code is the program's own, and no part of what a spec names."""

_SCALED_NAME = re.compile(r"(\d+)([nslmx])(.+)?$")


def code_hash(name: str, base_dir: Path) -> str | None:
    """Sixteen hexadecimal digits of the code behind a name, other ones once it is edited; None where it is not there.

    Of a file or a module of the user's it is that file and what it imports, directly or not, from the same folder; of
    an installed distribution all its modules; of an ultralytics yaml of the user's that file. Nothing is imported.

    Parameters
    ----------
    name
        ``./file.py:callable``, ``package.module:callable`` or ``ultralytics:NAME.yaml``; other names stand for no code.
    base_dir
        Folder that relative paths start from.
    """
    source, _, last = name.rpartition(":")
    if source == ULTRALYTICS:
        yaml = own_yaml(last, base_dir)
        return None if yaml is None else _digest(yaml.parent, [yaml])
    if not source or source in OF_PACKAGES:
        return None
    if source.endswith(".py"):
        path = base_dir / expand_path(source)
        root = package_root(path)
        files = (
            [path] if root == path.parent else _files_of(root, ".".join(path.relative_to(root).with_suffix("").parts))
        )
        return _digest(root, _with_imported(root, files)) if path.is_file() else None
    return _module_hash(source)


def package_root(path: Path) -> Path:
    """Folder that a file's imports start from: its own, or the one around the package that it belongs to."""
    root = path.parent
    while (root / "__init__.py").is_file() and root != root.parent:
        root = root.parent
    return root


def plugin_code(group: str, name: str) -> str | None:
    """As `code_hash`, of what another package offers under a name; None for plug-ins that ship."""
    offered = [point for point in entry_points(group=group, name=name) if not _ships(point)]
    return _module_hash(offered[0].module) if offered else None


def own_yaml(name: str, base_dir: Path) -> Path | None:
    """File of the user's that an ultralytics yaml name stands for; None for one that ultralytics ships.

    A bare name that ultralytics knows is always its own: specs are called by the names of their models too. Write
    ``./yolov8n.yaml`` for a file.
    """
    own = base_dir / Path(name).expanduser()
    if not own.is_file() or ("/" not in name and {name, family_yaml(name)} & shipped_yamls()):
        return None
    return own


@cache
def shipped_yamls() -> frozenset[str]:
    """Names of ultralytics' own yamls, found without its import, which must be kept quiet."""
    package = find_spec(ULTRALYTICS)
    folders = package.submodule_search_locations if package is not None else None
    return frozenset(path.name for folder in folders or () for path in Path(folder, "cfg", "models").rglob("*.yaml"))


def family_yaml(name: str) -> str:
    """Name without its scale: yolov8n.yaml is yolov8.yaml at scale n."""
    return _SCALED_NAME.sub(r"\1\3", name)


def _ships(point: EntryPoint) -> bool:
    return point.dist is not None and point.dist.name == OWN


def _module_hash(module: str) -> str | None:
    top = module.partition(".")[0]
    try:
        found = find_spec(top)
    except (ImportError, ValueError):
        return None
    if found is None or found.origin in ("built-in", "frozen"):
        return None
    places = [Path(place) for place in found.submodule_search_locations or ()]
    root = places[0].parent if places else Path(found.origin or "").parent
    if root in _installed():
        return _digest(root, [file for name in _of_same_distribution(top) for file in _modules(root, name)])
    return _digest(root, _with_imported(root, _files_of(root, module)))


def _installed() -> set[Path]:
    """Folders that hold installed distributions."""
    return {Path(place) for place in sysconfig.get_paths().values()}


def _of_same_distribution(top: str) -> list[str]:
    offers = packages_distributions()
    mine = set(offers.get(top, ()))
    return sorted({top, *(name for name, distributions in offers.items() if mine & set(distributions))})


def _modules(root: Path, name: str) -> list[Path]:
    single = root / f"{name}.py"
    return [single] if single.is_file() else sorted((root / name).rglob("*.py"))


def _with_imported(root: Path, files: Iterable[Path]) -> list[Path]:
    """Files, and all that they import from under a root, directly or not."""
    found: set[Path] = set()
    waiting = list(files)
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            waiting += [other for module in _imports(root, file) for other in _files_of(root, module)]
    return sorted(found)


def _imports(root: Path, file: Path) -> Iterator[str]:
    """Dotted names that a file imports anywhere in it; none of a file that is no Python."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return
    package = file.relative_to(root).parent.parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join((*above, *filter(None, [node.module])))
            yield base
            yield from (f"{base}.{alias.name}" if base else alias.name for alias in node.names)


def _files_of(root: Path, module: str) -> list[Path]:
    """Files under a root that the import of a dotted name executes, those of the packages around it first."""
    found = []
    parts = module.split(".") if module else []
    for n_parts in range(1, len(parts) + 1):
        place = root.joinpath(*parts[:n_parts])
        found += [file for file in (place.with_name(f"{place.name}.py"), place / "__init__.py") if file.is_file()]
    return found


def _digest(root: Path, files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        content = file.read_bytes()
        digest.update(f"{file.relative_to(root).as_posix()}|{len(content)}|".encode())
        digest.update(content)
    return digest.hexdigest()[:16]
