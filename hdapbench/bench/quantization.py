"""Quantizer: calibration and fake quantisation of float networks, on training images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor, nn

from hdapbench.bench.network import Network
from hdapbench.bench.weights import WeightStore
from hdapbench.data import Samples
from hdapbench.plan import Plan
from hdapbench.quant.deploy.post_training import OnnxNetwork, PostTraining, quantize_after_training
from hdapbench.quant.graph.folded import FoldedModel
from hdapbench.quant.training.calibrate import calibrate_clips
from hdapbench.quant.training.fixed import FixedNetwork

CALIBRATION_IMAGES = 512
"""Training images that first clips of activations are found on."""


@dataclass(frozen=True)
class Quantizer:
    """Quantises the dense model and what plans make of it.

    Attributes
    ----------
    network
        The traced dense model.
    train
        Training images.
    weights
        Where finished files are kept.
    """

    network: Network
    train: Samples
    weights: WeightStore

    @cached_property
    def folded(self) -> FoldedModel:
        """The dense model with its batch norms folded, and its traces for quantisation.

        Raises
        ------
        UnknownLayerError
            Naming every node that has no integer counterpart.
        """
        return self.fold(self.network.model)

    def fold(self, model: nn.Module) -> FoldedModel:
        """Folded copy of a float model; `folded` says what it raises."""
        return FoldedModel.of(model, self.network.input_shape)

    @cached_property
    def _images(self) -> list[Tensor]:
        batches = self.train.batches(CALIBRATION_IMAGES, shuffle_seed=0, limit=CALIBRATION_IMAGES)
        return [images for images, _ in batches]

    def calibrate(self, folded: FoldedModel, bits: Sequence[int] = (8,)) -> Tensor:
        """First clips of a folded model's activations, shape (n_quantizers, n_bits, 2), from training images."""
        return calibrate_clips(folded.model, folded.graph, self._images, bits=bits)

    def quantize(self, model: nn.Module, plan: Plan) -> tuple[FixedNetwork, FoldedModel]:
        """Fake-quantised network of a plan's bit-widths, from its compact float model, and that model folded.

        Raises
        ------
        PlanError
            When the bit-widths do not fit the model.
        UnknownLayerError
            Naming every node that has no integer counterpart.
        """
        folded = self.fold(model)
        chosen = [plan.activation_bits.get(name, 8) for name in folded.graph.quantizers]
        bit_widths = sorted(set(chosen))
        clips = self.calibrate(folded, bit_widths)
        clip = clips[range(len(chosen)), [bit_widths.index(bits) for bits in chosen]]
        network = FixedNetwork(folded.model, folded.graph, clip, weight_bits=plan.weight_bits, activation_bits=chosen)
        return network.eval(), folded

    def after_training(self, options: PostTraining) -> str:
        """Handle of the dense model's ONNX file as onnxruntime's own quantiser makes it.

        Raises
        ------
        ModelError
            When the model cannot be exported or quantised.
        """
        return self.weights.keep_onnx(quantize_after_training(self.network.model, self._images, options))

    def onnx_network(self, handle: str) -> OnnxNetwork:
        """The network of a kept ONNX file, computed by onnxruntime."""
        return OnnxNetwork(self.weights.onnx(handle))
