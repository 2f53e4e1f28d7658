from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import random_llama

from harness.decoding import AnySteps, LlamaSteps, is_plain_llama, kept_in_place

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


def read(model, rows=6, length=9):
    import torch

    ids = torch.arange(rows * length).view(rows, length) % 250 + 5
    with torch.inference_mode():
        return model(input_ids=ids, use_cache=True).past_key_values


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_key_value_heads": 4},
        {"num_key_value_heads": 1},
        {"tie_word_embeddings": False},
        {"rope_parameters": LLAMA3},
        {"head_dim": 16},
    ],
    ids=lambda changes: next(iter(changes), "grouped"),
)
def test_the_written_out_llama_steps_to_the_logits_of_transformers(changes):
    import torch

    model = random_llama(3, **changes)
    assert is_plain_llama(model)
    ours, theirs = LlamaSteps(model, [read(model)], 20), AnySteps(model, read(model))
    tokens = torch.arange(6) + 40
    with torch.inference_mode():
        for order in (range(6), [0, 4, 2], [0, 2], [1]):
            ours.keep(list(order))
            theirs.keep(list(order))
            tokens = tokens[list(order)]
            for _ in range(4):
                mine, other = ours.step(tokens), theirs.step(tokens)
                assert torch.allclose(mine, other, atol=2e-4)
                tokens = mine.argmax(-1)


@pytest.mark.parametrize("changes", [{}, {"num_key_value_heads": 4}], ids=["grouped", "alike"])
def test_rows_that_have_read_unequally_much_step_as_each_does_alone(changes):
    import torch

    model = random_llama(3, **changes)
    lengths = (3, 9, 5)
    mixed = LlamaSteps(model, [read(model, 2, length) for length in lengths], 20)
    alone = [AnySteps(model, read(model, 2, length)) for length in lengths]
    tokens = torch.arange(6) + 40
    with torch.inference_mode():
        for step in range(12):
            found = mixed.step(tokens)
            theirs = torch.cat([s.step(t) for s, t in zip(alone, tokens.split(2), strict=True)])
            assert torch.allclose(found, theirs, atol=2e-4), step
            tokens = found.argmax(-1)
        mixed.keep([5, 2])  # the last row of the third, the first of the second
        kept = mixed.step(tokens[[5, 2]])
        theirs = torch.stack([alone[2].step(tokens[4:])[1], alone[1].step(tokens[2:4])[0]])
        assert torch.allclose(kept, theirs, atol=2e-4)


def test_other_architectures_and_ropes_that_change_with_length_are_left_to_transformers():
    from transformers import GPT2Config, GPT2LMHeadModel

    assert not is_plain_llama(GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=1)))
    dynamic = {"rope_type": "dynamic", "rope_theta": 10_000.0, "factor": 2.0}
    assert not is_plain_llama(random_llama(0, rope_parameters=dynamic))
    assert not is_plain_llama(random_llama(0, attention_bias=True))


@given(st.sets(st.integers(0, 40)))
def test_keeping_rows_moves_only_those_behind_the_new_end(rows):
    kept = sorted(rows)
    order = kept_in_place(kept)
    assert sorted(order) == kept
    assert all(row == place for place, row in enumerate(order) if row < len(kept))
