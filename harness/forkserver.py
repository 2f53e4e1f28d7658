"""A process that has imported what stages need, and forks a fresh worker for each artifact.

Why not `multiprocessing`: its children import the caller's main module again, its preloading
swallows import errors, it does not say how a child died, and its children outlive a scheduler that
was killed. This one preloads loudly, reports wait status and peak memory, and kills every worker's
process group when the scheduler's end of the line closes. It never touches CUDA.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

# Packages load much of themselves on first use of a name, so names are what is preloaded.
PRELOAD: Final[dict[str, tuple[str, ...]]] = {
    "torch": ("nn",),
    "transformers": ("AutoModelForCausalLM", "AutoTokenizer", "Trainer"),
    "datasets": ("Dataset",),
    "peft": ("PeftModel",),
    "trl": ("SFTTrainer", "RewardTrainer", "DPOTrainer"),
}
OURS: Final = ("pydantic", "harness.worker", "harness.registry")


@dataclass(frozen=True)
class Exited:
    """How a worker ended: exit code or minus the signal, as the kernel said it."""

    number: int
    code: int


class ForkServer:
    """The scheduler's end: asks for workers, hears of their ends. Starts when it is made."""

    def __init__(self, preload: Iterable[str], threads: int, log: Path) -> None:
        self.log = log
        self.asked = 0
        self._pids: dict[int, int] = {}
        self._heard = b""
        self.line, theirs = socket.socketpair()
        code = (
            f"from harness.forkserver import serve; serve({theirs.fileno()}, {sorted(preload)!r})"
        )
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        said = os.open(log, flags, 0o644)
        try:
            self.process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-c", code],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                env=environment(threads),
                start_new_session=True,
            )
        finally:
            os.close(said)
            theirs.close()

    def fork(self, line: socket.socket, log: Path) -> int:
        """Ask for a worker that talks over `line` and prints to `log`; return its number."""
        said = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o644)
        try:
            socket.send_fds(self.line, [b"f"], [line.fileno(), said])
        finally:
            os.close(said)
        self.asked += 1
        return self.asked - 1

    def hear(self) -> list[Exited]:
        """Return the workers that ended since; raises RuntimeError when the server itself did."""
        said = self.line.recv(1 << 16)
        if not said:
            tail = self.log.read_text(errors="replace")[-2000:] if self.log.is_file() else ""
            raise RuntimeError(f"the server of workers ended ({self.process.wait()}): {tail}")
        *lines, self._heard = (self._heard + said).split(b"\n")
        exited = []
        for message in map(json.loads, lines):
            if "forked" in message:
                self._pids[message["forked"]] = message["pid"]
            else:
                exited.append(Exited(message["exited"], message["code"]))
                self._pids.pop(message["exited"], None)
        return exited

    def kill(self, number: int, how: signal.Signals) -> None:
        """Send a signal to a worker: SIGTERM to itself, SIGKILL to all it has started."""
        pid = self._pids.get(number)
        if pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                (os.killpg if how == signal.SIGKILL else os.kill)(pid, how)

    def close(self) -> None:
        """End the server and every worker that still runs."""
        self.line.close()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def environment(threads: int) -> dict[str, str]:
    """Return the environment of workers: threads set before any library counts them."""
    counted = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
    return {
        **os.environ,
        **dict.fromkeys(counted, str(threads)),
        "OMP_WAIT_POLICY": "passive",
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }


def serve(number: int, preload: list[str]) -> None:
    """Be the server: preload, then fork a worker per request until the scheduler's end closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    line = socket.socket(fileno=number)
    warm(preload)
    wake, woken = socket.socketpair()
    wake.setblocking(False)
    woken.setblocking(False)
    signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    gc.freeze()  # what is shared is not touched by a worker's collections, so it stays shared
    children: dict[int, int] = {}
    asked = 0
    with selectors.DefaultSelector() as events:
        events.register(line, selectors.EVENT_READ)
        events.register(woken, selectors.EVENT_READ)
        while True:
            for key, _ in events.select():
                if key.fileobj is woken:
                    woken.recv(4096)
                    report_exits(line, children)
                    continue
                received, handles, _, _ = socket.recv_fds(line, 1, 2)
                if not received:
                    kill_all(children)
                    return
                pid = fork_worker(handles, [line, wake, woken])
                children[pid] = asked
                tell(line, {"forked": asked, "pid": pid})
                asked += 1


def warm(preload: list[str]) -> None:
    """Import what workers will need, so that none of them pays for it."""
    for package, names in PRELOAD.items():
        if package in preload:
            module = importlib.import_module(package)
            for name in names:
                getattr(module, name)
    for module_name in OURS:
        importlib.import_module(module_name)
    try:
        importlib.import_module("harness.rebuild").discover_installed()
    except Exception:  # a broken plugin fails where a stage needs it, with its own log
        traceback.print_exc()
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        raise RuntimeError("a preloaded library has touched CUDA, which no worker could use then")


def fork_worker(handles: list[int], ours: list[socket.socket]) -> int:
    """Fork; the child becomes a worker and never returns. Return its process id."""
    pid = os.fork()
    if pid:
        for handle in handles:
            os.close(handle)
        return pid
    code = 1
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for end in ours:
            end.close()
        os.dup2(handles[1], 1)
        os.dup2(handles[1], 2)
        os.close(handles[1])
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        faulthandler.enable(file=2)
        from harness.worker import serve_one

        serve_one(socket.socket(fileno=handles[0]))
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def report_exits(line: socket.socket, children: dict[int, int]) -> None:
    """Tell the scheduler of every worker that has ended, and end what it left running."""
    while children:
        pid, status, _ = os.wait4(-1, os.WNOHANG)
        if not pid:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
        tell(line, {"exited": children.pop(pid), "code": os.waitstatus_to_exitcode(status)})


def kill_all(children: dict[int, int]) -> None:
    """Kill every worker with all it has started: nobody is left to commit for."""
    for pid in children:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)


def tell(line: socket.socket, message: dict[str, int]) -> None:
    """Tell the scheduler something, unless it is gone."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        line.sendall(json.dumps(message).encode() + b"\n")
