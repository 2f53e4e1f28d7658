"""Base models of a study: of the hub, of a folder or embedded, made into a policy once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.adapters import Lora, Setup, adapted, computed, write_setup
from harness.artifacts import Policy
from harness.draft import Draft
from harness.local import LocalFile, LocalFolder, local_file, local_folder
from harness.sources import absent_folder, hub_place, is_absent
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

GIVE_TEMPLATE = (
    "Give one in the study under [bases.*]: "
    'template = "plain" (User: ... Assistant: ...), or Jinja text between triple quotes'
)


def base_policy(label: str, spec: Mapping[str, Any]) -> Policy:
    """Return the policy that a study's `[bases.LABEL]` names: on the hub, in a folder, or embedded.

    `spec` has hub and revision, or path, or neither for the embedded model `hamlet` (there, role is
    base or labeller); template is Jinja text or "plain"; dtype is how weights are kept; attention
    and gradient_checkpointing are how they are computed; lora is the adapter that is trained in
    their place; remote_code lets the code that comes with the model run. Raises ValueError or
    FileNotFoundError with the remedy.
    """
    folder = source_of(label, spec)
    template = PLAIN_TEMPLATE if spec.get("template") == "plain" else spec.get("template")
    kept: dict[str, Any] = {"folder": folder, "template": template, "dtype": spec.get("dtype")}
    if spec.get("remote_code"):
        policy = model_with_code(**kept, code=code_in(Path(folder.path)))
    else:
        if not template and lacks_template(Path(folder.path)):
            raise ValueError(f"the model in {folder.path} has no chat template. {GIVE_TEMPLATE}")
        policy = local_model(**kept)
    manner = {key: spec.get(key) for key in ("attention", "gradient_checkpointing")}
    if any(manner.values()):
        checkpointing = bool(manner["gradient_checkpointing"])
        policy = computed(
            policy, attention=spec.get("attention"), gradient_checkpointing=checkpointing
        )
    return adapted(policy, lora=Lora.of(spec["lora"])) if spec.get("lora") else policy


def source_of(label: str, spec: Mapping[str, Any]) -> LocalFolder:
    """Return the folder that a base comes from; raise ValueError where it names none or two."""
    named = [key for key in ("hub", "path") if spec.get(key) is not None]
    if named or spec.get("revision") is not None:
        return model_folder(spec.get("path"), spec.get("hub"), spec.get("revision"))
    if label.split("_")[0] == "hamlet":
        return embedded_folder(spec.get("role", "base"))
    raise ValueError(
        f"no embedded base {label!r}: the one embedded base is called hamlet; give a folder by "
        f'path = "..." under [bases.{label}], or hub = "org/name" and a revision'
    )


def model_folder(path: str | None, hub: str | None, revision: str | None) -> LocalFolder:
    """Return a model's folder by path, or by its name on the hub and a revision, by digest.

    Raises ValueError where neither or both are given, and FileNotFoundError with the remedy.
    """
    if path is not None and hub is not None:
        raise ValueError("hub and path both say where the model is; keep one of them")
    if revision is not None and hub is None:
        raise ValueError("revision is a commit of a model on the hub, and no hub is named")
    if path is not None:
        return absent_folder("model", path, None) if is_absent(path) else whole_folder(path)
    if hub is None:
        raise ValueError('give the model by path = "FOLDER", or by hub = "org/name" and revision')
    folder = hub_place("model", hub, revision)
    return absent_folder("model", hub, revision) if folder is None else whole_folder(folder)


def whole_folder(path: str | Path) -> LocalFolder:
    """Return a model folder by its digest; FileNotFoundError where files of its weights lack."""
    found = local_folder(path)
    for index in sorted(Path(found.path).glob("*.safetensors.index.json")):
        shards = set(json.loads(index.read_text())["weight_map"].values())
        lacking = sorted(shard for shard in shards if not (index.parent / shard).is_file())
        if lacking:
            raise FileNotFoundError(
                f"{found.path} has a part of the weights: {', '.join(lacking[:3])} of "
                f"{len(shards)} files lack. Fetch the model again"
            )
    return found


def lacks_template(folder: Path) -> bool:
    """Say whether a model's tokenizer brings no chat template; no for a folder that is not there.

    Raises ValueError for a configuration that is torn.
    """
    config = folder / "tokenizer_config.json"
    try:
        said = dict(json.loads(config.read_text(encoding="utf-8"))) if config.is_file() else {}
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{config} cannot be read ({error}). Copy all files of the model again"
        ) from None
    own = [folder / "chat_template.jinja", folder / "additional_chat_templates"]
    return folder.is_dir() and not (said.get("chat_template") or any(p.exists() for p in own))


def code_in(folder: Path) -> tuple[LocalFile, ...]:
    """Return the Python files of a model folder by their digests, sorted by name."""
    found = tuple(local_file(file) for file in sorted(folder.glob("*.py")))
    if not found and folder.is_dir():
        raise ValueError(f"remote_code = true, and {folder} holds no code; leave it out")
    return found


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
    write_policy(out, folder.checked(), template, dtype, Setup())


@stage(makes=Policy)
def model_with_code(
    out: Draft,
    *,
    folder: LocalFolder,
    code: tuple[LocalFile, ...],
    template: str | None,
    dtype: Dtype | None,
) -> None:
    """Make a policy from a folder whose own Python code runs: only where a study asks for that.

    The digests of the code are part of what the policy is, and of its manifest.
    """
    source = folder.checked()
    for file in code:
        file.checked()
    setup = Setup(remote_code=True)
    write_policy(out, source, template, dtype, setup)
    write_setup(out, setup)
    out.note(remote_code={Path(file.path).name: file.sha256 for file in code})


def write_policy(
    out: Draft, source: Path, template: str | None, dtype: Dtype | None, setup: Setup
) -> None:
    """Write a policy's folder from a model's: weights, tokenizer, template, stop ids."""
    import torch

    from harness.models import opened_model, opened_tokenizer, quietly, require_template

    try:
        tokenizer = opened_tokenizer(source, remote_code=setup.remote_code)
        tokenizer.chat_template = template or tokenizer.chat_template
        require_template(tokenizer, source)
        model = opened_model(source, getattr(torch, dtype) if dtype else "auto", setup)
    except ValueError as error:
        if "trust_remote_code" not in str(error):
            raise
        raise ValueError(
            f"the model in {source} runs on Python code of its own, which runs only where the "
            "study says remote_code = true under [bases.*]. Read the *.py files there first"
        ) from None
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
