"""What the help of each command ends with: lines to copy, with a word on what they do."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

EXAMPLES: Final[Mapping[str, tuple[tuple[str, str], ...]]] = MappingProxyType(
    {
        "run": (
            ("run demo", "make everything, and resume what was begun"),
            ("run mine.toml --only sft,dpo --seeds 0,1", "some rows and seeds alone"),
            ("run demo --set methods.dpo.beta=0.2", "with another setting"),
            ("run demo --retry", "try again what diverged or was refused"),
        ),
        "tune": (
            ("tune mine.toml", "the study has a [tune] table; then `run mine.toml --tuned`"),
            ("tune mine.toml --only dpo --trials 4", "fewer rows and trials"),
        ),
        "plan": (
            ("plan demo", "what would run, what is cached, what it may cost"),
            ("plan demo --only dpo --all", "every artifact with its settings"),
        ),
        "prepare": (
            ("prepare mine.toml --to mirror", "all it reads; then `run mine.toml --mirror mirror`"),
        ),
        "status": (
            ("status demo", "a line a cell"),
            ("status demo --json", "the same for programs"),
        ),
        "report": (
            ("report demo", "write results/demo/report.html of what is made"),
            ("report demo --only sft,dpo --open", "fewer rows, shown in a browser"),
        ),
        "verify": (("verify", "hash results/store again; ends with 1 where bytes have changed"),),
        "show": (
            ("show demo:dpo/0", "the policy of a cell: STUDY:LABEL/SEED"),
            ("show mine.toml:dpo/0", "of a study of yours"),
            ("show prefer-98f2 --study mine.toml", "an artifact by the beginning of its id"),
        ),
        "why": (("why demo:dpo/0", "never made, failed, or made by another recipe"),),
        "logs": (
            ("logs demo:dpo/0", "what its stage wrote"),
            ("logs prefer-98f2 -f", "and goes on to write"),
        ),
        "export": (("export demo:dpo/0 dpo-folder", "a merged Hugging Face folder with its card"),),
        "gc": (
            ("gc demo hamlet", "what neither study reaches; nothing is removed"),
            ("gc demo hamlet --delete", "remove it"),
        ),
        "list": (
            ("list methods", "names, papers, settings with their defaults"),
            ("list judges --plugin mine.py", "those of a file too"),
        ),
        "check": (
            ("check dpo", "a plugin by its name"),
            ("check mine.py", "every plugin of a file"),
        ),
        "new-method": (
            ("new-method mine", "write mine.py and test_mine.py"),
            ("new-method mine --in plugins", "into a folder"),
        ),
        "gauge": (
            ("gauge mine.toml choices.jsonl", "the study's judge beside people's choices"),
            ("gauge mine.toml harms.jsonl --safe", "a guard beside labels of answers"),
        ),
        "new-study": (
            ("new-study mine --model models/small --data pairs.jsonl", "write mine.toml"),
            (
                "new-study mine --model models/small --data mine.csv --column rejected=worse",
                "a column of another name",
            ),
        ),
        "rate": (
            ("rate demo --against sft --items 60", "write a blind kit into results/demo/ratings"),
            ("rate demo --import anna.json ben.json", "read what came back"),
        ),
        "compare": (("compare results/before results/after", "what moved beyond noise"),),
        "merge": (("merge a/results/mine b/results/mine --into mine", "parts of one study"),),
        "benchmarks": (
            ("benchmarks", "names, axes, licences, sources"),
            ("benchmarks --path copies", "which of them lie in a folder"),
            ("benchmarks --to copies --only xstest,mmlu", "fetch some into it"),
        ),
        "shapes": (
            ("shapes results/hamlet", "which positive controls and predictions hold there"),
        ),
        "power": (
            ("power demo", "the smallest differences that it can see"),
            ("power mine.toml --seeds 5 --prompts 800", "what more would buy"),
        ),
    }
)


def example_of(command: str) -> str:
    """Return the examples of a command as its help shows them; "" where it has none."""
    shown = [f"  run_matrix.py {line}\n      {says}" for line, says in EXAMPLES.get(command, ())]
    return "\n".join(["\b", "Examples:", *shown]) if shown else ""
