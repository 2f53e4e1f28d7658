"""Public preference sets by name, from a local copy or the hub's cache at a commit.

Licences are their publishers': HH-RLHF is MIT, PKU-SafeRLHF CC BY-NC 4.0, UltraFeedback MIT.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from harness.artifacts import Policy
from harness.data import Labels, Source, offered
from harness.registry import dataset
from harness.row_files import files_in
from harness.row_formats import Axis, Columns, TwoAxes
from harness.shared import Data
from harness.sources import dataset_place, is_absent
from harness.splits import Shares

TRANSCRIPTS = Columns(prompt="")


@dataset
def hh_rlhf(
    base: Policy,
    seed: int,
    *,
    path: str | None = None,
    hub: str = "Anthropic/hh-rlhf",
    revision: str | None = None,
    helpful: str = "helpful-base/train.jsonl.gz",
    harmless: str = "harmless-base/train.jsonl.gz",
    helpful_test: str = "helpful-base/test.jsonl.gz",
    harmless_test: str = "harmless-base/test.jsonl.gz",
    labels: Labels = "noisy",
    validation: float = 0.05,
    test: float = 0.1,
    max_prompt: int = 256,
    max_length: int = 448,
    max_rows: int | None = None,
    max_test: int | None = None,
    budget: int | None = None,
    max_overlap: float = 0.2,
    reserved: float = 0.0,
    assistant: str = "",
) -> Data:
    """HH-RLHF: people's choices, helpful rows on the helpful axis and harmless ones on the safe.

    Files are patterns in the folder, "" for none; without test files a share is held out.
    (Bai et al. 2022, arXiv:2204.05862)
    """
    folder = place(path, hub, revision)
    sources = [
        *sources_in(folder, helpful, TRANSCRIPTS, "helpful"),
        *sources_in(folder, harmless, TRANSCRIPTS, "safe"),
        *sources_in(folder, helpful_test, TRANSCRIPTS, "helpful", held_out=True),
        *sources_in(folder, harmless_test, TRANSCRIPTS, "safe", held_out=True),
    ]
    lengths = (max_prompt, max_length, max_rows)
    shares = Shares(validation, test, *lengths, budget, max_overlap, max_test, reserved)
    return offered(base, seed, sources, shares, labels, assistant)


@dataset
def pku_saferlhf(
    base: Policy,
    seed: int,
    *,
    path: str | None = None,
    hub: str = "PKU-Alignment/PKU-SafeRLHF",
    revision: str | None = None,
    train: str = "data/*/train.jsonl*",
    tests: str = "data/*/test.jsonl*",
    axis: Axis | None = None,
    flags: bool = False,
    labels: Labels = "noisy",
    validation: float = 0.05,
    test: float = 0.1,
    max_prompt: int = 256,
    max_length: int = 448,
    max_rows: int | None = None,
    max_test: int | None = None,
    budget: int | None = None,
    max_overlap: float = 0.2,
    reserved: float = 0.0,
    assistant: str = "",
) -> Data:
    """PKU-SafeRLHF: which of two responses is more helpful, and which is safer.

    Each pair counts once, on the axis that a coin gives its prompt, so rows never contradict each
    other; `axis` takes one for all. `flags` also reads whether each response is safe. (Ji et al.
    2023, arXiv:2307.04657)
    """
    folder, form = place(path, hub, revision), TwoAxes(axis, flags)
    sources = [
        *sources_in(folder, train, form, axis or "helpful"),
        *sources_in(folder, tests, form, axis or "helpful", held_out=True),
    ]
    lengths = (max_prompt, max_length, max_rows)
    shares = Shares(validation, test, *lengths, budget, max_overlap, max_test, reserved)
    return offered(base, seed, sources, shares, labels, assistant)


@dataset
def ultrafeedback(
    base: Policy,
    seed: int,
    *,
    path: str | None = None,
    hub: str = "trl-lib/ultrafeedback_binarized",
    revision: str | None = None,
    train: str = "data/train-*.parquet",
    tests: str = "data/test-*.parquet",
    prompt: str = "",
    chosen_score: str = "score_chosen",
    rejected_score: str = "score_rejected",
    labels: Labels = "noisy",
    validation: float = 0.05,
    test: float = 0.1,
    max_prompt: int = 256,
    max_length: int = 448,
    max_rows: int | None = None,
    max_test: int | None = None,
    budget: int | None = None,
    max_overlap: float = 0.2,
    reserved: float = 0.0,
    assistant: str = "",
) -> Data:
    """UltraFeedback: a model's scores of 1 to 10, whose gaps become strengths of 1 to 4.

    A gap above 0.5, 1 and 2 is a strength of 2, 3 and 4; equal scores make no pair. Scores in
    another column are named, as in "metadata.score_chosen". (Cui et al. 2023, arXiv:2310.01377)
    """
    columns = Columns(prompt=prompt, chosen_score=chosen_score, rejected_score=rejected_score)
    folder = place(path, hub, revision)
    sources = [
        *sources_in(folder, train, columns, "helpful"),
        *sources_in(folder, tests, columns, "helpful", held_out=True),
    ]
    lengths = (max_prompt, max_length, max_rows)
    shares = Shares(validation, test, *lengths, budget, max_overlap, max_test, reserved)
    return offered(base, seed, sources, shares, labels, assistant)


@dataset
def hub(
    base: Policy,
    seed: int,
    *,
    hub: str,
    revision: str | None = None,
    train: str,
    tests: str = "",
    path: str | None = None,
    prompt: str = "prompt",
    chosen: str = "chosen",
    rejected: str = "rejected",
    responses: str = "",
    ranks: str = "",
    completion: str = "",
    thumb: str = "",
    axis: Axis = "helpful",
    axis_column: str = "",
    strength: str = "",
    chosen_safe: str = "",
    rejected_safe: str = "",
    labels: Labels = "noisy",
    validation: float = 0.05,
    test: float = 0.1,
    max_prompt: int = 256,
    max_length: int = 448,
    max_rows: int | None = None,
    max_test: int | None = None,
    budget: int | None = None,
    max_overlap: float = 0.2,
    reserved: float = 0.0,
    assistant: str = "",
) -> Data:
    """Any preference set of the hub at a commit: `train` and `tests` are patterns of its files.

    Columns are named as for `jsonl`; a local copy of the repository is taken by `path`.
    """
    named = (prompt, chosen, rejected, responses, ranks, completion, thumb, axis_column)
    columns = Columns(*named, strength, chosen_safe, rejected_safe)
    folder = place(path, hub, revision)
    sources = [
        *sources_in(folder, train, columns, axis),
        *sources_in(folder, tests, columns, axis, held_out=True),
    ]
    lengths = (max_prompt, max_length, max_rows)
    shares = Shares(validation, test, *lengths, budget, max_overlap, max_test, reserved)
    return offered(base, seed, sources, shares, labels, assistant)


def place(path: str | None, hub: str, revision: str | None) -> Path:
    """Return the folder of a local copy, or where a revision of the hub is kept."""
    if path is None:
        return dataset_place(hub, revision)
    folder = Path(path).expanduser()
    if not folder.is_dir() and not is_absent(folder):
        raise FileNotFoundError(
            f"no folder {folder.absolute()}; path is the folder of a copy of {hub}, as `hf "
            f"download {hub} --repo-type dataset --revision COMMIT --local-dir FOLDER` makes it"
        )
    return folder


def sources_in(
    folder: Path, pattern: str, form: Columns | TwoAxes, axis: Axis, *, held_out: bool = False
) -> Iterator[Source]:
    """Yield the files of a folder that fit a pattern; none where the pattern is empty."""
    for file in files_in(folder, pattern) if pattern else ():
        yield Source(file, form, axis, held_out)
