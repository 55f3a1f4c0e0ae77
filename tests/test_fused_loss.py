"""The fused loss against plain float64 autograd over whole models; chunks; memory; errors."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from toy_models import shake, small_bert
from transformers import (
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertForMaskedLM,
    DistilBertForSequenceClassification,
    RobertaConfig,
    RobertaForMaskedLM,
)

from distilkit import fused_loss
from distilkit.config import MLM_ONLY, LossConfig
from distilkit.families import Head, mlm_head
from distilkit.fused_loss import fused_triple_loss
from distilkit.student import student_from_teacher

V = 211  # a prime, found in no other dimension here
H = 32

OBJECTIVES = {
    "paper": LossConfig(),
    "temperature": LossConfig(temperature=0.5, kd_weight=1.0),
    "no soft target": LossConfig(kd_weight=0),
    "no mlm": LossConfig(mlm_weight=0),
    "no cosine": LossConfig(cosine_weight=0),
    "soft target alone": LossConfig(mlm_weight=0, cosine_weight=0),
    "mlm alone": MLM_ONLY,
    "cosine alone": LossConfig(kd_weight=0, mlm_weight=0),
    "masked only": LossConfig(restrict_kd_to_mask=True, temperature=3),
    "masked only, no mlm": LossConfig(restrict_kd_to_mask=True, mlm_weight=0),
    "teacher's arg-max": LossConfig(mlm_target="teacher"),
    "arg-max alone": LossConfig(mlm_target="teacher", kd_weight=0, cosine_weight=0),
    "arg-max, masked only": LossConfig(mlm_target="teacher", restrict_kd_to_mask=True),
}


@pytest.fixture(scope="module")
def pair():
    teacher = small_bert(2, vocab_size=V)
    student = student_from_teacher(teacher)
    torch.manual_seed(7)
    shake(student)
    return student.train(), teacher  # no dropout: see below


@pytest.fixture(scope="module", autouse=True)
def no_dropout(pair):
    for module in pair[0].modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, "dropout") and isinstance(module.dropout, float):
            module.dropout = 0.0


def ragged(seed, sequences=5, longest=17, share=0.25):
    """Fresh sequences of random lengths: inputs, flat rows (masked ones first), targets."""
    random = np.random.default_rng(seed)
    lengths = random.integers(1, longest + 1, sequences)
    ids = np.zeros((sequences, longest), dtype=np.int64)
    original, masked = ids.copy(), np.zeros(ids.shape, dtype=bool)
    for i, n in enumerate(lengths):
        original[i, :n] = random.integers(5, V, n)
        masked[i, :n] = random.random(n) < share
    ids[:] = np.where(masked, 4, original)
    real = original > 0
    rows = np.concatenate([np.flatnonzero(masked), np.flatnonzero(real & ~masked)])
    inputs = {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(real.astype(int))}
    return inputs, torch.tensor(rows), torch.tensor(original[masked])


def plain(student, teacher, inputs, rows, targets, loss_config):
    """The formula over whole models in float64, with every [N, V]: loss, terms, gradients."""
    student, teacher = copy.deepcopy(student).double(), copy.deepcopy(teacher).double()
    with torch.no_grad():
        out = teacher(**inputs, output_hidden_states=True)
    t, th = out.logits.flatten(0, 1)[rows], out.hidden_states[-1].flatten(0, 1)[rows]
    out = student(**inputs, output_hidden_states=True)
    s, sh = out.logits.flatten(0, 1)[rows], out.hidden_states[-1].flatten(0, 1)[rows]
    return *plain_rows(s, t, sh, th, targets, loss_config), student


def plain_rows(s, t, sh, th, targets, loss_config):
    m, temperature = len(targets), loss_config.temperature
    if loss_config.mlm_target == "teacher":
        targets = t[:m].argmax(-1)
    k = m if loss_config.restrict_kd_to_mask else len(s)
    zero = s.sum() * 0
    p = torch.exp(t[:k] / temperature) / torch.exp(t[:k] / temperature).sum(-1, keepdim=True)
    q = torch.exp(s[:k] / temperature) / torch.exp(s[:k] / temperature).sum(-1, keepdim=True)
    soft = temperature**2 * (p * torch.log(p / q)).sum() / k if k else zero
    chosen = torch.log(torch.exp(s[:m]).sum(-1)) - s[:m][torch.arange(m), targets]
    mlm = chosen.sum() / m if m else zero
    cosine = zero
    if loss_config.cosine_weight and len(s):
        norms = sh.norm(dim=-1) * th.norm(dim=-1)
        cosine = (1 - (sh * th).sum(-1) / norms).mean()
    loss = (
        loss_config.kd_weight * soft
        + loss_config.mlm_weight * mlm
        + loss_config.cosine_weight * cosine
    )
    return loss, (soft, mlm, cosine)


def hidden_rows(model, inputs, rows):
    return model.base_model(**inputs).last_hidden_state.flatten(0, 1)[rows]


def lean(student, teacher, inputs, rows, targets, loss_config, **options):
    given = {}
    if loss_config.needs_teacher:
        with torch.no_grad():
            given["teacher_hidden"] = hidden_rows(teacher, inputs, rows)
        given["teacher_head"] = mlm_head(teacher)
    hidden = hidden_rows(student, inputs, rows)
    return fused_triple_loss(hidden, mlm_head(student), targets, loss_config, **given, **options)


def gradients(model):
    named = model.named_parameters()  # tied ones once
    return {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in named}


def distance(ours, reference):
    """Global norm of the difference over the global norm of the reference."""
    assert ours.keys() == reference.keys()
    difference = sum(float((ours[n].double() - reference[n]).square().sum()) for n in reference)
    size = sum(float(g.square().sum()) for g in reference.values())
    return math.sqrt(difference) / math.sqrt(size) if size else math.sqrt(difference)


def compare(student, teacher, batch, loss_config, loss_tolerance, gradient_tolerance):
    student.zero_grad()
    out = lean(student, teacher, *batch, loss_config)
    out.loss.backward()
    reference, terms, plain_student = plain(student, teacher, *batch, loss_config)
    reference.backward()
    reference = float(reference.detach())
    assert float(out.loss.detach()) == pytest.approx(reference, rel=loss_tolerance, abs=1e-12)
    weights = (loss_config.kd_weight, loss_config.mlm_weight, loss_config.cosine_weight)
    for ours, term, weight in zip(out[1:], terms, weights, strict=True):
        if weight:  # a term that is switched off is not computed
            expected = pytest.approx(float(term.detach()), rel=5 * loss_tolerance, abs=1e-12)
            assert float(ours) == expected
    theirs = gradients(plain_student)
    assert distance(gradients(student), theirs) < gradient_tolerance
    words = "distilbert.embeddings.word_embeddings.weight"  # tied: projection and look-up together
    one = distance({words: gradients(student)[words]}, {words: theirs[words]})
    assert one < 2 * gradient_tolerance


# Equality with the formula


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.slow
def test_float32_loss_and_all_gradients(pair, name):
    seed = list(OBJECTIVES).index(name)  # a fresh ragged batch each
    # the KL of two random models is next to 0, and alone it has few digits to be equal in
    tolerance = 1e-6 if OBJECTIVES[name].mlm_weight else 2e-6
    compare(*pair, ragged(seed), OBJECTIVES[name], tolerance, 2e-6)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_float64_is_exact(pair, name):
    student, teacher = (copy.deepcopy(model).double() for model in pair)
    compare(student, teacher, ragged(100), OBJECTIVES[name], 1e-10, 1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("rows", ["1", "3", "M", "M - 1", "M + 1", "N", "N - 1", "10 N"])
@pytest.mark.parametrize("name", ["paper", "arg-max, masked only", "no soft target"])
def test_chunk_borders_change_nothing(pair, monkeypatch, rows, name):
    """Among them: the border of the masked rows inside a chunk, and a last chunk of one row."""
    student, teacher = (copy.deepcopy(model).double() for model in pair)
    batch = ragged(3, share=0.4)
    n, m = len(batch[1]), len(batch[2])
    assert 3 < m < n - 3
    size = {"M": m, "M - 1": m - 1, "M + 1": m + 1, "N": n, "N - 1": n - 1, "10 N": 10 * n}
    monkeypatch.setattr(fused_loss, "CHUNK_ELEMENTS", V * (size.get(rows) or int(rows)))
    compare(student, teacher, batch, OBJECTIVES[name], 1e-10, 1e-10)


def test_a_chunk_is_at_least_one_row(pair, monkeypatch):
    student, teacher = (copy.deepcopy(model).double() for model in pair)
    monkeypatch.setattr(fused_loss, "CHUNK_ELEMENTS", 1)
    compare(student, teacher, ragged(4, 2, 5), OBJECTIVES["paper"], 1e-10, 1e-10)


def test_more_batches_and_smaller_chunks(pair, monkeypatch):
    for seed in range(200, 206):
        monkeypatch.setattr(fused_loss, "CHUNK_ELEMENTS", (1 + seed % 5) * V + seed % 7)
        compare(*pair, ragged(seed, 3, 12, 0.5), OBJECTIVES["paper"], 1e-6, 2e-6)


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_no_masked_token_and_masked_tokens_only(pair, name, share):
    student, teacher = (copy.deepcopy(model).double() for model in pair)
    batch = ragged(5, share=share)
    assert len(batch[2]) == (0 if share == 0 else len(batch[1]))
    compare(student, teacher, batch, OBJECTIVES[name], 1e-10, 1e-10)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_no_rows_at_all(pair, name):
    student, teacher = pair
    inputs, rows, targets = ragged(6)
    student.zero_grad()
    out = lean(student, teacher, inputs, rows[:0], targets[:0], OBJECTIVES[name])
    out.loss.backward()
    assert [float(x.detach()) for x in out] == [0, 0, 0, 0]
    assert all((g == 0).all() for g in gradients(student).values())


def test_teacher_and_student_may_differ_in_hidden_size(pair):
    student, _ = pair
    wide = small_bert(1, vocab_size=V, hidden_size=48, num_attention_heads=4, seed=4)
    compare(student, wide, ragged(7), LossConfig(cosine_weight=0), 2e-6, 2e-6)


def test_huge_logits_stay_finite():
    weight = torch.nn.Linear(4, 9)
    with torch.no_grad():
        weight.weight.mul_(1e5)
    head = Head(lambda h: h, weight)
    hidden = torch.randn(6, 4, generator=torch.manual_seed(0)).requires_grad_()
    other = torch.randn(6, 4)
    out = fused_triple_loss(
        hidden, head, torch.tensor([1, 2]), LossConfig(), teacher_hidden=other, teacher_head=head
    )
    out.loss.backward()
    assert float(out.soft_target) > 1e3
    assert all(torch.isfinite(x) for x in (*out, *hidden.grad.ravel(), *weight.weight.grad.ravel()))


def test_a_decoder_without_bias():
    torch.manual_seed(0)
    decoder = torch.nn.Linear(4, 9, bias=False, dtype=torch.float64)
    head = Head(lambda h: h, decoder)
    hidden, other = torch.randn(2, 6, 4, dtype=torch.float64)
    hidden.requires_grad_()
    targets = torch.tensor([8, 0])
    out = fused_triple_loss(
        hidden, head, targets, LossConfig(), teacher_hidden=other, teacher_head=head
    )
    ours = torch.autograd.grad(out.loss, [hidden, decoder.weight])
    with torch.no_grad():
        t = other @ decoder.weight.T
    loss, _ = plain_rows(hidden @ decoder.weight.T, t, hidden, other, targets, LossConfig())
    for one, reference in zip(
        ours, torch.autograd.grad(loss, [hidden, decoder.weight]), strict=True
    ):
        torch.testing.assert_close(one, reference, rtol=1e-10, atol=1e-12)


# Autograd


def test_the_gradient_is_scaled_by_what_comes_after(pair):
    student, teacher = pair
    batch = ragged(8)
    student.zero_grad()
    (lean(student, teacher, *batch, LossConfig()).loss * -3.5).backward()
    scaled = gradients(student)
    reference, _, plain_student = plain(student, teacher, *batch, LossConfig())
    (reference * -3.5).backward()
    assert distance(scaled, gradients(plain_student)) < 2e-6


def test_gradients_add_up_over_several_backward_passes(pair):
    student, teacher = pair
    student.zero_grad()
    total = 0
    for seed in (9, 10):
        lean(student, teacher, *ragged(seed), LossConfig()).loss.backward()
    ours = gradients(student)
    copies = [plain(student, teacher, *ragged(seed), LossConfig()) for seed in (9, 10)]
    total = {}
    for loss, _, model in copies:
        loss.backward()
        for name, g in gradients(model).items():
            total[name] = total.get(name, 0) + g
    assert distance(ours, total) < 2e-6


def test_no_gradient_reaches_the_teacher(pair):
    student, teacher = pair
    inputs, rows, targets = ragged(11)
    teacher.zero_grad()
    out = fused_triple_loss(
        hidden_rows(student, inputs, rows),
        mlm_head(student),
        targets,
        LossConfig(),
        teacher_hidden=hidden_rows(teacher, inputs, rows),  # with a graph, as a careless caller
        teacher_head=mlm_head(teacher),
    )
    out.loss.backward()
    assert all(p.grad is None for p in teacher.parameters())


def test_the_terms_are_for_the_log_only(pair):
    out = lean(*pair, *ragged(12), LossConfig())
    assert out.loss.requires_grad
    assert not any(term.requires_grad for term in out[1:])


def test_without_gradients_the_numbers_are_the_same_and_nothing_is_kept(pair):
    student, teacher = pair
    batch = ragged(13)
    with torch.no_grad(), Record() as record:
        out = lean(student, teacher, *batch, LossConfig())
    assert not out.loss.requires_grad
    reference, *_ = plain(student, teacher, *batch, LossConfig())
    assert float(out.loss) == pytest.approx(float(reference.detach()), rel=1e-6)
    made = [name for name, shape in record.outputs if shape == (V, H) and "zeros" in name]
    assert not made  # no gradient buffers


@pytest.mark.parametrize("retain", [True, False])
def test_a_second_backward_pass_is_refused(pair, retain):
    student, _ = pair
    inputs, rows, targets = ragged(14)
    hidden = hidden_rows(student, inputs, rows).detach().requires_grad_()
    out = fused_triple_loss(hidden, mlm_head(student), targets, MLM_ONLY)
    out.loss.backward(retain_graph=retain)
    with pytest.raises(RuntimeError, match="one backward pass"):
        out.loss.backward()


def test_a_frozen_head_and_a_frozen_encoder(pair):
    student, teacher = (copy.deepcopy(model) for model in pair)
    inputs, rows, targets = ragged(15)
    student.requires_grad_(False)
    student.distilbert.transformer.layer[0].ffn.lin1.weight.requires_grad_(True)
    lean(student, teacher, inputs, rows, targets, LossConfig()).loss.backward()
    reference, _, plain_student = plain(student, teacher, inputs, rows, targets, LossConfig())
    reference.backward()
    ours = student.distilbert.transformer.layer[0].ffn.lin1.weight.grad
    theirs = plain_student.distilbert.transformer.layer[0].ffn.lin1.weight.grad
    assert distance({"": ours}, {"": theirs}) < 2e-6
    assert student.vocab_projector.weight.grad is None


# Counts


@pytest.mark.parametrize("name", ["paper", "masked only", "mlm alone"])
def test_with_counts_ragged_micro_batches_add_up_to_the_whole_batch(pair, name):
    """Sums over the parts' sums and counts, not a mean of means: the parts are very unequal."""
    student, teacher = pair
    loss_config = OBJECTIVES[name]
    inputs, rows, targets = ragged(16)
    n, m = len(rows), len(targets)
    reference, _, plain_student = plain(student, teacher, inputs, rows, targets, loss_config)
    reference.backward()

    counts = {"soft_target": m if loss_config.restrict_kd_to_mask else n, "mlm": m, "cosine": n}
    masked, others = rows[:m], rows[m:]
    student.zero_grad()
    total = np.zeros(4)
    for a, b in [((0, 1), (0, 7)), ((1, m), (7, 8)), ((m, m), (8, None))]:
        part = torch.cat([masked[slice(*a)], others[slice(*b)]])
        out = lean(student, teacher, inputs, part, targets[slice(*a)], loss_config, counts=counts)
        out.loss.backward()
        total += [float(x.detach()) for x in out]
    assert total[0] == pytest.approx(float(reference.detach()), rel=2e-6)
    w = (loss_config.kd_weight, loss_config.mlm_weight, loss_config.cosine_weight)
    assert total[0] == pytest.approx(np.dot(w, total[1:]), rel=1e-6)
    assert distance(gradients(student), gradients(plain_student)) < 3e-6


def test_counts_are_denominators(pair):
    batch = ragged(17)
    n, m = len(batch[1]), len(batch[2])
    one = lean(*pair, *batch, LossConfig())
    ten = lean(
        *pair, *batch, LossConfig(), counts={"soft_target": 10 * n, "mlm": 20 * m, "cosine": 30 * n}
    )
    ratios = [float(a / b) for a, b in zip(one[1:], ten[1:], strict=True)]
    assert ratios == pytest.approx([10, 20, 30], rel=1e-5)


# Memory


class Record(TorchDispatchMode):
    """The name and the shape of every tensor that any operation makes, backward included."""

    def __init__(self):
        super().__init__()
        self.outputs: list[tuple[str, tuple[int, ...]]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for x in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(x, torch.Tensor):
                self.outputs.append((str(func), tuple(x.shape)))
        return out

    def most_rows(self):
        """Of everything with V columns (or V rows), but for the projection's own shape."""
        rows = [
            math.prod(shape) // V
            for _, shape in self.outputs
            if V in shape and sorted(shape) != [H, V]
        ]
        return max(rows, default=0)


@pytest.mark.parametrize("name", ["paper", "masked only", "arg-max alone", "mlm alone"])
def test_no_tensor_of_all_rows_and_the_vocabulary_is_ever_made(pair, monkeypatch, name):
    student, teacher = pair
    loss_config = OBJECTIVES[name]
    inputs, rows, targets = ragged(18)
    n = len(rows)
    assert n > 30
    monkeypatch.setattr(fused_loss, "CHUNK_ELEMENTS", 4 * V)
    with Record() as record:
        lean(student, teacher, inputs, rows, targets, loss_config).loss.backward()
    assert record.most_rows() == 4
    assert any("backward" in function for function, _ in record.outputs)  # backward is in it

    with Record() as record:  # the recorder does see what it is there to see
        student(**inputs).logits.flatten(0, 1)[rows].logsumexp(-1).sum().backward()
    assert record.most_rows() >= n


def test_what_is_kept_for_the_backward_pass_does_not_grow_with_rows_times_vocabulary(pair):
    student, teacher = pair
    inputs, rows, targets = ragged(19)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.shape) or x, lambda x: x):
        out = lean(student, teacher, inputs, rows, targets, LossConfig())
    assert kept
    assert not [shape for shape in kept if V in shape and sorted(shape) != [H, V]]
    out.loss.backward()


# bfloat16


def test_under_bfloat16_autocast_the_gradient_is_within_a_hundredth(pair):
    student, teacher = pair
    inputs, rows, targets = ragged(20)
    with torch.no_grad():
        hidden, other = (hidden_rows(model, inputs, rows) for model in (student, teacher))
    student.zero_grad()
    leaf = hidden.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        out = fused_triple_loss(
            leaf,
            mlm_head(student),
            targets,
            LossConfig(),
            teacher_hidden=other,
            teacher_head=mlm_head(teacher),
        )
    out.loss.backward()
    assert out.loss.dtype == torch.float32
    assert student.vocab_projector.weight.grad.dtype == torch.float32

    exact, reference = copy.deepcopy(student).double(), hidden.double().requires_grad_()
    exact.zero_grad()
    exact_teacher = copy.deepcopy(teacher).double()
    h = exact.vocab_transform(reference)
    s = exact.vocab_projector(exact.vocab_layer_norm(exact.activation(h)))
    with torch.no_grad():
        t = exact_teacher.cls(other.double())
    loss, _ = plain_rows(s, t, reference, other.double(), targets, LossConfig())
    loss.backward()
    assert float(out.loss.detach()) == pytest.approx(float(loss.detach()), rel=1e-2)
    ours, theirs = gradients(student), gradients(exact)
    ours["hidden"], theirs["hidden"] = leaf.grad, reference.grad
    assert distance(ours, theirs) < 1e-2
    assert distance({"": leaf.grad}, {"": reference.grad}) < 1e-2


def test_padding_of_the_rows_of_logits_holds_numbers(monkeypatch):
    """Memory not written yet may hold NaN; oneDNN with AMX multiplies the padding by 0."""
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    torch.use_deterministic_algorithms(True)
    try:
        rows = fused_loss._rows_of_logits(3, V, torch.zeros(1, dtype=torch.bfloat16))
    finally:
        torch.use_deterministic_algorithms(False)
    assert rows.isnan().all()
    whole = rows.as_strided((3, rows.stride(0)), rows.stride())
    assert whole.shape[1] > V
    assert (whole[:, V:] == 0).all()


def test_a_bfloat16_model_gets_bfloat16_gradients_and_a_float32_loss(pair):
    student, teacher = (copy.deepcopy(model).bfloat16() for model in pair)
    student.zero_grad()
    out = lean(student, teacher, *ragged(21), LossConfig())
    out.loss.backward()
    assert all(term.dtype == torch.float32 for term in out)
    assert {p.grad.dtype for p in student.parameters()} == {torch.bfloat16}


# Heads


def bert():
    return small_bert(1, vocab_size=V, hidden_act="relu")


def distilbert():
    torch.manual_seed(0)
    c = DistilBertConfig(vocab_size=V, dim=H, hidden_dim=48, n_layers=1, n_heads=2)
    model = DistilBertForMaskedLM(c).eval()
    shake(model)
    return model


def distilbert_relu():
    torch.manual_seed(0)
    c = DistilBertConfig(
        vocab_size=V, dim=H, hidden_dim=48, n_layers=1, n_heads=2, activation="relu"
    )
    model = DistilBertForMaskedLM(c).eval()
    shake(model)
    return model


def roberta():
    torch.manual_seed(0)
    c = RobertaConfig(
        vocab_size=V,
        hidden_size=H,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=40,
        hidden_act="relu",  # its head has GELU all the same
    )
    model = RobertaForMaskedLM(c).eval()
    shake(model)
    return model


@pytest.mark.parametrize("make", [bert, distilbert, distilbert_relu, roberta])
@torch.no_grad()
def test_the_head_gives_the_models_own_logits(make):
    model = make()
    inputs, _, _ = ragged(22)
    head = mlm_head(model)
    ours = head.decoder(head.transform(model.base_model(**inputs).last_hidden_state))
    assert torch.equal(ours, model(**inputs).logits)
    assert head.decoder.weight is model.get_output_embeddings().weight  # the parameter itself
    assert head.decoder.weight is model.get_input_embeddings().weight


@pytest.mark.parametrize(
    "make",
    [
        lambda: BertModel(
            BertConfig(
                vocab_size=9,
                hidden_size=8,
                num_hidden_layers=1,
                num_attention_heads=1,
                intermediate_size=8,
            )
        ),
        lambda: DistilBertForSequenceClassification(
            DistilBertConfig(vocab_size=9, dim=8, hidden_dim=8, n_layers=1, n_heads=1)
        ),
        lambda: torch.nn.Linear(2, 2),
    ],
    ids=["BertModel", "DistilBertForSequenceClassification", "Linear"],
)
def test_a_model_without_a_head_is_refused_by_name(make):
    model = make()
    with pytest.raises(TypeError, match=rf"{type(model).__name__} .*AutoModelForMaskedLM"):
        mlm_head(model)


# Errors


@pytest.mark.parametrize(
    "loss_config", [LossConfig(), LossConfig(kd_weight=0, cosine_weight=0, mlm_target="teacher")]
)
@pytest.mark.parametrize("missing", ["teacher_hidden", "teacher_head", "both"])
def test_an_objective_that_needs_a_teacher_says_so(pair, loss_config, missing):
    head = mlm_head(pair[1])
    given = {"teacher_hidden": torch.ones(4, H), "teacher_head": head}
    given = {} if missing == "both" else {k: v for k, v in given.items() if k != missing}
    with pytest.raises(ValueError, match="needs teacher_hidden and teacher_head"):
        fused_triple_loss(torch.ones(4, H), head, torch.tensor([1]), loss_config, **given)
