"""Where the inputs of a study are looked for: a mirror, or the hub's cache on this machine.

Planning looks up models, datasets and benchmarks by name and commit. Nothing is fetched by that. A
study's search notes what is not there and goes on, so that all of it is said at once; outside of a
study the first missing input is an error.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

from harness.local import READ, LocalFile, LocalFolder

if TYPE_CHECKING:
    from harness.mirror import Mirror

Kind = Literal["model", "dataset", "benchmark"]

HUB_NAME = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9_.-]*/)?[A-Za-z0-9][A-Za-z0-9_.-]*")
COMMIT = re.compile(r"[0-9a-f]{40}")
BRANCH = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*(?:/[A-Za-z0-9][A-Za-z0-9_.-]*)*")
CACHED = {"model": "models", "dataset": "datasets"}
PROOF = {"model": "config.json", "dataset": "."}  # what a folder has that holds one


@dataclass(frozen=True)
class Wanted:
    """An input by kind and name: a model or dataset at a revision, or a benchmark of a folder.

    `patterns` are the files of a dataset that are read; all that a model needs is known.
    """

    kind: Kind
    name: str
    revision: str = ""
    patterns: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Kind, name and revision in one line, as mirrors and locks list it."""
        from harness.mirror import key_of

        return key_of(self.kind, self.name, self.revision)

    @property
    def page(self) -> str:
        """The page of a model or dataset on the hub."""
        return f"https://huggingface.co/{'datasets/' if self.kind == 'dataset' else ''}{self.name}"

    @property
    def download(self) -> str:
        """The command of the hub's client that fetches a model or dataset."""
        kind = " --repo-type dataset" if self.kind == "dataset" else ""
        return f"hf download {self.name}{kind} --revision {self.revision}"


@dataclass(frozen=True)
class Lost:
    """An input that was not found, and the line that says so with the remedy."""

    wanted: Wanted
    text: str


@dataclass
class Search:
    """What one study looks for, where, and what of it was found and was not.

    `commits` are the commits that branches of the hub were pinned to, by `Wanted.key`; with `anew`
    those that the mirror was made with do not count. `beside` is the study's folder, and `placed`
    the paths that it names; `read` has the local files and folders that planning read, by path,
    those included that no artifact holds. Folders in `spare` are looked into where a benchmark is
    not in the one that the study names. Without `notes` a missing input is raised at once. `asker`
    is the table of the study that is read just now. `absent` has where paths would lie that are not
    there, by the line that says so.
    """

    mirror: Mirror | None = None
    commits: Mapping[str, str] = field(default_factory=dict)
    beside: Path = field(default_factory=Path)
    notes: bool = False
    anew: bool = False
    asker: str = ""
    spare: Mapping[str, str] = field(default_factory=dict)
    found: dict[str, Wanted] = field(default_factory=dict)
    missing: dict[str, Lost] = field(default_factory=dict)
    folders: dict[Path, Wanted] = field(default_factory=dict)
    absent: dict[str, Path] = field(default_factory=dict)
    placed: set[str] = field(default_factory=set)
    read: dict[str, LocalFile | LocalFolder] = field(default_factory=dict)

    def problems(self) -> list[str]:
        """Return a line for each input that was not found."""
        return list(dict.fromkeys(lost.text for lost in self.missing.values()))

    def lost(self, wanted: Wanted, error: ValueError | OSError) -> None:
        """Note an input that is not there; raise the error where nothing is noted."""
        if not self.notes:
            raise error
        said = f"{self.asker}: {error}" if self.asker else str(error)
        before = self.missing.get(wanted.key, Lost(wanted, said))
        patterns = tuple(dict.fromkeys((*before.wanted.patterns, *wanted.patterns)))
        self.missing[wanted.key] = Lost(replace(wanted, patterns=patterns), before.text)

    def place(self, written: str) -> Path:
        """Return where a path that a study names lies: the mirror's copy, or beside the study."""
        self.placed.add(written)
        copied = self.mirror.copy_of(written) if self.mirror else None
        return copied or self.beside / written


SEARCH: ContextVar[Search] = ContextVar("SEARCH")


def current() -> Search:
    """Return the search of the study that is planned, or one that raises what is missing."""
    return SEARCH.get(None) or Search()


@contextmanager
def searching(search: Search) -> Iterator[Search]:
    """Look up inputs by a search in what is done here, and note in it the files that are read."""
    token, read = SEARCH.set(search), READ.set(search.read)
    try:
        yield search
    finally:
        READ.reset(read)
        SEARCH.reset(token)


def place(folder: Path, written: str) -> Path:
    """Return where a path that a study in a folder names lies; see `Search.place`."""
    search = SEARCH.get(None)
    return search.place(written) if search else folder / written


def missing_path(key: str, written: str, folder: Path, *, fetched: bool = False) -> str:
    """Return the line about a path in a study's folder that is not there; "" where it is there.

    It ends with the remedy; `fetched` says that `prepare` fetches what belongs there. Where the
    search notes, the line is noted too, and planning goes on with what stands for the path.
    """
    at, search = place(folder, written), current()
    try:
        if at.exists():
            return ""
    except (OSError, ValueError):
        pass  # no name of a file: it is not there
    has = "has fetched" if fetched else "has copied"
    text = (
        f"{key} = {written[:80]!a}: no such file or "
        f"folder beside {folder.absolute()}. Put it there, say where it lies by --set {key}=PLACE, "
        f"or add --mirror DIR where `run_matrix.py prepare STUDY --to DIR` {has} it"
    )
    if search.notes:
        search.absent[text] = at
    return text


def is_absent(place: str | Path) -> bool:
    """Say whether a place is that of a path which a study names and which is not there."""
    return Path(place) in current().absent.values()


def hub_place(kind: Literal["model", "dataset"], name: str, revision: str | None) -> Path | None:
    """Return the folder of a model or dataset of the hub at a revision; None where it was noted.

    Raises ValueError for a name that is none on the hub. A revision is a commit, or a branch that
    `prepare` has pinned to one. Only checked names and commits become parts of a path.
    """
    search = current()
    if not HUB_NAME.fullmatch(name) or ".." in name or "--" in name:
        raise ValueError(f'hub = {name!r}: write the name that the hub has, "org/name"')
    wanted = Wanted(kind, name, revision or "main")
    commit = commit_of(search, wanted)
    if commit is None:
        message = (
            f"hub = {name!r} needs revision = the commit, 40 hexadecimal digits, not {revision!r}: "
            f"names such as main move. Commits: {wanted.page}/commits/main. Write one in the "
            f"study, or add --set {setting_for(search.asker, wanted)}; where there is a network, "
            "`run_matrix.py prepare STUDY --to DIR` pins it in STUDY.lock"
        )
        search.lost(wanted, ValueError(message))
        return None
    at = Wanted(kind, name, commit)
    folder = folder_of(search, at)
    begun = search.mirror is not None and at.key not in search.mirror.kept
    if begun or not (folder / PROOF[kind]).exists():
        search.lost(at, FileNotFoundError(not_here(search, at, folder)))
        return None
    search.found[wanted.key] = at
    search.folders[folder] = at
    return folder


def setting_for(asker: str, wanted: Wanted) -> str:
    """Return the override that pins a model or dataset which a table of the study names."""
    if wanted.kind == "model" and asker.startswith("datasets."):
        return f"{asker}.assistant={wanted.name}@COMMIT"
    table = asker.replace("evaluation.suites.", "evaluation.settings.") or "TABLE"
    return f"{table}.revision=COMMIT"


def commit_of(search: Search, wanted: Wanted) -> str | None:
    """Return the commit of a revision; None for a branch that nothing has pinned."""
    if COMMIT.fullmatch(wanted.revision):
        return wanted.revision
    if not BRANCH.fullmatch(wanted.revision):
        return None
    pinned = search.commits.get(wanted.key)
    if pinned is None and search.mirror is not None and not search.anew:
        pinned = search.mirror.commit_of(wanted.key)
    return pinned if pinned is not None and COMMIT.fullmatch(pinned) else None


def folder_of(search: Search, at: Wanted) -> Path:
    """Return where a commit of the hub has its files, whether they are there or not."""
    if search.mirror is not None:
        return search.mirror.folder_of(at.kind, at.name, at.revision)
    from huggingface_hub import constants

    kept = Path(constants.HF_HUB_CACHE, f"{CACHED[at.kind]}--{at.name.replace('/', '--')}")
    return kept / "snapshots" / at.revision


def not_here(search: Search, at: Wanted, folder: Path) -> str:
    """Return what is missing, where it was looked for, and how to get it."""
    if search.mirror is not None:
        return (
            f"the mirror {search.mirror.root} has no {at.kind} {at.name} at {at.revision[:12]}; "
            "where there is a network, run `run_matrix.py prepare STUDY --to DIR` on it again"
        )
    what = f"the dataset {at.name}" if at.kind == "dataset" else f"hub = {at.name!r}"
    return (
        f"{what} at {at.revision[:12]} is not on this machine, in {folder}. Where there is a "
        f"network, run `{at.download}`; for a machine without one, `run_matrix.py prepare STUDY "
        "--to DIR` makes a folder to carry, or add `--local-dir FOLDER`, copy the folder and write "
        "path = its place instead"
    )


def dataset_place(name: str, revision: str | None) -> Path:
    """Return the folder of a dataset of the hub, which is not there where its lack was noted.

    Raises as `hub_place` does.
    """
    folder = hub_place("dataset", name, revision)
    if folder is not None:
        return folder
    search = current()
    awaited = Path(f"missing-{no_digest(f'{name}@{revision}')[:16]}")
    lost = [one.wanted for one in search.missing.values() if one.wanted.kind == "dataset"]
    search.folders[awaited] = [wanted for wanted in lost if wanted.name == name][-1]
    return awaited


def is_of_hub(folder: Path) -> bool:
    """Say whether a folder is that of an input of the hub, be it here or missing."""
    return folder in current().folders


def is_partial(folder: Path, pattern: str) -> bool:
    """Say whether a mirror may hold less than all files of a dataset that fit a pattern."""
    search = current()
    at = search.folders.get(folder)
    kept = search.mirror.kept.get(at.key) if search.mirror and at else None
    return kept is not None and pattern not in kept.patterns


def lacking(folder: Path, pattern: str, error: FileNotFoundError) -> tuple[LocalFile, ...]:
    """Note that a folder lacks the files of a pattern; return what stands for them in a plan."""
    search = current()
    at = search.folders.get(folder)
    if at is None:
        raise error
    search.lost(replace(at, patterns=(pattern,)), error)
    return (LocalFile(no_digest(f"{at.key} {pattern}"), f"{at.name}/{pattern}"),)


def absent_folder(kind: Kind, name: str, revision: str | None) -> LocalFolder:
    """Return what stands for a missing model while a study is planned that will be refused."""
    return LocalFolder(no_digest(f"{kind} {name}@{revision}"), name)


def benchmark(
    name: str, folder: str, locate: Callable[[str], dict[str, LocalFile]]
) -> dict[str, LocalFile]:
    """Return a benchmark's files by `locate(folder)`, noting where they are missing.

    `locate` raises ValueError with the remedy where a folder does not hold them.
    """
    search = current()
    try:
        try:
            return locate(folder)
        except ValueError:
            if folder not in search.spare:
                raise
            return locate(search.spare[folder])
    except ValueError as error:
        if not is_absent(folder):
            search.lost(Wanted("benchmark", name, folder), error)
    return {"": LocalFile(no_digest(f"benchmark {name} {folder}"), name)}


def no_digest(what: str) -> str:
    """Return a digest that no bytes have in practice, and that differs for what differs."""
    return hashlib.sha256(f"missing: {what}".encode()).hexdigest()


def fits(file: str, pattern: str) -> bool:
    """Say whether a repository's file is one that `Path.glob(pattern)` finds in a copy of it."""
    if "**" in pattern:
        return True  # too wide is a larger download, too narrow a missing file
    path = PurePosixPath(file)
    return len(path.parts) == len(PurePosixPath(pattern).parts) and path.match(pattern)
