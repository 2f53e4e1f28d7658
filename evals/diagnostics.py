"""How far a policy went from SFT, and what its answers are like before anybody judges them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from evals.answers import DIAGNOSTICS, Sheet, answer_class, distinct, repeated
from harness import Draft, Metric, Policy, Samples, Scores, Subject, stage, suite, write_rows
from harness.best_of_n_curves import kl_bound
from harness.stages.sample import Manner

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SHEET = Sheet(
    "diagnostics",
    "diagnostics",
    (
        Metric(
            "kl_to_sft",
            False,
            (0.0, 1e6),
            primary=True,
            description="KL(policy || SFT) in nats an answer: the sum over its tokens of the KL "
            "between the two next-token distributions; for best-of-n of SFT the bound "
            "log n - (n - 1)/n. No goal in itself, and no fair ruler across methods",
        ),
        Metric(
            "entropy",
            True,
            (0.0, 1e3),
            description="entropy of the next-token distribution in nats, mean over an answer",
        ),
        Metric("eos", True, (0.0, 1.0), description="answers that end by their end token"),
        Metric(
            "distinct_1",
            True,
            (0.0, 1.0),
            description="distinct words over all words, of all answers to one prompt",
        ),
        Metric(
            "repeated_3",
            False,
            (0.0, 1.0),
            description="word triples that occurred before in the same answer",
        ),
        *DIAGNOSTICS,
    ),
)
ELEMENTS = 1 << 23  # logits of one forward pass: 32 MB in float32, and some copies of them
GREEDY = "greedy"


@suite(axis="diagnostics", metrics=SHEET.metrics)
def diagnostics(subject: Subject) -> Scores:
    """KL to SFT on the same prompts, entropy, length, truncation, end tokens, variety, repeats."""
    return diagnose(subject.policy, subject.sft, samples=subject.samples)


@stage(makes=Scores)
def diagnose(out: Draft, policy: Policy, sft: Policy, *, samples: Mapping[str, Samples]) -> None:
    """Describe every answer; where answers were drawn, read them again with both models for KL.

    A greedy answer is no draw from a distribution, so KL and entropy are measured elsewhere alone.
    """
    rows: list[dict[str, Any]] = []
    pair = Pair.opened(policy, sft, out.device)
    for decoding, drawn in samples.items():
        answers = drawn.rows()
        rows += SHEET.diagnostics(decoding, drawn)
        rows += described(decoding, answers, pair.tokenizer.eos_token_id)
        if decoding != GREEDY:
            rows += measured(out, decoding, answers, pair)
    write_rows(out, rows)


def described(
    decoding: str, answers: Sequence[Mapping[str, Any]], eos: int
) -> Iterator[dict[str, Any]]:
    """Yield what the tokens and words of answers say: how they end, repeat and vary."""
    for _, drawn in groupby(answers, key=lambda row: row["prompt_id"]):
        rows = list(drawn)
        for row in rows:
            kind = answer_class(row)
            ended = bool(row["token_ids"]) and row["token_ids"][-1] == eos
            yield SHEET.item("eos", decoding, row, ended, kind=kind)
            share = repeated(row["completion"], 3)
            kind = "invalid" if share is None else kind
            yield SHEET.item("repeated_3", decoding, row, share, kind=kind)
        variety = distinct([row["completion"] for row in rows], 1)
        kind = "invalid" if variety is None else "valid"
        yield SHEET.item("distinct_1", decoding, rows[0], variety, kind=kind)


@dataclass(frozen=True)
class Pair:
    """A policy and SFT, in this order, and their weights."""

    policies: tuple[Policy, Policy]
    models: tuple[PreTrainedModel, PreTrainedModel]
    tokenizer: PreTrainedTokenizerBase

    @classmethod
    def opened(cls, policy: Policy, sft: Policy, device: str) -> Pair:
        """Open both, equal weights once. Raises ValueError where their vocabularies differ."""
        from harness.models import weights_folder

        tokenizer = policy.tokenizer()
        if tokenizer.get_vocab() != sft.tokenizer().get_vocab():
            raise ValueError(
                f"{policy.id} and {sft.id} have different vocabularies, so there is no KL between "
                "them; leave the suite 'diagnostics' out of this study"
            )
        model = policy.load(device)
        same = weights_folder(policy) == weights_folder(sft)
        return cls((policy, sft), (model, model if same else sft.load(device)), tokenizer)

    def manners(self, temperature: float) -> tuple[Manner, Manner]:
        """Return how each answers when asked for a temperature."""
        ours, theirs = (Manner.of(p, self.tokenizer, temperature) for p in self.policies)
        return ours, theirs

    def alike(self, ours: Manner, theirs: Manner) -> bool:
        """Say whether both draw from one distribution, best-of-n aside."""
        told = [(manner.temperature, manner.system) for manner in (ours, theirs)]
        return self.models[0] is self.models[1] and told[0] == told[1] and theirs.candidates == 1


def measured(
    out: Draft, decoding: str, answers: Sequence[dict[str, Any]], pair: Pair
) -> Iterator[dict[str, Any]]:
    """Yield KL to SFT and entropy of every answer, each policy as it draws when so asked.

    Best-of-n has no next-token distribution of its own: over SFT's draws it gets the bound
    log n - (n - 1)/n (Gao et al. 2022, arXiv:2210.10760), over any others no number.
    """
    ours, theirs = pair.manners(float(decoding.removeprefix("T=")))
    best_of, bound = ours.candidates, None
    if best_of > 1 and pair.alike(ours, theirs):
        bound = kl_bound(best_of)
    for row, (kl, entropy) in zip(
        answers, divergences(out, pair, (ours, theirs), answers), strict=True
    ):
        kind = answer_class(row)
        yield SHEET.item("entropy", decoding, row, entropy, kind=kind)
        if best_of == 1:
            yield SHEET.item("kl_to_sft", decoding, row, kl, kind=kind)
        else:
            kind = kind if bound is not None else "invalid"
            said = [["best_of", best_of]]
            yield SHEET.item("kl_to_sft", decoding, row, bound, kind=kind, findings=said)


def divergences(
    out: Draft, pair: Pair, manners: tuple[Manner, Manner], answers: Sequence[Mapping[str, Any]]
) -> list[tuple[float, float]]:
    """Return each answer's summed KL(policy || SFT) and mean entropy, in nats, in the order given.

    Given the answer so far, a token's KL is taken over the whole vocabulary: its expectation over
    the policy's answers is KL(policy || SFT), with less variance than log-ratios have.
    """
    from harness.models import batches_by_length, encode

    prompts = [
        [encode(pair.tokenizer, manner.prompt(row["messages"])) for row in answers]
        for manner in manners
    ]
    tokens = [row["token_ids"] for row in answers]
    both = zip(prompts[0], prompts[1], tokens, strict=True)
    lengths = [max(len(ours), len(theirs)) + len(answer) for ours, theirs, answer in both]
    width = pair.models[0].config.vocab_size
    found = [(0.0, 0.0)] * len(answers)
    done = 0
    for batch in batches_by_length(lengths, max(ELEMENTS // width, max(lengths))):
        own = [[prompt[row] for row in batch] for prompt in prompts]
        measures = read(pair, manners, own, [tokens[row] for row in batch])
        for row, measure in zip(batch, measures, strict=True):
            found[row] = measure
        done += len(batch)
        out.progress("diagnose", done, len(answers))
    out.add(tokens_forward=2 * sum(lengths))
    return found


def read(
    pair: Pair,
    manners: tuple[Manner, Manner],
    prompts: Sequence[Sequence[Sequence[int]]],
    answers: Sequence[Sequence[int]],
) -> list[tuple[float, float]]:
    """Return KL and entropy of a batch of answers, given the prompt as each of the two sees it.

    A policy that recites has one answer to a prompt: its entropy is 0, and its KL is minus the log-
    probability that SFT gives to that answer.
    """
    import torch

    from harness.models import right_padded

    device = str(pair.models[1].device)
    mask = response_mask([len(answer) for answer in answers], device)
    with torch.inference_mode():
        theirs = next_tokens(pair.models[1], prompts[1], answers) / manners[1].temperature
        if manners[0].recital is not None:
            ids, _ = right_padded(answers, 0, device)
            kl = -theirs.log_softmax(-1).gather(-1, ids[:, :, None])[:, :, 0]
            entropy = torch.zeros_like(kl)
        else:
            ours = next_tokens(pair.models[0], prompts[0], answers) / manners[0].temperature
            kl, entropy = token_divergence(ours, theirs)
    sums = (kl * mask).sum(1).tolist()
    averages = ((entropy * mask).sum(1) / mask.sum(1).clamp(min=1)).tolist()
    return list(zip(sums, averages, strict=True))


def response_mask(lengths: Sequence[int], device: str) -> Tensor:
    """Return (answers, longest), true on the tokens of each answer."""
    import torch

    own = torch.tensor(lengths, device=device)
    return torch.arange(max(lengths), device=device)[None] < own[:, None]


def next_tokens(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]
) -> Tensor:
    """Return the logits that chose each token of the answers, (answers, longest, vocabulary).

    What stands beyond an answer's end is another token's, and the caller's to mask.
    """
    import torch

    from harness.models import right_padded

    rows = [[*prompt, *answer] for prompt, answer in zip(prompts, answers, strict=True)]
    ids, mask = right_padded(rows, 0, str(model.device))
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits.float()
    starts = torch.tensor([len(prompt) - 1 for prompt in prompts], device=ids.device)
    longest = max(len(answer) for answer in answers)
    places = starts[:, None] + torch.arange(longest, device=ids.device)[None]
    number = torch.arange(len(rows), device=ids.device)[:, None]
    chosen: Tensor = logits[number, places.clamp(max=ids.shape[1] - 1)]
    return chosen


def token_divergence(policy: Tensor, sft: Tensor) -> tuple[Tensor, Tensor]:
    """Return KL(policy || SFT) and the policy's entropy at each token, both (...,), in nats.

    policy, sft: (..., vocabulary), logits. KL is clamped at 0, below which only rounding leads.
    """
    ours, theirs = policy.log_softmax(-1), sft.log_softmax(-1)
    chance = ours.exp()
    kl = (chance * (ours - theirs)).sum(-1).clamp(min=0)
    return kl, -(chance * ours).sum(-1)
