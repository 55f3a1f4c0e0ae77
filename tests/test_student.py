"""A student that keeps every layer computes what its teacher computes; the map; the checkpoint."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch
from toy_models import shake, small_bert
from transformers import (
    AlbertConfig,
    AlbertModel,
    BertConfig,
    BertForMaskedLM,
    BertForPreTraining,
    BertForSequenceClassification,
    BertForTokenClassification,
    DistilBertForMaskedLM,
    DistilBertForSequenceClassification,
    DistilBertForTokenClassification,
    RobertaConfig,
    RobertaForMaskedLM,
    RobertaForSequenceClassification,
    RobertaForTokenClassification,
    pipeline,
)

from distilkit.families import positions
from distilkit.student import (
    DISTILBERT_LAYERS,
    check_layers,
    default_layers,
    random_student_like,
    student_from_teacher,
    student_state_dict,
)

# (teacher's name, student's name), written down here a second time on purpose
LAYER_NAMES = [
    ("attention.self.query.weight", "attention.q_lin.weight"),
    ("attention.self.key.weight", "attention.k_lin.weight"),
    ("attention.self.value.bias", "attention.v_lin.bias"),
    ("attention.output.dense.weight", "attention.out_lin.weight"),
    ("attention.output.LayerNorm.weight", "sa_layer_norm.weight"),
    ("attention.output.LayerNorm.bias", "sa_layer_norm.bias"),
    ("intermediate.dense.weight", "ffn.lin1.weight"),
    ("intermediate.dense.bias", "ffn.lin1.bias"),
    ("output.dense.weight", "ffn.lin2.weight"),
    ("output.LayerNorm.weight", "output_layer_norm.weight"),
]
OTHER_NAMES = [
    ("bert.embeddings.word_embeddings.weight", "distilbert.embeddings.word_embeddings.weight"),
    ("bert.embeddings.LayerNorm.weight", "distilbert.embeddings.LayerNorm.weight"),
    ("bert.embeddings.LayerNorm.bias", "distilbert.embeddings.LayerNorm.bias"),
    ("cls.predictions.transform.dense.weight", "vocab_transform.weight"),
    ("cls.predictions.transform.dense.bias", "vocab_transform.bias"),
    ("cls.predictions.transform.LayerNorm.weight", "vocab_layer_norm.weight"),
    ("cls.predictions.transform.LayerNorm.bias", "vocab_layer_norm.bias"),
    ("cls.predictions.bias", "vocab_projector.bias"),
]


def padded_batch(lengths, vocab_size=205, seed=0):
    """Random ids, each row as long as it says, filled up with [PAD] (0)."""
    random = np.random.default_rng(seed)
    ids = np.zeros((len(lengths), max(lengths)), dtype=np.int64)
    for row, length in enumerate(lengths):
        ids[row, :length] = random.integers(1, vocab_size, length)
    return torch.from_numpy(ids), torch.from_numpy((ids > 0).astype(np.int64))


def snapshot(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def small_classifier(labels=3, seed=0, kind=BertForSequenceClassification, **more):
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=205,
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        num_labels=labels,
        **more,
    )
    model = kind(config).eval()
    shake(model)
    return model


# Equality with the teacher


@pytest.mark.parametrize(
    ("depth", "width", "heads", "inner", "activation"),
    [
        (1, 8, 1, 16, "gelu"),
        (2, 64, 8, 32, "relu"),
        (4, 32, 4, 64, "gelu"),
        (12, 16, 2, 48, "gelu_new"),
    ],
)
@pytest.mark.parametrize("lengths", [(1,), (7, 7), (64, 3, 31, 1)])
@torch.no_grad()
def test_all_layers_kept_give_the_teachers_logits(depth, width, heads, inner, activation, lengths):
    teacher = small_bert(
        depth,
        hidden_size=width,
        num_attention_heads=heads,
        intermediate_size=inner,
        hidden_act=activation,
    )
    student = student_from_teacher(teacher, range(depth))
    ids, mask = padded_batch(lengths, seed=depth)
    theirs = teacher(ids, attention_mask=mask).logits[mask.bool()]
    ours = student(ids, attention_mask=mask).logits[mask.bool()]
    assert theirs.std() > 0.1  # not a comparison of zeros
    assert (ours - theirs).abs().max() <= 1e-5 * max(1.0, float(theirs.abs().max()))


@torch.no_grad()
def test_fewer_layers_are_those_layers_of_the_teacher():
    """The teacher with the other layers cut out of its list is the reference."""
    teacher = small_bert(6)
    student = student_from_teacher(teacher, (0, 2, 5))
    teacher.bert.encoder.layer = torch.nn.ModuleList(
        [teacher.bert.encoder.layer[i] for i in (0, 2, 5)]
    )
    ids, mask = padded_batch((20, 9))
    theirs = teacher(ids, attention_mask=mask).logits[mask.bool()]
    torch.testing.assert_close(
        student(ids, attention_mask=mask).logits[mask.bool()], theirs, rtol=1e-5, atol=1e-5
    )


@torch.no_grad()
def test_the_embedding_output_is_the_teachers_token_type_included():
    teacher = small_bert(2)
    student = student_from_teacher(teacher)
    ids, _ = padded_batch((64, 10))
    theirs = teacher.bert.embeddings(ids)
    ours = student.distilbert.embeddings(ids)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    types = teacher.bert.embeddings.token_type_embeddings.weight
    assert types[0].abs().max() > 0.05  # else this test shows nothing
    positions = teacher.bert.embeddings.position_embeddings.weight.numpy()
    np.testing.assert_allclose(
        student.distilbert.embeddings.position_embeddings.weight.numpy(),
        positions + types[0].numpy()[None],
        atol=1e-7,
    )


def test_an_untied_teacher_is_copied_as_it_is():
    teacher = small_bert(2, tie_word_embeddings=False)
    predictions, words = teacher.cls.predictions, teacher.bert.embeddings.word_embeddings
    assert not torch.equal(predictions.decoder.weight, words.weight)
    student = student_from_teacher(teacher, range(2))
    assert torch.equal(student.vocab_projector.weight, predictions.decoder.weight)
    ids, _ = padded_batch((12, 12))
    with torch.no_grad():
        torch.testing.assert_close(student(ids).logits, teacher(ids).logits, rtol=1e-5, atol=1e-5)


# What is copied


@pytest.mark.parametrize(
    ("depth", "layers", "expected"),
    [
        (12, None, (0, 2, 4, 7, 9, 11)),
        (12, (0, 2, 4, 7, 9, 11), (0, 2, 4, 7, 9, 11)),
        (12, (3,), (3,)),
        (4, [1, 2], (1, 2)),
        (4, range(4), (0, 1, 2, 3)),
        (4, np.array([0, 3]), (0, 3)),
    ],
)
def test_values_are_copied_by_the_layer_map(depth, layers, expected):
    teacher = small_bert(depth, hidden_size=16, num_attention_heads=2, intermediate_size=24)
    theirs = teacher.state_dict()
    student = student_from_teacher(teacher, layers)
    ours = student.state_dict()
    assert student.config.n_layers == len(expected)
    for own, source in enumerate(expected):
        for their_name, our_name in LAYER_NAMES:
            value = ours[f"distilbert.transformer.layer.{own}.{our_name}"]
            assert torch.equal(value, theirs[f"bert.encoder.layer.{source}.{their_name}"])
            for other in set(range(depth)) - {source}:  # each layer has values of its own
                assert not torch.equal(value, theirs[f"bert.encoder.layer.{other}.{their_name}"])
    for their_name, our_name in OTHER_NAMES:
        assert torch.equal(ours[our_name], theirs[their_name])


def test_every_weight_of_a_masked_language_model_comes_from_the_teacher():
    """Nothing of the student's own initialisation is left, whatever the generator gives."""
    teacher = small_bert(4)
    torch.manual_seed(1)
    one = student_from_teacher(teacher).state_dict()
    torch.manual_seed(2)
    two = student_from_teacher(teacher).state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_weights_are_copied_not_shared():
    teacher = small_bert(4)
    student = student_from_teacher(teacher)
    theirs = {p.untyped_storage().data_ptr() for p in teacher.state_dict().values()}
    ours = {p.untyped_storage().data_ptr() for p in student.state_dict().values()}
    assert not theirs & ours
    copies = student_state_dict(teacher.state_dict(), (0, 2)).values()
    assert not theirs & {value.untyped_storage().data_ptr() for value in copies}
    before = snapshot(teacher)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.fill_(7.0)
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


@pytest.mark.parametrize("training", [True, False])
def test_the_teacher_stays_as_it_was_and_the_student_is_in_eval_mode(training):
    teacher = small_bert(4).train(training)
    teacher.bert.embeddings.requires_grad_(False)
    trainable = {name: p.requires_grad for name, p in teacher.named_parameters()}
    before, config = snapshot(teacher), teacher.config.to_dict()
    student = student_from_teacher(teacher)
    after = teacher.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert {name: p.requires_grad for name, p in teacher.named_parameters()} == trainable
    assert teacher.config.to_dict() == config
    assert all(module.training is training for module in teacher.modules())
    assert not any(module.training for module in student.modules())


def test_every_parameter_of_the_student_is_trainable_positions_too():
    teacher = small_bert(2).requires_grad_(False)
    student = student_from_teacher(teacher)
    assert all(p.requires_grad for p in student.parameters())
    ids, mask = padded_batch((9, 5))
    student(ids, attention_mask=mask).logits.square().mean().backward()
    positions = student.distilbert.embeddings.position_embeddings.weight.grad
    assert (positions[:9].abs().amax(1) > 0).all()
    assert (positions[9:] == 0).all()


def test_the_head_is_tied_and_a_step_moves_both_ends():
    student = student_from_teacher(small_bert(2))
    words = student.distilbert.embeddings.word_embeddings.weight
    assert student.vocab_projector.weight is words
    with torch.no_grad():
        student.vocab_projector.weight.add_(1.0)
    assert torch.equal(student.get_input_embeddings().weight, student.vocab_projector.weight)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_the_students_dtype_is_the_teachers(dtype):
    teacher = small_bert(2).to(dtype)
    student = student_from_teacher(teacher, range(2))
    assert {p.dtype for p in student.parameters()} == {dtype}
    assert torch.equal(
        student.vocab_transform.weight, teacher.cls.predictions.transform.dense.weight
    )


@torch.no_grad()
def test_a_float64_teacher_is_copied_to_all_its_digits():
    teacher = small_bert(2).double()
    shake(teacher)  # digits that float32 does not hold
    student = student_from_teacher(teacher, range(2))
    ids, _ = padded_batch((12, 12))
    torch.testing.assert_close(student(ids).logits, teacher(ids).logits, rtol=1e-12, atol=1e-12)


def test_sizes_of_bert_base_and_distilbert():
    """Published: 110 M and 66 M. On the meta device, so nothing is allocated."""
    with torch.device("meta"):
        teacher = BertForMaskedLM(BertConfig())
        student = student_from_teacher(teacher)

    def unique(model):
        return sum({id(p): p.numel() for p in model.parameters()}.values())

    assert unique(teacher) == 109_514_298
    assert unique(student) == 66_985_530
    # by hand: words, positions, norm; six layers; transform, norm, bias
    h, v, f = 768, 30_522, 3072
    layer = 4 * (h * h + h) + (h * f + f) + (f * h + h) + 4 * h
    assert unique(student) == v * h + 512 * h + 2 * h + 6 * layer + (h * h + h) + 2 * h + v


def test_the_config_says_what_the_teacher_says():
    teacher = small_bert(
        2,
        hidden_dropout_prob=0.25,
        attention_probs_dropout_prob=0.15,
        initializer_range=0.5,
        pad_token_id=3,
        hidden_act="relu",
    )
    c = student_from_teacher(teacher).config
    assert c.sinusoidal_pos_embds is False
    assert (c.dim, c.hidden_dim, c.n_heads, c.n_layers) == (32, 64, 4, 1)
    assert (c.vocab_size, c.max_position_embeddings, c.pad_token_id) == (205, 64, 3)
    assert (c.dropout, c.attention_dropout, c.initializer_range) == (0.25, 0.15, 0.5)
    assert c.activation == "relu"


# The layer map


def test_the_authors_map():
    assert default_layers(12) == DISTILBERT_LAYERS == (0, 2, 4, 7, 9, 11)
    assert default_layers(12, 6) == (0, 2, 4, 7, 9, 11)
    assert default_layers(6) == (0, 2, 5)
    assert default_layers(1) == (0,)
    assert default_layers(3) == (0,)
    assert len(default_layers(5)) == 2


@pytest.mark.parametrize("n", range(1, 25))
def test_default_layers_are_exact_fractions_rounded_half_down(n):
    for k in range(1, n + 1):
        layers = default_layers(n, k)
        assert len(layers) == k
        assert all(type(i) is int for i in layers)
        assert all(a < b for a, b in pairwise(layers))
        assert layers[0] == 0
        if k > 1:
            assert layers[-1] == n - 1
            exact = [Fraction(i * (n - 1), k - 1) for i in range(k)]
            assert layers == tuple(math.ceil(x - Fraction(1, 2)) for x in exact)
        assert check_layers(layers, n) == layers


@pytest.mark.parametrize(("n", "k"), [(4, 0), (4, 5), (4, -1), (0, None), (0, 0)])
def test_default_layers_refuses_what_cannot_be(n, k):
    with pytest.raises(ValueError, match="student_layers"):
        default_layers(n, k)


# The checkpoint


def test_a_saved_student_is_a_plain_distilbert_checkpoint(tmp_path):
    student = student_from_teacher(small_bert(4))
    ids, mask = padded_batch((30, 11))
    with torch.no_grad():
        before = student(ids, attention_mask=mask).logits
    student.save_pretrained(tmp_path)
    loaded, info = DistilBertForMaskedLM.from_pretrained(tmp_path, output_loading_info=True)
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        assert not info[problem], problem
    assert type(loaded) is DistilBertForMaskedLM
    assert loaded.vocab_projector.weight is loaded.distilbert.embeddings.word_embeddings.weight
    assert loaded.distilbert.embeddings.position_embeddings.weight.requires_grad
    with torch.no_grad():
        assert torch.equal(loaded(ids, attention_mask=mask).logits, before)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["sinusoidal_pos_embds"] is False
    assert saved["architectures"] == ["DistilBertForMaskedLM"]
    # and the tie holds while it is trained
    loaded(ids, attention_mask=mask).logits.square().mean().backward()
    with torch.no_grad():
        words = loaded.get_input_embeddings().weight
        words -= words.grad
    assert torch.equal(loaded.vocab_projector.weight, words)


def test_fill_mask_works_with_the_student(tokenizer, tmp_path):
    student = student_from_teacher(small_bert(4))
    student.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    text = "w3 w17 [MASK] w5 w120"
    found = pipeline("fill-mask", model=str(tmp_path), tokenizer=str(tmp_path), device="cpu")(
        text, top_k=3
    )
    ids = torch.tensor([[2, 5 + 3, 5 + 17, 4, 5 + 5, 5 + 120, 3]])  # [CLS] ... [MASK] ... [SEP]
    with torch.no_grad():
        scores = torch.softmax(student(ids).logits[0, 3].double(), -1)
    top = scores.topk(3)
    assert [one["token"] for one in found] == top.indices.tolist()
    np.testing.assert_allclose([one["score"] for one in found], top.values.numpy(), rtol=1e-5)


# Classifiers


@torch.no_grad()
def test_a_classifiers_encoder_is_the_teachers_and_has_no_pooler():
    teacher = small_classifier()
    student = student_from_teacher(teacher, range(4))
    assert type(student) is DistilBertForSequenceClassification
    assert not any("pooler" in name for name in student.state_dict())
    ids, mask = padded_batch((40, 6, 17))
    theirs = teacher.bert(ids, attention_mask=mask).last_hidden_state[mask.bool()]
    ours = student.distilbert(ids, attention_mask=mask).last_hidden_state[mask.bool()]
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_labels_and_problem_type_are_carried():
    labels = {0: "entailment", 1: "neutral", 2: "contradiction"}
    teacher = small_classifier(
        id2label=labels,
        label2id={v: k for k, v in labels.items()},
        problem_type="single_label_classification",
    )
    student = student_from_teacher(teacher)
    assert student.config.id2label == labels
    assert student.config.label2id == {v: k for k, v in labels.items()}
    assert student.config.num_labels == 3
    assert student.config.problem_type == "single_label_classification"
    assert student(torch.tensor([[2, 7, 3]])).logits.shape == (1, 3)
    student.config.id2label[0] = "changed"
    assert teacher.config.id2label[0] == "entailment"

    regression = student_from_teacher(small_classifier(1, problem_type="regression"))
    assert regression.config.num_labels == 1
    assert regression.config.problem_type == "regression"


def test_a_classifiers_head_is_new_and_follows_torch_manual_seed():
    teacher = small_classifier()
    heads = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        state = student_from_teacher(teacher).state_dict()
        heads.append(state["pre_classifier.weight"])
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])
    # initialised as a DistilBERT head: normal with the config's range, not the teacher's pooler
    assert not torch.equal(heads[0], teacher.bert.pooler.dense.weight)
    assert 0.5 * 0.02 < heads[0].std() < 1.5 * 0.02


@torch.no_grad()
def test_a_token_classifiers_head_is_copied_and_gives_the_teachers_logits():
    names = {0: "O", 1: "B-X", 2: "I-X"}
    teacher = small_classifier(kind=BertForTokenClassification, id2label=names)
    student = student_from_teacher(teacher, range(4))
    assert type(student) is DistilBertForTokenClassification
    assert student.config.id2label == names
    ids, mask = padded_batch((7, 20, 1))
    wanted = teacher(ids, attention_mask=mask).logits[mask.bool()]
    found = student(ids, attention_mask=mask).logits[mask.bool()]
    assert wanted.std() > 0.1
    assert (found - wanted).abs().max() <= 1e-5 * max(1.0, float(wanted.abs().max()))
    half = student_from_teacher(teacher)
    for part in ("weight", "bias"):
        wanted = getattr(teacher.classifier, part)
        assert torch.equal(getattr(half.classifier, part), wanted)
        assert getattr(half.classifier, part).data_ptr() != wanted.data_ptr()


def test_a_saved_classifier_is_a_plain_checkpoint(tmp_path):
    student = student_from_teacher(small_classifier())
    student.save_pretrained(tmp_path)
    loaded, info = DistilBertForSequenceClassification.from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert not any(info[k] for k in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    ids, mask = padded_batch((12, 4))
    with torch.no_grad():
        ours = student(ids, attention_mask=mask).logits
        assert torch.equal(loaded(ids, attention_mask=mask).logits, ours)


# The control


def test_the_random_control_has_the_shape_and_none_of_the_weights():
    student = student_from_teacher(small_bert(4)).train()
    before = snapshot(student)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one, two, other = (random_student_like(student, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(3), expected)  # the global generator is where it was
    assert type(one) is type(student)
    shapes = {name: value.shape for name, value in student.state_dict().items()}
    assert {name: value.shape for name, value in one.state_dict().items()} == shapes
    name = "distilbert.transformer.layer.0.ffn.lin1.weight"
    states = [m.state_dict()[name] for m in (one, two, other, student)]
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])
    assert not torch.equal(states[0], states[3])
    assert one.vocab_projector.weight is one.distilbert.embeddings.word_embeddings.weight
    assert all(torch.equal(value, before[k]) for k, value in student.state_dict().items())


# Errors

SHAPE = {"vocab_size": 20, "num_hidden_layers": 1, "num_attention_heads": 1}
WIDTH = {"hidden_size": 8, "intermediate_size": 8}


@pytest.mark.parametrize(
    "make",
    [
        lambda: AlbertModel(AlbertConfig(embedding_size=8, **WIDTH, **SHAPE)),
        lambda: BertForPreTraining(BertConfig(**WIDTH, **SHAPE)),
        lambda: None,
        lambda: "bert-base-uncased",
    ],
    ids=["AlbertModel", "BertForPreTraining", "0", "str"],
)
def test_a_teacher_of_another_class_is_refused_by_name(make):
    teacher = make()
    with pytest.raises(TypeError, match=rf"{type(teacher).__name__}.*ForMaskedLM.*distilbert"):
        student_from_teacher(teacher)


@pytest.mark.parametrize(
    "layers",
    [
        (),
        [],
        (0, 4),
        (4,),
        (-1,),
        (-1, 0),
        (1, 1),
        (0, 2, 2),
        (2, 1),
        (3, 2, 1, 0),
        (0.0, 1.0),
        (0, 1.5),
        (True, 2),
        (False,),
        ("0", "1"),
        (None,),
        "02",
    ],
)
def test_a_wrong_layer_map_is_refused(layers):
    with pytest.raises(ValueError, match="layers = "):
        student_from_teacher(small_bert(4), layers)


def test_an_error_about_layers_says_what_would_be_right():
    with pytest.raises(ValueError, match=r"\[4, 9\] not in the teacher.*numbered 0 to 3"):
        check_layers((0, 4, 9), 4)


def test_a_teacher_with_another_norm_epsilon_is_refused():
    with pytest.raises(ValueError, match=r"layer_norm_eps is 1e-05"):
        student_from_teacher(small_bert(2, layer_norm_eps=1e-5))


def test_a_decoder_is_refused():
    with pytest.raises(ValueError, match="decoder"):
        student_from_teacher(small_bert(2, is_decoder=True))


def test_relative_positions_are_refused():
    teacher = small_bert(2)
    teacher.config.position_embedding_type = "relative_key"
    with pytest.raises(ValueError, match="position_embedding_type is 'relative_key'"):
        student_from_teacher(teacher)


# RoBERTa


def small_roberta(kind, layers=4, **more):
    torch.manual_seed(3)
    shape = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64}
    shape |= {"max_position_embeddings": 66, "type_vocab_size": 1, "pad_token_id": 1}
    config = RobertaConfig(vocab_size=205, num_hidden_layers=layers, **shape, **more)
    model = kind(config).eval()
    shake(model)
    return model


@pytest.mark.parametrize(
    "kind", [RobertaForMaskedLM, RobertaForSequenceClassification, RobertaForTokenClassification]
)
@torch.no_grad()
def test_a_roberta_that_keeps_all_layers_computes_what_it_computed(kind):
    teacher = small_roberta(kind)
    before = snapshot(teacher)
    student = student_from_teacher(teacher, range(4))
    ids = torch.randint(5, 205, (3, 20), generator=torch.Generator().manual_seed(0))
    assert torch.equal(student(ids).logits, teacher(ids).logits)
    student.roberta.embeddings.word_embeddings.weight.zero_()
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


def test_a_robertas_student_is_a_roberta_of_copied_layers(tmp_path):
    teacher = small_roberta(RobertaForMaskedLM, layers=6)
    student = student_from_teacher(teacher)
    assert type(student) is RobertaForMaskedLM
    assert student.config.num_hidden_layers == 3
    assert teacher.config.num_hidden_layers == 6
    theirs, ours = teacher.state_dict(), student.state_dict()
    for mine, other in enumerate(default_layers(6)):
        prefix = "roberta.encoder.layer"
        parts = [n.split(".", 4)[4] for n in ours if n.startswith(f"{prefix}.{mine}.")]
        assert len(parts) == 16
        for part in parts:
            assert torch.equal(ours[f"{prefix}.{mine}.{part}"], theirs[f"{prefix}.{other}.{part}"])
    rest = [name for name in ours if ".layer." not in name]
    assert all(torch.equal(ours[name], theirs[name]) for name in rest)
    assert student.lm_head.decoder.weight is student.roberta.embeddings.word_embeddings.weight
    student.save_pretrained(tmp_path)
    reloaded, info = RobertaForMaskedLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert torch.equal(reloaded.lm_head.bias, student.lm_head.bias)


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert"])
def test_positions_are_what_a_model_can_read(kind):
    """RoBERTa's table has more rows than it has tokens."""
    if kind == "roberta":
        model = small_roberta(RobertaForMaskedLM)
        assert model.config.max_position_embeddings == 66
    else:
        model = small_bert(2) if kind == "bert" else student_from_teacher(small_bert(2))
    assert positions(model) == 64
    ids = torch.arange(65)[None] + 5
    with torch.no_grad():
        model(input_ids=ids[:, :64])
        with pytest.raises((IndexError, RuntimeError)):
            model(input_ids=ids)
