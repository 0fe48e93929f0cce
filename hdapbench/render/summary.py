"""One method over all boards -> markdown."""

from __future__ import annotations

from collections.abc import Sequence

from hdapbench.leaderboard.summary import Standing
from hdapbench.render.cells import lead_of
from hdapbench.render.table import lead_cells

HEAD = (
    "board",
    "fleet",
    "latency",
    "against its best rival",
    "at equal accuracy",
    "95 %",
    "accuracies",
    "rows",
    "seeds",
)


def render_summary(found: Sequence[Standing], method: str) -> str:
    """Table with a line per fleet of every board, and a sentence on what it says.

    Parameters
    ----------
    found
        In the order in which they are shown.
    method
        Whose standings they are.
    """
    if not found:
        return f"No board has rows of {method} and of others.\n"
    rows = [HEAD, tuple("--:" if name in ("rows", "seeds") else "---" for name in HEAD)]
    rows += [_cells(one) for one in found]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"{_sentence(found, method)}\n\n{table}\n"


def _sentence(found: Sequence[Standing], method: str) -> str:
    leads = [lead_of(one.lead, one.cost) for one in found]
    ahead = sum(lead.low > 0 for lead in leads)
    behind = sum(lead.high < 0 for lead in leads)
    open_ = len(found) - ahead - behind
    return (
        f"At equal accuracy, {method} is ahead of every other method on {ahead} of {len(found)} boards, behind one on "
        f"{behind}, and the interval holds zero on {open_}."
    )


def _cells(one: Standing) -> tuple[str, ...]:
    _, lead, interval, span, _ = lead_cells(one.lead, one.cost)
    source = one.source if one.cost == "latency" else "(bytes)"
    return one.board, one.fleet, source, one.rival, lead, interval, span, str(one.n_rivals + 1), str(one.n_seeds)
