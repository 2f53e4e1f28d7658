"""A mirror: one folder that holds all a study reads, with a manifest, for machines without network.

    DIR/mirror.json                   what is there: files, sizes, SHA-256, commits, licences
    DIR/models/ORG--NAME/COMMIT/      what a model is loaded from
    DIR/datasets/ORG--NAME/COMMIT/    the files of a dataset that the study reads
    DIR/paths/NAME-DIGEST/            copies of what the study names by a path: rows, models, rules

Files are plain files, without links, so that any copy of the folder is a mirror too.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from harness.local import DIGESTS, file_digest
from harness.study_file import InputError

MANIFEST = "mirror.json"
FOLDERS = {"model": "models", "dataset": "datasets"}
SLUG = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True)
class Kept:
    """One input in a mirror: what it is, where it lies below the mirror, and its files' digests.

    `revision` is a commit, and "" for what a study names by path, whose name is that path. `files`
    maps names in `folder` to size in bytes and SHA-256; of a dataset all that fit `patterns`.
    """

    kind: str
    name: str
    revision: str
    folder: str
    licence: str = "unknown"
    patterns: tuple[str, ...] = ()
    files: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Kind, name and revision in one line."""
        return key_of(self.kind, self.name, self.revision)


@dataclass
class Mirror:
    """A mirror as its manifest lists it; `keep` adds to it and writes the manifest."""

    root: Path
    kept: dict[str, Kept] = field(default_factory=dict)
    commits: dict[str, str] = field(default_factory=dict)
    paths: dict[str, str] = field(default_factory=dict)

    @classmethod
    def open(cls, root: Path) -> Mirror:
        """Return the mirror in a folder; raise InputError where there is none, or a broken one."""
        file = root / MANIFEST
        try:
            said = json.loads(file.read_text(encoding="utf-8"))
            items = [{**item, "patterns": tuple(item["patterns"])} for item in said["kept"]]
            kept = [Kept(**item) for item in items]
            found = cls(root, {one.key: one for one in kept}, said["commits"], said["paths"])
        except FileNotFoundError:
            raise InputError(
                f"{root.absolute()} is no mirror: it has no {MANIFEST}. Where there is a network, "
                "`run_matrix.py prepare STUDY --to DIR` makes one"
            ) from None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"{file} is not what `prepare` writes ({error}); prepare again"
            ) from None
        for name in (*(one.folder for one in kept), *found.paths.values()):
            inside(root, name)
        for one in kept:
            for name in one.files:
                inside(root / one.folder, name)
        return found

    def folder_of(self, kind: str, name: str, commit: str) -> Path:
        """Return where a commit of a model or dataset lies, whether it is there or not."""
        return self.root / FOLDERS[kind] / name.replace("/", "--") / commit

    def commit_of(self, key: str) -> str | None:
        """Return the commit that a branch was pinned to when the mirror was made."""
        return self.commits.get(key)

    def copy_of(self, written: str) -> Path | None:
        """Return the copy of what a study names by a path, if there is one."""
        return self.root / self.paths[written] if written in self.paths else None

    def files(self, one: Kept) -> Iterator[tuple[Path, str]]:
        """Yield the files of an input as the manifest lists them, with their SHA-256."""
        for name, about in one.files.items():
            yield self.root / one.folder / name, str(about["sha256"])

    def damaged(self) -> dict[Path, str]:
        """Return the files that are missing or have other bytes, each with its input's key."""
        return {
            file: key
            for key, one in self.kept.items()
            for file, sha256 in self.files(one)
            if not file.is_file() or file_digest(file) != sha256
        }

    def keep(self, one: Kept) -> None:
        """Add an input, or files of one, and write the manifest; whole or not at all."""
        before = self.kept.get(one.key)
        files = {**(before.files if before else {}), **one.files}
        patterns = {*(before.patterns if before else ()), *one.patterns}
        self.kept[one.key] = replace(
            one, files=dict(sorted(files.items())), patterns=tuple(sorted(patterns))
        )
        self.write()

    def write(self) -> None:
        """Write the manifest, so that a crash leaves the old one or the new one."""
        said = {
            "schema": 1,
            "kept": [asdict(self.kept[key]) for key in sorted(self.kept)],
            "commits": dict(sorted(self.commits.items())),
            "paths": dict(sorted(self.paths.items())),
        }
        write_whole(self.root / MANIFEST, json.dumps(said, indent=1) + "\n")


def key_of(kind: str, name: str, revision: str) -> str:
    """Return kind, name and revision in one line."""
    return f"{kind} {name}@{revision}"


def write_whole(file: Path, text: str) -> None:
    """Write a text file so that a crash leaves the old one or the new one."""
    part = file.with_name(f"{file.name}.{os.getpid()}.part")
    with part.open("w", encoding="utf-8") as written:
        written.write(text)
        written.flush()
        os.fsync(written.fileno())
    part.replace(file)


def slot(written: str) -> str:
    """Return the folder, below a mirror, of the copy of a path that a study names."""
    slug = SLUG.sub("-", PurePosixPath(written).name.lower()).strip("-")[:40] or "path"
    return f"paths/{slug}-{hashlib.sha256(written.encode()).hexdigest()[:8]}"


def inside(root: Path, name: str) -> Path:
    """Return a file below a folder by a relative name; raise InputError for one that leads out."""
    parts = PurePosixPath(name).parts
    bad = not parts or name.startswith("/") or ".." in parts or "\\" in name or "\0" in name
    if bad:
        raise InputError(f"{name!a} is no file below {root}: it leads out of that folder")
    return root.joinpath(*parts)


def listed(folder: Path, files: list[str]) -> dict[str, dict[str, Any]]:
    """Return size and SHA-256 of files of a folder, as a manifest has them."""
    return {
        name: {
            "size": inside(folder, name).stat().st_size,
            "sha256": DIGESTS.of(inside(folder, name)),
        }
        for name in files
    }
