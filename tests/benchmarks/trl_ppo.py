"""Our PPO beside TRL's last one, on the same models, prompts, batches and epochs.

    pip install --no-deps --target FOLDER trl==1.12.0
    python tests/benchmarks/trl_ppo.py --trl FOLDER

Every seed is a process for each side, which reads the same folder: a tiny policy, a reward model
fitted to prefer polite answers, and prompts. Both sides score token ids with that model. Speed is
answers per second of processor time, so that a busy machine changes it little. What differs: TRL
puts the score one slot after EOS, divides the variance by n - 1, and does not clip gradients.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))

UPDATES, BATCH, EPOCHS, TOKENS, PROMPTS = 24, 64, 4, 12, 64
RATE, KL, LAM, CLIP, TEMPERATURE, PENALTY = 1e-3, 0.05, 0.95, 0.2, 1.0, 1.0
SIDES = ("ours", "trl")
LAST = 6  # updates whose mean is compared


def prepare(folder: Path) -> None:
    """Write the policy, the reward model and the prompts that both sides read."""
    from tiny import questions, tiny_pairs, write_policy

    from harness.artifacts import Policy, Preferences
    from harness.draft import Draft
    from harness.models import encode, load_tokenizer
    from harness.stages.finetune import finetune
    from harness.stages.reward import fit_reward

    for name in ("start", "policy", "reward", "pairs", "demonstrations"):
        (folder / name).mkdir()
    write_policy(folder / "start")
    start = Policy("start", path=folder / "start")
    tiny_pairs.body(Draft(folder / "pairs"), n=64, seed=0)
    pairs = Preferences("pairs", path=folder / "pairs")
    answers = answers_to_imitate(folder, pairs)
    quick = {"learning_rate": 3e-3, "epochs": 6, "batch_size": 16, "seed": 0}
    finetune.body(Draft(folder / "policy"), start, answers, **quick)
    fit_reward.body(Draft(folder / "reward"), start, pairs, normalise=False, **quick)
    tokenizer = load_tokenizer(start)
    ids = [encode(tokenizer, row["messages"]) for row in questions(PROMPTS, 1)]
    (folder / "prompts.json").write_text(json.dumps(ids))


def ours(folder: Path, seed: int) -> tuple[list[float], list[float], float]:
    """Return score and KL of each update, and the processor's seconds."""
    import torch

    from harness.artifacts import Policy, RewardModel
    from harness.draft import Draft
    from harness.models import load_policy, load_reward, load_tokenizer
    from harness.networks import Networks, ValueNetwork
    from harness.ppo import PPO
    from harness.ppo_settings import PRESETS, Settings
    from harness.rollout import Asked
    from harness.stages.reward import scores

    policy, reward = Policy("p", path=folder / "policy"), RewardModel("r", path=folder / "reward")
    pad = load_tokenizer(policy).pad_token_id
    judge, value = load_reward(reward), load_reward(reward)
    with torch.no_grad():
        value.score.weight.zero_()
    rest = {"kl_target": None, "kl_horizon": 1, "value_warmup": 0, "value_head": "zeros"}
    rest |= {"whiten_rewards": False, "stop_kl": None, "checkpoints": 0, "pretraining_rows": 1}
    given = {**PRESETS["n_plus"], **rest, "pretraining_weight": 0.0, "seed": seed}
    given |= {"kl": KL, "lam": LAM, "clip": CLIP, "value_clip": CLIP, "epochs": EPOCHS}
    given |= {"batch_size": BATCH, "passes": UPDATES * BATCH / PROMPTS, "max_new_tokens": TOKENS}
    given |= {"learning_rate": RATE, "value_learning_rate": RATE, "temperature": TEMPERATURE}
    given |= {"missing_eos": "subtract", "missing_eos_score": -PENALTY}
    asked = [
        Asked(str(number), tuple(ids), None)
        for number, ids in enumerate(json.loads((folder / "prompts.json").read_text()))
    ]
    run = PPO(
        Draft(folder),
        Networks(load_policy(policy), ValueNetwork(value), load_policy(policy)),
        asked,
        lambda e: (scores(judge, pad, [[*o.asked.ids, *o.token_ids] for o in e]).tolist(), {}),
        Settings(**given),
        stop_ids=(load_tokenizer(policy).eos_token_id,),
    )
    began = time.process_time()
    rows = list(run.iterate())
    spent = time.process_time() - began
    missing = [PENALTY * (1 - row["eos_rate"]) for row in rows]  # TRL's score is after its penalty
    proxies = [row["proxy"] - less for row, less in zip(rows, missing, strict=True)]
    return proxies, [row["kl"] for row in rows], spent


def trl(folder: Path, seed: int) -> tuple[list[float], list[float], float]:
    """Return score and KL of each update of `trl.experimental.ppo`, and the processor's seconds."""
    import torch
    from datasets import Dataset
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    from harness.artifacts import Policy, RewardModel
    from harness.models import load_policy, load_reward, load_tokenizer

    policy, reward = Policy("p", path=folder / "policy"), RewardModel("r", path=folder / "reward")
    value = load_reward(reward)
    with torch.no_grad():
        value.score.weight.zero_()
    rows = [{"input_ids": ids} for ids in json.loads((folder / "prompts.json").read_text())]
    tokenizer = load_tokenizer(policy)
    tokenizer.padding_side = "left"
    arguments = PPOConfig(
        output_dir=str(folder / f"trl-{seed}"),
        learning_rate=RATE,
        adam_epsilon=1e-5,
        num_ppo_epochs=EPOCHS,
        num_mini_batches=1,
        per_device_train_batch_size=BATCH,
        gradient_accumulation_steps=1,
        local_rollout_forward_batch_size=BATCH,
        total_episodes=UPDATES * BATCH,
        response_length=TOKENS,
        stop_token="eos",
        temperature=TEMPERATURE,
        missing_eos_penalty=PENALTY,
        kl_coef=KL,
        cliprange=CLIP,
        cliprange_value=CLIP,
        lam=LAM,
        num_sample_generations=0,
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=seed,
    )
    trainer = PPOTrainer(
        args=arguments,
        processing_class=tokenizer,
        model=load_policy(policy),
        ref_model=load_policy(policy),
        reward_model=load_reward(reward),
        value_model=value,
        train_dataset=Dataset.from_list(rows),
        eval_dataset=Dataset.from_list(rows),
    )
    began = time.process_time()
    trainer.train()
    spent = time.process_time() - began
    found = [row for row in trainer.state.log_history if "objective/scores" in row]
    curves = [[row[f"objective/{name}"] for row in found] for name in ("scores", "kl")]
    return curves[0], curves[1], spent


def answers_to_imitate(folder: Path, pairs):
    """Write both answers of every pair: a policy that is polite half of the time."""
    from harness.artifacts import Demonstrations, write_rows
    from harness.draft import Draft

    rows = [
        {"prompt_id": row["prompt_id"], "messages": row["messages"], "completion": row[side][:9]}
        for row in pairs
        for side in ("chosen", "rejected")
    ]
    write_rows(Draft(folder / "demonstrations"), rows)
    return Demonstrations("demonstrations", path=folder / "demonstrations")


def child(side: str, folder: Path, seed: int, library: str) -> dict:
    """Run one side with one seed in a process of its own, with TRL 1.12 in front where it is it."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TRL_EXPERIMENTAL_SILENCE": "1"}
    if side == "trl":
        environment["PYTHONPATH"] = library
    subprocess.run(
        [sys.executable, __file__, "--side", side, "--folder", str(folder), "--seed", str(seed)],
        env=environment,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return json.loads((folder / f"{side}-{seed}.json").read_text())


def compared(found: dict[str, list[dict]]) -> None:
    """Print both curves, their means over seeds in the end with spread, and the speeds."""
    ends, speeds = {}, {}
    for side in SIDES:
        scores = np.array([one["scores"] for one in found[side]])
        kls = np.array([one["kls"] for one in found[side]])
        ends[side] = scores[:, -LAST:].mean(1)
        speeds[side] = np.array([UPDATES * BATCH / one["seconds"] for one in found[side]])
        every = slice(None, None, 4)
        print(f"{side:4} score  ", *(f"{x:7.3f}" for x in scores.mean(0)[every]))
        print(f"{side:4} KL     ", *(f"{x:7.3f}" for x in kls.mean(0)[every]))
    for side in SIDES:
        one = ends[side]
        print(
            f"{side:4} score over the last {LAST} updates {one.mean():.3f} (seeds "
            f"{one.min():.3f} to {one.max():.3f}), {speeds[side].mean():.1f} answers a second"
        )
    gap = ends["ours"].mean() - ends["trl"].mean()
    n = len(ends["ours"])
    error = float(np.sqrt(sum(ends[side].var(ddof=1) / n for side in SIDES)))
    ratio = speeds["ours"].mean() / speeds["trl"].mean()
    print(
        f"difference {gap:+.3f}, standard error {error:.3f} ({n} seeds a side); speed {ratio:.2f}x"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trl", help="folder with TRL 1.12", default="")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--side", choices=SIDES)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.side:
        scores, kls, seconds = {"ours": ours, "trl": trl}[given.side](given.folder, given.seed)
        known = {"scores": scores, "kls": kls, "seconds": seconds}
        (given.folder / f"{given.side}-{given.seed}.json").write_text(json.dumps(known))
        return
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        prepare(folder)
        found = {
            side: [child(side, folder, seed, given.trl) for seed in range(given.seeds)]
            for side in SIDES
        }
    compared(found)


if __name__ == "__main__":
    main()
