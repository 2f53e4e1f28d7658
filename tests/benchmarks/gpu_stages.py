"""Tokens a second and peak memory of each stage on a GPU, with random weights of a 0.5B shape.

    python tests/benchmarks/gpu_stages.py
    python tests/benchmarks/gpu_stages.py --small --device cpu      (does the script itself run?)

The shape is that of Qwen2.5-0.5B: speed and memory do not depend on what the weights say. Texts are
over bytes, in a vocabulary as wide as the real one. SFT, a reward model, DPO, PPO on a shared base,
and best-of-n run as stages of the harness; the limits beside them are rooflines: matrices of the
forward and backward passes at the card's measured rate. Without a GPU nothing is measured.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))

from tiny import byte_tokenizer, tiny_demonstrations, tiny_pairs, tiny_prompts

from harness.adapters import Lora, adapted
from harness.artifacts import Policy
from harness.draft import Checkpoints, Draft
from harness.judge import Reward
from harness.stage import Artifact, stage
from harness.stages.finetune import finetune
from harness.stages.optimise import optimise
from harness.stages.prefer import prefer
from harness.stages.reward import fit_reward
from harness.stages.sample import sample
from harness.stages.select import best_of_n
from harness.tiny import END, random_llama

QWEN = {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24}
QWEN |= {"num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151_936}
QWEN |= {"max_position_embeddings": 32_768}
# Operations that a token costs for each weight: a pass forward is two, and back another four.
PASSES = {"tokens_trained": 6, "tokens_forward": 2}
MEASURED = ("finetune", "fit_reward", "prefer", "optimise", "sample")


@stage(makes=Policy)
def shaped(out: Draft, *, small: bool) -> None:
    """Make a random model of the shape, or a tiny one."""
    from harness.models import quietly

    quietly(random_llama(0, scale=0.02, **({} if small else QWEN)).save_pretrained, out.path)
    byte_tokenizer().save_pretrained(out.path)
    (out / "generation.json").write_text(json.dumps({"stop_ids": [END]}) + "\n")


class Bench:
    """Runs stages in a folder and keeps what each of them took."""

    def __init__(self, store: Path, device: str) -> None:
        self.store, self.device = store, device
        self.rows: list[dict[str, Any]] = []

    def bound(self, value: Any) -> Any:
        """Return a value whose artifacts are made."""
        if isinstance(value, Reward):
            return Reward(self.made(value.model))
        return self.made(value) if isinstance(value, Artifact) else value

    def made(self, artifact: Artifact) -> Any:
        """Return an artifact whose stages have run, inputs first."""
        folder = self.store / artifact.id
        if not folder.is_dir():
            recipe = artifact.recipe
            arguments = {name: self.bound(value) for name, value in recipe.arguments.items()}
            folder.mkdir()
            kept = Checkpoints(folder.with_suffix(".kept"), lambda: None, lambda aside, _: aside)
            out = Draft(folder, device=self.device, checkpoints=kept)
            self.timed(recipe.stage, out, arguments)
        return artifact.at(folder)

    def timed(self, stage: Any, out: Draft, arguments: dict[str, Any]) -> None:
        """Run a stage's body and keep its seconds, tokens and the most memory it had."""
        import torch

        if self.device != "cpu":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        began = time.monotonic()
        stage.body(out, **arguments)
        if self.device != "cpu":
            torch.cuda.synchronize()
        seconds = time.monotonic() - began
        if stage.name not in MEASURED:
            return
        row = {"stage": stage.name, "seconds": round(seconds, 2), **out.counters}
        for name in ("tokens_trained", "tokens_forward", "tokens_generated"):
            if out.counters.get(name):
                row[f"{name} a second"] = round(out.counters[name] / seconds)
        row["peak_gib"] = 0.0
        if self.device != "cpu":
            row["peak_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
        self.rows.append(row)


def matrix_rate(device: str) -> float:
    """Return the operations a second of a large product of bfloat16 matrices, the best of five."""
    import torch

    size = 8192 if device != "cpu" else 256
    one = torch.randn(size, size, device=device, dtype=torch.bfloat16)
    best = 0.0
    for _ in range(6):
        began = time.monotonic()
        one @ one
        if device != "cpu":
            torch.cuda.synchronize()
        best = max(best, 2 * size**3 / (time.monotonic() - began))
    return best


def measured(device: str, small: bool) -> dict[str, Any]:
    """Return a row for each stage, and the share of the card's matrix rate that it reaches."""
    import torch

    with torch.device("meta"):
        model = random_llama(0, **({} if small else QWEN))
    parameters = sum(weight.numel() for weight in model.parameters())
    rows, tokens = (16, 6) if small else (512, 128)
    batch = {"batch_size": 8 if small else 64, "seed": 0}
    asked = tiny_prompts(n=rows, seed=0)
    draws = {"temperature": 1.0, "max_new_tokens": tokens}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), device)
        start = adapted(shaped(small=small), lora=Lora())
        sft = finetune(start, tiny_demonstrations(n=rows, seed=0), epochs=1, **batch)
        pairs = tiny_pairs(n=rows, seed=0)
        reward = fit_reward(sft, pairs, **batch)
        rl = {"value": reward, "passes": 1.0, "max_new_tokens": tokens, "checkpoints": 0}
        n = best_of_n(sft, n=4, reward=Reward(reward))
        for artifact in (
            prefer(sft, pairs, **batch),
            optimise(sft, asked, reward=Reward(reward), **rl, **batch),
            sample(n, tiny_prompts(n=rows // 4, seed=1), n=1, **draws, seed=0),
        ):
            bench.made(artifact)
    rate = matrix_rate(device)
    for row in bench.rows:
        work = sum(PASSES[name] * row.get(name, 0) * parameters for name in PASSES)
        row["share of the matrix rate"] = round(work / row["seconds"] / rate, 4)
    name = torch.cuda.get_device_name() if device != "cpu" else "cpu"
    return {"device": name, "parameters": parameters, "matrix rate": rate, "stages": bench.rows}


if __name__ == "__main__":
    import torch

    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true")
    given = parser.parse_args()
    if given.device != "cpu" and not torch.cuda.is_available():
        sys.exit("skipped: this machine has no GPU, and nothing about one is measured on a CPU")
    if given.device == "cpu" and not given.small:
        sys.exit("a model of this size is for a GPU; give --small to try the script on a CPU")
    print(json.dumps(measured(given.device, given.small), indent=1))
