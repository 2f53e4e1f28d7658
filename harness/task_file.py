"""Read lm-eval task files as what they are: data that somebody else wrote.

lm-eval's own loader imports Python named by `!function`, and its templates run in an unrestricted
Jinja environment. Here a task file is plain YAML of bounded size, and its templates are rendered in
an immutable sandbox, once, into columns. lm-eval then gets columns and no template at all.
"""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import yaml
from jinja2 import StrictUndefined, TemplateError
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_BYTES = 100_000  # lm-eval's own task files have a few thousand
MAX_DEPTH = 20
MAX_RANGE = 1_000
MAX_TEXT = 100_000  # characters of one rendered column
MAX_SECONDS = 2.0  # for all templates of one document
FILTERS = (
    "capitalize", "default", "first", "int", "join", "last", "length", "list", "lower", "replace",
    "string", "title", "tojson", "trim", "upper",
)  # fmt: skip
KEYS = (
    "task", "output_type", "test_split", "doc_to_text", "doc_to_choice", "doc_to_target",
    "target_delimiter", "metric_list", "metadata",
)  # fmt: skip
OUTPUT_TYPES = ("multiple_choice", "loglikelihood_rolling")


class HostileTaskError(ValueError):
    """A task file that asks for more than data: code, aliases, unbounded templates."""


@dataclass(frozen=True)
class Task:
    """An lm-eval task as plain data, with its templates still unrendered."""

    name: str
    output_type: str
    settings: Mapping[str, Any]


def read_task(file: Path) -> Task:
    """Return a task file's content; raise HostileTaskError naming the file and what it tried."""
    with file.open("rb") as opened:
        source = opened.read(MAX_BYTES + 1)
    if len(source) > MAX_BYTES:
        raise HostileTaskError(f"{file}: more than {MAX_BYTES:,} bytes; a task file is short")
    try:
        refuse_aliases(source, file)
        found = yaml.safe_load(source)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise HostileTaskError(f"{file}: {one(error)}; tags that run code are refused") from None
    if not isinstance(found, dict):
        raise HostileTaskError(f"{file}: a task file is a mapping, not {type(found).__name__}")
    unknown = sorted(str(key) for key in found if key not in KEYS)
    if unknown:
        raise HostileTaskError(
            f"{file}: {', '.join(unknown)} not supported; known: {', '.join(KEYS)}"
        )
    if found.get("output_type") not in OUTPUT_TYPES:
        raise HostileTaskError(f"{file}: output_type must be one of {', '.join(OUTPUT_TYPES)}")
    if not str(found.get("task", "")).isidentifier():
        raise HostileTaskError(f"{file}: task must be a plain name, not {found.get('task')!r}")
    return Task(found["task"], found["output_type"], found)


def refuse_aliases(source: bytes, file: Path) -> None:
    """Raise HostileTaskError for an alias (they nest to any size), a tag or deep nesting."""
    depth = 0
    for event in yaml.parse(source, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise HostileTaskError(f"{file}: alias *{event.anchor} refused; write the value out")
        tag = getattr(event, "tag", None)
        if tag is not None:
            raise HostileTaskError(f"{file}: tag {tag!r} refused; no code from data")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise HostileTaskError(f"{file}: nested deeper than {MAX_DEPTH} levels")


def render(task: Task, rows: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield one document a row with `text`, `target` and, for multiple choice, `choices`.

    Raises HostileTaskError where a template leaves the sandbox, and ValueError where it fails.
    """
    sandbox = Sandbox()
    with refusing(task):
        compiled = {
            name: sandbox.from_string(str(task.settings[f"doc_to_{name}"]))
            for name in ("text", "choice", "target")
            if f"doc_to_{name}" in task.settings
        }
    for row in rows:
        with refusing(task), time_limit(MAX_SECONDS):
            shown = {k: bounded(template.generate(**row)) for k, template in compiled.items()}
        document: dict[str, Any] = {"text": shown["text"], "target": shown["target"]}
        if task.output_type == "multiple_choice":
            document["choices"] = choices(task, shown["choice"])
            document["target"] = int(shown["target"])
        yield document


@contextmanager
def refusing(task: Task) -> Iterator[None]:
    """Turn what a template raises into an error that names the task.

    A template that loads another one is a TypeError of Jinja's: the sandbox has no loader.
    """
    try:
        yield
    except (SecurityError, OverflowError, MemoryError, TimeoutError, TypeError) as error:
        raise HostileTaskError(f"task {task.name}: template refused: {one(error)}") from None
    except TemplateError as error:
        raise ValueError(f"task {task.name}: template failed: {one(error)}") from None


def choices(task: Task, text: str) -> list[str]:
    """Return the options that a template rendered as a JSON list."""
    found = json.loads(text)
    if not isinstance(found, list) or not all(isinstance(option, str) for option in found):
        raise ValueError(f"task {task.name}: doc_to_choice must render a JSON list of strings")
    return found


class Sandbox(ImmutableSandboxedEnvironment):
    """Jinja without attributes of Python, without growth, and with a short list of filters."""

    intercepted_binops = frozenset({"*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(undefined=StrictUndefined, autoescape=False)
        self.filters = {name: self.filters[name] for name in FILTERS}
        self.globals = {"range": bounded_range}

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Compute with numbers alone: `'a' * 10**9` and `'%9999999d' % 1` are refused."""
        numbers = all(isinstance(side, int | float) and abs(side) < 1e6 for side in (left, right))
        if not numbers or operator == "**":
            raise SecurityError(f"{operator} is for small numbers")
        return super().call_binop(context, operator, left, right)


def bounded_range(*bounds: int) -> range:
    """Return a range of at most MAX_RANGE numbers; raise OverflowError for a longer one."""
    found = range(*bounds)
    if len(found) > MAX_RANGE:
        raise OverflowError(f"range of {len(found):,}; at most {MAX_RANGE:,}")
    return found


def bounded(pieces: Iterable[str]) -> str:
    """Return the joined pieces of a template; raise OverflowError when they grow too long."""
    kept, length = [], 0
    for piece in pieces:
        length += len(piece)
        if length > MAX_TEXT:
            raise OverflowError(f"rendered text of more than {MAX_TEXT:,} characters")
        kept.append(piece)
    return "".join(kept)


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in the block after `seconds`. Needs the main thread, as signals do."""
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("templates are rendered in the main thread, where a time limit holds")

    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"template ran for more than {seconds} s")

    before: Callable[..., Any] | int | None = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def one(error: Exception) -> str:
    """Return an error's message on one line."""
    return " ".join(str(error).split())[:300]
