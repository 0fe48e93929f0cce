"""Leaderboard -> markdown: the same text for the same database."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hdapbench.errors import printable
from hdapbench.leaderboard.board import Leaderboard, Leads, Row, Section
from hdapbench.render.cells import one_line
from hdapbench.render.sentences import answer, leads_sentence, legend, rule_words, section_title
from hdapbench.render.table import (
    CHANNELS,
    COSTS,
    FLEET,
    FRONT,
    LEADS,
    Column,
    bit_columns,
    front_cells,
    lead_cells,
    ranking_columns,
    unranked_columns,
)

TEXTUAL = {"method", "status", "reason", "bits: channels", "at equal accuracy", "of", "at", "channels kept"}


def render_markdown(board: Leaderboard) -> str:
    """Markdown of a board, ending with a newline."""
    model, data = board.spec["model"]["name"], board.spec["data"]["name"]
    lines = [
        f"# {board.name}",
        "",
        (
            f"{model} on {data}. FLOPs are multiply-accumulates of {board.flops_of}. "
            f"{board.n_finished} of {board.n_trials} trials have ended."
        ),
    ]
    lines += [line for said in board.warnings for line in ("", f"> {said}")]
    for leads in board.leads:
        lines += ["", *_leads(leads)]
    for section in board.sections:
        lines += ["", f"## {section_title(board, section)}", "", answer(board, section)]
        lines += [line for said in section.warnings for line in ("", f"> {said}")]
        lines += _section(board, section)
    for fleet in dict.fromkeys(section.fleet for section in board.sections):
        if front := board.front(fleet):
            lines += ["", f"## All quantised models, fleet {fleet}", "", "Smallest first.", ""]
            lines += table(FRONT, [front_cells(target, row, leads=leads) for target, row, leads in front])
    lines += ["", "## How to read this", "", *(f"- {said}" for said in legend(board))]
    lines += ["", "## Provenance", "", *provenance(board)]
    return "\n".join(_inert(printable(line)) for line in lines) + "\n"


def _leads(leads: Leads) -> list[str]:
    what = "" if leads.cost == "latency" else ", by bytes stored"
    return [
        f"## At equal accuracy, fleet {leads.fleet}{what}",
        "",
        leads_sentence(leads),
        "",
        *table(LEADS, [lead_cells(row, leads.cost) for row in leads.rows]),
    ]


def _section(board: Leaderboard, section: Section) -> list[str]:
    dense = [board.dense[section.fleet]] if section.fleet in board.dense else []
    rows = [*dense, *section.rows]
    lines = ["", *_columns(ranking_columns(board, section), [*dense, *section.ranked])] if rows else []
    if section.unranked:
        lines += ["", f"Not ranked, for they are not {rule_words(section)}:", ""]
        lines += _columns(unranked_columns(board), section.unranked)
    if rows:
        lines += ["", "Size, and latency over seeds and devices:", "", *_columns(FLEET, rows)]
        lines += ["", "What deciding took:", "", *_columns(COSTS, section.rows)]
    if quantised := [row for row in section.rows if row.bits is not None]:
        lines += [
            "",
            "Bit-widths:",
            "",
            *_columns(bit_columns(quantised), quantised),
            "",
            *_columns(CHANNELS, quantised),
        ]
    if section.gaps:
        lines += ["", "Without numbers:", ""]
        lines += table(
            ("method", "seed", "status", "reason"),
            [(gap.label, str(gap.seed), gap.status, one_line(gap.reason)) for gap in section.gaps],
        )
    return lines


def _columns(columns: Sequence[Column], rows: Iterable[Row]) -> list[str]:
    return table([column.title for column in columns], [[column.cell(row) for column in columns] for row in rows])


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a markdown table; columns of words are left-aligned, all others right-aligned."""
    content = [[_escape(cell) for cell in row] for row in rows]
    widths = [max(3, *(len(cell) for cell in column)) for column in zip(header, *content, strict=True)]
    rule = [
        "-" * width if name in TEXTUAL else "-" * (width - 1) + ":" for name, width in zip(header, widths, strict=True)
    ]
    lines = []
    for row in [list(header), rule, *content]:
        cells = [
            cell.ljust(width) if name in TEXTUAL else cell.rjust(width)
            for cell, name, width in zip(row, header, widths, strict=True)
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def provenance(board: Leaderboard) -> list[str]:
    """Lines of markdown on where the numbers come from."""
    spec = board.spec
    lines = [
        f"- spec `{board.name}`, content hash `{board.spec_hash}`; seeds {', '.join(map(str, spec['seeds']))}",
        f"- fine-tuning: {_recipe(spec['fine_tune'])}",
    ]
    for fleet, notes in board.notes.items():
        described = ", ".join(f"{key} {value}" for key, value in notes.get("fleet", {}).items())
        lines.append(
            f"- fleet `{fleet}`: {described}; {notes.get('n_clusters')} clusters, fingerprint of "
            f"{notes.get('fingerprint_queries')} device queries; {notes.get('n_measured')} devices measured per model, "
            f"estimator {notes.get('estimator')}"
        )
    for notes in list(board.notes.values())[:1]:
        lines.append(f"- base model: {notes.get('base_origin')}, content hash `{str(notes.get('base_hash'))[:16]}`")
        skipped = notes.get("skipped_files")
        left_out = f"; {skipped} unreadable files left out" if skipped else ""
        lines.append(f"- data: content hash `{str(notes.get('data_hash'))[:16]}`{left_out}")
        frozen = notes.get("frozen_groups", {})
        lines.append(f"- channel groups: {notes.get('n_groups')} prunable, {len(frozen)} frozen")
        lines += [f"  - `{name}`: {_escape(one_line(reason))}" for name, reason in frozen.items()]
    for environment in board.environments:
        versions = ", ".join(f"{key} {value}" for key, value in environment.model_dump().items())
        lines.append(f"- environment: {versions}")
    lines.append(f"- rebuild from the database: `hdapbench board {board.name}`")
    return lines


def _recipe(recipe: dict[str, object]) -> str:
    return ", ".join(f"{key} {value}" for key, value in recipe.items() if value not in (None, 0.0))


def _inert(line: str) -> str:
    """A line in which names of others are no tags, links or images: a board has none of its own."""
    return line.replace("<", "&lt;").replace("](", "]\\(")


def _escape(text: str) -> str:
    # A backslash before a pipe would escape that of the pipe. GitHub drops what looks like a tag.
    return text.replace("\\|", "\\&#124;").replace("|", "\\|").replace("<", "&lt;")
