"""Draw answers from a causal language model, the same ones whatever the batches.

Token t of an answer is chosen by the t-th uniform number of a Philox stream that belongs to (seed,
prompt, sample, candidate), by inverse CDF in float64. Prompts of equal length go through the model
together, since padding on the left perturbs logits; answers that have ended leave the batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.decoding import kept_in_place, steps
from harness.losses import token_logprobs

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Decoding:
    """How answers are drawn, in full: nothing is taken from a model's own generation settings.

    Temperature 0 takes the likeliest token. There is no top-k, top-p or repetition penalty: an
    answer is a draw from the policy itself.
    """

    temperature: float
    max_new_tokens: int
    stop_ids: tuple[int, ...]
    seed: int

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise ValueError(f"temperature must not be negative, but is {self.temperature}")
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be at least 1, but is {self.max_new_tokens}")


@dataclass(frozen=True)
class Wanted:
    """One answer to draw: the ids of its prompt and what names its stream of uniforms."""

    ids: tuple[int, ...]
    prompt_id: str
    sample: int = 0
    candidate: int = 0


@dataclass(frozen=True)
class Drawn:
    """One answer: its ids, the stop id included, and their summed log-probability in nats.

    `logp` is at the sampling temperature, and at 1 for greedy answers.
    """

    token_ids: tuple[int, ...]
    logp: float
    finished: bool


def uniforms(seed: int, wanted: Wanted, count: int) -> np.ndarray:
    """Return the first `count` numbers in [0, 1) of one answer's stream; a longer one agrees."""
    import numpy as np

    name = f"{seed}/{wanted.sample}/{wanted.candidate}/{wanted.prompt_id}"
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "little")
    raw = np.random.Philox(key=key).random_raw(count)  # numpy guarantees these bits for ever
    return np.asarray((raw >> np.uint64(11)) * 2.0**-53)


def equal_lengths(lengths: Sequence[int], rows: int) -> list[list[int]]:
    """Return the numbers of sequences in batches of at most `rows`, all of one length.

    The order within a length is kept, and the batches depend on the lengths alone.
    """
    by_length: dict[int, list[int]] = {}
    for number, length in enumerate(lengths):
        by_length.setdefault(length, []).append(number)
    return [
        group[start : start + rows]
        for _, group in sorted(by_length.items())
        for start in range(0, len(group), rows)
    ]


def draw(model: PreTrainedModel, wanted: Sequence[Wanted], decoding: Decoding) -> list[Drawn]:
    """Return one answer for each of the wanted, whose prompts must be of equal length.

    Raises ValueError for prompts of unequal length, and where prompt and answer together would be
    longer than the model's context.
    """
    import torch

    width = len(wanted[0].ids)
    if any(len(one.ids) != width for one in wanted):
        raise ValueError("prompts drawn together must be of equal length; see equal_lengths")
    require_room(model, width, decoding.max_new_tokens)
    with torch.inference_mode():
        loop = Loop(model, wanted, decoding)
        for step in range(decoding.max_new_tokens):
            loop.take(step)
            if not loop.rows:
                break
            if step + 1 < decoding.max_new_tokens:
                loop.forward()
    return [
        Drawn(tuple(ids), logp, ids[-1] in decoding.stop_ids)
        for ids, logp in zip(loop.ids, loop.logp, strict=True)
    ]


class Loop:
    """One batch being decoded: its cache, its next logits, and the rows still going."""

    def __init__(
        self, model: PreTrainedModel, wanted: Sequence[Wanted], decoding: Decoding
    ) -> None:
        import numpy as np
        import torch

        self.decoding = decoding
        self.ids: list[list[int]] = [[] for _ in wanted]
        self.logp = [0.0] * len(wanted)
        self.rows = list(range(len(wanted)))  # of the answers still going, in batch order
        streams = [uniforms(decoding.seed, one, decoding.max_new_tokens) for one in wanted]
        self.uniforms = torch.from_numpy(np.stack(streams)).to(model.device)
        self.stops = torch.tensor(decoding.stop_ids, device=model.device)
        # A prompt is read once however many answers are drawn to it.
        prompts = {one.ids: place for place, one in reversed(list(enumerate(wanted)))}
        order = sorted(prompts, key=prompts.__getitem__)
        place = {ids: number for number, ids in enumerate(order)}
        read = model(
            input_ids=torch.tensor(order, device=model.device), use_cache=True, logits_to_keep=1
        )
        cache = read.past_key_values
        answers = torch.tensor([place[one.ids] for one in wanted], device=model.device)
        self.logits: Tensor = read.logits[:, -1][answers]
        if len(order) < len(wanted):
            cache.batch_select_indices(answers)
        self.steps = steps(model, cache, decoding.max_new_tokens)

    def take(self, step: int) -> None:
        """Choose the next token of every row, and drop the rows that stop."""
        import torch

        tokens, logp = choose(
            self.logits, self.uniforms[self.rows, step], self.decoding.temperature
        )
        going = ~torch.isin(tokens, self.stops)
        for row, token, value in zip(self.rows, tokens.tolist(), logp.tolist(), strict=True):
            self.ids[row].append(token)
            self.logp[row] += value
        if not bool(going.all()):
            order = kept_in_place(going.nonzero()[:, 0].tolist())
            self.rows = [self.rows[number] for number in order]
            self.steps.keep(order)
            tokens = tokens[order]
        self.tokens = tokens

    def forward(self) -> None:
        """Read the tokens just chosen, for the logits of the next ones."""
        self.logits = self.steps.step(self.tokens)


def choose(logits: Tensor, uniform: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Return the next token of each row and its log-probability at the temperature.

    logits: (batch, vocabulary). uniform: (batch,), float64 in [0, 1). The token is the first whose
    cumulative probability exceeds the uniform number, so one of probability 0 is never chosen.
    """
    import torch

    scaled = logits.float() / (temperature or 1.0)
    each = torch.log_softmax(scaled, dim=-1)
    if temperature == 0:
        tokens = logits.argmax(-1)
    else:
        mass = each.double().exp().cumsum(-1)
        target = (uniform * mass[:, -1])[:, None]
        tokens = torch.searchsorted(mass, target, right=True)[:, 0].clamp(max=mass.shape[1] - 1)
    return tokens, each.gather(-1, tokens[:, None])[:, 0]


def logprobs(
    model: PreTrainedModel, ids: Tensor, prompt_length: int | Tensor, temperature: float = 1.0
) -> Tensor:
    """Return the log-probability of each completion token at a temperature, by a plain forward.

    ids: (batch, length), padded on the right if at all: then no position ids are needed, and what
    stands in columns of padding is the caller's to mask. prompt_length: one number, or (batch,).
    Returns (batch, length - 1) in float32; column t is about token t + 1, and 0 on the prompt.
    """
    import torch

    logits = model(input_ids=ids, use_cache=False).logits.float() / (temperature or 1.0)
    starts = torch.as_tensor(prompt_length, device=ids.device).reshape(-1, 1)
    is_completion = (torch.arange(ids.shape[1], device=ids.device)[None] >= starts).expand_as(ids)
    return token_logprobs(logits, ids, is_completion)


def require_room(model: PreTrainedModel, prompt: int, new: int) -> None:
    """Raise ValueError when a prompt and its answer do not fit into the model's context."""
    context = getattr(model.config, "max_position_embeddings", None)
    if context is not None and prompt + new > context:
        raise ValueError(
            f"a prompt of {prompt} tokens and max_new_tokens = {new} do not fit into the model's "
            f"context of {context}; lower max_new_tokens or leave out long prompts in the data"
        )


def batches(wanted: Sequence[Wanted], rows: int) -> Iterator[tuple[list[int], list[Wanted]]]:
    """Yield the batches of `equal_lengths` with what is wanted in each."""
    for numbers in equal_lengths([len(one.ids) for one in wanted], rows):
        yield numbers, [wanted[number] for number in numbers]
