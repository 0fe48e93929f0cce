"""Attention whose heads can be cut: equal to that of torch, torchvision, timm and ultralytics, number for number.

Their modules project to queries, keys and values by one packed layer, and read their sizes from attributes. Here the
three are layers of their own, the width of a head follows from the weights, and ``n_heads`` is the one attribute that
changes when heads are removed.

base: what all have in common.
torch_forms, torchvision_forms, timm_forms, levit_forms, ultralytics_forms: the forms of classes of these packages.
replace: forms for modules of a network, and its weights under their names.
"""

from hdapbench.models.attention.base import Attention
from hdapbench.models.attention.replace import separate_heads, with_separate_heads

__all__ = ["Attention", "separate_heads", "with_separate_heads"]
