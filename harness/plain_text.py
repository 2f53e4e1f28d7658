"""Text that others wrote, made safe to print, to store and to open in a spreadsheet."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Sequence

ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|\x1b[\]PX^_].*?(?:\x07|\x1b\\|$)"  # OSC, DCS and other strings, up to their terminator
    r"|\x1b[ -/]*[0-~]?",  # any other escape
    re.DOTALL,
)
REORDERING = set("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet takes for the start of a formula


def clean(text: str, *, longest: int | None = None) -> str:
    """Return text without terminal escapes, control characters, reordering marks and surrogates.

    Line breaks and tabs stay. Text beyond `longest` characters is cut, and says so.
    """
    whole = len(text)
    if longest is not None and whole > longest:
        text = text[:longest]
    text = ESCAPES.sub("", text.replace("\r\n", "\n"))
    kept = "".join(c for c in text if c in "\n\t" or not is_unsafe(c))
    cut = longest is not None and whole > longest
    return f"{kept} [cut: {whole:,} characters]" if cut else kept


def is_unsafe(character: str) -> bool:
    """Say whether a character controls the terminal, reorders text or is half of a pair."""
    return character in REORDERING or unicodedata.category(character) in ("Cc", "Cs")


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
