"""The command `prepare`: carry a study to a machine without network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from harness.command_options import NONE, Only, Plugins, Set, StudyName, labels_of

app = typer.Typer()


@app.command()
def prepare(
    study: StudyName,
    to: Annotated[Path, typer.Option(metavar="DIR", help="The mirror: a new folder, or one.")],
    update: Annotated[
        bool, typer.Option("--update", help="Look up branches anew, not as pinned.")
    ] = False,
    only: Only = "",
    settings: Set = NONE,
    plugin: Plugins = NONE,
) -> None:
    """Fetch every model, dataset, judge and benchmark of a study into one folder, a mirror.

    Stopped, it goes on where it was when run again. Branches are pinned to commits in STUDY.lock,
    beside the study, or in the current folder for a shipped one.
    Then `run STUDY --mirror DIR` works without network, with the same ids.
    """
    from harness.prepare import Preparing, opened
    from harness.study_file import Overrides

    overrides = Overrides(labels_of(only), (), tuple(settings))
    preparing = Preparing(
        study, opened(to), overrides, tuple(plugin), update=update, say=lambda x: typer.echo(x)
    )
    preparing.run()
    kept = preparing.mirror.kept.values()
    for one in kept:
        size = sum(int(file["size"]) for file in one.files.values())
        at = f" at {one.revision[:12]}" if one.revision else ""
        about = f"{len(one.files)} files, {size:,} bytes, licence {one.licence}"
        typer.echo(f"{one.kind:<8}{one.name}{at}  {about}")
    typer.echo(f"{to}: complete; carry it along and add --mirror {json.dumps(str(to))}")
