"""What a spec asks of the machine and files around it, found out before anything is spent. Torch only for a GPU."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator, Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from packaging.requirements import Requirement

from hdapbench.errors import DataError, HdapbenchError, MethodError, MissingExtraError, SpecProblem, said
from hdapbench.fleet.local.device import devices_of
from hdapbench.fleet.open import open_fleet
from hdapbench.fleet.recorded.fleet import RecordedFleet
from hdapbench.fleet.recorded.matrix import name_of_model
from hdapbench.method.registry import MethodRegistry
from hdapbench.plan import name_of_widths
from hdapbench.run.grid import base_directory, resolve_path
from hdapbench.runtimes.base import find_runtime
from hdapbench.runtimes.host import usable_cpus
from hdapbench.spec import BoardFleetSpec, CommandFleetSpec, LoadedSpec, LocalFleetSpec, problem_at
from hdapbench.spec.data import ADVICE, EMBEDDED, SHIPPED
from hdapbench.tasks.device import AUTO, CPU, kind_of, lack_of


def unmet(loaded: LoadedSpec, widths: Sequence[int] | None, *, cache_dir: Path) -> list[SpecProblem]:
    """Everything that a run of a spec would stumble on here, each at its place; fleets are opened, nothing is measured.

    Parameters
    ----------
    widths
        Channels of the dense model's groups; None where they are not known.
    """
    problems = [*_device(loaded), *_data(loaded)]
    for number in range(len(loaded.spec.fleets)):
        problems += _fleet(loaded, number, widths, cache_dir=cache_dir)
    return problems


def cautions(loaded: LoadedSpec, registry: MethodRegistry) -> list[SpecProblem]:
    """What a run of a spec does otherwise than its author may expect here, each at its place."""
    found = []
    n_cpus = len(usable_cpus())
    threads = loaded.spec.threads
    if threads > n_cpus:
        text = f"{threads} threads share {n_cpus} CPUs here, which makes training slower; write threads: {n_cpus}"
        found.append(problem_at(loaded, ("threads",), text))
    for number, method in enumerate(loaded.spec.methods):
        if missing := _missing(registry, method.name):
            text = f"{method.name} is skipped or fails: {missing}"
            found.append(problem_at(loaded, ("methods", number), text))
    return found


def _device(loaded: LoadedSpec) -> Iterator[SpecProblem]:
    device = loaded.spec.device
    lack = lack_of(device)
    if lack is not None:
        yield problem_at(loaded, ("device",), lack)
    for name, recipe in (("base", loaded.spec.base), ("fine_tune", loaded.spec.fine_tune)):
        if device == AUTO and recipe.precision == "amp" and kind_of(device) == CPU:
            yield problem_at(
                loaded, (name, "precision"), "amp needs a GPU, and torch finds none here; write bf16 or fp32"
            )


def _data(loaded: LoadedSpec) -> Iterator[SpecProblem]:
    """Problem of data that are not where the spec says; what they hold is looked at when classes are counted."""
    data = loaded.spec.data
    if data.path is None:
        if data.name in SHIPPED and data.name not in EMBEDDED:
            yield problem_at(
                loaded, ("data",), f"the key 'path' is missing: {data.name} needs to know where the images are"
            )
        return
    try:
        path = resolve_path(loaded, data.path)
    except DataError as error:
        yield problem_at(loaded, ("data", "path"), str(error))
        return
    if not path.exists():
        variable = re.search(r"\$\{(\w+)", data.path)
        fix = "paths start from the spec's folder"
        if variable:
            fix = f"set the environment variable {variable[1]} to the folder that holds it (the spec: {data.path})"
        advice = f"; {ADVICE[data.name]}" if data.name in ADVICE else ""
        yield problem_at(loaded, ("data", "path"), f"there is no '{path}'{advice}; {fix}")


def _fleet(loaded: LoadedSpec, number: int, widths: Sequence[int] | None, *, cache_dir: Path) -> Iterator[SpecProblem]:
    """Problems of a fleet that cannot be opened here, or has not recorded what a run measures."""
    spec = loaded.spec.fleets[number]
    named = spec.model_dump(include={spec.file_key or ""}, exclude_none=True)  # not where boards stand in the spec
    place: tuple[str | int, ...] = ("fleets", number, *named)
    try:
        fleet = open_fleet(spec.located(base_directory(loaded)), cache_dir=cache_dir / "exports")
    except Exception as error:  # noqa: BLE001 - kinds of other packages may raise anything
        kind = "" if isinstance(error, HdapbenchError) else f"{type(error).__name__}: "
        lines = str(error).splitlines() if isinstance(error, HdapbenchError) else [said(error)]
        yield from (problem_at(loaded, place, f"{kind}{line}") for line in lines)
        return
    dense = None if widths is None else name_of_widths(widths)
    if isinstance(fleet, RecordedFleet) and dense is not None and dense not in fleet.plans:
        some = ", ".join(map(repr, fleet.plans[:3])) + (", ..." if len(fleet.plans) > 3 else "")
        text = (
            f"a recorded fleet times only the plans of its file ({some}), and a run measures new ones, first "
            f"'{dense}'; have them measured, this one first, with: hdapbench fleet ask {loaded.source} -o job.zip; "
            f"or estimate the file's average with: hdapbench fleet estimate {spec.file}"
        )
        yield problem_at(loaded, place, text)
    elif isinstance(fleet, RecordedFleet) and dense is not None:
        model, noted = loaded.spec.model, fleet.model_of(dense)
        if noted not in (None, name_of_model(model)):
            text = f"'{dense}' was recorded of {noted}, not of {name_of_model(model)}; name a file for each network"
            yield problem_at(loaded, place, text)
    fleet.close()
    yield from _of_devices(loaded, number)


def _of_devices(loaded: LoadedSpec, number: int) -> Iterator[SpecProblem]:
    """Packages and programs that a fleet's devices need here."""
    spec = loaded.spec.fleets[number]
    packages: set[str] = set()
    if isinstance(spec, LocalFleetSpec):
        packages = {find_runtime(device.runtime.runtime).package for device in devices_of(spec)}
    if isinstance(spec, BoardFleetSpec):
        packages = {"onnx", "onnxruntime"}
    if isinstance(spec, CommandFleetSpec):
        for key, template in (("push", spec.push), ("run", spec.run)):
            program = shlex.split(template)[0] if template and not spec.shell else None
            if program is not None and "{" not in program and shutil.which(program) is None:
                yield problem_at(loaded, ("fleets", number, key), f"there is no program '{program}' here")
    for package in sorted(packages):
        if find_spec(package) is None:
            missing = MissingExtraError(package, "onnx", "a device of this fleet")
            yield problem_at(loaded, ("fleets", number), str(missing))


def _missing(registry: MethodRegistry, name: str) -> str | None:
    """What a method needs that is not installed, and how to get it; None where nothing is missing."""
    try:
        extra, package = registry.get(name).extra, registry.package(name)
        wanted = [Requirement(text) for text in metadata.requires(package) or ()] if extra else []
    except (MethodError, metadata.PackageNotFoundError):
        return None
    needed = [one.name for one in wanted if one.marker and one.marker.evaluate({"extra": extra or ""})]
    missing = [one for one in needed if not _is_installed(one)]
    if not missing:
        return None
    return f"it needs {', '.join(missing)}, not installed here; install with: pip install '{package}[{extra}]'"


def _is_installed(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True
