"""A board as a web page: one file with its charts, tables and trials, which loads nothing from elsewhere.

What does not fit into a page of a few megabytes is left out of the drawing, and the page says so; every number that it
shows is that of all results.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from hdapbench.leaderboard.board import Leaderboard, Leads, Row, Section
from hdapbench.render.account import explanation
from hdapbench.render.cells import counted, one_line, significant
from hdapbench.render.charts import devices_chart, kept_chart, leads_chart
from hdapbench.render.drawing import DARK, LIGHT, Chart, config, labels
from hdapbench.render.front import far_below, front_chart, is_by_bytes
from hdapbench.render.markdown import provenance
from hdapbench.render.page import account
from hdapbench.render.sentences import about, answer, leads_sentence, legend, rule_words, section_title
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
from hdapbench.render.verdict import verdict
from hdapbench.render.web import csp_hash, marked, scripts, style, templates
from hdapbench.trial import Result

N_ROWS = 800
"""Rows that a page shows, over all sections."""
N_RECORDS = 8000
"""Marks that its charts draw, beside the fronts."""
ACCOUNTS = 600_000
"""Characters of the accounts of its trials."""

WORDS = {"method", "status", "reason", "bits: channels", "at equal accuracy", "target", "front"}
"""Columns of words."""

N_TRIALS = 2000
"""Trials that its dialogs list."""

Table = dict[str, Any]

Find = Callable[[Sequence[str]], Sequence[Result]]
"""Results of trials, from their ids."""


def board_page(board: Leaderboard, results: Sequence[Result] | Find) -> str:
    """HTML of a board, with what is known of each of its trials.

    Parameters
    ----------
    board
        What is shown.
    results
        All of its results, or what finds those that the page tells of.
    """
    if callable(results):
        return _Page(board, results).html()
    by_id = {result.trial.id: result for result in results}
    return _Page(board, lambda ids: [by_id[trial_id] for trial_id in ids if trial_id in by_id]).html()


class _Page:
    """What the parts of one page share: its charts, how much of it is used up, and the colours of methods."""

    def __init__(self, board: Leaderboard, find: Find) -> None:
        self.board, self.find = board, find
        self.charts: dict[str, Chart] = {}
        self.n_rows = max(5, N_ROWS // max(1, len(board.sections)))
        self.n_leads = max(self.n_rows, N_ROWS // 4 // max(1, len(board.leads)))
        self.n_records, self.accounts = N_RECORDS, ACCOUNTS
        self.colors = {label: f"k{number % len(LIGHT)}" for number, label in enumerate(labels(board))}
        self.dialogs: list[dict[str, Any]] = []
        n_shown = sum(len(self.shown(section)) for section in board.sections)
        self.n_trials = max(2, N_TRIALS // max(1, n_shown))
        self.environment = templates()
        self.environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "sort_keys": False}

    def html(self) -> str:
        board, text = self.board, scripts()
        sections = [self._section(number, section) for number, section in enumerate(board.sections)]
        fleets = [self._fleet(fleet) for fleet in dict.fromkeys(section.fleet for section in board.sections)]
        return self.environment.get_template("board.html").render(
            name=board.name,
            about=about(board),
            leads_said=[marked(_on_fleet(board, leads, leads_sentence(leads))) for leads in board.leads],
            warnings=board.warnings,
            cards=[self._card(number, section) for number, section in enumerate(board.sections)],
            methods=[{"label": label, "color": color} for label, color in self.colors.items()],
            fleets=fleets,
            sections=sections,
            quantised=[table for fleet in fleets if (table := self._quantised(fleet["name"])) is not None],
            legend=[marked(said) for said in legend(board)],
            provenance=[marked(said.lstrip("- ")) for said in provenance(board)],
            dialogs=self.dialogs,
            charts=self._drawing(),
            says={name: chart.says for name, chart in self.charts.items()},
            words=WORDS,
            light=LIGHT,
            dark=DARK,
            scripts=[csp_hash(text["library"]), csp_hash(text["page"])],
            style=style(),
            library=Markup(text["library"]),  # noqa: S704 - files of packages
            script=Markup(text["page"]),  # noqa: S704
        )

    def _drawing(self) -> dict[str, Any]:
        """What the script draws: each specification once, and which of them each chart completes."""
        specs = {id(chart.spec): chart.spec for chart in self.charts.values()}
        places = list(specs)
        charts = {name: {"spec": places.index(id(c.spec)), **c.content} for name, c in self.charts.items()}
        return {"specs": list(specs.values()), "charts": charts, "config": config("page")}

    def shown(self, section: Section) -> tuple[Row, ...]:
        """Rows of a section that the page shows."""
        return section.rows[: self.n_rows]

    def _fleet(self, fleet: str) -> dict[str, Any]:
        board = self.board
        by_bytes = is_by_bytes(board, fleet)
        joined = "a method's targets" if by_bytes else "a method's targets and the dense model"
        notes = [f"Error bars are 95 % intervals. A line joins {joined}."]
        asked = [
            f"{section.rule.least_accuracy * 100:.2f} % at {section.target}"
            for section in board.sections
            if section.fleet == fleet and section.rule.least_accuracy is not None
        ]
        if asked:
            which = f" ({', '.join(asked)})" if len(asked) <= 4 else ""
            notes.append(f"Dashed: what a ranking asks for{which}; hollow points miss it.")
        if len(self.colors) > len(LIGHT):
            notes.append(f"Colours repeat after {len(LIGHT)} methods.")
        if lost := far_below(board, fleet, self.n_rows):
            told = [f"{row.label} at {target} ({_short(row, board.metric)})" for target, row in lost[:12]]
            notes.append(f"Far below the picture: {'; '.join(told)}{'; and others' if len(lost) > 12 else ''}.")
        if any(len(section.rows) > self.n_rows for section in board.sections):
            notes.append(f"Drawn are the first {self.n_rows} rows of each table.")
        leads = [found for found in board.leads if found.fleet == fleet]
        has_rows = any(section.rows for section in board.sections if section.fleet == fleet)
        chart = front_chart(board, fleet, n_rows=self.n_rows) if has_rows else None
        return {
            "name": fleet,
            "against": "stored bytes" if by_bytes else "latency",
            "note": " ".join(notes),
            "front": self._draw(f"front-{fleet}", chart, is_free=True),
            "leads": [self._leads(found) for found in leads],
        }

    def _leads(self, leads: Leads) -> dict[str, Any]:
        rows = [self._row(row.label, lead_cells(row, leads.cost)) for row in leads.rows[: self.n_leads]]
        name = f"leads-{leads.fleet}-{leads.cost}"
        return {
            "said": marked(leads_sentence(leads)),
            "by_bytes": leads.cost != "latency",
            "chart": self._draw(name, leads_chart(self.board, leads, self.n_leads)),
            "left_out": _left_out(len(leads.rows) - len(rows)),
            "table": _table(f"Against {leads.reference} at equal accuracy", LEADS, [("plain", "", rows)]),
        }

    def _section(self, number: int, section: Section) -> dict[str, Any]:
        board, rows = self.board, self.shown(section)
        title, _, origin = section_title(board, section).partition(" (")
        opens = {row.label: self._dialog(f"r{number}-{place}", section, row) for place, row in enumerate(rows)}
        return {
            "id": f"s{number}",
            "title": title,
            "origin": origin.removesuffix(")"),
            "answer": marked(answer(board, section)),
            "warnings": section.warnings,
            "tables": [self._rows(section, rows, opens)] if section.rows else [],
            "left_out": _left_out(len(section.rows) - len(rows)),
            "devices": self._draw(f"devices-{number}", devices_chart(section, rows)),
            "kept": self._draw(f"kept-{number}", kept_chart(section, rows, self._dense_widths(section.fleet))),
            "costs": self._columns(
                "Queries, evaluations and epochs are what a method used up before its plan", [*FLEET, *COSTS[1:]], rows
            ),
            "gaps": _gaps(section, self.n_rows),
        }

    def _rows(self, section: Section, rows: Sequence[Row], opens: Mapping[str, str]) -> Table:
        """Dense, ranked rows, a line, and those below it."""
        columns = [*ranking_columns(self.board, section)]
        if section.unranked:
            columns.append(unranked_columns(self.board)[-1])
        if any(row.bits is not None for row in rows):
            columns += [*bit_columns(rows)[1:], *CHANNELS[1:]]

        def made(chosen: Sequence[Row]) -> list[Table]:
            return [self._row(row.label, [c.cell(row) for c in columns], opens.get(row.label, "")) for row in chosen]

        dense = [self.board.dense[section.fleet]] if section.fleet in self.board.dense else []
        groups = [
            ("dense", "", made(dense)),
            ("ranked", "", made([row for row in rows if row.rank is not None])),
            (
                "unranked",
                f"Not ranked, for they are not {rule_words(section)}:",
                made([r for r in rows if r.rank is None]),
            ),
        ]
        caption = "Choose a method to see why it stands where it does; choose a heading to sort."
        return _table(caption, [column.title for column in columns], groups, named=1)

    def _columns(self, caption: str, columns: Sequence[Column], rows: Sequence[Row]) -> Table | None:
        made = [self._row(row.label, [column.cell(row) for column in columns]) for row in rows]
        return _table(caption, [column.title for column in columns], [("plain", "", made)]) if made else None

    def _quantised(self, fleet: str) -> Table | None:
        rows = [
            self._row(row.label, front_cells(target, row, leads=leads))
            for target, row, leads in self.board.front(fleet)[: self.n_leads]
        ]
        caption = f"All quantised models, fleet {fleet}, smallest first"
        return _table(caption, FRONT, [("plain", "", rows)], named=1) if rows else None

    def _row(self, label: str, cells: Sequence[str], opens: str = "") -> Table:
        split = [cell.partition(" (") for cell in cells]
        shown = [
            (cell, "") if cell.startswith(label) else (first, f"({rest}" if rest else "")
            for cell, (first, _, rest) in zip(cells, split, strict=True)
        ]
        return {"label": label, "color": self.colors.get(label, ""), "cells": shown, "opens": opens}

    def _card(self, number: int, section: Section) -> dict[str, Any]:
        where = f"{section.target}, fleet {section.fleet}"
        if not section.ranked:
            return {
                "link": f"s{number}",
                "where": where,
                "color": "",
                "first": "no row is ranked",
                "numbers": [],
                "shown": "",
            }
        first = section.ranked[0]
        numbers = [(f"{significant(first.latency_ms.value)} ms", "")]
        if first.speed_up is not None:
            numbers.append((f"{first.speed_up.value:.2f}x", "dense"))
        numbers.append(
            (f"{first.accuracy.value * 100:.1f} %", "" if self.board.metric == "accuracy" else self.board.metric)
        )
        what = "Most accurate" if section.by_accuracy else "Fastest"
        ties = f"; {counted(len(first.same_as), 'other')} chose the same widths" if first.same_as else ""
        return {
            "link": f"s{number}",
            "where": where,
            "color": self.colors[first.label],
            "first": first.label,
            "numbers": numbers,
            "shown": f"{what} {rule_words(section)}{ties}",
        }

    def _dialog(self, name: str, section: Section, row: Row) -> str:
        told = row.seeds[: self.n_trials]
        found = self.find([seed.trial_id for seed in told]) if self.accounts > 0 else []
        results = {result.trial.id: result for result in found}
        trials = []
        for seed in told:
            said = f"Seed {seed.seed}: {significant(seed.latency_ms)} ms, {seed.accuracy * 100:.2f} % [{seed.trial_id}]"
            trials.append({"said": said, "id": seed.trial_id, "account": self._account(results.get(seed.trial_id))})
        where = f"{section.target}, fleet {section.fleet}"
        dialog: Table = {
            "id": name,
            "label": row.label,
            "color": self.colors[row.label],
            "where": where,
            "trials": trials,
        }
        left_out = _left_out(len(row.seeds) - len(told), "seed")
        self.dialogs.append(dialog | {"verdict": verdict(self.board, section, row), "left_out": left_out})
        return name

    def _account(self, result: Result | None) -> Markup | None:
        if result is None or self.accounts <= 0:
            return None
        template = self.environment.get_template("account.html")
        text = template.render(account(explanation(result)), level=4, with_widths=False)
        self.accounts -= len(text)
        return Markup(text)  # noqa: S704 - rendered by a template that escapes

    def _draw(self, name: str, chart: Chart | None, *, is_free: bool = False) -> str:
        """Name of a chart that is drawn; nothing where there is none, or no room for it."""
        if chart is None or (chart.n_records > self.n_records and not is_free):
            return ""
        self.n_records -= 0 if is_free else chart.n_records
        self.charts[name] = chart
        return name

    def _dense_widths(self, fleet: str) -> Mapping[str, float]:
        return self.board.dense[fleet].kept if fleet in self.board.dense else {}


def _short(row: Row, metric: str) -> str:
    return f"{significant(row.latency_ms.value)} ms, {metric} {row.accuracy.value * 100:.1f} %"


def _left_out(n: int, what: str = "row") -> str:
    return f"{counted(n, f'more {what}')} left out of a page of this size." if n else ""


def _on_fleet(board: Leaderboard, leads: Leads, said: str) -> str:
    return f"Fleet {leads.fleet}: {said}" if len(board.leads) > 1 else said


def _table(
    caption: str, titles: Sequence[str], groups: Sequence[tuple[str, str, list[Table]]], *, named: int = 0
) -> Table:
    made = [{"kind": kind, "said": said, "rows": rows} for kind, said, rows in groups if rows]
    return {"caption": caption, "titles": list(titles), "groups": made, "named": named}


def _gaps(section: Section, n_rows: int) -> Table | None:
    rows = [
        {
            "label": gap.label,
            "color": "",
            "opens": "",
            "cells": [(gap.label, ""), (str(gap.seed), ""), (gap.status, ""), (one_line(gap.reason), "")],
        }
        for gap in section.gaps[:n_rows]
    ]
    title = "Trials that have no numbers, and why"
    return _table(title, ("method", "seed", "status", "reason"), [("plain", "", rows)]) if rows else None
