"""Leaderboard -> a chart of accuracy against latency, for notebooks. Altair draws it."""

from __future__ import annotations

import altair as alt

from hdapbench.leaderboard.board import Leaderboard
from hdapbench.render.records import Record, records

_SHOWN = ("ranked", "unranked", "reference")
_TOLD = ("label:N", "target:N", "status:N", "latency_ms:Q", "accuracy:Q", "flops:Q", "params:Q")


def accuracy_against_latency(board: Leaderboard) -> alt.TopLevelMixin:
    """Chart of all rows: a point each with its 95 % intervals, one colour per method, one panel per fleet."""
    points = [_drawn(record) for record in records(board) if record["status"] in _SHOWN]
    latency = alt.X("latency_ms:Q", title="average latency over the fleet (ms)", scale=alt.Scale(zero=False))
    accuracy = alt.Y("accuracy:Q", title=board.metric, axis=alt.Axis(format=".1%"), scale=alt.Scale(zero=False))
    base = alt.Chart().encode(color=alt.Color("label:N", title="method", scale=alt.Scale(scheme="tableau20")))
    layers = alt.layer(
        base.mark_rule(opacity=0.5).encode(x=alt.X("latency_ms_low:Q", title=""), x2="latency_ms_high:Q", y=accuracy),
        base.mark_rule(opacity=0.5).encode(x=latency, y=alt.Y("accuracy_low:Q", title=""), y2="accuracy_high:Q"),
        base.mark_point(filled=True, size=70).encode(
            x=latency, y=accuracy, shape=alt.Shape("target:N", title="target"), tooltip=list(_TOLD)
        ),
        data=alt.InlineData(values=points),
    ).properties(width=420, height=300)
    title = f"{board.name}: accuracy against latency"
    n_fleets = len({record["fleet"] for record in points})
    return layers.properties(title=title) if n_fleets < 2 else layers.facet("fleet:N").properties(title=title)


def _drawn(record: Record) -> Record:
    """A record whose unknown intervals are the value alone, a line that is not seen; dense is of no target."""
    ends = [name for name in record if name.endswith(("_low", "_high")) and record[name] is None]
    target = "dense" if record["status"] == "reference" else record["target"]
    return record | {name: record[name.rpartition("_")[0]] for name in ends} | {"target": target}
