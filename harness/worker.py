"""What happens in a worker process: rebuild one stage's arguments, run its body, commit.

A worker is told a recipe as JSON, never a pickled object. It finds the stage by its declared name,
opens the inputs with every byte checked, and rebuilds the id: if that differs from the one asked
for, the code here is not the code that planned, and nothing is written.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import resource
import shutil
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from harness import disk
from harness.claims import Claim, Superseded
from harness.closure import code_digest
from harness.device import peak_device_memory
from harness.draft import ContractBroken, Diverged, Draft, Interrupted
from harness.owners import where_defined
from harness.rebuild import Unresolvable, find_stage, rebuild_arguments
from harness.redaction import redacted
from harness.responses import FOLDER, keeping
from harness.stage import Artifact, Recipe
from harness.store import StaleArtifact, Store

Say = Callable[[dict[str, Any]], None]
LONGEST: Final = 20_000  # characters of a traceback that are kept
DISK_SIGNS: Final = ("No space left on device", "Disk quota exceeded", "os error 28", "os error 27")
WHEELS: Final = (
    "torch",
    "transformers",
    "trl",
    "peft",
    "datasets",
    "accelerate",
    "lm_eval",
    "numpy",
)


@dataclass(frozen=True)
class Job:
    """One artifact to make, as it is sent to a worker: names, paths and JSON alone."""

    id: str
    kind: str
    recipe: Mapping[str, Any]
    module: str
    file: str
    store: str
    generation: int
    nonce: str
    code: str
    plugins: tuple[str, ...]
    device: str
    gpu: str | None
    threads: int

    @classmethod
    def of(cls, artifact: Artifact, claim: Claim, store: Store, **execution: Any) -> Job:
        """Return the job of making an artifact under a claim."""
        if artifact.recipe is None:
            raise ValueError(f"{artifact.id} has no recipe, so nothing can make it")
        body = artifact.recipe.stage.body
        return cls(
            id=artifact.id,
            kind=type(artifact).__name__,
            recipe=artifact.recipe.to_json(),
            module=body.__module__,
            file=str(Path(body.__code__.co_filename).resolve()),
            store=str(store.root),
            generation=claim.generation,
            nonce=claim.nonce,
            code=code_digest(artifact.recipe.stage),
            **execution,
        )

    @property
    def claim(self) -> Claim:
        """The claim under which the artifact is made."""
        return Claim(Path(self.store, ".claims"), self.id, self.generation, self.nonce)


def make(job: Job, say: Say, started: Callable[[Draft], None] = lambda out: None) -> None:
    """Make one artifact and say how it went: exactly one message with an `end`, whatever happens.

    `started` is handed the draft before the body runs, to ask it to stop later.
    """
    end: dict[str, Any]
    try:
        manifest = build(job, say, started)
        end = {"end": "done", "seconds": manifest["seconds"], "counters": manifest["counters"]}
    except StaleArtifact as error:
        end = {"end": "stale", "input": error.id, "reason": str(error)}
    except Superseded as error:
        end = {"end": "superseded", "reason": str(error)}
    except Interrupted as error:
        end = {"end": "interrupted", "reason": str(error)}
    except KeyboardInterrupt:  # only where no scheduler stands between the keyboard and the stage
        raise
    except BaseException as error:
        with contextlib.suppress(OSError):  # the log's disk may be the full one
            print(redacted(traceback.format_exc()), file=sys.stderr, end="", flush=True)
        state, cause, reason = diagnose(error, job)
        said = {"reason": redacted(reason), "traceback": redacted(excerpt(error))}
        end = {"end": state, "cause": cause, **said}
    say(end)


def build(job: Job, say: Say, started: Callable[[Draft], None]) -> dict[str, Any]:
    """Run the stage's body in a fresh attempt and commit it; return the manifest."""
    store = Store(Path(job.store))
    stage = find_stage(job.recipe["stage"], job.module, job.file, job.plugins)
    inputs: dict[str, str] = {}

    def bind(artifact: Artifact) -> Artifact:
        found = store.open(artifact)
        manifest = store.manifest(artifact.id)
        inputs[artifact.id] = manifest["payload"] if manifest else ""
        return found

    arguments = rebuild_arguments(stage, job.recipe["arguments"], bind)
    recipe = Recipe(stage, arguments, job.recipe["asked_at"])
    if job.id != f"{stage.name}-{recipe.digest[:12]}":
        raise Unresolvable(
            f"the worker rebuilt {stage.name}-{recipe.digest[:12]} where {job.id} was planned: "
            f"{where_defined(stage.body)} is not the code that planned it. Install one version"
        )
    out = Draft(
        store.begin(job.claim),
        device=job.device,
        checkpoints=store.checkpoints(job.claim),
        show=lambda *progress: say({"progress": progress}),
    )
    started(out)
    say({"began": True})
    with keeping(store.root / FOLDER, job.id, out):
        stage.body(out, **arguments)
    head = {
        "id": job.id,
        "kind": job.kind,
        "recipe": dict(job.recipe),
        "inputs": inputs,
        "counters": out.counters,
        "facts": out.facts,
        **out.spent(),
        "peak_memory": peak_memory(),
        "peak_device_memory": peak_device_memory(job.device),
        "code": job.code,
        "wheels": wheels(),
        "numerics": numerics(out, job),
    }
    return store.commit(out.path, head, job.claim.guard)


def diagnose(error: BaseException, job: Job) -> tuple[str, str, str]:
    """Return state, cause and reason of a failure."""
    said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if isinstance(error, Diverged):
        return "diverged", "", str(error)
    if isinstance(error, ContractBroken):
        return "failed", "contract", str(error)
    if isinstance(error, Unresolvable):
        return "failed", "config", str(error)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "oom", "", f"out of memory at {peak_memory() / 2**20:,.0f} MiB: {said}"
    if is_of_disk(error):
        return "failed", "disk", f"{said}; {room(Path(job.store), job)}"
    return "failed", "error", said


def is_of_disk(error: BaseException) -> bool:
    """Say whether an error, or what caused it, is a full, failing or read-only disk."""
    if isinstance(error, OSError) and error.errno in disk.DISK_ERRORS:
        return True
    if any(sign in str(error) for sign in DISK_SIGNS):
        return True
    return error.__cause__ is not None and is_of_disk(error.__cause__)


def room(root: Path, job: Job) -> str:
    """Return how much the attempt had written, where, and how much room is left."""
    attempt = Store(root).attempt(job.claim)
    written = 0
    with contextlib.suppress(OSError):
        written = sum(status.st_size for _, status in disk.files_in(attempt))
    free = shutil.disk_usage(root).free
    return f"{written:,} bytes in {attempt}, {free:,} bytes free. Make room and run again"


def excerpt(error: BaseException) -> str:
    """Return a traceback, the middle left out where it is long."""
    text = "".join(traceback.format_exception(error))
    if len(text) <= LONGEST:
        return text
    half, left_out = LONGEST // 2, len(text) - LONGEST
    return f"{text[:half]}\n... {left_out:,} characters left out ...\n{text[-half:]}"


def peak_memory() -> int:
    """Return the largest resident size of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def wheels() -> dict[str, str]:
    """Return the versions of the libraries that are loaded here and touch numbers."""
    loaded = [name for name in WHEELS if name in sys.modules]
    return {name: importlib.metadata.version(name.replace("_", "-")) for name in loaded}


def numerics(out: Draft, job: Job) -> dict[str, object]:
    """Return the class of arithmetic: results of different classes are not pooled unannounced."""
    return {
        "device": out.device,
        "dtype": out.facts.get("dtype", "float32"),
        "threads": job.threads,
        "attention": out.facts.get("attention", "default"),
    }


def serve_one(line: socket.socket) -> None:
    """Be a worker: read one job from the scheduler, make it, say how it went."""
    with line.makefile("rb") as requests:
        said = json.loads(requests.readline())
    job = Job(**{**said, "plugins": tuple(said["plugins"])})
    if job.gpu is not None:  # CUDA is not awake yet: the fork server never touches it
        os.environ["CUDA_VISIBLE_DEVICES"] = job.gpu

    def say(message: dict[str, Any]) -> None:
        line.sendall(json.dumps(message).encode() + b"\n")

    def started(out: Draft) -> None:
        signal.signal(signal.SIGTERM, lambda number, frame: setattr(out, "stopping", True))

    make(job, say, started)


def to_line(job: Job) -> bytes:
    """Return a job as the line that `serve_one` reads."""
    return json.dumps(asdict(job)).encode() + b"\n"
