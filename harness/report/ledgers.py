"""The tables beside the numbers: what was asked and made, held equal, paid, and from where."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from harness.report.tables import Block, Matrix, control, sums

Parts = tuple[Sequence[str], Sequence[Sequence[str]], str]  # columns, rows, note

COUNTED = {
    "tokens_generated": "tokens generated",
    "tokens_trained": "tokens trained",
    "optimiser_steps": "steps",
    "judge_calls": "judge calls",
    "labels_used": "labels",
}


def methods(matrix: Matrix) -> Parts:
    """Return what each row stands for: its method, the paper, and what the study sets."""
    rows = [
        [
            row["label"],
            row["method"],
            row["paper"] or "",
            row["summary"],
            ", ".join(f"{key} = {value}" for key, value in row["settings"].items()),
        ]
        for row in matrix.facts["methods"]
    ]
    return ("row", "method", "paper", "what it does", "set by the study"), rows, ""


def completeness(matrix: Matrix) -> Parts:
    """Return every requested cell's one state, seeds side by side, and the reasons for holes."""
    seeds = [str(seed) for seed in matrix.facts["seeds"]]
    found = {
        (c["base"], c["dataset"], c["label"], c["seed"]): (c["state"], c["reason"])
        for c in matrix.cells
    }
    keys = dict.fromkeys(key[:3] for key in found)
    rows = [
        ["/".join(key), *(found.get((*key, seed), ("not asked", ""))[0] for seed in seeds)]
        for key in keys
    ]
    counts = ", ".join(f"{n} {state}" for state, n in sorted(matrix.states().items()))
    reasons = [f"{'/'.join(key)} {state}: {why}" for key, (state, why) in found.items() if why]
    note = f"{len(found)} cells asked for: {counts}."
    columns = ("base/dataset/row", *(f"seed {seed}" for seed in seeds))
    return columns, rows, "; ".join([note.removesuffix("."), *reasons]) + "."


def control_table(matrix: Matrix, block: Block) -> Parts:
    """Return the control ledger with what differs first."""
    order = {"differs": 0, "unknown": 1, "equal": 2}
    lines = sorted(control(matrix, block), key=lambda line: order[line.verdict])
    rows = [[line.item, line.verdict, by_value(line.values)] for line in lines]
    note = (
        "Read from manifests, so from what was done. Digests are the first characters of SHA-256; "
        "labels are judgements a method was given, by kind."
    )
    return ("held equal?", "verdict", "value"), rows, note


def by_value(values: Mapping[str, str]) -> str:
    """Return the labels' values as text: one value if they agree, else who has which."""
    groups: dict[str, list[str]] = {}
    for label, value in values.items():
        groups.setdefault(shown(value), []).append(label)
    if len(groups) == 1:
        return next(iter(groups))
    return "; ".join(f"{', '.join(labels)}: {value}" for value, labels in groups.items())


def shown(value: str) -> str:
    """Return a value of the ledger for a reader: settings kept as JSON become `key value` pairs."""
    if not value.startswith("{"):
        return value
    pairs = json.loads(value)
    return ", ".join(f"{key} {pairs[key]}" for key in sorted(pairs) if pairs[key] not in (None, ""))


def cost(matrix: Matrix, block: Block) -> Parts:
    """Return what each row cost, as the mean over its seeds, and what the whole study cost once."""
    rows = []
    for label in matrix.labels:
        cells = [
            cell
            for cell in matrix.cells
            if (cell["base"], cell["dataset"], cell["label"]) == (*block, label)
        ]
        seconds = [
            duration(mean(sums(cells, column)))
            for column in ("seconds_own", "seconds_with_share", "seconds_in_full")
        ]
        counts = [amount(mean(sums(cells, column))) for column in COUNTED]
        drawn = amount(mean(sums(cells, "evaluation_tokens_generated")))
        peak = max(sums(cells, "peak_memory"), default=0.0)
        later = duration(mean(sums(cells, "evaluation_seconds")))
        rows.append([label, *seconds, *counts, memory(peak), later, drawn])
    total = duration(sum(sums(matrix.cells, "seconds_with_share")))
    note = (
        "Mean over seeds. Own: stages no other row needs. With share: a stage that k cells need "
        "counts 1/k in each. In full: the method alone; so are the counts. Best-of-n pays when it "
        f"is sampled, so its price stands under evaluation. All policies of the study: {total}."
    )
    columns = (
        "row", "own", "with share", "in full", *COUNTED.values(), "peak memory", "evaluation",
        "tokens drawn there",
    )  # fmt: skip
    return columns, rows, note


def provenance(matrix: Matrix) -> Iterator[tuple[str, Sequence[str], Sequence[Sequence[str]], str]]:
    """Yield where every number came from: policies, stages, versions and numerics."""
    found = matrix.facts["provenance"]
    rows = [[p["cell"], p["id"], p["payload"] or "not made"] for p in found["policies"]]
    yield "Policies", ("cell", "artifact", "payload digest"), rows, ""
    stages = [
        [name, str(stage["version"]), str(stage["made"]), ", ".join(stage["code"])]
        for name, stage in found["stages"].items()
    ]
    mixed = [name for name, stage in found["stages"].items() if len(stage["code"]) > 1]
    note = f"Made by more than one version of the code: {', '.join(mixed)}." if mixed else ""
    yield "Stages", ("stage", "version", "artifacts", "code digest"), stages, note
    wheels = [[name, ", ".join(versions)] for name, versions in found["wheels"].items()]
    wheels += [["numerics", shown(numerics)] for numerics in found["numerics"]]
    yield "Versions", ("what", "version"), wheels, ""


def mean(values: Sequence[float]) -> float:
    """Return the mean, 0 of nothing."""
    return sum(values) / len(values) if values else 0.0


def duration(seconds: float) -> str:
    """Return seconds as a reader says them."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"


def amount(count: float) -> str:
    """Return a count, shortened from a million on."""
    return f"{count / 1e6:.2f} M" if count >= 1e6 else f"{count:,.0f}"


def memory(size: float) -> str:
    """Return bytes as mebibytes or gibibytes, nothing for an unknown peak."""
    if not size:
        return ""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"
