"""Files of rows, known by their bytes: JSON lines, JSON, CSV and Parquet, of a folder or the hub.

The hub's files are read where its client keeps a commit. `datasets` is not asked: its own cache
gives a former file's rows for a changed one, and takes a revision without looking at it.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from harness.local import LocalFile, local_file
from harness.sources import is_absent, is_of_hub, is_partial, lacking, no_digest

KINDS = (".jsonl", ".json", ".csv", ".parquet")
EXAMPLE = '{"prompt": "...", "chosen": "...", "rejected": "..."}'


def rows_of(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the rows of a file, each with the words that name its place, such as "line 3".

    Raises ValueError naming file and place for what is no row, for a file of an unknown kind, and
    for one that is torn.
    """
    from pyarrow import ArrowInvalid

    try:
        yield from unpacked(path)
    except (EOFError, gzip.BadGzipFile, zlib.error, ArrowInvalid, csv.Error) as error:
        raise ValueError(
            f"{path}: {error}. The file is torn, or not of the kind that its name says: copy it "
            "again"
        ) from None


def unpacked(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the rows of a file of any kind."""
    plain = path.with_suffix("") if path.suffix == ".gz" else path
    if plain.suffix == ".parquet":
        from pyarrow import parquet

        table = parquet.ParquetFile(path)
        found = (row for batch in table.iter_batches(1000) for row in batch.to_pylist())
        yield from ((f"row {number}", row) for number, row in enumerate(found, 1))
        return
    if plain.suffix not in KINDS:
        raise ValueError(f"{path}: rows are read from {', '.join(KINDS)}, the text ones .gz")
    opened: Callable[..., Any] = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rb") as file:
        if plain.suffix == ".csv":
            lines = csv.DictReader(io.TextIOWrapper(file, "utf-8-sig", newline=""))
            yield from ((f"row {number}", row) for number, row in enumerate(lines, 1))
        elif plain.suffix == ".json":
            yield from listed(file.read(), path)
        else:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield f"line {number}", json_row(line, f"{path}, line {number}")


def listed(content: bytes, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the rows of a JSON list."""
    try:
        rows = json.loads(content)
    except ValueError as error:
        raise ValueError(f"{path}: {unread(error)}") from None
    if not isinstance(rows, list):
        raise ValueError(f"{path}: not a JSON list of objects such as {EXAMPLE}")
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise ValueError(f"{path}, row {number}: not a JSON object such as {EXAMPLE}")
        yield f"row {number}", row


def json_row(line: bytes, where: str) -> dict[str, Any]:
    """Return the object of one line of JSON."""
    try:
        row = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{where}: {unread(error)}") from None
    if not isinstance(row, dict):
        raise ValueError(f"{where}: not a JSON object such as {EXAMPLE}")
    return row


def unread(error: ValueError) -> str:
    """Return why text is no JSON, with what to do about it."""
    if isinstance(error, UnicodeDecodeError):
        return f"{error}. Save the file as UTF-8"
    return f"{error}. A row is one JSON object, such as {EXAMPLE}"


def files_in(place: str | Path, pattern: str) -> tuple[LocalFile, ...]:
    """Return a file, or a folder's files that fit a pattern, by their digests, sorted by path.

    Raises FileNotFoundError that says what was looked for and where.
    """
    folder = Path(place).expanduser()
    if is_absent(folder):
        return (LocalFile(no_digest(f"{folder} {pattern}"), str(folder)),)
    if not folder.is_dir() and not is_of_hub(folder):
        return (local_file(folder),)
    found = tuple(local_file(file) for file in sorted(folder.glob(pattern)) if file.is_file())
    if not found or is_partial(folder, pattern):
        there = sorted(str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file())
        error = FileNotFoundError(
            f"no file {pattern} in {folder.absolute()}; it has {', '.join(there[:8]) or 'none'}"
        )
        return lacking(folder, pattern, error)
    return found
