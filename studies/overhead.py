"""What the framework costs beside a script that calls torch-pruning directly and does the same work.

    python -m studies.overhead [--pairs 7]

Both prune ResNet56 at 32 x 32 to the same channels, test it, fine-tune it for two epochs and test it again, on one thread,
in turns that change who goes first. The framework also checks the compact model against the masked one, counts costs
and measures latency on a simulated fleet (fingerprinted before, once for all plans). Pairs cancel a busy machine's drift;
processor time stands beside wall time, which on a shared machine is the neighbours' too. Writes the table in
docs/baselines.md: some minutes.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

import torch
import torch_pruning as tp
from hdapbench_methods.torch_pruning.method import TorchPruning
from torch import nn

from hdapbench.bench.limit import Limit
from hdapbench.bench.workbench import Workbench
from hdapbench.data import DataSplits, ImageSet
from hdapbench.run.evaluate import Evaluation, evaluate
from hdapbench.run.stages import Measured
from hdapbench.spec import Recipe
from hdapbench.tasks.schedule import learning_rate_factor
from hdapbench.testing import RecordingProblem, tiny_workbench
from studies.subjects import network
from studies.tables import options, publish

RATIO = 0.4
EPOCHS = 2
BATCH_SIZE = 64
RATE = 0.01


def workbench() -> tuple[Workbench, DataSplits]:
    """ResNet56 with random weights on random pictures: the work does not depend on what they show."""
    generator = torch.Generator().manual_seed(1)

    def images(n: int) -> ImageSet:
        pixels = torch.randint(0, 256, (n, 3, 32, 32), generator=generator, dtype=torch.uint8)
        return ImageSet(pixels, torch.arange(n) % 10, (0.5,) * 3, (0.25,) * 3)

    recipe = Recipe(epochs=EPOCHS, batch_size=BATCH_SIZE, learning_rate=RATE, schedule="cosine", optimizer="sgd")
    data = DataSplits(train=images(512), search=images(64), test=images(512), n_classes=10, content_hash="overhead")
    resnet56 = network("resnet56", (3, 32, 32), n_classes=10)
    bench = replace(tiny_workbench("plain"), network=resnet56, train=data.train, search=data.search, recipe=recipe)
    return bench, data


def through_the_framework(bench: Workbench, data: DataSplits) -> float:
    """Accuracy of the pruned and fine-tuned model, by the method `torch-pruning` and the runner."""
    problem = RecordingProblem(bench, Limit.on_flops(bench.network.cost.dense.flops))
    measured = evaluate(
        Evaluation(bench, data, problem.limit, seed=0), TorchPruning(pruning_ratio=RATIO).compress(problem)
    )
    assert isinstance(measured, Measured)
    return measured.metrics.accuracy


def directly(bench: Workbench, data: DataSplits) -> float:
    """The same by a script of one's own."""
    model = deepcopy(bench.network.model).requires_grad_(True)
    pruner = tp.pruner.BasePruner(
        model,
        torch.randn(2, 3, 32, 32),
        importance=tp.importance.GroupMagnitudeImportance(),
        pruning_ratio=RATIO,
        ignored_layers=[module for module in model.modules() if isinstance(module, nn.Linear)],
        in_channel_groups={},
        out_channel_groups={},
        num_heads={},
        channel_groups={},
    )
    pruner.step()
    accuracy(data, model)
    model.to(memory_format=torch.channels_last).train()
    decay = bench.recipe.weight_decay
    optimizer = torch.optim.SGD(model.parameters(), RATE, momentum=0.9, weight_decay=decay, nesterov=True)
    n_steps = EPOCHS * len(bench.train) // BATCH_SIZE
    step = 0
    for epoch in range(EPOCHS):
        for images, labels in bench.train.batches(BATCH_SIZE, shuffle_seed=epoch, augment=True):
            for group in optimizer.param_groups:
                group["lr"] = RATE * learning_rate_factor("cosine", step, n_steps)
            optimizer.zero_grad(set_to_none=True)
            loss = nn.functional.cross_entropy(model(images.contiguous(memory_format=torch.channels_last)), labels)
            torch.autograd.backward(loss)
            optimizer.step()
            float(loss.detach())
            step += 1
    return accuracy(data, model.eval())


def accuracy(data: DataSplits, model: nn.Module) -> float:
    """Share of the test split that a model gets right."""
    correct = 0
    with torch.no_grad():
        for images, labels in data.test.batches(256, shuffle_seed=None):
            correct += int((model(images.contiguous(memory_format=torch.channels_last)).argmax(1) == labels).sum())
    return correct / len(data.test)


def timed(work: Callable[[Workbench, DataSplits], float], bench: Workbench, data: DataSplits) -> tuple[float, float]:
    """Wall and processor seconds."""
    wall, processor = time.perf_counter(), time.process_time()
    work(bench, data)
    return time.perf_counter() - wall, time.process_time() - processor


def main() -> None:
    """Run the study."""
    parser = options(__doc__)
    parser.add_argument("--pairs", type=int, default=7, help="default %(default)s")
    n_pairs = parser.parse_args().pairs
    torch.set_num_threads(1)
    bench, data = workbench()
    works = (through_the_framework, directly)
    for work in works:
        timed(work, bench, data)  # warm: imports, and the fleet's fingerprint
    lines = [
        "| pair | ours, wall (s) | direct, wall (s) | ratio | ours, processor (s) | direct, processor (s) | ratio |",
        "|--:|--:|--:|--:|--:|--:|--:|",
    ]
    ratios: list[tuple[float, float]] = []
    for pair in range(n_pairs):
        found = {work: timed(work, bench, data) for work in (works if pair % 2 == 0 else works[::-1])}
        ours, direct = (found[work] for work in works)
        ratios.append((ours[0] / direct[0], ours[1] / direct[1]))
        cells = [ours[0], direct[0], ratios[-1][0], ours[1], direct[1], ratios[-1][1]]
        lines.append(f"| {pair + 1} | " + " | ".join(f"{cell:.3f}" for cell in cells) + " |")
        print(lines[-1], file=sys.stderr, flush=True)
    wall, processor = (statistics.median(column) for column in zip(*ratios, strict=True))
    lines += ["", f"Median of {n_pairs} pairs: {wall - 1:+.1%} wall time, {processor - 1:+.1%} processor time."]
    publish("baselines.md", "overhead", "overhead", lines)


if __name__ == "__main__":
    main()
