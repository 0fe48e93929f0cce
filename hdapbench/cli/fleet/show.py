"""``hdapbench fleet show``: what a fleet is, and how its devices differ."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from hdapbench.cli.fleet import asked, source
from hdapbench.errors import printable

if TYPE_CHECKING:
    from hdapbench.arrays import Floats
    from hdapbench.cli.fleet.source import Source


def add_parser(actions: Any) -> None:
    """Add the action to the parser."""
    parser = actions.add_parser("show", help="say what a fleet is and how its devices differ", description=__doc__)
    source.add_fleet_argument(parser, what="a fleet's YAML file, a spec, a recording or a fingerprint")
    asked.add_model_options(parser)
    source.add_output_options(parser, plot="the distribution of latency")
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Print facts, the spread of the devices' multipliers, and latencies where they are known."""
    from hdapbench.fleet.statistics import spread

    found = source.open_source(arguments)
    content: dict[str, Any] = {"name": found.fleet.name, "source": found.fleet.source, **found.fleet.describe()}
    latency = _latencies(found, arguments)
    content |= found.fleet.describe_devices()
    content["latency_ms"] = {name: spread(values, found.fleet.weights) for name, values in latency.items()}
    if arguments.plot is not None:
        from hdapbench.errors import FleetError
        from hdapbench.render.picture import latency_histogram

        if not latency:
            raise FleetError("there are no latencies to draw; name a model with --model")
        title = f"{found.fleet.name}: latency over {found.fleet.n_devices:,} devices ({found.fleet.source})"
        source.write_plot(
            arguments.plot, latency_histogram(latency, title=title, weights=found.fleet.weights), title=title
        )
    print(json.dumps(content, indent=2) if arguments.json else _text(content))
    return 0


def _latencies(found: Source, arguments: argparse.Namespace) -> dict[str, Floats]:
    """Latencies over the devices in ms: of the probes, or of a simulated fleet's model that was asked for."""
    from hdapbench.fleet.base import Workloads

    if found.fingerprint is not None:
        return dict(zip(found.fingerprint.probes, found.fingerprint.latency_ms.T, strict=True))
    if found.fleet.source == "simulated" and arguments.model is not None:
        kernels = source.trace_model(*asked.model_of(arguments)).kernels
        true = found.fleet.true_latency_ms(Workloads(kernels, kernels.sizes[None], ("dense",)))
        return {} if true is None else {f"{arguments.model}, noise-free": true[:, 0]}
    return {}


def _text(content: dict[str, Any]) -> str:
    apart = ("name", "modes", "stacks", "multipliers", "latency_ms", "throttled_share")
    facts = ", ".join(f"{key} {value}" for key, value in content.items() if key not in apart)
    lines = [f"{content['name']}: {facts}"]
    if "modes" in content:
        lines.append("power modes: " + ", ".join(f"{name} {count:,}" for name, count in content["modes"].items()))
        if len(content["stacks"]) > 1:
            lines.append("software stacks: " + "; ".join(map(_stack, content["stacks"])))
        lines.append(f"throttled by heat in equilibrium: {content['throttled_share']:.1%} of the devices")
    rows = {f"{name} time, nominal = 1": spread for name, spread in content.get("multipliers", {}).items()}
    rows |= {f"{name} (ms)": spread for name, spread in content["latency_ms"].items()}
    if rows:
        width = max(map(len, rows))
        keys = list(next(iter(rows.values())))
        lines.append(" " * width + "".join(f"{key:>9}" for key in keys))
        lines += [f"{name:<{width}}" + "".join(f"{row[key]:9.4g}" for key in keys) for name, row in rows.items()]
        lines.append("cvar95: mean of the slowest 5 % of the devices")
    return "\n".join(map(printable, lines))


def _stack(stack: dict[str, Any]) -> str:
    changes = [f"{key} {stack[key]:g}" for key in ("narrow_tile_factor", "depthwise_slowdown") if stack[key] != 1]
    return f"{', '.join(changes) or 'current'}: {stack['n_devices']:,} devices"
