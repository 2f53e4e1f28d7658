"""The tiny study that plugins are checked on: a random model over bytes and a few toy rows.

Everything a method may start from is there, so that any method runs to its policy in seconds on one
core. What it scores means nothing.
"""

from __future__ import annotations

import json
import random
from typing import Any

from harness.artifacts import (
    Demonstrations,
    Policy,
    Preferences,
    Prompts,
    Samples,
    Texts,
    write_rows,
)
from harness.draft import Draft
from harness.judge import Contains, Judge, Letters, Rescaled, Reward
from harness.registry import Plugin, get
from harness.shared import Data, Shared, Subject, derived_seed
from harness.stage import stage
from harness.stages.choose import pick, validate
from harness.stages.finetune import finetune
from harness.stages.reward import fit_reward
from harness.stages.sample import sample

SPECIAL = ("<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
PAD, END = 0, 1
TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
WORDS = ("cat", "river", "town", "seven", "a", "wood", "yes")
ROWS = {"train": 200, "validation": 6, "test": 6}
MAX_NEW_TOKENS = 12
MOST = {"n": 4, "max_new_tokens": MAX_NEW_TOKENS}  # of what a suite draws
RATE, LIVELIER, LIVELIEST = "learning_rate", 100, 0.01


@stage(makes=Policy, version=2)
def tiny_base(out: Draft, *, seed: int) -> None:
    """Make a random Llama of two layers over bytes, its draws far from uniform, that ends answers.

    Most have an end within a dozen tokens, since methods learn nothing from answers without one.
    """
    model = random_llama(seed, max_position_embeddings=1024)
    incline_to_end(model, by=80.0)
    model.save_pretrained(out.path)
    byte_tokenizer().save_pretrained(out.path)
    (out / "generation.json").write_text(json.dumps({"stop_ids": [END]}) + "\n")


def random_llama(seed: int, *, scale: float = 0.4, **changes: Any) -> Any:
    """Return a Llama of two layers, its matrices N(0, scale**2); `changes` go to its config."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    settings = {
        "vocab_size": len(SPECIAL) + 256,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": END,
        "pad_token_id": PAD,
    }
    model = LlamaForCausalLM(LlamaConfig(**{**settings, **changes}))
    draw = torch.Generator().manual_seed(seed)
    for weight in model.parameters():
        if weight.ndim == 2:
            weight.data = torch.randn(weight.shape, generator=draw) * scale
    return model.eval()


def incline_to_end(model: Any, *, by: float) -> None:
    """Make the end likelier after every token, by one constant dimension of the residual stream.

    Every embedding has a 1 there and no block writes to it, so the tied head, which reads it,
    raises the end's logit by `by` over the root mean square of the last hidden state.
    """
    import torch

    with torch.no_grad():
        embeddings = model.get_input_embeddings().weight
        embeddings[:, 0] = 1.0
        embeddings[END, 0] += by
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight[0] = 0.0
            layer.mlp.down_proj.weight[0] = 0.0


def byte_tokenizer() -> Any:
    """Return a tokenizer with one token a byte and five special ones: every text round-trips."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokens = (*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet()))
    vocabulary = {token: number for number, token in enumerate(tokens)}
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token=SPECIAL[PAD],
        eos_token=SPECIAL[END],
        additional_special_tokens=list(SPECIAL[2:]),
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def questions(split: str) -> list[dict[str, Any]]:
    """Return a split's prompts, each distinct by its number, a quarter of them tagged red-team."""
    rng = random.Random(f"tiny/{split}")
    rows = []
    for number in range(ROWS[split]):
        text = f"{split} {number} " + " ".join(rng.choices(WORDS, k=rng.randint(1, 4)))
        rows.append(
            {
                "prompt_id": f"{split}-{number}",
                "messages": [{"role": "user", "content": text}],
                "tag": "red-team" if number % 4 == 0 else "general",
                "cluster": f"c{number % 3}",
            }
        )
    return rows


@stage(makes=Prompts)
def tiny_prompts(out: Draft, *, split: str) -> None:
    """Write the prompts of one split."""
    write_rows(out, questions(split))


@stage(makes=Demonstrations, version=2)
def tiny_demonstrations(out: Draft) -> None:
    """Write the train prompts, each answered by its last word: short, so that answers end."""
    rows = [
        {
            "prompt_id": row["prompt_id"],
            "messages": row["messages"],
            "completion": row["messages"][0]["content"].split()[-1],
        }
        for row in questions("train")
    ]
    write_rows(out, rows)


@stage(makes=Preferences, version=2)
def tiny_preferences(out: Draft) -> None:
    """Write one hard-labelled, flagged pair a train prompt, of both axes and sides by turns."""
    rows = []
    for number, row in enumerate(questions("train")):
        rows.append(
            {
                "pair_id": f"{row['prompt_id']}:0-1",
                "prompt_id": row["prompt_id"],
                "messages": row["messages"],
                "chosen": f"please, {number} it is",
                "rejected": f"{number} no",
                "p1": 1.0,
                "axis": ("helpful", "safe")[number % 2],
                "tag": row["tag"],
                "population": "majority",
                "source": "human",
                "strength": 1 + number % 4,
                "chosen_safe": True,
                "rejected_safe": number % 4 != 1,
            }
        )
        if number % 3 == 0:
            rows[-1].update(chosen=rows[-1]["rejected"], rejected=rows[-1]["chosen"], p1=0.0)
            rows[-1].update(chosen_safe=rows[-1]["rejected_safe"], rejected_safe=True)
    write_rows(out, rows)


@stage(makes=Texts)
def tiny_texts(out: Draft) -> None:
    """Write a few lines of text."""
    write_rows(out, ({"text": " ".join(WORDS[n:] + WORDS[:n])} for n in range(len(WORDS))))


def sure(principle: str) -> Judge:
    """Return a judge that prefers whoever shares more letters with a principle: 0.982 by one.

    Answers of the tiny study differ by a letter or two, and people's verdicts are not that soft: a
    method that trains on clear winners alone finds some among a few answers.
    """
    return Rescaled(Letters(principle), low=0.0, high=0.5)  # four times as far apart


def tiny_data() -> Data:
    """Return the tiny study's data; the rows are the same for every seed."""
    preferences = tiny_preferences()
    return Data(
        demonstrations=tiny_demonstrations(),
        preferences=lambda sft: preferences,
        prompts=tiny_prompts(split="train"),
        validation=tiny_prompts(split="validation"),
        test=tiny_prompts(split="test"),
        assistant=tiny_base(seed=1),
        annotator=sure("our river town"),
        pretraining=tiny_texts(),
    )


def tiny_sft(base: Policy, data: Data) -> Policy:
    """Return the SFT policy of the tiny study."""
    settings = {"learning_rate": 3e-3, "epochs": 1, "batch_size": 8, "max_length": 1024}
    return finetune(base, data.demonstrations, **settings, seed=0)  # type: ignore[arg-type]


def tiny_rates(plugin: Plugin) -> dict[str, float]:
    """Return the learning rates at which a tiny model learns anything: so many times the default.

    Papers' are for billions of parameters. At those nothing here would ever be chosen otherwise,
    whatever a setting does to the reward model that chooses. Those of small models stay below the
    rate at which even a tiny one forgets how to end an answer.
    """
    rates = {name: s.default for name, s in plugin.settings.items() if name.endswith(RATE)}
    known = {name: rate for name, rate in rates.items() if isinstance(rate, float)}
    return {name: max(rate, min(LIVELIER * rate, LIVELIEST)) for name, rate in known.items()}


def tiny_sizes(plugin: Plugin) -> dict[str, int]:
    """Return how many answers a suite of the tiny study draws itself, and how long: few and short.

    A suite of the size that a study needs would take minutes to check, and show no more.
    """
    if plugin.kind != "suite":
        return {}
    sizes = {name: s.default for name, s in plugin.settings.items() if name in MOST}
    known = {name: size for name, size in sizes.items() if isinstance(size, int)}
    return {name: min(size, MOST[name]) for name, size in known.items()}


def tiny_shared(seed: int) -> Shared:
    """Return what a method of the tiny study starts from.

    `seed` is the cell's and changes nothing else, so that what it changes is the method's own.
    """
    data, base = tiny_data(), tiny_base(seed=0)
    sft = tiny_sft(base, data)
    return Shared(
        base=base,
        sft=sft,
        demonstrations=data.demonstrations,
        preferences=data.preferences(sft),
        prompts=data.prompts,
        validation=data.validation,
        labeller=sure("no wood or dog"),  # it disagrees with the pairs
        assistant=data.assistant,
        annotator=data.annotator,
        pretraining=data.pretraining,
        max_new_tokens=MAX_NEW_TOKENS,
        seed=seed,
    )


def answers(policy: Policy, prompts: Prompts, *, temperature: float = 1.0, n: int = 1) -> Samples:
    """Return a policy's answers to prompts of the tiny study."""
    return sample(
        policy,
        prompts,
        n=n,
        temperature=temperature,
        max_new_tokens=MAX_NEW_TOKENS,
        seed=derived_seed(0, "tiny"),
    )


def tiny_subject() -> Subject:
    """Return a subject for suites: a random model on a few prompts of the embedded world.

    The world brings what suites of both kinds may read: truth, probes and held-out text. A reward
    model has chosen the policy, from itself alone, so that there is a reward to read it by.
    """
    base = tiny_base(seed=0)
    data: Data = get("dataset", "hamlet")(base, 0, **TINY_WORLD)
    sft = tiny_base(seed=3)
    policy = rewarded(tiny_base(seed=2), sft)
    drawn = {
        who: {
            "T=1": answers(who, data.test, n=2),
            "greedy": answers(who, data.test, temperature=0.0),
        }
        for who in (policy, sft)
    }
    return Subject(
        policy=policy,
        base=base,
        sft=sft,
        samples=drawn[policy],
        opponent=drawn[sft],
        test=data.test,
        truth=data.truth,
        probes=data.probes,
        heldout=data.heldout,
        judge=Contains("e"),
        seed=0,
    )


def rewarded(policy: Policy, opponent: Policy) -> Policy:
    """Return a pointer at a policy, picked by what a tiny reward model says of its answers."""
    reward = Reward(fit_reward(opponent, tiny_preferences(), learning_rate=LIVELIEST, seed=0))
    prompts = tiny_prompts(split="validation")
    drawn = [answers(who, prompts) for who in (policy, opponent)]
    judgements = validate(*drawn, judge=reward, source="ai")
    return pick((policy,), (judgements,))


TINY_WORLD = {"budget": 24, "demonstrations": 16, "validation": 8, "test": 200, "probes": 4}
