"""B5: bytes that PPO holds with adapters on one frozen base, against four whole models.

    python tests/benchmarks/memory_of_ppo.py

Parameters, gradients and optimiser states are counted exactly, each storage once, right after
every optimiser step; the greatest count stands. Activations and logits come on top and are not in
it. Both sides are our own stage: with adapters, and with all weights, whose networks are the four
that TRL's last PPO trainer held (policy and value trained; reference and reward model frozen).
"""

from __future__ import annotations

import gc
import hashlib
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))

from tiny import byte_tokenizer, tiny_pairs, tiny_prompts

from harness.adapters import Lora, adapted
from harness.artifacts import Policy
from harness.draft import Checkpoints, Draft
from harness.judge import Reward
from harness.stage import Artifact, stage
from harness.stages.optimise import optimise
from harness.stages.reward import fit_reward
from harness.tiny import END, random_llama

LIMIT = 0.35  # of four whole models
RANK = 8
# Wide enough that an adapter is a few hundredths of a layer, as it is in real models.
SHAPE = {"hidden_size": 512, "intermediate_size": 1376, "num_hidden_layers": 2}
SHAPE |= {"num_attention_heads": 8, "num_key_value_heads": 4}
# Per parameter in float32: weight, gradient and two moments twice, and two frozen weights.
FOUR_MODELS = 2 * 16 + 2 * 4
PPO = {"batch_size": 4, "epochs": 2, "passes": 1.0, "max_new_tokens": 4, "checkpoints": 0}


@dataclass(frozen=True)
class Held:
    """The greatest number of bytes held at once, and what they were for."""

    weights: int
    gradients: int
    moments: int
    frozen_unchanged: bool

    @property
    def total(self) -> int:
        """All of them."""
        return self.weights + self.gradients + self.moments


@stage(makes=Policy)
def middling_base(out: Draft) -> None:
    """Make a random Llama of 7 million parameters over bytes."""
    from harness.models import quietly

    quietly(random_llama(0, scale=0.02, **SHAPE).save_pretrained, out.path)
    byte_tokenizer().save_pretrained(out.path)
    (out / "generation.json").write_text(json.dumps({"stop_ids": [END]}) + "\n")


def bound(value: Any, store: Path) -> Any:
    """Return a value whose artifacts are made and opened."""
    if isinstance(value, Artifact):
        return made(value, store)
    if isinstance(value, Reward):
        return Reward(made(value.model, store))
    return tuple(bound(one, store) for one in value) if isinstance(value, tuple) else value


def made(artifact: Artifact, store: Path) -> Any:
    """Return an artifact whose stages have run, inputs first."""
    folder = store / artifact.id
    if not folder.is_dir():
        recipe = artifact.recipe
        arguments = {name: bound(value, store) for name, value in recipe.arguments.items()}
        folder.mkdir()
        kept = Checkpoints(folder.with_suffix(".kept"), lambda: None, lambda aside, _: aside)
        recipe.stage.body(Draft(folder, checkpoints=kept), **arguments)
    return artifact.at(folder)


def size(tensors: Iterator[Any]) -> int:
    """Return the bytes of tensors, each storage once."""
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())


@contextmanager
def counted(found: list[Held]) -> Iterator[None]:
    """Count what is held right after every optimiser step, over all that lives in the process."""
    import torch
    from torch.optim.optimizer import register_optimizer_step_post_hook

    digests: list[str] = []

    def count(*_: Any) -> None:
        alive = gc.get_objects()
        weights = [one for one in alive if torch.nn.Parameter in type(one).__mro__]
        optimisers = [one for one in alive if torch.optim.Optimizer in type(one).__mro__]
        states = [v for one in optimisers for state in one.state.values() for v in state.values()]
        frozen = sorted((w for w in weights if not w.requires_grad), key=lambda w: w.data_ptr())
        digest = hashlib.sha256()
        for weight in frozen:
            digest.update(weight.detach().numpy().tobytes())
        digests.append(digest.hexdigest())
        found.append(
            Held(
                size(iter(weights)),
                size(w.grad for w in weights if w.grad is not None),
                size(v for v in states if torch.is_tensor(v) and v.numel() > 1),
                len(set(digests)) == 1,
            )
        )

    handle = register_optimizer_step_post_hook(count)
    try:
        yield
    finally:
        handle.remove()


def held_by(lora: Lora | None, store: Path) -> tuple[Held, int]:
    """Return the most that PPO holds at once, and the parameters of the base."""
    import torch

    from harness.models import opened_reward

    start = adapted(middling_base(), lora=lora)
    model = fit_reward(start, tiny_pairs(n=12, seed=0), batch_size=8, seed=0)
    made(model, store)
    gc.collect()
    found: list[Held] = []
    asked = tiny_prompts(n=8, seed=0)
    with counted(found):
        made(optimise(start, asked, reward=Reward(model), value=model, **PPO, seed=0), store)
    opened_reward.cache_clear()
    gc.collect()
    with torch.device("meta"):
        whole = random_llama(0, **SHAPE)
    parameters = sum(weight.numel() for weight in whole.parameters())
    return max(found, key=lambda held: held.total), parameters


def measured() -> dict[str, Any]:
    """Return both sides in bytes, their ratio, and the count by arithmetic beside them."""
    with tempfile.TemporaryDirectory() as folder:
        adapters, parameters = held_by(Lora(rank=RANK), Path(folder))
        whole, _ = held_by(None, Path(folder))
    return {
        "parameters of the base": parameters,
        "adapters on one base": vars(adapters) | {"total": adapters.total},
        "four whole models": vars(whole) | {"total": whole.total},
        "four models by arithmetic": FOUR_MODELS * parameters,
        "ratio": round(adapters.total / whole.total, 4),
        "ratio to the arithmetic": round(adapters.total / (FOUR_MODELS * parameters), 4),
        "limit": LIMIT,
        "frozen base unchanged": adapters.frozen_unchanged,
    }


if __name__ == "__main__":
    print(json.dumps(measured(), indent=1))
