"""What all charts of boards share: colours of methods, the look of axes, and how a chart is kept without its data.

A chart is a Vega-Lite specification by Altair and the records that it draws. On a page its colours follow the page's
theme and its methods are pointed out by the parameter ``picked``; a picture for papers is dark on white.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal

import altair as alt

from hdapbench.leaderboard.board import Leaderboard

Place = Literal["page", "paper"]
Specification = dict[str, Any]
Record = dict[str, Any]

LIGHT = (
    *("#3b4ea9", "#ff5200", "#00a574", "#8e0d16", "#009fc4", "#38007a", "#5d7df7", "#3b7180", "#c42e00", "#154f5a"),
)
DARK = (
    *("#0a82ff", "#c68624", "#7dc8a8", "#b83540", "#c0d011", "#6c59a9", "#6fb9ff", "#b8ebff", "#f7f29e", "#0f9eaa"),
)
"""Colours of methods, in the order of their labels, begun anew after the last.

Found by annealing: a contrast of at least 3 on the page, and far apart for readers who lack a kind of cone too.
"""

INK = {"page": "currentColor", "paper": "#222222"}
IS_PICKED = "length(picked) == 0 || indexof(picked, datum.method) >= 0"
TICKS = {"expr": "max(3, width / 110)"}


@dataclass(frozen=True, eq=False)
class Chart:
    """What is drawn, which charts of a kind share, what it is drawn from, and what it shows in a sentence."""

    spec: Specification
    data: Mapping[str, Sequence[Record]]
    says: str
    height: int

    @property
    def n_records(self) -> int:
        """Records that it draws."""
        return sum(map(len, self.data.values()))

    @property
    def content(self) -> dict[str, Any]:
        """What completes the specification: data with numbers as exact as a picture shows."""
        data = {name: [_short(record) for record in records] for name, records in self.data.items()}
        return {"description": self.says, "height": self.height, "datasets": data}


def labels(board: Leaderboard) -> list[str]:
    """Labels of a board's methods, in the order of their colours."""
    return sorted({row.label for section in board.sections for row in section.rows})


def color_name(number: int) -> str:
    """CSS variable of the colour of a label."""
    return f"--c{number % len(LIGHT)}"


def config(on: Place) -> dict[str, Any]:
    """Look of all charts of a page, or of a picture."""
    ink = INK[on]
    text = {"labelColor": ink, "titleColor": ink, "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": 500}
    font = "system-ui, sans-serif" if on == "page" else "Liberation Sans, Arial, sans-serif"
    axis = {"gridColor": ink, "gridOpacity": 0.12, "domainColor": ink, "domainOpacity": 0.4, "tickColor": ink}
    return {
        "background": "transparent" if on == "page" else "white",
        "font": font,
        "axis": text | axis | {"tickOpacity": 0.4, "titlePadding": 10, "labelPadding": 5},
        "legend": text | {"symbolStrokeColor": ink, "symbolFillColor": ink, "rowPadding": 4, "columnPadding": 14},
        "view": {"stroke": None},
        "text": {"fontSize": 12},
    }


def specification(layers: Sequence[alt.Chart], *, width: int | None = None) -> Specification:
    """Layers over records that have names, as wide as their place unless there is a width.

    Altair checks each specification against a schema, which takes long: keep it for all charts of a kind.
    """
    size = alt.AutoSizeParams(type="fit-x", contains="padding")
    picked = alt.param(name="picked", value=[])
    spec = alt.layer(*layers).add_params(picked).properties(width=width or "container", autosize=size).to_dict()
    spec.pop("config", None)
    return spec


def _short(record: Record) -> Record:
    """Numbers as exact as a picture shows; what is not finite is absent."""
    return {
        name: (float(f"{value:.6g}") if isfinite(value) else None) if isinstance(value, float) else value
        for name, value in record.items()
    }


def method_color(names: Sequence[str], on: Place) -> alt.Color:
    """Colour by method, the same in all charts of a board."""
    shades = [f"var({color_name(n)})" if on == "page" else LIGHT[n % len(LIGHT)] for n in range(len(names))]
    legend = None if on == "page" else alt.Legend(title=None, symbolOpacity=1)
    return alt.Color("method:N", scale=alt.Scale(domain=list(names), range=shades), legend=legend)


def when_picked(normal: float, other: float) -> alt.OpacityValue:
    """Opacity of marks of a method: that of ``normal`` as long as no other one is pointed out."""
    return alt.OpacityValue(other, condition={"test": IS_PICKED, "value": normal})


def rows_axis() -> alt.Y:
    """One line per method, in the order of the records."""
    return alt.Y("method:N", title=None, sort=None, axis=alt.Axis(labelLimit=150, domain=False, ticks=False))
