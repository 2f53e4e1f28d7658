"""Mixtures of preference pairs in stated proportions."""

from __future__ import annotations

import random

from harness.annotations import OpenShare
from harness.artifacts import Preferences, write_rows
from harness.draft import Draft
from harness.stage import stage


@stage(makes=Preferences)
def mix(
    out: Draft, pairs: Preferences, others: Preferences, *, share: OpenShare, seed: int
) -> None:
    """Make all of `pairs` and so many rows of `others`, drawn by seed, that they are `share`.

    Touvron et al. 2023, arXiv:2307.09288, section 3.2.2: share 0.5 of other data for helpfulness,
    0.1 for safety. Raises ValueError where `others` has too few rows: no row is taken twice.
    """
    known, drawn_from = pairs.rows(), others.rows()
    wanted = round(len(known) * share / (1 - share))
    if wanted > len(drawn_from):
        raise ValueError(
            f"a share of {share} beside {len(known)} rows takes {wanted} others, and "
            f"{others.id} has {len(drawn_from)}; lower the share or give it more rows"
        )
    drawn = sorted(random.Random(f"mix/{seed}").sample(range(len(drawn_from)), wanted))
    write_rows(out, [*known, *(drawn_from[number] for number in drawn)])
    out.note(pairs=len(known), others=wanted)
