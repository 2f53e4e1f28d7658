"""The command that reads shapes off results, and the page it writes."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from harness.shape_evidence import Evidence
    from harness.shapes import Adjudged, Kind, Reading

app = typer.Typer()
DECODINGS = ("T=1", "greedy")
FILE = "shapes.md"
GONE = {"holds": "vanishes", "does not hold": "does not vanish"}
HEAD = """# Shapes

Orderings and turns that were written down before these results were read{amended}. Positive
controls are effects that the embedded world was built to show: each must hold, and vanish with its
dial off. Predictions come from published results: each holds, does not hold, or is undecided at
the power of this study, and none is promised. A row that is absent was not run; nothing is guessed.

A part holds by its own 95 % interval ("near" and "at most": by the 90 % interval within the
margin of {margin:g} points), and is refuted by an interval that covers all parts of its shape at
once. A dial's effect does not vanish where its 95 % interval with the dial off lies above zero, is
reversed where that lies below, and has vanished where that covers zero and the effect is surely
smaller than with the dial on. A part with a decoding of its own is read under it in both columns.

{paired} All rows start from one base in one world: every verdict is conditional on that base.
"""
AMENDED = ", except what a shape says was amended later ({names})"
PAIRED = {
    True: "Differences are paired by seed and prompt.",
    False: (
        "Differences are paired by seed: of these results the scores of seeds alone are known. "
        "Seeds are random and the prompts fixed: every verdict is conditional on these prompts, "
        "and none is a claim about methods."
    ),
    None: (
        "Differences are paired by seed and prompt, where results hold items; where the scores of "
        'seeds alone are known ("prompts fixed"), by seed: such a verdict is conditional on these '
        "prompts, and no claim about methods."
    ),
}


@app.command()
def shapes(
    folders: Annotated[
        list[Path], typer.Argument(metavar="RESULTS...", help="Results folders of studies.")
    ],
    into: Annotated[
        Path | None, typer.Option("--into", help=f"Where to write; {FILE} in the first by default.")
    ] = None,
    base: Annotated[str, typer.Option(help="The base, where results have several.")] = "",
    margin: Annotated[float, typer.Option(min=0.01, help="Points within which rows are near.")] = 2,
    reasons: Annotated[
        Path | None, typer.Option(help="TOML of shape = reason, printed beside what fails.")
    ] = None,
) -> None:
    """Say which positive controls and predictions hold in the results of the embedded studies."""
    from harness.results import SCORES, write
    from harness.shape_evidence import Evidence
    from harness.study_file import InputError

    for folder in folders:
        if not (folder / SCORES).is_file():
            raise InputError(f"{folder} is no results folder: it has no {SCORES}")
    try:
        text = page(Evidence(folders, base), margin, read_reasons(reasons))
    except ValueError as error:
        raise InputError(str(error)) from None
    file = into or folders[0] / FILE
    write(file, text)
    print(file)


def read_reasons(file: Path | None) -> dict[str, str]:
    """Return the reasons that a person gives for shapes, by id; ValueError for what is no shape."""
    import tomllib

    from harness.positive_controls import CONTROLS
    from harness.predictions import PREDICTIONS

    if file is None:
        return {}
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} cannot be read as TOML: {error}") from None
    known = {shape.id for shape in (*CONTROLS, *PREDICTIONS)}
    wrong = [name for name, text in found.items() if name not in known or not isinstance(text, str)]
    if wrong:
        raise ValueError(f'{file}: {", ".join(wrong)}: write a shape\'s id = "its reason"')
    return found


def page(evidence: Evidence, margin: float, reasons: Mapping[str, str]) -> str:
    """Return the whole page; `margin` is in points, hundredths of a metric's unit."""
    from harness.positive_controls import CONTROLS
    from harness.predictions import PREDICTIONS
    from harness.shapes import adjudge

    found = [
        tuple(adjudge(shape, evidence, how, margin / 100) for how in DECODINGS)
        for shape in (*CONTROLS, *PREDICTIONS)
    ]
    lines = [head(evidence, margin), *read_from(evidence), ""]
    titles: tuple[tuple[Kind, str], ...] = (
        ("control", "Positive controls"),
        ("prediction", "Predictions"),
    )
    for kind, title in titles:
        chosen = [both for both in found if both[0].shape.kind == kind]
        lines += [f"## {title}", "", counts(chosen), "", *summary(chosen), ""]
    lines += ["## Every part, at T = 1 and greedy", ""]
    for both in found:
        lines += detail(both, reasons.get(both[0].shape.id, ""))
    return "\n".join(lines).rstrip() + "\n"


def head(evidence: Evidence, margin: float) -> str:
    """Return how the page is to be read: what was written when, and what intervals rest on."""
    from harness.positive_controls import CONTROLS
    from harness.predictions import PREDICTIONS

    names = ", ".join(shape.id for shape in (*CONTROLS, *PREDICTIONS) if shape.amended)
    kinds = {folder.has_items for folder in evidence.folders}
    text = HEAD.format(
        margin=margin,
        amended=AMENDED.format(names=names) if names else "",
        paired=PAIRED[kinds.pop() if len(kinds) == 1 else None],
    )
    return "\n\n".join(textwrap.fill(part, 100) for part in text.split("\n\n")) + "\n"


def read_from(evidence: Evidence) -> Iterator[str]:
    """Yield a line on each folder: its study, its rows, and what its intervals rest on."""
    yield "Read from:"
    yield ""
    for folder in evidence.folders:
        rows = dict.fromkeys(row for row, *_ in folder.series)
        by = (
            "items, seeds and prompts random"
            if folder.has_items
            else "scores of seeds alone, prompts fixed"
        )
        lack = f"; diverged, so left out: {', '.join(folder.diverged)}" if folder.diverged else ""
        yield f"* study `{folder.study}` ({by}): {', '.join(rows)}{lack}"


def counts(found: Iterable[tuple[Adjudged, ...]]) -> str:
    """Return how many shapes have which verdict at T = 1."""
    from collections import Counter

    verdicts = Counter(both[0].verdict for both in found)
    return "At T = 1: " + ", ".join(f"{n} {verdict}" for verdict, n in verdicts.items()) + "."


def summary(found: Iterable[tuple[Adjudged, ...]]) -> Iterator[str]:
    """Yield a table with a line a shape."""
    yield "| | shape | T = 1 | dial off, T = 1 | greedy |"
    yield "|---|---|---|---|---|"
    for at_one, greedy in found:
        shape = at_one.shape
        off = gone(at_one)
        yield f"| {shape.id} | {shape.claim} | {at_one.verdict} | {off} | {greedy.verdict} |"


def gone(found: Adjudged) -> str:
    """Return in words whether an effect vanishes with its dial off."""
    if found.vanishes is None:
        return "same artifacts" if found.shape.identity else "no dial"
    return GONE.get(found.vanishes, found.vanishes)


def detail(both: tuple[Adjudged, ...], reason: str) -> Iterator[str]:
    """Yield a shape with each of its parts: estimate, interval, sizes, and rows."""
    shape = both[0].shape
    yield f"### {shape.id}: {shape.claim}"
    yield ""
    yield f"From {shape.source}."
    yield ""
    if shape.amended:
        yield f"Amended: {shape.amended}."
        yield ""
    if shape.identity:
        yield f"Dial off: {shape.identity}."
        yield ""
    if shape.untestable:
        yield f"Not testable here: {shape.untestable}."
        yield ""
        return
    absent = dict.fromkeys(name for one in both for r in one.parts_read for name in r.missing)
    if absent:
        yield f"Absent: {', '.join(absent)}."
        yield ""
    seen: set[Reading] = set()
    lines = []
    for found in both:
        for reading in found.parts_read:
            if reading.rows and not reading.missing and reading not in seen:
                lines.append(part_line(reading, is_off=reading in found.off))
            seen.add(reading)
    if lines:
        yield "| part | decoding | estimate (95 % interval) | n | verdict | rows |"
        yield "|---|---|---|---|---|---|"
        yield from lines
        yield ""
    if reason:
        yield f"Most likely reason: {reason}"
        yield ""


def part_line(reading: Reading, *, is_off: bool) -> str:
    """Return one line of the table of parts."""
    from harness.report.grid import sizes
    from harness.report.words import with_interval

    shown, n, rows = "", "", ", ".join(reading.rows)
    if reading.found is None:
        rows += "; they share no seed and prompt"
    else:
        shown, n = with_interval(reading.found, sign=True), sizes(reading.found)
        if reading.prompts_fixed:
            n += ", prompts fixed"
        elif reading.found.claim != "method":
            n += ", checkpoint-level only"
    says, verdict = reading.says, str(reading.verdict)
    if is_off:
        says, verdict = f"dial off: {says}", GONE.get(verdict, verdict)
    return f"| {says} | {', '.join(reading.decodings)} | {shown} | {n} | {verdict} | {rows} |"
