from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from hdapbench_methods.joint_mpq.control import AIMED_BELOW, MOST_STRENGTH, Controller


class Plant:
    """Stands for a network: each step, logits give way by the strength, against a pull of the task."""

    def __init__(self, pull: float) -> None:
        self.selection = SimpleNamespace(logits=torch.nn.Parameter(torch.zeros(1)), temperature=1.0)
        self.activation_selection = None
        self.penalty = None
        self.pull, self.log_share = pull, 0.0

    def run(self, control: Controller, n_steps: int) -> list[float]:
        shares = []
        for _ in range(n_steps):
            share = torch.tensor(self.log_share).exp()
            self.penalty(share)
            self.log_share += 0.002 * (self.pull - control.strength)
            self.log_share = min(self.log_share, 0.5)
            self.selection.logits.grad = torch.zeros(1)
            control(None)
            shares.append(float(share))
        return shares


def controller(plant: Plant, target: float, n_steps: int) -> Controller:
    return Controller(
        plant, lambda share: share, target, lambda: None, n_steps=n_steps, learning_rate=0.01, last_temperature=0.01
    )


@pytest.mark.parametrize("target", [0.5, 0.2, 0.08])
@pytest.mark.parametrize("pull", [0.5, 1.0, 5.0])
def test_the_cost_comes_to_the_target_however_strong_the_task_pulls(target, pull):
    plant = Plant(pull)
    control = controller(plant, target, 2000)

    shares = plant.run(control, 2000)

    assert shares[-1] == pytest.approx(AIMED_BELOW * target, rel=0.1)
    assert min(shares) > 0.6 * target  # no overshoot that would remove what has to come back


def test_the_strength_stays_within_bounds_when_nothing_helps():
    plant = Plant(1e9)
    control = controller(plant, 0.1, 300)

    plant.run(control, 300)

    assert control.strength == MOST_STRENGTH


def test_the_temperature_falls_to_its_end_and_logits_are_left_to_the_controller():
    plant = Plant(0.5)
    control = controller(plant, 0.3, 50)

    plant.run(control, 50)

    assert plant.selection.temperature == pytest.approx(0.01)
    assert plant.selection.logits.grad is None
    assert len(control.trace) == 25
