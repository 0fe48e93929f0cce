"""PLiNIO's joint search (`MPS`) beside ours on handwritten digits, where PLiNIO is installed: it is on no package index.

    pip install git+https://github.com/eml-eda/plinio
    python -m tests.parity.against_plinio --workspace .hdapbench

Data, network, base model and epochs are those of specs/resnet6-digits-joint.yaml; weights by Adam, logits by SGD, the
temperature falls as arXiv 2407.01054 has it for fewer than 500 epochs, bits are the likeliest ones in the end. What is stored is
counted by our closed form of the bits that its `summary` gives: what it reports itself is up to 56 % smaller.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from hdapbench.bench.workbench import Workbench
from hdapbench.cost.bits import BitLayers, size_bits, stored_bits
from hdapbench.data import DataSplits
from studies.runs import open_bench

SPEC = "resnet6-digits-joint"
BITS = (0, 2, 4, 8)
EPOCHS, BATCH = 60, 32
LEARNING_RATE, OF_LOGITS, WEIGHT_DECAY = 1e-3, 1e-2, 1e-4
STRENGTHS = (2e-5, 4e-5, 1e-4, 2e-4)
FALL = 0.045 * 500
"""Of the logarithm of the temperature over a whole search."""


@dataclass(frozen=True)
class Found:
    """What one search gave: strength of its cost, accuracy on test images, bytes, and seconds."""

    strength: float
    accuracy: float
    weight_bytes: float
    stored_bytes: float
    seconds: float

    @property
    def line(self) -> str:
        """As a row of the table in docs/parity.md."""
        sizes = f"{self.weight_bytes:,.0f} | {self.stored_bytes:,.0f}"
        return f"| PLiNIO, strength {self.strength:g} | {sizes} | {100 * self.accuracy:.2f} | {self.seconds:.0f} |"


def bytes_of(layers: BitLayers, chosen: Mapping[str, Sequence[int]]) -> tuple[float, float]:
    """Bytes of weights, and of all that is stored.

    Parameters
    ----------
    layers
        Of the folded network.
    chosen
        Layer -> bits of each of its output channels in the dense network, 0 for removed ones.
    """
    channels = torch.zeros(len(layers.selectors), len(BITS), dtype=torch.float64)
    for row, makes in enumerate((layers.out_channels > 0).T):
        name = layers.names[int(makes.nonzero()[0, 0])]
        for column, bits in enumerate(BITS):
            channels[row, column] = sum(value == bits for value in chosen[name])
    counts = layers.counts(channels, BITS)
    return float(size_bits(layers, counts)) / 8, float(stored_bits(layers, counts)) / 8


def search(bench: Workbench, data: DataSplits, strength: float, *, epochs: int = EPOCHS, seed: int = 0) -> Found:
    """One search by PLiNIO, and its fine-tuning."""
    from plinio.cost import params_bit
    from plinio.methods.mps import MPS, MPSType, get_default_qinfo

    torch.manual_seed(seed)
    begun = perf_counter()
    model: Any = MPS(
        bench.quantizer.folded.model,
        input_shape=bench.network.input_shape,
        qinfo=get_default_qinfo(w_precision=BITS, a_precision=(8,)),
        w_search_type=MPSType.PER_CHANNEL,
        cost=params_bit,
    )
    logits = [parameter for name, parameter in model.named_nas_parameters() if "clip" not in name]
    known = {id(parameter) for parameter in logits}
    weights = [parameter for parameter in model.parameters() if id(parameter) not in known]
    for phase in ("search", "fine-tuning"):
        model.update_softmax_options(hard=phase == "fine-tuning")
        by_adam = torch.optim.Adam(weights, LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        by_sgd = torch.optim.SGD(logits, OF_LOGITS, momentum=0.9)
        for epoch in range(epochs):
            if phase == "search":
                model.update_softmax_options(temperature=math.exp(-FALL * epoch / epochs))
            model.train()
            for images, labels in bench.train.batches(BATCH, shuffle_seed=seed * epochs + epoch):
                loss = torch.nn.functional.cross_entropy(model(images), labels)
                if phase == "search":
                    loss = loss + strength * model.cost
                by_adam.zero_grad()
                by_sgd.zero_grad()
                loss.backward()
                by_adam.step()
                if phase == "search":
                    by_sgd.step()
    model.eval()
    right = n = 0
    with torch.no_grad():
        for images, labels in data.test.batches(100, shuffle_seed=None):
            right, n = right + int((model(images).argmax(1) == labels).sum()), n + len(labels)
    chosen = {name: layer["w_precision"] for name, layer in model.summary().items() if "w_precision" in layer}
    sizes = bytes_of(bench.quantizer.folded.layers, chosen)
    return Found(strength, right / n, *sizes, perf_counter() - begun)


def main() -> int:
    """Print the rows of the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, default=Path(".hdapbench"))
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    arguments = parser.parse_args()
    if importlib.util.find_spec("plinio") is None:
        print("PLiNIO is not installed: pip install git+https://github.com/eml-eda/plinio", file=sys.stderr)
        return 1
    torch.set_num_threads(1)
    bench, data = open_bench(SPEC, workspace=arguments.workspace)
    for strength in STRENGTHS:
        print(search(bench, data, strength, epochs=arguments.epochs).line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
