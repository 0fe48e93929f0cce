"""Charts of boards beside that of fronts: leads at equal accuracy, latency over devices and channels kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import altair as alt

from hdapbench.leaderboard.board import Leaderboard, Leads, Row, Section
from hdapbench.render.cells import interval_words, lead_of, lead_words, one_line
from hdapbench.render.drawing import (
    INK,
    TICKS,
    Chart,
    Specification,
    labels,
    method_color,
    rows_axis,
    specification,
    when_picked,
)

LINE = 26
"""Pixels of height of one method."""
WITH_NUMBERS = 16
"""Groups of channels up to which a heat map says how many are kept."""


def leads_chart(board: Leaderboard, leads: Leads, n_rows: int | None = None) -> Chart | None:
    """Leads at equal accuracy with their intervals, the greatest first; None where there is none."""
    data = [
        {
            "method": row.label,
            "lead": lead.value * 100,
            "low": lead.low * 100,
            "high": lead.high * 100,
            "says": lead_words(lead, leads.cost),
        }
        for row in leads.rows[:n_rows]
        for lead in [lead_of(row, leads.cost)]
    ]
    if not data:
        return None
    less = "faster" if leads.cost == "latency" else "smaller"
    spec = _leads_spec(f"{less} than {leads.reference} at equal accuracy (%)", tuple(labels(board)))
    says = f"Leads over {leads.reference} on {leads.fleet}, {len(data)} methods"
    return Chart(spec, {"leads": data, "zero": [{"zero": 0}]}, says, LINE * len(data))


@cache
def _leads_spec(title: str, names: tuple[str, ...]) -> Specification:
    base = alt.Chart(alt.NamedData("leads")).encode(
        y=rows_axis(), color=method_color(names, "page"), opacity=when_picked(1, 0.15)
    )
    x = alt.X("lead:Q", title=title, scale=alt.Scale(padding=12), axis=alt.Axis(tickCount=TICKS))
    tooltip = [
        alt.Tooltip("method:N"),
        alt.Tooltip("says:N", title="at equal accuracy"),
        alt.Tooltip("low:Q", format="+.1f"),
        alt.Tooltip("high:Q", format="+.1f"),
    ]
    layers = [
        alt.Chart(alt.NamedData("zero")).mark_rule(color=INK["page"], opacity=0.6).encode(x="zero:Q"),
        base.mark_rule(strokeWidth=2).encode(x="low:Q", x2="high:Q", tooltip=tooltip),
        base.mark_point(filled=True, size=90).encode(x=x, tooltip=tooltip),
    ]
    return specification(layers)


def devices_chart(section: Section, rows: Sequence[Row]) -> Chart | None:
    """Latency over the measured devices of each row, by cluster; None where no devices are known."""
    with_devices = [row for row in rows if row.devices]
    if not with_devices:
        return None
    devices = [
        {
            "method": row.label,
            "ms": device.latency_ms,
            "device": device.device,
            "cluster": device.cluster,
            "share": device.weight * 100,
        }
        for row in with_devices
        for device in row.devices
    ]
    averages = [
        {
            "method": row.label,
            "ms": row.latency_ms.value,
            "from": min(device.latency_ms for device in row.devices),
            "to": max(device.latency_ms for device in row.devices),
            "average": interval_words(row.latency_ms, unit=" ms", decimals=3),
        }
        for row in with_devices
    ]
    says = f"Latency over the measured devices at {section.target} on {section.fleet}, {len(with_devices)} rows"
    data = {"averages": averages, "devices": devices}
    return Chart(_devices_spec(), data, says, LINE * len(with_devices))


@cache
def _devices_spec() -> Specification:
    y, ink = rows_axis(), INK["page"]
    x = alt.X(
        "ms:Q",
        title="latency on the measured devices (ms)",
        scale=alt.Scale(zero=False, padding=12),
        axis=alt.Axis(tickCount=TICKS),
    )
    fade = when_picked(1, 0.15)
    means = alt.Chart(alt.NamedData("averages")).encode(y=y, opacity=fade)
    layers = [
        means.mark_rule(color=ink, strokeWidth=1, strokeOpacity=0.3).encode(x="from:Q", x2="to:Q"),
        alt.Chart(alt.NamedData("devices"))
        .mark_circle(stroke=ink, strokeWidth=0.6)
        .encode(
            x=x,
            y=y,
            opacity=fade,
            size=alt.Size("share:Q", scale=alt.Scale(range=[25, 260], zero=True), legend=None),
            color=alt.Color(
                "cluster:O",
                title="cluster",
                scale=alt.Scale(scheme="viridis"),
                legend=alt.Legend(orient="top", columns=alt.ExprRef("width < 350 ? 4 : 12")),
            ),
            tooltip=[
                alt.Tooltip("method:N"),
                alt.Tooltip("device:N"),
                alt.Tooltip("cluster:O"),
                alt.Tooltip("share:Q", title="% of the fleet", format=".1f"),
                alt.Tooltip("ms:Q", title="median (ms)", format=".4g"),
            ],
        ),
        means.mark_tick(color=ink, thickness=3, size=18).encode(
            x=x, tooltip=[alt.Tooltip("method:N"), alt.Tooltip("average:N", title="average over the fleet")]
        ),
    ]
    return specification(layers)


def kept_chart(section: Section, rows: Sequence[Row], dense: Mapping[str, float]) -> Chart | None:
    """Channels kept per group of each row, as shares of the dense widths; None where plans or widths are unknown."""
    groups = {name: width for name, width in dense.items() if width}
    data = [
        {
            "method": row.label,
            "group": one_line(group),
            "share": row.kept[group] / width * 100,
            "kept": row.kept[group],
            "dense": width,
        }
        for row in rows
        for group, width in groups.items()
        if group in row.kept
    ]
    if not data:
        return None
    says = f"Channels kept per group at {section.target} on {section.fleet}, {len(rows)} rows"
    n_rows = len({record["method"] for record in data})
    return Chart(_kept_spec(has_numbers=len(groups) <= WITH_NUMBERS), {"kept": data}, says, LINE * n_rows)


@cache
def _kept_spec(*, has_numbers: bool) -> Specification:
    base = alt.Chart(alt.NamedData("kept")).encode(
        x=alt.X(
            "group:N",
            title="channel group",
            sort=None,
            axis=alt.Axis(labelAngle=-50, labelLimit=120, labelOverlap=True),
        ),
        y=rows_axis(),
        opacity=when_picked(1, 0.15),
    )
    layers = [
        base.mark_rect().encode(
            color=alt.Color(
                "share:Q",
                title="channels kept (%)",
                scale=alt.Scale(domain=[0, 100], scheme="viridis"),
                legend=alt.Legend(orient="top", gradientLength=160),
            ),
            tooltip=[
                alt.Tooltip("method:N"),
                alt.Tooltip("group:N"),
                alt.Tooltip("kept:Q", title="kept (mean)", format=".4~g"),
                alt.Tooltip("dense:Q"),
                alt.Tooltip("share:Q", title="kept (%)", format=".1f"),
            ],
        )
    ]
    if has_numbers:
        dark_on = alt.when("datum.share > 60").then(alt.value("#000")).otherwise(alt.value("#fff"))
        layers.append(
            base.mark_text(fontSize=10).encode(
                text=alt.when("width > 420").then(alt.Text("kept:Q", format=".3~g")).otherwise(alt.value("")),
                color=dark_on,
            )
        )
    return specification(layers)
