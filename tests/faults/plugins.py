"""Methods that misbehave, each between two that do not: the others' rows are what they are without it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from tests.faults.arena import Attack
from tests.faults.stage import WORKSPACE, Stage, run

FAULT = "plug-in misbehaviour"
SPEC_OPTIONS = ("--quiet", "--set", "methods=[uniform]")
TEMPLATE = """\
from hdapbench.method import Method, Plan
{top}

class Mine(Method):
    name = "mine"

    def compress(self, problem):
        import ctypes, gc, os, random, signal, subprocess, sys, threading, time
        import numpy as np, torch, torch.nn.functional as F
        from torch import nn
        import hdapbench.run.evaluate as evaluation
{body}
        return problem.plan_by_scores(problem.importance("l2"))
"""
ODD_ERROR = """\
class Odd(BaseException):
    def __str__(self): raise RuntimeError("no")
    __repr__ = __str__
class Mute(Exception):
    def __str__(self): return 7
class Deep(Exception):
    def __str__(self): return str(self)
class Leaves(Exception):
    def __str__(self): raise SystemExit(3)
"""

BODIES = {
    # Ends
    "os._exit": "os._exit(3)",
    "os._exit 0": "os._exit(0)",
    "sys.exit": "sys.exit(3)",
    "sys.exit with a text": "sys.exit('bye')",
    "abort": "os.abort()",
    "segmentation fault": "ctypes.string_at(0)",
    "kills itself": "os.kill(os.getpid(), signal.SIGKILL)",
    "terminates itself": "os.kill(os.getpid(), signal.SIGTERM)",
    "hangs itself up": "os.kill(os.getpid(), signal.SIGHUP)",
    "KeyboardInterrupt": "raise KeyboardInterrupt",
    "GeneratorExit": "raise GeneratorExit",
    "StopIteration": "raise StopIteration",
    "MemoryError": "raise MemoryError",
    "RecursionError": "f = lambda: f(); f()",
    "BaseException": "raise BaseException('x')",
    "error whose text fails": "raise Odd",
    "error whose text is a number": "raise Mute",
    "error whose text recurses": "raise Deep",
    "error whose text leaves": "raise Leaves",
    "error of a megabyte": "raise ValueError('x' * 1_000_000)",
    "error with escapes": "raise ValueError('\\x1b[2J\\n# heading \\udc80')",
    "group of errors": "raise ExceptionGroup('many', [ValueError('a'), KeyError('b')])",
    "error that is its own cause": "e = ValueError('x'); e.__cause__ = e; raise e",
    "asyncio cancelled": "import asyncio; raise asyncio.CancelledError",
    # Answers
    "returns nothing": "return None",
    "returns a class": "return Plan",
    "empty plan": "return Plan(kept={})",
    "plan beyond the layers": "return Plan(kept={n: (10**9,) for n in problem.groups})",
    "plan of negative channels": "return Plan(kept={n: (-1,) for n in problem.groups})",
    "plan of repeats": "return Plan(kept={n: (0, 0) for n in problem.groups})",
    "plan of weights that are not there": "p = problem.plan_by_scores(problem.importance('l2')); return p.model_copy(update={'weights': '../../x'})",
    "plan of a file that is not there": "p = problem.plan_by_scores(problem.importance('l2')); return p.model_copy(update={'file': '/etc/passwd'})",
    "plan of text": "p = problem.plan_by_scores(problem.importance('l2')); return p.model_construct(kept='abc')",
    "plan of bits that do not exist": "p = problem.plan_by_scores(problem.importance('l2')); return p.model_copy(update={'weight_bits': {'x': (3,)}})",
    "not a number as scores": "return problem.plan_by_scores({n: np.full(g.size, np.nan) for n, g in problem.groups.items()})",
    "subclass of Plan": "c = type('P', (Plan,), {'kept': property(lambda s: 1 / 0)}); return c.model_construct()",
    # What it remembers
    "remembers a set": "problem.remember('x', {1})",
    "remembers itself": "x = []; x.append(x); problem.remember('x', x)",
    "remembers nan": "problem.remember('x', float('nan'))",
    "remembers bytes": "problem.remember('x', b'\\xff')",
    "remembers half a character": "problem.remember('\\udc80', '\\udc80')",
    "remembers numpy": "problem.remember('x', np.float32('inf')); problem.remember('y', np.arange(3))",
    "remembers much": "problem.remember('x', 'y' * 20_000_000)",
    "remembers often": "[problem.remember(f'x{n}', n) for n in range(100_000)]",
    "remembers deep": "x = []\n        for _ in range(100_000): x = [x]\n        problem.remember('x', x)",
    "remembers under no text": "problem.remember(None, 1); problem.remember('', 1)",
    "remembers a module": "problem.remember('x', os)",
    "spoils what it remembered": "x = {'a': 1}; problem.remember('x', x); x['a'] = object()",
    # Budget
    "charges inf": "problem.budget.charge('device_queries', float('inf'))",
    "charges nan": "problem.budget.charge('device_queries', float('nan'))",
    "pays back": "problem.budget.charge('device_queries', -5)",
    "charges what is not there": "problem.budget.charge('money', 1)",
    "spoils its budget": "problem.budget._spent.update(device_queries='x')",
    "replaces its budget": "problem.budget.__class__ = object",
    # Functions
    "F.relu": "F.relu = lambda x, inplace=False: x",
    "torch.relu": "torch.relu = None",
    "Tensor.relu": "torch.Tensor.relu = lambda x: x",
    "ReLU.forward": "nn.ReLU.forward = lambda s, x: x",
    "Conv2d.forward": "nn.Conv2d.forward = lambda s, x: x",
    "Module.__call__": "nn.Module.__call__ = lambda s, *a: None",
    "BatchNorm code": "nn.BatchNorm2d.forward.__code__ = (lambda self, input: input).__code__",
    "F.batch_norm code": "F.batch_norm.__code__ = (lambda input, *a, **k: input).__code__",
    "F.cross_entropy defaults": "F.cross_entropy.__kwdefaults__ = None; F.cross_entropy.__defaults__ = (None,) * 5 + (0.5,)",
    "evaluate code": "evaluation.evaluate.__code__ = (lambda *a: None).__code__",
    "evaluate": "evaluation.evaluate = None; import hdapbench.run.attempt as a; a.evaluate = None",
    "another method's class": "import hdapbench_methods.fpgm as m; m.Fpgm.compress = lambda s, p: p.plan_by_scores(p.importance('random'))",
    "another method's code": "import hdapbench_methods.fpgm as m; m.Fpgm.compress.__code__ = (lambda self, problem: None).__code__",
    "constant": "import hdapbench.bench.training as t; [setattr(t, n, 1) for n in vars(t) if n.isupper()]",
    "json": "import json; json.dumps = lambda *a, **k: '{}'",
    "hashlib": "import hashlib; hashlib.sha256 = hashlib.md5",
    "pathlib": "from pathlib import Path; Path.write_text = lambda *a, **k: 0",
    "sqlite3": "import sqlite3; sqlite3.connect = None",
    "time": "time.monotonic = lambda: 0.0",
    "open": "import builtins; builtins.open = None",
    "sum": "import builtins; builtins.sum = lambda *a: 0",
    "isinstance": "import builtins; builtins.isinstance = lambda *a: True",
    "numpy generator": "np.random.default_rng = lambda *a: np.random.Generator(np.random.PCG64(0))",
    "torch generator": "torch.Generator = None",
    "a module away": "del sys.modules['torch.nn.functional']; sys.modules['numpy'] = None",
    "pydantic": "import pydantic; pydantic.BaseModel.model_dump_json = lambda s, **k: '{}'",
    # Settings
    "autocast": "torch.autocast('cpu').__enter__()",
    "global hooks": "nn.modules.module.register_module_forward_hook(lambda m, i, o: o * 2)",
    "hooks on tensors": "nn.modules.module.register_module_full_backward_hook(lambda m, i, o: None)",
    "hooks of optimizers": "torch.optim.optimizer.register_optimizer_step_pre_hook(lambda *a: 1 / 0)",
    "default dtype": "torch.set_default_dtype(torch.float64)",
    "default device": "torch.set_default_device('meta')",
    "no gradients": "torch.set_grad_enabled(False)",
    "inference mode": "guard = torch.inference_mode(); guard.__enter__()",
    "anomalies": "torch.autograd.set_detect_anomaly(True)",
    "deterministic": "torch.use_deterministic_algorithms(True)",
    "threads of torch": "torch.set_num_threads(64)",
    "no mkldnn": "torch.backends.mkldnn.enabled = False",
    "flushes": "torch.set_flush_denormal(True)",
    "function mode": "torch.overrides.TorchFunctionMode().__enter__()",
    "dispatch mode": "from torch.utils._python_dispatch import TorchDispatchMode\n        class D(TorchDispatchMode):\n            def __torch_dispatch__(self, f, t, a=(), k=None): return f(*a, **(k or {}))\n        D().__enter__()",
    "seeds": "random.seed(1); np.random.seed(1); torch.manual_seed(1)",
    "numpy errors": "np.seterr(all='raise')",
    "warnings are errors": "import warnings; warnings.simplefilter('error')",
    "environment": "os.environ.clear(); os.environ['OMP_NUM_THREADS'] = 'x'",
    "directory": "os.chdir('/')",
    "directory gone": "import tempfile; d = tempfile.mkdtemp(); os.chdir(d); os.rmdir(d)",
    "umask": "os.umask(0o777)",
    "recursion limit": "sys.setrecursionlimit(80)",
    "no garbage": "gc.disable()",
    "search path": "sys.path.clear(); sys.meta_path.clear()",
    "locale": "import locale; locale.setlocale(locale.LC_ALL, 'C')",
    "signals": "signal.signal(signal.SIGINT, signal.SIG_IGN); signal.signal(signal.SIGALRM, signal.SIG_IGN)",
    "an alarm for later": "signal.signal(signal.SIGALRM, lambda *a: 1 / 0); signal.setitimer(signal.ITIMER_REAL, 0.2)",
    "an alarm that kills": "signal.signal(signal.SIGALRM, signal.SIG_DFL); signal.alarm(1)",
    "tracing": "sys.settrace(lambda *a: 1 / 0)",
    "profiling": "sys.setprofile(lambda *a: None)",
    "files": "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (3, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))",
    "memory": "import resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 20, resource.getrlimit(resource.RLIMIT_AS)[1]))",
    "size of files": "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))",
    # Streams
    "floods stdout": "os.write(1, b'x' * 3_000_000); print('y' * 3_000_000)",
    "floods stderr": "os.write(2, b'x' * 1_000_000)",
    "closes stdout": "os.close(1)",
    "closes stderr": "os.close(2)",
    "closes sys.stdout": "sys.stdout.close()",
    "no streams": "sys.stdout = sys.stderr = None",
    "stdout elsewhere": "os.dup2(os.open('/dev/null', os.O_WRONLY), 1)",
    "closes many files": "os.closerange(3, 64)",
    "prints a gigabyte": "[print('y' * 1_000_000) for _ in range(1000)]",
    # Memory shared with others
    "eats memory": "import resource; resource.setrlimit(resource.RLIMIT_AS, (6 << 30, resource.getrlimit(resource.RLIMIT_AS)[1])); x = [bytearray(1 << 28) for _ in range(99)]",
    "dense model": "[p.data.zero_() for p in problem._bench.network.model.parameters()]",
    "mode of the dense model": "problem._bench.network.model.train()",
    "hook on the dense model": "problem._bench.network.model.register_forward_hook(lambda m, i, o: o * 0)",
    "layers of the dense model": "problem._bench.network.model.add_module('linear', nn.Identity())",
    "images": "problem._bench.train.images.zero_()",
    "labels": "problem._bench.search.labels.zero_()",
    "images as numpy": "problem._bench.train.images.numpy()[:] = 0",
    "test images": "[o.images.zero_() for o in gc.get_objects() if type(o).__name__ == 'ImageSet']",
    "fleet": "vars(problem._bench.fleet).clear()",
    "cluster weights": "w = problem.devices.cluster_weights; w.setflags(write=True); w[:] = 0",
    "costs": "problem._bench.network.cost.sizes.setflags(write=True); problem._bench.network.cost.sizes[:] = 1",
    "kernels": "[v.__setitem__(slice(None), 0) for v in problem.devices.kernels.table.values()]",
    "groups": "problem.groups.clear()",
    "folded model": "[p.data.zero_() for p in problem.quantization.folded().model.parameters()]",
    "batches": "[(x.zero_(), y.zero_()) for x, y in problem.training.batches(64)]",
    "recipe": "object.__setattr__(problem._bench.recipe, 'epochs', 0.0)",
    # Time
    "endless": "while True: pass",
    "endless with a catch-all": "while True:\n            try:\n                while True: pass\n            except BaseException: pass",
    "endless with nested catch-alls": "while True:\n            try:\n                while True:\n                    try:\n                        try:\n                            while True: time.sleep(0.01)\n                        finally:\n                            while True: pass\n                    except BaseException: continue\n            except BaseException: continue",
    "endless generators": "def g():\n            while True:\n                try: yield 1\n                except BaseException: pass\n        while True:\n            try:\n                for _ in g(): pass\n            except BaseException: pass",
    "sleeps": "time.sleep(10_000)",
    "waits for a child": "subprocess.run(['sleep', '10000'])",
    "waits for a lock": "l = threading.Lock(); l.acquire(); l.acquire()",
    "no alarms": "signal.setitimer(signal.ITIMER_REAL, 0); time.sleep(15)",
    # Others
    "a thread that spoils": "threading.Thread(target=lambda: [setattr(F, 'relu', None) for _ in iter(lambda: time.sleep(0.001), 1)], daemon=True).start()",
    "a thread that waits": "threading.Thread(target=time.sleep, args=(3,)).start()",
    "a fork that goes on": "os.fork()",
    "a child that stays": "subprocess.Popen(['sleep', '5'])",
    "exit handlers": "import atexit; atexit.register(lambda: 1 / 0)",
    "deletes the weights": "import shutil; shutil.rmtree('.hdapbench/cache/base')",
    "deletes artifacts": "import shutil; shutil.rmtree('.hdapbench/artifacts', ignore_errors=True)",
}
LEAVES = ("a fork that goes on", "a child that stays", "waits for a child", "deletes artifacts")
"""What starts processes, which end on their own."""

IN_WORKERS = ("closes many files", "endless generators", "endless with nested catch-alls")
"""What no run withstands in its own process: these run as runs do by default, in worker processes."""

TIMED = ("endless", "sleeps", "waits for a", "no alarms")


def alone(root: Path) -> None:
    """The rows of the methods that do not misbehave."""
    os.chdir(root)
    (root / "rows.json").write_text(_rows(WORKSPACE))


def _rows(workspace: str) -> str:
    import json

    from hdapbench.store.sqlite import open_store

    with open_store(Path(workspace, "results.db")) as store:
        results = store.results(trial_ids=store.benchmark("tiny").trial_ids)
    found = [
        [r.trial.method, r.status.value, r.metrics and r.metrics.model_dump(mode="json"), r.plan and r.plan.id]
        for r in results
        if r.trial.method != "mine"
    ]
    return json.dumps(sorted(found))


def on_plugins(stage: Stage, share: float) -> Iterator[Attack]:
    """One of each kind."""

    def attack(name: str) -> str | None:
        stage.copied("tiny.yaml", f"{WORKSPACE}/cache")
        body = "\n".join(f"        {line}" if n == 0 else line for n, line in enumerate(BODIES[name].split("\n")))
        Path("mine.py").write_text(TEMPLATE.format(top=ODD_ERROR, body=body))
        options = ["tiny.yaml", *SPEC_OPTIONS, "--method", "./mine.py", "--method", "fpgm"]
        if name.startswith(TIMED):
            options += ["--set", "budget.wall_seconds=10"]
        if name in IN_WORKERS:
            options += ["--executor", "process", "--workers", "2"]
        right = (stage.root / "rows.json").read_text()
        for _ in range(3):  # what ends the process is asked twice, and a row of the third run
            pid = os.fork()
            if pid == 0:
                code = run(*options)
                os._exit(code)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            found = _rows(WORKSPACE)
            if code in (0, 1) and found == right:
                return None
        if code not in (0, 1):
            return f"the third run ends with {code}"
        return f"other rows: {found[:300]} for {right[:300]}"

    for number, name in enumerate(BODIES):
        if number % max(1, round(1 / share)) == 0:
            yield Attack(FAULT, name, lambda name=name: attack(name), leaves=name in LEAVES)
