"""Quantization: what a method may ask about bit-widths."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from hdapbench.bench.workbench import Workbench
    from hdapbench.quant.deploy.post_training import PostTraining
    from hdapbench.quant.graph.folded import FoldedModel


class Quantization:
    """The dense model of a problem, as quantisation sees it.

    Parameters
    ----------
    bench
        Where the model and its training images are.
    """

    def __init__(self, bench: Workbench) -> None:
        self._bench = bench

    def folded(self) -> FoldedModel:
        """The dense model with its batch norms folded, ready for quantisation: the same of this problem at every call.

        Raises
        ------
        UnknownLayerError
            Naming every node that has no integer counterpart.
        """
        return self._folded

    @cached_property
    def _folded(self) -> FoldedModel:
        return deepcopy(self._bench.quantizer.folded)  # whatever is done to it

    def calibrate(self, folded: FoldedModel, bits: Sequence[int] = (8,)) -> Tensor:
        """First clips of a folded model's activations, shape (n_quantizers, n_bits, 2), from training images."""
        return self._bench.quantizer.calibrate(folded, bits)

    def after_training(self, options: PostTraining) -> str:
        """Handle for ``Plan.file``: the dense model as onnxruntime's quantiser makes it, on training images.

        Raises
        ------
        ModelError
            When the model cannot be exported or quantised.
        """
        return self._bench.quantizer.after_training(options)
