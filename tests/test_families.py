"""Every family of the table: the student's logits, its checkpoint, its training, its export."""

from __future__ import annotations

import pytest
import torch
import transformers
from toy_models import ragged, shake

from distilkit import distil
from distilkit.compress.onnx_export import export_onnx, onnx_logits, onnx_session
from distilkit.config import FinetuneLossConfig, LossConfig, TrainingConfig
from distilkit.data.task_loss import TaskLoss
from distilkit.data.tasks import Task
from distilkit.distillation import losses_on
from distilkit.families import ENCODER, FAMILIES, HEADS, inputs_of, mlm_head, positions
from distilkit.finetuning import classifier, fine_tuned_on
from distilkit.student import student_from_teacher

SHAPE = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64}
SHAPE |= {"num_hidden_layers": 4, "max_position_embeddings": 64, "vocab_size": 205}
SHAPE |= {"pad_token_id": 0, "num_labels": 3}
IDS = {"bos_token_id": 2, "cls_token_id": 2, "eos_token_id": 3, "sep_token_id": 3}
DEBERTA = {"relative_attention": True, "position_biased_input": False, "position_buckets": 8}
DEBERTA |= {"pos_att_type": ["p2c", "c2p"], "norm_rel_ebd": "layer_norm", "share_att_key": True}

# name -> (model_type, what its published checkpoints set in the config)
MODELS = {
    "bert": ("bert", {}),
    "bert-multilingual": ("bert", {"directionality": "bidi", "pooler_type": "first_token"}),
    "camembert": ("camembert", {"type_vocab_size": 1}),
    "deberta-v2": ("deberta-v2", DEBERTA | {"conv_kernel_size": 3}),
    "deberta-v3": ("deberta-v2", DEBERTA),
    "distilbert": ("distilbert", {}),
    "electra": ("electra", {"embedding_size": 16}),
    "ernie": ("ernie", {"type_vocab_size": 4, "use_task_id": True}),
    "modernbert": ("modernbert", IDS | {"local_attention": 8}),
    "mpnet": ("mpnet", {}),
    "roberta": ("roberta", {"type_vocab_size": 1}),
    "xlm-roberta": ("xlm-roberta", {"type_vocab_size": 1}),
}
WORDS = Task("tags", "Tags", ("words",), ("a", "b", "c"), "token_classification")
TEXTS = Task("topic", "Topic", ("text",), ("a", "b", "c"))

# transformers compiles parts of DeBERTa when it is imported
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
of_each = pytest.mark.parametrize("name", MODELS)


def model_of(name: str, head: str = "ForMaskedLM"):
    """A random model, every weight of which differs from its initial value."""
    kind, more = MODELS[name]
    config = transformers.AutoConfig.for_model(kind, **SHAPE | more)
    if head == "ForQuestionAnswering":
        config.num_labels = 2  # start and end
    torch.manual_seed(0)
    model = getattr(transformers, FAMILIES[kind].classes + head)(config).eval()
    shake(model)
    return model


def batch(length: int = 21) -> dict[str, torch.Tensor]:
    """Three texts, two of them padded."""
    ids = torch.randint(5, 205, (3, length), generator=torch.Generator().manual_seed(length))
    mask = torch.ones_like(ids)
    mask[1, 9:] = mask[2, 3:] = 0
    return {"input_ids": ids * mask, "attention_mask": mask, "token_type_ids": 0 * ids}


@torch.no_grad()
def logits_of(model) -> torch.Tensor:
    """Logits of the texts, or of their real tokens; an encoder's hidden states."""
    out = model(**inputs_of(model, batch()))
    logits = torch.stack([*out.values()], -1) if "start_logits" in out else out[0]
    return logits if logits.dim() == 2 else logits[batch()["attention_mask"].bool()]


def test_every_family_is_tested():
    assert {kind for kind, _ in MODELS.values()} == set(FAMILIES)


@pytest.mark.parametrize("head", [*HEADS, ENCODER])
@of_each
def test_all_layers_kept_give_the_teachers_logits(name, head):
    if name.startswith("bert") and head == "ForSequenceClassification":
        pytest.skip("a DistilBERT classifier has a new head; test_student.py compares the encoders")
    teacher = model_of(name, head)
    student = student_from_teacher(teacher, range(4))
    expected, found = logits_of(teacher), logits_of(student)
    assert expected.std() > 0.1
    assert (found - expected).abs().max() <= 1e-5 * max(1.0, float(expected.abs().max()))


@pytest.mark.parametrize("head", [*HEADS, ENCODER])
@of_each
@pytest.mark.slow
def test_a_student_of_fewer_layers_is_a_plain_checkpoint(name, head, tmp_path):
    teacher = model_of(name, head)
    student = student_from_teacher(teacher, (0, 2))
    assert student.config.num_hidden_layers == 2
    assert teacher.config.num_hidden_layers == 4
    assert len(student.base_model.get_submodule(FAMILIES[student.config.model_type].layers)) == 2
    student.save_pretrained(tmp_path)
    again, info = type(student).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info[keys] for keys in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert torch.equal(logits_of(again), logits_of(student))


@of_each
@pytest.mark.slow
def test_layers_are_the_teachers_in_its_order(name):
    """The reference: the teacher with the other layers cut out of its list."""
    teacher = model_of(name)
    student = student_from_teacher(teacher, (0, 1, 3))
    layers = teacher.base_model.get_submodule(FAMILIES[teacher.config.model_type].layers)
    del layers[2]
    torch.testing.assert_close(logits_of(student), logits_of(teacher), rtol=1e-5, atol=1e-5)


@of_each
@pytest.mark.slow
def test_three_steps_of_distillation_lower_the_loss(name, home, tokenizer):
    teacher, blocks = model_of(name), ragged(tokenizer, length=16)
    student = student_from_teacher(teacher)
    training = TrainingConfig(
        steps=3, batch_size=11, micro_batch_size=11, learning_rate=1e-3, warmup_fraction=0
    )
    loss_config = LossConfig(cosine_layers=((0, 0), (1, 2), (2, 4)))
    before = losses_on(student, blocks, loss_config, teacher)
    run = distil(student, teacher, blocks, training, name="three", loss_config=loss_config)
    trained = type(student).from_pretrained(run.model)
    after = losses_on(trained, blocks, loss_config, teacher)
    assert after["loss"] < before["loss"]
    assert after["soft_target"] < before["soft_target"]


@pytest.mark.parametrize("task", [TEXTS, WORDS], ids=["texts", "words"])
@of_each
@pytest.mark.slow
def test_three_steps_towards_a_classifier_lower_the_loss(name, task):
    head = "ForTokenClassification" if task.on_words else "ForSequenceClassification"
    teacher = model_of(name, head)
    student = student_from_teacher(teacher)
    rows = batch()["attention_mask"].flatten().nonzero()[:, 0] if task.on_words else torch.arange(3)
    given = batch() | {"rows": rows, "labels": rows % 3}
    counts = {"labels": len(rows), "targets": len(rows)}
    loss = TaskLoss(task, teacher, FinetuneLossConfig())
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-3)
    values = []
    for _ in range(4):
        value = loss(student, given, counts)["loss"]
        values.append(float(value.detach()))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    assert values[-1] < values[0]


# what tests/compress/test_onnx_export.py exports, and what differs in nothing but size
NOT_EXPORTED = {"bert", "bert-multilingual", "deberta-v3", "distilbert", "roberta"}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(MODELS) - NOT_EXPORTED))
def test_the_onnx_file_of_a_student_agrees(name, tmp_path):
    layers = (0, 1) if name == "modernbert" else (0,)  # both kinds of its attention
    student = student_from_teacher(model_of(name, "ForSequenceClassification"), layers)
    file = export_onnx(student, tmp_path / "student.onnx")
    found = torch.from_numpy(onnx_logits(onnx_session(file), batch()))
    torch.testing.assert_close(found, logits_of(student), rtol=0, atol=1e-4)


@pytest.mark.slow
def test_the_onnx_file_of_an_encoder_leaves_out_its_pooler(tmp_path):
    student = student_from_teacher(model_of("mpnet", ENCODER), (0,))
    session = onnx_session(export_onnx(student, tmp_path / "student.onnx"))
    assert [node.name for node in session.get_outputs()] == ["last_hidden_state"]
    found = torch.from_numpy(onnx_logits(session, batch()))[batch()["attention_mask"].bool()]
    torch.testing.assert_close(found, logits_of(student), rtol=0, atol=1e-4)
    weights = sum(w.numel() for name, w in student.named_parameters() if "pooler" not in name)
    assert (tmp_path / "student.onnx").stat().st_size < 4 * weights + 2**16


@of_each
@torch.no_grad()
def test_the_mlm_head_gives_the_models_own_logits(name):
    model = model_of(name)
    head, inputs = mlm_head(model), inputs_of(model, batch())
    found = head.decoder(head.transform(model.base_model(**inputs).last_hidden_state))
    assert torch.equal(found, model(**inputs).logits)
    assert head.decoder.weight is model.get_input_embeddings().weight


@of_each
@torch.no_grad()
def test_positions_are_what_a_model_can_read(name):
    model = model_of(name)
    ids = 5 + torch.arange(positions(model))[None]
    model(input_ids=ids, attention_mask=torch.ones_like(ids))


def test_modernberts_layer_types_move_with_the_layers():
    teacher = model_of("modernbert")
    types = teacher.config.layer_types
    assert types == ["full_attention", *["sliding_attention"] * 2, "full_attention"]
    assert student_from_teacher(teacher).config.layer_types == [types[0], types[3]]
    assert teacher.config.layer_types is types
    assert len(types) == 4
    with pytest.raises(ValueError, match="begin with 0"):
        student_from_teacher(teacher, (1, 3))


SMALL = {"vocab_size": 50, "hidden_size": 8, "num_attention_heads": 1, "num_hidden_layers": 1}
OTHERS = {
    "AlbertForMaskedLM": SMALL | {"embedding_size": 8, "intermediate_size": 8},
    "GPT2LMHeadModel": {"vocab_size": 50, "n_embd": 8, "n_layer": 1, "n_head": 1},
    "T5ForConditionalGeneration": {"vocab_size": 50, "d_model": 8, "d_ff": 8, "num_layers": 1},
    "ElectraForPreTraining": SMALL | {"embedding_size": 8, "intermediate_size": 8},
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_not_in_the_table_is_refused_with_the_list(name):
    cls = getattr(transformers, name)
    model = cls(cls.config_class(**OTHERS[name]))
    for refused in (student_from_teacher, mlm_head):
        with pytest.raises(TypeError, match=rf"{name}.*{', '.join(FAMILIES)}"):
            refused(model)


# Fine-tuning of an encoder without a pooler


@pytest.mark.parametrize("name", ["albert", *MODELS])
@pytest.mark.slow
def test_an_encoder_without_a_pooler_can_be_fine_tuned(name, tmp_path):
    if name == "albert":
        shape = SHAPE | {"embedding_size": 16}
        encoder = transformers.AlbertForMaskedLM(transformers.AlbertConfig(**shape)).albert
    else:
        encoder = model_of(name).base_model
    encoder.save_pretrained(tmp_path / "encoder")
    one, again, other = (classifier(tmp_path / "encoder", TEXTS, seed) for seed in (1, 1, 2))
    body = encoder.state_dict()
    for key, value in one.base_model.state_dict().items():
        assert key not in body or torch.equal(value, body[key])
    assert torch.equal(logits_of(one), logits_of(again))
    assert not torch.equal(logits_of(one), logits_of(other))

    given = batch() | {"labels": torch.arange(3)}
    optimizer = torch.optim.AdamW(one.parameters(), lr=1e-3)
    values = []
    for _ in range(4):
        value = TaskLoss(TEXTS)(one.train(False), given, {"labels": 3})["loss"]
        values.append(float(value.detach()))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    assert values[-1] < values[0]
    one.save_pretrained(tmp_path / "tuned")
    assert torch.equal(logits_of(fine_tuned_on(tmp_path / "tuned", TEXTS)), logits_of(one))
