"""Names of choices, apart from the code that carries them out, so that parameters can be declared without torch."""

from __future__ import annotations

from typing import Literal

RangeRule = Literal["minmax", "mse"]
"""How the step of a weight grid is found: by the largest weight, or by least squared error."""

Sampling = Literal["softmax", "hard", "gumbel", "gumbel-hard"]
"""How logits become probabilities of bit-widths."""

Granularity = Literal["channel", "layer"]
"""What takes one bit-width."""
