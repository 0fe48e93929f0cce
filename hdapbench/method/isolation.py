"""What of the whole process one method could spoil for the others, or for who reads results. Imports no torch."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from hdapbench.errors import MethodError
from hdapbench.method.patches import Code

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

STDOUT, STDERR = 1, 2
NOT_THEIRS = "it raised KeyboardInterrupt, which is the user's alone"
DEVICES = ("cpu", "cuda")
OUR_THREADS = ("decode", "ahead")
"""Threads that read images for whoever asks next."""

JOIN_SECONDS = 2.0
_guards: list[Any] = []
_RESOURCES: tuple[int, ...] = ()
if resource is not None:
    _RESOURCES = tuple(getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_"))


@dataclass(frozen=True)
class Setting:
    """A setting of the process: how it is read and set, and its value as torch starts, where it is one of torch's."""

    read: Callable[[], Any]
    put: Callable[[Any], object]
    at_start: Any = None


def _put_environment(variables: dict[str, str]) -> None:
    for name in set(os.environ) - set(variables):
        del os.environ[name]
    os.environ.update({name: value for name, value in variables.items() if os.environ.get(name) != value})


def _put_signals(state: tuple[dict[int, Any], bool]) -> None:
    handlers, rings = state
    if not rings and hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, 0)
    for number, handler in handlers.items():
        if handler is not None and signal.getsignal(number) is not handler:
            signal.signal(number, handler)


def _signals() -> tuple[dict[int, Any], bool]:
    """Handlers by number, and whether an alarm is set."""
    rings = hasattr(signal, "getitimer") and signal.getitimer(signal.ITIMER_REAL)[0] > 0
    return {number: signal.getsignal(number) for number in signal.valid_signals()}, rings


def _limits() -> dict[int, int]:
    """Soft limits of the process's resources by number."""
    if resource is None:
        return {}
    return {number: resource.getrlimit(number)[0] for number in _RESOURCES}


def _put_limits(limits: dict[int, int]) -> None:
    for number, soft in limits.items():
        with suppress(ValueError, OSError):  # a hard limit that was lowered stays
            if resource.getrlimit(number)[0] != soft:
                resource.setrlimit(number, (soft, resource.getrlimit(number)[1]))


def _streams() -> tuple[Any, ...]:
    return sys.stdin, sys.stdout, sys.stderr, sys.excepthook, sys.unraisablehook, threading.excepthook


def _put_streams(streams: tuple[Any, ...]) -> None:
    sys.stdin, sys.stdout, sys.stderr, sys.excepthook, sys.unraisablehook, threading.excepthook = streams


def _put_imports(state: tuple[list[Any], ...]) -> None:
    sys.path[:], sys.meta_path[:], sys.path_hooks[:] = state


def _traced() -> tuple[Any, Any]:
    return sys.gettrace(), sys.getprofile()


def _put_traced(state: tuple[Any, Any]) -> None:
    sys.settrace(state[0])
    sys.setprofile(state[1])


def _directory() -> str:
    """The working directory as it is, not resolved; empty where it was removed."""
    try:
        return os.getcwd()  # noqa: PTH109
    except OSError:
        return ""


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _settings() -> dict[str, Setting]:
    """Settings of python and numpy."""
    found = {
        "the working directory": Setting(_directory, lambda folder: os.chdir(folder) if folder else None),
        "the environment": Setting(lambda: dict(os.environ), _put_environment),
        "python's recursion limit": Setting(sys.getrecursionlimit, sys.setrecursionlimit),
        "python's streams": Setting(_streams, _put_streams),
        "python's search for modules": Setting(
            lambda: (list(sys.path), list(sys.meta_path), list(sys.path_hooks)), _put_imports
        ),
        "python's tracing": Setting(_traced, _put_traced),
        "python's collection of garbage": Setting(gc.isenabled, lambda on: gc.enable() if on else gc.disable()),
        "limits of the process": Setting(_limits, _put_limits),
        "numpy's error handling": Setting(np.geterr, lambda errors: np.seterr(**errors)),
    }
    if _in_main_thread():
        found["python's signal handlers"] = Setting(_signals, _put_signals)
    return found


def _torch_settings() -> dict[str, Setting]:  # noqa: C901 - a list of settings, each with its own way
    """Settings of torch, where it is imported."""
    torch = sys.modules.get("torch")
    if torch is None:
        return {}
    backends = torch.backends

    def autocast() -> tuple[Any, ...]:
        kinds = [(torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)) for device in DEVICES]
        return (*kinds, torch.is_autocast_cache_enabled())

    def put_autocast(state: tuple[Any, ...]) -> None:
        for device, (enabled, dtype) in zip(DEVICES, state, strict=False):
            torch.set_autocast_enabled(device, enabled)
            torch.set_autocast_dtype(device, dtype)
        torch.set_autocast_cache_enabled(state[-1])

    def modes() -> tuple[Any, ...]:
        return tuple(torch.overrides._get_current_function_mode_stack())

    def put_modes(state: tuple[Any, ...]) -> None:
        torch.set_default_device(None)
        while torch._C._len_torch_function_stack():
            torch._C._pop_torch_function_stack()
        for mode in state:
            mode.__enter__()

    def put_inference(enabled: bool) -> None:
        guard = torch.inference_mode(enabled)
        guard.__enter__()
        _guards.append(guard)  # the mode is left when it is collected

    def flushes() -> bool:
        return not bool((torch.full((1,), 1e-310, dtype=torch.float64, device="cpu") * 1.0).any())

    def backend(name: str, owner: Any, attribute: str, at_start: Any) -> dict[str, Setting]:
        return {
            f"torch.backends.{name}.{attribute}": Setting(
                lambda: getattr(owner, attribute), lambda value: setattr(owner, attribute, value), at_start
            )
        }

    start = (*((False, torch.bfloat16 if device == "cpu" else torch.float16) for device in DEVICES), True)
    return {
        "torch's default device": Setting(modes, put_modes, ()),
        "torch's inference mode": Setting(torch.is_inference_mode_enabled, put_inference, at_start=False),
        "torch's default dtype": Setting(torch.get_default_dtype, torch.set_default_dtype, torch.float32),
        "torch's gradient mode": Setting(torch.is_grad_enabled, torch.set_grad_enabled, at_start=True),
        "torch's autocast": Setting(autocast, put_autocast, start),
        "torch's number of threads": Setting(torch.get_num_threads, torch.set_num_threads),
        "torch's anomaly detection": Setting(
            torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly, at_start=False
        ),
        "torch's deterministic algorithms": Setting(
            torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode, 0
        ),
        "torch's matrix precision": Setting(
            torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "highest"
        ),
        "torch's flushing of tiny numbers": Setting(flushes, torch.set_flush_denormal, at_start=False),
        **backend("mkldnn", backends.mkldnn, "enabled", True),
        **backend("cudnn", backends.cudnn, "enabled", True),
        **backend("cudnn", backends.cudnn, "benchmark", False),
        **backend("cudnn", backends.cudnn, "deterministic", False),
    }


class Settings:
    """Settings of the process at one moment; torch's as it starts, where it is not imported yet."""

    def __init__(self) -> None:
        self._values = {name: setting.read() for name, setting in (_settings() | _torch_settings()).items()}

    @classmethod
    def now(cls) -> Settings:
        """Settings at this moment."""
        return cls()

    def restore(self) -> tuple[str, ...]:
        """Bring them back; the names of those that had changed."""
        changed = []
        for name, setting in (_settings() | _torch_settings()).items():
            value = self._values.get(name, setting.at_start)
            if value is not None and setting.read() != value:
                changed.append(name)
                setting.put(value)
        return tuple(changed)

    def snapshot(self) -> dict[str, object]:
        """Name of each setting -> its value."""
        return dict(self._values)


@contextmanager
def kept_settings() -> Iterator[None]:
    """Whatever settings foreign code changes, they are as before afterwards."""
    settings = Settings.now()
    try:
        yield
    finally:
        settings.restore()


@contextmanager
def kept_process() -> Iterator[list[str]]:
    """Settings, and the code of the packages that results come from, are as before afterwards.

    The list names what had been changed, when the block has ended.
    """
    changed: list[str] = []
    code, settings, threads = Code(), Settings.now(), set(threading.enumerate())
    try:
        yield changed
    finally:
        changed += code.restore_builtins()
        changed += _ended(set(threading.enumerate()) - threads)  # before the rest: they could go on changing it
        changed += [*code.restore(), *settings.restore()]


def _ended(threads: set[threading.Thread]) -> list[str]:
    """End threads that foreign code left behind, as far as python can; their names."""
    left = [thread for thread in threads if thread.is_alive() and not thread.name.startswith(OUR_THREADS)]
    deadline = time.monotonic() + JOIN_SECONDS
    for thread in left:
        while thread.is_alive() and time.monotonic() < deadline:
            number = ctypes.c_ulong(thread.ident or 0)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(number, ctypes.py_object(SystemExit))
            thread.join(0.01)
    return [f"the thread {thread.name}" for thread in left]


@contextmanager
def told_interrupts() -> Iterator[None]:
    """An interrupt is the user's: one that foreign code swallows is raised at its end, one that it raises is an error.

    Raises
    ------
    MethodError
        When code raised ``KeyboardInterrupt`` and nobody had interrupted it.
    """
    handler = signal.getsignal(signal.SIGINT) if _in_main_thread() else None
    if handler is signal.SIG_IGN:  # in the background, where no user can interrupt
        try:
            yield
        except KeyboardInterrupt as error:
            raise MethodError(NOT_THEIRS) from error
        return
    if handler is not signal.default_int_handler:
        yield
        return
    interrupted = False

    def note(number: int, frame: Any) -> None:
        nonlocal interrupted
        interrupted = True
        signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, note)
    try:
        yield
    except KeyboardInterrupt as error:
        if interrupted:
            raise
        raise MethodError(NOT_THEIRS) from error
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if interrupted:
            raise KeyboardInterrupt


@contextmanager
def stdout_kept_free() -> Iterator[None]:
    """Whatever prints goes to stderr, other processes and C code included: stdout is for results."""
    with ExitStack() as stack:
        with suppress(OSError):  # where there is no file behind either
            sys.stdout.flush()
            kept = os.dup(STDOUT)
            stack.callback(os.close, kept)
            os.dup2(STDERR, STDOUT)
            stack.callback(os.dup2, kept, STDOUT)
        stack.enter_context(redirect_stdout(sys.stderr))
        yield
