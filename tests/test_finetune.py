"""Supervised fine-tuning: which tokens carry loss, what the loss is, and what it learns."""

from __future__ import annotations

import csv
import math

import pytest
import torch
from tiny import END, random_llama, tiny_demonstrations, tiny_policy

import harness.stages.finetune as stage_file
from harness.artifacts import Demonstrations, Policy, Samples, write_rows
from harness.draft import Draft
from harness.models import encode, load_policy, load_tokenizer
from harness.sampling import Decoding, Wanted, draw
from harness.stages.finetune import finetune, sequences
from harness.training import Job, Recipe, planned_batches

RECIPE = Recipe(1e-3, 1, 8, "cosine", 0.0, 0.0, seed=0)


@pytest.fixture(scope="module")
def policy(make):
    return make(tiny_policy(seed=0))


def artifact(tmp_path, kind, rows, name="rows"):
    folder = tmp_path / name
    folder.mkdir()
    write_rows(Draft(folder), rows)
    return kind(name, path=folder)


def trainer(policy, tmp_path, rows, *, model=None, micro_batch=None):
    out = Draft(tmp_path, micro_batch=micro_batch)
    job = Job(out, planned_batches([len(row["input_ids"]) for row in rows], RECIPE), "finetune")
    model = model or load_policy(policy)
    return stage_file.trainer_for(model, load_tokenizer(policy), rows, RECIPE, job)


def demonstrations(n=8):
    said = ["yes", "no, never", "it is seven", "a"]
    return [
        {
            "prompt_id": f"p{i}",
            "messages": [{"role": "user", "content": "say " + "x" * i}],
            "completion": said[i % 4] + "!" * i,
        }
        for i in range(n)
    ]


def test_loss_is_on_the_answer_and_exactly_one_end_and_never_on_the_prompt(policy, tmp_path):
    data = artifact(tmp_path, Demonstrations, demonstrations())
    tokenizer = load_tokenizer(policy)
    rows, dropped = sequences(tokenizer, data, 1024)
    assert len(rows) == 8
    assert set(dropped.values()) == {0}
    for row, given in zip(rows, data, strict=True):
        prompt = len(encode(tokenizer, given["messages"]))
        assert row["labels"][:prompt] == [-100] * prompt
        assert row["labels"][prompt:] == row["input_ids"][prompt:]
        assert row["labels"].count(END) == 1
        assert row["labels"][-1] == END
        assert tokenizer.decode(row["input_ids"][prompt:-1]) == given["completion"]


def test_rows_that_are_too_long_or_unfinished_are_dropped_and_counted(policy, tmp_path):
    said = [dict(row, sample=0, finished=True) for row in demonstrations(3)]
    said[0]["completion"] *= 100
    said[1]["finished"] = False
    rows, dropped = sequences(load_tokenizer(policy), artifact(tmp_path, Samples, said), 64)
    assert len(rows) == 1
    assert dropped == {"longer_than_max_length": 1, "unfinished": 1}


def test_nothing_left_to_train_on_is_an_error_that_says_why(policy, tmp_path):
    data = artifact(tmp_path, Demonstrations, demonstrations())
    (tmp_path / "out").mkdir()
    with pytest.raises(ValueError, match="8 longer_than_max_length"):
        finetune.body(Draft(tmp_path / "out"), policy, data, max_length=3, seed=0)


def test_the_loss_is_the_token_mean_over_the_whole_batch(policy, tmp_path):
    data = artifact(tmp_path, Demonstrations, demonstrations())
    rows, _ = sequences(load_tokenizer(policy), data, 1024)
    model = load_policy(policy)
    total, count = 0.0, 0
    for row in rows:  # one by one: no padding anywhere
        logits = model(torch.tensor([row["input_ids"]])).logits[0, :-1]
        labels = torch.tensor(row["labels"][1:])
        total += torch.nn.functional.cross_entropy(logits, labels, reduction="sum").item()
        count += int((labels != -100).sum())
    made = trainer(policy, tmp_path, rows)
    loss = made.training_step(made.model, made.micro_batches(rows))
    assert loss.item() == pytest.approx(total / count, rel=1e-5)


def test_eight_micro_batches_of_one_have_the_gradient_of_one_batch_of_eight(policy, tmp_path):
    data = artifact(tmp_path, Demonstrations, demonstrations())
    rows, _ = sequences(load_tokenizer(policy), data, 1024)
    gradients, losses = [], []
    for number, micro_batch in enumerate((None, 1, 3)):
        folder = tmp_path / str(number)
        folder.mkdir()
        made = trainer(policy, folder, rows, micro_batch=micro_batch)
        losses.append(made.training_step(made.model, made.micro_batches(rows)).item())
        gradients.append([weight.grad.clone() for weight in made.model.parameters()])
    for other in (1, 2):
        assert losses[other] == pytest.approx(losses[0], rel=1e-5)
        for one, two in zip(gradients[0], gradients[other], strict=True):
            torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-4)


def test_no_gradient_reaches_the_last_layer_at_prompt_or_padding_positions(policy, tmp_path):
    data = artifact(tmp_path, Demonstrations, demonstrations(3))
    tokenizer = load_tokenizer(policy)
    rows, _ = sequences(tokenizer, data, 1024)
    made = trainer(policy, tmp_path, rows)
    seen = []

    def keep(module, given, output):
        output.last_hidden_state.retain_grad()
        seen.append(output.last_hidden_state)

    made.model.base_model.register_forward_hook(keep)
    made.training_step(made.model, made.micro_batches(rows))
    for row, gradient in zip(rows, seen[0].grad, strict=True):
        prompt = row["labels"].count(-100)
        end = len(row["input_ids"])
        assert not gradient[: prompt - 1].any()
        assert not gradient[end - 1 :].any()
        assert gradient[prompt - 1 : end - 1].abs().sum(dim=-1).gt(0).all()


def test_a_model_that_knows_nothing_starts_at_the_log_of_its_vocabulary(policy, tmp_path):
    data = artifact(tmp_path, Demonstrations, demonstrations())
    rows, _ = sequences(load_tokenizer(policy), data, 1024)
    model = random_llama(0, scale=0.001)
    made = trainer(policy, tmp_path, rows, model=model)
    loss = made.training_step(made.model, made.micro_batches(rows))
    assert loss.item() == pytest.approx(math.log(model.config.vocab_size), abs=0.05)


@pytest.mark.slow
def test_a_policy_overfitted_to_eight_answers_says_them_greedily_and_stops(policy, tmp_path):
    data = artifact(tmp_path, Demonstrations, demonstrations())
    out = Draft(tmp_path)
    finetune.body(
        out, policy, data, learning_rate=5e-3, epochs=150, batch_size=8, weight_decay=0.0, seed=0
    )
    with (tmp_path / "curves.csv").open() as file:
        assert float(list(csv.DictReader(file))[-1]["loss"]) < 0.05
    trained = Policy("trained", path=tmp_path)
    tokenizer = load_tokenizer(trained)
    for row in demonstrations():
        prompt = tuple(encode(tokenizer, row["messages"]))
        decoding = Decoding(0.0, 40, (END,), 0)
        (said,) = draw(load_policy(trained), [Wanted(prompt, row["prompt_id"])], decoding)
        assert said.finished
        assert tokenizer.decode(said.token_ids[:-1]) == row["completion"]


def test_the_artifact_is_the_same_bytes_in_another_folder_and_holds_no_pickle(make, tmp_path):
    policy, data = make(tiny_policy(seed=0)), make(tiny_demonstrations(n=12, seed=0))
    contents = []
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        out = Draft(tmp_path / name)
        finetune.body(out, policy, data, epochs=1, batch_size=4, seed=3)
        contents.append({file.name: file.read_bytes() for file in out.path.iterdir()})
        assert out.counters["optimiser_steps"] == 3
    assert contents[0] == contents[1]
    assert set(contents[0]) == {
        "chat_template.jinja",
        "config.json",
        "curves.csv",
        "generation.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert str(tmp_path).encode() not in b"".join(contents[0].values())


def test_a_pointers_temperature_is_not_inherited_but_its_stop_ids_are(policy, make, tmp_path):
    pointer = tmp_path / "pointer"
    pointer.mkdir()
    (pointer / "generation.json").write_text('{"stop_ids": [1, 7], "temperature": 0.3}')
    hotter = Policy("pointer", path=pointer)
    (tmp_path / policy.id).symlink_to(policy.path)
    (pointer / "same_as.json").write_text(f'{{"same_as": "{policy.id}"}}')
    (tmp_path / "out").mkdir()
    out = Draft(tmp_path / "out")
    finetune.body(out, hotter, make(tiny_demonstrations(n=4, seed=0)), epochs=1, seed=0)
    assert Policy("out", path=out.path).generation() == {"stop_ids": [1, 7]}


def test_the_counter_of_trained_tokens_is_what_went_through_the_model(make, tmp_path, monkeypatch):
    policy, data = make(tiny_policy(seed=0)), make(tiny_demonstrations(n=10, seed=0))
    tokens = []
    known = stage_file.PlannedTraining.training_step

    def counting(self, model, inputs, num_items_in_batch=None):
        tokens.extend(int(part["attention_mask"].sum()) for _, part in inputs["parts"])
        return known(self, model, inputs, num_items_in_batch)

    monkeypatch.setattr(stage_file.PlannedTraining, "training_step", counting)
    out = Draft(tmp_path)
    finetune.body(out, policy, data, epochs=2, batch_size=4, seed=0)
    assert out.counters["tokens_trained"] == sum(tokens)
    assert out.counters["optimiser_steps"] == len(tokens) == 6
