"""The tokenizer, the pretraining recipe, and the weights that come with the package."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.bases import EMBEDDED, ROLES
from harness.hamlet import forms
from harness.hamlet.corpus import document, documents
from harness.hamlet.measures import fingerprints
from harness.hamlet.pretrain import (
    VERDICT_WEIGHT,
    Run,
    main,
    new_model,
    pretrain,
    train,
    verdict_weights,
    weights_in,
)
from harness.hamlet.recipe import BLOCK, Blocks, Recipe, pack, training_rows
from harness.hamlet.requests import World
from harness.hamlet.tokenizer import (
    ASSISTANT,
    CONTEXT,
    END,
    PAD,
    SPECIAL_TOKENS,
    SYSTEM,
    USER,
    chat,
    train_tokenizer,
)

TINY = Recipe(
    tokens=4 * 2 * CONTEXT, vocabulary=512, width=32, layers=2, heads=2, feedforward=48, batch=2,
    warmup=1,
)  # fmt: skip
TURNS = [
    {"role": "system", "content": "Be short."},
    {"role": "user", "content": "What is 12 plus 30?"},
    {"role": "assistant", "content": "12 plus 30 is 42."},
]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    texts = [
        *islice(documents(World(0), 2), 300),
        *islice(documents(World(0), 2, kind="labeller"), 60),
    ]
    return train_tokenizer(texts, TINY.vocabulary)


@pytest.mark.parametrize(
    "text", ["In 412 Tronby built a bridge.", "Größe 東京 🙂\n\n- a  b\t", " 7 and 77", ""]
)
def test_any_text_survives_the_tokenizer(tokenizer: Any, text: str) -> None:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text


def test_every_digit_is_a_token_of_its_own(tokenizer: Any) -> None:
    pieces = [tokenizer.decode([i]) for i in tokenizer("847 + 38")["input_ids"]]
    assert [piece.strip() for piece in pieces if piece.strip()] == ["8", "4", "7", "+", "3", "8"]


def test_special_tokens_are_one_id_each_and_padding_is_not_the_end(tokenizer: Any) -> None:
    assert [tokenizer.convert_tokens_to_ids(t) for t in SPECIAL_TOKENS] == [0, 1, 2, 3, 4]
    assert (tokenizer.eos_token, tokenizer.pad_token) == (END, PAD)
    assert len(tokenizer) == TINY.vocabulary


def test_the_template_renders_turns_as_the_corpus_writes_them(tokenizer: Any) -> None:
    rendered = tokenizer.apply_chat_template(TURNS, tokenize=False)
    assert (
        rendered == f"{SYSTEM}Be short.{USER}What is 12 plus 30?{ASSISTANT}12 plus 30 is 42.{END}"
    )
    assert rendered == chat([(turn["role"], turn["content"]) for turn in TURNS])
    prompt = tokenizer.apply_chat_template(TURNS[:2], tokenize=False, add_generation_prompt=True)
    assert rendered.startswith(prompt)
    assert prompt.endswith(ASSISTANT)


def test_the_template_marks_the_answer_and_its_end_and_nothing_else(tokenizer: Any) -> None:
    found = tokenizer.apply_chat_template(
        [*TURNS, *TURNS[1:]], return_dict=True, return_assistant_tokens_mask=True
    )
    marked = [i for i, m in zip(found["input_ids"], found["assistant_masks"], strict=True) if m]
    assert tokenizer.decode(marked) == f"12 plus 30 is 42.{END}" * 2


def test_the_template_refuses_a_role_it_does_not_know(tokenizer: Any) -> None:
    with pytest.raises(Exception, match="system, user or assistant"):
        tokenizer.apply_chat_template([{"role": "tool", "content": "x"}], tokenize=False)


def test_rows_begin_with_a_document_and_are_cut_at_their_end() -> None:
    documents = [[5, 6, 1], [7, 8], [9] * 9, [4, 1]]
    assert pack(documents, end=1, length=5) == [[5, 6, 1, 7, 8], [9, 9, 9, 9, 9]]


def test_only_verdicts_and_ratings_weigh_more(tokenizer: Any) -> None:
    import torch

    said = [[("user", "x"), ("assistant", text)] for text in ("A", "B", "7", "A bear.", "C")]
    rows = [tokenizer(chat(turns), add_special_tokens=False)["input_ids"] for turns in said]
    for row, text in zip(rows, ("A", "B", "7", "", ""), strict=True):
        weights = verdict_weights(torch.tensor([row]), tokenizer)[0].tolist()
        heavy = [row[place + 1] for place, w in enumerate(weights) if w == VERDICT_WEIGHT]
        assert heavy == ([tokenizer.convert_tokens_to_ids(text)] if text else [])


def test_the_rows_are_the_same_for_any_number_of_processes(tokenizer: Any) -> None:
    recipe = replace(TINY, tokens=260 * 2 * CONTEXT)  # more than one block
    one, two = (training_rows(recipe, tokenizer.backend_tokenizer.to_str(), n) for n in (1, 2))
    assert one.shape == (520, CONTEXT + 1)
    assert np.array_equal(one, two)


def test_a_block_is_its_own_documents_in_order(tokenizer: Any) -> None:
    rows = Blocks(TINY, tokenizer.backend_tokenizer.to_str())(1)
    first = document(World(0), 1, BLOCK)
    ids = tokenizer(first, add_special_tokens=False)["input_ids"]
    assert rows[0][: len(ids)].tolist() == ids[: CONTEXT + 1]


def test_pretraining_is_deterministic_and_its_files_hold_no_pickle(
    tokenizer: Any, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        pretrain(TINY, tokenizer, Run(tmp_path / name, "cpu"))
    one, two = (
        {file.name: file.read_bytes() for file in (tmp_path / name).iterdir()}
        for name in ("one", "two")
    )
    assert one["model.safetensors"] == two["model.safetensors"]
    assert one["tokenizer.json"] == two["tokenizer.json"]
    assert {Path(name).suffix for name in one} == {".json", ".jinja", ".safetensors"}
    facts = json.loads(one["recipe.json"])
    assert (facts["tokens"], facts["recipe"]["layers"]) == (TINY.tokens, 2)


def test_an_interrupted_run_ends_as_one_that_was_not(
    tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.hamlet.pretrain.SAVE_SECONDS", -1.0)  # a checkpoint each step
    rows = training_rows(TINY, tokenizer.backend_tokenizer.to_str(), 1)
    whole, torn, again = (new_model(TINY, tokenizer) for _ in range(3))
    for name in ("whole", "torn"):
        (tmp_path / name).mkdir()
    losses = train(whole, rows, tokenizer, TINY, Run(tmp_path / "whole", "cpu"))

    class Killed(Exception): ...

    def killed(run: Run, recipe: Recipe, model: Any, optimiser: Any, losses: list[float]) -> None:
        save(run, recipe, model, optimiser, losses)
        if len(losses) == 2:
            raise Killed

    save = Run.save
    run = Run(tmp_path / "torn", "cpu")
    monkeypatch.setattr(Run, "save", killed)
    with pytest.raises(Killed):
        train(torn, rows, tokenizer, TINY, run)
    assert train(again, rows, tokenizer, TINY, run) == losses
    pairs = zip(whole.parameters(), again.parameters(), strict=True)
    assert all((a == b).all() for a, b in pairs)


def test_a_checkpoint_of_another_recipe_is_refused(tokenizer: Any, tmp_path: Path) -> None:
    from harness.hamlet.optimiser import Optimiser

    model, run = new_model(TINY, tokenizer), Run(tmp_path, "cpu")
    run.save(TINY, model, Optimiser(model, 1e-3, 0.02), [])
    with pytest.raises(ValueError, match="another recipe"):
        run.resume(replace(TINY, seed=1), model, Optimiser(model, 1e-3, 0.02))


def test_a_second_cycle_goes_on_from_the_first_with_other_documents(
    tokenizer: Any, tmp_path: Path
) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    pretrain(TINY, tokenizer, Run(tmp_path / "first", "cpu"))
    again = TINY.again("0" * 64)
    text = tokenizer.backend_tokenizer.to_str()
    assert not np.array_equal(training_rows(again, text, 1), training_rows(TINY, text, 1))
    still = replace(again, learning_rate=0.0, matrix_learning_rate=0.0)
    pretrain(still, tokenizer, Run(tmp_path / "second", "cpu", start=tmp_path / "first"))
    one, two = (
        (tmp_path / name / "model.safetensors").read_bytes() for name in ("first", "second")
    )
    assert one == two, "at rate 0 the second cycle ends where the first did"
    facts = json.loads((tmp_path / "second" / "recipe.json").read_text())
    assert facts["after"]["recipe"] == json.loads(json.dumps(asdict(TINY)))


def test_a_sharpened_model_at_temperature_1_is_the_old_one_at_a_lower_temperature(
    tokenizer: Any, tmp_path: Path
) -> None:
    import torch

    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    pretrain(TINY, tokenizer, Run(before, "cpu"))
    main(["--start", str(before), "--sharpen", "1.5", "--out", str(after)])
    ids = torch.tensor([tokenizer("What is 12 plus 30?").input_ids])
    with torch.no_grad():
        old, new = (weights_in(folder)(ids).logits for folder in (before, after))
    torch.testing.assert_close(new, 1.5 * old, rtol=0.01, atol=0.01)  # weights are bfloat16
    assert (after / "tokenizer.json").read_bytes() == (before / "tokenizer.json").read_bytes()
    facts = json.loads((after / "recipe.json").read_text())
    assert facts == {"sharpened": 1.5, "after": json.loads((before / "recipe.json").read_text())}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--sharpen", "1.5"], "needs --start"), (["--start", "x", "--sharpen", "-1"], "positive")],
)
def test_sharpening_nothing_or_by_nothing_is_refused(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises((SystemExit, ValueError)) as caught:
        main([*arguments, "--out", str(tmp_path)])
    assert message in f"{caught.value} {capsys.readouterr().err}"


def test_momentum_is_made_nearly_orthonormal() -> None:
    import torch

    from harness.hamlet.optimiser import orthogonal

    drawn = torch.randn(3, 24, 40, generator=torch.Generator().manual_seed(0))
    for matrices in (drawn, drawn.mT):
        values = torch.linalg.svdvals(orthogonal(matrices))
        assert ((values > 0.5) & (values < 1.3)).all()


def test_muon_agrees_with_torch_in_direction_and_size() -> None:
    import torch

    from harness.hamlet.optimiser import muon

    draw = torch.Generator().manual_seed(1)
    ours, theirs = (torch.nn.Parameter(torch.zeros(48, 16)) for _ in range(2))
    average = torch.zeros(1, 48, 16)
    reference = torch.optim.Muon([theirs], lr=0.02, weight_decay=0.01, momentum=0.95)
    for _ in range(3):
        gradient = torch.randn(48, 16, generator=draw)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        muon([ours], average, 0.02)
        reference.step()
    assert torch.nn.functional.cosine_similarity(ours.flatten(), theirs.flatten(), dim=0) > 0.999
    assert float((ours.norm() / theirs.norm()).detach()) == pytest.approx(1, abs=0.02)


def test_the_learning_rate_warms_up_stays_and_falls() -> None:
    recipe = Recipe(tokens=1000 * 8 * CONTEXT, batch=8, warmup=100)
    assert recipe.steps == 1000
    assert recipe.rate(0) == 0.01
    assert recipe.rate(150) == recipe.rate(299) == 1.0
    assert recipe.rate(650) == pytest.approx(0.5)
    assert recipe.rate(999) == recipe.floor


def test_pretraining_needs_none_of_the_harnesss_libraries() -> None:
    code = (
        "import sys; import harness.hamlet.pretrain\n"
        "wanted = {'trl', 'datasets', 'peft', 'pydantic', 'typer', 'pandas', 'torch'}\n"
        "print(sorted(wanted & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_changed_world_has_other_fingerprints(monkeypatch: pytest.MonkeyPatch) -> None:
    from functools import partial

    from harness.hamlet import corpus
    from harness.hamlet.findings import WEIGHTS, regrade

    before = fingerprints(World(0))
    assert before == fingerprints(World(0))
    monkeypatch.setattr(corpus, "NORMS", corpus.NORMS[1:])
    changed = fingerprints(World(0))
    assert {name for name in before if before[name] != changed[name]} == {
        "base reads",
        "labeller reads",
    }
    zero = {kind: weight._replace(helpful=0.0) for kind, weight in WEIGHTS.items()}
    monkeypatch.setattr("harness.hamlet.gold.regrade", partial(regrade, weights=zero))
    assert fingerprints(World(0))["gold"] != before["gold"]


shipped = pytest.mark.skipif(
    not (EMBEDDED / "card.json").is_file(),
    reason="the shipped weights are provisional: no card.json",
)


@shipped
def test_both_models_are_small_and_hold_no_pickle() -> None:
    files = [f for role in ROLES for f in (EMBEDDED / role).rglob("*") if f.is_file()]
    assert sum(file.stat().st_size for file in files) <= 10e6
    assert {file.suffix for file in files} == {".json", ".jinja", ".safetensors"}


@shipped
def test_the_card_is_of_these_weights_and_these_forms() -> None:
    from harness.hamlet.card import digests

    card = json.loads((EMBEDDED / "card.json").read_text())
    assert card["sha256"] == digests(EMBEDDED)
    assert card["forms"] == forms.DIGEST


@shipped
def test_the_world_is_the_one_that_the_models_were_made_of() -> None:
    card = json.loads((EMBEDDED / "card.json").read_text())
    assert card["world"] == fingerprints(World(0)), "frozen: a changed world needs new weights"


@shipped
def test_both_models_share_a_tokenizer_made_of_this_world() -> None:
    base, labeller = ((EMBEDDED / role / "tokenizer.json").read_bytes() for role in ROLES)
    assert base == labeller


@shipped
@pytest.mark.parametrize("role", ROLES)
def test_the_weights_load_and_predict_what_they_have_read(role: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED / role)
    model = AutoModelForCausalLM.from_pretrained(EMBEDDED / role, dtype=torch.float32).eval()
    text = "\n".join(
        islice(documents(World(0), 3, kind="labeller" if role == "labeller" else "base"), 4)
    )
    ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"][:CONTEXT]])
    with torch.inference_mode():
        loss = model(input_ids=ids, labels=ids).loss.item()
    assert loss < 0.5 * np.log(len(tokenizer))
