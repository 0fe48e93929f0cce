"""A training that is killed again and again, and one that is not: prints what both come to.

python -m tests.tasks.interrupted FOLDER SEED
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # optimizers import it at their first step: once is enough
from torch import nn

from hdapbench.data import ImageSet
from hdapbench.models import state_hash
from hdapbench.spec import DistillationSpec, Recipe
from hdapbench.tasks import checkpoint
from hdapbench.tasks.checkpoint import Checkpoint, Checkpoints
from hdapbench.tasks.classification import Classification
from hdapbench.tasks.stepper import Setting
from hdapbench.tasks.training import train_model

RECIPE = Recipe(epochs=3.5, batch_size=8, learning_rate=0.02, ema=0.9, distillation=DistillationSpec(weight=0.5))


class Cooling(nn.Module):
    """Changes a plain number and a buffer that is no part of the state dict, as searches do."""

    def __init__(self) -> None:
        super().__init__()
        self.temperature = 1.0
        self.register_buffer("seen", torch.zeros(()), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training and torch.is_grad_enabled():
            self.temperature *= 0.97
            self.seen += 1
        return x / self.temperature + 0.01 * self.seen


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        *(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3)),
        *(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 2), Cooling()),
    )


def images(n: int = 42) -> ImageSet:
    pixels = torch.randint(0, 256, (n, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return ImageSet(pixels, torch.arange(n) % 2, mean=(0.5,), std=(0.3,), augment="flip-crop")


def trained(folder: Path | None, optimizer: str) -> str:
    model, recipe = network(), RECIPE.model_copy(update={"optimizer": optimizer})
    kept = None if folder is None else Checkpoints(folder, lambda line: print(line, file=sys.stderr))
    setting = Setting(Classification(), teacher=network(1), checkpoints=kept)
    if kept is None:
        train_model(model, images(), recipe, setting=setting, seed=3)
    else:
        with kept.of("mine"):
            train_model(model, images(), recipe, setting=setting, seed=3)
    return state_hash(model) + str(model[-1].temperature)


def end_after(n_kept: int, seconds: float) -> None:
    """End this process at once wherever it is so much processor time after a training was kept so many times."""
    write, left = Checkpoint.write, [n_kept]

    def counted(self: Checkpoint, state: Mapping[str, Any]) -> None:
        write(self, state)
        left[0] -= 1
        if left[0] == 0:
            signal.setitimer(signal.ITIMER_PROF, seconds)  # nobody handles its signal, which so ends the process

    Checkpoint.write = counted  # type: ignore[method-assign]


def main(folder: Path, seed: int) -> None:
    torch.set_num_threads(1)
    checkpoint.SECONDS = checkpoint.EPOCH_SECONDS = 0.0
    checkpoint.MOST_SHARE = float("inf")
    rng, n_kills, found = random.Random(seed), 0, {}
    for optimizer in ("sgd", "adamw"):
        ended = folder / f"{optimizer}.txt"
        while not ended.exists():
            n_kept, seconds = rng.randrange(2, 6), rng.uniform(0.001, 0.01)
            pid = os.fork()
            if pid == 0:
                end_after(n_kept, seconds)
                text = trained(folder / optimizer, optimizer)
                signal.setitimer(signal.ITIMER_PROF, 0.0)
                ended.write_text(text)
                os._exit(0)
            n_kills += os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGPROF
        found[optimizer] = ended.read_text() == trained(None, optimizer)
    print(json.dumps({"same": found, "n_kills": n_kills}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
