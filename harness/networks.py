"""What the networks of policy-gradient training say of answers, and how their weights are kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.adapters import VALUE, adapter_parameters, has_adapter, speaking
from harness.checkpoints import fill_moments, moments_of
from harness.rollout import Episode, Pack, in_rows, packs_of

if TYPE_CHECKING:
    from torch import Tensor


def answer_logits(model: Any, pack: Pack, temperature: float) -> Tensor:
    """Return the logits over temperature that each answer token was drawn by, (all tokens, vocab).

    In float32, row after row, tokens alone.
    """
    first = int(pack.positions[:, 0].min())
    kept = pack.ids.shape[1] - first
    logits = model(input_ids=pack.ids, use_cache=False, logits_to_keep=kept).logits
    rows, columns = pack.is_token.nonzero(as_tuple=True)
    chosen: Tensor = logits[rows, pack.positions[rows, columns] - first].float() / temperature
    return chosen


def answer_logprobs(model: Any, pack: Pack, temperature: float) -> Tensor:
    """Return the log-probability of each answer token at a temperature, (rows, tokens), else 0."""
    return answer_logprobs_and_entropy(model, pack, temperature, entropy=False)[0]


def answer_logprobs_and_entropy(
    model: Any, pack: Pack, temperature: float, *, entropy: bool = True
) -> tuple[Tensor, Tensor]:
    """Return log-probability and entropy in nats of each answer token, (rows, tokens) each."""
    import torch

    each = torch.log_softmax(answer_logits(model, pack, temperature), dim=-1)
    logp = each.gather(-1, pack.tokens[pack.is_token][:, None])[:, 0]
    spread = -(each.exp() * each).sum(-1) if entropy else torch.zeros_like(logp)
    return in_rows(logp, pack.is_token), in_rows(spread, pack.is_token)


def opinions(
    networks: Networks, pack: Pack, states: Pack, temperature: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return what all networks say of answers, without gradients.

    Log-probability and entropy of each token by the policy and log-probability by the reference,
    (rows, tokens) each, and the value of each state, (rows, states).
    """
    import torch

    with torch.no_grad():
        logp, spread = answer_logprobs_and_entropy(networks.policy, pack, temperature)
        reference = answer_logprobs(networks.reference, pack, temperature)
        return logp, spread, reference, networks.value(states)


def mean_kl(
    networks: Networks,
    episodes: Sequence[Episode],
    temperature: float,
    device: str,
    rows: int | None,
) -> float:
    """Return the mean over the policy's own answers of log policy/reference, in nats: k1."""
    import torch

    total = 0.0
    with torch.no_grad():
        for pack in packs_of(episodes, range(len(episodes)), device, rows):
            ours, theirs = (
                answer_logprobs(model, pack, temperature).sum()
                for model in (networks.policy, networks.reference)
            )
            total += float(ours - theirs)
    return total / len(episodes)


def backward(loss: Tensor) -> float:
    """Add a loss's gradient and return its value."""
    loss.backward()  # type: ignore[no-untyped-call]
    return float(loss.detach())


def add_text_gradient(
    model: Any, texts: Sequence[Sequence[int]], weight: float, at_once: int
) -> None:
    """Add the gradient of the weighted next-token loss, a mean over tokens, on equal-long texts."""
    import torch

    total = sum(len(ids) - 1 for ids in texts)
    for start in range(0, len(texts), at_once):
        ids = torch.tensor(texts[start : start + at_once], device=model.device)
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1].float()
        losses = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="sum"
        )
        backward(weight * losses / total)


class ValueNetwork:
    """What is still to be earned before each token of an answer: a classifier read everywhere.

    `gain` and `offset` are a reward model's own scale, so that values start as its rewards.
    """

    def __init__(self, classifier: Any, gain: float = 1.0, offset: float = 0.0) -> None:
        self.classifier = classifier
        self.gain, self.offset = gain, offset

    def __call__(self, pack: Pack) -> Tensor:
        """Return the value before each answer token, (rows, tokens), and 0 off the tokens."""
        hidden = self.classifier.base_model(input_ids=pack.ids, use_cache=False).last_hidden_state
        rows, columns = pack.is_token.nonzero(as_tuple=True)
        raw = self.classifier.score(hidden[rows, pack.positions[rows, columns]])[:, 0].float()
        return in_rows(self.gain * raw + self.offset, pack.is_token)


class OnPolicysBase:
    """A classifier that is an adapter of the policy's own frozen body, and a head of its own.

    It stands where a classifier would: the policy's adapter is silent while it speaks.
    """

    def __init__(self, policy: Any, score: Any, name: str = VALUE) -> None:
        self.policy, self.score, self.name = policy, score, name

    def base_model(self, **inputs: Any) -> Any:
        """Return what the body says under this classifier's adapter."""
        with speaking(self.policy, self.name):
            return self.policy.base_model(**inputs)

    def named_parameters(self) -> Iterator[tuple[str, Any]]:
        """Yield what is trained: the adapter and the head."""
        yield from adapter_parameters(self.policy, self.name).items()
        yield "score.weight", self.score.weight


class WithoutAdapter:
    """The frozen policy under an adapter: a reference that costs no memory."""

    def __init__(self, policy: Any) -> None:
        self.policy = policy

    def __call__(self, **inputs: Any) -> Any:
        """Return what the policy says without its adapter."""
        with speaking(self.policy, None):
            return self.policy(**inputs)

    def named_parameters(self) -> Iterator[tuple[str, Any]]:
        """Yield the policy's parameters: a fresh adapter says nothing yet."""
        yield from self.policy.named_parameters()


@dataclass
class Networks:
    """The policy and value being trained, and the frozen reference; all of one tokenizer."""

    policy: Any
    value: ValueNetwork
    reference: Any


def trained(model: Any) -> dict[str, Any]:
    """Return the parameters of a model that training moves: its adapter's, or all."""
    return adapter_parameters(model) if has_adapter(model) else dict(model.named_parameters())


def weights_of(model: Any) -> dict[str, Tensor]:
    """Return a copy of what of a model is trained, tied parameters once, on the CPU."""
    return {name: weight.detach().cpu().clone() for name, weight in trained(model).items()}


def with_weights(model: Any, weights: Mapping[str, Tensor]) -> Any:
    """Return the model with the parameters that `weights_of` copied."""
    for name, weight in trained(model).items():
        weight.data.copy_(weights[name])
    return model


def save_models(models: Mapping[str, tuple[Any, Any]], folder: Path) -> None:
    """Write what of named models is trained, and what their optimisers remember of it."""
    from safetensors.torch import save_file

    for name, (model, optimiser) in models.items():
        save_file(weights_of(model), folder / f"{name}.safetensors")
        save_file(moments_of(optimiser), folder / f"{name}-optimiser.safetensors")


def fill_models(models: Mapping[str, tuple[Any, Any]], folder: Path) -> None:
    """Give named models and their optimisers back what `save_models` wrote."""
    from safetensors.torch import load_file

    for name, (model, optimiser) in models.items():
        with_weights(model, load_file(folder / f"{name}.safetensors"))
        fill_moments(optimiser, load_file(folder / f"{name}-optimiser.safetensors"))


def without_dropout(model: Any) -> Any:
    """Return the model with every dropout at 0, in modules and in attention functions alike.

    TRL's `disable_dropout` sees modules alone, and a Llama's attention dropout is none: the policy
    would differ from its reference before the first step.
    """
    for path, module in model.named_modules():
        if ".lora_dropout." in path:  # an adapter's own, which a study asked for
            continue
        for name, value in vars(module).items():
            if isinstance(value, float) and (name == "p" or "dropout" in name):
                setattr(module, name, 0.0)
    return model


def same_weights(one: Any, other: Any) -> bool:
    """Say whether two models have equal parameters, bit for bit."""
    theirs = dict(other.named_parameters())
    mine = dict(one.named_parameters())
    return mine.keys() == theirs.keys() and all(w.equal(theirs[name]) for name, w in mine.items())
