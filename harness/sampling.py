"""Draw answers from a causal language model, the same ones whatever the batches.

Token t of an answer is chosen by the t-th uniform number of a Philox stream that belongs to (seed,
prompt, sample, candidate), by inverse CDF in float64. Nothing is padded on the left, which perturbs
logits: prompts of one length are read together, and a plain Llama decodes those of several at once,
each row at its own place. Answers that have ended leave the batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.decoding import is_plain_llama, kept_in_place, steps
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
    """Return one answer for each of the wanted; see `batches` for what is drawn together.

    Raises ValueError for prompts of unequal length where the model is no plain Llama, and where
    prompt and answer together would be longer than the model's context.
    """
    import torch

    widths = {len(one.ids) for one in wanted}
    if len(widths) > 1 and not is_plain_llama(model):
        raise ValueError("prompts that this model reads together must be of one length")
    require_room(model, max(widths), decoding.max_new_tokens)
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
        streams = [uniforms(decoding.seed, one, decoding.max_new_tokens) for one in wanted]
        self.uniforms = torch.from_numpy(np.stack(streams)).to(model.device)
        self.stops = torch.tensor(decoding.stop_ids, device=model.device)
        parts = equal_lengths([len(one.ids) for one in wanted], len(wanted))
        self.rows = [row for part in parts for row in part]  # still going, in batch order
        read = [read_prompts(model, [wanted[row].ids for row in part]) for part in parts]
        self.logits = torch.cat([logits for logits, _ in read])
        self.steps = steps(model, [cache for _, cache in read], decoding.max_new_tokens)

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


def read_prompts(model: PreTrainedModel, prompts: Sequence[tuple[int, ...]]) -> tuple[Tensor, Any]:
    """Return the next logits of equally long prompts, (prompts, vocabulary), and their cache.

    A prompt that stands there several times is read once.
    """
    import torch

    places = {ids: number for number, ids in enumerate(dict.fromkeys(prompts))}
    read = model(
        input_ids=torch.tensor(list(places), device=model.device), use_cache=True, logits_to_keep=1
    )
    cache, logits = read.past_key_values, read.logits[:, -1]
    if len(places) < len(prompts):
        each = torch.tensor([places[ids] for ids in prompts], device=model.device)
        cache.batch_select_indices(each)
        logits = logits[each]
    return logits, cache


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


def batches(
    model: PreTrainedModel, wanted: Sequence[Wanted], rows: int
) -> Iterator[tuple[list[int], list[Wanted]]]:
    """Yield what is wanted in batches of at most `rows`, with the numbers, shorter prompts first.

    A plain Llama decodes prompts of any lengths together, other models those of one length.
    """
    parts = equal_lengths([len(one.ids) for one in wanted], rows)
    if is_plain_llama(model):
        order = [number for part in parts for number in part]
        parts = [order[start : start + rows] for start in range(0, len(order), rows)]
    for numbers in parts:
        yield numbers, [wanted[number] for number in numbers]
