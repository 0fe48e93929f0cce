"""The account of one trial as a web page: one file, no scripts, nothing loaded from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hdapbench.method.decisions import ComparedPlan, SearchAccount, read_decisions
from hdapbench.render.account import amount, search_sentences
from hdapbench.render.web import templates
from hdapbench.surrogate.report_card import ReportCard

PLAN_COLUMNS = {
    "plan": ("plan", "{}"),
    "latency_ms": ("latency (ms)", "{:.4g}"),
    "flops": ("FLOPs", "{:,.0f}"),
    "recalibrated_loss": ("loss, recalibrated", "{:.3g}"),
    "accuracy_at_once": ("accuracy at once", "{:.2%}"),
    "accuracy": ("accuracy after fine-tuning", "{:.2%}"),
}
"""What may have been looked at when plans were compared -> title and form of its column."""
BAR = 360
"""Pixels: length of a bar for all channels of a group, and width of a search's trace."""


def explanation_page(content: Mapping[str, Any]) -> str:
    """HTML of what ``hdapbench explain`` knows of a trial.

    Parameters
    ----------
    content
        As `hdapbench.render.account.explanation` gives it.
    """
    return templates().get_template("explanation.html").render(account(content))


def account(content: Mapping[str, Any]) -> dict[str, Any]:
    """What the template of one account shows of an `hdapbench.render.account.explanation`."""
    told, others = read_decisions(content["decisions"])
    return {
        **content,
        "told": told,
        "bar": BAR,
        "cluster_rows": list(_clusters(content["clusters"], told.predicted_ms or ())),
        "search": told.search and _search(told.search),
        "surrogate_rows": told.surrogate and list(_surrogate(told.surrogate)),
        "round_rows": [
            [str(number), f"{found.predicted_ms:.4g}", f"{found.measured_ms:.4g}", f"{found.error:+.1%}"]
            for number, found in enumerate(told.rounds or (), start=1)
        ],
        "plans": None if told.accuracies is None else _plans(told.accuracies),
        "facts": _facts(others),
        "parameter_rows": _facts(content["parameters"]),
    }


def _clusters(clusters: Sequence[Mapping[str, Any]], predicted_ms: Sequence[float]) -> Iterator[list[str]]:
    for entry in clusters:
        number, measured = entry["cluster"], entry["measured_ms"]
        cells = [str(number), f"{entry['weight']:.1%}", str(entry["device"]), f"{measured:.4g}"]
        if number < len(predicted_ms):
            yield [*cells, f"{predicted_ms[number]:.4g}", f"{predicted_ms[number] / measured - 1:+.1%}"]
        else:
            yield [*cells, "", ""]


def _search(search: SearchAccount) -> dict[str, Any]:
    """Sentences of a search, and the points of its best value over evaluations, with the height of its bound."""
    trace, bounds = search.trace, [] if search.bound is None else [search.bound]
    said = " ".join(f"{sentence[0].upper()}{sentence[1:]}." for sentence in search_sentences(search))
    if len(trace) < 2:
        return {"said": said, "line": None}
    last, values = trace[-1][0], [*(value for _, value in trace), *bounds]
    low, high = min(values), max(values)

    def height(value: float) -> str:
        return f"{10 + 100 * (high - value) / ((high - low) or 1.0):.1f}"

    return {
        "said": said,
        "line": " ".join(f"{BAR * n / last:.1f},{height(value)}" for n, value in trace),
        "floor": [height(bound) for bound in bounds],
        "high": amount(high, search.unit),
        "low": amount(low, search.unit),
    }


def _surrogate(card: ReportCard) -> Iterator[list[str]]:
    """How far the surrogate is off on plans and on devices that it had not seen."""
    for name, held_out in (("plans", card.plans), ("devices", card.devices)):
        if held_out is not None:
            shares = f"{held_out.mape:.1%}", f"{held_out.within_5:.1%}", f"{held_out.bias:+.1%}"
            ranks = f"{held_out.spearman:.3f}", f"{held_out.kendall:.3f}"
            yield [name, *shares, *ranks, f"{held_out.top_k_regret:.1%}", f"{held_out.n:,}"]


def _plans(compared: Sequence[ComparedPlan]) -> tuple[list[str], list[list[str]]]:
    """Titles and rows of the plans that were compared, with what was looked at."""
    entries = [plan.model_dump(exclude_none=True) for plan in compared]
    columns = {name: column for name, column in PLAN_COLUMNS.items() if any(name in entry for entry in entries)}
    rows = [
        [form.format(entry[name]) if name in entry else "" for name, (_, form) in columns.items()] for entry in entries
    ]
    return [title for title, _ in columns.values()], rows


def _facts(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(name.replace("_", " "), _plain(value)) for name, value in values.items()]


def _plain(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{str(name).replace('_', ' ')} {_plain(inner)}" for name, inner in value.items())
    return value if isinstance(value, str) else json.dumps(value)
