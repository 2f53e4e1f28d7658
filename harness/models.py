"""Language models from artifacts and folders: loading, the one renderer of prompts, rewards.

Weights are safetensors and nothing else, code from a model's repository runs only where a study
asks for it, and nothing here reaches the network.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.adapters import Setup, beside, merged, pointed_at, setup_of
from harness.artifacts import Policy, RewardModel
from harness.bases import GIVE_TEMPLATE, base_policy, local_model
from harness.local import (
    DIGESTS,
    Digests,
    LocalFile,
    LocalFolder,
    local_file,
    local_folder,
    model_files,
    weights_digest,
)
from harness.stage import Artifact

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from harness.judge import Answer

Messages = Sequence[Mapping[str, str]]

USUAL = Setup()
REWARD_TOKENS = 1 << 14  # in one forward pass of a reward model


def load_policy(policy: Policy, device: str = "cpu") -> PreTrainedModel:
    """Return a fresh float32 copy of the policy's weights in eval mode, adapters merged.

    Pointers are followed and chains of adapters merged in float32. Raises ValueError when a
    parent's weights are not those that the adapter was trained on.
    """
    import torch

    folder, setup = weights_folder(policy), setup_of(policy)
    if not (folder / "parent.json").is_file():
        return opened_model(folder, torch.float32, setup).to(device).eval()
    model: PreTrainedModel = merged(load_policy(parent_of(folder), device), folder)
    return model


def parent_of(folder: Path) -> Policy:
    """Return the policy that the adapter in a folder stands on; ValueError where it has changed."""
    known = json.loads((folder / "parent.json").read_text())
    below = Policy(known["parent"], path=beside(folder, known["parent"]))
    found = weights_digest(weights_folder(below))
    if known.get("weights", found) != found:
        raise ValueError(
            f"{folder.name} is an adapter on {below.id}, whose weights have changed: sha256 "
            f"{found[:12]}, trained on {known['weights'][:12]}. Remove {below.id} and run again"
        )
    return below


def weights_folder(policy: Artifact) -> Path:
    """Return the folder that holds the policy's weights, following `same_as.json`."""
    folder = policy.path
    while (folder / "same_as.json").is_file():
        folder = pointed_at(folder)
    return folder


def load_tokenizer(artifact: Artifact) -> PreTrainedTokenizerBase:
    """Return the tokenizer, with a chat template and a padding token that differs from EOS."""
    folder = weights_folder(artifact)
    tokenizer = opened_tokenizer(folder, remote_code=setup_of(artifact).remote_code)
    require_template(tokenizer, folder)
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        raise ValueError(f"{artifact.id} has no padding token that differs from EOS")
    return tokenizer


def load_reward(model: RewardModel, device: str = "cpu") -> PreTrainedModel:
    """Return the reward model as a classifier with one label, float32, in eval mode."""
    import torch
    from transformers import AutoModelForSequenceClassification

    pad = load_tokenizer(model).pad_token_id
    loaded: PreTrainedModel
    if (model.path / "parent.json").is_file():
        loaded = merged(classifier(load_policy(parent_of(model.path), device), pad), model.path)
    else:
        loaded = opened(
            AutoModelForSequenceClassification, model.path, dtype=torch.float32, num_labels=1
        )
    loaded.config.pad_token_id = pad
    return loaded.to(device).eval()


def classifier(policy: PreTrainedModel, pad_id: int) -> PreTrainedModel:
    """Return a classifier of one label with a policy's body; its head is not set."""
    from transformers import AutoModelForSequenceClassification

    config = copy.deepcopy(policy.config)
    config.num_labels = 1
    config.pad_token_id = pad_id
    model: PreTrainedModel = AutoModelForSequenceClassification.from_config(config)
    model.base_model.load_state_dict(policy.base_model.state_dict())
    return model.to(policy.device)


def rewards(model: RewardModel, answers: Sequence[Answer]) -> list[float]:
    """Return the normalised reward of each answer, read at EOS, in the order given.

    An answer that was cut off is read as if it ended there: reward models are fitted to nothing but
    endings, and what they say elsewhere has no meaning. Runs on torch's default device.
    """
    import torch

    device = str(torch.get_default_device())
    classifier, tokenizer = opened_reward(model.path, device)
    ids = [encode(tokenizer, a.messages, a.completion) for a in answers]
    norm = json.loads((model.path / "norm.json").read_text())
    found = [0.0] * len(ids)
    for rows in batches_by_length([len(row) for row in ids], REWARD_TOKENS):
        batch, mask = right_padded([ids[row] for row in rows], tokenizer.pad_token_id, device)
        with torch.inference_mode():
            raw = classifier(input_ids=batch, attention_mask=mask).logits[:, 0].double()
        for row, value in zip(rows, (norm["gain"] * raw + norm["bias"]).tolist(), strict=True):
            found[row] = value
    return found


@lru_cache(maxsize=2)
def opened_reward(path: Path, device: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return model and tokenizer of a reward model, kept, since best-of-n grades chunk by chunk."""
    model = RewardModel(path.name, path=path)
    return load_reward(model, device), load_tokenizer(model)


def encode(
    tokenizer: PreTrainedTokenizerBase,
    messages: Messages,
    completion: str | None = None,
    *,
    finished: bool = True,
) -> list[int]:
    """Return the ids of a prompt, or of a prompt with its answer: the one renderer of the harness.

    The prompt ends where the assistant is to speak. Completion ids are appended to the prompt's, so
    a token never spans the two, and end in exactly one EOS unless not `finished`. Text that looks
    like a special token is no special token there.
    """
    turns = [dict(turn) for turn in messages]
    prompt: list[int] = tokenizer.apply_chat_template(
        turns, add_generation_prompt=True, return_dict=False
    )
    if completion is None:
        return prompt
    return prompt + encode_answer(tokenizer, completion, finished=finished)


def encode_answer(
    tokenizer: PreTrainedTokenizerBase, completion: str, *, finished: bool = True
) -> list[int]:
    """Return an answer's ids, ending in exactly one EOS unless not `finished`; see `encode`."""
    ids: list[int] = tokenizer(completion, add_special_tokens=False, split_special_tokens=True)[
        "input_ids"
    ]
    return [*ids, tokenizer.eos_token_id] if finished else ids


def batches_by_length(lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Return row numbers in batches of like length, each at most `tokens` wide times long."""
    batches: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= tokens:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches


def right_padded(
    ids: Sequence[Sequence[int]], pad: int, device: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids and attention mask, both (batch, length), padded on the right.

    Right padding is after every real token of a causal model, so it needs no position ids.
    """
    import torch

    width = max(map(len, ids))
    batch = torch.tensor([[*row, *[pad] * (width - len(row))] for row in ids], device=device)
    lengths = torch.tensor([len(row) for row in ids], device=device)
    return batch, torch.arange(width, device=device)[None] < lengths[:, None]


def opened_tokenizer(folder: Path, *, remote_code: bool = False) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a folder; ValueError where there is none, or it has no EOS token."""
    from transformers import AutoTokenizer

    with naming(folder, "tokenizer"):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=remote_code
        )
    if tokenizer.eos_token_id is None:
        raise ValueError(f"the tokenizer in {folder} has no EOS token, so no answer would ever end")
    return tokenizer


def require_template(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Raise ValueError saying how to give a chat template when there is none, or none that works.

    One that does not show what the user said would ask every prompt alike, without a word.
    """
    from jinja2 import TemplateError

    if not tokenizer.chat_template:
        raise ValueError(f"the model in {folder} has no chat template. {GIVE_TEMPLATE}")
    asked = [{"role": "user", "content": "How many?"}]
    manner = {"tokenize": False, "add_generation_prompt": True}
    try:
        shown = str(tokenizer.apply_chat_template(asked, **manner))
    except TemplateError as error:
        raise ValueError(
            f"the chat template of the model in {folder} is broken: {error}. {GIVE_TEMPLATE}"
        ) from None
    if "How many?" not in shown:
        raise ValueError(
            f"the chat template of the model in {folder} shows nothing of what the user says, but "
            f"{shown[:40]!r}. {GIVE_TEMPLATE}"
        )


def opened_model(folder: Path, dtype: torch.dtype | str, setup: Setup = USUAL) -> PreTrainedModel:
    """Return the causal language model of a folder, computed as a setup says."""
    from transformers import AutoModelForCausalLM

    attention = {"attn_implementation": setup.attention} if setup.attention else {}
    settings = {"dtype": dtype, **attention}
    return opened(AutoModelForCausalLM, folder, remote_code=setup.remote_code, **settings)


def opened(
    kind: Any, folder: Path, *, remote_code: bool = False, **settings: Any
) -> PreTrainedModel:
    """Return a model from safetensors, refusing pickles, and weights that do not fit.

    Code that comes with a model runs only with `remote_code`, which a study has to ask for.

    Raises ValueError naming the tensors that are missing, unknown or of another shape.
    """
    model_files(folder)
    with naming(folder, "model"):
        model, info = quietly(
            kind.from_pretrained,
            folder,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=remote_code,
            ignore_mismatched_sizes=True,  # reported below, with names
            output_loading_info=True,
            **settings,
        )
    problems = [
        f"{name.replace('_keys', '')}: {', '.join(sorted(map(str, info[name]))[:5])}"
        for name in ("missing_keys", "unexpected_keys", "mismatched_keys")
        if info[name]
    ]
    if problems:
        raise ValueError(f"the weights in {folder} do not fit its config.json: {problems}")
    loaded: PreTrainedModel = model
    return loaded


@contextmanager
def naming(folder: Path, what: str) -> Iterator[None]:
    """Raise ValueError that names the folder where its files are torn, or none that is known."""
    from safetensors import SafetensorError

    try:
        yield
    except (SafetensorError, OSError, ValueError) as error:
        if "trust_remote_code" in str(error):
            raise
        said = str(error).strip().split("\n")[0].rstrip(":")
        raise ValueError(
            f"the {what} in {folder} cannot be read ({said}). Copy all files of the model again: "
            "config.json, *.safetensors, tokenizer.json, tokenizer_config.json"
        ) from error


def quietly(call: Any, *args: Any, **kwargs: Any) -> Any:
    """Call into transformers without its progress bars, which would break ours."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        return call(*args, **kwargs)
    finally:
        if shown:
            logging.enable_progress_bar()


__all__ = [
    "DIGESTS",
    "Digests",
    "LocalFile",
    "LocalFolder",
    "base_policy",
    "encode",
    "load_policy",
    "load_reward",
    "load_tokenizer",
    "local_file",
    "local_folder",
    "local_model",
    "rewards",
]
