"""Claims: who may write an artifact, when several runs share a store.

A claim is a file `.claims/<id>.<generation>` that only one run can create. The highest generation
holds; a run takes over from a dead holder by creating the next one, so a takeover happens once, and
a holder that was only asleep finds itself superseded when it comes to commit. A holder is dead when

* it is on this host (same boot, same process namespace) and its process id is gone or belongs to a
  process that started at another time, or
* it is elsewhere and its heartbeat counter has not changed for EXPIRY seconds on our own clock:
  nobody else's clock is ever believed.

Nothing has to be unlocked by hand after a crash.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import subprocess
import threading
import time
import uuid
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from harness import disk

BEAT_EVERY = 5.0  # seconds between two beats of our counter
EXPIRY = 60.0  # seconds that another host's counter may stand still
NAME: Final = re.compile(r"(.+-[0-9a-f]{12})\.(\d+)")


class Superseded(RuntimeError):  # noqa: N818  (another run's success more than our error)
    """Raised in a late writer: another run has taken the artifact over."""


@dataclass(frozen=True)
class Holder:
    """A run that holds claims: where it is, which process, and the name of its heartbeat."""

    run: str
    host: str
    pid: int
    started: str

    def is_here(self) -> bool:
        """Say whether the holder is on this host, boot and process namespace."""
        return self.host == this_host()

    def is_alive(self) -> bool:
        """Say whether the process still runs; only meaningful if it is here."""
        return started_at(self.pid) == self.started


@dataclass(frozen=True)
class Claim:
    """The right of one run to write one artifact, until a higher generation exists."""

    folder: Path
    id: str
    generation: int
    nonce: str

    @property
    def path(self) -> Path:
        """The claim's file."""
        return self.folder / f"{self.id}.{self.generation}"

    def guard(self) -> None:
        """Raise Superseded unless this claim still holds."""
        newest = max(generations(self.folder).get(self.id, [0]))
        if newest != self.generation or read_nonce(self.path) != self.nonce:
            raise Superseded(f"{self.id} was taken over by another run; this one writes nothing")


class Claims:
    """The claims of one run on one store. The heart beats from the first claim until `close`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run = uuid.uuid4().hex[:12]
        self._beats_seen: dict[str, tuple[str, float]] = {}
        self._closed = threading.Event()
        self._heart: threading.Thread | None = None

    def take(self, id: str) -> Claim | None:
        """Return the claim on an artifact, or None while another run holds it."""
        self._start_heart()
        held = generations(self.folder).get(id, [])
        newest = max(held, default=0)
        before = self.folder / f"{id}.{newest}"
        nonce = read_nonce(before)
        if newest and not self.is_dead(before):
            return None
        claim = Claim(self.folder, id, newest + 1, uuid.uuid4().hex)
        fresh = self._temporary()
        text = json.dumps({"nonce": claim.nonce, **asdict(self.ourselves())})
        disk.write_new(fresh, text.encode(), sync=False)
        try:
            won = disk.link(fresh, claim.path)
        finally:
            disk.unlink(fresh)
        if won and read_nonce(before) != nonce:  # the dead one's heir has been and gone meanwhile
            self.release(claim)
            return None
        return claim if won else None

    def is_dead(self, path: Path) -> bool:
        """Say whether the holder of a claim is known to be dead, by the rules at the top."""
        holder = read_holder(path)
        if holder is not None and holder.run == self.run:
            return False
        if holder is not None and holder.is_here():
            return not holder.is_alive()
        beat = "" if holder is None else read_text(beat_of(self.folder, holder.run))
        key = f"{path} {holder.run if holder else ''}"
        seen, since = self._beats_seen.get(key, (None, 0.0))
        if seen != beat:
            self._beats_seen[key] = (beat, time.monotonic())
            return False
        return time.monotonic() - since > EXPIRY

    def release(self, claim: Claim) -> None:
        """Give a claim back, oldest generation first, so that no dead one ever seems to hold."""
        for generation in sorted(generations(self.folder).get(claim.id, [])):
            path = self.folder / f"{claim.id}.{generation}"
            if generation < claim.generation or read_nonce(path) == claim.nonce:
                disk.unlink(path)

    def sweep(self) -> None:
        """Remove what dead runs on this host left: by taking over, so that nobody is robbed."""
        for id, numbers in generations(self.folder).items():
            if died_here(self.folder / f"{id}.{max(numbers)}"):
                claim = self.take(id)
                if claim:
                    self.release(claim)
        for path in list(self.folder.iterdir()):
            if is_left(path):
                disk.unlink(path)

    def close(self) -> None:
        """Stop the heart and remove its counter."""
        self._closed.set()
        if self._heart is not None:
            self._heart.join()
            disk.unlink(beat_of(self.folder, self.run))

    def _start_heart(self) -> None:
        if self._heart is None:
            self._beat(0)
            self._heart = threading.Thread(target=self._keep_beating, daemon=True, name="heartbeat")
            self._heart.start()

    def _keep_beating(self) -> None:
        count = 0
        while not self._closed.wait(BEAT_EVERY):
            count += 1
            try:
                self._beat(count)
            except OSError:
                continue  # a full disk stops no heart: the next beat may succeed

    def _beat(self, count: int) -> None:
        text = json.dumps({"count": count, **asdict(self.ourselves())})
        fresh = self._temporary()
        disk.write_new(fresh, text.encode(), sync=False)
        disk.rename(fresh, beat_of(self.folder, self.run))

    def _temporary(self) -> Path:
        """Return a name that says whose it is, should we die before it gets its real one."""
        us = self.ourselves()
        return self.folder / f".{mark(us.host)}.{us.pid}.{us.started}.{uuid.uuid4().hex[:8]}.new"

    def ourselves(self) -> Holder:
        """Return how this run signs its claims and beats."""
        return Holder(self.run, this_host(), os.getpid(), started_at(os.getpid()))


def generations(folder: Path) -> dict[str, list[int]]:
    """Return the generations of every claim that there is."""
    found: dict[str, list[int]] = {}
    try:
        names = [entry.name for entry in folder.iterdir()]
    except FileNotFoundError:
        return found
    for name in names:
        if match := NAME.fullmatch(name):
            found.setdefault(match[1], []).append(int(match[2]))
    return found


def live_claims(folder: Path) -> set[str]:
    """Return the ids that are claimed and, as far as can be told at one glance, being made."""
    live = set()
    for id, numbers in generations(folder).items():
        if not died_here(folder / f"{id}.{max(numbers)}"):
            live.add(id)
    return live


def died_here(path: Path) -> bool:
    """Say whether a claim or beat is of a process of this host that is gone."""
    holder = read_holder(path)
    return holder is not None and holder.is_here() and not holder.is_alive()


def is_left(path: Path) -> bool:
    """Say whether a heartbeat or temporary file belongs to nobody any more."""
    if path.name.startswith("beat-"):
        return died_here(path)
    if not path.name.endswith(".new"):
        return False
    host, pid, started = (*path.name[1:].split("."), "", "", "")[:3]
    if host == mark(this_host()) and pid.isdigit():
        return started_at(int(pid)) != started
    return aged(path)


def mark(host: str) -> str:
    """Return a short digest of a host's name, for use in file names."""
    return hashlib.sha256(host.encode()).hexdigest()[:12]


def beat_of(folder: Path, run: str) -> Path:
    """Return the file that holds a run's heartbeat counter."""
    return folder / f"beat-{run}"


def read_text(path: Path) -> str:
    """Return a small file's text, empty where it is gone."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def read_nonce(path: Path) -> str:
    """Return the nonce of a claim, empty where it is gone or unreadable."""
    try:
        return str(json.loads(read_text(path))["nonce"])
    except (ValueError, KeyError, TypeError):
        return ""


def read_holder(path: Path) -> Holder | None:
    """Return who holds a claim, or None where it is gone or unreadable."""
    try:
        said = json.loads(read_text(path))
        return Holder(said["run"], said["host"], int(said["pid"]), said["started"])
    except (ValueError, KeyError, TypeError):
        return None


def aged(path: Path) -> bool:
    """Say whether a temporary file has stood for longer than any claim takes to make."""
    try:
        return time.time() - path.lstat().st_mtime > EXPIRY
    except OSError:
        return False


@lru_cache(maxsize=1)
def this_host() -> str:
    """Return a name for this host, boot and process namespace: within it, a pid means something."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()}/{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:  # not Linux
        asked = ["/usr/sbin/sysctl", "-n", "kern.bootsessionuuid"]
        boot = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()  # noqa: S603
        return f"{socket.gethostname()}/{boot}"


def started_at(pid: int) -> str:
    """Return when a process started, as the system says it; empty if there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return ""
    except ProcessLookupError:
        return ""
    asked = ["/bin/ps", "-o", "lstart=", "-p", str(pid)]
    said = subprocess.run(asked, capture_output=True, text=True, check=False).stdout  # noqa: S603
    return "-".join(said.split())
