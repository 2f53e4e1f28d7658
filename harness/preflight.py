"""See before any work that what a study reads is there with the bytes it should have.

That it is there, planning has seen. Bytes are read anew, since a remembered digest says nothing of
what a disk has done to them since, and compared with a mirror's manifest, or with the digest
by which the hub's cache names a file; other local files have no digest but the one planned with.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from harness.hub_files import git_digest
from harness.local import file_digest, model_files
from harness.mirror import MANIFEST, Mirror
from harness.study import Study
from harness.study_sources import inputs_of, is_brought

AGAIN = "copy the mirror again, or prepare it again where there is a network"
SHA256 = re.compile(r"[0-9a-f]{64}")
SHA1 = re.compile(r"[0-9a-f]{40}")


def preflight(study: Study) -> list[str]:
    """Return a line for each file that a study reads and that is damaged, lost or not listed."""
    files = list(files_read(study))
    mirror = study.search.mirror
    if mirror is None:
        return [problem for file in files if (problem := cached(file))]
    listed: dict[Path, str] = {}
    problems = []
    for one in mirror.kept.values():
        own = {file.resolve(): sha256 for file, sha256 in mirror.files(one)}
        listed |= own
        if any(file in own for file in files):
            lost = [file for file in own if not file.is_file()]
            problems += [f"{file} is missing, and {MANIFEST} lists it; {AGAIN}" for file in lost]
    return problems + [problem for file in files if (problem := mirrored(file, mirror, listed))]


def files_read(study: Study) -> Iterator[Path]:
    """Yield every file that a study reads and the program does not bring, links followed."""
    for one in inputs_of(study):
        path = Path(one.path)
        if is_brought(path):
            continue
        for file in model_files(path) if one.is_model else [path]:
            yield file.resolve()


def mirrored(file: Path, mirror: Mirror, listed: dict[Path, str]) -> str:
    """Return what is wrong with a file by a mirror's manifest, "" for nothing."""
    if not file.is_relative_to(mirror.root.resolve()):
        return (
            f"{file} is read and lies outside of the mirror {mirror.root}; where there is a "
            "network, prepare the study again with the same options"
        )
    if file not in listed:
        return f"{file} is not in {MANIFEST}: it is no part of the mirror; delete it"
    found = file_digest(file)
    if found == listed[file]:
        return ""
    said = listed[file][:12]
    return f"{file} has changed: sha256 {found[:12]}, and {MANIFEST} says {said}; {AGAIN}"


def cached(file: Path) -> str:
    """Return what is wrong with a file of the hub's cache by its name there, "" for nothing."""
    if file.parent.name != "blobs":
        return ""
    if SHA256.fullmatch(file.name):
        found = file_digest(file)
    elif SHA1.fullmatch(file.name):
        found = git_digest(file)
    else:
        return ""
    if found == file.name:
        return ""
    return (
        f"{file} is damaged: its digest is {found[:12]}, and the hub's cache has it as "
        f"{file.name[:12]}; delete it and fetch it again"
    )
