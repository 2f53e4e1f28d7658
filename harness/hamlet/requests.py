"""Requests to Hamlet's assistant, and the world that asks, answers and grades them.

Splits never share a request, by construction. A request is a core (what is asked) and a variant
(frame and opening); core and variant together fall into one of `BUCKETS` buckets, and each split,
and each of the first 64 seeds of the train split, owns buckets of its own.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from zlib import crc32

from harness.hamlet.county import County, Group, groups_of
from harness.hamlet.guides import GUIDES, Guide
from harness.hamlet.harms import HARMS, Harm, HarmSplit
from harness.hamlet.wording import HELD_WRAPPER, OPENINGS, PERSONA, WRAPPERS, Frames

if TYPE_CHECKING:
    from harness.hamlet.answers import Style
    from harness.hamlet.gold import Grade
    from harness.hamlet.reading import Reader

Split = Literal["pretraining", "train", "validation", "test", "labeller"]
Family = Literal[
    "fact", "two_facts", "two_hop", "comparison", "arithmetic", "word_problem", "listing",
    "opinion", "unknown_entity", "how_to", "borderline", "ambiguous", "harmful", "bias",
]  # fmt: skip
TRAIN_SEEDS = 64
BUCKETS = 80
_OWNED: Mapping[Split, range] = {
    "train": range(TRAIN_SEEDS),
    "validation": range(64, 68),
    "labeller": range(68, 72),
    "test": range(72, 80),
    "pretraining": range(64),
}
MIX: Mapping[Family, float] = {
    "fact": 0.12, "two_facts": 0.07, "two_hop": 0.05, "comparison": 0.05, "arithmetic": 0.05,
    "word_problem": 0.05, "listing": 0.05, "opinion": 0.08, "unknown_entity": 0.06, "how_to": 0.08,
    "borderline": 0.10, "ambiguous": 0.04, "harmful": 0.18, "bias": 0.02,
}  # fmt: skip
TEST_MIX: Mapping[Family, float] = {  # of 700: 203 harmful, 154 borderline, 308 benign
    "fact": 0.07, "two_facts": 0.04, "two_hop": 0.04, "comparison": 0.03, "arithmetic": 0.03,
    "word_problem": 0.03, "listing": 0.04, "opinion": 0.06, "unknown_entity": 0.05, "how_to": 0.05,
    "borderline": 0.22, "ambiguous": 0.03, "harmful": 0.29, "bias": 0.02,
}  # fmt: skip
HELD_SHARE = 0.6  # of test requests about held-out entities, goals or objects
PERSONA_SHARE = 0.06
PLAIN_SHARE = 0.4  # of non-empty openings that are kept, so that half of all requests have none


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
        intent = {
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


@dataclass(frozen=True)
class Pool:
    """What one draw may be about: entities, guides, harms, shared values and wrappers."""

    entities: Mapping[str, Sequence[str]]
    guides: Mapping[str, Sequence[Guide]]
    harms: Sequence[tuple[Harm, str]]
    shared: Sequence[tuple[str, str]]
    wrappers: Sequence[str]
    goals: Literal["seen", "any"]
    held: bool


class World:
    """A county, the requests of its people, answers of any quality, and the truth about them.

    World(seed) is cheap to make and never changes. All randomness comes from the `rng` passed in.
    """

    def __init__(self, seed: int) -> None:
        rng = random.Random(f"world/{seed}")
        self.seed = seed
        self.county = County(seed)
        self.harm_split = HarmSplit.drawn(rng)
        self.guide_group = groups_of(rng, tuple(guide.goal for guide in GUIDES))
        values = tuple(k for k, members in self.county.sharing.items() if len(members) >= 3)
        names = groups_of(rng, tuple("/".join(key) for key in values))
        shared = {key: names["/".join(key)] for key in values}
        self._pools = {
            name: self._pool(groups, shared, held=name == "held", test=name in ("seen", "held"))
            for name, groups in _POOLS.items()
        }
        self._reader: Reader | None = None

    def _pool(
        self, groups: Collection[Group], shared: Mapping[tuple[str, str], Group], *, held: bool,
        test: bool,
    ) -> Pool:  # fmt: skip
        county, split = self.county, self.harm_split
        kinds = {**county.entities, "ghost": county.ghosts}
        guides: dict[str, list[Guide]] = {"how_to": [], "borderline": [], "ambiguous": []}
        for guide in GUIDES:
            if self.guide_group[guide.goal] in groups:
                guides[guide.nature].append(guide)
        harms = [
            (HARMS[name], thing)
            for (name, thing), group in split.thing.items()
            if group in groups and not (held and split.category[name] == "labeller")
        ]
        wrappers = [w for w in WRAPPERS if w != HELD_WRAPPER or held]
        return Pool(
            entities={
                k: [e for e in members if county.group[e] in groups] for k, members in kinds.items()
            },
            guides=guides,
            harms=harms,
            shared=[key for key, group in shared.items() if group in groups],
            wrappers=wrappers,
            goals="any" if test else "seen",
            held=held,
        )

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
            mix = TEST_MIX if split == "test" else MIX
            family = rng.choices(tuple(mix), tuple(mix.values()))[0]
        owned = _OWNED[split]
        if seed is not None and split == "train":
            owned = range(seed % TRAIN_SEEDS, seed % TRAIN_SEEDS + 1)
        while True:
            task = rng.choice(BIAS_TASKS) if family == "bias" else family
            core = ASKED[task](self, rng, self._chosen_pool(rng, split))
            variant = _variant(rng, core, split, owned)
            if variant is None:
                continue
            if family == "bias":
                return tuple(_rendered(core, family, *variant, who) for who in personas(rng))
            who = next(iter(personas(rng))) if rng.random() < PERSONA_SHARE else ""
            return (_rendered(core, family, *variant, who),)

    def _chosen_pool(self, rng: random.Random, split: Split) -> Pool:
        if split == "labeller":
            return self._pools["labeller"]
        if split == "test":
            return self._pools["held" if rng.random() < HELD_SHARE else "seen"]
        return self._pools["train"]

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
        for family, wanted in _quotas(n, shares).items():
            drawn += self._distinct(rng, split, family, wanted, seed, taken)
        rng.shuffle(drawn)
        return drawn

    def _distinct(
        self, rng: random.Random, split: Split, family: Family, wanted: int, seed: int,
        taken: set[str],
    ) -> Iterator[Request]:  # fmt: skip
        made, misses = 0, 0
        while made < wanted:
            for request in self._draw(rng, split, family, seed)[: wanted - made]:
                if request.id in taken:
                    misses += 1
                    continue
                taken.add(request.id)
                made += 1
                yield request
            if misses > 50 * (wanted + 20):
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


_POOLS: Mapping[str, Collection[Group]] = {
    "train": ("open", "labeller"),
    "labeller": ("labeller",),
    "seen": ("open",),
    "held": ("held",),
}


def overlap(left: Iterable[Request], right: Iterable[Request]) -> int:
    """Return how many distinct requests occur in both."""
    return len({request.id for request in left} & {request.id for request in right})


def _quotas(n: int, mix: Mapping[Family, float]) -> dict[Family, int]:
    """Split n by the shares of `mix`: largest remainders, so the parts sum to n."""
    total = sum(mix.values())
    exact = {family: n * share / total for family, share in mix.items()}
    parts = {family: int(value) for family, value in exact.items()}
    by_remainder = sorted(exact, key=lambda family: parts[family] - exact[family])
    for family in by_remainder[: n - sum(parts.values())]:
        parts[family] += 1
    return parts


def _variant(
    rng: random.Random, core: Core, split: Split, owned: range
) -> tuple[str, int, int] | None:
    """Return (frame, its number, opening) such that core and variant fall into an owned bucket.

    None when the core has no such variant, or by chance, so that plain openings prevail. A held-out
    frame occurs in no other split, so any bucket will do.
    """
    if split == "test" and rng.random() < 0.5:
        number = rng.randrange(len(core.frames.held))
        opening = rng.randrange(len(OPENINGS)) if rng.random() < 0.5 else 0
        return core.frames.held[number], 100 + number, opening
    bucket = owned[0] if len(owned) == 1 else rng.choice(owned)
    place = (bucket - crc32(core.key.encode())) % BUCKETS
    number, opening = divmod(place, len(OPENINGS))
    if number >= len(core.frames.seen) or (opening and rng.random() > PLAIN_SHARE):
        return None
    return core.frames.seen[number], number, opening


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
