"""``hdapbench explain TRIAL``: what a method decided for a trial, and why."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hdapbench.cli.options import DEFAULT_WORKSPACE, existing_database

if TYPE_CHECKING:
    from hdapbench.trial import Result

BAR = 30
"""Characters of a bar that stands for all channels of a group."""


def add_parser(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser("explain", help="say what a method decided, and why", description=__doc__)
    parser.add_argument("trial", metavar="TRIAL", help="id of a trial, or its beginning (hdapbench show lists them)")
    parser.add_argument("--workspace", type=Path, default=DEFAULT_WORKSPACE, metavar="DIR", help="default: %(default)s")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with pictures instead")
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Print a trial's decisions beside what was measured."""
    from hdapbench.store.sqlite import open_store

    with open_store(existing_database(arguments.workspace)) as store:
        result = store.get(arguments.trial)
    content = explanation(result)
    if arguments.html is not None:
        from hdapbench.render.page import explanation_page

        arguments.html.write_text(explanation_page(content), encoding="utf-8")
        print(f"wrote {arguments.html}")
        return 0
    print(json.dumps(content, indent=2) if arguments.json else _text(content))
    return 0


def explanation(result: Result) -> dict[str, Any]:
    """Everything known about how a trial's plan came about, as plain values."""
    metrics = result.metrics
    return {
        "trial": str(result.trial),
        "status": result.status.value,
        "reason": result.reason,
        "parameters": result.trial.parameters,
        "spent": result.spent.model_dump(),
        "average_ms": None if metrics is None else metrics.latency_ms,
        "interval_ms": None if metrics is None else [metrics.latency_low_ms, metrics.latency_high_ms],
        "clusters": [
            {
                "cluster": device.cluster,
                "device": device.device,
                "weight": device.weight,
                "measured_ms": sorted(device.samples_ms)[len(device.samples_ms) // 2],
            }
            for device in result.devices
        ],
        "kept": {} if result.plan is None else {name: len(kept) for name, kept in result.plan.kept.items()},
        "decisions": result.notes.get("decisions", {}),
    }


def _text(content: dict[str, Any]) -> str:
    from hdapbench.render.account import split_decisions

    spent = content["spent"]
    why = f" ({content['reason']})" if content["reason"] else ""
    queries = f"{spent['device_queries']:,} device queries, {spent['accuracy_evals']} accuracy evaluations"
    lines = [
        f"{content['trial']}: {content['status']}{why}",
        f"spent: {queries}, {spent['train_epochs']:g} training epochs, {spent['wall_seconds']:.1f} s",
    ]
    told, facts = split_decisions(content["decisions"])
    if not content["decisions"]:
        lines.append("the method left no account of its decisions")
    sections: dict[str, Callable[[Any], list[str]]] = {
        "search": _search,
        "surrogate": _surrogate,
        "rounds": _rounds,
        "accuracies": _accuracies,
    }
    for name, section in sections.items():
        if name in told:
            lines += section(told[name])
    lines += _clusters(content, told.get("predicted_ms"))
    lines += _widths(content["kept"], told.get("uniform_widths", {}), told.get("dense_widths", {}))
    if "why" in told:
        lines.append(f"why: {told['why']}")
    lines += [f"{name}: {value if isinstance(value, str) else json.dumps(value)}" for name, value in facts.items()]
    return "\n".join(lines)


def _search(search: dict[str, Any]) -> list[str]:
    from hdapbench.render.account import amount, search_sentences

    first, *others = search_sentences(search)
    lines = [f"search: {first}", *(f"  {sentence}" for sentence in others)]
    trace = search.get("trace", [])
    shown = trace if len(trace) <= 8 else [*trace[:: max(1, len(trace) // 7)], trace[-1]]
    lines += [f"  after {n:>8,} evaluations {amount(value, search['unit'])}" for n, value in shown]
    return lines


def _surrogate(card: dict[str, Any]) -> list[str]:
    lines = [f"surrogate: {card['kind']}, fitted to {card['n_plans']} plans on {card['n_clusters']} clusters"]
    for name in ("plans", "devices"):
        held_out = card[name]
        if held_out is not None:
            lines.append(
                f"  on {name} left out: MAPE {held_out['mape']:.1%}, within 5 % {held_out['within_5']:.0%}, "
                f"bias {held_out['bias']:+.1%}, Spearman {held_out['spearman']:.3f}, "
                f"Kendall {held_out['kendall']:.3f}, top-5 regret {held_out['top_k_regret']:.1%} "
                f"({held_out['n']:,} predictions)"
            )
    if card["learning_curve"]:
        curve = ", ".join(f"{error:.1%} of {n}" for n, error in card["learning_curve"])
        lines.append(f"  MAPE by training plans: {curve}")
    if card["optimum_error"] is not None:
        lines.append(f"  bias at the last optimum, before it was measured: {card['optimum_error']:+.1%}")
    return lines


def _rounds(rounds: list[dict[str, Any]]) -> list[str]:
    return ["rounds of measuring the optimum:"] + [
        f"  {number + 1}: predicted {entry['predicted_ms']:.4g} ms, measured {entry['measured_ms']:.4g} ms "
        f"({entry['predicted_ms'] / entry['measured_ms'] - 1:+.1%})"
        for number, entry in enumerate(rounds)
    ]


def _accuracies(plans: list[dict[str, Any]]) -> list[str]:
    """One line per plan that was compared, with what was looked at: latency or FLOPs, loss, accuracy."""
    lines = ["plans compared:"]
    for entry in plans:
        seen = [f"{entry['latency_ms']:.4g} ms"] if "latency_ms" in entry else []
        if "flops" in entry:
            seen.append(f"{entry['flops']:,.0f} FLOPs")
        if "recalibrated_loss" in entry:
            seen.append(f"loss {entry['recalibrated_loss']:.3g} with batch norms recalibrated")
        if "accuracy_at_once" in entry:
            seen.append(f"accuracy {entry['accuracy_at_once']:.2%} right after pruning")
        if "accuracy" in entry:
            seen.append(f"accuracy {entry['accuracy']:.2%} on the search split after fine-tuning")
        lines.append(f"  {entry['plan']}: {', '.join(seen)}")
    return lines


def _clusters(content: dict[str, Any], predicted: list[float] | None) -> list[str]:
    if not content["clusters"]:
        return []
    low, high = content["interval_ms"]
    lines = [f"average over the fleet {content['average_ms']:.4g} ms ({low:.4g} to {high:.4g}); measured devices:"]
    for entry in content["clusters"]:
        said = ""
        if predicted is not None and entry["cluster"] < len(predicted):
            value = predicted[entry["cluster"]]
            said = f", predicted {value:.4g} ms ({value / entry['measured_ms'] - 1:+.1%})"
        lines.append(
            f"  cluster {entry['cluster']}, {entry['weight']:.1%} of the fleet, {entry['device']}: "
            f"{entry['measured_ms']:.4g} ms{said}"
        )
    return lines


def _widths(kept: dict[str, int], uniform: dict[str, int], dense: dict[str, int]) -> list[str]:
    if not kept:
        return []
    lines = ["channels kept per group" + (" (| is uniform pruning):" if uniform else ":")]
    width = max(map(len, kept))
    for name, n_kept in kept.items():
        line = f"  {name:<{width}} {n_kept:>5}"
        if name in dense:
            bar = list("#" * round(BAR * n_kept / dense[name]) + "." * (BAR - round(BAR * n_kept / dense[name])))
            if name in uniform:
                bar[min(BAR - 1, round(BAR * uniform[name] / dense[name]))] = "|"
            line += f" of {dense[name]:>5}  {''.join(bar)}"
        if name in uniform:
            line += f"  uniform {uniform[name]}"
        lines.append(line)
    return lines
