"""Commands that write studies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.command_options import NONE

app = typer.Typer()


@app.command("new-study")
def new_study(
    name: Annotated[str, typer.Argument(help="The name of the study and of its file.")],
    model: Annotated[Path, typer.Option(help="The folder of a causal language model.")],
    data: Annotated[Path, typer.Option(help="Preferences: .jsonl, .json, .csv or .parquet.")],
    column: Annotated[
        list[str], typer.Option(help="key=column, such as chosen=better; else as the rows show.")
    ] = NONE,
    folder: Annotated[Path, typer.Option("--in", help="Where to write the study.")] = Path(),
) -> None:
    """Write a study that compares methods on your own model and preferences."""
    from harness.study_writer import write_study

    print(write_study(name, model, data, folder, column))
