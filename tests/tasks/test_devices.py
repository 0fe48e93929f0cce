"""Devices by name: those that are there, those that are not, and what ids of trials say of them."""

from __future__ import annotations

import pytest
import torch

from hdapbench.errors import ModelError, SpecError
from hdapbench.method.registry import MethodRegistry
from hdapbench.run.grid import plan_trials
from hdapbench.spec import load
from hdapbench.tasks.device import check_device, kind_of, resolved, usable_devices


@pytest.fixture(params=[0, 2])
def n_gpus(request, monkeypatch) -> int:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: request.param > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: request.param)
    return request.param


def test_what_is_usable_and_what_auto_stands_for_follow_from_the_gpus_that_torch_finds(n_gpus):
    assert usable_devices() == (("cpu", "cuda:0", "cuda:1") if n_gpus else ("cpu",))
    assert resolved("auto") == ("cuda" if n_gpus else "cpu")
    assert [kind_of(name) for name in ("cpu", "cuda", "cuda:1")] == ["cpu", "cuda", "cuda"]


def test_a_gpu_that_is_not_there_is_refused_with_those_that_are(n_gpus):
    check_device("cpu")
    check_device("auto")
    for name in ("cuda", "cuda:1", "cuda:2"):
        if n_gpus and name != "cuda:2":
            check_device(name)
        else:
            fix = "cuda:0, cuda:1; write one of these, or auto" if n_gpus else "write device: cpu, or auto"
            with pytest.raises(ModelError, match=fix):
                check_device(name)


def test_ids_of_trials_name_the_kind_of_device_and_not_the_card(n_gpus, tiny_spec):
    ids = {}
    for name in ("cpu", "cuda", "cuda:0", "cuda:1", "auto"):
        loaded = load(str(tiny_spec), [f"device={name}"])
        ids[name] = [trial.id for trial in plan_trials(loaded, MethodRegistry())]

    assert ids["cuda"] == ids["cuda:0"] == ids["cuda:1"] != ids["cpu"]
    assert ids["auto"] == ids["cuda" if n_gpus else "cpu"]


@pytest.mark.parametrize("name", ["gpu", "cuda:-1", "cuda:01", "CUDA", "mps"])
def test_a_name_of_no_device_is_refused_with_those_that_are_known(name, tiny_spec):
    with pytest.raises(SpecError, match="Known: cpu, cuda, cuda:1, auto"):
        load(str(tiny_spec), [f"device={name}"])
