"""What published results predict of rows of the embedded studies, written before they are read.

A prediction that does not hold is a finding. Those that no row can show say why.
"""

from __future__ import annotations

from harness.best_of_n_curves import kl_bound
from harness.positive_controls import (
    BEST,
    BEST_HELP,
    DPO,
    DRAWN,
    EARNED,
    FREE,
    HELP,
    LONG,
    PPO,
    SAFE,
    SFT,
    UNDUE,
    WORLD,
    both,
    step,
)
from harness.shapes import Part, Shape, Term, difference, less

PROBES = "capability/probe_accuracy"
LIKELIHOOD = "likelihood"  # capability is read off probabilities, whatever the decoding
DISTANCE = "diagnostics/kl_to_sft"

PREDICTIONS = (
    Shape(
        "K1a",
        "prediction",
        "true help of best-of-n and PPO rises, then falls, as the proxy rises",
        "AlpacaFarm, arXiv:2305.14387",
        (
            Part("best of 16 helps more than one draw", step(BEST_HELP, 1, 16)),
            Part("best of 64 helps less than best of 16", step(BEST_HELP, 64, 16)),
            Part("PPO helps more than SFT", difference(HELP, PPO, SFT)),
            Part("PPO without penalty earns more than PPO", difference(EARNED, FREE, PPO)),
            Part("and helps less", difference(HELP, PPO, FREE)),
        ),
    ),
    Shape(
        "K1b",
        "prediction",
        "PPO about best-of-n, above expert iteration (rejection sampling), above SFT",
        "AlpacaFarm, arXiv:2305.14387",
        (
            Part("PPO is near best-of-n", difference(HELP, PPO, BEST), "near"),
            Part("PPO is above rejection sampling", difference(HELP, PPO, "hamlet/rejection")),
            Part("best-of-n is above it", difference(HELP, BEST, "hamlet/rejection")),
            Part("rejection sampling is above SFT", difference(HELP, "hamlet/rejection", SFT)),
        ),
    ),
    Shape(
        "K2a",
        "prediction",
        "best-of-n peaks at a much smaller KL than RL",
        "Gao et al. 2022, arXiv:2210.10760",
        (
            Part(
                "best of 64 under PPO's own reward helps less than best of 16",
                step(BEST_HELP, 64, 16, PPO),
            ),
            Part(
                f"PPO is farther from SFT than best of 64 can be, {kl_bound(64):.2f} nats",
                (Term(PPO, DISTANCE, 1.0, DRAWN),),
                bar=kl_bound(64),
                is_premise=True,
            ),
            Part("and from there on its help still rises", difference(HELP, LONG, PPO, DRAWN)),
        ),
    ),
    Shape(
        "K2b",
        "prediction",
        "proxy against gold nearly coincides between best-of-n and RL",
        "Gao et al. 2022, arXiv:2210.10760",
        untestable="the two curves are compared at equal proxy, which no two rows have",
    ),
    Shape(
        "K2c",
        "prediction",
        "a KL penalty does not improve the frontier of gold and KL",
        "Gao et al. 2022, arXiv:2210.10760",
        untestable="rows with and without the penalty are compared at equal KL, which no two have",
    ),
    Shape(
        "K3a",
        "prediction",
        "the order of PPO and DPO depends on whether pairs are the SFT policy's own",
        "Xu et al. 2024, arXiv:2404.10719",
        (
            Part(
                "PPO's lead over DPO is larger on another policy's pairs",
                less(both("hamlet_foreign/ppo", "hamlet_foreign/dpo"), both(PPO, DPO)),
            ),
        ),
    ),
    Shape(
        "K3b",
        "prediction",
        "poorly set PPO falls below SFT; normalised advantages and a large batch repair it",
        "Xu et al. 2024, arXiv:2404.10719",
        (
            Part(
                "PPO with small batches of raw advantages is below SFT",
                both(SFT, "hamlet/ppo_poor"),
            ),
            Part("normalised advantages raise it", both("hamlet/ppo_small", "hamlet/ppo_poor")),
            Part("a larger batch raises it further", both(PPO, "hamlet/ppo_small")),
        ),
    ),
    Shape(
        "K3c",
        "prediction",
        "iterated DPO lies between DPO and PPO",
        "Xu et al. 2024, arXiv:2404.10719",
        (
            Part("iterated DPO is above DPO", both("hamlet/dpo_iterated", DPO)),
            Part("PPO is above iterated DPO", both(PPO, "hamlet/dpo_iterated")),
        ),
    ),
    Shape(
        "K4a",
        "prediction",
        "the choice of data moves results more than the algorithm",
        "Ivison et al. 2024, arXiv:2406.09279",
        (
            Part(
                "true against permuted labels moves DPO more than PPO is above DPO",
                less(both("ceiling/dpo", "placebo/dpo"), both(PPO, DPO)),
            ),
            Part(
                "and more than DPO is above PPO",
                less(both("ceiling/dpo", "placebo/dpo"), both(DPO, PPO)),
            ),
        ),
    ),
    Shape(
        "K4b",
        "prediction",
        "the accuracy of reward models does not order policies",
        "Ivison et al. 2024, arXiv:2406.09279",
        untestable="reward models are held against labels of the kind they read: no two compare",
    ),
    Shape(
        "K5b",
        "prediction",
        "the judge moves every point",
        "Llama 2, arXiv:2307.09288",
        untestable="one judge grades: the truth itself",
    ),
    Shape(
        "K5c",
        "prediction",
        "safety labels leave mean helpfulness as it was and raise false refusals",
        "Llama 2, arXiv:2307.09288",
        (
            Part(
                "help is near that without safety labels",
                difference(HELP, "crossed/dpo", "crossed/dpo_help"),
                "near",
            ),
            Part(
                "more harmless requests are refused",
                difference(UNDUE, "crossed/dpo", "crossed/dpo_help"),
            ),
        ),
    ),
    Shape(
        "K6a",
        "prediction",
        "AI labels as helpful as people's, both above SFT, and more harmless",
        "Lee et al. 2023 (RLAIF), arXiv:2309.00267",
        (
            Part(
                "PPO on AI labels helps about as PPO on people's",
                difference(HELP, "hamlet/ppo_ai", "hamlet/ppo_human"),
                "near",
            ),
            Part("PPO on AI labels helps more than SFT", difference(HELP, "hamlet/ppo_ai", SFT)),
            Part(
                "PPO on people's labels helps more than SFT",
                difference(HELP, "hamlet/ppo_human", SFT),
            ),
            Part(
                "PPO on AI labels is safer than on people's",
                difference(SAFE, "hamlet/ppo_ai", "hamlet/ppo_human"),
            ),
        ),
    ),
    Shape(
        "K6b",
        "prediction",
        "the paper's own RLAIF helps more than SFT, and direct RLAIF more",
        "Lee et al. 2023 (RLAIF), arXiv:2309.00267",
        (
            Part("RLAIF helps more than SFT", difference(HELP, "hamlet/rlaif", SFT)),
            Part(
                "direct RLAIF helps more than RLAIF",
                difference(HELP, "hamlet/rlaif_direct", "hamlet/rlaif"),
            ),
        ),
    ),
    Shape(
        "K7a",
        "prediction",
        "the proxy rises with every Improve step and Grow round; true help turns over",
        "Gulcehre et al. 2023 (ReST), arXiv:2308.08998",
        (
            Part(
                "two Improve steps earn more than one",
                difference(EARNED, "hamlet/rest_2", "hamlet/rest_1"),
            ),
            Part("three earn more than two", difference(EARNED, "hamlet/rest_3", "hamlet/rest_2")),
            Part(
                "a second Grow round earns more",
                difference(EARNED, "hamlet/rest_grown", "hamlet/rest_3"),
            ),
            Part("and helps less", difference(HELP, "hamlet/rest_3", "hamlet/rest_grown")),
        ),
    ),
    Shape(
        "K8a",
        "prediction",
        "no training, then PPO, then imitation of the best alone, then HIR",
        "Zhang et al. 2023 (HIR), arXiv:2302.05206",
        (
            Part("PPO helps more than SFT", difference(HELP, PPO, SFT)),
            Part(
                "rejection sampling helps more than PPO", difference(HELP, "hamlet/rejection", PPO)
            ),
            Part(
                "HIR helps more than rejection sampling",
                difference(HELP, "hamlet/hir", "hamlet/rejection"),
            ),
        ),
    ),
    Shape(
        "K8b",
        "prediction",
        "HIR's gain comes from its training, not from its goal's text",
        WORLD,
        (
            Part(
                "HIR is above the goal's text without training", both("hamlet/hir", "hamlet/goal")
            ),
            Part(
                "the text without training is near SFT in help",
                difference(HELP, "hamlet/goal", SFT),
                "near",
            ),
        ),
    ),
    Shape(
        "K9a",
        "prediction",
        "constitutional RL is safer and at least as helpful as RL from people's labels",
        "Bai et al. 2022 (CAI), arXiv:2212.08073",
        (
            Part("CAI is safer than PPO", difference(SAFE, "hamlet/cai", PPO)),
            Part(
                "and at most a margin less helpful", difference(HELP, PPO, "hamlet/cai"), "at most"
            ),
        ),
    ),
    Shape(
        "K9b",
        "prediction",
        "the reinforcement stage makes constitutional training safer than imitation alone",
        "Bai et al. 2022 (CAI), arXiv:2212.08073",
        (Part("RL-CAI is safer than SL-CAI", difference(SAFE, "hamlet/cai", "hamlet/cai_sl")),),
    ),
    Shape(
        "K9c",
        "prediction",
        "imitating revisions makes the policy safer than SFT",
        "Bai et al. 2022 (CAI), arXiv:2212.08073",
        (Part("SL-CAI is safer than SFT", difference(SAFE, "hamlet/cai_sl", SFT)),),
    ),
    Shape(
        "K10a",
        "prediction",
        "part of the alignment tax appears at SFT",
        "Ouyang et al. 2022, arXiv:2203.02155",
        (
            Part(
                "probes are answered less well after SFT than before",
                difference(PROBES, "hamlet/base", SFT, LIKELIHOOD),
            ),
        ),
    ),
    Shape(
        "K10b",
        "prediction",
        "averaged weights have the best front of reward and tax",
        "Lin et al. 2023, arXiv:2309.06256",
        untestable="no row averages weights",
    ),
    Shape(
        "K10c",
        "prediction",
        "mixing in pretraining text lessens PPO's tax",
        "Ouyang et al. 2022, arXiv:2203.02155",
        (
            Part(
                "probes are answered better after PPO-ptx than after PPO",
                difference(PROBES, "hamlet/ppo_ptx", PPO, LIKELIHOOD),
            ),
        ),
    ),
    Shape(
        "K11a",
        "prediction",
        "two reward models are better than one for both axes together",
        "Llama 2, arXiv:2307.09288, section 3.2.1",
        (
            Part(
                "Llama 2 with two is above Llama 2 with one",
                both("hamlet/llama2_two", "hamlet/llama2_one"),
            ),
        ),
    ),
)
