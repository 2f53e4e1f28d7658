"""The judges that come with the harness. The embedded world adds `gold`, for evaluation alone."""

from __future__ import annotations

from harness.bases import model_folder
from harness.classifiers import SHOWN, Classifier
from harness.endpoint import Endpoint
from harness.guards import CATEGORIES, Form, Guard
from harness.hamlet.forms import AXES
from harness.judge import Contains, Flipped, Judge, Prompted, Reward
from harness.registry import judge
from harness.shared import Data
from harness.stages.reward import fit_reward
from harness.transport import checked_key_name, checked_url


@judge
def contains(data: Data, *, word: str) -> Judge:
    """Grade 1 for an answer that contains a word, else 0: a judge by rule."""
    if not word:
        raise ValueError("every answer contains the empty word; give one")
    return Contains(word)


@judge
def labeller(
    data: Data,
    *,
    principle: str = AXES["helpful"],
    rationale_tokens: int = 0,
    both_orders: bool = True,
    flips: float = 0.0,
) -> Judge:
    """Ask the dataset's own assistant which answer is better, by a principle.

    A principle that is one axis's is exchanged for the other's where rows say their axis. With
    `rationale_tokens` it explains itself first, in at most so many tokens; without `both_orders`
    each pair is shown in one order, as in Bai et al. 2022. `flips` is the share of verdicts turned
    round, to see what a worse labeller costs; ratings stay as they are.
    """
    if data.assistant is None:
        raise ValueError(
            "this dataset brings no model that could judge; name another judge, such as "
            'plugin = "contains"'
        )
    if rationale_tokens < 0:
        raise ValueError(f"rationale_tokens must not be negative, but is {rationale_tokens}")
    if not 0 <= flips <= 1:
        raise ValueError(f"flips is a share of the verdicts, in [0, 1], but is {flips}")
    asked = Prompted(data.assistant, principle, rationale_tokens, both_orders)
    return Flipped(asked, flips) if flips else asked


@judge
def fitted(
    data: Data, *, learning_rate: float = 1e-5, epochs: int = 1, batch_size: int = 64, seed: int = 0
) -> Judge:
    """Grade by a reward model of the assistant's size, learnt from rows that no method sees.

    The dataset keeps them: it has a share `reserved`, and an `assistant` that the model starts
    from.
    """
    if data.reserved is None or data.assistant is None:
        raise ValueError(
            "the judge fitted learns from rows that the dataset keeps from all methods: give the "
            'dataset reserved = 0.5 and assistant = "base", or name another judge'
        )
    return Reward(
        fit_reward(
            data.assistant,
            data.reserved,
            learning_rate=learning_rate,
            epochs=epochs,
            batch_size=batch_size,
            seed=seed,
        )
    )


@judge
def endpoint(
    data: Data,
    *,
    url: str,
    model: str,
    api_key_env: str = "",
    principle: str = AXES["helpful"],
    samples: int = 0,
    temperature: float = 1.0,
    answer_tokens: int = 16,
    top_logprobs: int = 20,
    version: str = "",
    tries: int = 6,
    concurrency: int = 8,
    timeout: float = 60.0,
) -> Judge:
    """Ask a model behind an OpenAI-compatible server which answer is better, by a principle.

    `url` ends before /chat/completions. The key is in the environment variable `api_key_env`. With
    `samples` = 0 the server must tell log-probabilities; else so many answers of at most
    `answer_tokens` are drawn at `temperature` and counted. `timeout` is in seconds a try.
    """
    at_least = {
        "samples": (samples, 0),
        "temperature": (temperature, 0),
        "answer_tokens": (answer_tokens, 1),
        "top_logprobs": (top_logprobs, 2),
        "tries": (tries, 1),
        "concurrency": (concurrency, 1),
        "timeout": (timeout, 0.001),
    }
    for name, (value, least) in at_least.items():
        if value < least:
            raise ValueError(f"{name} must be at least {least}, but is {value}")
    if not model or not principle:
        raise ValueError("model and principle must not be empty")
    return Endpoint(
        checked_url(url),
        model,
        principle,
        samples,
        temperature,
        answer_tokens,
        top_logprobs,
        version,
        checked_key_name(api_key_env),
        tries,
        concurrency,
        timeout,
    )


@judge
def classifier(
    data: Data,
    *,
    path: str | None = None,
    hub: str | None = None,
    revision: str | None = None,
    label: str = "",
    template: str = "chat",
    is_bad: bool = False,
) -> Judge:
    """Grade by a sequence classifier, such as a public reward model.

    It is in the folder `path`, or of the `hub` by name, at the commit `revision`. `label` names one
    of several outputs, and `is_bad` says that it is a fault. `template` is what is read: "chat"
    (the tokenizer's own template), Jinja text, "pair" (request and answer as two texts) or
    "answer".
    """
    if template not in SHOWN and "{" not in template:
        raise ValueError(f"template {template!r}: one of {', '.join(SHOWN)}, or Jinja text")
    return Classifier(model_folder(path, hub, revision), label, template, is_bad)


@judge
def guard(
    data: Data,
    *,
    path: str | None = None,
    hub: str | None = None,
    revision: str | None = None,
    form: Form = "own",
    template: str = "",
    categories: tuple[str, ...] = CATEGORIES,
    label: str = "",
) -> Judge:
    """Grade by how safe a guard model finds an answer.

    It is in the folder `path`, or of the `hub` by name, at the commit `revision`. `form` is how it
    is asked: "own" (its tokenizer's chat template, answered by safe or unsafe), "categories" (the
    same by a list of ours), "questions" (three of yes or no), or "classifier", whose `label` means
    unsafe. `template` is Jinja text over `messages` and `categories`.
    """
    if form == "categories" and not categories:
        raise ValueError('form = "categories" needs categories; leave them out for the usual ones')
    if template and "{" not in template and (form != "classifier" or template not in SHOWN):
        raise ValueError(f"template {template!r} is no Jinja text over `messages`")
    if label and form != "classifier":
        raise ValueError(f'label {label!r} is read by form = "classifier" alone')
    return Guard(model_folder(path, hub, revision), form, template, categories, label)
