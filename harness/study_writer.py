"""Begin a study of one's own: a model's folder and a file of preferences become a TOML file."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields
from itertools import islice
from pathlib import Path
from typing import Any

from harness.bases import lacks_template
from harness.local import model_files
from harness.row_files import rows_of
from harness.row_formats import Columns, Pair, judgements
from harness.study_file import NAME, InputError, shown

STUDY = """\
# {name}: methods compared on one's own model and preferences.

schema = 1
name = "{name}"
seeds = [0]  # one seed shows that it runs; three or more support claims about methods

[bases.mine]
path = {model}
{template}
# Train small adapters instead of all weights by taking the next two lines in.
# [bases.mine.lora]
# rank = 16

# A fifth of the conversations teaches the judge and is kept from all methods.
[datasets.mine]
plugin = "jsonl"
path = {data}
{columns}reserved = 0.2
assistant = "base"

[sft]

[methods.base]

[methods.sft]

[methods.dpo]

[methods.best_of_n]
n = 8

[methods.ppo]
passes = 1.0

# A reward model learnt from the reserved rows. For claims, name a stronger judge, such as
# plugin = "classifier" with the path of a public reward model.
[judge]
plugin = "fitted"

[evaluation]
suites = ["preference", "diagnostics"]
samples = 1
max_new_tokens = 128
"""
# Columns that files in use have, most particular first: what a first row must hold, and what to
# write into the study.
FORMS: tuple[tuple[tuple[str, ...], Mapping[str, str]], ...] = (
    (("prompt", "chosen", "rejected"), {}),
    (("chosen", "rejected"), {"prompt": ""}),
    (("prompt", "responses", "ranks"), {"responses": "responses", "ranks": "ranks"}),
    (("prompt", "responses"), {"responses": "responses"}),
    (("prompt", "completion", "label"), {"completion": "completion", "thumb": "label"}),
    (("messages", "label"), {"prompt": "", "completion": "messages", "thumb": "label"}),
)


def write_study(name: str, model: Path, data: Path, folder: Path, named: Sequence[str] = ()) -> str:
    """Write NAME.toml for a model and a file of preferences; return what it holds and what to do.

    `named` are the file's columns as key=column. Every row is read once. Raises InputError for a
    name that is none or taken, a folder that is no model's, columns that are not known, a row that
    cannot be read, and a file without pairs.
    """
    if not NAME.fullmatch(name):
        raise InputError(f"{shown(name)} is no name for a study: at most 40 of a-z, 0-9, _ and -")
    file = folder / f"{name}.toml"
    if file.exists():
        raise InputError(f"{file} exists; it is left as it is")
    try:
        model_files(model)
        template = PLAIN if lacks_template(model) else ""
        chosen = columns_of(data, named)
        found = list(judgements(data, Columns(**chosen), "helpful"))
    except (OSError, ValueError) as error:
        raise InputError(str(error)) from None
    pairs = sum(isinstance(one, Pair) for one in found)
    lost = Counter(one for one in found if isinstance(one, str))
    if not pairs:
        raise InputError(f"{data} holds no pair ({dict(lost) or 'no rows'})")
    folder.mkdir(parents=True, exist_ok=True)
    content = STUDY.format(
        name=name,
        model=quoted(model.resolve()),
        data=quoted(data.resolve()),
        template=template,
        columns="".join(f"{key} = {quoted(value)}\n" for key, value in chosen.items()),
    )
    file.write_text(content, encoding="utf-8")
    lines = [f"wrote {file}: {pairs} pairs of {data.name}"]
    lines += [
        f"left out: {count} rows, {reason.replace('_', ' ')}" for reason, count in lost.items()
    ]
    lines += [f"look at it:  run_matrix.py plan {file}", f"run it:      run_matrix.py {file}"]
    return "\n".join(lines)


PLAIN = (
    'template = "plain"  # its tokenizer has no chat template: turns become User: and Assistant:'
)


def columns_of(data: Path, named: Sequence[str]) -> Mapping[str, str]:
    """Return the columns that are named as key=column; where none is, those the first row shows.

    Raises ValueError for what names no column, and InputError for columns that are not known.
    """
    other = ("axis", "chosen_score", "rejected_score")  # no settings of `jsonl` by these names
    known = [field.name for field in fields(Columns) if field.name not in other]
    pairs = [one.partition("=") for one in named]
    for key, at, column in pairs:
        if not at or key not in known:
            said = shown(f"{key}{at}{column}")
            raise ValueError(
                f"--column {said}: write KEY=COLUMN, with KEY one of {', '.join(known)}"
            )
    if pairs:
        return {key: column for key, _, column in pairs}
    first = [row for _, row in islice(rows_of(data), 1)]
    return columns_for(data, first[0] if first else {})


def columns_for(data: Path, row: Mapping[str, Any]) -> Mapping[str, str]:
    """Return what a study must say of a file's columns, as its first row shows them."""
    for needed, settings in FORMS:
        if all(column in row for column in needed):
            return settings
    known = "; ".join(", ".join(needed) for needed, _ in FORMS)
    has = ", ".join(sorted(map(str, row))) or "none"
    raise InputError(
        f"{data.name}: its first row has the columns {has}, which are none of: {known}. Name "
        "them, as in --column prompt=asked --column chosen=better --column rejected=worse"
    )


def quoted(value: object) -> str:
    """Return text as TOML writes it, which is as JSON does."""
    return json.dumps(str(value))
