"""The command about human ratings: a blind kit of a study's answers, and ratings read back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.command_options import (
    NONE,
    RESULTS,
    STORE,
    MirrorFolder,
    Only,
    Plugins,
    Results,
    Seeds,
    StoreFolder,
    StudyName,
    load,
    open_store,
)

app = typer.Typer()


@app.command()
def rate(
    study: StudyName,
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="[FILES]...", help="With --import: ratings.")
    ] = None,
    bring: Annotated[
        bool, typer.Option("--import", help="Read ratings, and write what people prefer.")
    ] = False,
    items: Annotated[int, typer.Option(help="Pairs of answers in each form.")] = 120,
    forms: Annotated[int, typer.Option(help="Forms: other orders, sides exchanged.")] = 2,
    against: Annotated[str, typer.Option(help="The row to compare with, or all.")] = "",
    decoding: Annotated[str, typer.Option(help="Such as greedy or T=1.")] = "",
    draw: Annotated[int, typer.Option(help="Another number draws other prompts.")] = 0,
    again: Annotated[
        bool, typer.Option("--again", help="Replace a kit; its ratings can no longer be read.")
    ] = False,
    only: Only = "",
    seeds: Seeds = "",
    mirror: MirrorFolder = None,
    plugin: Plugins = NONE,
    store: StoreFolder = STORE,
    results: Results = RESULTS,
) -> None:
    """Write a blind kit for human raters, or with --import bring their ratings back.

    The kit is results/STUDY/ratings/kit/; the key that names the methods stays beside it. Without
    --seeds the first seed is rated.
    """
    from harness.rating_folder import write_kit
    from harness.rating_kit import Sizes
    from harness.study_file import InputError

    if files and not bring:
        raise InputError("files are read with --import alone; without it, a kit is written")
    loaded = load(study, only, seeds, [], plugin, mirror=mirror)
    if bring:
        from harness.rating_report import import_ratings

        print(import_ratings(loaded, results / loaded.name, files or []))
        return
    cells = [c for c in loaded.cells() if seeds or c.seed == loaded.declared.seeds[0]]
    sizes = Sizes(items=items, forms=forms, against=against, seed=draw)
    folder = results / loaded.name
    print(write_kit(cells, open_store(store), folder, sizes, decoding=decoding, again=again))
