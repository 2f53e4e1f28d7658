"""The command about power: what a study can see, and what more seeds or prompts would buy."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.command_options import (
    NONE,
    RESULTS,
    MirrorFolder,
    Plugins,
    Results,
    StudyName,
    load,
)

app = typer.Typer()


@app.command()
def power(
    study: StudyName,
    seeds: Annotated[int | None, typer.Option(help="Plan for so many seeds.")] = None,
    prompts: Annotated[int | None, typer.Option(help="Plan for so many test prompts.")] = None,
    seed_sd: Annotated[
        float, typer.Option(help="Points of spread over seeds, where no run shows it.")
    ] = 1.5,
    mirror: MirrorFolder = None,
    plugin: Plugins = NONE,
    results: Results = RESULTS,
) -> None:
    """Show the smallest differences a study can see, and what more would buy. Writes nothing.

    Variances are those of the study's results, or of assumptions where it has none.
    """
    from harness.power_report import power_text

    loaded = load(study, "", "", [], plugin, mirror=mirror)
    folder = results / loaded.name
    print(power_text(loaded, folder, seeds=seeds, prompts=prompts, seed_sd=seed_sd))
