"""What shows that training went wrong though every number is finite.

A run ends with `Diverged` where its loss climbs far above where it began, where it has lost its
reference, or where its policy comes to say nothing, one thing to everybody, the same words again
and again, or no end. The last four are compared with what the policy said before, and with what it
was to imitate: a policy that never spoke well, or that was taught to say one thing, has not
diverged.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from harness.artifacts import Policy
    from harness.draft import Draft
    from harness.rollout import Episode

WINDOW: Final = 5  # steps whose mean loss is compared with the first loss
SURGE: Final = 3.0  # times the first loss, and a nat on top, that their mean may reach
SAMPLER_GAP: Final = 0.05  # nats an answer between sampler and training forward, at the start
SAME: Final = 1e-4  # nats an answer that a policy may be from itself
SURE: Final = 3  # standard errors
KL_A_TOKEN: Final = 20.0  # mean nats; a policy that far from its reference has lost it
FEWEST: Final = 8  # answers to different prompts that tell anything of a policy
NGRAM: Final = 4  # of which most are repeats in degenerate text
LONG_ENOUGH: Final = 4 * NGRAM  # tokens, below which repeats say nothing
# Shares of answers that end a run which began below half of them. One wordless answer in ten is a
# bad policy, which evaluation shows; all of them are none.
DEGENERATE: Final = {"repetitive": 0.5, "empty": 1.0, "identical": 1.0, "unending": 1.0}
SAID: Final = {
    "repetitive": "repeat themselves",
    "empty": "are empty",
    "identical": "are one and the same",
    "unending": "come to no end",
}
SPOKEN: Final = 16  # answers drawn before and after training
LONGEST: Final = 128  # tokens of such an answer


def surge(first: float, losses: Sequence[float]) -> str:
    """Return what is wrong with a course of losses, "" where nothing is.

    first: the loss before the first step. losses: those of the last `WINDOW` steps, in nats or in
    any unit of which 1 is much.
    """
    last = math.fsum(losses) / WINDOW
    if len(losses) < WINDOW or last <= SURGE * max(first, 0.0) + 1:
        return ""
    return f"loss is {last:.4g} over the last {WINDOW} steps, and began at {first:.4g}"


def is_repetitive(token_ids: Sequence[int]) -> bool:
    """Say whether an answer is long and most of its 4-grams have stood in it before."""
    grams = [tuple(token_ids[i : i + NGRAM]) for i in range(len(token_ids) - NGRAM + 1)]
    return len(token_ids) >= LONG_ENOUGH and len(set(grams)) < len(grams) / 2


def shares(
    prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], finished: Sequence[bool]
) -> dict[str, float]:
    """Return which share of answers is degenerate in each way; all 0 for too few to tell.

    Answers are token ids with the one that stops them, where they `finished`. Only answers to
    different prompts are counted as identical: a policy may say one thing to one prompt.
    """
    once = {tuple(p): tuple(a) for p, a in zip(prompts, answers, strict=True)}
    if len(once) < FEWEST:
        return dict.fromkeys(DEGENERATE, 0.0)
    both = list(zip(answers, finished, strict=True))
    found = {
        "repetitive": sum(is_repetitive(ids) for ids, _ in both),
        "empty": sum(done and len(ids) == 1 for ids, done in both),
        "unending": sum(not done for _, done in both),
    }
    whole = {name: count / len(both) for name, count in found.items()}
    return {**whole, "identical": Counter(once.values()).most_common(1)[0][1] / len(once)}


def degenerate(now: Mapping[str, float], *before: Mapping[str, float]) -> str:
    """Return how a policy has come to speak, "" where well enough or no worse than before.

    now and each of before: `shares`, the latter of answers that it gave or was to imitate.
    """
    for name, limit in DEGENERATE.items():
        began = max(each[name] for each in before)
        if now[name] >= limit and began < limit / 2:
            return f"{now[name]:.0%} of the answers {SAID[name]} ({began:.0%} before)"
    return ""


def astray(
    measured: Mapping[str, float], before: Sequence[Mapping[str, float]], *, same_at_start: bool
) -> str:
    """Return what is wrong with a batch of answers in policy-gradient training, "" for nothing.

    measured: `harness.rollout.measurements`. before: the batches' so far, in order.
    """
    first = before[:1]
    gap, apart = measured["sampler_gap"], measured["kl"] / measured["length"]
    if not first and gap > SAMPLER_GAP:
        return f"sampler and training forward differ by {gap} nats on an answer"
    if not first and same_at_start and abs(measured["kl"]) > SAME:
        return f"KL to the policy itself is {measured['kl']}, not 0"
    if len(last := [*before[1 - WINDOW :], measured]) == WINDOW and all(map(is_negative, last)):
        return (
            f"KL is negative by {SURE} standard errors in {WINDOW} batches: no draws of the policy"
        )
    if apart > KL_A_TOKEN:
        return f"KL to the reference is {apart} nats a token"
    return degenerate(measured, *first) if first else ""


def is_negative(measured: Mapping[str, float]) -> bool:
    """Say whether a batch's mean KL is surely below 0, which draws of the policy have not.

    Nobody knows that of a batch of a checkpoint from before its error was measured.
    """
    return measured["kl"] < -SURE * measured.get("kl_error", math.inf)


def not_finite(model: Any) -> str:
    """Return the name of a weight that is not finite with what it holds, "" where there is none."""
    import torch

    for name, weight in model.named_parameters():
        if not bool(torch.isfinite(weight).all()):
            bad = weight[~torch.isfinite(weight)].flatten()[0].item()
            return f"weight {name} is {bad}"
    return ""


@dataclass(frozen=True)
class Speech:
    """A few prompts that a policy is trained on, and the answers that it is to give them.

    Ids; answers hold the id that stops them.
    """

    prompts: tuple[tuple[int, ...], ...]
    targets: tuple[tuple[int, ...], ...]
    stop_ids: tuple[int, ...]

    @classmethod
    def of(
        cls, pairs: Sequence[tuple[Sequence[int], Sequence[int]]], policy: Policy, tokenizer: Any
    ) -> Speech:
        """Return some prompts and answers of those given, of as few lengths as can be.

        Prompts of one length are drawn together, so that listening costs little.
        """
        once = {tuple(prompt): tuple(answer) for prompt, answer in pairs}
        common = Counter(len(prompt) for prompt in once)
        chosen = sorted(once, key=lambda ids: (-common[len(ids)], len(ids)))[:SPOKEN]
        stops = policy.generation().get("stop_ids", [tokenizer.eos_token_id])
        return cls(tuple(chosen), tuple(once[ids] for ids in chosen), tuple(stops))

    def heard(self, out: Draft, model: Any, seed: int) -> dict[str, float]:
        """Return the `shares` of degenerate answers among draws of the model at temperature 1."""
        if len(self.prompts) < FEWEST:
            return dict.fromkeys(DEGENERATE, 0.0)
        drawn = self.drawn(out, model, seed)
        return shares(self.prompts, [d.token_ids for d in drawn], [d.finished for d in drawn])

    def worse(self, out: Draft, model: Any, seed: int, before: Mapping[str, float]) -> str:
        """Return how a model has come to speak since `before`, "" where well enough."""
        return degenerate(self.heard(out, model, seed), before, self.taught(model))

    def taught(self, model: Any) -> dict[str, float]:
        """Return the `shares` of degenerate answers among those to be imitated.

        An answer that a draw has no room for comes to no end, just as its perfect imitation would.
        """
        limit = self.limit(model)
        return shares(self.prompts, self.targets, [len(ids) <= limit for ids in self.targets])

    def limit(self, model: Any) -> int:
        """Return the most tokens of a draw: twice the longest answer to be imitated, or fewer."""
        longest = 2 * max(map(len, self.targets), default=1)
        context = getattr(model.config, "max_position_embeddings", None) or LONGEST
        room = max(1, context - max(map(len, self.prompts), default=0))
        return min(longest, LONGEST, room)

    def drawn(self, out: Draft, model: Any, seed: int) -> list[Episode]:
        """Return an answer to each prompt, counted among those that training has drawn."""
        from harness.memory import given_room, rows_at_once
        from harness.rollout import Asked, collect, rows_together
        from harness.sampling import Decoding

        asked = [Asked(str(number), ids, None) for number, ids in enumerate(self.prompts)]
        decoding = Decoding(1.0, self.limit(model), self.stop_ids, seed)
        was_training = model.training
        model.eval()
        rows = rows_together(model, asked, rows_at_once(out, "sampling"))
        work = partial(collect, model, asked, decoding)
        found = given_room(out, "sampling", rows, lambda: work(rows_at_once(out, "sampling")))
        model.train(was_training)
        out.add(tokens_generated=sum(len(one.token_ids) for one in found))
        out.add(tokens_forward=sum(one.length for one in found))
        return found


SILENT: Final = Speech((), (), ())  # of what says nothing, such as a reward model
