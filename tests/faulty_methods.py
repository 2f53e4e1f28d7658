"""Methods that each break one promise, and one that keeps all; no torch is needed to make them."""

from __future__ import annotations

import json
import os
import shutil

from harness import Draft, Policy, Prompts, Shared, method, stage
from harness.tiny import tiny_base, tiny_prompts


def copy(out: Draft, policy: Policy, **said: object) -> None:
    """Copy a policy's folder and say beside it what was asked for."""
    for file in policy.path.iterdir():
        if file.is_file() and file.name != "manifest.json":
            shutil.copyfile(file, out / file.name)
    (out / "said.json").write_text(json.dumps(said))


@stage(makes=Policy)
def copied(out: Draft, policy: Policy, *, strength: float, ignored: float, seed: int) -> None:
    copy(out, policy, strength=strength, seed=seed)


@stage(makes=Policy)
def copied_with(out: Draft, policy: Policy, prompts: Prompts) -> None:
    copy(out, policy)


@stage(makes=Policy)
def restless(out: Draft, policy: Policy) -> None:
    copy(out, policy, drawn=os.urandom(8).hex())


@method(paper="arXiv:2000.00001")
def sound(shared: Shared, strength: float = 1.0) -> Policy:
    """Copy the base policy and say how strongly."""
    return copied(shared.base, strength=strength, ignored=0.0, seed=shared.seed)


@method(paper=None)
def paperless(shared: Shared) -> Policy:
    """Return the base policy."""
    return shared.base


@method(paper="arXiv:2000.00001")
def speechless(shared: Shared) -> Policy:
    return shared.base


@method(paper="arXiv:2000.00001")
def untyped(shared: Shared, strength=1.0) -> Policy:  # type: ignore[no-untyped-def]
    """Return the base policy."""
    return shared.base


@method(paper="arXiv:2000.00001")
def mistyped(shared: Shared, strength: float = 1) -> Policy:
    """Return the base policy."""
    return shared.base


@method(paper="arXiv:2000.00001")
def hashed(shared: Shared) -> Policy:
    """Copy the base policy by a number that another process does not draw."""
    return copied(shared.base, strength=float(hash("a word") % 1000), ignored=0.0, seed=shared.seed)


@method(paper="arXiv:2000.00001")
def importing(shared: Shared) -> Policy:
    """Return the base policy, after importing what planning does not need."""
    import pandas

    assert pandas
    return shared.base


@method(paper="arXiv:2000.00001")
def writing(shared: Shared) -> Policy:
    """Return the base policy, after leaving a file."""
    with open("left-behind.txt", "w") as file:  # noqa: PTH123  (the plainest way to write)
        file.write("here")
    return shared.base


@method(paper="arXiv:2000.00001")
def deaf(shared: Shared, strength: float = 1.0) -> Policy:
    """Copy the base policy, whatever the setting says."""
    return copied(shared.base, strength=0.5, ignored=0.0, seed=shared.seed)


@method(paper="arXiv:2000.00001")
def vain(shared: Shared, strength: float = 1.0) -> Policy:
    """Copy the base policy by a setting that changes its id and nothing else."""
    return copied(shared.base, strength=0.5, ignored=strength, seed=shared.seed)


@method(paper="arXiv:2000.00001")
def seedless(shared: Shared) -> Policy:
    """Copy the base policy with the same seed in every cell."""
    return copied(shared.base, strength=1.0, ignored=0.0, seed=0)


@method(paper="arXiv:2000.00001")
def foreign(shared: Shared) -> Policy:
    """Return a policy that has nothing to do with the shared base."""
    return copied(tiny_base(seed=99), strength=1.0, ignored=0.0, seed=shared.seed)


@method(paper="arXiv:2000.00001")
def peeking(shared: Shared) -> Policy:
    """Copy the base policy, test prompts in hand."""
    return copied_with(shared.base, tiny_prompts(split="test"))


@method(paper="arXiv:2000.00001")
def undecided(shared: Shared) -> Policy:
    """Copy the base policy and draw without a seed."""
    return restless(shared.base)
