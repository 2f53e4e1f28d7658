"""Files of the hub at a commit, fetched into a folder and checked against the digests it states.

Only what is read is fetched: a model's safetensors, configuration and tokenizer, never a pickle; of
a dataset the files that the study's patterns name.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.local import DIGESTS, PICKLES, TEXTS, WEIGHTS
from harness.mirror import inside
from harness.plain_text import one_line
from harness.sources import COMMIT, Wanted, fits

if TYPE_CHECKING:
    from huggingface_hub.hf_api import DatasetInfo, ModelInfo

PAPERS = ("README.md", "LICENSE", "LICENSE.txt", "LICENSE.md")
CODE = ".py"  # is copied and never runs unless the study says remote_code = true


@dataclass(frozen=True)
class Remote:
    """A file as the hub lists it: its size in bytes, and its digest as LFS or as git has it."""

    name: str
    size: int
    sha256: str = ""
    git: str = ""


def resolve(wanted: Wanted) -> str:
    """Return the commit that a branch is at; raise ValueError with the remedy where it is none."""
    commit = str(info_of(wanted).sha)
    if not COMMIT.fullmatch(commit):
        raise ValueError(f"{wanted.key}: the hub answers {commit[:80]!r}, which is no commit")
    return commit


def fetch_model_or_dataset(
    wanted: Wanted, folder: Path, say: Callable[[str], None]
) -> tuple[list[str], str]:
    """Fetch what is read of a model or dataset; return the files' names and the licence.

    What is there with the right digest stays, and a file that was cut off goes on. Raises
    ValueError with the remedy for what cannot be had, and for names that would lead elsewhere.
    """
    info = info_of(wanted)
    files = chosen(wanted, [remote(sibling) for sibling in info.siblings or ()])
    for file in files:
        inside(folder, file.name)
    lacking = [file for file in files if not is_whole(folder, file)]
    size = sum(file.size for file in lacking)
    say(f"{wanted.key}: {len(lacking)} of {len(files)} files to fetch, {size:,} bytes")
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if size > free:
        raise ValueError(f"{wanted.key}: {size:,} bytes, and {folder} has {free:,} left; make room")
    for file in lacking:
        inside(folder, file.name).unlink(missing_ok=True)
        download(wanted, file, folder)
        if not is_whole(folder, file):
            inside(folder, file.name).unlink()
            raise ValueError(
                f"{wanted.key}: {file.name} came with other bytes than the hub states; the file "
                "was deleted, run the same command again"
            )
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # what the hub's client resumes by
    return [file.name for file in files], licence_of(info)


def info_of(wanted: Wanted) -> ModelInfo | DatasetInfo:
    """Return what the hub says of a model or dataset at a revision; ValueError with the remedy."""
    from huggingface_hub import HfApi

    api: Any = HfApi()
    try:
        found: ModelInfo | DatasetInfo = api.repo_info(
            wanted.name, repo_type=wanted.kind, revision=wanted.revision, files_metadata=True
        )
    except Exception as error:  # of the network, the hub or its client, in many libraries' types
        raise unavailable(wanted, error) from None
    return found


def download(wanted: Wanted, file: Remote, folder: Path) -> None:
    """Fetch one file, going on where a former try was cut off; the client shows its progress."""
    from huggingface_hub import hf_hub_download

    try:
        hf_hub_download(
            wanted.name,
            file.name,
            repo_type=wanted.kind,
            revision=wanted.revision,
            local_dir=folder,
        )
    except Exception as error:  # as above
        raise unavailable(wanted, error) from None


def unavailable(wanted: Wanted, error: Exception) -> ValueError:
    """Return the error that says what could not be fetched, why, and what to do."""
    why = f"{type(error).__name__}: {one_line(str(error))[:300]}"
    return ValueError(
        f"{wanted.key} could not be fetched ({why}). Check name and revision at {wanted.page}; "
        "where it is gated or private, accept its terms there and run `hf auth login`; "
        f"HF_HUB_OFFLINE must not be set. By hand: `{wanted.download} --local-dir FOLDER`, then "
        "write path = FOLDER in the study"
    )


def remote(sibling: Any) -> Remote:
    """Return a file of the hub's list."""
    lfs = sibling.lfs.sha256 if sibling.lfs else ""
    return Remote(sibling.rfilename, sibling.size or 0, lfs, "" if lfs else sibling.blob_id or "")


def chosen(wanted: Wanted, files: list[Remote]) -> list[Remote]:
    """Return the files that are read; raise ValueError where a model or a pattern has none."""
    if wanted.kind == "model":
        return of_model(wanted, files)
    found = [f for f in files if any(fits(f.name, pattern) for pattern in wanted.patterns)]
    for pattern in wanted.patterns:
        if not any(fits(file.name, pattern) for file in found):
            there = ", ".join(file.name for file in files[:8]) or "no files"
            raise ValueError(f"{wanted.key} has no file {pattern}; it has {there}")
    papers = [file for file in files if file.name in PAPERS and file not in found]
    return [*found, *papers]


def of_model(wanted: Wanted, files: list[Remote]) -> list[Remote]:
    """Return what a model is loaded from; raise ValueError for one whose weights are pickles."""
    top = [file for file in files if "/" not in file.name]
    if not any(file.name.endswith(WEIGHTS[0]) for file in top):
        pickles = [file.name for file in top if file.name.endswith(PICKLES)]
        has = f"its weights in {', '.join(pickles)}" if pickles else "no *.safetensors file"
        raise ValueError(
            f"{wanted.key} has {has}, and loading a pickle runs code from it. Convert it where you "
            "trust it: AutoModelForCausalLM.from_pretrained(NAME).save_pretrained(FOLDER) writes "
            "safetensors; then write path = FOLDER in the study"
        )
    return [f for f in top if f.name.endswith((*WEIGHTS, *TEXTS, CODE)) or f.name in PAPERS]


def is_whole(folder: Path, file: Remote) -> bool:
    """Say whether a file is there with the bytes that the hub states."""
    here = inside(folder, file.name)
    if not here.is_file() or here.stat().st_size != file.size:
        return False
    if file.sha256:
        return DIGESTS.of(here) == file.sha256
    return not file.git or git_digest(here) == file.git


def git_digest(path: Path) -> str:
    """Return the SHA-1 by which git knows a file's bytes."""
    content = path.read_bytes()
    said = b"blob %d\0" % len(content)
    return hashlib.sha1(said + content, usedforsecurity=False).hexdigest()


def licence_of(info: ModelInfo | DatasetInfo) -> str:
    """Return the licence that the hub states, or "unknown"."""
    tags = [tag.removeprefix("license:") for tag in info.tags or () if tag.startswith("license:")]
    return ", ".join(tags) or "unknown"
