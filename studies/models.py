"""Which networks can be pruned: all classifiers of torchvision, one of each family of timm, today's of ultralytics.

    python -m studies.models [--only 'torchvision:vit*'] [--again] [--table]

Each network is traced at 224 x 224 in a process of its own, within two minutes of processor time. Where channels can go, it is pruned to half
of its FLOPs, all groups by one share, and by ten random plans: FLOPs and parameters of each really pruned network are counted
by torch and by `numel`, and compared with the closed form; outputs of the masked and of the compact network are compared at
the smallest size of images that the network runs on. What is known of a network is kept in studies/models.jsonl, and found
anew with --again; --table only writes the table in docs/models.md. About two hours on one core.
"""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision import models

from hdapbench.bench.network import Network, trace
from hdapbench.errors import HdapbenchError
from hdapbench.models import build_model
from hdapbench.plan import Plan
from hdapbench.prune.surgery import apply_plan, checked_apply, output_tensors
from hdapbench.spec import ModelSpec
from studies.tables import options, publish

RECORDS = Path(__file__).with_suffix(".jsonl")
SIDE = 224
SECONDS, WALL_SECONDS = 120, 900
"""Of processor time, and of a busy machine's clock."""

TIME_IS_UP = f"no end within {SECONDS} s of processor time"
N_PLANS = 10
QUICKLY_RUN = 2_000_000_000
"""FLOPs of a network that takes less time to run than torch's rules for tensors without numbers."""

SMALL_SIDES = (32, 64, 96, 128, 160, 192, SIDE)

TIMM = (
    *("deit_tiny_patch16_224", "beit_base_patch16_224", "mobilevit_xxs", "efficientformer_l1", "convnextv2_atto"),
    *("maxvit_pico_rw_256", "levit_128s", "ghostnet_050", "repvgg_a0", "vit_tiny_patch16_224"),
    *("swin_tiny_patch4_window7_224", "mixer_s32_224", "resnest14d", "regnety_002", "poolformer_s12"),
    *("cait_xxs24_224", "xcit_nano_12_p16_224", "davit_tiny", "fastvit_t8", "mobilenetv4_conv_small"),
)
"""The smallest of each family."""

ULTRALYTICS = (
    *("yolov5n", "yolov5s", "yolov8n", "yolov8s", "yolov9t", "yolov9s", "yolov10n", "yolo11n", "yolo11s", "yolo12n"),
    *("yolov8n-cls", "yolo11n-cls", "yolo12n-cls", "yolo11s-cls"),
)

NOT_BY_TORCH_PRUNING = frozenset(
    {"swin_t", "swin_s", "swin_b", *(f"shufflenet_v2_x{width}" for width in ("0_5", "1_0", "1_5", "2_0"))}
)
"""Classifiers that its coverage test could not prune."""

UNTRIED_BY_TORCH_PRUNING = frozenset(
    {"maxvit_t", "resnext101_64x4d", "swin_v2_t", "swin_v2_s", "swin_v2_b"}
    | {f"regnet_x_{size}" for size in ("400mf", "800mf", "1_6gf", "3_2gf", "8gf", "16gf", "32gf")}
)
"""Classifiers that its coverage test does not name: commit e80127d of VainF/Torch-Pruning,
examples/torchvision_models/readme.md (77 models, segmentation and detection among them, with torchvision 0.13.1).
"""


def names() -> list[str]:
    """Names of all networks, as specs name them."""
    return [
        *(f"torchvision:{name}" for name in sorted(models.list_models(module=models))),
        *(f"timm:{name}" for name in TIMM),
        *(f"ultralytics:{name}.yaml" for name in ULTRALYTICS),
    ]


def built(name: str) -> nn.Module:
    """The network in evaluation mode, no branch of it silent: what is constant in a fresh network becomes random."""
    n_classes = 80 if name.startswith("ultralytics:") and "-cls" not in name else 1000
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = build_model(ModelSpec(name=name, input_shape=(3, SIDE, SIDE)), n_classes=n_classes, base_dir=Path())
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.numel() > 1 and float(parameter.max() - parameter.min()) == 0.0:
                constant = float(parameter.flatten()[0])
                parameter.copy_(
                    0.1 * torch.randn_like(parameter)
                    if constant == 0.0
                    else max(constant, 0.1) * (0.5 + torch.rand_like(parameter))
                )
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.running_mean is not None:
                module.running_mean.normal_(0.0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
    return model.eval()


def study(name: str) -> Iterator[dict[str, Any]]:
    """What is known of one network, more from step to step."""
    began = time.process_time()
    try:
        model = built(name)
        before, began = _memory_mib(), time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            network = trace(model, (3, SIDE, SIDE))
    except HdapbenchError as error:
        yield {"name": name, "status": "refused", "reason": str(error), "seconds": time.process_time() - began}
        return
    found: dict[str, Any] = {"name": name, "status": "traced", "seconds": time.process_time() - began}
    found |= {"memory_mib": _memory_mib() - before} | _about(network)
    yield found
    found |= _half(network)
    yield found
    found |= _plans(network)
    yield found | {"status": "complete", "all_seconds": time.process_time()}


def _about(network: Network) -> dict[str, Any]:
    dense = network.cost.dense
    frozen: Counter[str] = Counter()
    for group in network.group_set.frozen:
        frozen[group.reason] += group.n_channels
    return {
        "flops": dense.flops,
        "params": dense.params,
        "share": 1 - network.cost.minimum_flops / dense.flops,
        "n_groups": len(network.group_set),
        "n_channels": int(network.cost.sizes.sum()),
        "frozen": dict(frozen.most_common()),
    }


def _half(network: Network) -> dict[str, Any]:
    """Share of FLOPs of the widest network of one share in all groups that has at most half of them, really pruned."""
    dense, low, high = network.cost.dense.flops, 0.0, 1.0
    if network.cost.minimum_flops * 2 > dense:
        return {"half": None}
    for _ in range(20):
        middle = (low + high) / 2
        within = int(network.cost.flops(_widths(network, middle))[0]) * 2 <= dense
        low, high = (middle, high) if within else (low, middle)
    compact = apply_plan(network.model, network.group_set, _first(network, _widths(network, low)))
    return {"half": _counted(compact, dense // 2) / dense}


def _widths(network: Network, share: float) -> np.ndarray:
    return np.maximum(1, np.round(network.cost.sizes * share)).astype(np.int64)


def _first(network: Network, widths: np.ndarray) -> Plan:
    return Plan(kept={name: tuple(range(int(n))) for name, n in zip(network.cost.groups, widths, strict=True)})


def _plans(network: Network) -> dict[str, Any]:
    """Largest differences over random plans: of FLOPs, of parameters, of outputs relative to the largest."""
    images, differences = _images(network.model), []
    for seed in range(N_PLANS):
        rng = np.random.default_rng(seed)
        kept = {
            group: tuple(sorted(rng.choice(size, max(1, round(rng.uniform(0, 1) * size)), replace=False).tolist()))
            for group, size in network.group_set.sizes.items()
        }
        costs = network.cost.evaluate([len(kept[group]) for group in network.cost.groups])
        compact, difference = checked_apply(network.model, network.group_set, Plan(kept=kept), images)
        largest = max(float(tensor.abs().max()) for tensor in output_tensors(compact, images))
        counted = sum(parameter.numel() for parameter in compact.parameters())
        flops = abs(_counted(compact, int(costs.flops[0])) - int(costs.flops[0]))
        differences.append((flops, abs(counted - int(costs.params[0])), difference / largest))
    worst = np.max(differences, axis=0)
    return {"plans": N_PLANS, "flops_off": int(worst[0]), "params_off": int(worst[1]), "outputs_off": float(worst[2])}


def _images(model: nn.Module) -> Tensor:
    """A random image of the smallest size that a network runs on."""
    for side in SMALL_SIDES:
        images = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(1))
        try:
            if all(bool(tensor.isfinite().all()) for tensor in output_tensors(model, images)):
                return images
        except Exception:  # noqa: BLE001, S112 - whatever a network raises on images that are too small
            continue
    raise AssertionError("runs on no images")


def _counted(model: nn.Module, flops: int) -> int:
    """Multiply-accumulates by torch's counter at the size of the trace; large networks are counted without numbers."""
    model.requires_grad_(False)  # or the counter follows gradients, which no parameter that is an input has
    for device in ("meta", "cpu") if flops > QUICKLY_RUN else ("cpu",):
        copy = model if device == "cpu" else deepcopy(model).to(device)
        try:
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                copy(torch.zeros(1, 3, SIDE, SIDE, device=device))
        except (RuntimeError, NotImplementedError):
            continue
        return int(counter.get_total_flops()) // 2
    raise AssertionError("torch cannot count this network")


def _memory_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def in_a_process(name: str) -> dict[str, Any]:
    """What `study` found of a network within the time limit."""
    command = [sys.executable, "-m", "studies.models", "--one", name]
    began = time.monotonic()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=WALL_SECONDS, check=False)
        out, code = done.stdout, done.returncode
        last = done.stderr.strip().splitlines()[-1:] or [""]
    except subprocess.TimeoutExpired as error:
        out, code, last = (error.stdout or b"").decode(), 124, [f"no end within {WALL_SECONDS} s"]
    lines = out.splitlines()
    row: dict[str, Any] = json.loads(lines[-1]) if lines else {"name": name, "status": "failed"}
    if row["status"] not in {"complete", "refused"}:
        row |= {"reason": TIME_IS_UP if code == -signal.SIGXCPU else last[0][:200] or f"ended with {code}"}
    return row | {"wall_seconds": time.monotonic() - began}


def records() -> dict[str, dict[str, Any]]:
    """Rows that were found before, by name."""
    lines = RECORDS.read_text().splitlines() if RECORDS.exists() else []
    return {row["name"]: row for row in map(json.loads, lines)}


def keep(row: dict[str, Any]) -> None:
    """Add or replace a network's row."""
    known = records() | {row["name"]: row}
    ordered = [known[name] for name in names() if name in known]
    RECORDS.write_text("".join(f"{json.dumps(entry)}\n" for entry in ordered))


def table(rows: dict[str, dict[str, Any]], package: str) -> Iterator[str]:
    """Rows of one package."""
    yield "| network | GFLOPs | can go | groups | frozen channels | half of FLOPs | ten plans | trace | Torch-Pruning |"
    yield "|---|--:|--:|--:|---|--:|---|--:|---|"
    for name, row in rows.items():
        if name.startswith(f"{package}:"):
            yield _line(name.partition(":")[2], row, package)


def _line(name: str, row: dict[str, Any], package: str) -> str:
    theirs = "-"
    if package == "torchvision" and name not in UNTRIED_BY_TORCH_PRUNING:
        theirs = "no" if name in NOT_BY_TORCH_PRUNING else "yes"
    seconds = f"{row['seconds']:.1f} s" if "seconds" in row else "-"
    if "flops" not in row:
        reason = row.get("reason", "").replace("|", "\\|")[:160]
        return f"| `{name}` | - | - | - | {row['status']}: {reason} | - | - | {seconds} | {theirs} |"
    inner = {reason: n for reason, n in row["frozen"].items() if not reason.startswith("is the model's output")}
    frozen = sum(inner.values())
    why = next(iter(inner), "").replace("|", "\\|")[:60]
    exact = "-"
    if "plans" in row:
        same = row["flops_off"] == row["params_off"] == 0
        exact = f"{'exact' if same else 'differ'}, {row['outputs_off']:.0e}"
    elif row.get("reason"):
        exact = row["reason"].replace("|", "\\|")[:60]
    half = "-" if row.get("half") is None else f"{row['half']:.3f}"
    return (
        f"| `{name}` | {row['flops'] / 1e9:.3g} | {row['share']:.1%} | {row['n_groups']} | "
        f"{frozen:,}{f': {why}' if why else ''} | {half} | {exact} | {seconds}, {row['memory_mib']:.0f} MiB | {theirs} |"
    )


def summary(rows: dict[str, dict[str, Any]]) -> Iterator[str]:
    """How many of each package can be pruned to half of their FLOPs, with all counts exact."""
    yield "| package | networks tried | pruned to half | all ten plans exact | refused, slowest | Torch-Pruning's test |"
    yield "|---|--:|--:|--:|---|--:|"
    for package in ("torchvision", "timm", "ultralytics"):
        mine = {name.partition(":")[2]: row for name, row in rows.items() if name.startswith(f"{package}:")}
        half = sum(row.get("half") is not None for row in mine.values())
        exact = sum(
            row.get("plans") == N_PLANS and not row["flops_off"] and not row["params_off"] and row["outputs_off"] < 1e-4
            for row in mine.values()
        )
        refused = [row["seconds"] for row in mine.values() if row["status"] == "refused"]
        slowest = f"{len(refused)}, {max(refused):.0f} s" if refused else "0"
        theirs = len(set(mine) - NOT_BY_TORCH_PRUNING - UNTRIED_BY_TORCH_PRUNING) if package == "torchvision" else "-"
        tried = f"{len(mine)} of {sum(name.startswith(f'{package}:') for name in names())}"
        yield f"| {package} | {tried} | {half} | {exact} | {slowest} | {theirs} |"


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--only", default="*", metavar="PATTERN", help="networks whose names fit, such as 'timm:*'")
    parser.add_argument("--again", action="store_true", help="also those that are known already")
    parser.add_argument("--table", action="store_true", help="only write the table")
    parser.add_argument("--one", metavar="NAME", help="one network, in this process, as JSON lines")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.one:
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 1))
        for row in study(arguments.one):
            print(json.dumps(row), flush=True)
        return
    known = {} if arguments.again else records()
    for name in names() if not arguments.table else ():
        if fnmatch(name, arguments.only) and name not in known:
            row = in_a_process(name)
            keep(row)
            share, half = row.get("share"), row.get("half")
            print(
                name, row["status"], share and f"{share:.1%}", half and f"{half:.3f}", row.get("reason", ""), flush=True
            )
    rows = records()
    publish("models.md", "models", "summary", summary(rows))
    for package in ("torchvision", "timm", "ultralytics"):
        publish("models.md", "models", package, table(rows, package))


if __name__ == "__main__":
    main()
