"""The processes that make artifacts, as the scheduler sees them: start a job, hear what it says."""

from __future__ import annotations

import importlib.metadata
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from harness.forkserver import ForkServer
from harness.worker import Job, make, to_line

Heard = tuple[Job, dict[str, Any]]
TAIL: Final = 4000  # characters of a log that explain a death
RESTARTS: Final = 3  # times a fork server is replaced before something is wrong with the machine


class Workers(Protocol):
    """Where jobs run. Every job that was started ends with exactly one message with an `end`."""

    @property
    def free(self) -> int:
        """How many jobs may be started now."""

    def start(self, job: Job, log: Path) -> None:
        """Start one job."""

    def wait(self, seconds: float) -> list[Heard]:
        """Return what the jobs said, waiting at most so long for the first word."""

    def stop(self, how: signal.Signals) -> None:
        """Ask every job to stop (SIGTERM), or end it (SIGKILL)."""

    def close(self) -> None:
        """End everything that still runs."""


@dataclass
class Worker:
    """One process at work, and what it has said so far."""

    job: Job
    number: int
    line: socket.socket
    log: Path
    said: bytes = b""
    end: dict[str, Any] | None = None
    stopped: bool = False
    kills_before: int = field(default_factory=lambda: oom_kills())

    def read(self) -> list[dict[str, Any]]:
        """Return what it said since, its end kept back until the process is gone."""
        while True:
            try:
                new = self.line.recv(1 << 16, socket.MSG_DONTWAIT)
            except (BlockingIOError, ConnectionResetError):
                break
            if not new:
                break
            self.said += new
        *lines, self.said = self.said.split(b"\n")
        messages = [json.loads(line) for line in lines]
        self.end = next((m for m in messages if "end" in m), self.end)
        return [message for message in messages if "end" not in message]

    def ended(self, code: int) -> dict[str, Any]:
        """Return its last word, or what its death says in its place."""
        if self.end is not None:
            return self.end
        if self.stopped:
            return {"end": "interrupted", "reason": "stopped before it had finished"}
        if code == -signal.SIGKILL and oom_kills() > self.kills_before:
            reason = "the kernel killed the worker: the machine ran out of memory"
            return {"end": "oom", "cause": "", "reason": reason, "traceback": tail(self.log)}
        if code < 0:
            reason = f"the worker was killed by {signal.Signals(-code).name}"
        else:
            reason = f"the worker ended with exit code {code} and without a word"
        return {"end": "failed", "cause": "error", "reason": reason, "traceback": tail(self.log)}


class Forked:
    """A fresh process per job, forked from a server that has paid for the imports."""

    def __init__(self, count: int, threads: int, preload: Iterable[str], log: Path) -> None:
        self.count = count
        self._threads = threads
        self._preload = frozenset(preload)
        self._log = log
        self._server: ForkServer | None = None
        self._started = 0
        self._busy: dict[int, Worker] = {}

    @property
    def free(self) -> int:
        """How many jobs may be started now."""
        return self.count - len(self._busy)

    def start(self, job: Job, log: Path) -> None:
        """Start one job; the first one starts the server, too."""
        if self._server is None:
            if self._started > RESTARTS:
                raise RuntimeError(f"the server of workers keeps dying; see {self._log}")
            self._server = ForkServer(self._preload, self._threads, self._log)
            self._started += 1
        ours, theirs = socket.socketpair()
        with theirs:
            number = self._server.fork(theirs, log)
        ours.sendall(to_line(job))
        self._busy[number] = Worker(job, number, ours, log)

    def wait(self, seconds: float) -> list[Heard]:
        """Return what the jobs said, waiting at most so long for the first word."""
        if self._server is None:
            time.sleep(seconds)
            return []
        lines = {worker.line: worker for worker in self._busy.values() if worker.end is None}
        ready, _, _ = select.select([self._server.line, *lines], [], [], seconds)
        heard: list[Heard] = []
        for line in ready:
            if line in lines:
                heard += [(lines[line].job, message) for message in lines[line].read()]
        if self._server.line not in ready:
            return heard
        try:
            exited = self._server.hear()
        except (RuntimeError, ConnectionResetError) as error:
            return heard + self._bury(str(error))
        for exit in exited:
            worker = self._busy.pop(exit.number)
            heard += [(worker.job, message) for message in worker.read()]
            heard.append((worker.job, worker.ended(exit.code)))
            worker.line.close()
        return heard

    def stop(self, how: signal.Signals) -> None:
        """Ask every job to stop (SIGTERM), or end it (SIGKILL)."""
        for worker in self._busy.values():
            worker.stopped = True
            if self._server is not None:
                self._server.kill(worker.number, how)

    def close(self) -> None:
        """End everything that still runs."""
        self.stop(signal.SIGKILL)
        if self._server is not None:
            self._server.close()
            self._server = None

    def _bury(self, reason: str) -> list[Heard]:
        """End the jobs of a server that died; the next job gets a new one."""
        dead = list(self._busy.values())
        self.close()
        self._busy.clear()
        heard: list[Heard] = []
        for worker in dead:
            heard += [(worker.job, message) for message in worker.read()]
            lost = {"end": "failed", "cause": "error", "reason": reason, "traceback": ""}
            heard.append((worker.job, worker.end or lost))
            worker.line.close()
        return heard


class Here:
    """Jobs run in this process, one at a time: for a debugger, and for tests of a stage's body."""

    def __init__(self) -> None:
        self._heard: deque[Heard] = deque()

    @property
    def free(self) -> int:
        """How many jobs may be started now."""
        return 0 if self._heard else 1

    def start(self, job: Job, log: Path) -> None:
        """Run one job to its end; what it prints is seen where it is run."""
        make(job, lambda message: self._heard.append((job, message)))

    def wait(self, seconds: float) -> list[Heard]:
        """Return what the job said."""
        if not self._heard:
            time.sleep(seconds)
        heard = list(self._heard)
        self._heard.clear()
        return heard

    def stop(self, how: signal.Signals) -> None:
        """Nothing runs while the scheduler could ask for this."""

    def close(self) -> None:
        """Nothing is left."""


def oom_kills() -> int:
    """Return how many processes the kernel has killed for want of memory; 0 where it cannot say."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


def tail(log: Path) -> str:
    """Return the end of a log."""
    try:
        return log.read_text(errors="replace")[-TAIL:]
    except OSError:
        return ""


def gpus() -> list[str]:
    """Return the GPUs that workers may use, as CUDA_VISIBLE_DEVICES names them; torch not asked."""
    try:
        if "+cpu" in importlib.metadata.version("torch"):
            return []
    except importlib.metadata.PackageNotFoundError:
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1")]
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    asked = [tool, "--query-gpu=index", "--format=csv,noheader"]
    said = subprocess.run(asked, capture_output=True, text=True, check=False)  # noqa: S603
    return said.stdout.split() if said.returncode == 0 else []


def cores() -> int:
    """Return how many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
