"""Plug-ins that print, write, connect, or change what is not theirs: models, generators, settings."""

from __future__ import annotations

import contextlib
import os
import random
import sys
import urllib.request
from pathlib import Path

import numpy as np
import torch

from hdapbench.method import Method, Plan, Problem


def largest(problem: Problem) -> Plan:
    """What a plug-in without a fault returns."""
    share = problem.solve_ratio()
    return problem.plan_by_importance(dict.fromkeys(problem.groups, share), "l1")


class ChangesTheModel(Method):
    name = "changes_the_model"

    def compress(self, problem: Problem) -> Plan:
        with torch.no_grad():
            weights = next(iter(problem._bench.network.model.parameters()))
            weights.zero_()  # here
        return largest(problem)


class TrainsTheModel(Method):
    name = "trains_the_model"

    def compress(self, problem: Problem) -> Plan:
        model = problem._bench.network.model
        model.train()  # here
        return largest(problem)


class WritesIntoSizes(Method):
    name = "writes_into_sizes"

    def compress(self, problem: Problem) -> Plan:
        widths = problem.cost.sizes
        widths[:] = 1  # here
        return problem.plan_by_widths(widths, "l1")


class PrintsWhileSkipping(Method):
    name = "prints_while_skipping"

    def skip(self, problem: Problem) -> str | None:
        print("groups", len(problem.groups))  # here
        return None

    def compress(self, problem: Problem) -> Plan:
        return largest(problem)


class PrintsToStderr(Method):
    name = "prints_to_stderr"

    def compress(self, problem: Problem) -> Plan:
        sys.stderr.write("working\n")  # here
        return largest(problem)


class WritesAFile(Method):
    name = "writes_a_file"

    def compress(self, problem: Problem) -> Plan:
        share = problem.solve_ratio()
        with Path("share.txt").open("w") as stream:  # here
            stream.write(str(share))
        return problem.plan_by_importance(dict.fromkeys(problem.groups, share), "l1")


class SavesAModel(Method):
    name = "saves_a_model"

    def compress(self, problem: Problem) -> Plan:
        torch.save(problem.model().state_dict(), "model.pt")  # here
        return largest(problem)


class DrawsFromPython(Method):
    name = "draws_from_python"

    def compress(self, problem: Problem) -> Plan:
        scores = {name: self._scores(group.n_channels) for name, group in problem.groups.items()}
        return problem.plan_by_scores(scores)

    def _scores(self, n_channels: int) -> np.ndarray:
        random.seed(0)  # here
        return np.array([random.random() for _ in range(n_channels)])


class DrawsFromNumpy(Method):
    name = "draws_from_numpy"

    def compress(self, problem: Problem) -> Plan:
        np.random.seed(0)  # here
        scores = {name: np.random.rand(group.n_channels) for name, group in problem.groups.items()}
        return problem.plan_by_scores(scores)


class TurnsGradientsOff(Method):
    name = "turns_gradients_off"

    def compress(self, problem: Problem) -> Plan:
        torch.set_grad_enabled(False)  # here
        return largest(problem)


class ChangesDirectory(Method):
    name = "changes_directory"

    def compress(self, problem: Problem) -> Plan:
        os.chdir("/")  # here
        return largest(problem)


class AsksTheNetwork(Method):
    name = "asks_the_network"

    def compress(self, problem: Problem) -> Plan:
        with contextlib.suppress(OSError):
            urllib.request.urlopen("http://192.0.2.1/weights", timeout=0.1)  # here
        return largest(problem)
