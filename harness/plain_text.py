"""Text that others wrote, made safe to print, to store and to open in a spreadsheet."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence

ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|\x1b[\]PX^_].*?(?:\x07|\x1b\\|$)"  # OSC, DCS and other strings, up to their terminator
    r"|\x1b[ -/]*[0-~]?",  # any other escape
    re.DOTALL,
)
UNSAFE = re.compile(  # controls but for tab and line feed, marks that reorder text, halves of pairs
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet takes for the start of a formula


def clean(text: str, *, longest: int | None = None) -> str:
    """Return text without terminal escapes, control characters, reordering marks and surrogates.

    Line breaks and tabs stay. Text beyond `longest` characters is cut, and says so.
    """
    whole = len(text)
    if longest is not None and whole > longest:
        text = text[:longest]
    text = UNSAFE.sub("", ESCAPES.sub("", text))
    cut = longest is not None and whole > longest
    return f"{text} [cut: {whole:,} characters]" if cut else text


def one_line(text: str, *, longest: int = 200) -> str:
    """Return cleaned text on a single line."""
    return " ".join(clean(text, longest=longest).split())


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a CSV file whose text cells no spreadsheet takes for a formula."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([cell(value) for value in row] for row in rows)
    return text.getvalue()


def cell(value: object) -> str:
    """Return one CSV cell: floats to 10 significant digits, formulas as text, None as nothing."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return "" if value != value else f"{value:.10g}"
    text = clean(str(value))
    return f"'{text}" if text.startswith(FORMULA) else text
