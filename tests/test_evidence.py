from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from hdapbench.testing.store_contract import example_metrics, example_result
from hdapbench.trial import Outcomes, Result
from studies.evidence import batched, kept, milliseconds, stored_rows
from studies.others import RANKINGS, Ranking
from studies.ranks import among_themselves, correlation, lines_of
from studies.subjects import network
from tests.boards import trial

DOCS = Path(__file__).parents[1] / "docs"


def result(method: str, right: int, **parameters: object) -> Result:
    made = trial(method, target="0.5x", parameters=parameters)
    outcomes = Outcomes.of_images(np.arange(1000) < right)
    metrics = example_metrics(latency_ms=1.0, accuracy=right / 1000)
    return example_result(made, metrics=metrics).model_copy(update={"outcomes": outcomes})


def test_widths_are_rounded_down_as_torch_pruning_does() -> None:
    sizes = np.array([64, 24, 3])

    assert kept(sizes, 0.2).tolist() == [51, 19, 2]
    assert kept(sizes, 0.2, round_to=16).tolist() == [48, 16, 16]
    assert kept(np.array([10]), 0.9).tolist() == [1], "0.1 * 10 is one channel, whatever floats say"


def test_a_batch_reads_its_weights_once() -> None:
    kernels = network("resnet6", (1, 8, 8), n_classes=10).kernels
    plans = kernels.sizes[None]

    one, eight = (milliseconds(batched(kernels, n), plans, "nano", "fp32")[0] for n in (1, 8))

    assert one == milliseconds(kernels, plans, "nano", "fp32")[0]
    assert one < eight < 8 * one


def test_equal_orders_correlate_whatever_images_are_drawn() -> None:
    right = {name: np.arange(1000) < number for name, number in (("l1", 900), ("l2", 600), ("fpgm", 300), ("x", 10))}

    n_names, *found = correlation(right, {"l1": 70.0, "l2": 60.0, "fpgm": 50.0, "random": 40.0})

    assert n_names == 3
    assert found == pytest.approx([1.0, 1.0, 1.0])


def test_rows_of_ranks_are_named_as_published_and_sorted_by_accuracy() -> None:
    rows = [
        result("dense", 990),
        result("magnitude", 900, norm="l1"),
        result("torch-pruning", 930, importance="magnitude"),
        result("torch-pruning", 800, importance="lamp"),
        result("torch-pruning", 850, importance="random"),
        result("torch-pruning", 950, importance="fpgm"),
    ]

    lines = list(lines_of(rows))

    names = [line.split(" | ")[0] for line in lines if re.match(r"\| [a-z0-9 -]+ \| ", line)]
    assert [name.strip("| ") for name in names][2:7] == ["fpgm", "group norm", "l1", "random", "lamp"]
    assert any("theirs group norm > l1; ours group norm > l1" in line for line in lines), "too few to correlate"
    assert any(line.startswith("| ResNet50, ImageNet, 2x | 5 | +") for line in lines)


def test_published_tables_are_compared_with_each_other_where_enough_is_in_common() -> None:
    accuracy = {"l1": 3.0, "l2": 2.0, "fpgm": 1.0, "lamp": 0.5}
    few = Ranking("few", "", 9.0, {"l1": 1.0})

    found = among_themselves((Ranking("a", "", 9.0, accuracy), Ranking("b", "", 9.0, accuracy), few))

    assert found.tolist() == [pytest.approx(1.0)]
    assert all(max(table.accuracy.values()) <= table.dense + 0.5 for table in RANKINGS)


def test_tables_of_other_studies_are_read_from_the_documentation() -> None:
    assert "hdap, paper" in stored_rows("hdap.md", "speedup")["xavier_nx, mixed, fp16"]


def test_no_table_of_the_page_is_empty() -> None:
    text = (DOCS / "evidence.md").read_text()
    tables = re.findall(r"<!-- (.+): begin .*-->\n(.*?)<!-- \1: end", text, re.DOTALL)

    assert len(tables) == 7
    assert [name for name, table in tables if "|--" not in table] == []
