"""What a row of preference data says, whatever its columns: pairs, rankings, thumbs, two axes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from harness.conversations import (
    Message,
    answer,
    asked_of,
    conversation,
    digest,
    opening,
    prompt_id,
)
from harness.row_files import rows_of

Axis = Literal["helpful", "safe"]
STRENGTHS = (0.5, 1.0, 2.0)  # gaps between scores of 1 to 10 above which a pair is 2, 3, 4 strong
UP = (1, "1", "true", "up")  # and True, which equals 1
DOWN = (0, -1, "0", "-1", "false", "down")


@dataclass(frozen=True)
class Columns:
    """Which keys of a row hold what; `a.b` is key b of the object under a, and "" is none.

    Without prompt, the answers hold the whole conversation. `responses` with or without `ranks` (1
    is best; without, they are listed best first) is a ranking; `completion` with `thumb` is an
    answer that was liked or not; otherwise a row is a pair, `chosen` and `rejected`, at times with
    flags of whether each of the two is safe.
    """

    prompt: str = "prompt"
    chosen: str = "chosen"
    rejected: str = "rejected"
    responses: str = ""
    ranks: str = ""
    completion: str = ""
    thumb: str = ""
    axis: str = ""
    strength: str = ""
    chosen_safe: str = ""
    rejected_safe: str = ""
    chosen_score: str = ""
    rejected_score: str = ""

    def __post_init__(self) -> None:
        if bool(self.completion) != bool(self.thumb):
            raise ValueError("completion and thumb go together: an answer, and whether it is liked")
        if self.ranks and not self.responses:
            raise ValueError("ranks are those of responses: name the column of responses too")
        if self.responses and not self.prompt:
            raise ValueError(
                'responses are answers alone: name the column of what was asked, not prompt = ""'
            )
        if bool(self.chosen_safe) != bool(self.rejected_safe):
            raise ValueError("chosen_safe and rejected_safe go together: a flag for each answer")
        if self.chosen_safe and (self.responses or self.thumb):
            raise ValueError("flags of safety are of chosen and rejected: name no other answers")
        if bool(self.chosen_score) != bool(self.rejected_score):
            raise ValueError("chosen_score and rejected_score go together")


@dataclass(frozen=True)
class TwoAxes:
    """Rows of PKU-SafeRLHF: two responses, the more helpful one and the safer one.

    Each pair is judged once: on `axis`, or on the axis that a coin gives its prompt. With `flags`
    it also says whether each response is safe.
    """

    axis: Axis | None
    flags: bool = False


@dataclass(frozen=True)
class Pair:
    """One judgement: what was asked, the better answer and the worse one, on an axis.

    `safe` says whether an annotator found the better and the worse answer safe; None without flags.
    """

    messages: tuple[Message, ...]
    chosen: str
    rejected: str
    axis: Axis = "helpful"
    strength: int | None = None
    safe: tuple[bool, bool] | None = None

    @property
    def prompt_id(self) -> str:
        """A digest of the conversation up to the answer."""
        return prompt_id(self.messages)

    @property
    def cluster(self) -> str:
        """A digest of what the conversation opens with."""
        return opening(self.messages)


@dataclass(frozen=True)
class Liked:
    """An answer that a thumb was given to."""

    messages: tuple[Message, ...]
    completion: str
    up: bool
    axis: Axis


def judgements(path: Path, form: Columns | TwoAxes, axis: Axis) -> Iterator[Pair | str]:
    """Yield the pairs of a file's rows, and for a row that gives none the reason.

    Raises ValueError naming file, row and remedy for a row that is not as the form says.
    """
    liked: list[Liked] = []
    for place, row in rows_of(path):
        try:
            found = two_axes(row, form) if isinstance(form, TwoAxes) else said(row, form, axis)
        except ValueError as error:
            raise ValueError(f"{path}, {place}: {error}") from None
        if isinstance(found, Liked):
            liked.append(found)
        else:
            yield found
    yield from opposites(liked)


def said(row: Mapping[str, Any], columns: Columns, axis: Axis) -> Pair | Liked | str:
    """Return what one row says by its columns, or why it is no pair."""
    if columns.axis:
        axis = axis_of(cell(row, columns.axis))
    if columns.thumb:
        messages, completion = asked_and_answered(row, columns.completion, columns.prompt)
        return Liked(messages, completion, thumb_of(cell(row, columns.thumb)), axis)
    if columns.responses:
        return best_and_worst(row, columns, axis)
    strength: int | None = None
    if columns.chosen_score:
        gap = number(row, columns.chosen_score) - number(row, columns.rejected_score)
        if gap <= 0:
            return "scores_contradict_the_order" if gap < 0 else "equal_scores"
        strength = 1 + sum(gap > step for step in STRENGTHS)
    elif columns.strength:
        strength = strength_of(cell(row, columns.strength))
    safe = flags_of(row, columns.chosen_safe, columns.rejected_safe)
    chosen, rejected = said_in(row, columns.chosen), said_in(row, columns.rejected)
    if columns.prompt:
        asked = asked_of(said_in(row, columns.prompt))
        return Pair(asked, answer(chosen), answer(rejected), axis, strength, safe)
    better, worse = conversation(chosen), conversation(rejected)
    if better is None or worse is None or better[:-1] != worse[:-1]:
        return "conversations_differ_before_the_answer"
    asked = tuple(better[:-1])
    return Pair(asked, better[-1]["content"], worse[-1]["content"], axis, strength, safe)


def asked_and_answered(
    row: Mapping[str, Any], completion: str, prompt: str
) -> tuple[tuple[Message, ...], str]:
    """Return prompt and answer of a row, which may stand in one conversation."""
    if prompt:
        return asked_of(said_in(row, prompt)), answer(said_in(row, completion))
    whole = conversation(said_in(row, completion))
    if whole is None:
        raise ValueError("the transcript's turns do not alternate between Human and Assistant")
    return tuple(whole[:-1]), whole[-1]["content"]


def best_and_worst(row: Mapping[str, Any], columns: Columns, axis: Axis) -> Pair | str:
    """Return the best against the worst of a ranking: one comparison, as a pair costs.

    Among equal ranks the first listed counts.
    """
    responses = cell(row, columns.responses)
    if not (isinstance(responses, list) and len(responses) >= 2):
        raise ValueError(f"column {columns.responses!r} holds a list of two or more answers")
    ranks = cell(row, columns.ranks) if columns.ranks else list(range(len(responses)))
    if not (isinstance(ranks, list) and len(ranks) == len(responses)):
        raise ValueError(f"column {columns.ranks!r} holds one rank for each of the responses")
    if not all(isinstance(rank, int | float) and not isinstance(rank, bool) for rank in ranks):
        raise ValueError(f"a rank is a number, 1 the best; column {columns.ranks!r} has {ranks!r}")
    ranks = [finite(rank, columns.ranks) for rank in ranks]
    best, worst = ranks.index(min(ranks)), ranks.index(max(ranks))
    if best == worst:
        return "equal_ranks"
    asked = asked_of(said_in(row, columns.prompt))
    return Pair(asked, answer(responses[best]), answer(responses[worst]), axis)


def opposites(liked: Iterable[Liked]) -> Iterator[Pair | str]:
    """Yield each prompt's liked answers against its disliked ones, each answer used once."""
    groups: dict[tuple[str, Axis], list[Liked]] = defaultdict(list)
    for each in sorted(liked, key=lambda one: digest(one.completion)):
        groups[prompt_id(each.messages), each.axis].append(each)
    for thumbs in groups.values():
        ups = [one for one in thumbs if one.up]
        downs = [one for one in thumbs if not one.up]
        for up, down in zip(ups, downs, strict=False):
            yield Pair(up.messages, up.completion, down.completion, up.axis)
        yield from ["thumb_without_an_opposite"] * abs(len(ups) - len(downs))


def two_axes(row: Mapping[str, Any], form: TwoAxes) -> Pair:
    """Return the judgement of one row of PKU-SafeRLHF.

    Copies that were filtered for safety hold `response`, the safer one first, and no other label.
    (Ji et al. 2023, arXiv:2307.04657)
    """
    asked = asked_of(cell(row, "prompt"))
    coin = int(digest(["axis", opening(asked)]), 16) % 2
    axis: Axis = form.axis or ("helpful", "safe")[coin]
    if "response" in row:
        if form.flags:
            raise ValueError(
                "this copy has no flags of safety; set flags = false, or take the original rows "
                "with is_response_0_safe"
            )
        if form.axis != "safe":
            raise ValueError(
                "this copy holds the safer response first and no helpfulness label; set "
                'axis = "safe", or take the original rows with better_response_id'
            )
        responses = row["response"]
        if not (isinstance(responses, list) and len(responses) == 2):
            raise ValueError("column 'response' holds two answers, the safer one first")
        return Pair(asked, answer(responses[0]), answer(responses[1]), "safe")
    label = "better_response_id" if axis == "helpful" else "safer_response_id"
    best = cell(row, label)
    if best not in (0, 1):
        raise ValueError(f"column {label!r} is 0 or 1, not {best!r}")
    answers = [answer(cell(row, name)) for name in ("response_0", "response_1")]
    names = [f"is_response_{number}_safe" if form.flags else "" for number in (best, 1 - best)]
    safe = flags_of(row, *names)
    return Pair(asked, answers[best], answers[1 - best], axis, safe=safe)


def cell(row: Mapping[str, Any], name: str) -> Any:
    """Return what a row holds under a name; raise ValueError that lists the names it has."""
    if name in row:
        return row[name]
    value: Any = row
    for key in name.split("."):
        if not (isinstance(value, Mapping) and key in value):
            has = ", ".join(sorted(map(str, row)))
            raise ValueError(
                f"no column {name!r}; it has {has}. Name the columns in the study (prompt, chosen, "
                'rejected), and prompt = "" if the answers hold the whole conversation'
            )
        value = value[key]
    return value


def said_in(row: Mapping[str, Any], name: str) -> Any:
    """Return text or messages of a row; raise ValueError where the column is there and empty."""
    value = cell(row, name)
    if value is None:
        raise ValueError(f"column {name!r} is null; give text or messages, or leave the row out")
    return value


def number(row: Mapping[str, Any], name: str) -> float:
    """Return a finite number of a row."""
    return finite(cell(row, name), name)


def finite(value: Any, name: str) -> float:
    """Return a value of a column as a finite number; raise ValueError where it is none."""
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"column {name!r} holds a number, not {value!r}") from None
    if found - found != 0:
        raise ValueError(f"column {name!r} holds a finite number, not {value!r}")
    return found


def axis_of(value: object) -> Axis:
    """Return the axis that a row names."""
    if value == "helpful":
        return "helpful"
    if value == "safe":
        return "safe"
    raise ValueError(f'axis {value!r}: a row is judged for "helpful" or "safe"')


def strength_of(value: object) -> int | None:
    """Return how clear a preference is, 1 to 4, or nothing."""
    if value is None or (isinstance(value, int) and value in (1, 2, 3, 4) and value is not True):
        return value
    raise ValueError(f"strength {value!r}: 1 (negligibly better) to 4 (significantly), or null")


def flags_of(row: Mapping[str, Any], chosen: str, rejected: str) -> tuple[bool, bool] | None:
    """Return whether an annotator found each answer safe; None where no column or no flag is."""
    found = [cell(row, name) for name in (chosen, rejected) if name]
    if not found or found == [None, None]:
        return None
    for flag in found:
        if not isinstance(flag, bool) and (isinstance(flag, float) or flag not in (0, 1)):
            raise ValueError(f"a flag of safety is true or false, for both answers, not {flag!r}")
    return bool(found[0]), bool(found[1])


def thumb_of(value: object) -> bool:
    """Return whether a thumb is up."""
    key = value.casefold() if isinstance(value, str) else value
    if key not in UP and key not in DOWN:
        raise ValueError(f"thumb {value!r}: write true or false, 1 or 0, up or down")
    return key in UP
