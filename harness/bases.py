"""Base models of a study: a local folder or an embedded model, made into a policy once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.artifacts import Policy
from harness.draft import Draft
from harness.local import LocalFolder, local_folder
from harness.stage import stage

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Dtype = Literal["float32", "bfloat16", "float16"]

EMBEDDED = Path(__file__).parent / "hamlet" / "weights"
ROLES = ("base", "labeller")
# Names under which tokenizers in use keep a token for padding, or one that nothing else uses.
PADDING = ("<|pad|>", "<pad>", "[PAD]", "<|padding|>", "<|finetune_right_pad_id|>", "<|endoftext|>")
PLAIN_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ message['content'] }}\n\n"
    "{% elif message['role'] == 'user' %}User: {{ message['content'] }}\n\n"
    "{% elif message['role'] == 'assistant' %}Assistant: {{ message['content'] }}\n\n"
    "{% else %}{{ raise_exception('a message has the role system, user or assistant') }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)


def base_policy(label: str, spec: Mapping[str, Any]) -> Policy:
    """Return the policy that a study's `[bases.LABEL]` names: a local folder, or an embedded model.

    `spec` has path, or is empty for the embedded model `hamlet` (there, role is base or labeller);
    template is Jinja text or "plain"; dtype is how weights are kept. Raises ValueError or
    FileNotFoundError with the remedy.
    """
    if spec.get("hub") is not None:
        name = spec["hub"]
        raise ValueError(
            f"hub = {name!r}: models are not fetched yet. Fetch it once with `huggingface-cli "
            f'download {name} --local-dir models/{label}` and write path = "models/{label}"'
        )
    if spec.get("path") is not None:
        folder = local_folder(spec["path"])
    elif label.split("_")[0] == "hamlet":
        folder = embedded_folder(spec.get("role", "base"))
    else:
        raise ValueError(
            f"no embedded base {label!r}: the one embedded base is called hamlet; give a folder by "
            f'path = "..." under [bases.{label}]'
        )
    template = spec.get("template")
    return local_model(
        folder=folder,
        template=PLAIN_TEMPLATE if template == "plain" else template,
        dtype=spec.get("dtype"),
    )


def embedded_folder(role: str) -> LocalFolder:
    """Return the weights that come with the package; raise when they are not there."""
    if role not in ROLES:
        raise ValueError(f"role {role!r} of an embedded model: one of {', '.join(ROLES)}")
    if not (EMBEDDED / role).is_dir():
        raise FileNotFoundError(
            f"this installation has no embedded weights ({EMBEDDED / role}); make them with "
            "`python -m harness.hamlet.pretrain`"
        )
    return local_folder(EMBEDDED / role)


@stage(makes=Policy)
def local_model(
    out: Draft, *, folder: LocalFolder, template: str | None, dtype: Dtype | None
) -> None:
    """Make a policy from a local folder: its weights, its tokenizer, a template, its stop ids.

    `template` replaces the tokenizer's own chat template. `dtype` is what the weights are kept in,
    None as they are. A tokenizer without padding token of its own gets one, see `with_padding`.
    """
    import torch

    from harness.models import opened_model, opened_tokenizer, quietly, require_template

    source = folder.checked()
    tokenizer = opened_tokenizer(source)
    tokenizer.chat_template = template or tokenizer.chat_template
    require_template(tokenizer, source)
    model = opened_model(source, getattr(torch, dtype) if dtype else "auto")
    with_padding(tokenizer, model)
    stops = model.generation_config.eos_token_id
    stops = stops if isinstance(stops, list) else [] if stops is None else [stops]
    model.config.pad_token_id = tokenizer.pad_token_id
    quietly(model.save_pretrained, out.path)
    tokenizer.save_pretrained(out.path)
    decoding = {"stop_ids": sorted({tokenizer.eos_token_id, *stops})}
    (out / "generation.json").write_text(json.dumps(decoding) + "\n")
    out.note(parameters=sum(weight.numel() for weight in model.parameters()))


def with_padding(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> None:
    """See to a padding token that differs from EOS, growing the embedding only as a last resort.

    With padding equal to EOS, a mask by id loses the EOS of every answer.
    """
    taken = {tokenizer.eos_token, tokenizer.bos_token, None}
    if tokenizer.pad_token not in taken:
        return
    vocabulary = tokenizer.get_vocab()
    spare = [name for name in (*PADDING, tokenizer.unk_token) if name in vocabulary]
    free = [name for name in spare if name not in taken]
    if free:
        tokenizer.pad_token = free[0]
        return
    tokenizer.add_special_tokens({"pad_token": PADDING[0]})
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        for layer in {model.get_input_embeddings(), model.get_output_embeddings()}:
            layer.weight.data[rows:] = layer.weight.data[:rows].mean(0)
