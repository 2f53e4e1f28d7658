"""The options that commands share, and what they name: a study, a store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from harness.store import Store
    from harness.study import Study

StudyName = Annotated[str, typer.Argument(metavar="STUDY", help="A TOML file or a shipped name.")]
Only = Annotated[str, typer.Option(help="Labels of methods to keep, such as dpo,ppo.")]
Seeds = Annotated[str, typer.Option(help="Seeds instead of the study's, such as 0,1.")]
Set = Annotated[
    list[str], typer.Option("--set", help="table.key=value, such as methods.dpo.beta=0.2.")
]
Plugins = Annotated[list[Path], typer.Option("--plugin", help="A Python file with plugins.")]
StoreFolder = Annotated[Path, typer.Option("--store", help="Where artifacts are kept.")]
Results = Annotated[Path, typer.Option(help="Where results/<study>/ is written.")]
Identity = Annotated[
    str, typer.Argument(metavar="ID", help="An id, a unique prefix of one, or STUDY:LABEL/SEED.")
]
Studies = Annotated[
    list[str], typer.Option("--study", help="Studies to look in besides the shipped ones.")
]
Retry = Annotated[bool, typer.Option("--retry", help="Try diverged and refused artifacts again.")]
Workers = Annotated[
    int | None,
    typer.Option(min=0, help="Processes at a time (a GPU or core each); 0: in this one."),
]
Threads = Annotated[int, typer.Option(min=1, help="Threads of each process.")]
MirrorFolder = Annotated[
    Path | None,
    typer.Option("--mirror", metavar="DIR", help="Read from what `prepare` made; no network."),
]
Tuned = Annotated[bool, typer.Option("--tuned", help="With the settings that `tune` chose.")]
STORE, RESULTS = Path("results/store"), Path("results")
NONE: list[Any] = []  # given by no option


def labels_of(only: str) -> tuple[str, ...]:
    """Return the labels that `--only` lists."""
    return tuple(label.strip() for label in only.split(",") if label.strip())


def load(
    study: str, only: str, seeds: str, settings: list[str], plugin: list[Path],
    tuned: Path | None = None, mirror: Path | None = None,
) -> Study:  # fmt: skip
    """Return the study that the command line describes, tuned by what stands in `tuned`."""
    from harness.study import Study
    from harness.study_file import Overrides, StudyError, from_mirror

    try:
        numbers = tuple(int(seed) for seed in seeds.split(",") if seed)
    except ValueError:
        raise StudyError([f"--seeds {seeds!r}: write whole numbers, such as 0,1,2"]) from None
    overrides = Overrides(labels_of(only), numbers, (*settings, *from_mirror(mirror)))
    if tuned is None:
        return Study.load(study, overrides, tuple(plugin))
    from harness.tuned import load_tuned

    return load_tuned(study, overrides, tuple(plugin), tuned)


def open_store(folder: Path) -> Store:
    """Return the store at a folder, and take up the digests of files that it remembers."""
    from harness.local import DIGESTS, REMEMBERED
    from harness.store import Store

    DIGESTS.recall(folder / REMEMBERED)
    return Store(folder)
