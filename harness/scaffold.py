"""Begin a plugin of one's own, and check it: a file that works, its test, and its conformance."""

from __future__ import annotations

import importlib.util
import keyword
import time
from pathlib import Path

from harness.registry import NAME, UnknownNameError
from harness.study_file import InputError, shown

METHOD = '''"""{title}: say the idea in one sentence.

Author et al. {year}, "Title", arXiv:0000.00000. Two sentences of the idea: what the method does,
and why that should help.

Differs from the paper: 1. Say here what you changed, and number it.
"""

from __future__ import annotations

from harness import Policy, Shared, method, prefer


@method(paper="arXiv:0000.00000")
def {name}(
    shared: Shared,
    beta: float = 0.1,
    learning_rate: float = 1e-6,
    epochs: int = 1,
    batch_size: int = 64,
) -> Policy:
    """Raise the better answer's probability over the worse one's (DPO, until you change it)."""
    return prefer(
        shared.sft,
        shared.preferences,
        beta=beta,
        learning_rate=learning_rate,
        epochs=epochs,
        batch_size=batch_size,
        seed=shared.seed,
    )
'''

TEST = '''"""{name} keeps what every method must keep; see `harness.checks`."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.checks import checks_for


@pytest.mark.parametrize("check", checks_for(Path(__file__).with_name("{name}.py")), ids=str)
def test_{name}_conforms(check):
    check()
'''


def write_method(name: str, folder: Path) -> str:
    """Write a method plugin that works and its test; return what to do next.

    Raises InputError for a name that is taken, by a module or a file, or that is no name.
    """
    if not NAME.fullmatch(name) or keyword.iskeyword(name):
        raise InputError(f"{shown(name)} is no name for a method: at most 40 of a-z, 0-9 and _")
    files = {folder / f"{name}.py": METHOD, folder / f"test_{name}.py": TEST}
    for file in files:
        if file.exists():
            raise InputError(f"{file} exists; it is left as it is")
    if importlib.util.find_spec(name) is not None or importlib.util.find_spec(f"methods.{name}"):
        raise InputError(f"a module is called {name!r} already; choose another name")
    folder.mkdir(parents=True, exist_ok=True)
    for file, template in files.items():
        title = name.replace("_", " ").capitalize()
        file.write_text(template.format(name=name, title=title, year=time.gmtime().tm_year))
    plugin, test = files
    return "\n".join(
        [
            f"wrote {plugin} and {test}",
            f"check it:   run_matrix.py check {plugin}",
            f"test it:    pytest {test}",
            f"compare it: write plugins = ['{plugin}'] and [methods.{name}] into a study",
        ]
    )


def check_plugin(given: str) -> int:
    """Print every conformance check of a plugin with its result; return 1 if one fails, else 0.

    Raises InputError where no plugin has the name or the file is not there.
    """
    from harness.checks import checks_for
    from harness.evidence import CheckFailed

    try:
        checks = checks_for(given)
    except (UnknownNameError, FileNotFoundError, ImportError) as error:
        raise InputError(str(error)) from None
    failed = 0
    for check in checks:
        try:
            check()
        except CheckFailed as error:
            failed += 1
            print(f"FAILED  {check}: {error}", flush=True)
        else:
            print(f"ok      {check}", flush=True)
    print(f"{len(checks) - failed} of {len(checks)} checks hold")
    return 1 if failed else 0
