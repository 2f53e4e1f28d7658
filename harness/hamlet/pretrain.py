"""Make a world's tokenizer and weights from nothing: `python -m harness.hamlet.pretrain`.

Documents are drawn and packed in numbered blocks, so the data depend on the recipe alone and not on
the number of processes; the weights depend on the recipe, the device and the number of threads.
Needs torch, transformers, tokenizers, safetensors and numpy, and no other part of the harness.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.hamlet.corpus import Kind, document, documents
from harness.hamlet.forms import RATINGS, VERDICTS
from harness.hamlet.optimiser import Optimiser
from harness.hamlet.requests import World
from harness.hamlet.tokenizer import ASSISTANT, CONTEXT, END, PAD, train_tokenizer

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

WEIGHTS = Path(__file__).parent / "weights"
BLOCK = 512  # documents drawn, tokenised and packed together
TOKENIZER_TEXTS = 20_000  # of the base corpus; a quarter as many again of the labeller's
SAVE_SECONDS = 300.0  # between checkpoints
STREAMS = {"training": 1, "tokenizer": 2, "held_out": 3}  # seeds of documents that never meet
VERDICT_WEIGHT = 10.0  # a verdict is one token in some hundred, and the one that matters


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights, device and threads apart. Tokens count repetitions."""

    role: Kind = "base"
    world: int = 0
    tokens: int = 10_000_000
    vocabulary: int = 2048
    width: int = 128
    layers: int = 4
    heads: int = 4
    feedforward: int = 352
    batch: int = 8  # rows of `CONTEXT` tokens
    learning_rate: float = 4e-3
    matrix_learning_rate: float = 0.02  # of Muon, which moves the hidden matrices
    warmup: int = 100  # steps
    stable: float = 0.3  # share of the steps before the rate falls linearly
    floor: float = 0.03  # of the learning rate, at the end
    seed: int = 0

    @property
    def steps(self) -> int:
        """How many optimiser steps the tokens make."""
        return max(1, self.tokens // (self.batch * CONTEXT))

    def rate(self, step: int) -> float:
        """Return the factor of the learning rate: warm-up, stable, decay."""
        done = step / self.steps
        decay = 1.0 if done < self.stable else 1 - (done - self.stable) / (1 - self.stable)
        return min(1.0, (step + 1) / self.warmup) * max(self.floor, decay)


def tokenizer_of(world: int, vocabulary: int, texts: int = TOKENIZER_TEXTS) -> Any:
    """Return the tokenizer that base and labeller of a world share."""
    county, seed = World(world), STREAMS["tokenizer"]
    base = islice(documents(county, seed, kind="base"), texts)
    labeller = islice(documents(county, seed, kind="labeller"), texts // 4)
    return train_tokenizer([*base, *labeller], vocabulary)


def pack(documents: Sequence[list[int]], end: int, length: int = CONTEXT + 1) -> list[list[int]]:
    """Return rows of exactly `length` ids that each begin with a document.

    Documents end with `end`; the last one of a row is cut, and an unfilled last row is dropped.
    So a prompt at position 0, as it is sampled later, looks like training.
    """
    rows: list[list[int]] = []
    row: list[int] = []
    for ids in documents:
        row += ids if ids and ids[-1] == end else [*ids, end]
        if len(row) >= length:
            rows.append(row[:length])
            row = []
    return rows


class Blocks:
    """Packed rows of numbered blocks of documents; picklable, so that processes can share it."""

    def __init__(self, recipe: Recipe, tokenizer: str, stream: str = "training") -> None:
        self.recipe, self.tokenizer, self.seed = recipe, tokenizer, STREAMS[stream]
        self.ready: tuple[World, Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "ready": None}

    def __call__(self, block: int) -> np.ndarray[Any, Any]:
        """Return the rows of one block, shape (rows, CONTEXT + 1), unsigned 16-bit."""
        import numpy as np
        from tokenizers import Tokenizer

        if self.ready is None:
            self.ready = World(self.recipe.world), Tokenizer.from_str(self.tokenizer)
        world, bpe = self.ready
        numbers = range(block * BLOCK, (block + 1) * BLOCK)
        texts = [document(world, self.seed, number, self.recipe.role) for number in numbers]
        encoded = [e.ids for e in bpe.encode_batch(texts, add_special_tokens=False)]
        return np.asarray(pack(encoded, bpe.encode(END).ids[0]), dtype=np.uint16)


def training_rows(recipe: Recipe, tokenizer: str, processes: int) -> np.ndarray[Any, Any]:
    """Return one row for every row the run trains on, none twice, in a seeded order."""
    import numpy as np

    blocks, wanted = Blocks(recipe, tokenizer), recipe.steps * recipe.batch
    made: list[np.ndarray[Any, Any]] = [blocks(0)]
    count = -(-wanted // max(1, int(len(made[0]) * 0.9)))  # the 0.9 covers blocks of shorter texts
    more = progress(_mapped(blocks, range(1, count), processes), count - 1, "documents")
    made += more
    rows = np.concatenate(made)
    while len(rows) < wanted:
        rows = np.concatenate([rows, blocks(count)])
        count += 1
    return np.random.Generator(np.random.Philox(recipe.seed)).permutation(rows)[:wanted]


def _mapped(blocks: Blocks, numbers: range, processes: int) -> Iterator[np.ndarray[Any, Any]]:
    if processes == 1:
        yield from map(blocks, numbers)
        return
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        yield from pool.map(blocks, numbers, chunksize=4)


def progress(items: Any, total: int, label: str, done: int = 0) -> Any:
    """Return the items with a progress bar on a terminal and a line now and then elsewhere."""
    from tqdm import tqdm  # type: ignore[import-untyped]

    pause = 0.5 if os.isatty(2) else 30
    return tqdm(items, total=total, initial=done, desc=label, mininterval=pause, ascii=True)


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
    model = new_model(recipe, tokenizer)
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
    (run.out / "recipe.json").write_text(json.dumps(facts, indent=1) + "\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, make one model, and say where it is."""
    parser = argparse.ArgumentParser(prog="python -m harness.hamlet.pretrain", description=__doc__)
    parser.add_argument("--world", type=int, default=0, help="seed of names, facts and goals")
    parser.add_argument("--role", choices=["base", "labeller"], default="base")
    parser.add_argument("--out", type=Path, help="default: the shipped weights of the role")
    parser.add_argument("--tokens", type=int, default=Recipe.tokens)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--compile", action="store_true", help="faster where a C compiler is")
    chosen = parser.parse_args(arguments)
    import torch

    torch.set_num_threads(chosen.threads)
    device = chosen.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    role: Literal["base", "labeller"] = chosen.role
    recipe = replace(Recipe(), role=role, world=chosen.world, tokens=chosen.tokens)
    out = chosen.out or WEIGHTS / role
    out.mkdir(parents=True, exist_ok=True)
    tokenizer = tokenizer_of(recipe.world, recipe.vocabulary)
    pretrain(recipe, tokenizer, Run(out, device, chosen.threads, chosen.compile))
    print((out / "recipe.json").read_text(), end="")


if __name__ == "__main__":
    main()
