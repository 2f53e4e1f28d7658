"""What the tests share: tiny models, stages run without a store, and quiet libraries."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).parent))  # `import tiny`, as a worker knows it

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"


@pytest.fixture(scope="session")
def make(tmp_path_factory):
    """Return a function that runs an artifact's stages, inputs first, without a store."""
    from harness.draft import Draft
    from harness.stage import Artifact, find_artifacts

    store = tmp_path_factory.mktemp("made")

    def bound(value):
        if isinstance(value, Artifact):
            return made(value) if value.recipe else value
        if not list(find_artifacts(value)):
            return value
        if isinstance(value, tuple):
            return tuple(map(bound, value))
        from dataclasses import fields, replace

        return replace(value, **{f.name: bound(getattr(value, f.name)) for f in fields(value)})

    def made(artifact):
        folder = store / artifact.id
        if not folder.is_dir():
            folder.mkdir()
            arguments = {key: bound(value) for key, value in artifact.recipe.arguments.items()}
            artifact.recipe.stage.body(Draft(folder), **arguments)
        return artifact.at(folder)

    return made


@pytest.fixture(scope="session")
def tiny_policy_folder(tmp_path_factory) -> Path:
    """Return the folder of a tiny random policy over bytes."""
    from tiny import write_policy

    folder = tmp_path_factory.mktemp("tiny")
    write_policy(folder)
    return folder


@pytest.fixture(scope="session")
def tinystories() -> Path:
    """Return the folder of a small real checkpoint, or skip where it is not."""
    folder = SHARED / "models" / "TinyStories-656K"
    if not folder.is_dir():
        pytest.skip(f"the real checkpoint is not here: {folder}")
    return folder
