"""Draw answers and grade them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.annotations import Count, NotNegative
from harness.artifacts import (
    Demonstrations,
    Policy,
    Prompts,
    Samples,
    ScoredSamples,
    write_rows,
)
from harness.draft import Draft
from harness.judge import Answer, Judge
from harness.memory import given_room, rows_at_once
from harness.sampling import Decoding, Drawn, Wanted, batches, draw
from harness.stage import stage
from harness.stages.sanity import recited

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ROWS_AT_ONCE = 256  # answers in a batch where the device sets no limit
JUDGED_AT_ONCE = 1024
CHECKPOINT = "drawn.jsonl"
ASKED = ("prompt_id", "messages", "tag", "cluster")
Row = dict[str, Any]


@dataclass(frozen=True)
class Manner:
    """How a policy answers, by its `generation.json`: temperature, best-of-n, system text.

    One that recites has its answers in `recital`, and nothing is drawn.
    """

    temperature: float
    candidates: int
    reward: Judge | None
    system: str
    stop_ids: tuple[int, ...]
    recital: Demonstrations | None = None

    @classmethod
    def of(cls, policy: Policy, tokenizer: PreTrainedTokenizerBase, temperature: float) -> Manner:
        """Return the manner in which a policy is sampled when asked for a temperature.

        Greedy stays greedy: a tuned temperature does not change it, and n equal candidates are one.
        """
        own = policy.generation()
        known = {"temperature", "n", "reward", "system", "stop_ids", "recite"}
        if own.keys() - known:
            raise ValueError(f"{policy.id}: generation.json has {sorted(own.keys() - known)}")
        reward = opened_judge(own["reward"], policy.path.parent) if "reward" in own else None
        recital = None
        if "recite" in own:
            recital = Demonstrations(own["recite"], path=policy.path.parent / own["recite"])
        return cls(
            temperature=own.get("temperature", temperature) if temperature > 0 else 0.0,
            candidates=own.get("n", 1) if temperature > 0 else 1,
            reward=reward if temperature > 0 else None,
            system=own.get("system", ""),
            stop_ids=tuple(own.get("stop_ids", [tokenizer.eos_token_id])),
            recital=recital,
        )

    def prompt(self, messages: Sequence[dict[str, str]]) -> list[dict[str, str]]:
        """Return the messages as the policy sees them: its own system text first."""
        turns = [dict(turn) for turn in messages]
        if not self.system:
            return turns
        if turns[0]["role"] == "system":
            turns[0]["content"] = f"{self.system}\n\n{turns[0]['content']}"
            return turns
        return [{"role": "system", "content": self.system}, *turns]


def opened_judge(recipe: Row, store: Path) -> Judge:
    """Return the judge that a recipe in JSON names, its artifacts opened beside the policy."""
    from harness.rebuild import rebuild

    judge = rebuild(recipe, Judge, lambda artifact: artifact.at(store / artifact.id))
    assert isinstance(judge, Judge)
    return judge


@stage(makes=Samples)
def sample(
    out: Draft,
    policy: Policy,
    prompts: Prompts,
    *,
    n: Count,
    temperature: NotNegative,
    max_new_tokens: Count,
    seed: int,
) -> None:
    """Draw n answers to every prompt, in the policy's own manner; temperature 0 is greedy.

    Rows stand in the order of the prompts. Which answer is drawn depends on seed, prompt and sample
    number alone. Messages are the prompt's: the policy's own system text is not among them.
    """
    tokenizer = policy.tokenizer()
    manner = Manner.of(policy, tokenizer, temperature)
    decoding = Decoding(manner.temperature, max_new_tokens, manner.stop_ids, seed)
    asked = prompts.rows()
    if manner.recital is None:
        drawn = draw_all(out, policy, wanted_answers(asked, tokenizer, manner, n), decoding)
    else:
        once = recited(manner.recital, asked, tokenizer, max_new_tokens)
        drawn = [one for one in once for _ in range(n * manner.candidates)]
    answers = texts(drawn, decoding, tokenizer)
    rows = [
        {
            **{name: asked[number // n][name] for name in ASKED},
            "sample": number % n,
            "completion": answers[place],
            "token_ids": list(drawn[place].token_ids),
            "logp": round(drawn[place].logp, 6),
            "finished": drawn[place].finished,
        }
        for number, place in enumerate(chosen(out, manner, asked, drawn, answers, n))
    ]
    write_rows(out, [{name: row[name] for name in Samples.columns} for row in rows])
    out.note(
        decoding={
            "temperature": manner.temperature,
            "max_new_tokens": max_new_tokens,
            "top_k": 0,
            "top_p": 1.0,
            "candidates": manner.candidates,
            "system": manner.system,
            "stop_ids": list(manner.stop_ids),
        }
    )


def wanted_answers(
    asked: Sequence[Row], tokenizer: PreTrainedTokenizerBase, manner: Manner, n: int
) -> list[Wanted]:
    """Return what is to be drawn: prompts outermost, then samples, then candidates."""
    from harness.models import encode

    return [
        Wanted(ids, row["prompt_id"], number, candidate)
        for row in asked
        for ids in [tuple(encode(tokenizer, manner.prompt(row["messages"])))]
        for number in range(n)
        for candidate in range(manner.candidates)
    ]


def draw_all(
    out: Draft, policy: Policy, wanted: Sequence[Wanted], decoding: Decoding
) -> list[Drawn]:
    """Return one answer for each of the wanted; keep checkpoints of what is drawn, and use them."""
    drawn: dict[int, Drawn] = {}
    kept = out.resume()
    if kept is not None:
        with (kept.path / CHECKPOINT).open() as lines:
            for line in lines:
                number, ids, logp, finished = json.loads(line)
                drawn[number] = Drawn(tuple(ids), logp, finished)
    model = policy.load(out.device)
    for numbers, batch in batches(model, wanted, out.micro_batch or ROWS_AT_ONCE):
        if all(number in drawn for number in numbers):
            continue
        work = partial(drawn_in_parts, out, model, batch, decoding)
        found = given_room(out, "sampling", len(batch), work)
        drawn.update(zip(numbers, found, strict=True))
        out.progress("sample", len(drawn), len(wanted))
        if out.save_is_due() and len(drawn) < len(wanted):
            out.save(len(drawn), lambda folder: write_drawn(folder, drawn))
    generated = sum(len(one.token_ids) for one in drawn.values())
    read = sum(len(ids) for ids in {one.prompt_id: one.ids for one in wanted}.values())
    out.add(tokens_generated=generated, tokens_forward=generated + read)
    return [drawn[number] for number in range(len(wanted))]


def drawn_in_parts(
    out: Draft, model: PreTrainedModel, batch: Sequence[Wanted], decoding: Decoding
) -> list[Drawn]:
    """Return one answer for each of a batch, drawn in parts that memory has room for.

    How a batch is cut changes no draw.
    """
    limit = rows_at_once(out, "sampling") or len(batch)
    parts = [batch[start : start + limit] for start in range(0, len(batch), limit)]
    return [one for part in parts for one in draw(model, part, decoding)]


def write_drawn(folder: Path, drawn: dict[int, Drawn]) -> None:
    """Write the answers drawn so far as lines of JSON: number, ids, logp, finished."""
    with (folder / CHECKPOINT).open("w") as file:
        for number, one in sorted(drawn.items()):
            file.write(json.dumps([number, one.token_ids, one.logp, one.finished]) + "\n")


def texts(
    drawn: Sequence[Drawn], decoding: Decoding, tokenizer: PreTrainedTokenizerBase
) -> list[str]:
    """Return each answer's text without its stop token; other special tokens stay visible."""
    ids = [[token for token in one.token_ids if token not in decoding.stop_ids] for one in drawn]
    decoded: list[str] = tokenizer.batch_decode(
        ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
    )
    return decoded


def chosen(
    out: Draft,
    manner: Manner,
    asked: Sequence[Row],
    drawn: Sequence[Drawn],
    answers: Sequence[str],
    n: int,
) -> list[int]:
    """Return for each answer asked for the place of the best candidate, the first of equals."""
    if manner.reward is None or manner.candidates == 1:
        return list(range(0, len(drawn), manner.candidates))
    each = n * manner.candidates
    graded = [
        Answer(row["prompt_id"], row["messages"], answers[place], drawn[place].finished, row["tag"])
        for number, row in enumerate(asked)
        for place in range(number * each, (number + 1) * each)
    ]
    grades = list(judged(out, manner.reward, graded))
    return [
        max(range(start, start + manner.candidates), key=grades.__getitem__)
        for start in range(0, len(drawn), manner.candidates)
    ]


def judged(out: Draft, judge: Judge, answers: Sequence[Answer]) -> Iterator[float]:
    """Yield the judge's grade of each answer, with progress, counting its calls.

    Raises ValueError where the judge gave an answer no grade: it can neither win nor lose.
    """
    import torch

    for start in range(0, len(answers), JUDGED_AT_ONCE):
        part = answers[start : start + JUDGED_AT_ONCE]
        with torch.device(out.device):
            grades = judge.grade(part)
        lost = sum(map(math.isnan, grades))
        if lost:
            raise ValueError(
                f"the judge {type(judge).__name__} gave {lost} of {len(part)} answers no grade; "
                "name another, or have it compare answers instead"
            )
        yield from grades
        out.add(judge_calls=len(part))
        out.progress("grade", start + len(part), len(answers))


@stage(makes=ScoredSamples)
def score(out: Draft, samples: Samples, *, judge: Judge) -> None:
    """Add one judge's grade to every answer, as `reward`."""
    rows = samples.rows()
    grades = judged(out, judge, [Answer.of(row) for row in rows])
    write_rows(out, ({**row, "reward": grade} for row, grade in zip(rows, grades, strict=True)))
