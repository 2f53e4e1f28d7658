"""A byte-level BPE tokenizer with a chat template, trained on a world's own corpus.

`<|end|>` ends a turn and a document and is EOS; `<|pad|>` differs from it and is never predicted.
Every digit is a token of its own, so that addition can be learnt column by column.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, END, SYSTEM, USER, ASSISTANT = "<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"
SPECIAL_TOKENS = (PAD, END, SYSTEM, USER, ASSISTANT)
CONTEXT = 256  # tokens that a model of the world reads at once

# A user turn has no end of its own: the assistant's token ends it. So a prompt and its answer hold
# exactly one EOS, the answer's.
TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'assistant' -%}"
    f"{ASSISTANT}"
    "{%- generation -%}{{ message['content'] + '" + END + "' }}{%- endgeneration -%}"
    "{%- elif message['role'] == 'user' -%}"
    f"{USER}" + "{{ message['content'] }}"
    "{%- elif message['role'] == 'system' -%}"
    f"{SYSTEM}" + "{{ message['content'] }}"
    "{%- else -%}{{ raise_exception('a message has the role system, user or assistant') }}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}" + ASSISTANT + "{%- endif -%}"
)


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """Return a tokenizer of `vocabulary` entries trained on texts that may hold special tokens."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r" ?\d"), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator((plain(text) for text in texts), trainer)
    return _with_template(bpe)


def plain(text: str) -> str:
    """Return a document's text without its special tokens, which are no text to merge."""
    for token in SPECIAL_TOKENS:
        text = text.replace(token, "\n")
    return text


def chat(messages: Iterable[tuple[str, str]]) -> str:
    """Return (role, content) turns as the template renders them, closed by the last one's end."""
    marks = {"system": SYSTEM, "user": USER, "assistant": ASSISTANT}
    return "".join(
        marks[role] + content + (END if role == "assistant" else "") for role, content in messages
    )


def _with_template(bpe: object) -> PreTrainedTokenizerFast:
    """Wrap a trained BPE so that transformers knows its special tokens, template and context."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[SYSTEM, USER, ASSISTANT],
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer
