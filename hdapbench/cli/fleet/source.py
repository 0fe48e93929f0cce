"""What the actions of ``hdapbench fleet`` share: options, fleets from files, models to time on them."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hdapbench.cli.options import add_set_option, add_trust_option, whole_number
from hdapbench.cli.output import raw, write_output
from hdapbench.errors import FleetError, printable

if TYPE_CHECKING:
    from hdapbench.bench.network import Network
    from hdapbench.cost.kernels import KernelModel
    from hdapbench.fleet.base import Fleet, Variants
    from hdapbench.fleet.fingerprint import Fingerprint
    from hdapbench.spec import FleetSpec, ModelSpec

RECORDINGS = (".csv", ".tsv")


@dataclass(frozen=True)
class Source:
    """A fleet, and its fingerprint where the file was one."""

    fleet: Fleet
    spec: FleetSpec
    fingerprint: Fingerprint | None


def add_fleet_argument(parser: argparse.ArgumentParser, *, what: str) -> None:
    """Add the file, ``--fleet`` and ``--set``."""
    parser.add_argument("file", metavar="FILE", type=Path, help=what)
    parser.add_argument("--fleet", metavar="NAME", help="which fleet of a spec with several")
    add_trust_option(parser)
    add_set_option(parser, help_text="override a key of the fleet, such as n_devices=1000; may be repeated")


def add_clustering_options(parser: argparse.ArgumentParser) -> None:
    """Add how devices are clustered."""
    parser.add_argument("--method", default=None, help="kmeans, minibatch-kmeans, gmm, birch, dbscan, hdbscan, ...")
    parser.add_argument("--clusters", default=None, metavar="N", help="a number, auto (default) or silhouette")
    parser.add_argument(
        "--representatives", type=whole_number, default=None, metavar="N", help="devices measured per cluster"
    )
    parser.add_argument(
        "--estimator", default=None, help="medoid, calibrated, stratified, greg, random or auto (default)"
    )


def add_output_options(parser: argparse.ArgumentParser, *, plot: str | None = None) -> None:
    """Add ``--json`` and, where there is a picture, ``--plot``."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    if plot is not None:
        parser.add_argument("--plot", type=Path, metavar="FILE", help=f"draw {plot}: a .png or .html file")


def open_source(arguments: argparse.Namespace) -> Source:
    """Fleet of a fleet file, a spec, a recording or a fingerprint.

    Raises
    ------
    HdapbenchError
        When it cannot be read.
    """
    from hdapbench.cli.trust import require_trust_of_fleet
    from hdapbench.fleet.open import open_fleet
    from hdapbench.fleet.remaining import remaining

    path: Path = arguments.file
    if path.suffix in (".parquet", ".pq") and _is_fingerprint(path):
        from hdapbench.fleet.fingerprint import load_fingerprint

        fingerprint = load_fingerprint(path)
        spec = with_overrides(_remembered(fingerprint, path), arguments.overrides)
        require_trust_of_fleet(spec, path, trusted=arguments.trust)
        fleet = open_fleet(spec, on_progress=show_step)
        return Source(remaining(fleet, fingerprint.device_ids), spec, fingerprint)
    spec = fleet_spec(path, arguments.fleet, arguments.overrides)
    require_trust_of_fleet(spec, path, trusted=arguments.trust)
    fleet = open_fleet(spec, on_progress=show_step)
    return Source(fleet, spec, fleet.recorded_fingerprint())


def fleet_spec(path: Path, name: str | None, overrides: list[str]) -> FleetSpec:
    """Spec of the fleet that a file holds or names.

    Raises
    ------
    FleetError, SpecError
        When there is none, or several and no name was given.
    """
    from hdapbench.spec import as_name, did_you_mean, load_fleets

    if path.suffix in (*RECORDINGS, ".parquet", ".pq"):
        values = {"name": as_name(path.stem) or "recorded", "kind": "recorded", "path": str(path)}
        return with_overrides(values, overrides)
    if not path.exists():
        raise FleetError(f"there is no file '{path}'; make a fleet with: hdapbench fleet make -o {path}")
    fleets = load_fleets(path)
    names = [fleet.name for fleet in fleets]
    if name is None:
        if len(fleets) > 1:
            raise FleetError(f"'{path}' has {len(fleets)} fleets; choose one with --fleet: {', '.join(names)}")
        name = names[0]
    if name not in names:
        raise FleetError(f"'{path}' has no fleet '{name}'{did_you_mean(name, names)}")
    # Overrides go to the resolved fleet, where a scenario's short form has become a mapping.
    return with_overrides(fleets[names.index(name)].model_dump(mode="json", exclude_none=True), overrides)


def need_fingerprint(source: Source, path: Path) -> Fingerprint:
    """The fingerprint, or an error that says how to take one."""
    if source.fingerprint is None:
        raise FleetError(
            f"'{path}' is a fleet without a fingerprint; take one with: hdapbench fleet fingerprint {path} -o "
            f"{path.with_suffix('.parquet').name}"
        )
    return source.fingerprint


def remembered_kernels(fingerprint: Fingerprint, path: Path) -> KernelModel:
    """Kernels of the model that a fingerprint was taken with.

    Raises
    ------
    FleetError
        When the file does not hold them, as a recording does not.
    """
    from hdapbench.cost.kernel_file import kernels_from_dict

    if "kernels" not in fingerprint.conditions:
        raise FleetError(f"'{path}' does not say which model its probes are of; a recording cannot be measured again")
    return kernels_from_dict(fingerprint.conditions["kernels"])


def remembered_variants(fingerprint: Fingerprint, fleet: Fleet, arguments: argparse.Namespace) -> Variants | None:
    """How models like a fingerprint's probes are built, for fleets that run them; None for others.

    Raises
    ------
    ModelError
        When they are code, and the command line does not trust the file.
    """
    from hdapbench.models.user_code import refuse_code
    from hdapbench.spec import ModelSpec

    known = fingerprint.conditions.get("model_spec")
    if fleet.source == "simulated" or known is None:
        return None
    fields = {key: value for key, value in known.items() if key != "n_classes"}
    spec = ModelSpec.model_validate_json(json.dumps(fields))
    if not arguments.trust:
        refuse_code(spec.name, told_by=arguments.file)
    return trace_model(spec, known["n_classes"]).variants


def trace_model(spec: ModelSpec, n_classes: int) -> Network:
    """An untrained model, traced."""
    import torch

    from hdapbench.bench.network import trace
    from hdapbench.models import build_model

    torch.manual_seed(0)
    model = build_model(spec, n_classes=n_classes, base_dir=Path()).eval()
    return trace(model, spec.input_shape, attention=spec.attention)


_shown_at = [0.0]
STEP_SECONDS = {True: 0.2, False: 10.0}
"""Between two steps shown: on a terminal, and elsewhere."""


def show_step(text: str) -> None:
    """Show what a fleet is doing: overwrite a line of a terminal; elsewhere a line now and then."""
    terminal = sys.stderr.isatty()
    if time.monotonic() - _shown_at[0] < STEP_SECONDS[terminal]:
        return
    _shown_at[0] = time.monotonic()
    shown, end = (f"\r\x1b[K{printable(text)}", "") if terminal else (printable(text), "\n")
    print(shown, end=end, file=raw(sys.stderr), flush=True)


def clear_step() -> None:
    """Leave nothing of the last step on a terminal."""
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=raw(sys.stderr), flush=True)


def clustering_spec(arguments: argparse.Namespace, spec: FleetSpec) -> Any:
    """How to cluster: the fleet's own way, changed by the command line.

    Raises
    ------
    FleetError
        When an option has no such value.
    """
    from pydantic import ValidationError

    from hdapbench.spec import ClusteringSpec

    changes: dict[str, Any] = {
        "method": arguments.method,
        "n_clusters": int(arguments.clusters) if (arguments.clusters or "").isdigit() else arguments.clusters,
        "representatives": arguments.representatives,
        "estimator": arguments.estimator,
    }
    named = {key: value for key, value in changes.items() if value is not None}
    try:
        return ClusteringSpec.model_validate(spec.clustering.model_dump() | named)
    except ValidationError as error:
        first = error.errors()[0]
        if first["loc"][0] == "n_clusters":
            raise FleetError(f"--clusters {first['input']}: a number of at least 1, auto or silhouette") from None
        raise FleetError(
            f"--{first['loc'][0]} {first['input']}: {first['msg'].removeprefix('Input should be ')}"
        ) from None


def write_plot(path: Path, picture: bytes, *, title: str) -> None:
    """Write a PNG as it is, or inside a page of its own."""
    from hdapbench.render.picture import page

    if path.suffix not in (".png", ".html"):
        raise FleetError(f"--plot {path}: name a .png or .html file")
    write_output(path, picture if path.suffix == ".png" else page(picture, title=title))


def _is_fingerprint(path: Path) -> bool:
    import polars as pl

    from hdapbench.fleet.damaged import table_errors

    if not path.is_file():
        return False
    try:
        return "hdapbench" in pl.read_parquet_metadata(path)
    except table_errors():
        return False


def _remembered(fingerprint: Fingerprint, path: Path) -> dict[str, Any]:
    """The fleet that a fingerprint was taken of."""
    known = fingerprint.conditions.get("fleet_spec")
    if known is None:
        raise FleetError(
            f"'{path}' does not say which fleet it was taken of; take it again with: hdapbench fleet fingerprint"
        )
    return dict(known)


def with_overrides(values: dict[str, Any], overrides: list[str]) -> FleetSpec:
    """Fleet's spec of plain values with ``--set`` applied.

    Raises
    ------
    FleetError
        With every problem, one per line.
    """
    from pydantic import TypeAdapter, ValidationError

    from hdapbench.spec import AnyFleetSpec, FleetSpec
    from hdapbench.spec.document import path_text, set_value
    from hdapbench.spec.fleet_kinds import BUILT_IN
    from hdapbench.spec.loader import parse_override
    from hdapbench.spec.messages import message

    adapter: TypeAdapter[FleetSpec] = TypeAdapter(AnyFleetSpec)
    for text in overrides:
        try:
            key, value = parse_override(text)
            set_value(values, key, value)
        except ValueError as error:
            raise FleetError(f"--set {text}: {error}") from None
    try:
        return adapter.validate_python(values)
    except ValidationError as error:
        kind = BUILT_IN.get(values.get("kind", ""), FleetSpec)
        problems = []
        for details in error.errors():
            path = details["loc"][1:]
            problems.append(f"{path_text(path)}: {message(details, path, (kind,), repr(details['input'])[:60])}")
        raise FleetError("\n".join(problems)) from None
