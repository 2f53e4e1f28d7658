"""The sample browser's data: prompt by prompt, every row's answer with its grades and verdicts.

Built from `answers.jsonl.gz` and the items of the same seed and sample, as one JSON object in which
equal texts are stored once. What does not fit is left out by the hash of its prompt, and counted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from harness.plain_text import clean, one_line
from harness.report.figures import palette
from harness.report.tables import Matrix
from harness.results import ITEMS, columnwise
from harness.transcripts import LONGEST, read_answers

LARGEST = 2_500_000  # characters of answers and prompts on the page: it stays below 5 MB
QUIET = ("length", "truncated", "distinct_2")  # about an answer's form: the text itself shows it
GRADED = (
    "base", "dataset", "label", "decoding", "prompt_id", "metric", "judge", "population", "seed",
    "sample", "value", "class",
)  # fmt: skip
Key = tuple[str, str, str, str]  # base, dataset, decoding, prompt id
Grades = dict[Key, dict[str, dict[str, tuple[float | None, str]]]]  # then label, grade's name


def browser_data(matrix: Matrix, folder: Path) -> dict[str, Any] | None:
    """Return what the page's script shows, plain data only; None without answers."""
    lines, left_out = fitting(read_answers(folder))
    if not lines:
        return None
    grades = read_grades(folder, {line["key"] for line in lines}, seeds_shown(lines))
    texts: dict[str, int] = {}
    names = list(dict.fromkeys(n for g in grades.values() for one in g.values() for n in one))
    labels = matrix.labels
    shown = [entry(line, grades.get(line["key"], {}), labels, names, texts) for line in lines]
    return {
        "labels": matrix.labels,
        "colours": [hex_of(colour) for colour in palette(len(matrix.labels))],
        "reference": matrix.reference,
        "grades": [{"name": name, "better": better(matrix, name)} for name in names],
        "prompts": shown,
        "texts": list(texts),
        "left_out": left_out,
    }


def fitting(lines: Iterable[dict[str, Any]]) -> tuple[list[dict[str, Any]], int]:
    """Return the prompts that fit, chosen by hash, all decodings of each; and how many do not."""
    found = []
    for line in map(cleaned, lines):
        line["key"] = (line["base"], line["dataset"], line["decoding"], line["prompt_id"])
        found.append(line)
    found.sort(key=lambda line: hashlib.sha256(line["prompt_id"].encode()).digest())
    size = 0
    kept: list[dict[str, Any]] = []
    for line in found:
        texts = {one["text"] for one in line["answers"].values()}
        size += sum(map(len, texts)) + sum(len(m["content"]) for m in line["messages"])
        if size > LARGEST and kept:
            break
        kept.append(line)
    return kept, len(found) - len(kept)


def cleaned(line: dict[str, Any]) -> dict[str, Any]:
    """Return a line whose texts are harmless whoever wrote the file: cleaned, and of a length."""
    return {
        **line,
        "messages": [
            {"role": one_line(m["role"]), "content": clean(m["content"], longest=LONGEST)}
            for m in line["messages"]
        ],
        "answers": {
            label: {**one, "text": clean(one["text"], longest=LONGEST)}
            for label, one in line["answers"].items()
        },
    }


def seeds_shown(lines: Iterable[dict[str, Any]]) -> set[tuple[str, str, str, int]]:
    """Return the seed of each row whose answers are shown."""
    return {
        (line["base"], line["dataset"], label, one["seed"])
        for line in lines
        for label, one in line["answers"].items()
    }


def read_grades(folder: Path, wanted: set[Key], seeds: set[tuple[str, str, str, int]]) -> Grades:
    """Return the first sample's grades by prompt, label and grade; one row group at a time."""
    import pyarrow.parquet as pq

    found: Grades = {}
    with pq.ParquetFile(folder / ITEMS) as file:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, columns=list(GRADED))
            for row in columnwise(table, list(GRADED)):
                base, dataset, label, decoding, prompt, metric, judge, people, seed, *rest = row
                key = (base, dataset, decoding, prompt)
                if rest[0] or key not in wanted or (base, dataset, label, seed) not in seeds:
                    continue
                name = grade_name(metric, judge, people)
                if name is not None:
                    found.setdefault(key, {}).setdefault(label, {})[name] = (rest[1], rest[2])
    return found


def grade_name(metric: str, judge: str, population: str) -> str | None:
    """Return what a grade is called, None where the text itself shows it."""
    if metric in QUIET:
        return None
    return " ".join(part for part in (metric, f"by {judge}" if judge else "", population) if part)


def better(matrix: Matrix, name: str) -> int:
    """Return 1 where more of a grade is better, -1 where less is, 0 of what is no goal at all."""
    metric = name.split(" ", 1)[0]
    found = next((m for m in matrix.metrics.values() if m.name == metric), None)
    if found is not None and found.axis == "diagnostics":
        return 0
    return 1 if found is None or found.higher_is_better else -1


def entry(
    line: dict[str, Any],
    grades: dict[str, dict[str, tuple[float | None, str]]],
    labels: list[str],
    names: list[str],
    texts: dict[str, int],
) -> dict[str, Any]:
    """Return one prompt under one decoding as the script reads it; texts are numbered."""
    answers: list[Any] = []
    for label in labels:
        one = line["answers"].get(label)
        if one is None:
            answers.append(None)
            continue
        mine = grades.get(label, {})
        values = [None if n not in mine else rounded(mine[n][0]) for n in names]
        kinds = sorted({kind for _, kind in mine.values()} - {"valid"})
        answers.append(
            {
                "t": texts.setdefault(one["text"], len(texts)),
                "v": values,
                "k": kinds if one["finished"] else sorted({*kinds, "truncated"}),
            }
        )
    return {
        "id": line["prompt_id"],
        "block": f"{line['base']}, {line['dataset']}",
        "decoding": line["decoding"],
        "tag": line["tag"],
        "messages": [
            [m["role"], texts.setdefault(m["content"], len(texts))] for m in line["messages"]
        ],
        "answers": answers,
    }


def rounded(value: float | None) -> float | None:
    """Return a grade to three decimals."""
    return None if value is None else round(value, 3)


def hex_of(colour: Iterable[float]) -> str:
    """Return a colour as #rrggbb."""
    return "#" + "".join(f"{round(255 * part):02x}" for part in colour)


def json_block(data: object) -> str:
    """Return JSON that no HTML parser can leave: `<`, `>` and `&` stand as escapes."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def lines_of(data: dict[str, Any]) -> Iterator[str]:
    """Yield what the page says under the browser."""
    yield f"First seed, first sample: {len(data['prompts']):,} prompts with their decodings."
    if data["left_out"]:
        yield f"{data['left_out']:,} more do not fit on a page; answers.jsonl.gz has them all."
