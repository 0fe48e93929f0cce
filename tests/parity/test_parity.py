from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
from hdapbench_methods.torch_pruning.sparse import Pruner

from tests.parity.against_amc import PUBLISHED, clip_random_policies, count
from tests.parity.against_modelopt import compare_fastnas
from tests.parity.against_sparse_training import PRUNERS as PENALTIES
from tests.parity.against_sparse_training import compare_penalty
from tests.parity.against_torch_pruning import LEFT_OUT, SETTINGS, compare, describe
from tests.parity.subjects import SUBJECTS

PAGE = Path(__file__).parents[2] / "docs" / "parity.md"

needs_modelopt = pytest.mark.skipif(
    importlib.util.find_spec("modelopt") is None or importlib.util.find_spec("torchprofile") is None,
    reason="not installed: nvidia-modelopt, torchprofile<0.1",
)
needs_nni = pytest.mark.skipif(importlib.util.find_spec("nni") is None, reason="nni is not installed")


def rows(first_column: str) -> list[list[str]]:
    """Cells of the table in docs/parity.md whose second column is headed like this."""
    section = PAGE.read_text().split(f"| {first_column}", 1)[1].split("\n\n")[0]
    return [[cell.strip() for cell in line.strip("| ").split("|")] for line in section.splitlines()[2:]]


class TestTorchPruning:
    @pytest.mark.parametrize(
        "setting", [s for s in SETTINGS if s["importance"] in {"magnitude", "bn-scale"}], ids=describe
    )
    def test_the_same_channels_stay_as_in_a_script_that_calls_it_directly(self, setting: dict[str, Any]) -> None:
        found = compare("MobileNetV1", setting, 32)

        assert found.differing == 0
        assert found.weights_equal
        assert 0 < found.kept < found.n_channels

    @pytest.mark.parametrize("criterion", ["taylor", "activation", "hessian", "obd-c"])
    @pytest.mark.filterwarnings("ignore:Using a non-full backward hook")
    def test_what_reads_one_batch_keeps_the_same_channels_of_tied_layers_too(self, criterion: str) -> None:
        n_images = 1 if criterion == "hessian" else 8

        found = compare(
            "ResNet56", {"importance": criterion, "scope": "global", "pruning_ratio": 0.4, "n_images": n_images}, 16
        )

        assert found.differing == 0
        assert found.weights_equal

    @pytest.mark.parametrize("pruner", PENALTIES)
    def test_sparse_training_penalises_as_its_own_pruners_do(self, pruner: Pruner) -> None:
        found = compare_penalty("ResNet56", pruner, 16)

        assert found.n_penalised == found.n_penalised_directly > 30
        assert found.largest_difference == 0.0 < found.largest

    def test_the_page_shows_the_same_penalties_for_all_of_the_five_models(self) -> None:
        table = rows("model       | pruner         | parameters, ours")

        assert {(row[0], row[1]) for row in table} == {(name, pruner) for name in SUBJECTS for pruner in PENALTIES}
        assert all(row[2] == row[3] and float(row[4]) > 0.0 == float(row[5]) for row in table)

    def test_the_page_shows_no_difference_for_any_of_the_five_models(self) -> None:
        table = rows("model       | setting")

        assert {row[0] for row in table} == set(SUBJECTS)
        assert len(table) == len(SUBJECTS) * len(SETTINGS) - sum(map(len, LEFT_OUT.values()))
        assert all(row[3] == row[4] and row[5] == "0" and row[6] == "yes" for row in table)

    def test_the_page_shows_what_is_found_now(self) -> None:
        found = compare("MobileNetV1", SETTINGS[2], 32)

        assert ["MobileNetV1", found.setting, "14", f"{found.kept:,} of {found.n_channels:,}"] in [
            row[:4] for row in rows("model       | setting")
        ]


@needs_nni
@pytest.mark.filterwarnings("ignore:.*")  # nni 3.0 warns about its own code under new torch
class TestNni:
    @pytest.mark.parametrize(
        ("name", "pruner"), [("MobileNetV1", "l1"), ("ResNet56", "fpgm"), ("ResNet56", "movement")]
    )
    def test_masks_are_those_of_a_script_that_calls_it_directly(self, name: str, pruner: str) -> None:
        from tests.parity.against_nni import compare_masks

        found = compare_masks(name, pruner, 16)

        assert found.differing == 0
        assert found.masked > 100

    def test_the_page_shows_no_difference(self) -> None:
        masks, compact = rows("model       | pruner   | layers"), rows("model       | parameters")

        assert {row[1] for row in masks} == {"l1", "l2", "fpgm", "slim", "taylor", "linear", "agp", "movement"}
        assert all(row[3] == row[4] and row[5] == "0" for row in masks)
        assert all(row[1] == "equal" and float(row[2]) < 1e-5 for row in compact if row[1] != "not traced")
        assert [row[0] for row in compact if row[1] == "not traced"] in ([], ["YOLOv8n"])


class TestAmc:
    @pytest.mark.parametrize("published", PUBLISHED[:3], ids=lambda published: published.model)
    def test_published_models_count_what_was_published(self, published: Any) -> None:
        assert count(published) == pytest.approx(published.macs, rel=0.01)

    def test_the_released_model_of_half_the_flops_has_more_than_half_and_the_page_says_so(self) -> None:
        share = count(PUBLISHED[3]) / count(PUBLISHED[0])

        assert share == pytest.approx(0.517, abs=0.001)
        assert f"{share:.1%}".replace("%", " %") in PAGE.read_text()

    @pytest.mark.parametrize("round_to", [1, 8])
    def test_a_thousand_random_policies_meet_the_target_and_the_floor(self, round_to: int) -> None:
        found = clip_random_policies("MobileNetV1", 32, round_to=round_to)

        assert (found.n_policies, found.above_target, found.below_floor) == (1000, 0, 0)
        assert found.most_used > 0.999

    def test_the_page_shows_no_violation(self) -> None:
        table = rows("model       | round to")

        assert len(table) == 4
        assert all(row[2:5] == ["1,000", "0", "0"] for row in table)


def test_the_command_on_the_page_exists() -> None:
    command = re.search(r"`python (\S+\.py)` writes", PAGE.read_text().replace("\n", " "))

    assert command
    assert (PAGE.parents[1] / command[1]).is_file()


@needs_modelopt
@pytest.mark.filterwarnings("ignore")
def test_fastnas_has_the_sensitivities_of_model_optimizer_and_at_its_threshold_its_widths() -> None:
    found = compare_fastnas("vgg7", 16, 0.5)

    assert found.n_groups >= 5
    assert found.largest_difference < 1e-4 * found.largest
    assert found.widths == found.widths_directly
    assert found.only_ours == ("features.18",)  # it does not look for the widths of what a pooled classifier reads
