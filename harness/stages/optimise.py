"""Reinforcement learning from a reward: sample answers, score them, raise the better ones."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.adapters import has_adapter, prepared
from harness.annotations import Count, NotNegative, Positive, ProperShare, Share, Whole
from harness.artifacts import Policy, Prompts, RewardModel, Texts
from harness.draft import Diverged, Draft
from harness.early_stop import EarlyStop
from harness.judge import Answer, Judge
from harness.ppo_settings import Decay, MissingEos, Settings, ValueHead
from harness.stage import stage

if TYPE_CHECKING:
    from harness.networks import Networks, ValueNetwork
    from harness.ppo import PPO
    from harness.rollout import Asked, Episode
    from harness.stages.sample import Manner

BLOCK = 128  # tokens of a block of pretraining text

COLUMNS = (
    "step",
    "episodes",
    "proxy",
    "proxy_std",
    "reward",
    "kl",
    "kl_k3",
    "beta",
    "length",
    "eos_rate",
    "entropy",
    "repeating",
    "policy_loss",
    "value_loss",
    "clip_fraction",
    "ratio_gap",
    "explained_variance",
    "grad_norm",
    "value_grad_norm",
    "learning_rate",
    "sampler_gap",
)


def has_what_it_reads(given: Mapping[str, Any]) -> None:
    """Raise ValueError where a setting of `optimise` asks for a model or text that is not given."""
    if given["value_head"] == "reward" and given["value"] is None:
        raise ValueError('value_head = "reward" needs a reward model as `value`; or set "zeros"')
    if given["pretraining_weight"] and given["pretraining"] is None:
        raise ValueError(
            "pretraining_weight needs pretraining text, and the dataset offers none; set it to 0"
        )


OF_REWARD = "reward/"  # columns of what the judge said of its grades
LATER = ("early_stop", "legacy_after_eos")


@stage(makes=Policy, version=3, later=LATER, check=has_what_it_reads)
def optimise(
    out: Draft,
    policy: Policy,
    prompts: Prompts,
    *,
    reward: Judge,
    value: RewardModel | None,
    reference: Policy | None = None,
    pretraining: Texts | None = None,
    kl: NotNegative = 0.05,
    kl_target: Positive | None = None,
    kl_horizon: Count = 10_000,
    passes: Positive = 8.0,
    batch_size: Count = 512,
    minibatches: Count = 1,
    epochs: Count = 4,
    learning_rate: NotNegative = 3e-6,
    value_learning_rate: NotNegative = 3e-6,
    schedule: Decay = "linear",
    warmup: Whole = 0,
    value_warmup: Whole = 0,
    value_head: ValueHead = "zeros",
    clip: Positive | None = 0.2,
    value_clip: Positive | None = 0.2,
    lam: Share = 0.95,
    whiten_scores: bool = False,
    whiten_rewards: bool = False,
    whiten_advantages: bool = True,
    missing_eos: MissingEos = "replace",
    missing_eos_score: float = -1.0,
    temperature: Positive = 0.7,
    max_new_tokens: Count,
    pretraining_weight: NotNegative = 0.0,
    pretraining_rows: Count = 8,
    adam_betas: tuple[ProperShare, ProperShare] = (0.9, 0.999),
    weight_decay: NotNegative = 0.0,
    stop_kl: Positive | None = None,
    checkpoints: Whole = 3,
    early_stop: EarlyStop | None = None,
    legacy_after_eos: bool | None = None,
    seed: int,
) -> None:
    """Make the policy that PPO reaches from `policy` under a reward, near a reference; `Settings`.

    `value` starts the value network, the policy where None; its head starts at zeros, the mean of a
    normalised reward: a reward model's own was ten deviations off before EOS. `reference` is the
    policy unless given. Defaults: Huang et al. 2024's code; `harness.PRESETS` has others'.
    """
    given = Sources(reward, value, reference or policy, pretraining, early_stop)
    train(out, policy, prompts, given, Settings.among(locals()))


@dataclass(frozen=True)
class Sources:
    """What a policy is optimised against and stays near to."""

    reward: Judge
    value: RewardModel | None
    reference: Policy
    pretraining: Texts | None
    early_stop: EarlyStop | None = None


def train(
    out: Draft, policy: Policy, prompts: Prompts, sources: Sources, settings: Settings
) -> None:
    """Run PPO from its last checkpoint or the beginning; write the policy, its curve and others."""
    from harness.early_stop import COLUMNS as LOOKS
    from harness.early_stop import Lookout
    from harness.networks import with_weights
    from harness.ppo import PPO
    from harness.stages.sample import Manner
    from harness.training import save_model, write_curve

    tokenizer = policy.tokenizer()
    manner = Manner.of(policy, tokenizer, settings.temperature)
    networks = networks_for(out, policy, sources, settings, tokenizer.pad_token_id)
    rule = sources.early_stop
    run = PPO(
        out,
        networks,
        asked(tokenizer, manner, prompts),
        lambda episodes: graded(out, sources.reward, tokenizer, manner.stop_ids, episodes),
        settings,
        stop_ids=manner.stop_ids,
        pretraining=blocks(tokenizer, sources.pretraining, settings.pretraining_weight),
        lookout=Lookout(rule, asked(tokenizer, manner, rule.prompts)) if rule else None,
    )
    try:
        finish(out, run)
    except Diverged:
        write_curve(out, run.curve, columns_of(run.curve))
        raise
    write_curve(out, run.curve, columns_of(run.curve))
    if run.lookout:
        write_curve(out, run.lookout.looks, LOOKS, "validation.csv")
    save_model(out, networks.policy, tokenizer, policy)
    for step, weights in run.kept.items():
        folder = out / "checkpoints" / f"step-{step}"
        folder.mkdir(parents=True)
        save_model(Draft(folder), with_weights(networks.policy, weights), tokenizer, policy)
    out.note(iterations=len(run.curve), prompts=len(run.prompts))


def columns_of(curve: Sequence[Mapping[str, float]]) -> list[str]:
    """Return the columns of a curve: those that all have, and those of its own reward."""
    return [*COLUMNS, *(name for row in curve[:1] for name in row if name.startswith(OF_REWARD))]


def finish(out: Draft, run: PPO) -> None:
    """Take all iterations that are left, with progress, and a checkpoint now and then."""
    found = out.resume()
    if found is not None:
        run.restore(found.path)
    for _ in run.iterate():
        done = len(run.curve)
        out.progress("optimise", done, run.steps)
        if out.save_is_due() and not run.is_over():
            out.save(done, run.save)


def asked(tokenizer: Any, manner: Manner, prompts: Prompts) -> list[Asked]:
    """Return the prompts as the policy reads them. Raises ValueError where there are none."""
    from harness.models import encode
    from harness.rollout import Asked

    rows = prompts.rows()
    if not rows:
        raise ValueError(f"{prompts.id} has no prompts to sample answers to")
    ids = [tuple(encode(tokenizer, manner.prompt(row["messages"]))) for row in rows]
    return [Asked(row["prompt_id"], one, row) for row, one in zip(rows, ids, strict=True)]


def graded(
    out: Draft,
    reward: Judge,
    tokenizer: Any,
    stop_ids: tuple[int, ...],
    episodes: Sequence[Episode],
) -> tuple[list[float], dict[str, float]]:
    """Return the reward of each episode, judged on its text cut at the stop token.

    And what the judge says of them, by the names that a curve has for it.
    """
    import torch

    ids = [[token for token in one.token_ids if token not in stop_ids] for one in episodes]
    texts = tokenizer.batch_decode(
        ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
    )
    answers = [
        Answer(one.asked.prompt_id, row["messages"], text, one.finished, row["tag"])
        for one, text in zip(episodes, texts, strict=True)
        for row in [one.asked.row]
    ]
    out.add(judge_calls=len(answers))
    with torch.device(out.device):
        grades, said = reward.explained(answers)
    return grades, {f"{OF_REWARD}{name}": value for name, value in said.items()}


def networks_for(
    out: Draft, policy: Policy, sources: Sources, settings: Settings, pad_id: int
) -> Networks:
    """Return the three networks; where the policy trains an adapter, on as few bodies as can be.

    Its reference is then the policy without the adapter, and its value another adapter on the same
    frozen body, wherever these stand on the same weights.
    """
    from harness.models import weights_folder
    from harness.networks import Networks, WithoutAdapter, without_dropout

    model = prepared(without_dropout(policy.load(out.device)), policy, settings.seed)
    if not has_adapter(model):
        value = value_network(sources.value, policy, settings, pad_id, out.device)
        return Networks(model, value, without_dropout(sources.reference.load(out.device)))
    value = value_adapter(model, sources.value, policy, settings)
    reference: Any = WithoutAdapter(model)
    if weights_folder(sources.reference) != weights_folder(policy):
        reference = without_dropout(sources.reference.load(out.device))
    return Networks(model, value, reference)


def value_network(
    start: RewardModel | None, policy: Policy, settings: Settings, pad_id: int, device: str
) -> ValueNetwork:
    """Return a value network with the body of a reward model, or of the policy where None."""
    from harness.networks import without_dropout
    from harness.stages.reward import with_head

    if start is not None:
        classifier = start.load(device)
    else:
        classifier = with_head(policy.load(device), pad_id, settings.seed).eval()
    return with_value_head(without_dropout(classifier), start, settings)


def with_value_head(classifier: Any, start: RewardModel | None, settings: Settings) -> ValueNetwork:
    """Return a classifier as a value network, its head as a reward model's or zeros."""
    import torch

    from harness.networks import ValueNetwork

    if start is not None and settings.value_head == "reward":
        norm = json.loads((start.path / "norm.json").read_text())
        return ValueNetwork(classifier, norm["gain"], norm["bias"])
    with torch.no_grad():
        classifier.score.weight.zero_()  # Ziegler et al. 2019's code
    return ValueNetwork(classifier)


def value_adapter(
    model: Any, start: RewardModel | None, policy: Policy, settings: Settings
) -> ValueNetwork:
    """Return a value network that trains an adapter: on the policy's own body where that can be.

    It can where there is no reward model to start from, or that is an adapter on the same weights.
    """
    import torch
    from safetensors.torch import load_file

    from harness.adapters import PREFIX, VALUE, WEIGHTS, add_adapter, fill_adapter, setup_of
    from harness.models import parent_of, weights_folder
    from harness.networks import OnPolicysBase, without_dropout

    lora = setup_of(policy).lora
    assert lora is not None
    if start is not None:
        is_adapter = (start.path / "parent.json").is_file() and setup_of(start).lora == lora
        if not is_adapter or weights_folder(parent_of(start.path)) != weights_folder(policy):
            classifier = without_dropout(start.load(str(model.device)))
            prepared(classifier, policy, settings.seed)
            return with_value_head(classifier, start, settings)
    add_adapter(model, lora, settings.seed, VALUE)
    head = torch.nn.Linear(model.config.hidden_size, 1, bias=False, device=model.device)
    if start is not None:
        known = load_file(start.path / WEIGHTS)
        head.weight.data.copy_(known.pop(f"{PREFIX}score.weight"))
        fill_adapter(model, known, VALUE)
    return with_value_head(OnPolicysBase(model, head), start, settings)


def blocks(tokenizer: Any, texts: Texts | None, weight: float) -> list[list[int]]:
    """Return pretraining text as blocks of tokens, texts joined by EOS, the short end left out.

    Raises ValueError where the loss has a weight and there is no text.
    """
    if weight == 0:
        return []
    ids: list[int] = []
    for row in texts or ():
        ids += [*tokenizer(row["text"], add_special_tokens=False)["input_ids"]]
        ids.append(tokenizer.eos_token_id)
    size = min(BLOCK, len(ids))
    if size < 2:
        raise ValueError(
            "pretraining_weight needs pretraining text, and there is none; set it to 0"
        )
    return [ids[start : start + size] for start in range(0, len(ids) - size + 1, size)]
