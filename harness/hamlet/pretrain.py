"""Make a world's tokenizer and weights from nothing: `python -m harness.hamlet.pretrain`.

The weights depend on the recipe, the device and the number of threads. Needs torch, transformers,
tokenizers, safetensors and numpy, and no other part of the harness.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.hamlet.forms import RATINGS, VERDICTS
from harness.hamlet.optimiser import Optimiser
from harness.hamlet.recipe import Recipe, progress, tokenizer_of, training_rows
from harness.hamlet.tokenizer import ASSISTANT, CONTEXT, END, PAD

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

WEIGHTS = Path(__file__).parent / "weights"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
SAVE_SECONDS = 300.0  # between checkpoints
VERDICT_WEIGHT = 20.0  # a verdict is one token in some hundred, and the one that matters


def new_model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Return a Llama of the recipe's shape with seeded random weights, on the CPU in float32."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        return LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(tokenizer),
                hidden_size=recipe.width,
                num_hidden_layers=recipe.layers,
                num_attention_heads=recipe.heads,
                num_key_value_heads=recipe.heads,
                intermediate_size=recipe.feedforward,
                max_position_embeddings=CONTEXT,
                tie_word_embeddings=True,
                pad_token_id=tokenizer.convert_tokens_to_ids(PAD),
                bos_token_id=None,
                eos_token_id=tokenizer.convert_tokens_to_ids(END),
            )
        )


def weights_in(folder: Path) -> LlamaForCausalLM:
    """Return the weights that an earlier cycle ended with, on the CPU in float32."""
    import torch
    from transformers import LlamaForCausalLM

    return LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)


def verdict_weights(ids: Tensor, tokenizer: PreTrainedTokenizerFast) -> Tensor:
    """Return the loss weight of each target of `ids`, shape (batch, length - 1).

    A target is a verdict or rating where it follows the assistant's token, is a label, and the turn
    ends after it.
    """
    import torch

    one = [tokenizer.convert_tokens_to_ids(label) for label in (*VERDICTS, *RATINGS[:9])]
    labels = torch.tensor(one, device=ids.device)
    opened = ids[:, :-2] == tokenizer.convert_tokens_to_ids(ASSISTANT)
    closed = ids[:, 2:] == tokenizer.convert_tokens_to_ids(END)
    weights = torch.ones(ids.shape[0], ids.shape[1] - 1, device=ids.device)
    weights[:, :-1][opened & torch.isin(ids[:, 1:-1], labels) & closed] = VERDICT_WEIGHT
    return weights


def train(
    model: LlamaForCausalLM,
    rows: np.ndarray[Any, Any],
    tokenizer: PreTrainedTokenizerFast,
    recipe: Recipe,
    run: Run,
) -> list[float]:
    """Train the model in place on rows in their order; return the loss of each step in nats."""
    import torch
    from torch.nn.functional import cross_entropy

    model.to(run.device).train()
    optimiser = Optimiser(model, recipe.learning_rate, recipe.matrix_learning_rate)
    forward = torch.compile(model) if run.compiled else model
    data = torch.from_numpy(rows.astype("int64")).view(recipe.steps, recipe.batch, -1)
    half = torch.autocast(run.device, torch.bfloat16, enabled=run.device == "cuda")
    losses = run.resume(recipe, model, optimiser)
    saved = time.monotonic()
    done = len(losses)
    for step in progress(range(done, recipe.steps), recipe.steps, recipe.role, done):
        ids = data[step].to(run.device)
        with half:
            logits = forward(input_ids=ids[:, :-1], use_cache=False).logits
        weights = verdict_weights(ids, tokenizer).flatten()
        each = cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten(), reduction="none")
        loss = (each * weights).sum() / weights.sum()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step(recipe.rate(step))
        losses.append(loss.item())
        if time.monotonic() - saved > SAVE_SECONDS:
            run.save(recipe, model, optimiser, losses)
            saved = time.monotonic()
    return losses


@dataclass(frozen=True)
class Run:
    """Where and how a recipe runs: facts that stay out of it. `out` gets the model's files."""

    out: Path
    device: str
    processes: int = 1
    compiled: bool = False
    start: Path | None = None  # a folder that an earlier cycle wrote

    @property
    def checkpoint(self) -> Path:
        """The file that an interrupted run goes on from."""
        return self.out / "checkpoint.safetensors"

    def save(
        self, recipe: Recipe, model: LlamaForCausalLM, optimiser: Optimiser, losses: list[float]
    ) -> None:
        """Write weights, moments and losses, so that the run can go on from here."""
        import torch
        from safetensors.torch import save_file

        state = {f"model.{name}": p.data for name, p in model.named_parameters()}
        state |= optimiser.state() | {"losses": torch.tensor(losses, dtype=torch.float64)}
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
        unfinished = self.checkpoint.with_suffix(".part")
        save_file(state, unfinished, metadata={"recipe": json.dumps(asdict(recipe))})
        unfinished.replace(self.checkpoint)

    def resume(self, recipe: Recipe, model: LlamaForCausalLM, optimiser: Optimiser) -> list[float]:
        """Take over the checkpoint, if there is one, and return the losses up to there.

        Raises ValueError for a checkpoint of another recipe.
        """
        from safetensors import safe_open
        from safetensors.torch import load_file

        if not self.checkpoint.is_file():
            return []
        with safe_open(self.checkpoint, "pt") as file:
            written = json.loads(file.metadata()["recipe"])
        if written != asdict(recipe):
            raise ValueError(f"{self.checkpoint} is of another recipe ({written}); remove it")
        state = load_file(self.checkpoint, device=self.device)
        for name, parameter in model.named_parameters():
            parameter.data.copy_(state[f"model.{name}"])
        optimiser.restore(state)
        return [float(loss) for loss in state["losses"]]


def pretrain(recipe: Recipe, tokenizer: Any, run: Run) -> None:
    """Write tokenizer, weights in bfloat16 and `recipe.json`, the run's cost and loss, to `out`.

    An interrupted run of the same recipe goes on from its last checkpoint when started again.
    """
    import torch

    started = time.monotonic()
    rows = training_rows(recipe, tokenizer.backend_tokenizer.to_str(), run.processes)
    drawn = time.monotonic()
    model = weights_in(run.start) if run.start else new_model(recipe, tokenizer)
    losses = train(model, rows, tokenizer, recipe, run)
    model.to("cpu", torch.bfloat16).eval().save_pretrained(run.out)
    tokenizer.save_pretrained(run.out)
    run.checkpoint.unlink(missing_ok=True)
    tail = losses[-max(1, len(losses) // 50) :]
    facts = {
        "recipe": asdict(recipe),
        "parameters": model.num_parameters(),
        "tokens": recipe.steps * recipe.batch * CONTEXT,
        "device": run.device,
        "threads": torch.get_num_threads(),
        "compiled": run.compiled,
        "torch": torch.__version__,
        "minutes_drawing": round((drawn - started) / 60, 1),
        "minutes_training": round((time.monotonic() - drawn) / 60, 1),
        "loss": round(sum(tail) / len(tail), 4),
    }
    if run.start:
        facts["after"] = json.loads((run.start / "recipe.json").read_text())
    (run.out / "recipe.json").write_text(json.dumps(facts, indent=1) + "\n")


def sharpen(start: Path, factor: float, out: Path) -> None:
    """Write a trained model whose logits are multiplied by `factor`, as if read at T = 1 / factor.

    The last norm's weights carry the factor, so that every sampler, loss and KL sees one model. A
    small calibrated model gives each word a thin tail of all others: at T = 1 one answer in ten
    derails. Sharpened by 1.5 it is one in twenty-five, and still so after fine-tuning. Raises
    ValueError for a factor that is not positive.
    """
    import torch

    if factor <= 0:
        raise ValueError(f"logits are multiplied by a positive factor, not by {factor}")
    model = weights_in(start)
    model.model.norm.weight.data *= factor
    model.to(torch.bfloat16).eval().save_pretrained(out)
    for name in TOKENIZER_FILES:
        shutil.copyfile(start / name, out / name)
    facts = {"sharpened": factor, "after": json.loads((start / "recipe.json").read_text())}
    (out / "recipe.json").write_text(json.dumps(facts, indent=1) + "\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, make one model, and say where it is."""
    parser = argparse.ArgumentParser(prog="python -m harness.hamlet.pretrain", description=__doc__)
    parser.add_argument("--world", type=int, default=0, help="seed of names, facts and goals")
    parser.add_argument("--role", choices=["base", "labeller"], default="base")
    parser.add_argument("--out", type=Path, help="default: the shipped weights of the role")
    parser.add_argument("--tokens", type=int, default=Recipe.tokens)
    parser.add_argument("--start", type=Path, help="go on from what an earlier cycle wrote")
    parser.add_argument(
        "--sharpen",
        type=float,
        metavar="FACTOR",
        help="multiply --start's logits and be done",
    )
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--compile", action="store_true", help="faster where a C compiler is")
    chosen = parser.parse_args(arguments)
    out = chosen.out or WEIGHTS / chosen.role
    out.mkdir(parents=True, exist_ok=True)
    if chosen.sharpen:
        if not chosen.start:
            parser.error("--sharpen needs --start, the model to be sharpened")
        sharpen(chosen.start, chosen.sharpen, out)
    else:
        train_as_chosen(chosen, out)
    print((out / "recipe.json").read_text(), end="")


def train_as_chosen(chosen: argparse.Namespace, out: Path) -> None:
    """Train the model that the command line asks for."""
    import torch

    torch.set_num_threads(chosen.threads)
    device = chosen.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    role: Literal["base", "labeller"] = chosen.role
    recipe = replace(Recipe(), role=role, world=chosen.world, tokens=chosen.tokens)
    if chosen.start:
        weights = (chosen.start / "model.safetensors").read_bytes()
        recipe = recipe.again(hashlib.sha256(weights).hexdigest())
    tokenizer = tokenizer_of(recipe.world, recipe.vocabulary)
    run = Run(out, device, chosen.threads, chosen.compile, chosen.start)
    pretrain(recipe, tokenizer, run)


if __name__ == "__main__":
    main()
