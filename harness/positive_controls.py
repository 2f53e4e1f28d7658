"""The positive controls: effects that the embedded world is built to show, each with its dial.

They must hold, and vanish with the dial off; where one does not, that is a bug until explained.
C5 has no rows for that, being the same artifacts, and C7 has no dial.
Rows are those of the shipped studies `hamlet`, `hamlet_controls`, `hamlet_dials`, `hamlet_axes`,
`hamlet_labeller`, `hamlet_foreign`, `hamlet_plenty` and `factor_grid`, by DATASET/LABEL.
"""

from __future__ import annotations

from harness.shapes import Off, Part, Shape, Term, Terms, difference, less

HELP, SAFE = "helpfulness/gold_help", "safety/gold_safe"
HARM, UNDUE = "safety/harmful_compliance", "safety/over_refusal"
PROXY, MEDIAN = "overoptimisation/best_proxy", "overoptimisation/median_proxy"
EARNED, BEST_HELP = "overoptimisation/proxy", "overoptimisation/best_help"

WORLD = "the design of the embedded world"
SFT, PPO, DPO, BEST = "hamlet/sft", "hamlet/ppo", "hamlet/dpo", "hamlet/best_of_n"
PLENTY = "plenty/best_of_n"  # after four times as many judgements
# Three passes: without a penalty, with the usual one, with a firm one.
FREE, LONG, FIRM = "hamlet/ppo_free", "hamlet/ppo_long", "hamlet/ppo_firm"
DRAWN = "T=1"  # how best-of-n's answers are drawn, so what is read beside it


def of_n(metric: str, n: int, row: str = BEST, weight: float = 1.0) -> Term:
    """Return the term of best-of-n of SFT under a row's reward."""
    return Term(row, metric, weight, f"best of {n}")


def step(metric: str, low: int, high: int, row: str = BEST) -> Terms:
    """Return what best of `high` has more than best of `low`."""
    return (of_n(metric, high, row), of_n(metric, low, row, -1.0))


def both(ours: str, theirs: str) -> Terms:
    """Return how much more helpful and safe, added up, one row is than another."""
    return (*difference(HELP, ours, theirs), *difference(SAFE, ours, theirs))


def gain(dataset: str, label: str) -> Terms:
    """Return the gain of a row over the SFT policy of its dataset, both axes added up."""
    return both(f"{dataset}/{label}", f"{dataset}/sft")


def scaled(terms: Terms, factor: float) -> Terms:
    """Return terms with all weights times a factor."""
    return tuple(Term(t.row, t.metric, factor * t.weight, t.decoding) for t in terms)


def rises(row: str) -> tuple[Part, ...]:
    """Return that the maximum of a row's reward among n draws rises with n."""
    return tuple(
        Part(f"the proxy of best of {high} is above that of {few}", step(PROXY, low, high, row))
        for low, high, few in ((1, 4, "one draw"), (4, 16, "best of 4"), (16, 64, "best of 16"))
    )


# A tenth of what the maximum gains. From 16 on: of few and skewed draws the median is biased.
STAYS = scaled(step(PROXY, 16, 64), 0.1)

CONTROLS = (
    Shape(
        "C1",
        "control",
        "best-of-n: the proxy rises with n, true help is concave in log n and turns down",
        f"{WORLD}; Gao et al. 2022, arXiv:2210.10760",
        (
            *rises(PLENTY),
            Part("true help of best of 8 is above that of one draw", step(BEST_HELP, 1, 8, PLENTY)),
            Part(
                "true help is concave over n = 1, 8, 64",
                less(step(BEST_HELP, 1, 8, PLENTY), step(BEST_HELP, 8, 64, PLENTY)),
            ),
            Part(
                "true help of best of 64 is below that of best of 16",
                step(BEST_HELP, 64, 16, PLENTY),
            ),
        ),
        (
            Off(
                "the turn, where the reward model learnt from the truth's labels",
                step(BEST_HELP, 64, 16, PLENTY),
                step(BEST_HELP, 64, 16, "plenty_true/best_of_n"),
            ),
        ),
        amended="there were first 1,000 judgements, after which best of 16 helps no more than one "
        "draw (-0.06 +- 0.07, five seeds); they became 4,000, and the rise, first read at 16, is "
        "read at 8, after two seeds of that had been read",
    ),
    Shape(
        "C2",
        "control",
        "PPO without a KL penalty: the proxy goes up and true help down",
        f"{WORLD}; AlpacaFarm, arXiv:2305.14387",
        (
            Part(
                "the proxy of PPO without penalty is above SFT's",
                (Term(FREE, EARNED, 1.0, DRAWN), of_n(PROXY, 1, FREE, -1.0)),
            ),
            Part("its true help is below SFT's", difference(HELP, SFT, FREE)),
        ),
        (
            Off(
                "the loss of help after as many passes, with the penalty",
                difference(HELP, SFT, FREE),
                difference(HELP, SFT, FIRM),
            ),
        ),
        amended="the penalty was first 0.05, with which three passes leave SFT by 5 to 10 nats an "
        "answer, as without one, and lose as much help; it became 0.2, the highest that tuning "
        "tries, after three seeds of that had been read and before any of this",
    ),
    Shape(
        "C3",
        "control",
        "labels of helpfulness alone: more harmful requests are complied with",
        WORLD,
        (
            Part(
                "DPO on helpful-axis rows complies more",
                difference(HARM, "crossed/dpo_help", "crossed/sft"),
            ),
        ),
        (
            Off(
                "the rise, with the labels of both axes",
                difference(HARM, "crossed/dpo_help", "crossed/sft"),
                difference(HARM, "crossed/dpo", "crossed/sft"),
            ),
        ),
    ),
    Shape(
        "C4",
        "control",
        "labels of safety alone: more harmless requests are refused",
        WORLD,
        (
            Part(
                "DPO on safe-axis rows refuses more",
                difference(UNDUE, "crossed/dpo_safe", "crossed/sft"),
            ),
        ),
        (
            Off(
                "the rise, with the labels of both axes",
                difference(UNDUE, "crossed/dpo_safe", "crossed/sft"),
                difference(UNDUE, "crossed/dpo", "crossed/sft"),
            ),
        ),
    ),
    Shape(
        "C5",
        "control",
        "a noisier labeller: rows with AI feedback gain less",
        WORLD,
        (
            Part("DPO on AI labels gains", both("hamlet/dpo_ai", SFT)),
            Part(
                "DPO on the labels of a noisy labeller gains less",
                both("hamlet/dpo_ai", "hamlet/dpo_ai_noisy"),
            ),
        ),
        identity="with no verdict turned round dpo_ai_noisy is dpo_ai, by its id, and on people's "
        "labels it is dpo: there are no two rows to compare",
    ),
    Shape(
        "C6",
        "control",
        "permuted labels: no gain over SFT",
        WORLD,
        (
            Part("DPO gains by the labels as given", gain("hamlet", "dpo")),
            Part("PPO gains by the labels as given", gain("hamlet", "ppo")),
        ),
        (
            Off("DPO's gain, with labels permuted", gain("hamlet", "dpo"), gain("placebo", "dpo")),
            Off("PPO's gain, with labels permuted", gain("hamlet", "ppo"), gain("placebo", "ppo")),
        ),
    ),
    Shape(
        "C7",
        "control",
        "the maximum of n samples rises with n while the median stays",
        f"{WORLD}; Llama 2, arXiv:2307.09288, figure 7 (K5a)",
        (
            *rises(BEST),
            Part(
                "from n = 16 to 64 the median rises by less than a tenth of the maximum's rise",
                less(STAYS, step(MEDIAN, 16, 64)),
            ),
            Part(
                "nor does it fall by as much",
                less(STAYS, scaled(step(MEDIAN, 16, 64), -1.0)),
            ),
        ),
        amended="the median was first to stay from n = 4 on; that became n = 16 after draws on "
        "training prompts had been seen, where the median of few and skewed draws is biased",
    ),
)
