"""C code of networks with bit-widths: bit for bit the executor on whole test sets, and what it takes in flash and RAM.

    python -m studies.c99 SPEC... --workspace .hdapbench   # trials that ran there: trained networks, whole test sets
    python -m studies.c99 --random                         # networks without a trial, with random weights

Every trial with bit-widths of the specs is written as C, compiled by gcc and, with ``--arm N``, the first N of each spec
as Thumb-2 code for a Cortex-M4 that runs under qemu-arm. Writes the tables in docs/deploy.md; rows of trials of before
are kept in studies/c99.jsonl.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from hdapbench.cost.hardware import hardware_cost
from hdapbench.data import load_data
from hdapbench.errors import UnknownLayerError
from hdapbench.models import build_model
from hdapbench.quant.deploy.c99 import CCode, c_code, footprint
from hdapbench.quant.deploy.execute import run_integer
from hdapbench.quant.deploy.lower import lower
from hdapbench.quant.deploy.packed import PACKED, load_packed
from hdapbench.quant.graph.folded import FoldedModel
from hdapbench.quant.training.calibrate import calibrate_clips
from hdapbench.quant.training.fixed import FixedNetwork
from hdapbench.run.grid import base_directory
from hdapbench.run.workspace import Workspace
from hdapbench.spec import ModelSpec
from studies.runs import ROOT, stored
from studies.tables import options, publish

KEPT = Path(__file__).parent / "c99.jsonl"

M4 = ("arm-none-eabi-gcc", "-mcpu=cortex-m4", "-mthumb", "-Os", "-std=c99")
HOST = ("gcc", "-O2", "-std=c99")
BATCH = 100

MAIN = """\
#include "net.h"
static int8_t in[{n_in}];
static net_score out[{n_out}];
{calls}
{start}
{{
    for (;;) {{
        long got = 0;
        while (got < (long)sizeof in) {{
            const long n = get(in + got, (long)sizeof in - got);
            if (n <= 0) {{
                leave();
            }}
            got += n;
        }}
        net_run(in, out);
        put(out, (long)sizeof out);
    }}
}}
"""

ON_HOST = """\
#include <stdlib.h>
#include <unistd.h>
static long get(void *to, long n) { return (long)read(0, to, (size_t)n); }
static void put(const void *from, long n) { if (write(1, from, (size_t)n) != n) { exit(1); } }
static void leave(void) { exit(0); }
"""

ON_ARM = """\
static long call(long number, long first, const void *second, long third)
{
    register long r7 __asm__("r7") = number;
    register long r0 __asm__("r0") = first;
    register const void *r1 __asm__("r1") = second;
    register long r2 __asm__("r2") = third;
    __asm__ volatile("svc 0" : "+r"(r0) : "r"(r1), "r"(r2), "r"(r7) : "memory");
    return r0;
}
static long get(void *to, long n) { return call(3, 0, to, n); }
static void put(const void *from, long n) { call(4, 1, from, n); }
static void leave(void) { call(1, 0, 0, 0); }
void _start(void);
"""


@dataclass(frozen=True)
class Found:
    """One network: where it comes from, what it takes, and images on which all scores were compared."""

    network: str
    weights: str
    weight_bytes: float
    flash: int
    compiled: int | None
    ram: int
    mpic: float | None
    ne16: float | None
    on_host: int
    on_arm: int


def program(code: CCode, folder: Path, *, arm: bool) -> list[str]:
    """Command of a program that reads inputs and writes scores."""
    (folder / "net.h").write_text(code.header)
    (folder / "net.c").write_text(code.source)
    n_out = code.values.by_name[code.model.operations[-1].name].n
    start = "void _start(void)" if arm else "int main(void)"
    n_in = int(np.prod(code.model.input_shape))
    text = MAIN.format(n_in=n_in, n_out=n_out, calls=ON_ARM if arm else ON_HOST, start=start)
    (folder / "main.c").write_text(text)
    link = ("-ffreestanding", "-nostartfiles", "--specs=nosys.specs") if arm else ("-D_POSIX_C_SOURCE=200809L",)
    built = folder / ("arm" if arm else "host")
    subprocess.run([*(M4 if arm else HOST), *link, "-o", built, folder / "net.c", folder / "main.c"], check=True)
    return ["qemu-arm-static", str(built)] if arm else [str(built)]


def compare(code: CCode, batches: Iterable[Tensor], *, arm: bool) -> int:
    """Images on which a program's scores are the executor's, every bit; ends the study at the first that is not."""
    first, last = code.model.operations[0], code.model.operations[-1]
    source, output = code.values.by_name[first.name], code.values.by_name[last.name]
    inverse = torch.tensor(1.0) / torch.tensor(first.scale, dtype=torch.float32)
    n = 0
    with TemporaryDirectory() as folder:
        command = program(code, Path(folder), arm=arm)
        for images in batches:
            whole = torch.round(images * inverse).clamp(first.low, first.high) + source.zero
            given = whole.permute(0, 2, 3, 1).contiguous().to(torch.int8).numpy().tobytes()
            done = subprocess.run(command, input=given, capture_output=True, check=True)
            found = np.frombuffer(done.stdout, "<i8" if output.wide else "i1").astype(np.int64) - output.zero
            expected = run_integer(code.model, images)
            expected = expected.permute(0, 2, 3, 1) if expected.dim() == 4 else expected
            if not np.array_equal(found, expected.flatten().numpy()):
                sys.exit(f"scores differ between image {n} and {n + len(images)}")
            n += len(images)
    return n


def compiled_bytes(code: CCode) -> int | None:
    """Flash by the compiler; None without it."""
    if shutil.which(M4[0]) is None:
        return None
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "net.h").write_text(code.header)
        (folder / "net.c").write_text(code.source)
        subprocess.run([*M4, "-c", "-o", folder / "net.o", folder / "net.c"], check=True)
        said = subprocess.run(
            [str(shutil.which("arm-none-eabi-size")), folder / "net.o"], capture_output=True, text=True, check=True
        )
    text, data = map(int, said.stdout.split()[6:8])
    return text + data


def trials(spec: Path, workspace: Path, *, n_arm: int) -> Iterator[Found]:
    """Rows of a spec's trials of its first seed that left a packed network, each compared on the whole test set."""
    loaded, results = stored(str(spec), workspace)
    data = load_data(
        loaded.spec.data,
        loaded.spec.model.input_shape,
        base_dir=base_directory(loaded),
        cache_dir=Workspace(workspace).cache,
    )
    n_written = 0
    for result in results:
        path = Workspace(workspace).artifacts / result.trial.id / PACKED
        is_first = result.trial.seed == loaded.spec.seeds[0]
        if not is_first or result.metrics is None or result.metrics.bits is None or not path.is_file():
            continue
        code = c_code(load_packed(path), "net")

        def batches() -> Iterator[Tensor]:
            return (images for images, _ in data.test.batches(BATCH, shuffle_seed=None))

        bits, taken, parameters = result.metrics.bits, footprint(code), result.trial.parameters
        chosen = f"{parameters.get('choose', '')} {parameters.get('weight_bits', '')}".strip()
        yield Found(
            network=f"{loaded.spec.model.name}, {chosen} @ {result.trial.target}",
            weights="trained",
            weight_bytes=bits.weight_bytes,
            flash=taken.flash,
            compiled=compiled_bytes(code),
            ram=taken.ram,
            mpic=bits.mpic_cycles,
            ne16=bits.ne16_cycles,
            on_host=compare(code, batches(), arm=False),
            on_arm=compare(code, batches(), arm=True) if n_written < n_arm else 0,
        )
        n_written += 1


RANDOM = (
    ("resnet6", (1, 8, 8), 10, 20),
    ("dscnn", (1, 49, 10), 12, 20),
    ("resnet8", (3, 32, 32), 10, 10),
    ("resnet18-64px", (3, 64, 64), 200, 1),
)
"""Network, input, classes and images that are compared."""


def untrained(*, arm: bool) -> Iterator[Found]:
    """Rows of networks with random weights, at 8 bits and with as many channels of 2, 4 and 8 bits."""
    for name, shape, n_classes, n in RANDOM:
        for mixed in (False, True):
            torch.manual_seed(0)
            spec = ModelSpec(name=name, input_shape=shape)
            folded = FoldedModel.of(build_model(spec, n_classes=n_classes, base_dir=ROOT).eval(), shape)
            graph, images = folded.graph, torch.randn(n, *shape)
            clips = calibrate_clips(folded.model, graph, [images], bits=[8])[:, 0]
            widths = {layer: graph.by_name[layer].shape[0] for layer in graph.layers}
            bits = {
                layer: tuple((2, 4, 8)[c % 3] if mixed else 8 for c in range(size)) for layer, size in widths.items()
            }
            network = FixedNetwork(
                folded.model, graph, clips, weight_bits=bits, activation_bits=[8] * len(graph.quantizers)
            ).eval()
            code = c_code(lower(network, folded.group_set, shape), "net")
            taken, counts = footprint(code), folded.layers.counts_of_layers(bits)
            yield Found(
                network=f"{name}, {'2, 4 and 8 bits' if mixed else '8 bits'}",
                weights="random",
                weight_bytes=code.model.n_weight_bits / 8,
                flash=taken.flash,
                compiled=compiled_bytes(code),
                ram=taken.ram,
                mpic=_cycles("mpic", folded, counts),
                ne16=_cycles("ne16", folded, counts),
                on_host=compare(code, [images], arm=False),
                on_arm=compare(code, [images], arm=True) if arm and n > 1 else 0,
            )


def _cycles(name: str, folded: FoldedModel, counts: object) -> float | None:
    try:
        return float(hardware_cost(name)(folded.layers, counts))  # type: ignore[arg-type] # counts of these layers
    except UnknownLayerError:
        return None


def table(rows: Sequence[Found]) -> Iterator[str]:
    """All rows, smallest networks first."""
    yield "| network | weights | weights (kB) | flash (kB) | compiled (kB) | RAM (kB) | MPIC (k) | NE16 (k) | equal: gcc | qemu-arm |"
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for row in sorted(rows, key=lambda row: row.flash):
        cells = [row.weight_bytes, row.flash, row.compiled, row.ram, row.mpic, row.ne16]
        shown = ["-" if cell is None else f"{cell / 1000:,.4g}" for cell in cells]
        counts = ["-" if not n else f"{n:,}" for n in (row.on_host, row.on_arm)]
        yield f"| {' | '.join([row.network, row.weights, *shown, *counts])} |"


def main() -> int:
    """Compare, print the table, and write it."""
    parser = options(__doc__)
    parser.add_argument("specs", nargs="*", type=Path, metavar="SPEC")
    parser.add_argument("--workspace", type=Path, default=Path(".hdapbench"), metavar="DIR")
    parser.add_argument("--random", action="store_true", help="networks with random weights")
    parser.add_argument("--arm", type=int, default=0, metavar="N", help="trials of each spec under qemu-arm")
    arguments = parser.parse_args()
    os.environ.setdefault("HDAPBENCH_DATA", str(ROOT.parent / "shared" / "data"))
    rows = {row.network + row.weights: row for row in _kept()}
    for row in _made(arguments):
        print(row, file=sys.stderr)
        rows[row.network + row.weights] = row
        kept = sorted(rows.values(), key=lambda r: (r.network, r.weights))
        KEPT.write_text("".join(json.dumps(asdict(r)) + "\n" for r in kept))
    publish("deploy.md", "c99", "c99", table(list(rows.values())))
    return 0


def _made(arguments: argparse.Namespace) -> Iterator[Found]:
    for spec in arguments.specs:
        yield from trials(spec, arguments.workspace, n_arm=arguments.arm)
    if arguments.random:
        yield from untrained(arm=arguments.arm > 0)


def _kept() -> list[Found]:
    return [Found(**json.loads(line)) for line in KEPT.read_text().splitlines()] if KEPT.exists() else []


if __name__ == "__main__":
    raise SystemExit(main())
