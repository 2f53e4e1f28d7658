"""End policy-gradient training early, by what the policy does on prompts it is not trained on."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.artifacts import Prompts
from harness.memory import given_room
from harness.networks import mean_kl, weights_of
from harness.rollout import Asked, Episode, pack_rows
from harness.sampling import Decoding
from harness.shared import derived_seed

if TYPE_CHECKING:
    from torch import Tensor

    from harness.ppo import PPO

COLUMNS = ("step", "proxy", "kl", "length", "eos_rate", "kept")


@dataclass(frozen=True)
class EarlyStop:
    """When training ends early, and which policy is kept then.

    Answers to `prompts` are drawn every so many iterations, before the first one too, at training's
    temperature, so that KL is the quantity on the curve. Training ends where their mean KL to the
    reference exceeds `kl` nats, or where `patience` looks in a row brought no better mean reward.
    Kept is the policy of the best look or, without patience, of the last one within `kl`. While the
    value warms up there is nothing new to see, so nobody looks.
    """

    prompts: Prompts
    every: int = 5
    kl: float | None = None
    patience: int | None = None

    def __post_init__(self) -> None:
        if self.kl is None and self.patience is None:
            raise ValueError("an early stop needs kl, patience or both; without it, leave it out")
        if self.every < 1 or (self.patience is not None and self.patience < 1):
            raise ValueError("every and patience must be at least 1")


class Lookout:
    """What an early stop has seen so far, and the weights that it keeps."""

    def __init__(self, rule: EarlyStop, asked: Sequence[Asked]) -> None:
        self.rule, self.asked = rule, asked
        self.looks: list[dict[str, float]] = []
        self.kept: dict[str, Tensor] = {}
        self.has_seen_enough = False

    def look(self, run: PPO) -> None:
        """Have the policy answer, where it is time to; never twice after the same iteration."""
        step, s = len(run.curve), run.settings
        looked = bool(self.looks) and self.looks[-1]["step"] == step
        frozen = 0 < step <= s.value_warmup
        if looked or frozen or (step % self.rule.every and step != run.steps):
            return
        seed = derived_seed(s.seed, "validation")  # the same draws at every look
        decoding = Decoding(s.temperature, s.max_new_tokens, run.stop_ids, seed)
        episodes = run.answers(self.asked, decoding)
        scores, _ = run.grade(episodes)
        rows = pack_rows(episodes, 1, run.room())
        work = partial(mean_kl, run.networks, episodes, s.temperature, run.out.device)
        kl = given_room(run.out, "training", rows, lambda: work(run.room()))
        run.require_finite(max(step - 1, 0), validation_score=math.fsum(scores), validation_kl=kl)
        self.saw(step, episodes, scores, kl, run.networks.policy)

    def saw(
        self,
        step: int,
        episodes: Sequence[Episode],
        scores: Sequence[float],
        kl: float,
        policy: Any,
    ) -> None:
        """Take a look into account: keep the policy's weights, or find that it is enough."""
        best = max((look["proxy"] for look in self.looks if look["kept"]), default=-math.inf)
        count = len(episodes)
        proxy = math.fsum(scores) / count
        within = self.rule.kl is None or kl <= self.rule.kl
        keeps = within and (self.rule.patience is None or proxy > best)
        look = {"step": step, "proxy": proxy, "kl": kl, "kept": float(keeps)}
        look["length"] = sum(len(one.token_ids) for one in episodes) / count
        look["eos_rate"] = sum(one.finished for one in episodes) / count
        self.looks.append(look)
        if keeps or not self.kept:
            self.kept = weights_of(policy)
        since = [look["kept"] for look in reversed(self.looks)].index(1.0) if self.any_kept else 0
        tired = self.rule.patience is not None and since >= self.rule.patience
        self.has_seen_enough = not within or tired

    @property
    def any_kept(self) -> bool:
        """Whether any look so far was within bounds."""
        return any(look["kept"] for look in self.looks)

    def save(self, folder: Path) -> None:
        """Write what was seen and the weights that are kept."""
        from safetensors.torch import save_file

        save_file(self.kept, folder / "best.safetensors")
        (folder / "looks.json").write_text(json.dumps(self.looks))

    def restore(self, folder: Path) -> None:
        """Go back to what `save` wrote; a run that had seen enough was over and saved nothing."""
        from safetensors.torch import load_file

        self.kept = load_file(folder / "best.safetensors")
        self.looks = json.loads((folder / "looks.json").read_text())
