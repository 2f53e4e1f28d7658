"""Conversations as data files hold them: messages, or transcripts of Human and Assistant."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Message = dict[str, str]
ROLES = ("system", "user", "assistant")
TURN = re.compile(r"\n\n(Human|Assistant):")
SPEAKERS = {"Human": "user", "Assistant": "assistant"}
EXAMPLE = '{"prompt": "...", "chosen": "...", "rejected": "..."}'


@dataclass(frozen=True)
class Columns:
    """Which keys of a line hold what; without prompt, both answers hold the whole conversation."""

    prompt: str | None
    chosen: str
    rejected: str


@dataclass(frozen=True)
class Pair:
    """One line as read: what was asked, the better answer and the worse one."""

    messages: tuple[Message, ...]
    chosen: str
    rejected: str

    @property
    def prompt_id(self) -> str:
        """A digest of the conversation up to the answer."""
        return digest([[turn["role"], turn["content"]] for turn in self.messages])

    @property
    def cluster(self) -> str:
        """A digest of what the conversation opens with: its first user turn."""
        return digest(next(t["content"] for t in self.messages if t["role"] == "user").split())


def parsed(path: Path, columns: Columns) -> Iterator[Pair | None]:
    """Yield the pair of every line, None where the two conversations differ before the answer.

    Raises ValueError naming file and line for what is no JSON object, lacks a column, or has roles
    in no order that a conversation has.
    """
    opened: Callable[..., Any] = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                yield pair_of(json.loads(line), columns)
            except ValueError as error:
                raise ValueError(f"{path.name}, line {number}: {error}") from None


def pair_of(row: object, columns: Columns) -> Pair | None:
    """Return the pair of one line; raise ValueError saying what it should have been."""
    if not isinstance(row, dict):
        raise ValueError(f"not a JSON object such as {EXAMPLE}")
    for name in (columns.prompt, columns.chosen, columns.rejected):
        if name is not None and name not in row:
            has = ", ".join(sorted(row))
            raise ValueError(
                f"no column {name!r}; it has {has}. Name the columns in the study (prompt, chosen, "
                'rejected), and prompt = "" if the answers hold the whole conversation'
            )
    chosen, rejected = row[columns.chosen], row[columns.rejected]
    if columns.prompt is None:
        better, worse = conversation(chosen), conversation(rejected)
        if better is None or worse is None or better[:-1] != worse[:-1]:
            return None
        return Pair(tuple(better[:-1]), better[-1]["content"], worse[-1]["content"])
    asked = row[columns.prompt]
    messages = [{"role": "user", "content": asked}] if isinstance(asked, str) else turns(asked)
    if messages[-1]["role"] != "user":
        raise ValueError(f"the prompt ends with a turn of the {messages[-1]['role']}, not the user")
    in_order(messages)
    return Pair(tuple(map(clean, messages)), answer(chosen), answer(rejected))


def conversation(value: object) -> list[Message] | None:
    """Return a whole conversation ending in an answer; None for a transcript with torn turns."""
    if isinstance(value, str):
        if not TURN.match(value):
            raise ValueError(
                'a conversation as text begins with "\\n\\nHuman:"; if the prompt is apart, name '
                "its column"
            )
        parts = TURN.split(value)[1:]
        found = [
            {"role": SPEAKERS[speaker], "content": text.strip()}
            for speaker, text in zip(parts[::2], parts[1::2], strict=True)
        ]
        alternate = all(t["role"] == ("user", "assistant")[n % 2] for n, t in enumerate(found))
        return [clean(turn) for turn in found] if alternate and len(found) % 2 == 0 else None
    messages = turns(value)
    if messages[-1]["role"] != "assistant":
        raise ValueError("a conversation ends with the assistant's answer")
    in_order(messages[:-1])
    return [clean(turn) for turn in messages]


def turns(value: object) -> list[Message]:
    """Return a list of messages; raise ValueError for anything else, or an unknown role."""
    if not (isinstance(value, list) and value and all(isinstance(turn, dict) for turn in value)):
        raise ValueError('messages are a list such as [{"role": "user", "content": "..."}]')
    for turn in value:
        if turn.get("role") not in ROLES:
            raise ValueError(f"role {turn.get('role')!r}: a role is one of {', '.join(ROLES)}")
        if not isinstance(turn.get("content"), str):
            raise ValueError("a message's content is text")
    return value


def in_order(messages: Sequence[Message]) -> None:
    """Raise ValueError unless users and assistants alternate, after at most one system turn."""
    spoken = messages[1:] if messages[0]["role"] == "system" else messages
    expected = [("user", "assistant")[number % 2] for number in range(len(spoken))]
    if [turn["role"] for turn in spoken] != expected or len(spoken) % 2 == 0:
        order = ", ".join(turn["role"] for turn in messages)
        raise ValueError(f"turns alternate from user to user; this prompt has {order}")


def answer(value: object) -> str:
    """Return an answer given as text or as one message of the assistant."""
    if isinstance(value, str):
        return text(value)
    messages = turns(value)
    if len(messages) != 1 or messages[0]["role"] != "assistant":
        raise ValueError(
            'an answer is text or one message of the assistant; leave the prompt out (prompt = "") '
            "if chosen and rejected hold the whole conversation"
        )
    return text(messages[0]["content"])


def clean(turn: Message) -> Message:
    """Return a turn with role and content alone."""
    return {"role": turn["role"], "content": text(turn["content"])}


def text(value: str) -> str:
    """Return text that UTF-8 can hold: lone surrogates become question marks."""
    return value.encode("utf-8", "replace").decode("utf-8")


def digest(value: object) -> str:
    """Return 16 hexadecimal digits of the SHA-256 of plain data."""
    return hashlib.sha256(json.dumps(value, ensure_ascii=True).encode()).hexdigest()[:16]
