"""Stages that need nothing but Python, some well-behaved and some made to misbehave."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from harness.draft import ContractBroken, Diverged, Draft
from harness.stage import Artifact, stage


class Toy(Artifact):
    """A number in a file."""

    @property
    def number(self) -> int:
        return int(json.loads((self.path / "number.json").read_text()))


@dataclass(frozen=True)
class Weighing:
    """A setting that holds an artifact."""

    scale: Toy
    factor: float = 1.0


def write(out: Draft, number: int) -> None:
    (out / "number.json").write_text(json.dumps(number))


@stage(makes=Toy)
def source(out: Draft, *, number: int) -> None:
    """Write a number and a folder beside it."""
    (out / "nested").mkdir()
    (out / "nested" / "note.txt").write_text("beside the number\n" * 3)
    write(out, number)
    out.add(numbers_written=1)


@stage(makes=Toy)
def add(out: Draft, left: Toy, right: Toy, *, bonus: int = 0) -> None:
    """Write the sum of two numbers."""
    print(f"adding {left.number} and {right.number}")
    write(out, left.number + right.number + bonus)


@stage(makes=Toy)
def weigh(out: Draft, toys: tuple[Toy, ...], *, by: Weighing, names: tuple[str, ...] = ()) -> None:
    """Write a weighted sum, to see every shape of argument arrive."""
    assert isinstance(toys, tuple)
    assert isinstance(by.scale, Toy)
    assert isinstance(by.factor, float)
    assert all(isinstance(name, str) for name in names)
    write(out, int(sum(toy.number for toy in toys) * by.factor) + by.scale.number)


@stage(makes=Toy)
def slow(out: Draft, *, number: int, seconds: float) -> None:
    """Take a while, without checkpoints."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        out.progress("waiting", time.monotonic(), until)
        time.sleep(0.02)
    write(out, number)


@stage(makes=Toy)
def walk(out: Draft, *, steps: int, every: int, seed: int, pause: float = 0.0) -> None:
    """Walk a generator modulo 2^61 - 1, a checkpoint every so many steps; die where asked to.

    The file beside the plugin, `die-at`, holds the step at which the process kills itself, once.
    """
    state, start = seed, 0
    found = out.resume()
    if found:
        state, start = json.loads((found.path / "state.json").read_text())
        assert (found.path / "extra" / "moments.bin").stat().st_size == 64
    for step in range(start + 1, steps + 1):
        out.progress("walk", step, steps)
        state = (state * 6364136223846793005 + 1442695040888963407) % (2**61 - 1)
        out.add(steps_walked=1)
        time.sleep(pause)
        die_if_asked(step)
        if step % every == 0 and step < steps:
            out.save(step, lambda folder, at=(state, step): keep(folder, at))
    write(out, state)


def keep(folder: Path, at: tuple[int, int]) -> None:
    (folder / "state.json").write_text(json.dumps(at))
    (folder / "extra").mkdir()
    (folder / "extra" / "moments.bin").write_bytes(bytes(range(64)))


def die_if_asked(step: int) -> None:
    asked = os.environ.get("TOY_DIE_AT")
    if asked and Path(asked).is_file() and int(Path(asked).read_text()) == step:
        Path(asked).unlink()
        os.kill(os.getpid(), signal.SIGKILL)


@stage(makes=Toy)
def misbehave(out: Draft, *, how: str, seed: int) -> None:
    """Fail in the way asked for."""
    print(f"about to {how}", flush=True)
    (out / "half.bin").write_bytes(b"half")
    if how == "raise":
        raise ValueError("the toy broke " + "x" * 50_000)
    if how == "diverge":
        raise Diverged("loss is nan at step 3; last finite value 2.5 at step 2")
    if how == "break contract":
        raise ContractBroken("wrote 3 of 4 samples")
    if how == "run out of memory":
        raise MemoryError
    if how == "fill the disk":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(out / "big.bin"))
    if how == "exit":
        os._exit(7)
    if how == "leave":
        sys.exit("the toy left")
    if how == "write nothing":
        (out / "half.bin").unlink()
    if how == "link":
        (out / "link").symlink_to("/etc/hostname")
    if how == "write a manifest":
        (out / "manifest.json").write_text("{}")
    if how.startswith("SIG"):
        os.kill(os.getpid(), getattr(signal, how))
        time.sleep(10)


@stage(makes=Toy)
def big(out: Draft, *, megabytes: int) -> None:
    """Write zeros, a megabyte at a time."""
    with (out / "zeros.bin").open("wb") as file:
        for _ in out.track(range(megabytes), "megabytes"):
            file.write(bytes(1 << 20))


@stage(makes=Toy)
def environment(out: Draft, *, seed: int) -> None:
    """Write what a worker sees of itself."""
    seen = {
        "modules": [name for name in ("torch", "trl", "pandas") if name in sys.modules],
        "threads": os.environ["OMP_NUM_THREADS"],
        "wait": os.environ["OMP_WAIT_POLICY"],
        "pid": os.getpid(),
        "group": os.getpgid(0),
    }
    (out / "seen.json").write_text(json.dumps(seen))
