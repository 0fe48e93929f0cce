"""``hdapbench fleet make``: the spec of a fleet: simulated, local and fitted to this host, or of a Ray cluster."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from hdapbench.cli.options import add_set_option, seed_number
from hdapbench.cli.output import write_output


def add_parser(actions: Any) -> None:
    """Add the action to the parser."""
    parser = actions.add_parser("make", help="write a fleet's spec", description=__doc__)
    parser.add_argument("--name", default=None, help="how boards call it (default: SKU and scenario)")
    parser.add_argument("--sku", default="xavier_nx", help="xavier_nx, nano, or a YAML file (default: %(default)s)")
    parser.add_argument("--scenario", default="mixed", help="same_config, mixed or harsh (default: %(default)s)")
    parser.add_argument(
        "--devices", type=int, default=1000, metavar="N", help="number of devices (default: %(default)s)"
    )
    parser.add_argument(
        "--local",
        type=int,
        metavar="N",
        help="a local fleet of N devices on this host instead: runtimes, threads, shares",
    )
    parser.add_argument("--ray", metavar="ADDRESS", help="the boards that joined a Ray cluster instead, HOST:PORT")
    parser.add_argument(
        "--prefix", default="board:", help="what resources of boards in it begin with (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", type=seed_number, default=0, help="seed of the devices' states (default: %(default)s)"
    )
    parser.add_argument("--precision", default="fp32", help="fp32, fp16 or tc16 (default: %(default)s)")
    add_set_option(parser, help_text="any other key, such as scenario.memory_load=[0.5,0.7]; may be repeated")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="file to write (default: stdout)")
    parser.add_argument("--force", action="store_true", help="overwrite the file")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the spec after its fleet could be made."""
    import yaml

    from hdapbench.cli.fleet.source import with_overrides
    from hdapbench.errors import FleetError
    from hdapbench.fleet.open import open_fleet

    if arguments.ray is not None:
        values = _of_a_cluster(arguments)
    else:
        values = _simulated(arguments) if arguments.local is None else _local(arguments)
    spec = with_overrides(values, arguments.overrides)
    fleet = open_fleet(spec)
    written = spec.model_dump(mode="json", exclude_defaults=True)
    written["kind"] = spec.kind
    if spec.file is not None and arguments.output is not None:  # paths in a file start from its folder
        path = os.path.relpath(Path(spec.file).expanduser(), arguments.output.parent)
        written |= spec.with_file(path).model_dump(mode="json", include={spec.file_key or ""})
    scenario = written.get("scenario")
    if scenario is not None:
        named = {key: value for key, value in scenario.items() if value is not None}
        written["scenario"] = named["base"] if set(scenario) == {"base"} else named
    text = json.dumps(written, indent=2) + "\n" if arguments.json else yaml.safe_dump(written, sort_keys=False)
    if arguments.output is None:
        print(text, end="")
        return 0
    if arguments.output.exists() and not arguments.force:
        raise FleetError(f"'{arguments.output}' exists; overwrite it with --force, or name another file")
    write_output(arguments.output, text)
    print(f"{fleet.n_devices:,} devices in {arguments.output}", file=sys.stderr)
    print(f"next: hdapbench fleet fingerprint {arguments.output} -o {arguments.output.stem}.parquet", file=sys.stderr)
    return 0


def _simulated(arguments: argparse.Namespace) -> dict[str, Any]:
    from hdapbench.spec import as_name

    return {
        "name": arguments.name or as_name(f"{Path(arguments.sku).stem}-{arguments.scenario}"),
        "kind": "simulated",
        "sku": arguments.sku,
        "scenario": {"base": arguments.scenario},
        "n_devices": arguments.devices,
        "seed": arguments.seed,
        "precision": arguments.precision,
    }


def _local(arguments: argparse.Namespace) -> dict[str, Any]:
    from hdapbench.fleet.local.mix import fitted_devices
    from hdapbench.runtimes.host import usable_cpus

    devices = fitted_devices(arguments.local, usable_cpus(), seed=arguments.seed)
    kept = [device.model_dump(mode="json", exclude_defaults=True) for device in devices]
    return {
        "name": arguments.name or f"local-{arguments.local}",
        "kind": "local",
        "seed": arguments.seed,
        "devices": kept,
    }


def _of_a_cluster(arguments: argparse.Namespace) -> dict[str, Any]:
    from hdapbench.errors import FleetError
    from hdapbench.fleet.ray.fleet import boards_among
    from hdapbench.fleet.ray.link import Link
    from hdapbench.spec.ray_fleet import ADDRESS, PREFIX

    if not ADDRESS.fullmatch(arguments.ray):
        raise FleetError(f"--ray {arguments.ray}: write HOST:PORT, such as 10.0.0.1:6379, or ray://HOST:PORT")
    link = Link(arguments.ray)
    try:
        names = boards_among(link.resources(), arguments.prefix)
    finally:
        link.close()
    if not names:
        raise FleetError(
            f"no resource of the Ray cluster at {arguments.ray} begins with '{arguments.prefix}'; a board joins with: "
            f"ray start --address HOST:PORT --num-cpus 0 --resources '{{\"{arguments.prefix}NAME\": 1}}'"
        )
    own = {} if arguments.prefix == PREFIX else {name: {"at": f"{arguments.prefix}{name}"} for name in names}
    return {
        "name": arguments.name or "lab",
        "kind": "ray",
        "address": arguments.ray,
        "devices": [{"name": name} | own.get(name, {}) for name in names],
    }
