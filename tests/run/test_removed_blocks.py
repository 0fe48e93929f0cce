"""Plans without some residual blocks on a trial's way: compaction, files, export."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hdapbench.bench.limit import Limit
from hdapbench.errors import PlanError
from hdapbench.fleet.simulated.profile import load_profile
from hdapbench.method import Plan
from hdapbench.prune.surgery import output_tensors
from hdapbench.run.artifact import load_artifact, save_artifact
from hdapbench.run.evaluate import Evaluation, compact, evaluate
from hdapbench.run.stages import Measured
from hdapbench.runtimes.onnx_file import write_onnx
from hdapbench.testing import tiny_workbench
from hdapbench.testing.problems import tiny_data
from tests.zoo import with_statistics

BENCH = tiny_workbench("residual")
GROUPS = BENCH.network.group_set
PLAN = Plan(
    kept={name: () if name in GROUPS.removable[0] else tuple(range(2, size)) for name, size in GROUPS.sizes.items()}
)


def test_a_removed_block_leaves_nothing_in_the_compact_model_and_its_counted_parameters() -> None:
    compacted = compact(BENCH, PLAN)

    names = [name for name, _ in compacted.model.named_parameters()]
    assert not [name for name in names if name.startswith(f"{GROUPS.blocks[0].name}.")]
    assert compacted.n_params == sum(parameter.numel() for parameter in compacted.model.parameters())


def test_a_plan_without_a_block_is_fine_tuned_tested_and_measured_like_others() -> None:
    evaluation = Evaluation(BENCH, tiny_data(), Limit.on_flops(BENCH.network.cost.dense.flops), seed=0)
    narrow = Plan(kept={name: kept or (0,) for name, kept in PLAN.kept.items()})

    without, with_block = evaluate(evaluation, PLAN), evaluate(evaluation, narrow)

    assert isinstance(without, Measured)
    assert isinstance(with_block, Measured)
    assert without.metrics.fine_tune_epochs == 1.0
    assert without.metrics.flops < with_block.metrics.flops
    launches_ms = 2 * load_profile("nano").launch_us / 1000
    assert without.metrics.latency_ms < with_block.metrics.latency_ms - launches_ms / 2


def test_a_saved_model_without_a_block_is_loaded_and_exported(tmp_path: Path) -> None:
    model = with_statistics(compact(BENCH, PLAN).model)
    save_artifact(tmp_path, plan=PLAN, model=model, description={})

    again = load_artifact(tmp_path, BENCH.network.model, GROUPS).eval()
    written = write_onnx(again, BENCH.network.input_shape, tmp_path / "model.onnx", batch=1)

    probe = torch.randn(2, *BENCH.network.input_shape)
    assert torch.equal(output_tensors(again, probe)[0], output_tensors(model, probe)[0])
    assert written.difference < 1e-4 * written.largest


def test_bit_widths_are_refused_by_name_where_a_block_is_removed() -> None:
    with pytest.raises(PlanError, match=r"residual block of .* is removed: with bit-widths, all blocks must stay"):
        compact(BENCH, PLAN.model_copy(update={"weight_bits": {"body.0.0": (8,) * 10}}))
