from __future__ import annotations

import pytest
import torch
from hdapbench_methods.onnxruntime_ptq import OnnxruntimePtq

from hdapbench.errors import TargetUnreachableError
from hdapbench.method import Plan
from hdapbench.run.evaluate import Evaluation, bit_cost, compact, evaluate, quantize
from hdapbench.testing import MethodContract, tiny_data, tiny_workbench
from tests.methods.worlds import limited

pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")


class TestOnnxruntimePtq(MethodContract):
    @pytest.fixture
    def method(self) -> OnnxruntimePtq:
        return OnnxruntimePtq()


@pytest.mark.parametrize("mode", ["static", "dynamic"])
def test_the_file_itself_is_tested_and_never_trained(mode):
    bench, asked = tiny_workbench("residual"), limited("1.0x size")

    plan = OnnxruntimePtq(mode=mode).compress(asked)
    found = evaluate(Evaluation(bench, tiny_data(), asked.limit, seed=0), plan)

    network = bench.quantizer.onnx_network(str(plan.file))
    bits = found.metrics.bits
    assert found.metrics.accuracy == bench.trainer.scores(network, tiny_data().test).accuracy == bits.integer_accuracy
    assert found.metrics.fine_tune_epochs == asked.budget.spent.train_epochs == 0.0
    assert found.onnx == network.content
    assert found.metrics.size_bytes == len(network.content)
    counted = bit_cost(quantize(bench, compact(bench, plan)), "size")
    assert bits.weight_bytes < counted
    assert bits.weight_bytes < bits.stored_bytes
    assert (bits.ne16_cycles is None) == (bits.mpic_cycles is None) == (mode == "dynamic")


@pytest.mark.parametrize("mode", ["static", "dynamic"])
@pytest.mark.parametrize("per_channel", [True, False])
def test_eight_bits_are_close_to_the_float_model(mode, per_channel):
    bench, asked = tiny_workbench("residual"), limited("1.0x size")
    images, _ = next(iter(asked.training.batches(32, batch_size=32)))

    plan = OnnxruntimePtq(mode=mode, per_channel=per_channel).compress(asked)

    with torch.no_grad():
        wanted = asked.model()(images)
        found = bench.quantizer.onnx_network(str(plan.file))(images)
    assert 0.0 < (found - wanted).abs().max() < 0.1 * wanted.abs().max()


def test_dynamic_ranges_do_not_depend_on_the_batch():
    asked = limited("1.0x size")
    images, _ = next(iter(asked.training.batches(16, batch_size=16)))
    network = tiny_workbench("residual").quantizer.onnx_network(
        str(OnnxruntimePtq(mode="dynamic").compress(asked).file)
    )

    together = network(images)

    assert torch.equal(together[3:4], network(images[3:4]))


def test_fewer_than_eight_bits_are_out_of_its_reach():
    with pytest.raises(TargetUnreachableError, match="8 bits everywhere exceed"):
        OnnxruntimePtq().compress(limited("0.9x size"))


def test_dynamic_quantisation_is_skipped_where_only_whole_numbers_are_computed():
    assert "floating point" in str(OnnxruntimePtq(mode="dynamic").skip(limited("1.0x ne16")))
    assert OnnxruntimePtq(mode="static").skip(limited("1.0x ne16")) is None


def test_plans_without_a_file_keep_their_ids():
    plan = Plan(kept={"a": (0, 1)})

    assert "file" not in plan.canonical_json()
    assert plan.model_copy(update={"file": "f"}).id != plan.id
