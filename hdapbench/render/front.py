"""Accuracy against latency: rows with error bars, fronts of methods, and what a ranking asks for."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, isfinite
from typing import Literal

import altair as alt
import vl_convert

from hdapbench.leaderboard.board import Leaderboard, Row
from hdapbench.leaderboard.statistics import Interval
from hdapbench.render.cells import ABSENT, interval_words, points, significant
from hdapbench.render.drawing import (
    INK,
    TICKS,
    Chart,
    Place,
    Record,
    config,
    labels,
    method_color,
    specification,
    when_picked,
)
from hdapbench.render.table import stored_kb

SAID = ("latency", "stored", "reached", "to dense", "ranked")
"""What a tooltip says of a row beside its method and target."""
SHAPES = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "triangle-right", "triangle-left")
FAR_BELOW = 5.0
"""Points below what a ranking asks for from which a row is told below a chart of fronts, and not drawn in it."""


def front_chart(board: Leaderboard, fleet: str, *, n_rows: int | None = None, on: Place = "page") -> Chart:
    """Accuracy against latency: all rows of a fleet with error bars, each method's front and what a ranking asks for.

    The fleet has rows. Where all rows have bit-widths it is accuracy against kB stored, without the dense model.

    Parameters
    ----------
    board, fleet
        What is drawn.
    n_rows
        Rows of each section that are drawn; None for all.
    on
        A page, which has one legend of methods for all charts, or paper.
    """
    sections = [section for section in board.sections if section.fleet == fleet]
    shown = [(section, row) for section in sections for row in section.rows[:n_rows]]
    by_bytes = is_by_bytes(board, fleet)
    rows = [_point(section.target, row, is_ranked=row.rank is not None) for section, row in shown]
    dense = [_point("dense", board.dense[fleet], is_ranked=True)] if fleet in board.dense and not by_bytes else []
    methods = list(dict.fromkeys(row.label for _, row in shown))
    lines = [
        {"method": point["method"], "cost": point["cost"], "accuracy": point["accuracy"]}
        for point in (*rows, *(point | {"method": name} for point in dense for name in methods))
    ]
    rules = [
        {"target": section.target, "least": section.rule.least_accuracy * 100, "asks": f"{section.target}: ranked from"}
        for section in sections
        if section.rule.least_accuracy is not None
    ]
    targets = list(dict.fromkeys(section.target for section in sections))
    asked = [section.rule.least_accuracy * 100 for section in sections if section.rule.least_accuracy is not None]
    is_page = on == "page"
    cost = "stored (kB)" if by_bytes else "average clustered latency (ms)"
    layers = _front_layers(board, targets, (cost, _range([*rows, *dense], asked)), on)
    if dense:
        layers += _dense_layers(layers[-1], INK[on])
    data: dict[str, list[Record]] = {"points": rows, "lines": lines, "rules": rules, "dense": dense}
    says = f"{board.metric} against {cost} on {fleet}: {len(rows)} rows of {len(methods)} methods"
    return Chart(specification(layers, width=None if is_page else 460), data, says, 420 if is_page else 320)


def _front_layers(
    board: Leaderboard, targets: Sequence[str], axes: tuple[str, list[float]], on: Place
) -> list[alt.Chart]:
    """Layers of a chart of fronts, the lowest first: what is asked, lines, error bars, rows."""
    names, ink, (title, domain) = labels(board), INK[on], axes
    color = method_color(names, on)
    x = alt.X(
        "cost:Q",
        title=title,
        scale=alt.Scale(zero=False, padding=16),
        axis=alt.Axis(tickCount=TICKS),
    )

    def height(field: str) -> alt.Y:
        scale = alt.Scale(domain=domain, nice=False, zero=False)
        return alt.Y(f"{field}:Q", title=f"{board.metric} (%)", scale=scale, axis=alt.Axis(tickCount=7))

    y = height("accuracy")
    faint = when_picked(0.5, 0.06)
    tooltip = [alt.Tooltip(f"{name}:N") for name in ("method", "target", *SAID)]
    shape = alt.Shape(
        "target:N",
        title="target",
        scale=alt.Scale(domain=targets, range=[SHAPES[n % len(SHAPES)] for n in range(len(targets))]),
        legend=alt.Legend(orient="top") if len(targets) > 1 else None,
    )
    marks = alt.Chart(alt.NamedData("points"))
    return [
        alt.Chart(alt.NamedData("rules"))
        .mark_rule(strokeDash=[5, 4], color=ink, opacity=0.55)
        .encode(y=height("least"), tooltip=[alt.Tooltip("asks:N"), alt.Tooltip("least:Q", format=".2f")]),
        alt.Chart(alt.NamedData("lines"))
        .mark_line(strokeWidth=1.5, clip=True)
        .encode(x=x, y=y, color=color, order="cost:Q", opacity=faint),
        marks.mark_rule(clip=True).encode(x="cost_low:Q", x2="cost_high:Q", y=y, color=color, opacity=faint),
        marks.mark_rule(clip=True).encode(x=x, y=height("low"), y2="high:Q", color=color, opacity=faint),
        marks.mark_point(filled=True, size=95, strokeWidth=1.8, clip=True).encode(
            x=x,
            y=y,
            color=color,
            shape=shape,
            fillOpacity=alt.when("datum.ranked == 'no'").then(alt.value(0)).otherwise(alt.value(1)),
            stroke=color,
            opacity=when_picked(1, 0.1),
            tooltip=tooltip,
        ),
    ]


def _dense_layers(like: alt.Chart, ink: str) -> list[alt.Chart]:
    """The dense model, on the axes of another layer."""
    x, y = like.encoding.x, like.encoding.y
    tooltip = [alt.Tooltip(f"{name}:N") for name in ("method", "latency", "reached")]
    dense = alt.Chart(alt.NamedData("dense")).encode(x=x, y=y)
    return [
        dense.mark_point(filled=True, size=170, shape="stroke", color=ink, angle=90, strokeWidth=3, stroke=ink).encode(
            tooltip=tooltip
        ),
        dense.mark_text(text="dense", dy=-14, color=ink, fontWeight="bold"),
    ]


def far_below(board: Leaderboard, fleet: str, n_rows: int | None = None) -> list[tuple[str, Row]]:
    """(Target, row) of those that lose so much accuracy that a chart of fronts would show little else."""
    return [
        (section.target, row)
        for section in board.sections
        if section.fleet == fleet
        for row in section.rows[:n_rows]
        if row.missed_by is not None and row.missed_by * 100 > FAR_BELOW
    ]


def front_picture(board: Leaderboard, fleet: str, form: Literal["svg", "png"]) -> bytes:
    """Accuracy against latency on a fleet, as a picture for papers: 460 by 320 points, PNG at three pixels a point."""
    chart = front_chart(board, fleet, on="paper")
    spec = chart.spec | chart.content | {"background": "white", "config": config("paper")}
    if form == "svg":
        return vl_convert.vegalite_to_svg(spec).encode()
    return vl_convert.vegalite_to_png(spec, scale=3)


def is_by_bytes(board: Leaderboard, fleet: str) -> bool:
    """Whether fronts of a fleet are about bytes stored: all of its rows say how many."""
    rows = [row for section in board.sections if section.fleet == fleet for row in section.rows]
    return bool(rows) and all(stored_kb(row) is not None for row in rows)


def _point(target: str, row: Row, *, is_ranked: bool) -> Record:
    accuracy, latency = _known(row.accuracy, 0.0, 1.0), _known(row.latency_ms, 0.0, inf)
    size = stored_kb(row)
    cost = latency if size is None else Interval(size, size, size)
    return {
        "method": row.label,
        "target": target,
        "cost": cost.value,
        "cost_low": cost.low,
        "cost_high": cost.high,
        "accuracy": accuracy.value * 100,
        "low": accuracy.low * 100,
        "high": accuracy.high * 100,
        "latency": f"{significant(latency.value)} ms ({significant(latency.low)} to {significant(latency.high)})",
        "stored": ABSENT if size is None else f"{significant(size)} kB",
        "reached": interval_words(row.accuracy, scale=100, unit=" %"),
        "to dense": ABSENT if row.change is None else f"{points(row.change)} points",
        "ranked": "yes" if is_ranked else "no",
    }


def _known(found: Interval, lowest: float, highest: float) -> Interval:
    """An interval, or none around its value where nothing is known of it."""
    is_known = isfinite(found.low) and isfinite(found.high) and (found.low, found.high) != (lowest, highest)
    return found if is_known else Interval(found.value, found.value, found.value)


def _range(points: Sequence[Record], asked: Sequence[float]) -> list[float]:
    """Lowest and highest accuracy of a chart in per cent: all that is near what rankings ask for, within 0 and 100."""
    least = min(asked, default=0.0) - FAR_BELOW
    shown = [float(point["accuracy"]) for point in points if point["accuracy"] >= least] or [0.0, 100.0]
    low, high = min(*shown, *asked, 100.0), max(shown)
    room = max(0.5, 0.18 * (high - low))
    return [round(max(0.0, low - room), 1), round(min(100.0, high + room), 1)]
