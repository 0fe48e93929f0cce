"""The account of one trial as a web page: one file, no scripts, nothing loaded from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from hdapbench.render.account import amount, search_sentences, split_decisions

STYLE = """
:root { color-scheme: light dark; --line: #8885; --kept: #2a7de1; --reference: #d1495b; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; }
th, td { padding: .2rem .8rem; border-bottom: 1px solid var(--line); text-align: left; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
svg text { font: 12px system-ui, sans-serif; fill: currentColor; }
.kept { fill: var(--kept); } .whole { fill: var(--line); } .reference { stroke: var(--reference); stroke-width: 2; }
.trace { stroke: var(--kept); stroke-width: 2; fill: none; }
p.note { color: gray; }
"""
PLAN_COLUMNS = {
    "plan": ("plan", "{}"),
    "latency_ms": ("latency (ms)", "{:.4g}"),
    "flops": ("FLOPs", "{:,.0f}"),
    "recalibrated_loss": ("loss, recalibrated", "{:.3g}"),
    "accuracy_at_once": ("accuracy at once", "{:.2%}"),
    "accuracy": ("accuracy after fine-tuning", "{:.2%}"),
}
"""What may have been looked at when plans were compared -> title and form of its column."""
BAR, ROW, LABEL = 360, 18, 200
"""Pixels: length of a bar for all channels of a group, height of its row, and room for its name."""


def explanation_page(content: Mapping[str, Any]) -> str:
    """HTML of what ``hdapbench explain`` knows of a trial.

    Parameters
    ----------
    content
        As `hdapbench.cli.explain.explanation` gives it.
    """
    told, facts = split_decisions(content["decisions"])
    parts = [f"<h1>{escape(content['trial'])}</h1>", _outcome(content)]
    if "why" in told:
        parts.append(f"<p>{escape(told['why'])}</p>")
    parts += _clusters(content, told.get("predicted_ms"))
    if content["kept"]:
        bars = _widths(content["kept"], told.get("uniform_widths", {}), told.get("dense_widths", {}))
        parts += ["<h2>Channels kept per group</h2>", bars]
    if "search" in told:
        parts += _search(told["search"])
    if "rounds" in told:
        rows = [
            [str(number), f"{entry['predicted_ms']:.4g}", f"{entry['measured_ms']:.4g}", _error(entry)]
            for number, entry in enumerate(told["rounds"], start=1)
        ]
        head = ["round", "predicted (ms)", "measured (ms)", "error"]
        parts += ["<h2>Rounds of measuring the optimum</h2>", _table(head, rows)]
    if "surrogate" in told:
        parts += _surrogate(told["surrogate"])
    if "accuracies" in told:
        parts += ["<h2>Plans compared</h2>", _plans(told["accuracies"])]
    parts += [f"<h2>{escape(name.replace('_', ' '))}</h2><p>{_value(value)}</p>" for name, value in facts.items()]
    parts += ["<h2>Parameters</h2>", _facts(content["parameters"])]
    title = escape(content["trial"])
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def _outcome(content: Mapping[str, Any]) -> str:
    spent = content["spent"]
    latency = ""
    if content["average_ms"] is not None:
        low, high = content["interval_ms"]
        latency = f" Average over the fleet: {content['average_ms']:.4g} ms ({low:.4g} to {high:.4g})."
    reason = f" ({escape(content['reason'])})" if content["reason"] else ""
    return (
        f"<p><b>{escape(content['status'])}</b>{reason}.{latency}</p>"
        f'<p class="note">Spent: {spent["device_queries"]:,} device queries, {spent["accuracy_evals"]} accuracy '
        f"evaluations, {spent['train_epochs']:g} training epochs, {spent['wall_seconds']:.1f} s.</p>"
    )


def _clusters(content: Mapping[str, Any], predicted: Sequence[float] | None) -> list[str]:
    if not content["clusters"]:
        return []
    rows = []
    for entry in content["clusters"]:
        known = predicted is not None and entry["cluster"] < len(predicted)
        value = predicted[entry["cluster"]] if known and predicted is not None else None
        rows.append(
            [
                str(entry["cluster"]),
                f"{entry['weight']:.1%}",
                escape(str(entry["device"])),
                f"{entry['measured_ms']:.4g}",
                "" if value is None else f"{value:.4g}",
                "" if value is None else f"{value / entry['measured_ms'] - 1:+.1%}",
            ]
        )
    head = ["cluster", "of the fleet", "device", "measured (ms)", "predicted (ms)", "error"]
    return ["<h2>Clusters</h2>", _table(head, rows)]


def _widths(kept: Mapping[str, int], uniform: Mapping[str, int], dense: Mapping[str, int]) -> str:
    """Bars of kept channels, with a mark where uniform pruning is."""
    rows = []
    for number, (name, n_kept) in enumerate(kept.items()):
        top = number * ROW
        whole = max(dense.get(name, n_kept), 1)
        rows.append(f'<text x="0" y="{top + 13}">{escape(name[-30:])}</text>')
        rows.append(f'<rect class="whole" x="{LABEL}" y="{top + 3}" width="{BAR}" height="12"/>')
        width = BAR * n_kept / whole
        rows.append(f'<rect class="kept" x="{LABEL}" y="{top + 3}" width="{width:.1f}" height="12"/>')
        if name in uniform:
            place = LABEL + BAR * uniform[name] / whole
            rows.append(
                f'<line class="reference" x1="{place:.1f}" x2="{place:.1f}" y1="{top + 1}" y2="{top + 17}">'
                f"<title>uniform pruning keeps {uniform[name]}</title></line>"
            )
        rows.append(f'<text x="{LABEL + BAR + 10}" y="{top + 13}">{n_kept} of {whole}</text>')
    height = ROW * len(kept)
    note = '<p class="note">The red mark is uniform pruning.</p>' if uniform else ""
    label = "channels kept per group"
    size = f'width="{LABEL + BAR + 110}" height="{height}"'
    return f'<svg {size} role="img" aria-label="{label}">{"".join(rows)}</svg>{note}'


def _search(search: Mapping[str, Any]) -> list[str]:
    said = " ".join(f"{sentence[0].upper()}{sentence[1:]}." for sentence in search_sentences(search))
    return ["<h2>Search</h2>", f"<p>{escape(said)}</p>", _trace(search)]


def _surrogate(card: Mapping[str, Any]) -> list[str]:
    """What the surrogate learnt from, and how far it is off on plans and devices that it had not seen."""
    said = f"{card['kind']}, fitted to {card['n_plans']} plans on {card['n_clusters']} clusters."
    if card["optimum_error"] is not None:
        said += f" Bias at the last optimum, before it was measured: {card['optimum_error']:+.1%}."
    if card["learning_curve"]:
        curve = ", ".join(f"{error:.1%} of {n}" for n, error in card["learning_curve"])
        said += f" MAPE by training plans: {curve}."
    rows = [
        [
            name,
            *(f"{held_out[key]:.1%}" for key in ("mape", "within_5")),
            f"{held_out['bias']:+.1%}",
            *(f"{held_out[key]:.3f}" for key in ("spearman", "kendall")),
            f"{held_out['top_k_regret']:.1%}",
            f"{held_out['n']:,}",
        ]
        for name in ("plans", "devices")
        if (held_out := card[name]) is not None
    ]
    head = ["left out", "MAPE", "within 5 %", "bias", "Spearman", "Kendall", "top-5 regret", "predictions"]
    return ["<h2>Surrogate</h2>", f"<p>{escape(said)}</p>", _table(head, rows) if rows else ""]


def _plans(entries: Sequence[Mapping[str, Any]]) -> str:
    """The plans that were compared, with what was looked at."""
    seen = {name for entry in entries for name in entry}
    columns = {name: column for name, column in PLAN_COLUMNS.items() if name in seen}
    rows = [
        [escape(form.format(entry[name])) if name in entry else "" for name, (_, form) in columns.items()]
        for entry in entries
    ]
    return _table([title for title, _ in columns.values()], rows)


def _trace(search: Mapping[str, Any]) -> str:
    """The best value so far over evaluations, with the bound as a line below it."""
    trace, bound, unit = search.get("trace", []), search.get("bound"), search["unit"]
    if len(trace) < 2:
        return ""
    last, values = trace[-1][0], [value for _, value in trace] + ([] if bound is None else [bound])
    low, high = min(values), max(values)
    span = (high - low) or 1.0

    def place(evaluations: float, value: float) -> str:
        return f"{BAR * evaluations / last:.1f},{10 + 100 * (high - value) / span:.1f}"

    line = " ".join(place(n, value) for n, value in trace)
    floor = (
        ""
        if bound is None
        else f'<line class="reference" x1="0" x2="{BAR}" y1="{_y(place(0, bound))}" y2="{_y(place(0, bound))}"/>'
    )
    return (
        f'<svg width="{BAR + 140}" height="125" role="img" aria-label="best value over evaluations">'
        f'<polyline class="trace" points="{line}"/>{floor}'
        f'<text x="{BAR + 8}" y="16">{amount(high, unit)}</text>'
        f'<text x="{BAR + 8}" y="114">{amount(low, unit)}</text></svg>'
    )


def _y(point: str) -> str:
    return point.split(",")[1]


def _error(entry: Mapping[str, float]) -> str:
    return f"{entry['predicted_ms'] / entry['measured_ms'] - 1:+.1%}"


def _facts(values: Mapping[str, Any]) -> str:
    return _table([], [[escape(name.replace("_", " ")), _value(value)] for name, value in values.items()])


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Table of cells that are HTML already; cells that begin like a number stand to the right."""
    top = f"<thead><tr>{''.join(f'<th>{escape(name)}</th>' for name in head)}</tr></thead>" if head else ""
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f"<table>{top}<tbody>{body}</tbody></table>"


def _cell(text: str) -> str:
    number = text[:1].isdigit() or text[:1] in "+-"
    return f'<td class="number">{text}</td>' if number and text else f"<td>{text}</td>"


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{escape(str(name).replace('_', ' '))} {_value(inner)}" for name, inner in value.items())
    return escape(value if isinstance(value, str) else json.dumps(value))
