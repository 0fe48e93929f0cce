"""Leaderboard -> markdown: the same text for the same database."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hdapbench.errors import printable
from hdapbench.leaderboard.build import Leaderboard, Row, Section
from hdapbench.render.table import (
    BITS,
    COSTS,
    FRONT,
    answer,
    bit_cells,
    cost_cells,
    front_cells,
    mark_meanings,
    one_line,
    ranking_cells,
    ranking_header,
    section_title,
)


def render_markdown(board: Leaderboard) -> str:
    """Markdown of a board, ending with a newline."""
    model, data = board.spec["model"]["name"], board.spec["data"]["name"]
    lines = [
        f"# {board.name}",
        "",
        (
            f"{model} on {data}. FLOPs are multiply-accumulates of convolution and linear layers. "
            f"{board.n_finished} of {board.n_trials} trials have ended."
        ),
    ]
    for section in board.sections:
        lines += ["", f"## {section_title(board, section)}", "", answer(section, board.metric), ""]
        lines += _section(board, section)
    for fleet in dict.fromkeys(section.fleet for section in board.sections):
        if front := board.front(fleet):
            lines += ["", f"## All quantised models, fleet {fleet}", "", "Smallest first.", ""]
            lines += table(FRONT, [front_cells(target, row, leads=leads) for target, row, leads in front])
    lines += ["", "## How to read this", "", *_legend(board), "", "## Provenance", "", *_provenance(board)]
    return "\n".join(map(printable, lines)) + "\n"


def _section(board: Leaderboard, section: Section) -> list[str]:
    dense = [board.dense[section.fleet]] if section.fleet in board.dense else []
    rows: list[Row] = [*dense, *section.rows]
    lines = table(ranking_header(board), [ranking_cells(row) for row in rows])
    lines += ["", "What it took:", "", *table(COSTS, [cost_cells(row) for row in rows])]
    if any(row.bits is not None for row in section.rows):
        lines += ["", "Bit-widths:", "", *table(BITS, [bit_cells(row) for row in section.rows if row.bits is not None])]
    if section.gaps:
        lines += ["", "Without numbers:", ""]
        lines += table(
            ("method", "seed", "status", "reason"),
            [(gap.label, str(gap.seed), gap.status, one_line(gap.reason)) for gap in section.gaps],
        )
    return lines


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a markdown table; columns of words are left-aligned, all others right-aligned."""
    content = [[_escape(cell) for cell in row] for row in rows]
    widths = [max(3, *(len(cell) for cell in column)) for column in zip(header, *content, strict=True)]
    textual = {"method", "status", "reason"}
    rule = [
        "-" * width if name in textual else "-" * (width - 1) + ":" for name, width in zip(header, widths, strict=True)
    ]
    lines = []
    for row in [list(header), rule, *content]:
        cells = [
            cell.ljust(width) if name in textual else cell.rjust(width)
            for cell, name, width in zip(row, header, widths, strict=True)
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _legend(board: Leaderboard) -> list[str]:
    seeds = board.spec["seeds"]
    over_seeds = (
        f"± after a number is the half-width of the 95 % interval (Student's t) over {len(seeds)} seeds."
        if len(seeds) > 1
        else "There is one seed: no interval over seeds."
    )
    return [
        (
            "- Average clustered latency: the average over all devices, estimated from the median latencies on the "
            f"clusters' representatives and every device's fingerprint. {over_seeds} \"fleet\" is the relative "
            "half-width of the 95 % interval over the devices that were not measured."
        ),
        (
            "- p95: 95 % quantile over all devices, each predicted from the measured ones by its fingerprint. Worst "
            "cluster: the slowest representative."
        ),
        (
            "- Speed-up and drop are against the dense model, which is not fine-tuned further. All methods share one "
            "fine-tuning recipe, test split and latency protocol."
        ),
        (
            "- Device queries, accuracy evaluations and training epochs are what a method used up before it proposed "
            "its plan; fine-tuning afterwards is the same for all and not counted."
        ),
        *_bit_legend(board),
        *[f"- `{mark}` {meaning}." for mark, meaning in mark_meanings(board).items()],
    ]


def _bit_legend(board: Leaderboard) -> list[str]:
    if not any(row.bits is not None for section in board.sections for row in section.rows):
        return []
    return [
        (
            "- Weights: packed at their bits, without removed channels, biases and scales; the packed file holds all. "
            "Rows with bits have 8-bit activations unless a parameter says otherwise; accuracy is that of the fake-"
            "quantised network, integer accuracy that of the integer-only executor, differing the share of test inputs "
            "on which the two name different classes. Latency is that of the pruned widths in the fleet's arithmetic. "
            "In sections that limit bits, `=` speaks of accuracy, `*` of accuracy and weights, `!` of the limit."
        )
    ]


def _provenance(board: Leaderboard) -> list[str]:
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


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")  # GitHub drops what looks like a tag
