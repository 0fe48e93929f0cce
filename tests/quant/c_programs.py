"""Generated C compiled and run: with gcc and its sanitizers, and as Thumb-2 code under qemu-arm."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from hdapbench.quant.deploy.c99 import CCode
from hdapbench.quant.deploy.execute import run_integer

STRICT = ["-std=c99", "-Wall", "-Wextra", "-Wconversion", "-pedantic", "-Werror"]
M4 = ["arm-none-eabi-gcc", "-mcpu=cortex-m4", "-mthumb", "-Os", *STRICT]
HOST = ["gcc", "-O1", "-fsanitize=undefined,address", "-fno-sanitize-recover=all", *STRICT]

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
needs_arm = pytest.mark.skipif(
    shutil.which("arm-none-eabi-gcc") is None or shutil.which("qemu-arm-static") is None,
    reason="needs arm-none-eabi-gcc and qemu-arm-static",
)

HOST_MAIN = """\
#include <stdio.h>
#include "{name}.h"
static int8_t in[{n_in}];
static {name}_score out[{n_out}];
int main(void)
{{
    while (fread(in, sizeof in, 1, stdin) == 1) {{
        const int best = {name}_run(in, out);
        fwrite(&best, sizeof best, 1, stdout);
        fwrite(out, sizeof out, 1, stdout);
    }}
    return 0;
}}
"""

# No board's library: Linux calls, which qemu-arm answers. Its cortex-m4 has no Linux page, so the CPU stays its default,
# which runs the same Thumb-2 instructions.
ARM_MAIN = """\
#include "{name}.h"
static int8_t in[{n_in}];
static {name}_score out[{n_out}];
static long call(long number, long first, void *second, long third)
{{
    register long r7 __asm__("r7") = number;
    register long r0 __asm__("r0") = first;
    register void *r1 __asm__("r1") = second;
    register long r2 __asm__("r2") = third;
    __asm__ volatile("svc 0" : "+r"(r0) : "r"(r1), "r"(r2), "r"(r7) : "memory");
    return r0;
}}
void _start(void);
void _start(void)
{{
    for (;;) {{
        long got = 0;
        while (got < (long)sizeof in) {{
            const long n = call(3, 0, in + got, (long)sizeof in - got);
            if (n <= 0) {{
                call(1, 0, 0, 0);
            }}
            got += n;
        }}
        int best = {name}_run(in, out);
        call(4, 1, &best, sizeof best);
        call(4, 1, out, sizeof out);
    }}
}}
"""


def write(code: CCode, folder: Path) -> Path:
    """Source of a network, with its header beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{code.name}.h").write_text(code.header)
    source = folder / f"{code.name}.c"
    source.write_text(code.source)
    return source


def program(code: CCode, folder: Path, *, arm: bool) -> list[str]:
    """Command of a program that reads inputs and writes the best class and the scores of each."""
    source, main, built = write(code, folder), folder / "main.c", folder / ("arm" if arm else "host")
    n_out = code.values.by_name[code.model.operations[-1].name].n
    text = (ARM_MAIN if arm else HOST_MAIN).format(name=code.name, n_in=np.prod(code.model.input_shape), n_out=n_out)
    main.write_text(text)
    link = ["-ffreestanding", "-nostartfiles", "--specs=nosys.specs"] if arm else []
    subprocess.run([*(M4 if arm else HOST), *link, "-o", built, source, main], check=True)
    return ["qemu-arm-static", str(built)] if arm else [str(built)]


def stored(code: CCode, images: Tensor) -> np.ndarray:
    """Images as the header asks for them: whole numbers, channels innermost."""
    first = code.model.operations[0]
    whole = torch.round(images * (torch.tensor(1.0) / torch.tensor(first.scale, dtype=torch.float32)))
    zero = code.values.by_name[first.name].zero
    return (whole.clamp(first.low, first.high) + zero).permute(0, 2, 3, 1).contiguous().to(torch.int8).numpy()


def scores(code: CCode, command: list[str], images: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Best classes, and scores of shape (n, n_outputs), of a program."""
    done = subprocess.run(command, input=stored(code, images).tobytes(), capture_output=True, check=True)
    output = code.values.by_name[code.model.operations[-1].name]
    record = np.dtype([("best", "<i4"), ("scores", "<i8" if output.wide else "i1", output.n)])
    found = np.frombuffer(done.stdout, record)
    return found["best"], found["scores"].astype(np.int64).reshape(len(images), -1) - output.zero


def check(code: CCode, folder: Path, images: Tensor, *, arm: bool = False) -> None:
    """The program computes what the executor computes, in every bit of every score."""
    expected = run_integer(code.model, images)
    expected = (expected.permute(0, 2, 3, 1) if expected.dim() == 4 else expected).flatten(1).numpy()
    best, found = scores(code, program(code, folder, arm=arm), images)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(best, expected.argmax(1))
