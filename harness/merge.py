"""Put the results of one study from several machines together, cell by cell."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.ledger import CELL_COLUMNS
from harness.plain_text import csv_text
from harness.results import (
    CELLS,
    ITEMS,
    LEDGER,
    SCORE_COLUMNS,
    SCORES,
    read_csv,
    read_ledger,
    replacing,
    score_rows,
    write,
)
from harness.study_file import InputError
from harness.transcripts import ANSWERS, CURVE_COLUMNS, CURVES, read_answers

Key = tuple[str, str, str, str]  # base, dataset, label, seed
SAME = (
    "study",
    "margin",
    "co_primary",
    "samples",
    "decodings",
    "share_sft",
    "same_judge",
    "parity",
)


def merge(sources: Sequence[Path], into: Path) -> dict[Key, Path]:
    """Write the results of all sources as one folder; return where each cell came from.

    A cell that several made counts once and must be the same artifact in all. Raises InputError
    for other studies, for cells that differ, and where `into` has results already.
    """
    if (into / LEDGER).exists():
        raise InputError(f"{into} has results already; name a folder that has none")
    for source in sources:
        missing = [name for name in (LEDGER, CELLS, ITEMS) if not (source / name).is_file()]
        if missing:
            raise InputError(f"{source} is no results folder: it has no {', '.join(missing)}")
    ledgers = [read_ledger(source) for source in sources]
    check_same(sources, ledgers)
    cells, chosen = choose(sources)
    into.mkdir(parents=True, exist_ok=True)
    write_items(sources, chosen, into)
    joined = json.dumps(together(ledgers), indent=1, sort_keys=True)
    write(into / LEDGER, joined + "\n")
    rows = [[row.get(column, "") for column in CELL_COLUMNS] for row in cells]
    write(into / CELLS, csv_text(CELL_COLUMNS, rows))
    write(into / ANSWERS, answers_of(sources))
    write(into / CURVES, csv_text(CURVE_COLUMNS, curves_of(sources, chosen)))
    write(into / SCORES, csv_text(SCORE_COLUMNS, score_rows(into)))
    return chosen


def check_same(sources: Sequence[Path], ledgers: Sequence[Mapping[str, Any]]) -> None:
    """Raise InputError unless all are parts of one study, measured alike."""
    problems = [
        f"{source} and {sources[0]} differ in {name}: {own!r}, {first!r}"
        for source, ledger in zip(sources, ledgers, strict=True)
        for name in SAME
        if (own := ledger.get(name)) != (first := ledgers[0].get(name))
    ]
    declared: dict[str, Any] = {}
    for source, ledger in zip(sources, ledgers, strict=True):
        for suite in ledger["suites"]:
            if declared.setdefault(suite["suite"], suite) != suite:
                problems.append(f"{source} declares the suite {suite['suite']!r} in another way")
    problems += other_datasets(sources, ledgers)
    if problems:
        raise InputError("\n".join([*problems, "only parts of one study can be merged"]))


def other_datasets(sources: Sequence[Path], ledgers: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield where sources read data sets of one label, or one artifact of them, in two ways."""
    settings: dict[str, tuple[Path, Any]] = {}
    noted: dict[tuple[str, str], tuple[Path, Any]] = {}
    for source, ledger in zip(sources, ledgers, strict=True):
        for label, facts in ledger.get("datasets", {}).items():
            mine = {name: value for name, value in facts.items() if name != "notes"}
            place, known = settings.setdefault(label, (source, mine))
            if known != mine:
                yield f"{source} and {place} differ in the dataset {label}: {mine!r}, {known!r}"
            for artifact, note in facts["notes"].items():
                place, known = noted.setdefault((label, artifact), (source, note))
                if known != note:
                    yield (
                        f"{source} and {place} read other rows into {artifact} of the dataset "
                        f"{label}: {note!r}, {known!r}"
                    )


def choose(sources: Sequence[Path]) -> tuple[list[dict[str, str]], dict[Key, Path]]:
    """Return each cell's row and the source it is taken from: the first where it is done."""
    rows: dict[Key, dict[str, str]] = {}
    chosen: dict[Key, Path] = {}
    for source in sources:
        for row in read_csv(source / CELLS):
            key = (row["base"], row["dataset"], row["label"], row["seed"])
            known = rows.get(key)
            if known is None or (row["state"] == "done" != known["state"]):
                rows[key], chosen[key] = row, source
            elif row["state"] == known["state"] == "done" and row["artifact"] != known["artifact"]:
                raise InputError(
                    f"{'/'.join(key)} is {known['artifact']} in {chosen[key]} and "
                    f"{row['artifact']} in {source}: made with other settings or inputs"
                )
    return list(rows.values()), chosen


def write_items(sources: Sequence[Path], chosen: Mapping[Key, Path], into: Path) -> None:
    """Write the items of each cell from its source, one row group at a time."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    with replacing(into / ITEMS) as temporary:
        schema = pq.read_schema(sources[0] / ITEMS)
        with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
            for source in sources:
                mine = pa.array("/".join(key) for key, place in chosen.items() if place == source)
                with pq.ParquetFile(source / ITEMS) as file:
                    for group in range(file.num_row_groups):
                        table = file.read_row_group(group)
                        parts = [table[name] for name in ("base", "dataset", "label")]
                        keys = pc.binary_join_element_wise(
                            *parts, table["seed"].cast(pa.string()), "/"
                        )
                        kept = table.filter(pc.is_in(keys, value_set=mine.cast(pa.string())))
                        if len(kept):
                            writer.write_table(kept.cast(schema), row_group_size=len(kept))


def together(ledgers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return one ledger: rows, suites, seeds, tuning, labelling and provenance of all, each once.

    What no source says is not said here either.
    """
    first = dict(ledgers[0])
    first["seeds"] = sorted({seed for ledger in ledgers for seed in ledger["seeds"]})
    for name, key in (("methods", "label"), ("suites", "suite")):
        found: dict[str, Any] = {}
        for ledger in ledgers:
            for one in ledger[name]:
                found.setdefault(one[key], one)
        first[name] = list(found.values())
    first["scores"] = by_name([ledger["scores"] for ledger in ledgers])
    for name, join in JOINED.items():
        if known := [ledger[name] for ledger in ledgers if name in ledger]:
            first[name] = join(known)
    first["embedded_world"] = any(ledger["embedded_world"] for ledger in ledgers)
    first["control"] = list(control_of(ledgers))
    first["provenance"] = provenance_of([ledger["provenance"] for ledger in ledgers])
    first["examples"] = next((x["examples"] for x in ledgers if x["examples"]), [])
    return first


def by_name(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what all sources know by name, each as the first that names it knows it."""
    return {name: value for one in reversed(found) for name, value in one.items()}


def datasets_of(found: Sequence[Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Return the datasets of all sources with the notes of every artifact that read rows."""
    sets: dict[str, dict[str, Any]] = {}
    for label, facts in ((label, facts) for one in found for label, facts in one.items()):
        mine = sets.setdefault(label, {**facts, "notes": {}})
        mine["notes"] = {**facts["notes"], **mine["notes"]}
    return sets


def trials_of(found: Sequence[Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Return what tuning spent, by block and row: machines may have tuned different rows."""
    spent: dict[str, dict[str, Any]] = {}
    for one in reversed(found):
        for block, rows in one.items():
            spent.setdefault(block, {}).update(rows)
    return spent


def labelling_of(found: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Return how judges labelled each set of pairs, with the rows of all sources that read it."""
    sets: dict[str, dict[str, Any]] = {}
    for one in (labelled for source in found for labelled in source):
        mine = sets.setdefault(one["artifact"], {**one, "rows": []})
        mine["rows"] = list(dict.fromkeys([*mine["rows"], *one["rows"]]))
    return list(sets.values())


JOINED: dict[str, Callable[[Any], Any]] = {
    "judges": by_name,
    "whole_settings": by_name,
    "endpoint": by_name,  # by artifact: what two machines made from one recipe counts once
    "datasets": datasets_of,
    "trials": trials_of,
    "labelling": labelling_of,
    "reward_models": labelling_of,  # by artifact, with rows, too
}


def control_of(ledgers: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the lines of the control ledger with the values of all sources.

    What one machine knows fills what another does not.
    """
    lines: dict[tuple[str, str, str], dict[str, dict[str, str | None]]] = {}
    for ledger in ledgers:
        for line in ledger["control"]:
            values = lines.setdefault((line["base"], line["dataset"], line["item"]), {})
            for label, seeds in line["values"].items():
                mine = values.setdefault(label, {})
                for seed, value in seeds.items():
                    mine[seed] = mine.get(seed) if value is None else value
    for (base, dataset, item), found in lines.items():
        yield {"base": base, "dataset": dataset, "item": item, "values": found}


def provenance_of(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return policies, stages, wheels and numerics of all sources."""
    policies: dict[str, Any] = {}
    stages: dict[str, Any] = {}
    wheels: dict[str, set[str]] = {}
    for one in found:
        for policy in one["policies"]:
            known = policies.get(policy["cell"])
            if known is None or known["payload"] is None:
                policies[policy["cell"]] = policy
        for name, stage in one["stages"].items():
            mine = stages.setdefault(name, {"version": stage["version"], "code": [], "made": 0})
            mine["code"] = sorted({*mine["code"], *stage["code"]})
            mine["made"] += stage["made"]
        for name, versions in one["wheels"].items():
            wheels.setdefault(name, set()).update(versions)
    return {
        "policies": list(policies.values()),
        "stages": dict(sorted(stages.items())),
        "wheels": {name: sorted(versions) for name, versions in sorted(wheels.items())},
        "numerics": sorted({n for one in found for n in one["numerics"]}),
    }


def answers_of(sources: Sequence[Path]) -> bytes:
    """Return the answers of all sources, those to one prompt on one line."""
    lines: dict[tuple[str, ...], dict[str, Any]] = {}
    for source in sources:
        for line in read_answers(source):
            key = tuple(line[name] for name in ("base", "dataset", "decoding", "prompt_id"))
            known = lines.setdefault(key, line)
            known["answers"] = {**line["answers"], **known["answers"]}
    text = "".join(json.dumps(line, sort_keys=True) + "\n" for line in lines.values())
    return gzip.compress(text.encode("utf-8", "replace"), mtime=0)


def curves_of(sources: Sequence[Path], chosen: Mapping[Key, Path]) -> Iterator[list[object]]:
    """Yield the curves of each cell from its source."""
    for source in sources:
        if (source / CURVES).is_file():
            for row in read_csv(source / CURVES):
                if chosen.get((row["base"], row["dataset"], row["label"], row["seed"])) == source:
                    yield [row[column] for column in CURVE_COLUMNS]
