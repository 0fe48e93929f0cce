"""Post-training quantisation by onnxruntime's own tool: what a user without a training pipeline would reach for."""

from __future__ import annotations

from importlib.util import find_spec
from typing import ClassVar, Literal

from pydantic import Field

from hdapbench.errors import ModelError, TargetUnreachableError
from hdapbench.method import Method, Plan, Problem
from hdapbench.spec import TargetKind


class OnnxruntimePtq(Method):
    """Quantise the dense model to 8 bits with onnxruntime's quantiser, without any training.

    The file that the tool writes is what is tested and exported, as it stands. Static quantisation finds ranges of
    activations on 512 training images; dynamic quantisation finds them while the model runs.

    Source: onnxruntime.quantization.
    Needs: the extra onnx, and a model that torch exports to ONNX.
    Never sees: latency, accuracy.
    """

    name = "onnxruntime-ptq"
    extra = "onnx"
    targets: ClassVar[frozenset[TargetKind]] = frozenset({"size", "mpic", "ne16"})

    mode: Literal["static", "dynamic"] = Field(default="static", description="When ranges of activations are found.")
    per_channel: bool = Field(default=True, description="A scale per output channel of weights instead of per layer.")
    calibration: Literal["minmax", "entropy", "percentile"] = Field(
        default="minmax", description="How static ranges are found."
    )

    def skip(self, problem: Problem) -> str | None:
        """Say which package is missing, or why the cost of the target does not apply."""
        if missing := [name for name in ("onnx", "onnxruntime") if find_spec(name) is None]:
            return f"{' and '.join(missing)} not installed; install with: pip install 'hdapbench[onnx]'"
        from hdapbench.cost.hardware import hardware_cost

        kinds = problem.limit.kinds - {"size"}
        if self.mode == "dynamic" and kinds:
            names = " and ".join(sorted(kinds)).upper()
            return f"{names} has no floating point, which activations quantised while the model runs need"
        try:
            layers = problem.quantization.folded().layers
            hardware_cost(problem.limit.cost[0])(layers, layers.uniform_counts(8))
        except ModelError as error:
            return str(error)
        return None

    def compress(self, problem: Problem) -> Plan:
        """Plan of 8 bits everywhere, with the file of the tool.

        Raises
        ------
        TargetUnreachableError
            When 8 bits everywhere exceed the target.
        """
        from hdapbench.cost.hardware import hardware_cost
        from hdapbench.quant.deploy.post_training import PostTraining

        name, most = problem.limit.cost
        folded = problem.quantization.folded()
        if float(hardware_cost(name)(folded.layers, folded.layers.uniform_counts(8))) > most:
            raise TargetUnreachableError("the tool quantises to 8 bits, and 8 bits everywhere exceed the target")
        problem.progress("quantising with onnxruntime")
        file = problem.quantization.after_training(PostTraining(self.mode, self.per_channel, self.calibration))
        n_outputs = {layer: folded.graph.by_name[layer].shape[0] for layer in folded.graph.layers}
        return Plan(
            kept={name: tuple(range(group.n_channels)) for name, group in problem.groups.items()},
            weight_bits={layer: (8,) * n for layer, n in n_outputs.items()},
            file=file,
        )
