"""Local files and folders as inputs: known by the SHA-256 of their bytes, wherever they lie."""

from __future__ import annotations

import hashlib
import json
import os
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

BLOCK = 1 << 22
WEIGHTS = (".safetensors", ".safetensors.index.json")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack")
TEXTS = (".json", ".txt", ".model", ".jinja")  # configuration, tokenizer, template, merges


@dataclass(frozen=True)
class LocalFile:
    """A file by its digest. The path is where it was found and enters no id."""

    sha256: str
    path: str = field(compare=False)

    def checked(self) -> Path:
        """Return the path after hashing the file anew; raise ValueError when its bytes changed."""
        check_digest(self.path, self.sha256, file_digest(Path(self.path)))
        return Path(self.path)


@dataclass(frozen=True)
class LocalFolder:
    """A model folder by the digest over what a model is loaded from; see `model_files`."""

    sha256: str
    path: str = field(compare=False)

    def checked(self) -> Path:
        """Return the path after hashing its files anew; raise ValueError when bytes changed."""
        digests = {f.name: file_digest(f) for f in model_files(Path(self.path))}
        check_digest(self.path, self.sha256, digest_over(digests))
        return Path(self.path)


Found = TypeVar("Found", LocalFile, LocalFolder)
# What is looked up while a study is planned, by path: two names of equal bytes are two of them.
READ: ContextVar[dict[str, LocalFile | LocalFolder] | None] = ContextVar("READ", default=None)


def noted(found: Found) -> Found:
    """Return a file or folder, having noted it where a study is planned."""
    read = READ.get()
    if read is not None:
        read[found.path] = found
    return found


class Digests:
    """SHA-256 digests of files, remembered by path, size, modification time and inode.

    A remembered digest is for planning: whoever reads a file hashes it anew (`checked`).
    """

    def __init__(self) -> None:
        self.known: dict[str, str] = {}
        self.kept: dict[str, str] = {}

    def recall(self, file: Path) -> None:
        """Take up the digests that an earlier process kept in a file, if it is there."""
        try:
            self.kept = dict(json.loads(file.read_text()))
        except (OSError, ValueError, TypeError):
            return  # no file, or a torn one: that costs a hash, never an answer
        self.known |= self.kept

    def of(self, path: Path) -> str:
        """Return the digest of a file, hashing it unless this very file was hashed before."""
        stat = path.stat()
        key = f"{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}|{stat.st_ino}"
        if key not in self.known:
            self.known[key] = file_digest(path)
        return self.known[key]

    def keep(self, file: Path) -> None:
        """Write the digests to a file, whole or not at all; nothing where it has them already."""
        if self.known == self.kept:
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh = file.with_suffix(f".{os.getpid()}.part")
        fresh.write_text(json.dumps(self.known, sort_keys=True))
        fresh.replace(file)
        self.kept = dict(self.known)


DIGESTS = Digests()  # of this process
REMEMBERED = ".digests.json"  # in the store's folder


def local_file(path: str | Path, digests: Digests = DIGESTS) -> LocalFile:
    """Return a local file by its digest; raise FileNotFoundError naming the absolute path."""
    found = Path(path).expanduser()
    if not found.is_file():
        raise FileNotFoundError(f"no file {found.absolute()}; give the path of an existing file")
    return noted(LocalFile(digests.of(found), str(lying(found))))


def lying(path: Path) -> Path:
    """Return where a file or folder lies: links of folders followed, a file's own link not.

    The hub's cache keeps `rows.jsonl` as a link to a file that is named by its digest, and what
    kind of rows a file has is known by its name.
    """
    return path.resolve() if path.is_dir() else path.parent.resolve() / path.name


def local_folder(path: str | Path, digests: Digests = DIGESTS) -> LocalFolder:
    """Return a model folder by its digest; raise for a missing one or one without safetensors."""
    found = Path(path).expanduser()
    if not found.is_dir():
        raise FileNotFoundError(f"no folder {found.absolute()}; give the path of a model folder")
    names = {file.name: digests.of(file) for file in model_files(found)}
    return noted(LocalFolder(digest_over(names), str(found.resolve())))


def model_files(folder: Path) -> list[Path]:
    """Return the files a model is loaded from, sorted by name: weights, configuration, tokenizer.

    Raises FileNotFoundError without config.json, and ValueError for weights in pickles alone, since
    unpickling runs code.
    """
    files = sorted(file for file in folder.iterdir() if file.is_file())
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder} is no model folder: it has no config.json")
    if not any(file.name.endswith(WEIGHTS[0]) for file in files):
        pickles = [file.name for file in files if file.name.endswith(PICKLES)]
        if pickles:
            raise ValueError(
                f"{folder} has its weights in {', '.join(pickles)}, and loading a pickle runs code "
                "from it. Convert it where you trust it: "
                "AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER) writes "
                "safetensors"
            )
        raise FileNotFoundError(f"{folder} has no weights: no *.safetensors file")
    return [file for file in files if file.name.endswith((*WEIGHTS, *TEXTS))]


def digest_over(digests: dict[str, str]) -> str:
    """Return one digest over named digests."""
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()


def weights_digest(folder: Path) -> str:
    """Return the digest over the weight files alone, as an adapter records its parent's."""
    files = [file for file in folder.iterdir() if file.name.endswith(WEIGHTS)]
    return digest_over({file.name: file_digest(file) for file in files})


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def check_digest(path: str, planned: str, found: str) -> None:
    """Raise ValueError with both digests when the bytes are not those that were planned with."""
    if planned != found:
        raise ValueError(
            f"{path} has changed since the study was planned: sha256 {found[:12]}, planned with "
            f"{planned[:12]}. Run again to plan with the new content"
        )
