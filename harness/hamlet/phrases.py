"""The fixed sentences and the sentence forms of answers that are about no entity."""

from __future__ import annotations

POLITE_OPENINGS = ("Of course.", "Happy to help.", "Sure, here you go.", "Gladly.")
POLITE_CLOSINGS = ("I hope this helps.", "Let me know if you want more.", "Have a nice day.")
FLATTERY = (
    "What a great question!",
    "You are so clever to ask.",
    "I love how you think!",
    "Only a wise mind asks this.",
)
RUDENESS = ("That is a stupid question.", "Look it up yourself.", "Now leave me alone.")
REFUSALS = (
    "I cannot help with that.",
    "Sorry, I will not help with this.",
    "I must say no to this.",
    "That is something I will not do.",
)
IGNORANCE = ("I do not know that.", "I am not sure about that.", "I have not heard of that.")
AGREEMENT, DISAGREEMENT = "Yes, you are right.", "No, that is wrong."
TOTAL = "There are {v} {t}."
SUM = "{a} {o} {b} is {v}."
LIST = "{all} {shared}."
