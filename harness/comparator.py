"""Have a language model judge: which of two answers is better, or how good one is.

The verdict is read off the probabilities of the labels after a frozen form; the model writes
nothing unless it is asked for its reasons first. Comparisons show both orders, so a preference for
a position cancels (Lee et al. 2023, arXiv:2309.00267, sections 2.1 and 2.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from harness.artifacts import Policy
from harness.judge import Answer, Verdict
from harness.models import encode, load_policy, load_tokenizer
from harness.sampling import Decoding, Wanted, batches, draw, equal_lengths, require_room

if TYPE_CHECKING:
    import numpy as np
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ROWS_AT_ONCE = 128
LABEL_MASS = 0.5  # of a judge's next-token probability that its labels must have
EXPLAIN = "Explain which of the two is better, and why."


def compare(
    policy: Policy,
    ours: Sequence[Answer],
    theirs: Sequence[Answer],
    principle: str = "",
    *,
    rationale_tokens: int = 0,
    both_orders: bool = True,
) -> list[Verdict]:
    """Return the verdict on each pair: the averaged one, each order's, the mass of the labels.

    A pair of which the model gives its labels less than half of its probability, in either order,
    gets no verdict: its p1 is NaN. Raises ValueError when that holds on average over all pairs: the
    model does not answer the form at all.
    """
    from harness.hamlet import forms

    pairs = list(zip(ours, theirs, strict=True))
    shown = [(a.messages, a.completion, b.completion) for a, b in pairs]
    if both_orders:
        shown += [(a.messages, b.completion, a.completion) for a, b in pairs]
    asked = [forms.compare(*each, principle) for each in shown]
    reasons = [""] * len(asked)
    if rationale_tokens:
        reasons = rationales(policy, asked, rationale_tokens)
        asked = [reasoned(form, reason) for form, reason in zip(asked, reasons, strict=True)]
    found = label_probabilities(policy, asked, forms.VERDICTS)
    require_labels(policy, found, forms.VERDICTS)
    half = len(pairs)
    return [verdict(found[row::half], tuple(reasons[row::half])) for row in range(half)]


def verdict(found: np.ndarray, reasons: tuple[str, ...]) -> Verdict:
    """Return the verdict in the label probabilities of a pair, (orders shown, 2)."""
    import numpy as np

    mass = found.sum(1)
    said = tuple(reason for reason in reasons if reason)
    if mass.min() < LABEL_MASS:
        return Verdict(float("nan"), label_mass=float(mass.min()), rationales=said)
    first = found[:, 0] / mass
    as_first = float(first[0])
    as_second = 1 - float(first[1]) if len(first) == 2 else None
    # On a grid of 2**-40 a half plus and a half minus anything are exact, so that the swapped pair
    # gets exactly one minus this.
    lean = (first[0] - first[1]) / 2 if len(first) == 2 else first[0] - 0.5
    p1 = 0.5 + float(np.round(lean * 2.0**40)) / 2.0**40
    return Verdict(p1, as_first, as_second, float(mass.min()), said)


def rationales(policy: Policy, asked: Sequence[str], tokens: int) -> list[str]:
    """Return the reasons a model gives, greedily, when asked to explain before it judges."""
    import torch

    from harness.hamlet import forms

    model, tokenizer = opened(policy.path, str(torch.get_default_device()))
    stops = tuple(policy.generation().get("stop_ids", [tokenizer.eos_token_id]))
    decoding = Decoding(0.0, tokens, stops, seed=0)  # greedy: the seed draws nothing
    wanted = [
        Wanted(tuple(encode(tokenizer, forms.asked(f"{body(form)}\n{EXPLAIN}"))), str(number))
        for number, form in enumerate(asked)
    ]
    said = [""] * len(asked)
    for numbers, batch in batches(model, wanted, ROWS_AT_ONCE):
        for number, one in zip(numbers, draw(model, batch, decoding), strict=True):
            ids = [token for token in one.token_ids if token not in stops]
            said[number] = tokenizer.decode(ids, clean_up_tokenization_spaces=False).strip()
    return said


def reasoned(form: str, reason: str) -> str:
    """Return a comparison with the reasons given before its ending."""
    return f"{body(form)}\nReasons: {reason}\n{form[len(body(form)) + 1 :]}"


def body(form: str) -> str:
    """Return a comparison without its last line, which asks for the verdict."""
    return form.rpartition("\n")[0]


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
    import torch

    from harness.hamlet import forms

    model, tokenizer = opened(policy.path, str(torch.get_default_device()))
    prompts = [encode(tokenizer, forms.asked(form)) for form in asked]
    return probabilities_after(model, prompts, [spellings(tokenizer, label) for label in labels])


def probabilities_after(
    model: PreTrainedModel,
    prompts: Sequence[list[int]],
    spelt: Sequence[Sequence[tuple[int, ...]]],
) -> np.ndarray:
    """Return the probability that a model goes on with each label, (prompts, labels).

    A label is given by the ids of its spellings, whose probabilities are added up.
    """
    import numpy as np

    each = {prefix: next_tokens(model, prompts, prefix, spelt) for prefix in prefixes(spelt)}
    found = np.zeros((len(prompts), len(spelt)))
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
