"""The command line: one command plans, runs, resumes and reports a study.

Exit codes: 0 everything requested is made, 1 some cells failed, 2 bad input and nothing written,
130 and 143 interrupted by SIGINT and SIGTERM after a consistent stop.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from harness import (
    benchmark_commands,
    gauge_commands,
    mirror_commands,
    plugin_commands,
    power_commands,
    rating_commands,
    report_commands,
    shape_commands,
    study_commands,
)
from harness.command_examples import example_of
from harness.command_options import (
    NONE,
    RESULTS,
    STORE,
    Identity,
    MirrorFolder,
    Only,
    Plugins,
    Results,
    Retry,
    Seeds,
    Set,
    StoreFolder,
    Studies,
    StudyName,
    Threads,
    Tuned,
    Workers,
    load,
    open_store,
)

HELP = """Compare alignment methods: the same base, prompts and feedback; only the method differs.

A STUDY is a TOML file or the name of a shipped one (demo, hamlet). `run` is the default command,
and running again resumes: what is made is never made twice.

Examples:

  run_matrix.py demo                      make everything and write results/demo/report.html

  run_matrix.py plan demo                 what would run, what is cached, what it may cost

  run_matrix.py demo --only dpo --set methods.dpo.beta=0.2 --seeds 0,1

  run_matrix.py why demo:dpo/0            why the policy of that cell is not cached

  run_matrix.py new-method mine           write a working method and its test

Exit codes: 0 all made, 1 some cells failed, 2 bad input, 130 or 143 interrupted.
"""


class Commands(TyperGroup):
    """The commands; a first word that is none of them is a study to run."""

    def parse_args(self, context: Any, args: list[str]) -> list[str]:
        """Insert `run` where no command is named."""
        own = {"--help", "--install-completion", "--show-completion"}
        if args and args[0] not in self.commands and args[0] not in own:
            args = ["run", *args]
        return super().parse_args(context, args)

    def get_command(self, context: Any, name: str) -> Any:
        """Return a command by its name, its help with examples at the end."""
        found = super().get_command(context, name)
        if found is not None:
            found.epilog = example_of(name)
        return found

    def invoke(self, context: Any) -> Any:
        """Run a command; bad input is said on one list and ends with exit code 2."""
        from harness.study_file import InputError

        try:
            return super().invoke(context)
        except InputError as error:
            print(error, file=sys.stderr)
            raise typer.Exit(2) from None


main = typer.Typer(
    cls=Commands,
    help=HELP,
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
)

main.add_typer(plugin_commands.app)
main.add_typer(rating_commands.app)
main.add_typer(report_commands.app)
main.add_typer(benchmark_commands.app)
main.add_typer(mirror_commands.app)
main.add_typer(power_commands.app)
main.add_typer(gauge_commands.app)
main.add_typer(study_commands.app)
main.add_typer(shape_commands.app)


@main.command()
def run(
    study: StudyName,
    only: Only = "",
    seeds: Seeds = "",
    settings: Set = NONE,
    mirror: MirrorFolder = None,
    tuned: Tuned = False,
    retry: Retry = False,
    workers: Workers = None,
    threads: Threads = 1,
    plugin: Plugins = NONE,
    store: StoreFolder = STORE,
    results: Results = RESULTS,
) -> None:
    """Make what a study asks for, resume what was begun, and write its report."""
    from harness.launch import run_study

    kept = open_store(store)
    loaded = load(study, only, seeds, settings, plugin, results if tuned else None, mirror)
    raise typer.Exit(
        run_study(loaded, kept, results, workers=workers, threads=threads, retry=retry)
    )


@main.command()
def tune(
    study: StudyName,
    only: Only = "",
    settings: Set = NONE,
    mirror: MirrorFolder = None,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Trials of each row instead of the study's number.")
    ] = None,
    retry: Retry = False,
    workers: Workers = None,
    threads: Threads = 1,
    plugin: Plugins = NONE,
    store: StoreFolder = STORE,
    results: Results = RESULTS,
) -> None:
    """Try settings in their ranges, and write the best by validation for `run --tuned`."""
    from harness.tune import tune as tune_study

    kept, loaded = open_store(store), load(study, only, "", settings, plugin, mirror=mirror)
    raise typer.Exit(
        tune_study(
            loaded, kept, results, trials=trials, workers=workers, threads=threads, retry=retry
        )
    )


@main.command()
def plan(
    study: StudyName,
    only: Only = "",
    seeds: Seeds = "",
    settings: Set = NONE,
    mirror: MirrorFolder = None,
    tuned: Tuned = False,
    every: Annotated[
        bool, typer.Option("--all", help="List all artifacts with their settings.")
    ] = False,
    plugin: Plugins = NONE,
    store: StoreFolder = STORE,
    results: Results = RESULTS,
) -> None:
    """Show what a run would make, what is cached, and what it may cost. Writes nothing.

    Ends with 1 where a method or suite planned nothing, since its cells would fail.
    """
    from harness.planner import make_plan, plan_text, unplanned

    kept = open_store(store)
    loaded = load(study, only, seeds, settings, plugin, results if tuned else None, mirror)
    planned = make_plan(loaded, kept)
    print(plan_text(planned, every=every))
    raise typer.Exit(1 if unplanned(planned) else 0)


@main.command()
def status(
    study: StudyName,
    only: Only = "",
    seeds: Seeds = "",
    settings: Set = NONE,
    mirror: MirrorFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    plugin: Plugins = NONE,
    store: StoreFolder = STORE,
) -> None:
    """Show the state of every cell: done, running, pending, blocked, or how it failed."""
    from harness.status import status_json, status_text

    kept, loaded = open_store(store), load(study, only, seeds, settings, plugin, mirror=mirror)
    say = status_json if as_json else status_text
    print(say(loaded, kept))


@main.command()
def report(
    study: StudyName,
    only: Only = "",
    seeds: Seeds = "",
    settings: Set = NONE,
    mirror: MirrorFolder = None,
    show_it: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    plugin: Plugins = NONE,
    store: StoreFolder = STORE,
    results: Results = RESULTS,
) -> None:
    """Write the report of what is made so far; holes are shown as holes."""
    from harness.launch import write_results
    from harness.status import cell_states

    kept, loaded = open_store(store), load(study, only, seeds, settings, plugin, mirror=mirror)
    write_results(loaded, kept, results, cell_states(loaded.cells(), kept), again=True)
    page = results / loaded.name / "report.html"
    print(page)
    if show_it:
        typer.launch(str(page))


@main.command()
def verify(store: StoreFolder = STORE) -> None:
    """Hash every artifact again and name those whose bytes have changed."""
    problems = open_store(store).verify()
    print(
        "\n".join(map(str, problems)) or f"every artifact in {store} has the bytes it was made with"
    )
    raise typer.Exit(1 if problems else 0)


@main.command()
def show(
    id: Identity,
    study: Studies = NONE,
    mirror: MirrorFolder = None,
    plugin: Plugins = NONE,
    store: StoreFolder = STORE,
) -> None:
    """Show an artifact: its recipe, inputs, files, cost, and who needs it."""
    from harness.find import Finder

    print(Finder(open_store(store), study, tuple(plugin), mirror).show(id))


@main.command()
def why(
    id: Identity,
    study: Studies = NONE,
    mirror: MirrorFolder = None,
    plugin: Plugins = NONE,
    store: StoreFolder = STORE,
) -> None:
    """Say why an artifact is not cached: never made, failed, or how its recipe differs."""
    from harness.find import Finder

    print(Finder(open_store(store), study, tuple(plugin), mirror).why(id))


@main.command()
def logs(
    id: Identity,
    follow: Annotated[bool, typer.Option("-f", help="Go on until the artifact is made.")] = False,
    study: Studies = NONE,
    mirror: MirrorFolder = None,
    plugin: Plugins = NONE,
    store: StoreFolder = STORE,
) -> None:
    """Print the log that a stage wrote while it made, or tried to make, an artifact."""
    from harness.find import Finder

    for text in Finder(open_store(store), study, tuple(plugin), mirror).log(id, follow=follow):
        print(text, end="", flush=True)


@main.command()
def export(
    cell: Annotated[str, typer.Argument(metavar="CELL", help="STUDY:LABEL/SEED or a policy's id.")],
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A folder that does not exist yet.")
    ],
    study: Studies = NONE,
    mirror: MirrorFolder = None,
    plugin: Plugins = NONE,
    store: StoreFolder = STORE,
) -> None:
    """Write a cell's policy as a merged Hugging Face folder with a model card."""
    from harness.export import export_policy
    from harness.find import Finder

    found = Finder(open_store(store), study, tuple(plugin), mirror)
    print(export_policy(found.policy(cell), found.store, folder, name=cell))


@main.command()
def gc(
    studies: Annotated[list[str], typer.Argument(metavar="STUDY...", help="What to keep.")],
    delete: Annotated[bool, typer.Option("--delete", help="Act; without it, only list.")] = False,
    mirror: MirrorFolder = None,
    plugin: Plugins = NONE,
    store: StoreFolder = STORE,
) -> None:
    """List, or delete, the artifacts that none of the given studies reaches."""
    from harness.find import collect_garbage

    loaded = [load(study, "", "", [], plugin, mirror=mirror) for study in studies]
    print(collect_garbage(loaded, open_store(store), delete=delete))
