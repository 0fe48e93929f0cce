"""What to know before a board is read: sentences, each with the numbers that it rests on."""

from __future__ import annotations

from collections.abc import Sequence

from hdapbench.leaderboard.board import Leaderboard, Section
from hdapbench.store.brief import NO_NOTES, Brief
from hdapbench.trial import CLUSTERED_ANEW, SCORED_AGAIN

NEAR_CHANCE = 3.0
"""A dense model that is not so many times as accurate as guessing says little about what pruning costs."""

LEAST_MAP = 0.05
"""A detector below this says as little; random boxes have a mean average precision near zero."""


def board_warnings(board: Leaderboard) -> tuple[str, ...]:
    """Warnings that concern all sections."""
    said = []
    for fleet, dense in board.dense.items():
        n_classes = board.notes.get(fleet, {}).get("n_classes")
        if isinstance(n_classes, int) and n_classes > 1 and board.metric == "accuracy":
            chance = 1 / n_classes
            if dense.accuracy.value < min(NEAR_CHANCE * chance, 0.5 * (1 + chance)):
                said.append(
                    f"The dense model is near chance: {dense.accuracy.value:.1%} where guessing gives {chance:.1%}. "
                    "What pruning costs in accuracy cannot be told from it."
                )
                break
        if board.metric != "accuracy" and dense.accuracy.value < LEAST_MAP:
            said.append(
                f"The dense model finds next to nothing: {board.metric} {dense.accuracy.value:.1%}. "
                "What pruning costs in accuracy cannot be told from it."
            )
            break
    if len(board.spec["seeds"]) == 1 and board.sections:
        said.append("One seed: intervals cover test images and measuring, not what another training would give.")
    if board.sections and board.n_images is None:
        said.append(
            "These results were stored without the outcome of each test image: rows are not compared on images, "
            "and intervals of accuracy cover seeds alone."
        )
    return tuple(said)


def fleet_warnings(results: Sequence[Brief]) -> tuple[str, ...]:
    """Warnings of results whose fleet is not what it was when their plans were found, or others were measured."""
    said = []
    notes = [result.notes for result in results if result.notes_json != NO_NOTES]
    again = sum(SCORED_AGAIN in of for of in notes)
    if again:
        said.append(
            f"Plans of {again} trials were found on an earlier recording of the fleet and are scored on this one."
        )
    anew = dict.fromkeys(str(of[CLUSTERED_ANEW]) for of in notes if CLUSTERED_ANEW in of)
    if anew:
        said.append(f"Devices were lost between trials; what followed was measured on the others. {'; '.join(anew)}.")
    return tuple(said)


def section_warnings(section: Section) -> tuple[str, ...]:
    """Warnings that concern one ranking."""
    said = []
    others = section.ranked[1:]
    compared = [row.behind if section.by_accuracy else row.slower for row in others]
    if others and all(found is None or found.low <= 0 <= found.high for found in compared):
        what = "accuracy" if section.by_accuracy else "latency"
        said.append(f"The {len(section.ranked)} ranked rows cannot be told apart in {what}: their order is not shown.")
    if section.rows and not section.ranked:
        said.append("No row keeps the accuracy that the ranking asks for.")
    return tuple(said)
