"""What a study measured, as files: every graded item, every score, every cell with its state.

`collect` writes into `results/<study>/`: `items.parquet` (what statistics read), `scores.csv` (what
people read), `cells.csv` (state and cost, the only file with times in it), `ledger.json` (what was
asked, held equal and made, for the report), `answers.jsonl.gz` and `curves.csv` (transcripts).
Equal inputs make equal bytes, and a matrix with holes is collected like any other.
"""

from __future__ import annotations

import csv
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from harness.artifacts import Scores
from harness.ledger import CELL_COLUMNS, Book
from harness.plain_text import csv_text
from harness.statistics import METHOD_SEEDS, Estimate, summary
from harness.transcripts import ANSWERS, CURVE_COLUMNS, CURVES, answers_file, curve_rows
from harness.trials import trials_in

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from harness.store import Store
    from harness.study import Cell, Study

ITEMS, SCORES, CELLS, LEDGER = "items.parquet", "scores.csv", "cells.csv", "ledger.json"
TEXTS = (
    "study", "base", "dataset", "label", "suite", "metric", "decoding", "prompt_id", "cluster",
    "order", "judge", "population", "class", "findings", "numerics",
)  # fmt: skip
WHOLE = ("seed", "sample", "length", "opponent_length")
ITEM_COLUMNS = (
    "study", "base", "dataset", "label", "seed", "suite", "metric", "decoding", "prompt_id",
    "cluster", "sample", "order", "judge", "population", "value", "class", "length",
    "opponent_length", "findings", "numerics",
)  # fmt: skip
SCORE_COLUMNS = (
    "study", "base", "dataset", "method", "label", "seed", "suite", "axis", "metric",
    "higher_is_better", "decoding", "judge", "population", "claim", "value", "stderr", "n",
    "n_seeds", "artifact",
)  # fmt: skip
SERIES = ("base", "dataset", "label", "suite", "metric", "decoding", "judge", "population")
MEASURED = ("seed", "prompt_id", "cluster", "class", "value")
Pair: TypeAlias = tuple[int, str]  # (seed, prompt)
NEEDED = (  # of a ledger, whatever wrote it
    "study", "methods", "suites", "seeds", "decodings", "co_primary", "margin", "scores", "control",
    "provenance",
)  # fmt: skip
CLASSES = ("valid", "tie", "invalid", "refused", "truncated")  # invalid alone has no value


@dataclass(frozen=True, order=True)
class Series:
    """What one estimate is about: a row of the matrix and a metric under one decoding."""

    base: str
    dataset: str
    label: str
    suite: str
    metric: str
    decoding: str
    judge: str
    population: str


@dataclass
class Measured:
    """The values of a series: the mean over samples for each (seed, prompt), and item classes."""

    values: dict[tuple[int, str], float] = field(default_factory=dict)
    clusters: dict[str, str] = field(default_factory=dict)
    classes: Counter[str] = field(default_factory=Counter)

    @property
    def seeds(self) -> list[int]:
        """The seeds that have a value, sorted."""
        return sorted({seed for seed, _ in self.values})

    def estimate(self, *, is_rate: bool, seed: int | None = None) -> Estimate | None:
        """Return the estimate over all seeds or of one, None where nothing was valid."""
        chosen = self.values
        if seed is not None:
            chosen = {key: value for key, value in chosen.items() if key[0] == seed}
        if not chosen:
            return None
        return summary(chosen, self.clusters, is_rate=is_rate)


def collect(study: Study, store: Store, folder: Path) -> None:
    """Write items, scores, cells and ledger of what is made so far; each file appears whole."""
    folder.mkdir(parents=True, exist_ok=True)
    book = Book(study, store)
    with replacing(folder / ITEMS) as temporary:
        write_items(temporary, study.cells(), book)
    facts = {**book.to_json(), "trials": trials_in(folder)}
    write(folder / LEDGER, json.dumps(facts, indent=1, sort_keys=True) + "\n")
    write(folder / CELLS, csv_text(CELL_COLUMNS, book.cell_rows()))
    write(folder / ANSWERS, answers_file(book))
    write(folder / CURVES, csv_text(CURVE_COLUMNS, curve_rows(book)))
    write(folder / SCORES, csv_text(SCORE_COLUMNS, score_rows(folder)))


def write_items(file: Path, cells: list[Cell], book: Book) -> None:
    """Write every graded item of every score that is made, one row group a score."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    types: dict[str, Any] = dict.fromkeys(TEXTS, pa.string())
    types |= dict.fromkeys(WHOLE, pa.int64()) | {"value": pa.float64()}
    schema = pa.schema([(name, types[name]) for name in ITEM_COLUMNS])
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for cell in cells:
            for scores in cell.scores.values():
                opened = book.opened(scores)
                if opened is not None:
                    rows = item_rows(cell, opened, book.numerics(scores))
                    table = pa.Table.from_pylist(list(rows), schema=schema)
                    writer.write_table(table, row_group_size=max(len(table), 1))


def item_rows(cell: Cell, scores: Scores, numerics: str) -> Iterator[dict[str, Any]]:
    """Yield the items of one score; raise ValueError for a class outside the closed set."""
    key = {"study": cell.study, "base": cell.base, "dataset": cell.dataset}
    key |= {"label": cell.label, "numerics": numerics}
    for row in scores:
        if row["class"] not in CLASSES or (row["value"] is None) != (row["class"] == "invalid"):
            raise ValueError(
                f"{scores.id}: an item of class {row['class']!r} with value {row['value']!r}; "
                f"classes are {', '.join(CLASSES)}, and invalid items alone have no value"
            )
        findings = json.dumps(row["findings"], ensure_ascii=False, separators=(",", ":"))
        kept = {name: row[name] for name in ITEM_COLUMNS if name in row}
        kept |= {name: "" for name in TEXTS if kept.get(name) is None}
        yield {**kept, **key, "seed": cell.seed, "findings": findings}


def read_items(folder: Path) -> dict[Series, Measured]:
    """Return all series of `items.parquet`, sorted; samples of one prompt are averaged.

    A row group is one score, so no prompt is split over two, and memory holds one at a time.
    """
    import pyarrow.parquet as pq

    found: dict[Series, Measured] = {}
    pairs: dict[Pair, Pair] = {}
    texts = [*SERIES, "prompt_id", "cluster", "class"]
    with pq.ParquetFile(folder / ITEMS, read_dictionary=texts) as file:
        for group in range(file.num_row_groups):
            add_items(found, file.read_row_group(group, columns=[*SERIES, *MEASURED]), pairs)
    return {series: found[series] for series in sorted(found, key=attrgetter(*SERIES))}


def add_items(found: dict[Series, Measured], table: Any, pairs: dict[Pair, Pair]) -> None:
    """Add one table of items to the series found so far; `pairs` keeps each (seed, prompt) once.

    Columns become numbers first: what names a series is then read once, and not for every item.
    """
    import numpy as np

    series, names = coded(table, SERIES)
    kinds, classes = coded(table, ("class",))
    both, counts = np.unique(series * len(classes) + kinds, return_counts=True)
    for code, count in zip(both.tolist(), counts.tolist(), strict=True):
        measured = found.setdefault(Series(*names[code // len(classes)]), Measured())
        measured.classes[classes[code % len(classes)][0]] += count
    valid = table.column("value").is_valid().to_numpy()
    value = table.column("value").to_numpy()[valid]
    asked, prompts = coded(table, ("seed", "prompt_id", "cluster"))
    cell, where = np.unique(series[valid] * len(prompts) + asked[valid], return_inverse=True)
    means = np.bincount(where, value) / np.bincount(where)
    keys = [
        (pairs.setdefault((seed, prompt), (seed, prompt)), sys.intern(cluster))
        for seed, prompt, cluster in prompts
    ]
    ends = np.searchsorted(cell, np.arange(1, len(names) + 1) * len(prompts)).tolist()
    codes, numbers, start = (cell % len(prompts)).tolist(), means.tolist(), 0
    shared: dict[tuple[int, ...], dict[str, str]] = {}
    for name, end in zip(names, ends, strict=True):
        mine = tuple(codes[start:end])
        measured = found[Series(*name)]
        measured.values.update(
            zip((keys[code][0] for code in mine), numbers[start:end], strict=True)
        )
        if mine not in shared:
            shared[mine] = {keys[code][0][1]: keys[code][1] for code in mine}
        if not shared[mine].keys() <= measured.clusters.keys():
            is_first = not measured.clusters
            measured.clusters = shared[mine] if is_first else {**measured.clusters, **shared[mine]}
        start = end


def coded(table: Any, columns: Sequence[str]) -> tuple[NDArray[np.int64], list[tuple[Any, ...]]]:
    """Return the number of each row's key, (rows,), and the keys by number."""
    import numpy as np

    whole: NDArray[np.int64] = np.zeros(len(table), dtype=np.int64)
    parts = []
    for name in columns:
        column = table.column(name).combine_chunks()
        if name == "seed":  # the only one that is read as numbers
            column = column.dictionary_encode()
        indices, words = column.indices.to_numpy(), column.dictionary.to_pylist()
        whole = whole * max(len(words), 1) + indices
        parts.append((indices, words))
    _, first, number = np.unique(whole, return_index=True, return_inverse=True)
    keys = zip(*([words[i] for i in indices[first]] for indices, words in parts), strict=True)
    return number.astype(np.int64), list(keys)


def columnwise(table: Any, names: list[str]) -> Iterator[tuple[Any, ...]]:
    """Return an iterator over the rows of an Arrow table, many times faster than dicts."""
    return zip(*(table.column(name).to_pylist() for name in names), strict=True)


def read_options(folder: Path) -> dict[str, float]:
    """Return the chance level of each metric whose items say how many options they had."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(folder / ITEMS, columns=["metric", "findings"])
    table = table.filter(pa.compute.match_substring(table["findings"], '["options",'))
    counted = table.group_by(["metric", "findings"], use_threads=False)
    shares: dict[str, list[tuple[float, int]]] = {}
    for row in counted.aggregate([([], "count_all")]).to_pylist():
        for finding in json.loads(row["findings"]):
            if finding[0] == "options":
                shares.setdefault(row["metric"], []).append((1 / int(finding[1]), row["count_all"]))
    return {
        metric: sum(share * count for share, count in found) / sum(count for _, count in found)
        for metric, found in sorted(shares.items())
    }


def score_rows(folder: Path) -> Iterator[list[object]]:
    """Yield the rows of `scores.csv` from items and ledger: each seed, then all seeds together."""
    ledger = read_ledger(folder)
    metrics = {(s["suite"], m["name"]): (s, m) for s in ledger["suites"] for m in s["metrics"]}
    methods = {row["label"]: row["method"] for row in ledger["methods"]}
    for series, measured in read_items(folder).items():
        suite, metric = metrics[series.suite, series.metric]
        is_rate = metric["range"] == [0.0, 1.0]
        several = len(measured.seeds) > 1
        for seed in [*measured.seeds, *([None] if several else [])]:
            found = measured.estimate(is_rate=is_rate, seed=seed)
            if found is None:
                continue
            made = [series.base, series.dataset, series.label, str(seed), series.suite]
            yield [
                ledger["study"], series.base, series.dataset, methods[series.label], series.label,
                "all" if seed is None else seed, series.suite, suite["axis"], series.metric,
                metric["higher_is_better"], series.decoding, series.judge, series.population,
                found.claim, found.value, found.stderr, found.n, found.seeds,
                ledger["scores"].get("/".join(made), ""),
            ]  # fmt: skip


def read_ledger(folder: Path) -> dict[str, Any]:
    """Return the facts of a results folder.

    Raises InputError, with the remedy, for a file that is no ledger or of another version.
    """
    from harness.study_file import InputError

    remedy = "`report` of its study writes it anew"
    try:
        facts: dict[str, Any] = json.loads((folder / LEDGER).read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{folder / LEDGER} is damaged ({error}); {remedy}") from error
    missing = [name for name in NEEDED if name not in facts]
    served = facts.get("endpoint", {})
    if not isinstance(served, dict) or not all(isinstance(one, dict) for one in served.values()):
        missing.append("endpoint by artifact")
    if missing:
        said = f"lacks {', '.join(missing)}"
        raise InputError(f"{folder / LEDGER} is of another version: it {said}; {remedy}")
    return facts


def read_csv(file: Path) -> list[dict[str, str]]:
    """Return a CSV file's rows by column."""
    with file.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """Give a temporary name beside `file`, and put it in its place once written and synced."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def write(file: Path, content: str | bytes) -> None:
    """Write a whole file at once, or not at all; lone surrogates become question marks."""
    data = content.encode("utf-8", "replace") if isinstance(content, str) else content
    with replacing(file) as temporary:
        temporary.write_bytes(data)


__all__ = ["METHOD_SEEDS", "Measured", "Series", "collect", "read_items"]
