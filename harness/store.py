"""The store: a folder per artifact, complete once its manifest is there and its digests hold.

    <id>/                 a committed artifact; manifest.json is written last, and sealed
    .drafts/<id>/         what is being made: an attempt, and checkpoints that survive it
    .claims/              who is making what; see `harness.claims`
    .failed/<id>.json     why it could not be made
    .quarantine/          what was found broken, with the reason beside it
    logs/<id>.log         what the stage printed, attempt after attempt

Existence is never evidence, a digest is. A commit is a rename onto a name that must not exist.
"""

from __future__ import annotations

import errno
import json
import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

from harness import disk
from harness.claims import Claim, Claims, Superseded, aged, died_here, is_left, live_claims
from harness.draft import MANIFEST, STEP, Checkpoints, ContractBroken
from harness.stage import Artifact

A = TypeVar("A", bound=Artifact)
ID: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,79}-[0-9a-f]{12}")
Entry = tuple[tuple[int, int, int], dict[str, Any] | None]


class StaleArtifact(Exception):  # noqa: N818  (a state of an artifact)
    """Raised for an artifact that was committed once and whose digests no longer hold."""

    def __init__(self, id: str, problems: list[str]) -> None:
        super().__init__(
            f"{id} is not what was committed: {'; '.join(problems)}. A run puts it aside and makes "
            "it again"
        )
        self.id = id
        self.problems = problems


@dataclass(frozen=True)
class Problem:
    """What `verify` found wrong with one artifact."""

    id: str
    reason: str

    def __str__(self) -> str:
        return f"{self.id}: {self.reason}"


class Store:
    """Artifacts under one root. Nothing is written, not even the root, before there is work."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root).resolve()
        self._manifests: dict[str, Entry] = {}

    def path(self, id: str) -> Path:
        """Return the folder of an artifact; raises ValueError for what is no artifact's id."""
        if not ID.fullmatch(id):
            raise ValueError(f"{id[:100]!r} is no artifact id (such as finetune-98f2c5dfc314)")
        return self.root / id

    def log(self, id: str) -> Path:
        """Return the file with what an artifact's stage printed."""
        return self.root / "logs" / f"{self.path(id).name}.log"

    def __contains__(self, wanted: object) -> bool:
        """Say whether an artifact, or an id, is committed and plausible: names and sizes, cheaply.

        An artifact made from other bytes than its inputs now hold is stale and counts as absent.
        """
        if not isinstance(wanted, str | Artifact):
            return False
        return not self.doubts(wanted if isinstance(wanted, str) else wanted.id)

    def doubts(self, id: str) -> list[str]:
        """Return why an artifact cannot be used as it stands, from names and sizes alone."""
        manifest = self.manifest(id)
        if manifest is None:
            exists = self.path(id).is_dir()
            return [f"its {MANIFEST} is missing, torn or altered" if exists else "never made"]
        doubts = []
        for name, entry in manifest["files"].items():
            try:
                size = (self.path(id) / name).lstat().st_size
            except OSError:
                doubts.append(f"{name} is missing")
                continue
            if size != entry["size"]:
                doubts.append(f"{name} has {size:,} bytes, not {entry['size']:,}")
        for needed, payload in manifest["inputs"].items():
            now = self.manifest(needed)
            if now is not None and now["payload"] != payload:
                doubts.append(f"it was made from other bytes of {needed} than are there now")
        return doubts

    def manifest(self, id: str) -> dict[str, Any] | None:
        """Return the manifest of an artifact, or None where it is absent, torn or altered."""
        file = self.path(id) / MANIFEST
        try:
            status = file.lstat()
        except OSError:
            return None
        key = (status.st_mtime_ns, status.st_size, status.st_ino)
        known = self._manifests.get(id)
        if known is None or known[0] != key:
            manifest = disk.unsealed(file)
            known = (key, manifest if manifest and manifest["id"] == id else None)
            self._manifests[id] = known
        return known[1]

    def manifests(self) -> dict[str, dict[str, Any]]:
        """Return every readable manifest by id."""
        found = {id: self.manifest(id) for id in self.ids()}
        return {id: manifest for id, manifest in found.items() if manifest is not None}

    def ids(self) -> list[str]:
        """Return the ids that have a folder, sorted, complete or not."""
        if not self.root.is_dir():
            return []
        return sorted(entry.name for entry in self.root.iterdir() if ID.fullmatch(entry.name))

    def failure(self, id: str) -> dict[str, Any] | None:
        """Return why an artifact could not be made: state, cause, reason, traceback, asked_at."""
        record = disk.unsealed(self.root / ".failed" / f"{self.path(id).name}.json")
        return None if record is None or id in self else record

    def claimed(self, id: str) -> bool:
        """Say whether some run is making the artifact now, as far as one glance can tell."""
        return self.path(id).name in live_claims(self.root / ".claims")

    def open(self, artifact: A) -> A:
        """Return an artifact bound to its folder, every byte checked; raises StaleArtifact."""
        problems = self.problems(artifact.id)
        if problems:
            raise StaleArtifact(artifact.id, problems)
        return artifact.at(self.path(artifact.id))

    def problems(self, id: str) -> list[str]:
        """Return how an artifact differs from what was committed, all bytes read."""
        manifest = self.manifest(id)
        if manifest is None:
            return self.doubts(id)
        return disk.differences(self.path(id), manifest["files"], beside=MANIFEST)

    def verify(self, ids: Iterable[str] | None = None) -> list[Problem]:
        """Return everything wrong with the given artifacts, or with all, every byte read."""
        problems = []
        for id in self.ids() if ids is None else ids:
            found = dict.fromkeys([*self.doubts(id), *self.problems(id)])
            problems += [Problem(id, reason) for reason in found]
        return problems

    def claims(self) -> Claims:
        """Return the claims of a new run, and make the folders that a run writes to."""
        self.root.mkdir(parents=True, exist_ok=True)
        for name in (".claims", ".drafts", ".failed", ".quarantine", "logs"):
            disk.make_folder(self.root / name)
        return Claims(self.root / ".claims")

    def begin(self, claim: Claim) -> Path:
        """Return a fresh folder for one attempt; whatever is not a named checkpoint is swept."""
        home = self.root / ".drafts" / self.path(claim.id).name
        disk.make_folder(home)
        for entry in sorted(home.iterdir()):
            if entry.name != "checkpoints" or entry.is_symlink():
                disk.remove_tree(entry)
        kept = home / "checkpoints"
        for entry in sorted(kept.iterdir()) if kept.is_dir() else []:
            if not STEP.fullmatch(entry.name):
                disk.remove_tree(entry)
        disk.make_folder(self.attempt(claim))
        return self.attempt(claim)

    def attempt(self, claim: Claim) -> Path:
        """Return the folder that the holder of a claim writes in; a late writer's is another."""
        return self.root / ".drafts" / self.path(claim.id).name / f"attempt-{claim.nonce[:12]}"

    def abandon(self, claim: Claim) -> None:
        """Remove what an attempt has left, to give its room back; checkpoints stay."""
        attempt = self.attempt(claim)
        if attempt.parent.is_dir():
            disk.remove_tree(attempt)
            if not any(attempt.parent.iterdir()):
                disk.remove_tree(attempt.parent)

    def checkpoints(self, claim: Claim) -> Checkpoints:
        """Return where the holder of a claim keeps the artifact's checkpoints."""
        folder = self.root / ".drafts" / self.path(claim.id).name / "checkpoints"
        return Checkpoints(folder, claim.guard, self.quarantine)

    def commit(
        self, attempt: Path, head: Mapping[str, Any], guard: Callable[[], None]
    ) -> dict[str, Any]:
        """Make an attempt the artifact `head["id"]`, durably and in one step; return its manifest.

        Raises ContractBroken for a draft with nothing, links or a manifest in it, and Superseded
        when another run has taken over or was first.
        """
        final = self.path(head["id"])
        if (attempt / MANIFEST).exists():
            raise ContractBroken(f"the stage wrote {MANIFEST}, which is the harness's")
        try:
            files = disk.inventory(attempt, sync=True)
        except ValueError as error:
            raise ContractBroken(f"{final.name}: {error}") from None
        if not files:
            raise ContractBroken(f"{final.name}: the stage wrote no file")
        manifest = {**head, "files": files, "payload": disk.payload(files), "made_at": now()}
        disk.write_new(attempt / MANIFEST, disk.sealed(manifest))
        disk.sync_folder(attempt)
        guard()
        if final.name in self:
            raise Superseded(f"{final.name} has been made by another run meanwhile")
        if final.is_symlink() or final.exists():
            self.quarantine(final, "; ".join(self.doubts(final.name)))
        try:
            disk.rename(attempt, final)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                raise Superseded(f"{final.name} was made by another run first") from None
            raise
        disk.sync_folder(self.root)
        self.forget(final.name)
        return manifest

    def fail(self, id: str, record: Mapping[str, Any]) -> None:
        """Keep the reason why an artifact could not be made."""
        file = self.root / ".failed" / f"{self.path(id).name}.json"
        disk.replace(file, disk.sealed({"id": id, "at": now(), **record}))

    def forget(self, id: str) -> None:
        """Remove the draft, its checkpoints and any failure of an artifact that is made."""
        disk.unlink(self.root / ".failed" / f"{self.path(id).name}.json")
        disk.remove_tree(self.root / ".drafts" / id)

    def sweep(self) -> None:
        """Remove what interrupted runs left behind; checkpoints of unfinished work stay."""
        live = live_claims(self.root / ".claims")
        for folder in sorted((self.root / ".drafts").iterdir()):
            if folder.name in live:
                continue
            if not ID.fullmatch(folder.name) or folder.name in self:
                disk.remove_tree(folder)
        for file in sorted((self.root / ".failed").iterdir()):
            if ID.fullmatch(file.stem) and file.suffix == ".json":
                if file.stem in self:
                    disk.unlink(file)
                elif disk.unsealed(file) is None and file.exists():
                    self.quarantine(file, "the failure record is torn or altered")
            elif aged(file):
                disk.unlink(file)

    def has_leftovers(self) -> bool:
        """Say whether a run that died left claims, or drafts of what is made by now."""
        claims, drafts = self.root / ".claims", self.root / ".drafts"
        if not claims.is_dir() or not drafts.is_dir():
            return False
        if any(died_here(path) or is_left(path) for path in claims.iterdir()):
            return True
        made = [entry.name for entry in drafts.iterdir() if ID.fullmatch(entry.name)]
        return any(id in self and not self.claimed(id) for id in made)

    def quarantine(self, path: Path, reason: str) -> Path:
        """Put something broken aside, with the reason beside it; return where it is now."""
        place = self.root / ".quarantine" / f"{path.name}.{uuid.uuid4().hex[:8]}"
        record = {"was": str(path.relative_to(self.root)), "reason": reason, "at": now()}
        disk.write_new(place.with_name(f"{place.name}.json"), json.dumps(record).encode())
        disk.rename(path, place)
        disk.sync_folder(place.parent)
        return place

    def remove(self, id: str) -> None:
        """Remove an artifact with its log and draft; raises RuntimeError while it is being made."""
        if self.claimed(id):
            raise RuntimeError(f"{id} is being made; stop that run first")
        trash = self.root / ".drafts" / f"removed.{uuid.uuid4().hex[:8]}"
        self.claims()
        if self.path(id).exists():
            disk.rename(self.path(id), trash)
            disk.sync_folder(self.root)
            disk.remove_tree(trash)
        self.forget(id)
        disk.unlink(self.log(id))


def now() -> str:
    """Return the time, in UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
