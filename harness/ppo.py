"""Proximal policy optimisation of a language model against a reward, read from top to bottom.

Ouyang et al. 2022 (arXiv:2203.02155), section 3.5; Ziegler et al. 2019 (arXiv:1909.08593); Huang et
al. 2024 (arXiv:2403.17031) for what decides success. An iteration draws a batch of answers with our
sampler, recomputes their log-probabilities with the training forward at the sampling temperature,
puts the score on the last token and -beta log pi/ref on every one, and takes clipped gradient steps
of the policy and of a value network of its own.

What differs from other implementations, and why: 1. The score stands on EOS, so every row has one
convention; `legacy_after_eos` puts it a slot later. 2. An iteration's minibatches are drawn once,
only their order changes over epochs: log-probabilities are compared within one padding, and the
ratio starts at exactly 1. 3. Policy and value have an optimiser each, so there is no coefficient
between the two losses. 4. A mean over tokens is over a whole minibatch, however it was cut to fit.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from harness.divergence import astray, not_finite
from harness.draft import Diverged, Draft
from harness.early_stop import Lookout
from harness.memory import given_room, rows_at_once
from harness.networks import (
    Networks,
    add_text_gradient,
    answer_logprobs,
    backward,
    fill_models,
    opinions,
    same_weights,
    save_models,
    trained,
    weights_of,
    with_weights,
)
from harness.policy_gradient import (
    adapted_beta,
    masked_sum,
    policy_losses,
    token_rewards,
    value_losses,
)
from harness.ppo_settings import Settings
from harness.rollout import (
    PACK_TOKENS,
    Asked,
    Episode,
    Rollout,
    collect,
    cut,
    final_scores,
    generator,
    measurements,
    pack_rows,
    packs_of,
    rows_together,
    shuffled,
    whitened,
    with_advantages,
    with_ends,
)
from harness.sampling import Decoding
from harness.shared import derived_seed

if TYPE_CHECKING:
    from torch import Tensor

MAX_NORM: Final = 1.0  # of either network's gradient: Touvron et al. 2023, section 3.3
ADAM_EPS: Final = 1e-5  # Huang et al. 2024, detail 7
RATIO_GAP: Final = 1e-3  # of a log-ratio at first: rounding, were packs cut anew for want of memory

Row = dict[str, float]
Grade = Callable[[Sequence[Episode]], tuple[list[float], Row]]  # and what the curve says of them


class PPO:
    """One run of PPO: networks, optimisers, the coefficient beta, and the curve so far."""

    def __init__(
        self,
        out: Draft,
        networks: Networks,
        prompts: Sequence[Asked],
        grade: Grade,
        settings: Settings,
        *,
        stop_ids: Sequence[int],
        pretraining: Sequence[Sequence[int]] = (),
        lookout: Lookout | None = None,
    ) -> None:
        import torch

        self.out, self.networks, self.settings = out, networks, settings
        self.prompts, self.grade, self.stop_ids = prompts, grade, tuple(stop_ids)
        self.pretraining, self.lookout = pretraining, lookout
        self.beta = settings.kl
        self.curve: list[Row] = []
        self.kept: dict[int, dict[str, Tensor]] = {}
        self.same_at_start = same_weights(networks.policy, networks.reference)
        rates = (settings.learning_rate, settings.value_learning_rate)
        models = (networks.policy, networks.value.classifier)
        self.optimisers = [
            torch.optim.AdamW(
                list(trained(model).values()),
                lr=rate,
                betas=settings.adam_betas,
                eps=ADAM_EPS,
                weight_decay=settings.weight_decay,
            )
            for model, rate in zip(models, rates, strict=True)
        ]
        pairs = zip(models, self.optimisers, strict=True)
        self.models = dict(zip(("policy", "value"), pairs, strict=True))
        episodes = round(settings.passes * len(prompts))
        self.batch_size = min(settings.batch_size, episodes)
        self.steps = settings.value_warmup + episodes // self.batch_size

    def iterate(self) -> Iterator[Row]:
        """Take the iterations that are left, and yield each one's row of the curve.

        In the end the policy is the one that the lookout kept, where there is one.
        """
        look = self.lookout.look if self.lookout else lambda _: None
        parts = self.settings.checkpoints + 1
        gaps = {round(i * self.steps / parts) for i in range(1, parts)} - {self.steps}
        look(self)
        while not self.is_over():
            self.curve.append(self.iteration(len(self.curve)))
            if len(self.curve) in gaps:
                self.kept[len(self.curve)] = weights_of(self.networks.policy)
            look(self)
            yield self.curve[-1]
        if self.lookout:
            with_weights(self.networks.policy, self.lookout.kept)
        if wrong := not_finite(self.networks.policy):
            self.diverge(len(self.curve) - 1, wrong)

    def is_over(self) -> bool:
        """Say whether all iterations are done, the last batch was too far off, or it was seen."""
        limit = self.settings.stop_kl
        far = limit is not None and any(row["kl"] > limit for row in self.curve[-1:])
        seen = self.lookout is not None and self.lookout.has_seen_enough
        return far or seen or len(self.curve) >= self.steps

    def iteration(self, step: int) -> Row:
        """Draw a batch, train on it, and return what was measured; Diverged if it went wrong."""
        s = self.settings
        episodes = self.draw(step)
        scores, said = self.grade(episodes)
        self.require_finite(step, score=math.fsum(scores))
        widest = pack_rows(episodes, s.minibatches, self.room())
        work = partial(self.evaluate, step, episodes, scores)
        minibatches, measured = given_room(self.out, "training", widest, work)
        self.guard(step, measured)
        seen: list[Row] = []
        for epoch in range(s.epochs):
            for number in shuffled(len(minibatches), s.seed, "order", step, epoch):
                seen.append(self.update(minibatches[number], step, len(seen)))
                self.require_finite(step, **seen[-1])
        means = said | {name: math.fsum(row[name] for row in seen) / len(seen) for name in seen[0]}
        lengths = sum(one.length for one in episodes)
        networks = 1 if step < s.value_warmup else 2
        self.out.add(tokens_trained=networks * s.epochs * lengths, optimiser_steps=len(seen))
        row = {"step": step + 1, "episodes": (step + 1) * self.batch_size, **measured, **means}
        row |= {"beta": self.beta, "learning_rate": s.learning_rate * s.rates(step, self.steps)[0]}
        if s.kl_target is not None and step >= s.value_warmup:
            gain = len(episodes) / s.kl_horizon
            self.beta = adapted_beta(self.beta, row["kl"], target=s.kl_target, gain=gain)
        return row

    def draw(self, step: int) -> list[Episode]:
        """Return a batch of answers by the policy as it is; a draw is (step, prompt, pass)'s."""
        s = self.settings
        decoding = Decoding(
            s.temperature, s.max_new_tokens, self.stop_ids, derived_seed(s.seed, "rollout", step)
        )
        first, count = step * self.batch_size, len(self.prompts)
        places = [divmod(first + i, count) for i in range(self.batch_size)]
        laps = {lap: shuffled(count, s.seed, "prompts", lap) for lap in {lap for lap, _ in places}}
        asked = [replace(self.prompts[laps[lap][place]], number=lap) for lap, place in places]
        episodes = self.answers(asked, decoding)
        self.out.add(tokens_forward=sum(one.length for one in episodes))  # by the value network
        return episodes

    def answers(self, asked: Sequence[Asked], decoding: Decoding) -> list[Episode]:
        """Return the policy's answers, counted as drawn and as read by all but the value."""
        policy = self.networks.policy
        rows = rows_together(policy, asked, rows_at_once(self.out, "sampling"))
        work = partial(collect, policy, asked, decoding)
        limit = partial(rows_at_once, self.out, "sampling")
        episodes = given_room(self.out, "sampling", rows, lambda: work(limit()))
        whole = sum(one.length for one in episodes)  # read by sampler, policy and reference
        self.out.add(tokens_generated=sum(len(one.token_ids) for one in episodes))
        self.out.add(tokens_forward=3 * whole)
        return episodes

    def evaluate(
        self, step: int, episodes: Sequence[Episode], scores: Sequence[float]
    ) -> tuple[list[list[Rollout]], Row]:
        """Return minibatches ready to train on, with advantages, and what the batch shows."""
        import numpy as np
        import torch

        s = self.settings
        final = torch.tensor(final_scores(episodes, scores, s), device=self.out.device)
        order = shuffled(len(episodes), s.seed, "minibatches", step)
        parts = [[int(i) for i in part] for part in np.array_split(order, s.minibatches)]
        rollouts: list[list[Rollout]] = []
        entropy = 0.0
        for part in filter(None, parts):
            rollouts.append([])
            for pack in packs_of(episodes, part, self.out.device, self.room()):
                states = with_ends(pack, episodes) if s.legacy_after_eos else pack
                said = opinions(self.networks, pack, states, s.temperature)
                logp, spread, reference, values = said
                ratio, own = logp - reference, final[list(pack.numbers)]
                where = (pack.is_token, states.is_token)
                rewards = token_rewards(ratio, own, *where, self.beta)
                given = (logp, values, ratio, rewards, rewards, values)
                rollouts[-1].append(Rollout(pack, states, *given))
                entropy += float(masked_sum(spread, pack.is_token))
        if s.whiten_rewards:
            white = iter(whitened([one for part in rollouts for one in part], "rewards"))
            rollouts = [[next(white) for _ in part] for part in rollouts]
        rollouts = [[with_advantages(one, s.lam) for one in part] for part in rollouts]
        measured = measurements(episodes, scores, [one for part in rollouts for one in part])
        measured["entropy"] = entropy / sum(len(one.token_ids) for one in episodes)
        if s.whiten_advantages:
            rollouts = [whitened(part, "advantages") for part in rollouts]
        return rollouts, measured

    def update(self, part: Sequence[Rollout], step: int, nth: int) -> Row:
        """Take one gradient step of policy and value on a minibatch; return what was measured.

        While the value warms up, the policy stays as it is.
        """
        frozen = step < self.settings.value_warmup
        rates = self.settings.rates(step, self.steps)
        rows = max(len(one.pack.numbers) for one in part)
        work = partial(self.add_gradients, part, step, nth, frozen)
        forget = [optimiser.zero_grad for optimiser in self.optimisers]
        totals = given_room(self.out, "training", rows, work, lambda: [f() for f in forget])
        return totals | self.take_step(rates, frozen=frozen)

    def room(self) -> int | None:
        """Return how many rows may be trained on at once, None without a limit."""
        return rows_at_once(self.out, "training")

    def add_gradients(self, part: Sequence[Rollout], step: int, nth: int, frozen: bool) -> Row:
        """Add the gradients of both losses on a minibatch; return what was measured."""
        s = self.settings
        part = cut(part, self.room())
        tokens = float(sum(one.pack.is_token.sum() for one in part))
        states = float(sum(one.states.is_token.sum() for one in part))
        totals = dict.fromkeys(("policy_loss", "value_loss", "clip_fraction", "ratio_gap"), 0.0)
        for one in part:
            is_token = one.pack.is_token
            values = self.networks.value(one.states)
            errors, _ = value_losses(values, one.old_values, one.returns, s.value_clip)
            totals["value_loss"] += backward(masked_sum(errors, one.states.is_token) / states)
            if frozen:
                continue
            logp = answer_logprobs(self.networks.policy, one.pack, s.temperature)
            losses, held = policy_losses(logp, one.old_logp, one.advantages, s.clip)
            totals["policy_loss"] += backward(masked_sum(losses, is_token) / tokens)
            totals["clip_fraction"] += float(masked_sum(held.float(), is_token)) / tokens
            gap = float((logp.detach() - one.old_logp).abs().max())
            totals["ratio_gap"] = max(totals["ratio_gap"], gap)
        if nth == 0 and totals["ratio_gap"] > RATIO_GAP:
            self.diverge(step, f"the first log-ratio of the batch is {totals['ratio_gap']}, not 0")
        if s.pretraining_weight > 0 and not frozen:
            rows = s.pretraining_rows * sum(len(one.pack.numbers) for one in part)
            self.add_pretraining_gradient(rows, step, nth)
        return totals

    def take_step(self, rates: tuple[float, float], *, frozen: bool) -> Row:
        """Step both optimisers, gradients cut to norm one; return the norms before the cut."""
        import torch

        s, norms = self.settings, []
        full = (s.learning_rate, s.value_learning_rate)
        for number, optimiser in enumerate(self.optimisers):
            (group,) = optimiser.param_groups
            group["lr"] = rates[number] * full[number]
            norms.append(float(torch.nn.utils.clip_grad_norm_(group["params"], MAX_NORM)))
            if math.isfinite(norms[-1]) and not (frozen and number == 0):
                optimiser.step()
            optimiser.zero_grad()
        return {"grad_norm": norms[0], "value_grad_norm": norms[1]}

    def add_pretraining_gradient(self, rows: int, step: int, nth: int) -> None:
        """Add the gradient of the weighted next-token loss on blocks of pretraining text.

        The weight is on a mean over tokens: Ouyang et al. 2022 do not say what theirs is on.
        """
        s = self.settings
        draw = generator(s.seed, "pretraining", step, nth)
        chosen = [self.pretraining[i] for i in draw.integers(len(self.pretraining), size=rows)]
        limit = self.room() or max(1, PACK_TOKENS // len(chosen[0]))
        add_text_gradient(self.networks.policy, chosen, s.pretraining_weight, limit)
        self.out.add(tokens_trained=sum(map(len, chosen)))

    def guard(self, step: int, measured: Row) -> None:
        """Raise Diverged where the policy is not what was sampled, or has lost itself."""
        self.require_finite(step, **measured)
        if wrong := astray(measured, self.curve, same_at_start=self.same_at_start):
            self.diverge(step, wrong)

    def require_finite(self, step: int, **values: float) -> None:
        """Raise Diverged for a number that is not finite."""
        for name in (name for name, value in values.items() if not math.isfinite(value)):
            self.diverge(step, f"{name} is {values[name]}")

    def diverge(self, step: int, what: str) -> None:
        """Stop, saying the step and the last finite values."""
        last = json.dumps(self.curve[-1]) if self.curve else "none"
        raise Diverged(
            f"{what} at step {step + 1} of {self.steps}; last finite values: {last}. Lower "
            "learning_rate, raise kl, or look at the reward"
        )

    def save(self, folder: Path) -> None:
        """Write all that `restore` needs to go on as if never stopped; nothing is pickled."""
        from safetensors.torch import save_file

        save_models(self.models, folder)
        for step, weights in self.kept.items():
            save_file(weights, folder / f"kept-{step}.safetensors")
        if self.lookout:
            self.lookout.save(folder)
        state = {"beta": self.beta, "curve": self.curve, "kept": list(self.kept)}
        (folder / "loop.json").write_text(json.dumps(state))

    def restore(self, folder: Path) -> None:
        """Go back to a checkpoint that `save` wrote."""
        from safetensors.torch import load_file

        fill_models(self.models, folder)
        if self.lookout:
            self.lookout.restore(folder)
        state = json.loads((folder / "loop.json").read_text())
        self.beta, self.curve = state["beta"], state["curve"]
        self.kept = {step: load_file(folder / f"kept-{step}.safetensors") for step in state["kept"]}
