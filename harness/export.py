"""A policy of the store as a Hugging Face folder: weights, tokenizer, template, model card."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from harness.artifacts import Policy
from harness.planner import brief, duration, flat
from harness.store import Store
from harness.study_file import InputError

CARD = """---
library_name: transformers
pipeline_tag: text-generation
tags: [alignment-matrix]
---

# {name}

A policy made by alignment-matrix, a
controlled study of alignment methods: the same base, prompts and feedback; only the method differs.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{folder}")
model = AutoModelForCausalLM.from_pretrained("{folder}")
prompt = tokenizer.apply_chat_template(
    [{{"role": "user", "content": "..."}}], add_generation_prompt=True, return_tensors="pt",
    return_dict=True,
)
answer = model.generate(**prompt, max_new_tokens=64)
```

The weights are float32 with every adapter merged.{decoding}

## How it was made

Each stage with its settings; inputs are named by their ids.

{recipes}

## Limits

A research artifact of one run with one seed. What it was measured to do stands in the study's
report, with intervals; nothing here was checked for use by people.
"""


def export_policy(policy: Policy, store: Store, folder: Path, *, name: str) -> str:
    """Write a policy that the store has verified into a new folder; return what was written.

    Raises InputError when the folder exists.
    """
    if folder.exists():
        raise InputError(f"{folder} exists; export writes a new folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
        draft = Path(temporary) / folder.name
        policy.load().save_pretrained(draft)
        policy.tokenizer().save_pretrained(draft)
        (draft / "README.md").write_text(card(policy, store, folder, name=name))
        draft.rename(folder)
    files = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*"))
    return f"{folder}: {policy.id} as {', '.join(files)}"


def card(policy: Policy, store: Store, folder: Path, *, name: str) -> str:
    """Return the model card: how to load the folder, and every stage behind the weights."""
    generation = {k: v for k, v in policy.generation().items() if k != "stop_ids"}
    decoding = ""
    if generation:
        decoding = (
            " In the study this policy is sampled in a way that weights cannot carry: "
            f"`{json.dumps(generation, sort_keys=True)}`."
        )
    recipes = "\n".join(recipe_line(manifest) for manifest in ancestry(policy.id, store))
    return CARD.format(name=name, folder=folder.name, decoding=decoding, recipes=recipes)


def ancestry(id: str, store: Store) -> list[dict[str, Any]]:
    """Return the manifests of an artifact and of everything it was made from, inputs first."""
    found: dict[str, dict[str, Any]] = {}

    def visit(id: str) -> None:
        manifest = store.manifest(id)
        if manifest is not None and id not in found:
            for source in manifest["inputs"]:
                visit(source)
            found[id] = manifest

    visit(id)
    return list(found.values())


def recipe_line(manifest: dict[str, Any]) -> str:
    """Return one stage as an item of a list: its id, settings and time."""
    arguments = flat(manifest["recipe"]["arguments"])
    settings = ", ".join(f"{key} = {brief(value)}" for key, value in arguments.items())
    return f"* `{manifest['id']}` ({duration(manifest['seconds'])}): {settings}"
