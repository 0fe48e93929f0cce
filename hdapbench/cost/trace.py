"""Model -> layer records: one forward pass at batch 1, every operation noted. What has no rule is an error."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

from hdapbench.cost.model import CostModel
from hdapbench.cost.recorder import Recorder
from hdapbench.cost.records import LayerRecord
from hdapbench.errors import UnknownLayerError
from hdapbench.groups import GroupSet

PROBE_SEED = 20_251


def record_layers(model: nn.Module, group_set: GroupSet, input_shape: tuple[int, int, int]) -> tuple[LayerRecord, ...]:
    """Records of every operation that costs something, in order of execution.

    Parameters
    ----------
    group_set
        Channel groups of the model: what its channel counts depend on.
    input_shape
        Channels, height and width of one input.

    Raises
    ------
    UnknownLayerError
        When an operation multiplies and has no rule, or what runs depends on the image.
    """
    records, _ = _recorded(_plain_copy(model), group_set, torch.zeros(1, *input_shape))
    return records


def check_operations(model: nn.Module, input_shape: tuple[int, int, int]) -> None:
    """Refuse a model whose operations no rule covers, or whose operations depend on the image.

    Raises
    ------
    UnknownLayerError
        With the layer or the operation.
    """
    noise = torch.randn(1, *input_shape, generator=torch.Generator().manual_seed(PROBE_SEED))
    copy = _plain_copy(model)
    # What Python reads of a tensor is refused whatever it is; two probes find what it reads behind torch's back.
    probes = (torch.zeros_like(noise), 10 * noise - 1)
    (first, counted), (found, _) = (_recorded(copy, GroupSet(()), probe) for probe in probes)
    if found != first:
        names = [a.name for a, b in zip(first, found, strict=False) if a != b] or ["the number of operations"]
        raise UnknownLayerError(
            f"what {type(model).__name__} computes depends on the image (control flow on data), first at "
            f"'{names[0]}': it has no fixed cost"
        )
    dense = CostModel.from_records(first, {}).dense
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    if (dense.params, dense.flops) != (n_parameters, counted):
        raise UnknownLayerError(
            f"by the cost rules the layers have {dense.params:,} parameters and {dense.flops:,} multiply-accumulates, "
            f"but really {n_parameters:,} and {counted:,}"
        )


def _plain_copy(model: nn.Module) -> nn.Module:
    return deepcopy(model).float().cpu().eval()


def _recorded(model: nn.Module, group_set: GroupSet, probe: Tensor) -> tuple[tuple[LayerRecord, ...], int]:
    """Records, and multiply-accumulates as torch counts them; the model is left alone, but its weights are used."""
    weights = {id(parameter): parameter for parameter in model.parameters()}
    copy = deepcopy(model, weights)  # what a forward pass remembers must not bear on the next
    recorder = Recorder(copy, group_set)
    with recorder.watching(probe):
        copy(probe)
    return recorder.records, recorder.counted
