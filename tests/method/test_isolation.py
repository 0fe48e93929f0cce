"""What foreign code leaves on in the process is put back, and named."""

from __future__ import annotations

import os
import resource  # noqa: F401 - lines below use it, as some of those after it
import signal
import sys
import threading  # noqa: F401
import time
from contextlib import suppress

import hdapbench_methods.uniform  # noqa: F401
import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

import hdapbench.cost.mpic
import hdapbench.run.attempt
import hdapbench.surrogate.regression  # noqa: F401
from hdapbench.errors import MethodError
from hdapbench.method.isolation import kept_process, told_interrupts
from hdapbench.testing import tiny_problem


def spin() -> None:
    with suppress(SystemExit):  # pytest reports it, threads alone do not
        while True:
            time.sleep(0.001)


LEFT_ON = {
    "torch.autocast('cpu').__enter__()": "torch's autocast",
    "nn.modules.module.register_module_forward_hook(lambda *_: torch.zeros(1))": "torch's global hooks",
    "F.relu = lambda x: x": "torch.nn.functional.relu",
    "F.relu = F.gelu": "torch.nn.functional.relu",
    "nn.ReLU.forward = lambda _, x: x": "torch.nn.modules.activation.ReLU.forward",
    "torch.Tensor.relu = lambda x: x": "torch.Tensor.relu",
    "torch.set_default_device('meta')": "torch's default device",
    "torch.device('meta').__enter__()": "torch's default device",
    "torch.set_default_dtype(torch.float64)": "torch's default dtype",
    "guard = torch.inference_mode(); guard.__enter__()": "torch's inference mode",
    "torch.backends.mkldnn.enabled = False": "torch.backends.mkldnn.enabled",
    "torch.set_flush_denormal(True)": "torch's flushing of tiny numbers",
    "torch.set_float32_matmul_precision('medium')": "torch's matrix precision",
    "os.environ['OMP_NUM_THREADS'] = '7'": "the environment",
    "os.environ['A_NEW_ONE'] = '7'": "the environment",
    "np.random.default_rng = None": "numpy.random.default_rng",
    "hdapbench.run.attempt.evaluate = None": "hdapbench.run.attempt.evaluate",
    "sys.modules['torch.nn.functional'] = None": "the module torch.nn.functional",
    "sys.setrecursionlimit(500)": "python's recursion limit",
    "signal.signal(signal.SIGINT, print)": "python's signal handlers",
    "F.relu.__code__ = (lambda input, inplace=False: input).__code__": "torch.nn.functional.relu",
    "nn.Module.eval.__code__ = nn.Module.train.__code__": "torch.nn.modules.module.Module.eval",
    "hdapbench.run.attempt.carry_out.__defaults__ = (1,)": "hdapbench.run.attempt.carry_out",
    "hdapbench.cost.mpic.MACS_PER_CYCLE.clear()": "hdapbench.cost.mpic.MACS_PER_CYCLE",
    "hdapbench.method.budget.AGAIN_SECONDS = 1e9": "hdapbench.method.budget.AGAIN_SECONDS",
    "hdapbench.surrogate.regression.RIDGE_STRENGTHS[:] = 0": "hdapbench.surrogate.regression.RIDGE_STRENGTHS",
    "hdapbench_methods.uniform.Uniform.compress = None": "hdapbench_methods.uniform.Uniform.compress",
    "__import__('hashlib').sha256 = None": "hashlib.sha256",
    "__import__('builtins').isinstance = lambda *_: True": "builtins.isinstance",
    "__import__('builtins').getattr = __import__('builtins').set = None": "builtins.set",
    "sys.stderr = None": "python's streams",
    "os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone')": "the working directory",
    "sys.path.insert(0, '/nowhere')": "python's search for modules",
    "sys.setprofile(lambda *_: None)": "python's tracing",
    "__import__('gc').disable()": "python's collection of garbage",
    "resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))": "limits of the process",
    "threading.Thread(target=spin, name='x', daemon=True).start()": "the thread x",
}


@pytest.mark.parametrize("line", LEFT_ON)
def test_what_code_leaves_on_is_named_and_put_back(line: str) -> None:
    names = dict(globals())
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    x = torch.linspace(-1, 1, 4)
    right = [model(x), F.relu(x), x.relu()]

    with kept_process() as changed:
        exec(line, names)  # noqa: S102
    found = [model(x), F.relu(x), x.relu()]

    assert LEFT_ON[line] in changed
    assert all(
        torch.equal(a, b) and a.dtype == b.dtype and b.requires_grad == a.requires_grad
        for a, b in zip(right, found, strict=True)
    )
    with kept_process() as nothing:
        pass
    assert nothing == []


def test_an_error_ends_the_block_with_everything_put_back() -> None:
    with pytest.raises(ZeroDivisionError), kept_process():  # noqa: PT012 - what is left on before the error is tested
        F.relu = None  # type: ignore[assignment]
        raise ZeroDivisionError

    assert F.relu is not None


def test_an_interrupt_that_code_raises_is_its_error_and_one_that_it_swallows_is_the_users() -> None:
    with pytest.raises(MethodError, match="the user's alone"), told_interrupts():
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in the background of a shell
    with pytest.raises(MethodError, match="the user's alone"), told_interrupts():
        raise KeyboardInterrupt
    signal.signal(signal.SIGINT, signal.default_int_handler)

    with pytest.raises(KeyboardInterrupt), told_interrupts(), suppress(BaseException):
        os.kill(os.getpid(), signal.SIGINT)

    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_arrays_and_networks_of_a_problem_are_its_own() -> None:
    spoilt, other = tiny_problem("residual"), tiny_problem("residual")
    weights = other.devices.cluster_weights.tolist()

    for array in (
        spoilt.devices.cluster_weights,
        spoilt.cost.sizes,
        spoilt.cost.pair_flops,
        spoilt.devices.kernels.sizes,
    ):
        with pytest.raises(ValueError, match="read-only"):
            array[:] = 0
    for values in spoilt.devices.kernels.table.values():
        values[:] = values[::-1].copy()
    for parameter in spoilt.quantization.folded().model.parameters():
        parameter.data.zero_()
    spoilt.quantization.folded().layers.kernels[:] = 9

    assert other.devices.cluster_weights.tolist() == weights
    assert all(
        (values == tiny_problem("residual").devices.kernels.table[name]).all()
        for name, values in other.devices.kernels.table.items()
    )
    assert any(parameter.any() for parameter in other.quantization.folded().model.parameters())
    assert not (other.quantization.folded().layers.kernels == 9).any()
    assert sys.getrecursionlimit() > 500
    assert np.random.default_rng is not None
