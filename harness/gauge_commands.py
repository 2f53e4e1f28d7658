"""The command about judges and people: does a study's judge say what people say?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.command_options import (
    NONE,
    STORE,
    MirrorFolder,
    Plugins,
    StoreFolder,
    StudyName,
    Workers,
    load,
    open_store,
)

app = typer.Typer()


@app.command()
def gauge(
    study: StudyName,
    data: Annotated[Path, typer.Argument(metavar="FILE", help="Rows that people have labelled.")],
    column: Annotated[
        list[str], typer.Option(help="key=column, such as chosen=better; else as the rows show.")
    ] = NONE,
    labeller: Annotated[bool, typer.Option("--labeller", help="Ask the labeller.")] = False,
    safe: Annotated[bool, typer.Option("--safe", help="People judged safety, not help.")] = False,
    items: Annotated[int, typer.Option(min=1, help="Rows to ask about, drawn by a seed.")] = 400,
    mirror: MirrorFolder = None,
    plugin: Plugins = NONE,
    store: StoreFolder = STORE,
    workers: Workers = None,
) -> None:
    """Show how far a study's judge agrees with people, on rows that people have labelled.

    Pairs (prompt, chosen, rejected) ask which is better. Answers with a label (prompt, completion,
    label: true for good) ask a guard or another judge whose grades are probabilities.
    """
    from harness.gauge import gauged

    loaded = load(study, "", "", [], plugin, mirror=mirror)
    print(
        gauged(
            loaded,
            open_store(store),
            data,
            role="labeller" if labeller else "judge",
            axis="safe" if safe else "helpful",
            n=items,
            named=column,
            workers=workers,
        )
    )
