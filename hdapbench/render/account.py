"""What is known of a trial and of what its method decided: plain values, and lines of text.

Decisions in the shapes of `hdapbench.method.decisions` are told in words, other facts are shown as they were stored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from hdapbench.errors import printable
from hdapbench.leaderboard.comparing import UNIFORM, Rival, compare_trials
from hdapbench.method.decisions import ComparedPlan, MeasuredOptimum, SearchAccount, read_decisions
from hdapbench.render.comparison import pair_sentence
from hdapbench.surrogate.report_card import ReportCard
from hdapbench.trial import Result

BAR = 30
"""Characters of a bar that stands for all channels of a group."""

MOST_SHOWN = 8
"""Entries of a stored list that are shown; --json has all."""

SEEN = {
    "latency_ms": "{:.4g} ms",
    "flops": "{:,.0f} FLOPs",
    "recalibrated_loss": "loss {:.3g} with batch norms recalibrated",
    "accuracy_at_once": "accuracy {:.2%} right after pruning",
    "accuracy": "accuracy {:.2%} on the search split after fine-tuning",
}
"""What may have been looked at when plans were compared -> how it is said."""


def explanation(result: Result, rivals: Sequence[Rival] = (), dense: Result | None = None) -> dict[str, Any]:
    """Everything known about how a trial's plan came about, as plain values.

    Parameters
    ----------
    result
        Of the trial.
    rivals, dense
        What its plan is told against, from `hdapbench.leaderboard.comparing.rivals_of`.
    """
    metrics = result.metrics
    uniform = next((rival.result for rival in rivals if rival.role.startswith(UNIFORM)), None)
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
        "kept": _kept(result),
        "channels_at_bits": {} if result.plan is None else channels_at_bits(result.plan.weight_bits),
        "uniform_widths": _kept(uniform),
        "dense_widths": _kept(dense),
        "rivals": [_against(result, rival) for rival in rivals],
        "decisions": result.notes.get("decisions", {}),
    }


def channels_at_bits(weight_bits: Mapping[str, Sequence[int]]) -> dict[str, dict[int, int]]:
    """Layer -> bits of weights, ascending -> output channels that have them."""
    return {layer: {p: list(bits).count(p) for p in sorted(set(bits))} for layer, bits in weight_bits.items()}


def _kept(result: Result | None) -> dict[str, int]:
    return {} if result is None or result.plan is None else {n: len(kept) for n, kept in result.plan.kept.items()}


def _against(result: Result, rival: Rival) -> dict[str, Any]:
    """A plan against another: a sentence, latency per cluster, and channels more or fewer per group."""
    kept, other = _kept(result), _kept(rival.result)
    theirs = {device.cluster: median(device.samples_ms) for device in rival.result.devices}
    return {
        "role": rival.role,
        "label": rival.label,
        "sentence": None if result.metrics is None else pair_sentence(compare_trials(rival.result, result)),
        "clusters": [
            {"cluster": device.cluster, "ms": median(device.samples_ms), "rival_ms": theirs[device.cluster]}
            for device in result.devices
            if device.cluster in theirs
        ],
        "channels": {name: n - other[name] for name, n in kept.items() if n != other.get(name, n)},
    }


def explanation_text(content: Mapping[str, Any]) -> str:
    """Lines of text that tell an `explanation`."""
    spent = content["spent"]
    why = f" ({content['reason']})" if content["reason"] else ""
    queries = f"{spent['device_queries']:,} device queries, {spent['accuracy_evals']} accuracy evaluations"
    lines = [
        f"{content['trial']}: {content['status']}{why}",
        f"spent: {queries}, {spent['train_epochs']:g} training epochs, {spent['wall_seconds']:.1f} s",
    ]
    told, others = read_decisions(content["decisions"])
    if not content["decisions"]:
        lines.append("the method left no account of its decisions")
    if told.search is not None:
        lines += _search(told.search)
    if told.surrogate is not None:
        lines += _surrogate(told.surrogate)
    if told.rounds is not None:
        lines += _rounds(told.rounds)
    if told.accuracies is not None:
        lines += ["plans compared:", *map(_compared, told.accuracies)]
    lines += _clusters(content, told.predicted_ms or ())
    uniform = told.uniform_widths or content["uniform_widths"]
    lines += _widths(content["kept"], uniform, told.dense_widths or content["dense_widths"])
    lines += _bits(content["channels_at_bits"])
    lines += [line for rival in content["rivals"] for line in _rival_lines(rival)]
    if told.why is not None:
        lines.append(f"why: {told.why}")
    lines += [f"{name}: {_short(value)}" for name, value in others.items()]
    return "\n".join(map(printable, lines))


def _bits(layers: Mapping[str, Mapping[int, int]]) -> list[str]:
    """A table of output channels by layer and bits of weights."""
    columns = sorted({p for counts in layers.values() for p in counts})
    width = max(map(len, layers), default=0)
    head = [f"output channels at {' / '.join(map(str, columns))} bits:"] if layers else []
    return head + [
        f"  {layer:<{width}}" + "".join(f"{counts.get(p, 0) or '-':>7}" for p in columns)
        for layer, counts in layers.items()
    ]


def _short(value: Any) -> str:
    """A value as it was stored; of long lists the ends."""
    if isinstance(value, list) and len(value) > MOST_SHOWN:
        return f"{len(value)} values, from {json.dumps(value[0])} to {json.dumps(value[-1])}"
    return value if isinstance(value, str) else json.dumps(value)


def amount(value: float, unit: str) -> str:
    """``1.205 ms`` or ``23,177,216 FLOPs``."""
    return f"{value:.4g} {unit}" if unit == "ms" else f"{value:,.0f} {unit}"


def search_sentences(search: SearchAccount) -> list[str]:
    """What a search found, how far from the optimum that is at most, and why it was not the exact one."""
    unit = search.unit
    found, of = ("predicted ", " of this surrogate") if unit == "ms" else ("", "")
    said = [f"{search.algorithm}, {search.n_evaluations:,} evaluations, {found}{amount(search.value, unit)}"]
    if search.bound is not None:
        over = f" over {search.levels}" if search.levels else ""
        said.append(f"no plan{of} is below {amount(search.bound, unit)}: within {search.gap:.2%} of optimal{over}")
    if search.reason:
        said.append(search.reason)
    return said


def _search(search: SearchAccount) -> list[str]:
    first, *others = search_sentences(search)
    trace = search.trace
    shown = trace if len(trace) <= 8 else [*trace[:: max(1, len(trace) // 7)], trace[-1]]
    return [
        f"search: {first}",
        *(f"  {sentence}" for sentence in others),
        *(f"  after {n:>8,} evaluations {amount(value, search.unit)}" for n, value in shown),
    ]


def _surrogate(card: ReportCard) -> list[str]:
    lines = [f"surrogate: {card.kind}, fitted to {card.n_plans} plans on {card.n_clusters} clusters"]
    for name, held_out in (("plans", card.plans), ("devices", card.devices)):
        if held_out is not None:
            lines.append(
                f"  on {name} left out: MAPE {held_out.mape:.1%}, within 5 % {held_out.within_5:.0%}, "
                f"bias {held_out.bias:+.1%}, Spearman {held_out.spearman:.3f}, Kendall {held_out.kendall:.3f}, "
                f"top-5 regret {held_out.top_k_regret:.1%} ({held_out.n:,} predictions)"
            )
    if card.learning_curve:
        curve = ", ".join(f"{error:.1%} of {n}" for n, error in card.learning_curve)
        lines.append(f"  MAPE by training plans: {curve}")
    if card.optimum_error is not None:
        lines.append(f"  bias at the last optimum, before it was measured: {card.optimum_error:+.1%}")
    return lines


def _rounds(rounds: Sequence[MeasuredOptimum]) -> list[str]:
    return ["rounds of measuring the optimum:"] + [
        f"  {number}: predicted {found.predicted_ms:.4g} ms, measured {found.measured_ms:.4g} ms ({found.error:+.1%})"
        for number, found in enumerate(rounds, start=1)
    ]


def _compared(plan: ComparedPlan) -> str:
    seen = [said.format(value) for name, said in SEEN.items() if (value := getattr(plan, name)) is not None]
    return f"  {plan.plan}: {', '.join(seen)}"


def _clusters(content: Mapping[str, Any], predicted_ms: Sequence[float]) -> list[str]:
    if not content["clusters"]:
        return []
    low, high = content["interval_ms"]
    lines = [f"average over the fleet {content['average_ms']:.4g} ms ({low:.4g} to {high:.4g}); measured devices:"]
    for entry in content["clusters"]:
        said = ""
        if entry["cluster"] < len(predicted_ms):
            value = predicted_ms[entry["cluster"]]
            said = f", predicted {value:.4g} ms ({value / entry['measured_ms'] - 1:+.1%})"
        lines.append(
            f"  cluster {entry['cluster']}, {entry['weight']:.1%} of the fleet, {entry['device']}: "
            f"{entry['measured_ms']:.4g} ms{said}"
        )
    return lines


def _rival_lines(rival: Mapping[str, Any]) -> list[str]:
    name = rival["label"] if rival["label"] == rival["role"] else f"{rival['label']}, {rival['role']}"
    lines = [f"against {name}:", *([f"  {rival['sentence']}"] if rival["sentence"] else [])]
    if rival["clusters"]:
        ratios = [f"{at['cluster']} {at['ms'] / at['rival_ms'] - 1:+z.1%}" for at in rival["clusters"]]
        lines.append(f"  latency by cluster: {', '.join(ratios)}")
    for word, sign in (("more", 1), ("fewer", -1)):
        groups = sorted((-sign * n, name) for name, n in rival["channels"].items() if sign * n > 0)
        shown = [f"{name} ({sign * -n:+d})" for n, name in groups[:6]]
        rest = f" and {len(groups) - 6} further" if len(groups) > 6 else ""
        lines += [f"  {word} channels in {', '.join(shown)}{rest}"] if shown else []
    return lines


def _widths(kept: Mapping[str, int], uniform: Mapping[str, int], dense: Mapping[str, int]) -> list[str]:
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
