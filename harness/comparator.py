"""Have a language model judge: which of two answers is better, or how good one is.

The model reads a frozen form and never writes: its verdict is read off the probabilities of the
labels. Comparisons show both orders, so a preference for a position cancels (Lee et al. 2023,
arXiv:2309.00267, section 2.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from harness.artifacts import Policy
from harness.judge import Answer
from harness.models import encode, load_policy, load_tokenizer
from harness.sampling import equal_lengths, require_room

if TYPE_CHECKING:
    import numpy as np
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ROWS_AT_ONCE = 128
LABEL_MASS = 0.5  # of a judge's next-token probability that its labels must have on average


class Verdict(NamedTuple):
    """What a model says of one pair, in each order and averaged."""

    p1: float
    p1_as_first: float
    p1_as_second: float
    label_mass: float

    @property
    def consistent(self) -> bool:
        """Whether both orders prefer the same answer."""
        return (self.p1_as_first > 0.5) == (self.p1_as_second > 0.5)


def verdicts(
    policy: Policy, ours: Sequence[Answer], theirs: Sequence[Answer], principle: str = ""
) -> list[float]:
    """Return the probability that each of our answers is the better one, both orders averaged.

    Raises ValueError when the model does not answer the form with a label.
    """
    return [verdict.p1 for verdict in compare(policy, ours, theirs, principle)]


def compare(
    policy: Policy, ours: Sequence[Answer], theirs: Sequence[Answer], principle: str = ""
) -> list[Verdict]:
    """Return the verdict on each pair, with both orders and the mass that the labels got."""
    from harness.hamlet import forms

    pairs = list(zip(ours, theirs, strict=True))
    shown = [(a.messages, a.completion, b.completion) for a, b in pairs]
    shown += [(a.messages, b.completion, a.completion) for a, b in pairs]
    asked = [forms.compare(*each, principle) for each in shown]
    found = label_probabilities(policy, asked, forms.VERDICTS)
    require_labels(policy, found, forms.VERDICTS)
    first = found[:, 0] / found.sum(1)
    mass = found.sum(1)
    half = len(pairs)
    return [
        Verdict(
            p1=float(first[row] + (1 - first[half + row])) / 2,
            p1_as_first=float(first[row]),
            p1_as_second=float(1 - first[half + row]),
            label_mass=float(mass[row] + mass[half + row]) / 2,
        )
        for row in range(half)
    ]


def ratings(policy: Policy, answers: Sequence[Answer], principle: str = "") -> list[float]:
    """Return the expected rating of each answer, from 1 to 10.

    Raises ValueError when the model does not answer the form with a label.
    """
    import numpy as np

    from harness.hamlet import forms

    asked = [forms.rate(answer.messages, answer.completion, principle) for answer in answers]
    found = label_probabilities(policy, asked, forms.RATINGS)
    require_labels(policy, found, forms.RATINGS)
    values = np.array([float(label) for label in forms.RATINGS])
    return [float(value) for value in found @ values / found.sum(1)]


def require_labels(policy: Policy, found: np.ndarray, labels: Sequence[str]) -> None:
    """Raise ValueError when a model puts less than half its probability on the labels."""
    mass = float(found.sum(1).mean()) if len(found) else 1.0
    if mass < LABEL_MASS:
        raise ValueError(
            f"{policy.id} is no judge: asked for one of {', '.join(labels)}, it puts {mass:.0%} of "
            f"its probability on them, and {LABEL_MASS:.0%} are needed. Name another model"
        )


def label_probabilities(policy: Policy, asked: Sequence[str], labels: Sequence[str]) -> np.ndarray:
    """Return the probability that a model answers each form with each label, (forms, labels).

    A label of several tokens is scored token by token, and what a longer label begins with (10 with
    1) is taken off the shorter one. A label also counts with a leading space where that adds no
    token. Runs on torch's default device.
    """
    import numpy as np
    import torch

    from harness.hamlet import forms

    model, tokenizer = opened(policy.path, str(torch.get_default_device()))
    prompts = [encode(tokenizer, forms.asked(form)) for form in asked]
    spelt = [spellings(tokenizer, label) for label in labels]
    each = {prefix: next_tokens(model, prompts, prefix, spelt) for prefix in prefixes(spelt)}
    found = np.zeros((len(asked), len(labels)))
    for column, variants in enumerate(spelt):
        for ids in variants:
            longer = [o for other in spelt for o in other if o != ids and o[: len(ids)] == ids]
            found[:, column] += chain(each, ids) - sum(chain(each, other) for other in longer)
    return np.maximum(found, 0.0)


@lru_cache(maxsize=2)
def opened(path: Path, device: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return a judge's model and tokenizer, kept between calls."""
    policy = Policy(path.name, path=path)
    return load_policy(policy, device), load_tokenizer(policy)


def spellings(tokenizer: PreTrainedTokenizerBase, label: str) -> list[tuple[int, ...]]:
    """Return the ids of a label as an answer, and with a leading space if that adds no token."""
    bare, spaced = (
        tuple(tokenizer(text, add_special_tokens=False)["input_ids"])
        for text in (label, f" {label}")
    )
    return [bare, spaced] if len(spaced) == len(bare) and spaced != bare else [bare]


def prefixes(spelt: Sequence[Sequence[tuple[int, ...]]]) -> set[tuple[int, ...]]:
    """Return what stands before each token of each label."""
    return {ids[:end] for variants in spelt for ids in variants for end in range(len(ids))}


Known = dict[tuple[int, ...], dict[int, "np.ndarray"]]


def chain(each: Known, ids: tuple[int, ...]) -> np.ndarray:
    """Return the probability of a token sequence after every form."""
    import numpy as np

    whole: np.ndarray = np.prod([each[ids[:end]][ids[end]] for end in range(len(ids))], axis=0)
    return whole


def next_tokens(
    model: PreTrainedModel,
    prompts: Sequence[list[int]],
    prefix: tuple[int, ...],
    spelt: Sequence[Sequence[tuple[int, ...]]],
) -> dict[int, np.ndarray]:
    """Return the probability of each token that goes on with a label, after prompt and prefix.

    Prompts of equal length are read together, so nothing is padded.
    """
    import numpy as np
    import torch

    here = len(prefix)
    wanted = sorted({i[here] for v in spelt for i in v if i[:here] == prefix and len(i) > here})
    found = np.zeros((len(prompts), len(wanted)))
    lengths = [len(prompt) + here for prompt in prompts]
    require_room(model, max(lengths, default=0), 1)
    for rows in equal_lengths(lengths, ROWS_AT_ONCE):
        ids = torch.tensor([[*prompts[row], *prefix] for row in rows], device=model.device)
        with torch.inference_mode():
            logits = model(input_ids=ids, use_cache=False, logits_to_keep=1).logits[:, -1]
            each = torch.softmax(logits.double(), dim=-1)[:, wanted]
        found[rows] = each.cpu().numpy()
    return {token: found[:, column] for column, token in enumerate(wanted)}
