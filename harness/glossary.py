"""What every setting of our plugins means, in a sentence: one word, one meaning, everywhere.

Keys are a setting's name, or `plugin.name` where a plugin means something of its own by it, and so
do those whose names begin as its name and go on with an underscore. The tables of the READMEs are
made of them; a test holds them complete.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from harness.registry import Kind

TRAINING: Final[Mapping[str, str]] = {
    "learning_rate": "learning rate of the policy",
    "batch_size": "rows, or answers drawn, of one optimiser step",
    "epochs": "times that every row is trained on",
    "reward_learning_rate": "learning rate of the reward models",
    "reward_epochs": "times that a reward model is trained on every pair",
    "reward_batch_size": "pairs of one optimiser step of a reward model",
    "value_learning_rate": "learning rate of the value network",
    "temperature": "temperature at which the method draws answers to train on",
    "feedback": "who labels the pairs: people, the labeller, or the labeller by principles",
    "rounds": "how often new answers are drawn and learnt from; the budget is divided among them",
    "n": "answers drawn to each prompt",
    "share": "share of the train prompts that is answered",
    "kl": "price of a nat between the policy and the SFT policy",
    "passes": "how many answers are drawn in all, in passes over the train prompts",
    "beta": "strength of the pull towards the reference: higher stays nearer",
    "label_smoothing": "probability with which a label is taken to be wrong",
    "init": "where each fine-tuning starts: from SFT, from the base, or from the last policy",
}
METHODS: Final[Mapping[str, str]] = {
    **TRAINING,
    "always_comply.text": "the answer to everything",
    "always_refuse.text": "the answer to everything",
    "cai.stage": 'where it ends: "sl" imitates revisions, "rl" goes on to learn from AI labels',
    "cai.stage2": "what learns from labels: PPO on a preference model, or DPO on last revisions, "
    "or DPO on AI labels",
    "cai.constitution": "the principles: a shipped name or the path of a YAML file",
    "cai.revisions": "how often an answer is criticised and revised",
    "cai.critique": "whether a critique is written before each revision",
    "cai.critic_temperature": "temperature of critiques and revisions",
    "cai.imitate": "what is imitated on red-team prompts: revisions, or as many first answers",
    "cai.sl_learning_rate": "learning rate of imitating the revisions",
    "cai.sl_batch_size": "answers of one optimiser step of imitating the revisions",
    "cai.clamp": "AI labels are kept within [clamp, 1 - clamp]; 0 leaves them as they are",
    "cai.pm_learning_rate": "learning rate of the preference model",
    "cai.pm_epochs": "times that the preference model is trained on every pair",
    "cai.pm_batch_size": "pairs of one optimiser step of the preference model",
    "cai.beta": "price of a nat from the SL-CAI policy, or DPO's beta",
    "dno.oracle": "who judges fresh answers: the dataset's annotators or the labeller",
    "dno.spend": "judgements of all rounds together, in shares of the budget of one a prompt",
    "dno.margin": "how far apart the win rates of two answers must lie to make a pair",
    "dno.targets": 'what a pair is worth: "hard" is a winner, "soft" the difference of win rates',
    "dno.replay": "shares of the pairs of the last rounds, newest first, that are trained on again",
    "dpo.axis": "which pairs are trained on: all, or those of one axis",
    "dpo.loss": "the loss on a pair's log-ratios: `ipo_sum` sums over tokens, `ipo` and "
    "`sigmoid_norm` average, and `simpo` has no reference",
    "dpo.length_penalty": "price of a token by which the chosen answer is longer",
    "dpo.nll": "weight of imitating the chosen answer, beside the loss",
    "goal": "whether the policy is asked by the best goal when it is used",
    "hir.judged_axes": "which axes of an answer are judged: the one of its prompt's tag, or both",
    "hir.unsafe_goals": "whether unsafe answers only become less likely, or are imitated under the "
    "unsafe goal",
    "hir.parts": "ends of each answer that are relabelled too",
    "hir.replay": "how many of the last rounds' answers are trained on",
    "hir.goalless": "share of the best answers that is imitated without any goal",
    "hir.contrast": "weight of preferring an answer under its own goal to other goals",
    "hir.entropy": "weight of the entropy bonus",
    "hir.label_smoothing": "share of a token's probability that goes to all other tokens",
    "hir.contrast_smoothing": "probability with which a contrast is taken to be wrong",
    "tempered.temperature": "temperature that SFT's answers are drawn at in place of 1",
    "llama2.rewards": "a helpful and a safe reward model, gated; or one of all pairs",
    "llama2.stages": "rejection sampling, PPO, or PPO after rejection sampling",
    "llama2.versions": "rounds of rejection sampling",
    "llama2.pool_from": "version from which on the answers of all versions compete",
    "llama2.rs_learning_rate": "learning rate of imitating the best answers",
    "llama2.rs_epochs": "times that the best answers are trained on",
    "llama2.margin": "how far apart a reward model holds a pair by its strength",
    "llama2.threshold": "probability of being safe below which the safety model's score counts",
    "llama2.safety_loss": "weight of the safety model's loss on answers whose flags were bought",
    "llama2.safety_mix": "share of helpful pairs among the safety model's",
    "ppo.preset": "whose PPO: all settings that are not given are this paper's",
    "ppo.patience": "looks at validation prompts without a better reward that end it; 0: none",
    "ppo.whiten_advantages": "whether advantages of a minibatch get mean 0 and variance 1",
    "ppo.value_warmup": "iterations in which the value alone is fitted, before the policy moves",
    "ppo.pretraining_weight": "weight of the loss on pretraining text; above 0 it is PPO-ptx",
    "ppo.checkpoints": "policies kept on the way, for curves and for selection",
    "rest.grow": "how often answers are drawn and scored anew",
    "rest.thresholds": "what an answer's reward must reach, one Improve step each",
    "rest.scale": "what thresholds are on: quantiles of a prompt's answers, a reward's place among "
    "all answers or above its prompt's mean, or the reward itself",
    "rest.at_most": "answers to one prompt that are kept",
    "rest.demonstrations": "whether demonstrations are scored and filtered with the answers",
    "rest.decay": "factor on the learning rate from one Improve step to the next",
    "rlaif.pair_source": "which pairs are labelled: the dataset's, or two answers of SFT's",
    "rlaif.soft": "whether the labeller's probabilities are learnt, or the likelier side",
    "rlaif.beta": "weight of the KL penalty in (1 - beta) reward - beta KL",
    "rlaif_direct.beta": "weight of the KL penalty in (1 - beta) reward - beta KL",
}
ROWS: Final[Mapping[str, str]] = {
    "path": "folder of a local copy, in place of the hub's cache; beside the study",
    "jsonl.path": "the file, or a folder of files; beside the study",
    "hub": "name of the repository on the hub",
    "revision": "commit of the repository, or a branch that `prepare` has pinned; needed "
    "without a path",
    "files": "pattern of the files in the folder",
    "sha256": "digest that the one file must have",
    "train": "pattern of the files with train rows",
    "tests": "pattern of the files that are held out; without, a share of the train rows is",
    "helpful": "pattern of the files on the helpful axis",
    "harmless": "pattern of the files on the safe axis",
    "helpful_test": "pattern of the helpful files that are held out",
    "harmless_test": "pattern of the harmless files that are held out",
    "prompt": "column of the prompt, as text or messages; empty where answers hold it",
    "chosen": "column of the better answer",
    "rejected": "column of the worse answer",
    "chosen_score": "column of the better answer's score",
    "rejected_score": "column of the worse answer's score",
    "responses": "column of a list of answers, for rankings",
    "ranks": "column of their ranks, 1 the best; without, answers stand best first",
    "completion": "column of the one answer, for thumbs",
    "thumb": "column of whether it was liked: true or false, 1 or 0, up or down",
    "axis": "axis on which rows are judged",
    "pku_saferlhf.axis": "axis for all pairs; without, a coin gives each prompt its own",
    "axis_column": "column of each row's axis: helpful or safe",
    "strength": "column of how strong the preference is, 1 to 4",
    "chosen_safe": "column of whether the better answer is safe: a flag that is bought",
    "rejected_safe": "column of whether the worse answer is safe",
    "pku_saferlhf.flags": "whether the flags of each response's safety are bought",
    "labels": "noisy as given; permuted: dealt out anew, a placebo; oracle: the truth's, a ceiling",
    "validation": "share of the conversations kept for selection and tuning",
    "test": "share of the conversations kept for evaluation",
    "max_prompt": "tokens of the base in a prompt; longer rows are left out",
    "max_length": "tokens of the base in prompt and answer; longer rows are left out",
    "parts": "a table for each set: `plugin`, else the table's name, and how its rows are read",
    "max_rows": "rows that are used in all",
    "max_test": "rows of the held-out files that are used",
    "budget": "comparisons that every method may train on",
    "max_overlap": "share of train rows that may repeat 13 words of a held-out prompt",
    "reserved": "share of the conversations that only the judge `fitted` learns from",
    "assistant": 'who criticises and compares: "base", a folder, or "org/name@commit"',
}
DATASETS: Final[Mapping[str, str]] = {
    **ROWS,
    "hamlet.world": "number of the generated county; the shipped weights know 0",
    "hamlet.budget": "judgements a seed, one to each train prompt",
    "hamlet.demonstrations": "demonstrations that SFT imitates",
    "hamlet.validation": "validation prompts",
    "hamlet.test": "test prompts",
    "hamlet.probes": "questions of each capability probe",
    "hamlet.strength": "whether the strength that annotators perceive is bought with each label",
    "hamlet.flags": "whether flags of each answer's safety are bought with each label",
    "hamlet.minority": "share of judgements by the second population of annotators",
    "hamlet.other_axis": "share of judgements on the axis that the prompt's tag does not suggest",
    "hamlet.flips": "share of labels that are turned round",
    "hamlet.temperature": "of the annotators' Bradley-Terry choice: higher is noisier",
    "hamlet_foreign.learning_rate": "learning rate of the other policy, whose answers are judged",
}
JUDGES: Final[Mapping[str, str]] = {
    "path": "folder of the model, in place of the hub; beside the study",
    "hub": "name of the model on the hub",
    "revision": "its commit, or a branch that `prepare` has pinned; needed with `hub`",
    "principle": "what the better answer is asked for; an axis's own is exchanged by rows' axes",
    "learning_rate": "learning rate of the reward model",
    "epochs": "times that it is trained on every pair",
    "batch_size": "pairs of one optimiser step",
    "seed": "seed of its training; the same for all seeds of the study",
    "word": "the word that a good answer contains",
    "axis": "which grade of the truth",
    "classifier.label": "which of several outputs is the grade",
    "classifier.template": 'what it reads: "chat", "pair", "answer" or Jinja text',
    "classifier.is_bad": "whether that output is a fault, so that less is better",
    "guard.form": "how it is asked: in its own template, by categories, by three questions, or not "
    "at all, as a classifier",
    "guard.template": "Jinja text over messages and categories, in place of its own",
    "guard.categories": "kinds of content that are unsafe",
    "guard.label": "the classifier's output that means unsafe",
    "labeller.rationale_tokens": "tokens of reasons that it writes before it chooses; 0 for none",
    "labeller.flips": "share of its verdicts that are turned round",
    "labeller.both_orders": "whether each pair is shown in both orders and averaged",
    "endpoint.url": "address of the server, up to /chat/completions",
    "endpoint.model": "name of the model, as the server knows it",
    "endpoint.api_key_env": "environment variable that holds the key; the key reaches no file",
    "endpoint.samples": "answers drawn for each order; 0 reads log-probabilities",
    "endpoint.temperature": "temperature of these answers",
    "endpoint.answer_tokens": "longest answer, in tokens",
    "endpoint.top_logprobs": "log-probabilities that are asked for",
    "endpoint.version": "your name for what is served; another one judges everything anew",
    "endpoint.tries": "tries of a request before it counts as unanswered",
    "endpoint.concurrency": "requests at a time",
    "endpoint.timeout": "seconds of one try",
}
SUITES: Final[Mapping[str, str]] = {
    "goal_attack.goal": "text in the system turn of every attacked request",
    "overoptimisation.n": "answers of SFT drawn to each prompt; all smaller n are read off them",
    "size": "how many items of which sets; see the table of benchmarks",
    "path": "folder of the local copies; beside the study. Not for smoke",
    "sets": "prompt sets in place of the size's own",
    "tasks": "tasks in place of the size's own",
    "chat_template": "whether tasks are asked in the chat template",
    "by": "who finds harm: the rule for refusals, or the study's judge too",
    "temperature": "temperature of the answers",
    "max_new_tokens": "longest answer, in tokens",
    "max_prompt": "longest prompt, in tokens of the base; longer ones are left out and counted",
    "batch_size": "requests that lm-eval sends at a time",
}
SFT: Final[Mapping[str, str]] = {
    "learning_rate": "learning rate of the policy",
    "epochs": "times that every demonstration is trained on",
    "batch_size": "demonstrations of one optimiser step",
    "max_length": "tokens in prompt and answer; longer rows are left out and counted",
    "schedule": "how the learning rate falls after its warm-up",
    "warmup": "share of the steps over which the learning rate rises",
    "weight_decay": "weight decay of AdamW",
}
GLOSSARY: Final[Mapping[Kind, Mapping[str, str]]] = MappingProxyType(
    {"method": METHODS, "dataset": DATASETS, "judge": JUDGES, "suite": SUITES}
)


def meaning(kind: Kind, plugin: str, setting: str) -> str:
    """Return what a setting means, or nothing for one of somebody else's that we do not know."""
    known = GLOSSARY[kind]
    names = (f"{plugin}.{setting}", f"{plugin.split('_')[0]}.{setting}", setting)
    return next((known[name] for name in names if name in known), "")
