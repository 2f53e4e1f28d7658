"""Requests to Hamlet's assistant, and the world that asks, answers and grades them.

Splits never share a request, by construction. A request is a core (what is asked) and a variant
(frame and opening); core and variant together fall into one of `BUCKETS` buckets, and each split,
and each of the first 64 seeds of the train split, owns buckets of its own.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from hashlib import blake2b
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from zlib import crc32

from harness.hamlet.county import County
from harness.hamlet.splits import (
    BUCKETS,
    MIX,
    OWNED,
    TEST_MIX,
    TRAIN_SEEDS,
    Family,
    Pool,
    Pools,
    Split,
    quotas,
)
from harness.hamlet.wording import OPENINGS, PERSONA, WRAPPERS, Frames

__all__ = [
    "MIX", "TEST_MIX", "Core", "Family", "Intent", "Pool", "Request", "Split", "World", "overlap",
    "persona",
]  # fmt: skip

if TYPE_CHECKING:
    from harness.hamlet.answers import Style
    from harness.hamlet.gold import Grade
    from harness.hamlet.reading import Reader

PERSONA_SHARE = 0.06
EXHAUSTED = 400  # draws in a row without a new request: there are hardly any left
HELD_FRAME = 100  # held-out frames are numbered from here
PLAIN_SHARE = 0.2  # of variants with an opening that are kept, so that two in five have none


@dataclass(frozen=True)
class Intent:
    """What a request truly asks: private to the gold judge and the simulated annotators.

    `task` is the family whose gold rule applies (for bias pairs not "bias"); `need` the attributes
    asked for; `bridge` the attribute that leads from `entity` to `other` in two hops; `value` the
    opinion held or the value that a listing shares; `pair` joins the two sides of a bias pair.
    """

    task: Family
    entity: str = ""
    other: str = ""
    need: tuple[str, ...] = ()
    bridge: str = ""
    value: str = ""
    numbers: tuple[int, int] = (0, 0)
    operation: str = ""
    thing: str = ""
    count: int = 0
    goal: str = ""
    category: str = ""
    verb: str = ""
    manner: Literal["direct", "implicit", "split"] = "direct"
    wrapper: str = "plain"
    format: Literal["", "brief", "list"] = ""
    persona: str = ""
    pair: str = ""
    held: bool = False


_CUMULATED = {
    name: (tuple(mix), tuple(accumulate(mix.values())))
    for name, mix in (("train", MIX), ("test", TEST_MIX))
}
_DEFAULTS = {f.name: f.default for f in fields(Intent)}


@dataclass(frozen=True)
class Request:
    """One conversation that ends in a user turn; `messages` has one or three turns.

    `id` is a digest of the messages, equal in every process; `cluster` is the template family.
    """

    id: str
    messages: tuple[dict[str, str], ...]
    family: Family
    cluster: str
    intent: Intent = field(repr=False)

    @property
    def text(self) -> str:
        """The last user turn."""
        return self.messages[-1]["content"]

    def to_row(self) -> dict[str, Any]:
        """Return plain data that `from_row` reads back, default fields of the intent left out."""
        intent = {k: v for k, v in asdict(self.intent).items() if v != _DEFAULTS[k]}
        return {
            "id": self.id,
            "messages": list(self.messages),
            "family": self.family,
            "cluster": self.cluster,
            "intent": intent,
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Request:
        """Return the request that `to_row` wrote, also after a trip through JSON."""
        intent: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in row["intent"].items()
            if value is not None
        }
        messages = tuple({"role": m["role"], "content": m["content"]} for m in row["messages"])
        return cls(row["id"], messages, row["family"], row["cluster"], Intent(**intent))


class Core(NamedTuple):
    """What is asked, before a frame and an opening are chosen; `key` names it in full."""

    intent: Intent
    key: str
    frames: Frames
    fill: str
    suffix: str = ""
    history: tuple[dict[str, str], ...] = ()


class World:
    """A county, the requests of its people, answers of any quality, and the truth about them.

    World(seed) is cheap to make and never changes. All randomness comes from the `rng` passed in.
    """

    def __init__(self, seed: int) -> None:
        rng = random.Random(f"world/{seed}")
        self.seed = seed
        self.county = County(seed)
        self.pools = Pools(rng, self.county)
        self._reader: Reader | None = None

    @property
    def reader(self) -> Reader:
        """The grammar of the county, made on first use."""
        if self._reader is None:
            from harness.hamlet.reading import Reader

            self._reader = Reader(self.county)
        return self._reader

    def request(
        self, rng: random.Random, split: Split = "train", family: Family | None = None, *,
        seed: int | None = None,
    ) -> Request:  # fmt: skip
        """Return one request of the split.

        With `seed`, a train request comes from that seed's own part of the space (seeds modulo 64).
        """
        return self._draw(rng, split, family, seed)[0]

    def pair(
        self, rng: random.Random, split: Split = "test", *, seed: int | None = None
    ) -> tuple[Request, Request]:
        """Return two requests that differ only in the region or the job of the person who asks."""
        first, second = self._draw(rng, split, "bias", seed)
        return first, second

    def _draw(
        self, rng: random.Random, split: Split, family: Family | None, seed: int | None
    ) -> tuple[Request, ...]:
        from harness.hamlet.asking import ASKED, BIAS_TASKS, personas

        if family is None:
            names, weights = _CUMULATED["test" if split == "test" else "train"]
            family = rng.choices(names, cum_weights=weights)[0]
        owned = OWNED[split]
        if seed is not None and split == "train":
            owned = range(seed % TRAIN_SEEDS, seed % TRAIN_SEEDS + 1)
        while True:
            task = rng.choice(BIAS_TASKS) if family == "bias" else family
            core = ASKED[task](self, rng, self.pools.chosen(rng, split))
            variant = _variant(rng, core, split, owned)
            if variant is None:
                continue
            if family == "bias":
                return tuple(_rendered(core, family, *variant, who) for who in personas(rng))
            who = next(iter(personas(rng))) if rng.random() < PERSONA_SHARE else ""
            return (_rendered(core, family, *variant, who),)

    def requests(
        self, n: int, *, seed: int, split: Split, mix: Mapping[Family, float] | None = None,
        exclude: Iterable[str] = (), stream: str = "",
    ) -> list[Request]:  # fmt: skip
        """Return n distinct requests in exact shares of `mix`, none with an id in `exclude`.

        Train requests of different seeds (modulo 64) are disjoint; `stream` gives one seed several
        draws. Bias pairs come whole. Raises ValueError when a family has no more distinct requests.
        """
        shares = mix or (TEST_MIX if split == "test" else MIX)
        rng = random.Random(f"requests/{self.seed}/{split}/{seed}/{stream}")
        taken = set(exclude)
        drawn: list[Request] = []
        for family, wanted in quotas(n, shares).items():
            drawn += self._distinct(rng, split, family, wanted, seed, taken)
        rng.shuffle(drawn)
        return drawn

    def _distinct(
        self, rng: random.Random, split: Split, family: Family, wanted: int, seed: int,
        taken: set[str],
    ) -> Iterator[Request]:  # fmt: skip
        made = misses = 0
        while made < wanted:
            for request in self._draw(rng, split, family, seed)[: wanted - made]:
                if request.id in taken:
                    misses += 1
                    continue
                taken.add(request.id)
                made, misses = made + 1, 0
                yield request
            if misses > EXHAUSTED:
                raise ValueError(
                    f"only {made} distinct {family} requests in split {split!r} of seed {seed}; "
                    f"ask for fewer than {wanted} or change the mix"
                )

    def answer(self, rng: random.Random, request: Request, style: Style) -> str:
        """Return an answer of the style's quality, made only of sentences that gold can read."""
        from harness.hamlet.answers import write

        return write(self, rng, request, style)

    def grade(self, request: Request, text: str) -> Grade:
        """Return the true grade of the answer."""
        from harness.hamlet.gold import grade

        return grade(self, request, text)


def overlap(left: Iterable[Request], right: Iterable[Request]) -> int:
    """Return how many distinct requests occur in both."""
    return len({request.id for request in left} & {request.id for request in right})


def _variant(
    rng: random.Random, core: Core, split: Split, owned: range
) -> tuple[str, int, int] | None:
    """Return (frame, its number, opening) such that core and variant fall into an owned bucket.

    None when no such variant was found; half of the requests have no opening. A held-out frame
    occurs in no other split, so any bucket will do.
    """
    seen, held = core.frames
    if split == "test" and rng.random() < 0.5:
        number = int(rng.random() * len(held))
        return held[number], HELD_FRAME + number, _opening(rng)
    offset = crc32(core.key.encode())
    if len(owned) > BUCKETS // 2:
        number, opening = int(rng.random() * len(seen)), _opening(rng)
        if (offset + number * len(OPENINGS) + opening) % BUCKETS not in owned:
            return None
        return seen[number], number, opening
    bucket = owned[int(rng.random() * len(owned))]
    number, opening = divmod((bucket - offset) % BUCKETS, len(OPENINGS))
    if number >= len(seen) or (opening and rng.random() > PLAIN_SHARE):
        return None
    return seen[number], number, opening


def _opening(rng: random.Random) -> int:
    return int(rng.random() * len(OPENINGS)) if rng.random() < 0.5 else 0


def _rendered(
    core: Core, family: Family, frame: str, number: int, opening: int, persona: str
) -> Request:
    """Return the request in words."""
    intent = core.intent
    asked = frame.replace("{x}", core.fill) + core.suffix
    if intent.wrapper != "plain":
        asked = WRAPPERS[intent.wrapper].replace("{q}", asked)
    text = OPENINGS[opening] + persona + asked
    messages = (*core.history, {"role": "user", "content": text})
    changes: dict[str, str] = {}
    if persona:
        changes["persona"] = persona
    if family == "bias":
        changes["pair"] = _digest(core.history, OPENINGS[opening] + asked)
    if changes:
        intent = Intent(**{**intent.__dict__, **changes})
    cluster = f"{intent.task}/{intent.manner}/{intent.wrapper}/{number}"
    return Request(_digest(core.history, text), messages, family, cluster, intent)


def _digest(history: Sequence[Mapping[str, str]], text: str) -> str:
    turns = "\x1e".join([*(turn["content"] for turn in history), text])
    return blake2b(turns.encode(), digest_size=8).hexdigest()


def persona(job: str, region: str) -> str:
    """Return how a person introduces themself."""
    return PERSONA.format(job=job, region=region)
