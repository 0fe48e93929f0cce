"""Forms in place of a network's attention, and state dicts under their names."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.jit import ScriptModule

from hdapbench.models.attention.base import Attention
from hdapbench.models.attention.levit_forms import SplitLevit, SplitLevitDown
from hdapbench.models.attention.timm_forms import (
    SplitBeit,
    SplitChannelAttention,
    SplitClassAttention,
    SplitMaxxvit,
    SplitTalkingHeads,
    SplitTimmAttention,
    SplitTimmMap,
    SplitTimmPlainWindow,
    SplitTimmWindow,
)
from hdapbench.models.attention.torch_forms import SplitMultiheadAttention
from hdapbench.models.attention.torchvision_forms import (
    SplitRelativeAttention,
    SplitShiftedWindow,
    SplitShiftedWindowV2,
)
from hdapbench.models.attention.ultralytics_forms import SplitAreaAttention, SplitMapAttention

FORMS: Mapping[tuple[str, str], type[Attention]] = {
    ("torch.nn.modules.activation", "MultiheadAttention"): SplitMultiheadAttention,
    ("torchvision.models.swin_transformer", "ShiftedWindowAttention"): SplitShiftedWindow,
    ("torchvision.models.swin_transformer", "ShiftedWindowAttentionV2"): SplitShiftedWindowV2,
    ("torchvision.models.maxvit", "RelativePositionalMultiHeadAttention"): SplitRelativeAttention,
    ("timm.layers.attention", "Attention"): SplitTimmAttention,
    ("timm.models.fastvit", "Attention"): SplitTimmMap,
    ("timm.models.davit", "WindowAttention"): SplitTimmPlainWindow,
    ("timm.models.davit", "ChannelAttention"): SplitChannelAttention,
    ("timm.models.swin_transformer", "WindowAttention"): SplitTimmWindow,
    ("timm.models.beit", "Attention"): SplitBeit,
    ("timm.models.cait", "ClassAttn"): SplitClassAttention,
    ("timm.models.cait", "TalkingHeadAttn"): SplitTalkingHeads,
    ("timm.models.maxxvit", "AttentionCl"): SplitMaxxvit,
    ("timm.models.levit", "Attention"): SplitLevit,
    ("timm.models.levit", "AttentionDownsample"): SplitLevitDown,
    ("timm.models.efficientformer", "Attention"): SplitLevit,
    ("ultralytics.nn.modules.block", "Attention"): SplitMapAttention,
    ("ultralytics.nn.modules.block", "AAttn"): SplitAreaAttention,
}
"""Module and name of a class -> what stands for it."""


def separate_heads(model: nn.Module) -> int:
    """Number of attention modules that were replaced by an equal `Attention`, in place.

    Of subclasses only those are replaced that compute what their parent does.
    """
    known = _known()
    made: dict[int, Attention] = {}
    for parent in list(model.modules()):
        for name, child in parent._modules.items():
            form = known.get(type(child).forward) if child is not None and not isinstance(child, ScriptModule) else None
            if child is None or form is None or not form.fits(child):
                continue
            if id(child) not in made:
                made[id(child)] = form(child).train(child.training)
            parent._modules[name] = made[id(child)]
        if isinstance(parent, nn.TransformerEncoder):
            parent.use_nested_tensor = False  # of the kernel that is not taken any more
    return len(made)


def with_separate_heads(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict of a network with attention of others, under the names that it has after `separate_heads`.

    What has these names already, and what belongs to other networks, stays as it is.
    """
    forms = [
        (f"{name}." if name else "", module) for name, module in model.named_modules() if isinstance(module, Attention)
    ]
    found = dict(state)
    for prefix, module in forms:
        own = {key.removeprefix(prefix): found[key] for key in state if key.startswith(prefix)}
        if any(key.startswith("out.") for key in own):
            continue
        for key in own:
            del found[prefix + key]
        found |= {prefix + key: value for key, value in module.unpacked(own).items()}
    return found


def _known() -> dict[Callable[..., Any], type[Any]]:
    """Forward of every known class whose package is loaded -> its form."""
    found: dict[Callable[..., Any], type[Any]] = {}
    for (module, name), form in FORMS.items():
        loaded = sys.modules.get(module)
        kind = getattr(loaded, name, None) if loaded is not None else None
        if kind is not None:
            found[kind.forward] = form
    return found
