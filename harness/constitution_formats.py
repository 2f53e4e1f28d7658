"""Read constitutions in the two public formats into our own; their texts are not shipped here.

python -m harness.constitution_formats anthropic SL.json RL.json > mine.yaml
python -m harness.constitution_formats hugging_face constitution.json > mine.yaml
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.constitution import (
    Constitution,
    ConstitutionError,
    Exemplar,
    Principle,
    Provenance,
)
from harness.constitution_file import problems

TURNS = 6  # request, answer, critique request, critique, revision request, revision


def from_anthropic(sl: Mapping[str, Any], rl: Sequence[str]) -> Constitution:
    """Return the constitution in a pair of files shaped as those published with the paper.

    `sl` maps an id to the parts of its critique request (`prompt`) and its `edit_request`; `rl` is
    a list of questions. Raises ConstitutionError naming the entry that has another shape.
    """
    if not isinstance(sl, Mapping) or not isinstance(rl, Sequence):
        raise ConstitutionError(
            "the first file maps ids to requests, and the second is a list of questions"
        )
    principles: list[Principle] = []
    for name, entry in sl.items():
        if not isinstance(entry, Mapping) or not {"prompt", "edit_request"} <= entry.keys():
            raise ConstitutionError(f"{name}: an entry has a `prompt` and an `edit_request`")
        parts = [entry["prompt"]] if isinstance(entry["prompt"], str) else entry["prompt"]
        if not all(isinstance(text, str) for text in (*parts, entry["edit_request"])):
            raise ConstitutionError(f"{name}: its `prompt` and its `edit_request` are texts")
        principles.append(
            critique(f"sl-{len(principles) + 1}", "".join(parts), entry["edit_request"], "import")
        )
    for number, question in enumerate(rl, 1):
        if not isinstance(question, str):
            raise ConstitutionError(f"entry {number} of the comparisons is no text: {question!r}")
        principles.append(
            Principle(
                id=f"rl-{number}",
                statement=question,
                stages=("compare",),
                compare_question=question,
                provenance=Provenance("import"),
            )
        )
    return imported("anthropic", tuple(principles), ())


def from_hugging_face(raw: Mapping[str, Any]) -> Constitution:
    """Return the constitution in a file of `constitutions` (critic, revision) and `system_chat`.

    Each dialogue is a worked example of six turns; where its requests are none of the listed ones,
    they become a principle that is shown but never drawn. Raises ConstitutionError.
    """
    if not isinstance(raw, Mapping):
        raise ConstitutionError("the file maps `constitutions` to requests, and this one is a list")
    try:
        texts = [(entry["critic"], entry["revision"]) for entry in raw["constitutions"]]
        dialogues = [[dict(turn) for turn in dialogue] for dialogue in raw.get("system_chat", ())]
    except (KeyError, TypeError) as error:
        raise ConstitutionError(
            f"the file has `constitutions` with `critic` and `revision` each; missing: {error}"
        ) from None
    principles = [critique(f"hf-{n}", *each, "import") for n, each in enumerate(texts, 1)]
    exemplars = []
    for dialogue in dialogues:
        if len(dialogue) != TURNS:
            raise ConstitutionError(f"a dialogue has six turns, not {len(dialogue)}")
        asked = (dialogue[2]["content"], dialogue[4]["content"])
        if asked not in texts:
            texts.append(asked)
            principles.append(critique(f"shown-{len(texts)}", *asked, "import", weight=0.0))
        exemplars.append(
            Exemplar(
                messages=tuple(dialogue[:2]),
                principle=principles[texts.index(asked)].id,
                critique=dialogue[3]["content"],
                revision=dialogue[5]["content"],
            )
        )
    return imported("hugging-face", tuple(principles), tuple(exemplars))


def critique(id: str, asked: str, revised: str, source: str, weight: float = 1.0) -> Principle:
    """Return a principle to criticise and revise by, whose statement is what it asks."""
    return Principle(
        id=id,
        statement=asked,
        stages=("critique",),
        critique_request=asked,
        revision_request=revised,
        weight=weight,
        provenance=Provenance(source),
    )


def imported(
    name: str, principles: tuple[Principle, ...], exemplars: tuple[Exemplar, ...]
) -> Constitution:
    """Return a constitution of imported parts; raise ConstitutionError where they do not fit."""
    made = Constitution(
        name=name,
        version="imported",
        license="that of the imported file",
        description="Imported from a public file; look there for its authors and terms.",
        principles=principles,
        exemplars=exemplars,
    )
    wrong = problems(made)
    if wrong:
        raise ConstitutionError(*wrong)
    return made


def main(shape: str = "", *files: str) -> None:
    """Print the constitution in the named files as YAML; exit with what is wrong with them."""
    if (shape, len(files)) not in (("anthropic", 2), ("hugging_face", 1)):
        raise SystemExit(__doc__)
    raw = []
    for file in files:
        try:
            raw.append(json.loads(Path(file).read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise SystemExit(f"{file}: {error}; name a JSON file") from None
    try:
        made = from_anthropic(*raw) if shape == "anthropic" else from_hugging_face(*raw)
    except ConstitutionError as error:
        raise SystemExit(f"{', '.join(files)}: {error}") from None
    sys.stdout.write(made.to_yaml())


if __name__ == "__main__":
    main(*sys.argv[1:])
