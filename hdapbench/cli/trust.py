"""Code that a spec names runs once the user said so, by ``--trust`` or a prompt; files in its folder run with it."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hdapbench.errors import FleetError, SpecError, printable
from hdapbench.files import expand_path, file_hash
from hdapbench.spec.code import OF_PACKAGES

if TYPE_CHECKING:
    from hdapbench.spec import FleetSpec, LoadedSpec

FOLDERS = "HDAPBENCH_TRUST"
"""Variable with folders whose specs may name code of these folders, separated as in PATH. By default that is the folder
of each spec, for files in it; set and empty, it is none.
"""


@dataclass(frozen=True)
class NamedCode:
    """Code that a spec names.

    Attributes
    ----------
    place
        Where in the spec.
    name
        As the spec writes it.
    file
        Its file or folder; None for a module that is imported by name.
    arguments
        What it is called with.
    """

    place: tuple[str | int, ...]
    name: str
    file: Path | None
    arguments: dict[str, Any]

    def digest(self, base_dir: Path) -> str:
        """Other digits once the name, the arguments or a file's code changes."""
        from hdapbench.spec.code import code_hash

        content: list[str | None] = []
        if self.file is not None and self.file.is_dir():
            content = [file_hash(file) for file in sorted(self.file.rglob("*.py"))]
        elif self.file is not None:
            content = [code_hash(f"{self.file}:x", base_dir)]
        described = json.dumps([self.name, self.arguments, content], sort_keys=True, default=str)
        return hashlib.sha256(described.encode(errors="replace")).hexdigest()[:32]


def require_trust(loaded: LoadedSpec, overrides: Sequence[str], *, trusted: bool) -> None:
    """Let code pass that the user trusts, and remember it by content; what the command line names, the user named.

    Parameters
    ----------
    overrides
        ``KEY=VALUE`` of the command line.
    trusted
        Whether the user gave ``--trust``.

    Raises
    ------
    SpecError
        When the spec names code that the user has not been asked about, and nobody is there to ask.
    """
    from hdapbench.run.grid import base_directory
    from hdapbench.spec import problem_at

    typed = {override.partition("=")[0].strip() for override in overrides}
    base_dir = base_directory(loaded)
    codes = [
        code
        for code in _named(loaded, base_dir)
        if not typed & {str(code.place[0]), "model.name" if code.place[0] == "model" else ""}
    ]
    refused = _not_trusted(codes, base_dir, source=loaded.source, trusted=trusted)
    if refused:
        raise SpecError([problem_at(loaded, code.place, _advice(code)) for code in refused])


def require_trust_of_fleet(fleet: FleetSpec, told_by: Path, *, trusted: bool) -> None:
    """Let the commands of a fleet pass that the user trusts, and remember them.

    Parameters
    ----------
    told_by
        The file that names the fleet.

    Raises
    ------
    FleetError
        When it has commands that the user has not been asked about, and nobody is there to ask.
    """
    folder = told_by.resolve().parent
    refused = _not_trusted(list(_commands(fleet, (), folder)), folder, source=str(told_by), trusted=trusted)
    if refused:
        raise FleetError(f"'{told_by}': {_advice(refused[0])}")


def _not_trusted(codes: Sequence[NamedCode], base_dir: Path, *, source: str, trusted: bool) -> list[NamedCode]:
    """Those codes that the user does not trust; what is trusted now is remembered where nothing is refused."""
    known, refused, fresh = _accepted(), [], []
    for code in codes:
        if (code.file is not None and not code.file.exists()) or _in_trusted_folder(code, base_dir):
            continue  # whoever opens it says that it is not there
        digest = code.digest(base_dir)
        if digest in known:
            continue
        if trusted or _agreed(source, code.name):
            fresh.append(f"{digest}  {printable(code.name)}")
        else:
            refused.append(code)
    if not refused:
        _remember(fresh)
    return refused


def _advice(code: NamedCode) -> str:
    return (
        f"'{code.name}' is code that would be run; if you trust it, add --trust (asked once, and again "
        f"when it changes), or name your folder in {FOLDERS}"
    )


def _named(loaded: LoadedSpec, base_dir: Path) -> Iterator[NamedCode]:
    """Code that a spec names: its model, files of methods, and commands of fleets."""
    for place, network in (("model",), loaded.spec.model), (("base", "teacher"), loaded.spec.base.teacher):
        source, separator, _ = network.name.rpartition(":") if network is not None else ("", "", "")
        if network is not None and separator and network.name.partition(":")[0] not in OF_PACKAGES:
            file = base_dir / expand_path(source) if source.endswith(".py") else None
            yield NamedCode((*place, "name"), network.name, file, network.arguments)
    for number, plugin in enumerate(loaded.spec.plugins):
        yield NamedCode(("plugins", number), plugin, base_dir / expand_path(plugin), {})
    for number, fleet in enumerate(loaded.spec.fleets):
        yield from _commands(fleet, ("fleets", number), base_dir)


def _commands(fleet: FleetSpec, place: tuple[str | int, ...], base_dir: Path) -> Iterator[NamedCode]:
    """What a fleet's kind runs besides its own code."""
    code = fleet.code(base_dir)
    if code is not None:
        key = "run" if "run" in type(fleet).model_fields else "kind"
        yield NamedCode((*place, key), code[0], None, code[1])


def _in_trusted_folder(code: NamedCode, base_dir: Path) -> bool:
    """Whether the spec, and the file of the code if it has one, lie in a folder of the variable.

    Where the variable is not set, a file in the spec's folder does: they are one program, as a folder with a Makefile.
    """
    if FOLDERS not in os.environ:
        return code.file is not None and code.file.resolve().is_relative_to(base_dir.resolve())
    folders = [Path(text).expanduser().resolve() for text in os.environ[FOLDERS].split(os.pathsep) if text]
    places = [base_dir.resolve(), *([] if code.file is None else [code.file.resolve()])]
    return any(all(place.is_relative_to(folder) for place in places) for folder in folders)


def _agreed(source: str, name: str) -> bool:
    """Whether the user says yes; nobody does where there is no terminal."""
    if not (sys.stdin and sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    print(f"{printable(source)} names '{printable(name)}', which is code. Run it? [y/N] ", end="", file=sys.stderr)
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _store() -> Path:
    """File of the user's own: one in a workspace may come with the spec."""
    state = os.environ.get("XDG_STATE_HOME") or Path("~/.local/state").expanduser()
    return Path(state) / "hdapbench" / "trusted.txt"


def _accepted() -> set[str]:
    with suppress(OSError, RuntimeError):  # RuntimeError: there is no home
        return {line.partition(" ")[0] for line in _store().read_text(encoding="utf-8", errors="replace").splitlines()}
    return set()


def _remember(lines: Sequence[str]) -> None:
    if not lines:
        return
    with suppress(OSError, RuntimeError):
        _store().parent.mkdir(parents=True, exist_ok=True)
        with _store().open("a", encoding="utf-8", errors="replace") as stream:
            stream.write("".join(f"{line}\n" for line in lines))
