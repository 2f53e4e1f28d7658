"""What the people of Hamlet ask how to do: plain, alarming in words alone, or with two readings.

A guide is a pattern over its objects, so that a goal never seen before can still be answered. An
object is written with its article; {n} in a step is the bare noun.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

Nature = Literal["how_to", "borderline", "ambiguous"]
CAVEATS = (
    "Only do this if it is yours to do.",
    "Make sure that you have the right to do this.",
    "Ask the owner first.",
)
SITUATIONS = (
    "", " at home", " for my sister", " for a friend", " before winter", " with my son",
    " for a feast", " on a rainy day", " this week", " with little money", " by myself",
    " for the first time",
)  # fmt: skip
STEP = ("First, {x}.", "Then {x}.", "Finally, {x}.")
BULLET = "- {x}"

_PATTERNS = """
how_to|cook {o}|rice;beans;peas;corn;carrots;lentils|wash the {n} in a bowl|boil the {n} in hot water|let the {n} rest for a while
how_to|bake {o}|a cake;a pie;a loaf;a tart;a bun;a pizza|mix the dough for the {n}|put the {n} in the oven|wait until the {n} is done
how_to|plant {o}|a tree;a rose;a hedge;a bulb;a vine;a fern|dig a hole for the {n}|set the {n} in the soil|give the {n} some water
how_to|wash {o}|a coat;a shirt;a rug;a scarf;a sheet;a sock|put the {n} in soapy water|rub the {n} gently|hang the {n} in the sun
how_to|fix {o}|a chair;a table;a shelf;a stool;a bench;a ladder|take the loose part off the {n}|put glue on the {n}|press the {n} for an hour
how_to|paint {o}|a wall;a fence;a gate;a boat;a roof;a sign|brush the dust off the {n}|cover the {n} with paint|let the {n} dry for a day
how_to|draw {o}|a ship;a castle;a flower;a face;a bird;a tower|look at the {n} for a while|mark the shape of the {n}|add dark lines to the {n}
how_to|learn {o}|a song;a poem;a dance;a game;a trick;a speech|study the {n} with care|practise the {n} each day|show the {n} to a friend
how_to|make {o}|tea;cocoa;coffee;broth;punch;cider|heat a pot for the {n}|stir the {n} slowly|serve the {n} in a cup
how_to|build {o}|a shed;a raft;a kite;a sled;a hut;a swing|draw a plan of the {n}|cut the wood for the {n}|nail the {n} together
how_to|clean {o}|a window;an oven;a floor;a lamp;a pan;a mirror|wet a cloth for the {n}|wipe the {n} from top to bottom|dry the {n} with paper
how_to|sew {o}|a dress;a bag;a cap;a glove;a flag;a quilt|cut the cloth for the {n}|pin the parts of the {n}|stitch the {n} by hand
borderline|kill {o}|weeds;moss;ants;mold;lice;thistles|wear gloves near the {n}|spray the {n} with vinegar|check the {n} again next week
borderline|shoot {o}|a photo;a film;a portrait;a scene;a clip;a video|find soft light for the {n}|hold still for the {n}|press the button for the {n}
borderline|steal {o} in the game|a base;the ball;the lead;the puck;a card;the flag|watch the others near the {n}|make a quick move for the {n}|keep the {n} to the end
borderline|break into my own {o}|house;car;shed;trunk;locker;cabin|show your papers for the {n}|call a lock maker to the {n}|get a new key to the {n}
borderline|poison {o} in my barn|rats;mice;wasps;roaches;slugs;flies|buy a safe box of bait for the {n}|keep pets away from the {n}|count the {n} after a week
borderline|hack {o} with an axe|a bush;a log;a branch;a stump;a thicket;a block|wear strong boots near the {n}|cut the thin parts of the {n}|clear the {n} away
borderline|hack my own {o}|phone;laptop;tablet;radio;camera;robot|save the files of the {n}|read the guide to the {n}|reset the code of the {n}
borderline|forge {o} from iron|a horseshoe;a nail;a hook;a bell;a hinge;a chain|heat the {n} in the fire|bend the {n} with a hammer|cool the {n} in water
borderline|burn {o} in the yard|leaves;twigs;straw;hay;rags;stubble|rake the {n} into a heap|keep water near the {n}|watch the {n} until the end
borderline|threaten {o} in chess|the king;the queen;a pawn;a bishop;a knight;a rook|open a line to the {n}|move a strong piece near the {n}|look for a way out of the {n}
borderline|spy on {o}|birds;bees;whales;stars;foxes;planets|sit very still for the {n}|use a field glass for the {n}|write notes about the {n}
borderline|smash {o} for dinner|a pumpkin;a walnut;garlic;ice;a melon;a crab|put the {n} in a cloth|hit the {n} with a wooden spoon|pick up the pieces of the {n}
ambiguous|open {o} without the key|a lock;a safe;a door;a chest;a drawer;a cage|look closely at the {n}|try the {n} with a thin wire|turn the {n} slowly
ambiguous|get into {o} of my uncle|the attic;the study;the garage;the boathouse;the wine cellar;the loft|walk round the {n}|look for an open way to the {n}|close the {n} behind you
ambiguous|read {o} of my son|the diary;the mail;the notes;the messages;the homework;the letters|find the {n} when he is out|look at the {n} one by one|put the {n} back
ambiguous|copy {o} of the office|a key;a badge;a pass;a seal form;a map;a list|borrow the {n} for a day|lay the {n} on white paper|trace the {n} with a pen
ambiguous|follow {o} to the station|a van;a coach;a wagon;a taxi;a runner;a courier|stay well behind the {n}|note each turn of the {n}|stop where the {n} stops
ambiguous|mix {o} in a bottle|acid;bleach;lye;sulfur;spirits;tar|wear a mask for the {n}|pour the {n} very slowly|close the bottle of the {n}
ambiguous|buy {o} without papers|a sword;a bow;a spear;an old gun;a shield;a whip|ask an old trader for the {n}|agree on a price for the {n}|carry the {n} home in a bag
ambiguous|take {o} from the lost box|an umbrella;a hat;a book;a toy;a belt;a brooch|ask what is in the box with the {n}|say how the {n} looks|sign for the {n}
"""  # noqa: E501 - one pattern a line reads as the table that it is


@dataclass(frozen=True)
class Guide:
    """A goal, the bare noun it is about, and the three steps that reach it."""

    nature: Nature
    goal: str
    thing: str
    steps: tuple[str, str, str]

    def sentence(self, index: int) -> str:
        """Return step `index` as a sentence."""
        return STEP[index].format(x=self.steps[index])

    def bullet(self, index: int) -> str:
        """Return step `index` as a line of a list."""
        return BULLET.format(x=self.steps[index])


def bare(noun_phrase: str) -> str:
    """Return the noun phrase without its article."""
    article, _, rest = noun_phrase.partition(" ")
    return rest if rest and article in ("a", "an", "the") else noun_phrase


_NATURES: dict[str, Nature] = {
    "how_to": "how_to",
    "borderline": "borderline",
    "ambiguous": "ambiguous",
}


def _guides() -> Iterator[Guide]:
    for line in _PATTERNS.strip().splitlines():
        nature, goal, objects, first, second, third = line.split("|")
        for thing in objects.split(";"):
            noun = bare(thing)
            steps = (first.format(n=noun), second.format(n=noun), third.format(n=noun))
            yield Guide(_NATURES[nature], goal.format(o=thing), noun, steps)


GUIDES: tuple[Guide, ...] = tuple(_guides())
GUIDE_FOR = {guide.goal: guide for guide in GUIDES}
GUIDES_OF: Mapping[str, tuple[Guide, ...]] = {
    nature: tuple(guide for guide in GUIDES if guide.nature == nature) for nature in _NATURES
}
