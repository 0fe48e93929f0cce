"""Where bf16 training is faster than fp32 on this processor, and whether accuracy holds.

    HDAPBENCH_DATA=... python -m studies.precision [--models resnet56 vgg16 ...] [--seeds 3]

Fine-tunes the base models of the specs, pruned uniformly to half of their FLOPs, by the specs' recipe in both precisions, in turns,
on one thread. Images per second are those of whole epochs. Writes the table in docs/spec.md: minutes per model, after its
base model is trained.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Literal

from hdapbench_methods.uniform import Uniform

from hdapbench.bench.limit import Limit
from hdapbench.bench.workbench import Workbench
from hdapbench.data import Samples
from hdapbench.testing import RecordingProblem
from studies.runs import open_bench
from studies.tables import options, publish, spread

Precision = Literal["fp32", "bf16"]
PRECISIONS: tuple[Precision, Precision] = ("fp32", "bf16")
SPECS = {
    "resnet56": "resnet56-cifar10",
    "vgg16": "vgg16-cifar10",
    "mobilenetv1": "mobilenetv1",
    "resnet50": "resnet50",
    "yolov8n": "yolov8n-bccd",
}
TARGET = 0.5


def fine_tuned(bench: Workbench, test: Samples, seed: int) -> tuple[float, float]:
    """Test accuracy (mAP50-95 of a detector) in %, and images per second of the fine-tuning."""
    target = int(TARGET * bench.network.cost.dense.flops)
    problem = RecordingProblem(bench, Limit.on_flops(target), seed=seed)
    model, _ = bench.compactor.apply(Uniform().compress(problem))
    per_epoch = min(bench.recipe.max_train_images or len(bench.train), len(bench.train))
    start = time.perf_counter()
    bench.trainer.fine_tune(model, epochs=float(bench.recipe.epochs), seed=seed)
    rate = bench.recipe.epochs * per_epoch / (time.perf_counter() - start)
    return 100.0 * bench.trainer.scores(model, test).accuracy, rate


def main() -> int:
    """Run the study; 0."""
    parser = options(__doc__)
    parser.add_argument("--models", nargs="+", default=list(SPECS), choices=list(SPECS), help="default: all")
    parser.add_argument("--seeds", type=int, default=3, help="default %(default)s")
    parser.add_argument("--workspace", type=Path, default=Path(".hdapbench"), help="default %(default)s")
    arguments = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    lines = [
        "| model | accuracy in fp32 (%) | in bf16 (%) | images per second in fp32 | in bf16 | faster |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for name in arguments.models:
        bench, data = open_bench(SPECS[name], workspace=arguments.workspace)
        found: dict[Precision, list[tuple[float, float]]] = {"fp32": [], "bf16": []}
        for seed in range(arguments.seeds):
            for precision in PRECISIONS if seed % 2 == 0 else PRECISIONS[::-1]:
                recipe = bench.recipe.model_copy(update={"precision": precision})
                found[precision].append(fine_tuned(replace(bench, recipe=recipe), data.test, seed))
                print(f"{name}, {precision}, seed {seed}: {found[precision][-1]}", file=sys.stderr)
        full, half = ([run[0] for run in found[precision]] for precision in PRECISIONS)
        slow, fast = (fmean(run[1] for run in found[precision]) for precision in PRECISIONS)
        lines.append(
            f"| {name} | {spread(full, '.2f')} | {spread(half, '.2f')} | {slow:.1f} | {fast:.1f} | {fast / slow:.2f}x |"
        )
    publish("spec.md", "precision", "precision", lines)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
