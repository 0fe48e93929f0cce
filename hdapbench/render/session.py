"""Session of measured latencies -> terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hdapbench.errors import printable

if TYPE_CHECKING:
    from hdapbench.runtimes.host import Host
    from hdapbench.runtimes.interval import Interval
    from hdapbench.runtimes.session import Session
    from hdapbench.spec import RuntimeSpec

CLOCK_DROP = 0.1
"""Fall of the slowest processor's clock during a session that is flagged."""


def print_session(
    session: Session, *, runtime: RuntimeSpec, before: Host, after: Host, console: Console | None = None
) -> None:
    """Print medians, intervals, ratios to the first model, flags and the host, on stdout or the given console."""
    out = console or Console(width=None if Console().is_terminal else 120)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("model", "median", "95 % interval", "ratio to the first", "95 % interval", "flags"):
        table.add_column(name, justify="left" if name in ("model", "flags") else "right", overflow="fold")
    for place, key in enumerate(session.keys):
        latency, ratio = session.latency(key), session.ratio(key)
        compared = [f"{ratio.median:.3f}", _range(ratio, ".3f")] if place else ["1", ""]
        cells = [key, f"{latency.median:.3f} ms", f"{_range(latency, '.3f')} ms", *compared]
        table.add_row(*map(_plain, cells), _plain("; ".join(session.flags(key))))
    out.print(f"{_plain(runtime.text)}", highlight=False)
    out.print(table)
    n_rounds, _, n_samples = session.samples_ms.shape
    found = [f"{int(session.kept.sum())} of {n_rounds} rounds count, {n_samples} samples per model and round"]
    found += [f"[yellow]! {_plain(flag)}[/yellow]" for flag in _flags(session, runtime, before, after)]
    found.append(f"[dim]{_plain(before.text)}[/dim]")
    versions = ", ".join(f"{name} {version}" for name, version in before.packages.items())
    found.append(f"[dim]{_plain(before.system)}, Python {before.python}, {_plain(versions)}[/dim]")
    for line in found:
        out.print(line, highlight=False)


def _flags(session: Session, runtime: RuntimeSpec, before: Host, after: Host) -> list[str]:
    flags = session.flags()
    if before.mhz and after.mhz and min(after.mhz) < (1 - CLOCK_DROP) * min(before.mhz):
        flags.append(f"the clock fell from {min(before.mhz):,.0f} to {min(after.mhz):,.0f} MHz")
    if runtime.threads >= before.n_usable:
        flags.append(
            f"{runtime.threads} threads on {before.n_usable} processors: one busy neighbour can cost a multiple"
        )
    return flags


def _plain(text: str) -> str:
    """Text that is no markup and moves no cursor."""
    return escape(printable(text))


def _range(interval: Interval, style: str) -> str:
    return f"{interval.low:{style}} - {interval.high:{style}}"
