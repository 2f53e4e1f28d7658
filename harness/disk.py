"""File operations that survive a crash, and the one place where tests make them fail.

A file counts when its digest is known and synced. `HARNESS_FAULT=<point>:<n>:<kind>` makes the n-th
operation of a process at a point (open, write, fsync, rename, unlink or any) fail: `kill`, `torn`
(half a write, then kill), `EIO` or `ENOSPC`.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

DISK_ERRORS: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}
NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
CHUNK: Final = 1 << 20
SEAL: Final = "seal"


@dataclass
class Fault:
    """The operation at which this process is to fail, and how many it has done so far."""

    point: str
    nth: int
    kind: str
    seen: int = 0

    @classmethod
    def asked_for(cls) -> Fault | None:
        """Return what HARNESS_FAULT asks for, if anything."""
        asked = os.environ.get("HARNESS_FAULT")
        if not asked:
            return None
        point, nth, kind = asked.split(":")
        return cls(point, int(nth), kind)

    def at(self, point: str) -> str | None:
        """Count an operation; return the kind of failure if this is the one that is to fail."""
        self.seen += self.point in (point, "any")
        return self.kind if self.point in (point, "any") and self.seen == self.nth else None


fault: Fault | None = Fault.asked_for()


def reach(point: str, path: Path) -> None:
    """Pass a point at which a test may have asked this process to fail."""
    kind = fault.at(point) if fault else None
    if kind is None:
        return
    if kind in ("kill", "torn"):
        os.kill(os.getpid(), signal.SIGKILL)
    code = getattr(errno, kind)
    raise OSError(code, os.strerror(code), str(path))


def make_folder(path: Path) -> None:
    """Make one folder, which may be there already; refuse a link in its place."""
    reach("open", path)
    try:
        path.mkdir()
    except FileExistsError:
        if not stat.S_ISDIR(path.lstat().st_mode):
            raise OSError(
                errno.ENOTDIR, "something other than a folder is in the way; remove it", str(path)
            ) from None


def write_new(path: Path, data: bytes, *, sync: bool = True) -> None:
    """Write a file that must not exist, links not followed, and sync it unless told not to."""
    reach("open", path)
    handle = os.open(path, NEW_FILE, 0o644)
    try:
        write_all(handle, path, data)
        if sync:
            reach("fsync", path)
            os.fsync(handle)
    finally:
        os.close(handle)


def write_all(handle: int, path: Path, data: bytes) -> None:
    """Write all of `data`; an error says how many bytes of how many were written."""
    kind = fault.at("write") if fault else None
    left = memoryview(data[: len(data) // 2] if kind == "torn" else data)
    try:
        if kind not in (None, "kill", "torn"):
            code = getattr(errno, str(kind))
            raise OSError(code, os.strerror(code))
        while left and kind != "kill":
            left = left[os.write(handle, left) :]
    except OSError as error:
        text = f"{error.strerror}, {len(data) - len(left):,} of {len(data):,} bytes written"
        raise OSError(error.errno, text, str(path)) from None
    if kind is not None:
        os.kill(os.getpid(), signal.SIGKILL)


def replace(path: Path, data: bytes, *, sync: bool = True) -> None:
    """Give a file new content in one step: readers see the old one or the new one."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
    fresh.unlink(missing_ok=True)
    write_new(fresh, data, sync=sync)
    rename(fresh, path)
    if sync:
        sync_folder(path.parent)


def rename(old: Path, new: Path) -> None:
    """Rename in one step; raises OSError if `new` is a folder that holds anything."""
    reach("rename", new)
    old.rename(new)


def link(old: Path, new: Path) -> bool:
    """Give a file a second name that must not exist; return whether we were the one to do it."""
    reach("open", new)
    try:
        os.link(old, new)
    except FileExistsError:
        return False
    return True


def unlink(path: Path) -> None:
    """Remove a file, which may be gone already."""
    reach("unlink", path)
    path.unlink(missing_ok=True)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    sync_file(path)


def sync_file(path: Path) -> None:
    """Make a file's content durable."""
    reach("fsync", path)
    handle = os.open(path, READ)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_tree(path: Path) -> None:
    """Remove a folder and all in it, links not followed; parts that are gone already are fine."""
    for folder, folders, files in os.walk(path, topdown=False):
        for name in [*files, *folders]:
            entry = Path(folder, name)
            reach("unlink", entry)
            try:
                if entry.is_dir() and not entry.is_symlink():
                    entry.rmdir()
                else:
                    entry.unlink()
            except FileNotFoundError:
                continue
    reach("unlink", path)
    if path.is_symlink():
        path.unlink(missing_ok=True)
    elif path.exists():
        path.rmdir()


def digest(path: Path) -> tuple[int, str]:
    """Return size in bytes and SHA-256 of a file; raises OSError for a link."""
    hasher, size = hashlib.sha256(), 0
    handle = os.open(path, READ)
    try:
        while chunk := os.read(handle, CHUNK):
            hasher.update(chunk)
            size += len(chunk)
    finally:
        os.close(handle)
    return size, hasher.hexdigest()


def files_in(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yield relative name and status of all but folders in a tree, sorted, links included."""
    found: list[tuple[str, os.stat_result]] = []
    for where, folders, names in os.walk(folder):
        linked = [name for name in folders if Path(where, name).is_symlink()]
        for name in [*names, *linked]:
            path = Path(where, name)
            found.append((path.relative_to(folder).as_posix(), path.lstat()))
    yield from sorted(found)


def inventory(folder: Path, *, sync: bool) -> dict[str, dict[str, Any]]:
    """Return {name: {size, sha256}} of a tree, made durable on the way if `sync`.

    Raises ValueError for anything that is neither a file nor a folder.
    """
    listed = {}
    for name, status in files_in(folder):
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{name} is not a plain file; links and devices are not kept")
        if sync:
            sync_file(folder / name)
        size, sha256 = digest(folder / name)
        listed[name] = {"size": size, "sha256": sha256}
    if sync:
        for where, _, _ in os.walk(folder, topdown=False):
            sync_folder(Path(where))
    return listed


def payload(files: dict[str, dict[str, Any]]) -> str:
    """Return the digest over the digests of files: equal payloads are equal bytes."""
    text = json.dumps({name: entry["sha256"] for name, entry in files.items()}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def differences(folder: Path, files: dict[str, dict[str, Any]], *, beside: str) -> list[str]:
    """Return how a folder differs from its inventory, to the byte; `beside` is the manifest."""
    problems = []
    there = {name: status for name, status in files_in(folder) if name != beside}
    for name in sorted(there.keys() | files.keys()):
        if name not in there:
            problems.append(f"{name} is missing")
        elif name not in files:
            problems.append(f"{name} is not in the manifest")
        elif not stat.S_ISREG(there[name].st_mode):
            problems.append(f"{name} is not a plain file")
        elif there[name].st_size != files[name]["size"]:
            problems.append(
                f"{name} has {there[name].st_size:,} bytes, not {files[name]['size']:,}"
            )
        elif digest(folder / name)[1] != files[name]["sha256"]:
            problems.append(f"{name} has other bytes than were committed")
    return problems


def sealed(record: dict[str, Any]) -> bytes:
    """Return a record as JSON that carries its own digest."""
    whole = {**record, SEAL: seal_of(record)}
    return (json.dumps(whole, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def seal_of(record: dict[str, Any]) -> str:
    """Return the digest of a record's content."""
    text = json.dumps(record, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def unsealed(path: Path) -> dict[str, Any] | None:
    """Return the record in a file, or None where it is missing, torn or altered."""
    try:
        handle = os.open(path, READ)
        with os.fdopen(handle, "rb") as file:
            record = json.loads(file.read())
        if not isinstance(record, dict) or record.pop(SEAL, None) != seal_of(record):
            return None
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    return record
