"""Luggage: what a node of a cluster needs of the machine that a run began on, as contents of files."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from hdapbench.errors import ExecutorError
from hdapbench.executor.message import Order
from hdapbench.files import replacing
from hdapbench.run.grid import base_directory
from hdapbench.run.workspace import Workspace
from hdapbench.spec import LoadedSpec, context_hash
from hdapbench.spec.code import code_hash

MOST_BYTES = 100_000_000
LEFT_OUT = frozenset({"__pycache__", "leaderboards", "node_modules", "build", "dist", "site"})
"""Folders beside a spec that no trial needs; hidden ones do not travel either."""

Files = dict[str, bytes]
"""Path -> content."""


@dataclass(frozen=True)
class Luggage:
    """What travels: the order of the workers, the files of the spec's folder, and those of methods beside them."""

    order: Order
    files: Files

    def unpacked(self, root: Path, path: Iterable[str]) -> Order:
        """Order of workers on a node, on whose disk the files are now.

        Parameters
        ----------
        root
            Folder of the run on this node.
        path
            Where modules are searched for on this node.
        """
        write_files(root, self.files)
        order = self.order
        added = tuple(root / found if isinstance(found, Path) else found for found in order.added)
        source = str(root / "spec" / Path(order.loaded.source).name)
        loaded = replace(order.loaded, source=source)
        return replace(order, loaded=loaded, added=added, workspace=root / "workspace", path=tuple(path))


def packed(order: Order) -> Luggage:
    """Luggage of an order.

    Raises
    ------
    ExecutorError
        When it is too large.
    """
    folder = base_directory(order.loaded)
    found = {f"spec/{path.relative_to(folder)}": path for path in _beside(folder, order.workspace)}
    added: list[Path | str] = []
    for number, method in enumerate(order.added):
        if isinstance(method, str):
            added.append(method)
            continue
        place = f"methods/{number}/{method.name}"
        added.append(Path(place))
        inside = sorted(method.rglob("*.py")) if method.is_dir() else [method]
        found |= {f"{place}/{path.relative_to(method)}" if method.is_dir() else place: path for path in inside}
    n_bytes = sum(path.stat().st_size for path in found.values())
    if n_bytes > MOST_BYTES:
        raise ExecutorError(
            f"the folder '{folder}' of the spec holds {n_bytes / 1e6:,.0f} MB and travels to the cluster, at most "
            f"{MOST_BYTES / 1e6:.0f} MB; keep data elsewhere and name them by a path that each node has"
        )
    return Luggage(replace(order, added=tuple(added)), {name: path.read_bytes() for name, path in found.items()})


def _beside(folder: Path, workspace: Path) -> Iterator[Path]:
    """Files in a spec's folder that trials may need."""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and name not in LEFT_OUT and Path(place, name).resolve() != workspace
        )
        yield from (
            path for name in sorted(files) if not name.startswith(".") and (path := Path(place, name)).is_file()
        )


def write_files(root: Path, files: Mapping[str, bytes], *, anew: bool = False) -> None:
    """Write files, each whole or not at all; those that are there only ``anew``."""
    for name, content in files.items():
        path = root / name
        if anew or not path.exists():
            with replacing(path) as partial:
                partial.write_bytes(content)


def read_files(root: Path, folder: str) -> Files:
    """Files in a folder, by their paths from a root; none where it is not there."""
    found = sorted(path for path in (root / folder).rglob("*") if path.is_file() and not path.name.startswith("."))
    return {str(path.relative_to(root)): path.read_bytes() for path in found}


def at_home(artifact: Files, folder: Path) -> Files:
    """An artifact's files, its description naming the spec's folder where the run began and not on its node."""
    from hdapbench.run.artifact import DESCRIPTION

    found = dict(artifact)
    for name in artifact:
        if Path(name).name == DESCRIPTION:
            description = json.loads(artifact[name]) | {"base_dir": str(folder)}
            found[name] = f"{json.dumps(description, indent=2, sort_keys=True)}\n".encode()
    return found


def base_key(loaded: LoadedSpec) -> str:
    """Thirty-two hexadecimal digits of what a base model depends on, as far as it is known without its data."""
    context = context_hash(loaded.spec, {})
    code = code_hash(loaded.spec.model.name, base_directory(loaded))
    return hashlib.sha256(json.dumps([context, code]).encode()).hexdigest()[:32]


class Bases:
    """Base models of a workspace that travelled: which file is that of a spec.

    Parameters
    ----------
    key
        What names the base model before it is there.
    """

    def __init__(self, workspace: Workspace, key: str) -> None:
        self._root, self._note = workspace.root, workspace.cache / "ray" / f"{key}.txt"

    def read(self) -> Files | None:
        """Its files; None where it has not travelled yet."""
        if not self._note.is_file():
            return None
        names = self._note.read_text().split()
        paths = [self._root / name for name in names]
        return {n: p.read_bytes() for n, p in zip(names, paths, strict=True)} if all(map(Path.is_file, paths)) else None

    def write(self, files: Files) -> None:
        """Keep its files."""
        write_files(self._root, files)
        with replacing(self._note) as partial:
            partial.write_text("\n".join(files))
