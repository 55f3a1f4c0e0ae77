"""Pretraining and distillation on toys, against the plain formulas."""

from __future__ import annotations

import copy
import dataclasses
import functools

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from toy_models import assert_same, ragged, small_bert, state_of
from transformers import (
    AutoTokenizer,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
    DistilBertForMaskedLM,
)

from distilkit import checkpoint
from distilkit import distillation as pretraining
from distilkit.config import MLM_ONLY, LossConfig, TrainingConfig
from distilkit.data.packing import pack
from distilkit.distillation import LanguageModelLoss, check_fit, distil, losses_on, pretrain
from distilkit.masking import MaskedBlocks
from distilkit.run import fingerprint
from distilkit.student import student_from_teacher
from distilkit.training_loop import NonFiniteLoss

TOY = TrainingConfig(
    steps=4,
    batch_size=8,
    micro_batch_size=4,
    learning_rate=1e-3,
    warmup_fraction=0.25,
    seed=5,
    precision="fp32",
    checkpoint_interval=100,
)
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


@pytest.fixture
def blocks(texts, tokenizer) -> MaskedBlocks:
    return MaskedBlocks(pack(texts, tokenizer, 24)[:20], tokenizer, seed=0)


def test_a_further_loss_has_to_be_told_from_another(home, blocks):
    model = small_bert(2)
    for loss in (lambda *_: {}, functools.partial(lambda *_: {}, weight=1.0)):
        with pytest.raises(ValueError, match="frozen dataclass"):
            pretrain(model, blocks, TOY, name="toy", extra_loss=loss)
    assert not (home / "runs").exists()


def test_a_validation_that_is_not_finite_is_named(home, blocks):
    watch = {"perplexity": float("inf")}.copy
    with pytest.raises(NonFiniteLoss, match=r"validation after step 4 .*\(perplexity\)"):
        pretrain(small_bert(2), blocks, TOY, name="toy", validation=blocks, watch=lambda _: watch())


def test_a_model_that_cannot_be_written_is_said_and_nothing_lost(home, blocks, monkeypatch):
    def full(*_: object) -> None:
        raise SafetensorError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(BertForMaskedLM, "save_pretrained", full)
        with pytest.raises(OSError, match="the trained model could not be written"):
            pretrain(small_bert(2), blocks, TOY, name="toy")
    run = pretrain(small_bert(2), blocks, TOY, name="toy")
    assert (run.model / "model.safetensors").is_file()
    assert run.rows()[-1]["step"] == 4


def test_accelerates_environment_does_not_scale_the_gradients(home, blocks, monkeypatch):
    plain = pretrain(small_bert(2), blocks, TOY, name="plain")
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    scaled = pretrain(small_bert(2), blocks, TOY, name="scaled")
    norms = [[row["grad_norm"] for row in run.rows()] for run in (plain, scaled)]
    assert norms[0] == norms[1]


# --- losses_on ----------------------------------------------------------------------------------


def plainly(model, teacher, blocks, loss_config) -> dict[str, float]:
    """Block by block in float64, full logits; sums over tokens, divided once at the end."""
    model, teacher = copy.deepcopy(model).double().eval(), copy.deepcopy(teacher).double().eval()
    scale = loss_config.temperature
    soft = mlm = cosine = 0.0
    n_soft = n_masked = n_real = 0
    for i in range(len(blocks)):
        input_ids, masked, originals = blocks.mask(0, np.array([i]))
        real = int((originals != blocks.pad_id).sum())  # padding is at the end
        inputs = torch.from_numpy(input_ids[:, :real])  # no padding, so no mask is needed
        with torch.no_grad():
            s = model(inputs, output_hidden_states=True)
            t = teacher(inputs, output_hidden_states=True)
        for at in range(real):
            z, y = s.logits[0, at], t.logits[0, at]
            if not loss_config.restrict_kd_to_mask or masked[0, at]:
                p, q = (y / scale).softmax(-1), (z / scale).softmax(-1)
                soft += scale**2 * float((p * (p / q).log()).sum())
                n_soft += 1
            if masked[0, at]:
                target = originals[0, at] if loss_config.mlm_target == "original" else y.argmax()
                mlm -= float(z.softmax(-1)[target].log())
                n_masked += 1
            a, b = s.hidden_states[-1][0, at], t.hidden_states[-1][0, at]
            cosine += 1 - float(a @ b / (a.norm() * b.norm()))
            n_real += 1
    found = {"soft_target": soft / n_soft, "mlm": mlm / n_masked, "cosine": cosine / n_real}
    fields = {"soft_target": "kd_weight", "mlm": "mlm_weight", "cosine": "cosine_weight"}
    weights = {name: getattr(loss_config, fields[name]) for name in found}
    found = {name: value if weights[name] else 0.0 for name, value in found.items()}
    return {"loss": sum(weights[name] * found[name] for name in found), **found}


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 4, 11, 100])
@pytest.mark.parametrize(
    "loss_config",
    [
        LossConfig(),
        LossConfig(restrict_kd_to_mask=True, temperature=3.0),
        LossConfig(mlm_target="teacher", cosine_weight=0.0),
        MLM_ONLY,
    ],
    ids=["all", "masked", "teacher", "mlm"],
)
def test_losses_on_is_the_mean_over_all_tokens(tokenizer, loss_config, batch_size):
    """Unequal blocks, so a mean of the batches' means would be another number."""
    teacher, held_out = small_bert(2), ragged(tokenizer)
    student = student_from_teacher(small_bert(2, seed=7))
    found = losses_on(student, held_out, loss_config, teacher, batch_size)
    assert found == pytest.approx(plainly(student, teacher, held_out, loss_config), rel=1e-5)


def test_losses_on_has_no_dropout_and_restores_the_mode(tokenizer):
    teacher, held_out = small_bert(2), ragged(tokenizer)
    student = student_from_teacher(teacher).train()
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = losses_on(student, held_out, LossConfig(), teacher)
    assert losses_on(student, held_out, LossConfig(), teacher) == first
    assert student.training
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(p.grad is not None for p in student.parameters())


def test_losses_on_takes_the_teacher_as_it_answers_not_as_it_trains(tokenizer):
    teacher, held_out = small_bert(2), ragged(tokenizer)
    student = student_from_teacher(teacher)
    quiet = losses_on(student, held_out, LossConfig(), teacher.eval())
    assert losses_on(student, held_out, LossConfig(), teacher.train()) == quiet


@pytest.mark.slow
def test_a_student_with_all_layers_has_nothing_to_learn_from_its_teacher(home, tokenizer):
    teacher = small_bert(3, **NO_DROPOUT)
    student = student_from_teacher(teacher, range(3))
    found = losses_on(student, ragged(tokenizer), LossConfig(), teacher)
    assert found["soft_target"] == pytest.approx(0, abs=1e-5)
    assert found["cosine"] == pytest.approx(0, abs=1e-5)
    assert found["mlm"] > 1
    # and in training, at the first step
    run = distil(student, teacher, ragged(tokenizer), TOY, name="all")
    first = run.rows()[0]
    assert first["soft_target"] == pytest.approx(0, abs=1e-5)
    assert first["cosine"] == pytest.approx(0, abs=1e-5)
    assert first["loss"] == pytest.approx(2 * first["mlm"], rel=1e-5)
    half = student_from_teacher(teacher, [0])
    assert losses_on(half, ragged(tokenizer), LossConfig(), teacher)["soft_target"] > 0.01


# --- training -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_distil_overfits_two_blocks(home, texts, tokenizer):
    teacher = small_bert(2, **NO_DROPOUT)
    two = MaskedBlocks(pack(texts, tokenizer, 24)[:2], tokenizer, seed=0)
    training = dataclasses.replace(
        TOY, steps=80, batch_size=2, micro_batch_size=1, learning_rate=5e-3, betas=(0.9, 0.999)
    )
    loss_config = LossConfig(kd_weight=5.0, mlm_weight=0.0, cosine_weight=1.0)
    student = student_from_teacher(teacher, [1])
    run = distil(student, teacher, two, training, name="two", loss_config=loss_config)
    first = losses_on(student, two, loss_config, teacher)
    last = losses_on(DistilBertForMaskedLM.from_pretrained(run.model), two, loss_config, teacher)
    assert last["soft_target"] < first["soft_target"] / 10
    assert last["cosine"] < first["cosine"] / 10


@pytest.mark.slow
def test_masked_words_alone_are_learnt(home, texts, tokenizer):
    two = MaskedBlocks(pack(texts, tokenizer, 24)[:2], tokenizer, seed=0)
    training = dataclasses.replace(
        TOY, steps=100, batch_size=2, micro_batch_size=2, learning_rate=5e-3
    )
    model = small_bert(1, **NO_DROPOUT)
    run = pretrain(model, two, training, name="mlm")
    trained = BertForMaskedLM.from_pretrained(run.model)
    assert losses_on(model, two, MLM_ONLY)["mlm"] > 4
    assert losses_on(trained, two, MLM_ONLY)["mlm"] < 2
    rows = run.rows()
    assert {row["soft_target"] for row in rows} == {row["cosine"] for row in rows} == {0.0}


@pytest.mark.slow
def test_distil_leaves_its_arguments_as_they_were(home, blocks):
    teacher = small_bert(2)
    student = student_from_teacher(teacher)
    teacher.requires_grad_(True)
    before = state_of(teacher), state_of(student)
    data = blocks.blocks.copy(), blocks.weights.copy()
    run = distil(student, teacher, blocks, TOY, name="toy", validation=blocks)
    assert_same(state_of(teacher), before[0])
    assert_same(state_of(student), before[1])
    assert not teacher.training
    assert not student.training
    assert all(p.grad is None for m in (teacher, student) for p in m.parameters())
    assert all(p.requires_grad for m in (teacher, student) for p in m.parameters())
    assert (blocks.blocks == data[0]).all()
    assert (blocks.weights == data[1]).all()
    trained = load_file(run.model / "model.safetensors")
    same = [name for name, value in trained.items() if torch.equal(value, before[1][name])]
    assert same == []  # every tensor was trained


@pytest.mark.slow
def test_the_teacher_comes_back_in_its_own_mode(home, blocks, monkeypatch):
    teacher = small_bert(2).train()
    student, seen = student_from_teacher(teacher), []
    train = pretraining.train
    monkeypatch.setattr(
        pretraining,
        "train",
        lambda *args, **kw: seen.append(teacher.training) or train(*args, **kw),
    )
    distil(student, teacher, blocks, TOY, name="toy")
    assert seen == [False]
    assert teacher.training


@pytest.mark.slow
def test_what_a_finished_run_holds(home, blocks, tokenizer):
    teacher = small_bert(2)
    held_out = ragged(tokenizer)
    run = distil(
        student_from_teacher(teacher), teacher, blocks, TOY, name="toy", validation=held_out
    )
    assert run.finished
    result = run.result()
    assert result["kind"] == "pretrain"
    assert result["steps"] == 4
    assert result["tokens"] == (8 + 8 + 4 + 8) * 24  # 20 blocks an epoch
    trained = DistilBertForMaskedLM.from_pretrained(run.model).eval()
    plain = plainly(trained, teacher, held_out, LossConfig())
    assert {k: result[f"validation_{k}"] for k in plain} == pytest.approx(plain, rel=1e-5)
    assert len(run.metrics()) == 4
    assert len(run.metrics("validation")) == 1
    own = AutoTokenizer.from_pretrained(run.model)
    assert own("w3 w7")["input_ids"] == tokenizer("w3 w7")["input_ids"]
    assert run.config()["loss_config"]["temperature"] == 2.0
    assert run.config()["training"]["learning_rate"] == 1e-3
    endings = {path.suffix for path in run.path.rglob("*") if path.is_file()}
    assert endings <= {".json", ".jsonl", ".safetensors", ".txt", ".lock", ""}


@pytest.mark.slow
def test_a_finished_run_is_returned_without_training(home, blocks, monkeypatch):
    teacher = small_bert(2)
    student = student_from_teacher(teacher)
    run = distil(student, teacher, blocks, TOY, name="toy")
    before = {p: p.read_bytes() for p in run.path.rglob("*") if p.is_file()}

    def never(*_, **__):
        raise AssertionError("trained")

    monkeypatch.setattr(pretraining, "train", never)
    assert distil(student, teacher, blocks, TOY, name="toy") == run
    assert {p: p.read_bytes() for p in run.path.rglob("*") if p.is_file()} == before
    with pytest.raises(AssertionError, match="trained"):
        distil(student, teacher, blocks, TOY, name="other")


@pytest.mark.slow
@pytest.mark.parametrize(
    "what",
    ["student", "teacher", "text", "loss_config", "training", "dropout", "frozen", "validation"],
)
def test_another_question_is_not_answered_by_an_old_run(home, blocks, tokenizer, what):
    teacher = small_bert(2)
    student = student_from_teacher(teacher)
    distil(student, teacher, blocks, TOY, name="toy")
    training, loss_config, validation = TOY, LossConfig(), None
    if what == "student":
        student = student_from_teacher(teacher, [1])
    if what == "teacher":
        teacher = small_bert(2, seed=1)
    if what == "text":
        other = blocks.blocks.copy()
        other[3, 5] += 1 if other[3, 5] < 204 else -1
        blocks = MaskedBlocks(other, tokenizer, seed=0, weights=blocks.weights)
    if what == "loss_config":
        loss_config = LossConfig(temperature=3.0)
    if what == "training":
        training = dataclasses.replace(TOY, seed=6)
    if what == "dropout":  # the same weights, another model
        config = copy.deepcopy(student.config)
        config.dropout = 0.3
        other = DistilBertForMaskedLM(config)
        other.load_state_dict(student.state_dict())
        student = other
    if what == "frozen":
        student.base_model.requires_grad_(False)
    if what == "validation":
        validation = ragged(tokenizer)
    with pytest.raises(ValueError, match="another config"):
        distil(
            student,
            teacher,
            blocks,
            training,
            name="toy",
            loss_config=loss_config,
            validation=validation,
        )


def test_fingerprint_sees_one_bit():
    model = small_bert(1)
    first = fingerprint(model)
    assert fingerprint(small_bert(1)) == first
    assert first["class"] == "BertForMaskedLM"
    with torch.no_grad():
        weight = model.bert.encoder.layer[0].output.dense.weight
        weight[0, 0] = torch.nextafter(weight[0, 0], torch.tensor(9.0))
    assert fingerprint(model)["sha256"] != first["sha256"]


# --- the cosine term between other layers and other widths ---------------------------------------


def cosines(student, teacher, blocks, pairs, maps=None) -> float:
    """Mean over pairs and tokens of 1 - cos, in float64, from the models' own hidden states."""
    batch = blocks.batch(0, np.arange(len(blocks)))
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    with torch.no_grad():
        ours = student.base_model(**inputs, output_hidden_states=True).hidden_states
        theirs = teacher.base_model(**inputs, output_hidden_states=True).hidden_states
    terms = []
    for k, (i, j) in enumerate(pairs):
        a = ours[i].flatten(0, 1)[batch["rows"]].double()
        b = theirs[j].flatten(0, 1)[batch["rows"]].double()
        if maps is not None:
            a = a @ maps[k].double().T
        terms.append((1 - (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))).mean())
    return float(sum(terms) / len(terms))


@pytest.mark.parametrize("pairs", [((0, 0),), ((1, 2), (2, 4)), ((0, 0), (1, 2), (2, 4))])
def test_cosine_between_named_layers(tokenizer, pairs):
    teacher = small_bert(4)
    student = student_from_teacher(teacher)
    data = ragged(tokenizer)
    value = losses_on(student, data, LossConfig(cosine_layers=pairs), teacher)["cosine"]
    assert value == pytest.approx(cosines(student, teacher, data, pairs), abs=1e-6)
    if pairs == ((0, 0),):
        assert value == pytest.approx(0, abs=1e-6)  # the embeddings are copied


def test_default_is_the_last_of_both(tokenizer):
    teacher = small_bert(4)
    student, data = student_from_teacher(teacher), ragged(tokenizer)
    assert losses_on(student, data, LossConfig(), teacher) == losses_on(
        student, data, LossConfig(cosine_layers=((2, 4),)), teacher
    )


@pytest.mark.slow
def test_widths_differ_so_a_projection_is_learned_and_thrown_away(home, blocks, monkeypatch):
    teacher = small_bert(4, hidden_size=48)
    student = student_from_teacher(small_bert(2))
    loss_config = LossConfig(
        kd_weight=0, mlm_weight=0, cosine_weight=1, cosine_layers=((0, 0), (1, 4))
    )
    loss = LanguageModelLoss(loss_config, teacher)
    loss.add_projections(student, TOY.seed)
    maps = [m.weight.detach() for m in loss.projections]
    assert [m.shape for m in maps] == [(48, 32), (48, 32)]
    assert not torch.equal(*maps)
    expected = cosines(student, teacher, blocks, loss_config.cosine_layers, maps)
    batch = blocks.batch(0, np.arange(len(blocks)))
    with torch.no_grad():
        found = loss(student, batch, batch["counts"])["cosine"].item()
    assert found == pytest.approx(expected, abs=1e-6)

    saved_in_checkpoints = []
    real_save = checkpoint.save

    def spy(folder, step, tensors, state):
        saved_in_checkpoints.append({k: sorted(v) for k, v in tensors.items()})
        real_save(folder, step, tensors, state)

    monkeypatch.setattr(checkpoint, "save", spy)
    longer = dataclasses.replace(TOY, steps=60, learning_rate=3e-3, checkpoint_interval=60)
    run = distil(student, teacher, blocks, longer, name="wider", loss_config=loss_config)
    losses = [row["cosine"] for row in run.rows()]
    assert losses[-1] < 0.6 * losses[0]
    saved = load_file(run.model / "model.safetensors")
    assert not any("projection" in name for name in saved)
    learned = "loss.projections.1.weight"  # so an interrupted run goes on with its own maps
    assert learned in saved_in_checkpoints[-1]["model"]
    assert f"{learned}/exp_avg" in saved_in_checkpoints[-1]["optimizer"]
    trained = DistilBertForMaskedLM.from_pretrained(run.model)
    with pytest.raises(ValueError, match=r"hidden_size.*cosine_weight=0"):
        losses_on(trained, blocks, loss_config, teacher)


def test_no_projection_where_none_is_needed():
    student = student_from_teacher(small_bert(2))
    wider = small_bert(2, hidden_size=48)
    for loss_config, teacher in (
        (LossConfig(), small_bert(2)),
        (LossConfig(cosine_weight=0), wider),
    ):
        loss = LanguageModelLoss(loss_config, teacher)
        loss.add_projections(student, 0)
        assert not list(loss.parameters())


# --- what is refused before anything is written -------------------------------------------------


def refused(home, error, match, *arguments, **options) -> None:
    with pytest.raises(error, match=match):
        pretrain(*arguments, TOY, name="toy", **options)
    assert not (home / "runs").exists()


def test_no_teacher(home, blocks):
    student = student_from_teacher(small_bert(2))
    refused(home, ValueError, "needs a teacher", student, blocks, loss_config=LossConfig())
    only_argmax = LossConfig(kd_weight=0, cosine_weight=0, mlm_weight=1, mlm_target="teacher")
    refused(home, ValueError, "needs a teacher", student, blocks, loss_config=only_argmax)


def test_another_vocabulary(home, blocks):
    student, teacher = student_from_teacher(small_bert(2)), small_bert(2, vocab_size=300)
    options = {"loss_config": LossConfig(), "teacher": teacher}
    refused(home, ValueError, r"vocab_size \(300 and 205\)", student, blocks, **options)
    refused(
        home,
        ValueError,
        "205 entries, the .* 100",
        small_bert(1, vocab_size=100),
        blocks,
    )
    # a table may be padded; with a thousand unused rows it may be another model's
    check_fit(small_bert(1, vocab_size=256), None, MLM_ONLY, blocks)
    with pytest.warns(UserWarning, match="205 entries, the .* 1300"):
        check_fit(small_bert(1, vocab_size=1300), None, MLM_ONLY, blocks)


def test_blocks_without_masks(home, blocks):
    refused(home, TypeError, "give MaskedBlocks", small_bert(1), blocks.blocks)
    same = MaskedBlocks(torch.from_numpy(blocks.blocks), blocks.tokenizer, seed=0)
    assert same.identity() == blocks.identity()


@pytest.mark.slow
def test_training_needs_gradients_whatever_the_caller_has_set(home, blocks):
    teacher = small_bert(2)
    with torch.no_grad():
        run = distil(student_from_teacher(teacher), teacher, blocks, TOY, name="toy")
        assert not torch.is_grad_enabled()
    assert run.finished


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_in_half_precision(home, blocks, dtype):
    """As transformers loads a checkpoint that was saved so."""
    teacher = small_bert(2).to(dtype)
    student = student_from_teacher(teacher)
    options = {"loss_config": LossConfig(), "teacher": teacher}
    refused(home, ValueError, f"the model's weights are in {dtype}", student, blocks, **options)
    run = pretrain(student.float(), blocks, TOY, name="toy", **options)  # only the teacher is
    assert run.finished


def test_cosine_layers_beyond_the_top(home, blocks):
    student, teacher = student_from_teacher(small_bert(4)), small_bert(4)
    for pair, who in (((3, 4), "student has 2 layers"), ((2, 5), "teacher has 4 layers")):
        options = {"loss_config": LossConfig(cosine_layers=((0, 0), pair)), "teacher": teacher}
        refused(home, ValueError, who, student, blocks, **options)


def test_blocks_longer_than_the_model(home, texts, tokenizer):
    long = MaskedBlocks(pack(texts, tokenizer, 65), tokenizer, seed=0)
    refused(
        home, ValueError, "blocks of 65 tokens, but the BertForMaskedLM has 64", small_bert(1), long
    )


def test_held_out_blocks_longer_than_the_model(home, blocks, texts, tokenizer):
    """Otherwise it fails at the first validation: hours later."""
    long = MaskedBlocks(pack(texts, tokenizer, 65), tokenizer, seed=0)
    refused(home, ValueError, "positions", small_bert(1), blocks, validation=long)


def test_blocks_longer_than_the_teacher(home, texts, tokenizer):
    blocks = MaskedBlocks(pack(texts, tokenizer, 64), tokenizer, seed=0)
    student = student_from_teacher(small_bert(2))
    options = {"loss_config": LossConfig(), "teacher": small_bert(2, max_position_embeddings=32)}
    refused(home, ValueError, "positions", student, blocks, **options)


@pytest.mark.parametrize("cls", [BertModel, BertForSequenceClassification])
def test_a_model_without_an_mlm_head(home, blocks, cls):
    bert = small_bert(2)
    headless = cls(bert.config)
    refused(home, TypeError, "AutoModelForMaskedLM", headless, blocks)
    student = student_from_teacher(bert)
    options = {"loss_config": LossConfig(), "teacher": headless}
    refused(home, TypeError, "AutoModelForMaskedLM", student, blocks, **options)
