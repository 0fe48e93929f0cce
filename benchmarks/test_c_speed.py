"""How long generated C code takes on this machine, against the int8 ONNX file of the same network in onnxruntime."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import time
from pathlib import Path
from statistics import median

import numpy as np
import pytest
import torch

from hdapbench.models import build_model
from hdapbench.quant.deploy.c99 import c_code
from hdapbench.quant.deploy.lower import lower
from hdapbench.quant.deploy.onnx_export import export_onnx
from hdapbench.quant.graph.folded import FoldedModel
from hdapbench.quant.training.calibrate import calibrate_clips
from hdapbench.quant.training.fixed import FixedNetwork
from hdapbench.spec import ModelSpec

ROUNDS, RUNS = 15, 5
MOST = {"resnet6": 12.0, "dscnn": 24.0, "resnet8": 20.0}
"""Times of onnxruntime's, which has vector code by hand, where plain C leaves that to the compiler. Measured on two shared
cores: 3.1, 7.8 and 6.3; what fails is beyond noise."""

SHAPES = {"resnet6": (1, 8, 8), "dscnn": (1, 49, 10), "resnet8": (3, 32, 32)}
C = ["gcc", "-O2", "-std=c99", "-shared", "-fPIC"]


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
@pytest.mark.parametrize("name", SHAPES)
def test_c_code_takes_a_known_multiple_of_the_onnx_file(name, tmp_path, capsys):
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    shape = SHAPES[name]
    torch.manual_seed(0)
    folded = FoldedModel.of(
        build_model(ModelSpec(name=name, input_shape=shape), n_classes=10, base_dir=Path()).eval(), shape
    )
    graph, images = folded.graph, torch.randn(8, *shape)
    clips = calibrate_clips(folded.model, graph, [images], bits=[8])[:, 0]
    bits = {layer: tuple((2, 4, 8)[c % 3] for c in range(graph.by_name[layer].shape[0])) for layer in graph.layers}
    activations = [8] * len(graph.quantizers)
    network = FixedNetwork(folded.model, graph, clips, weight_bits=bits, activation_bits=activations).eval()
    model = lower(network, folded.group_set, shape)
    code = c_code(model, "net")
    (tmp_path / "net.h").write_text(code.header)
    (tmp_path / "net.c").write_text(code.source)
    subprocess.run([*C, "-o", tmp_path / "net.so", tmp_path / "net.c"], check=True)
    export_onnx(model, tmp_path / "net.onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"), options, providers=["CPUExecutionProvider"])
    asked = {session.get_inputs()[0].name: images[:1].numpy()}
    run = ctypes.CDLL(str(tmp_path / "net.so")).net_run
    given, scores = np.ones(int(np.prod(shape)), np.int8), np.zeros(10, np.int64)
    pointers = (given.ctypes.data_as(ctypes.c_void_p), scores.ctypes.data_as(ctypes.c_void_p))
    times: dict[str, list[float]] = {"c": [], "onnx": []}

    for _ in range(ROUNDS):
        for kind, call in (("c", lambda: run(*pointers)), ("onnx", lambda: session.run(None, asked))):
            start = time.process_time()
            for _ in range(RUNS):
                call()
            times[kind].append(time.process_time() - start)

    ratio = median(times["c"]) / median(times["onnx"])
    with capsys.disabled():
        print(f"\n{name}: C {median(times['c']) / RUNS * 1e3:.3f} ms, {ratio:.1f} times the int8 ONNX file's")
    assert ratio < MOST[name]
