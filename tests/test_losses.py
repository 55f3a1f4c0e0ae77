"""The three losses and their gradients against float64 formulas written here in numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, logsumexp, softmax
from toy_models import shake, small_bert

from distilkit.config import LossConfig
from distilkit.distillation import LanguageModelLoss
from distilkit.losses import (
    IGNORE,
    cosine_loss,
    mlm_loss,
    soft_target_loss,
    softmax_with_temperature,
    triple_loss,
)
from distilkit.student import student_from_teacher

TEMPERATURES = (0.25, 1, 2, 10)


# The formulas, in numpy float64: (loss, gradient with respect to the student)


def kl_formula(s, t, temperature):
    p, q = softmax(t / temperature, -1), softmax(s / temperature, -1)
    difference = log_softmax(t / temperature, -1) - log_softmax(s / temperature, -1)
    loss = temperature**2 * (p * difference).sum(-1).mean()
    return loss, temperature * (q - p) / len(s)


def cross_entropy_formula(z, targets):
    rows = np.flatnonzero(targets != -100)
    gradient = np.zeros_like(z)
    if not len(rows):
        return 0.0, gradient
    gradient[rows] = softmax(z[rows], -1)
    gradient[rows, targets[rows]] -= 1
    loss = (logsumexp(z[rows], -1) - z[rows, targets[rows]]).mean()
    return loss, gradient / len(rows)


def cosine_formula(s, t):
    ns, nt = np.linalg.norm(s, axis=-1, keepdims=True), np.linalg.norm(t, axis=-1, keepdims=True)
    cos = (s * t).sum(-1, keepdims=True) / (ns * nt)
    return (1 - cos).mean(), -(t / (ns * nt) - cos * s / ns**2) / len(s)


def triple_formula(s, t, sh, th, targets, loss_config):
    """The loss, its three terms, and the gradients of logits and hidden states."""
    targets, masked = targets.copy(), targets != -100
    if loss_config.mlm_target == "teacher":
        targets[masked] = t[masked].argmax(-1)
    soft_rows = masked if loss_config.restrict_kd_to_mask else np.ones(len(s), dtype=bool)
    soft, soft_gradient = 0.0, np.zeros_like(s)
    if soft_rows.any():
        soft, soft_gradient[soft_rows] = kl_formula(
            s[soft_rows], t[soft_rows], loss_config.temperature
        )
    mlm, mlm_gradient = cross_entropy_formula(s, targets)
    cosine, cosine_gradient = cosine_formula(sh, th)
    a, b, c = loss_config.kd_weight, loss_config.mlm_weight, loss_config.cosine_weight
    return (
        (a * soft + b * mlm + c * cosine, soft, mlm, cosine),
        (a * soft_gradient + b * mlm_gradient, c * cosine_gradient),
    )


def logits(rows=7, size=11, scale=3.0, seed=0):
    random = np.random.default_rng(seed)
    return scale * random.normal(size=(rows, size)), scale * random.normal(size=(rows, size))


def with_gradient(function, x, *more, dtype=torch.float64, **options):
    x = torch.tensor(x, dtype=dtype, requires_grad=True)
    loss = function(x, *more, **options)
    loss.backward()
    return loss.detach(), x.grad.double().numpy()


def close(ours, reference, rtol):
    """In the norm of the whole array: single entries of a gradient cross 0."""
    ours, reference = np.asarray(ours, dtype=np.float64), np.asarray(reference)
    scale = np.linalg.norm(reference)
    assert np.linalg.norm(ours - reference) <= rtol * scale, (ours, reference)


# Temperature


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_softmax_with_temperature(temperature):
    z, _ = logits()
    ours = softmax_with_temperature(torch.tensor(z), temperature)
    powers = np.exp((z - z.max(-1, keepdims=True)) / temperature)
    np.testing.assert_allclose(ours, powers / powers.sum(-1, keepdims=True), rtol=1e-12)


def test_temperature_smooths_and_sharpens():
    z = torch.tensor([3.0, 1.0, 0.5, 0.0, -2.0])
    top = [float(softmax_with_temperature(z, t).max()) for t in (0.25, 1, 2, 10, 1e6)]
    assert top == sorted(top, reverse=True)
    assert top[0] > 0.999
    assert top[-1] == pytest.approx(1 / 5, rel=1e-4)
    assert softmax_with_temperature(z.half(), 2.0).dtype == torch.float32


# Soft targets


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
def test_soft_target_loss_and_gradient(temperature, dtype, rtol):
    s, t = (x.astype(np.float32).astype(np.float64) for x in logits())
    reference, reference_gradient = kl_formula(s, t, temperature)
    loss, gradient = with_gradient(
        soft_target_loss, s, torch.tensor(t, dtype=dtype), temperature, dtype=dtype
    )
    assert loss.shape == ()
    assert float(loss) == pytest.approx(reference, rel=rtol)
    close(gradient, reference_gradient, rtol)


def test_soft_target_loss_is_a_mean_over_rows_of_any_leading_shape():
    """`batchmean` of [B, L, V] would divide by B only."""
    s, t = logits(12)
    flat = soft_target_loss(torch.tensor(s), torch.tensor(t), 2.0)
    folded = soft_target_loss(
        torch.tensor(s).reshape(3, 4, 11), torch.tensor(t).reshape(3, 4, 11), 2.0
    )
    assert float(folded) == pytest.approx(kl_formula(s, t, 2.0)[0], rel=1e-12)
    assert float(flat) == pytest.approx(float(folded), rel=1e-12)


def test_soft_target_loss_gradcheck():
    s, t = logits(3, 5, 1.0)
    teacher = torch.tensor(t)
    student = torch.tensor(s, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: soft_target_loss(x, teacher, 3.0), student)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_at_equality_loss_and_gradient_are_zero_as_a_cross_entropy_is_not(temperature):
    s, _ = logits()
    loss, gradient = with_gradient(soft_target_loss, s, torch.tensor(s), temperature)
    assert float(loss) == pytest.approx(0, abs=1e-12)
    assert np.abs(gradient).max() < 1e-12
    entropy = -(softmax(s / temperature, -1) * log_softmax(s / temperature, -1)).sum(-1).mean()
    assert temperature**2 * entropy > 1e-5  # what a bare cross-entropy would give here


def test_teacher_and_student_are_not_interchangeable():
    """KL(teacher || student), not KL(student || teacher)."""
    s, t = logits()
    ours = float(soft_target_loss(torch.tensor(s), torch.tensor(t), 2.0))
    other = float(soft_target_loss(torch.tensor(t), torch.tensor(s), 2.0))
    assert ours == pytest.approx(kl_formula(s, t, 2.0)[0], rel=1e-12)
    assert abs(ours - other) > 0.01 * ours


def test_the_square_of_the_temperature_keeps_the_gradients_size():
    s, t = logits(scale=0.1)
    sizes = [
        np.linalg.norm(with_gradient(soft_target_loss, s, torch.tensor(t), temperature)[1])
        for temperature in (1, 50)
    ]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.1)  # without T² it is 2,500 times smaller
    # Hinton et al. 2015, equation 4: at high T and zero-mean logits it is (s − t) / V
    s, t = (x - x.mean(-1, keepdims=True) for x in (s, t))
    _, gradient = with_gradient(soft_target_loss, s, torch.tensor(t), 1000)
    close(gradient, (s - t) / s.shape[-1] / len(s), 1e-3)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_huge_logits_stay_finite(temperature):
    s, t = logits(scale=1e4)
    reference, reference_gradient = kl_formula(s, t, temperature)
    loss, gradient = with_gradient(
        soft_target_loss, s, torch.tensor(t).float(), temperature, dtype=torch.float32
    )
    assert math.isfinite(loss)
    assert float(loss) == pytest.approx(reference, rel=1e-5)
    close(gradient, reference_gradient, 1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_computed_in_float32(dtype):
    s, t = (torch.tensor(x).to(dtype) for x in logits())
    reference, reference_gradient = kl_formula(s.double().numpy(), t.double().numpy(), 2.0)
    student = s.clone().requires_grad_()
    loss = soft_target_loss(student, t, 2.0)
    assert loss.dtype == torch.float32
    assert float(loss.detach()) == pytest.approx(reference, rel=1e-6)
    loss.backward()
    assert student.grad.dtype == dtype
    close(student.grad.double(), reference_gradient, 1e-2)  # rounded once, at the end

    targets = torch.tensor([1, -100, 3, 4, 5, 6, 0])
    ours = mlm_loss(s, targets)
    assert ours.dtype == torch.float32
    expected = cross_entropy_formula(s.double().numpy(), targets.numpy())[0]
    assert float(ours) == pytest.approx(expected, rel=1e-6)
    ours = cosine_loss(s, t)
    assert ours.dtype == torch.float32
    expected = cosine_formula(s.double().numpy(), t.double().numpy())[0]
    assert float(ours) == pytest.approx(expected, rel=1e-6)


def test_float64_stays_float64():
    s, t = (torch.tensor(x) for x in logits())
    targets = torch.zeros(7, dtype=torch.long)
    for loss in (soft_target_loss(s, t, 2.0), mlm_loss(s, targets), cosine_loss(s, t)):
        assert loss.dtype == torch.float64


@pytest.mark.parametrize("loss", [lambda s, t: soft_target_loss(s, t, 2.0), cosine_loss])
def test_no_gradient_reaches_the_teacher(loss):
    s, t = (torch.tensor(x, requires_grad=True) for x in logits())
    loss(s, t).backward()
    assert t.grad is None
    assert s.grad.abs().sum() > 0
    with torch.no_grad():
        frozen = s.clone()
    assert not loss(frozen, t).requires_grad


# Masked words


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
@pytest.mark.parametrize("targets", [[3, -100, 0, 10, -100, 5, 5], [0, 1, 2, 3, 4, 5, 6]])
def test_mlm_loss_and_gradient(targets, dtype, rtol):
    z, _ = (x.astype(np.float32).astype(np.float64) for x in logits())
    reference, reference_gradient = cross_entropy_formula(z, np.array(targets))
    loss, gradient = with_gradient(mlm_loss, z, torch.tensor(targets), dtype=dtype)
    assert float(loss) == pytest.approx(reference, rel=rtol)
    close(gradient, reference_gradient, rtol)
    ignored = np.array(targets) == IGNORE
    assert (gradient[ignored] == 0).all()
    assert (np.abs(gradient[~ignored]).sum(-1) > 0).all()


def test_ignored_rows_change_nothing_whatever_they_hold():
    z, other = logits(6)
    targets = torch.tensor([4, 1, -100, -100, 2, 0])
    z[2:4] = other[2:4]
    one = mlm_loss(torch.tensor(z), targets)
    z[2:4] = 1e6
    assert float(mlm_loss(torch.tensor(z), targets)) == float(one)
    kept = torch.tensor(z)[[0, 1, 4, 5]]
    assert float(one) == pytest.approx(float(mlm_loss(kept, targets[[0, 1, 4, 5]])), rel=1e-12)


def test_mlm_loss_takes_a_batch_of_sequences():
    z, _ = logits(12)
    targets = np.array([3, -100, -100, 4, -100, 0, 1, -100, 2, 2, -100, 9])
    ours = mlm_loss(torch.tensor(z).reshape(3, 4, 11), torch.tensor(targets).reshape(3, 4))
    assert float(ours) == pytest.approx(cross_entropy_formula(z, targets)[0], rel=1e-12)


def test_huge_logits_do_not_break_the_cross_entropy():
    z, _ = logits(scale=1e4)
    targets = np.arange(7)
    reference, _ = cross_entropy_formula(z, targets)
    loss, gradient = with_gradient(mlm_loss, z, torch.tensor(targets), dtype=torch.float32)
    assert float(loss) == pytest.approx(reference, rel=1e-5)
    assert np.isfinite(gradient).all()


# Hidden states


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_cosine_loss_and_gradient(dtype, rtol):
    s, t = (x.astype(np.float32).astype(np.float64) for x in logits())
    reference, reference_gradient = cosine_formula(s, t)
    loss, gradient = with_gradient(cosine_loss, s, torch.tensor(t, dtype=dtype), dtype=dtype)
    assert float(loss) == pytest.approx(reference, rel=rtol)
    close(gradient, reference_gradient, rtol)


def test_cosine_loss_sees_directions_only():
    s, t = (torch.tensor(x) for x in logits())
    one = float(cosine_loss(s, t))
    assert float(cosine_loss(100 * s, 0.01 * t)) == pytest.approx(one, rel=1e-9)
    assert float(cosine_loss(s, s)) == pytest.approx(0, abs=1e-12)
    assert float(cosine_loss(s, 3 * s)) == pytest.approx(0, abs=1e-12)
    assert float(cosine_loss(s, -s)) == pytest.approx(2, rel=1e-12)
    right = torch.tensor([[0.0, 1.0]]), torch.tensor([[5.0, 0.0]])
    assert float(cosine_loss(*right)) == pytest.approx(1, rel=1e-6)
    # PyTorch's own, as the authors call it
    theirs = torch.nn.CosineEmbeddingLoss()(s, t, torch.ones(len(s)))
    assert one == pytest.approx(float(theirs), rel=1e-6)


def test_cosine_loss_gradcheck():
    s, t = logits(3, 5)
    teacher = torch.tensor(t)
    student = torch.tensor(s, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: cosine_loss(x, teacher), student)


# Selections and counts


@pytest.mark.parametrize(
    "loss",
    [
        lambda x: soft_target_loss(x, torch.zeros(0, 5), 2.0),
        lambda x: mlm_loss(x, torch.zeros(0, dtype=torch.long)),
        lambda x: cosine_loss(x, torch.zeros(0, 5)),
    ],
)
def test_no_rows_give_zero_not_nan(loss):
    x = torch.zeros(0, 5, requires_grad=True)
    value = loss(x)
    value.backward()
    assert float(value.detach()) == 0.0
    assert x.grad.shape == (0, 5)


def test_no_targets_give_zero_and_a_zero_gradient():
    loss, gradient = with_gradient(mlm_loss, logits()[0], torch.full((7,), -100))
    assert float(loss) == 0.0
    assert (gradient == 0).all()


def test_no_masked_token_gives_zero_and_a_zero_gradient_in_the_triple_loss():
    s, t = logits()
    hidden = torch.ones(7, 3, dtype=torch.float64)
    student = torch.tensor(s, requires_grad=True)
    loss_config = LossConfig(restrict_kd_to_mask=True, cosine_weight=0)
    out = triple_loss(student, torch.tensor(t), hidden, hidden, torch.full((7,), -100), loss_config)
    out.loss.backward()
    assert float(out.loss.detach()) == 0.0
    assert (student.grad == 0).all()


@pytest.mark.parametrize("split", [(7,), (1, 6), (3, 1, 3), (0, 2, 5)])
@pytest.mark.parametrize("name", ["soft_target", "mlm", "cosine"])
def test_with_count_micro_batches_add_up_to_the_mean_of_the_whole_batch(name, split):
    s, t = logits()
    targets = np.array([3, -100, 0, 10, -100, -100, 5])
    loss, count = {
        "soft_target": (lambda x, r, **k: soft_target_loss(x, torch.tensor(t[r]), 2.0, **k), 7),
        "mlm": (lambda x, r, **k: mlm_loss(x, torch.tensor(targets[r]), **k), 4),
        "cosine": (lambda x, r, **k: cosine_loss(x, torch.tensor(t[r]), **k), 7),
    }[name]
    reference, reference_gradient = {
        "soft_target": kl_formula(s, t, 2.0),
        "mlm": cross_entropy_formula(s, targets),
        "cosine": cosine_formula(s, t),
    }[name]
    student = torch.tensor(s, requires_grad=True)
    total, start = 0.0, 0
    for size in split:
        rows = slice(start, start + size)
        part = loss(student[rows], rows, count=count)
        part.backward()  # the gradients add up in .grad, as in the loop
        total, start = total + float(part.detach()), start + size
    assert total == pytest.approx(reference, rel=1e-12)
    close(student.grad, reference_gradient, 1e-12)


def test_a_count_is_the_denominator_and_not_a_factor():
    s, t = (torch.tensor(x) for x in logits())
    for loss in (lambda **k: soft_target_loss(s, t, 2.0, **k), lambda **k: cosine_loss(s, t, **k)):
        assert float(loss(count=70)) == pytest.approx(float(loss()) / 10, rel=1e-12)
    assert math.isfinite(cosine_loss(s[:0], t[:0], count=0))


# The triple loss

OBJECTIVES = [
    LossConfig(),
    LossConfig(temperature=1, kd_weight=1, mlm_weight=0, cosine_weight=0),
    LossConfig(kd_weight=0, mlm_weight=3, cosine_weight=0),
    LossConfig(kd_weight=0, mlm_weight=0, cosine_weight=0.7),
    LossConfig(restrict_kd_to_mask=True, temperature=3.5),
    LossConfig(mlm_target="teacher", kd_weight=0.1),
    LossConfig(restrict_kd_to_mask=True, mlm_target="teacher", mlm_weight=10),
]


@pytest.mark.parametrize("loss_config", OBJECTIVES)
@pytest.mark.parametrize("masked", [(0, 2, 5), (), (0, 1, 2, 3, 4, 5, 6), (6,)])
def test_triple_loss_and_gradients(loss_config, masked):
    s, t = logits(seed=1)
    sh, th = logits(size=4, seed=2)
    targets = np.full(7, -100)
    targets[list(masked)] = np.arange(len(masked))
    reference, gradients = triple_formula(s, t, sh, th, targets, loss_config)

    student, hidden = (torch.tensor(x, requires_grad=True) for x in (s, sh))
    given = torch.tensor(targets)
    out = triple_loss(student, torch.tensor(t), hidden, torch.tensor(th), given, loss_config)
    np.testing.assert_allclose([float(x.detach()) for x in out], reference, rtol=1e-12, atol=1e-15)
    out.loss.backward()
    np.testing.assert_allclose(student.grad, gradients[0], atol=1e-12)
    np.testing.assert_allclose(hidden.grad, gradients[1], atol=1e-12)
    assert given.tolist() == targets.tolist()  # the caller's targets stay as they were


def test_the_default_objective_is_five_two_one():
    s, t = logits(seed=1)
    sh, th = logits(size=4, seed=2)
    targets = np.array([1, -100, 3, -100, -100, 2, -100])
    out = triple_loss(*map(torch.tensor, (s, t, sh, th, targets)))
    kl, ce, cos = (
        kl_formula(s, t, 2)[0],
        cross_entropy_formula(s, targets)[0],
        cosine_formula(sh, th)[0],
    )
    assert float(out.loss) == pytest.approx(5 * kl + 2 * ce + cos, rel=1e-12)
    assert [float(x) for x in out[1:]] == pytest.approx([kl, ce, cos], rel=1e-12)


def test_each_term_has_its_own_denominator():
    """Doubling the unmasked rows halves none of the terms of the masked ones."""
    s, t = logits(4, seed=1)
    sh, th = logits(4, 3, seed=2)
    targets = np.array([1, 2, -100, -100])
    again = [0, 1, 2, 3, 2, 3]  # the unmasked rows twice
    one = triple_loss(*map(torch.tensor, (s, t, sh, th, targets)))
    two = triple_loss(*(torch.tensor(x[again]) for x in (s, t, sh, th, targets)))
    assert float(two.mlm) == pytest.approx(float(one.mlm), rel=1e-12)
    assert float(two.cosine) == pytest.approx(cosine_formula(sh[again], th[again])[0], rel=1e-12)
    assert float(two.soft_target) == pytest.approx(kl_formula(s[again], t[again], 2)[0], rel=1e-12)
    masked = LossConfig(restrict_kd_to_mask=True)
    narrow = triple_loss(*(torch.tensor(x[again]) for x in (s, t, sh, th, targets)), masked)
    assert float(narrow.soft_target) == pytest.approx(kl_formula(s[:2], t[:2], 2)[0], rel=1e-12)
    assert float(narrow.cosine) == float(two.cosine)  # all tokens, whatever `tokens` says


def test_no_gradient_of_the_triple_loss_reaches_the_teacher():
    (s, t), (sh, th) = logits(), logits(size=4)
    tensors = [torch.tensor(x, requires_grad=True) for x in (s, t, sh, th)]
    for loss_config in (LossConfig(), LossConfig(mlm_target="teacher")):
        triple_loss(
            *tensors, torch.tensor([1, -100, 3, -100, 2, 2, 2]), loss_config
        ).loss.backward()
    assert tensors[1].grad is None
    assert tensors[3].grad is None
    assert tensors[0].grad.abs().sum() > 0
    assert tensors[2].grad.abs().sum() > 0


# Padding: through the models and the loop's loss


def padded_batch(lengths, masked_share=0.3, length=None, seed=0):
    """A micro-batch with given lengths, the flat rows found one by one; and the targets [B, L]."""
    random = np.random.default_rng(seed)
    length = length or max(lengths)
    ids = np.zeros((len(lengths), length), dtype=np.int64)
    targets = np.full(ids.shape, -100)
    for i, n in enumerate(lengths):
        ids[i, :n] = random.integers(5, 205, n)
        for j in range(n):
            if random.random() < masked_share:
                targets[i, j], ids[i, j] = ids[i, j], 4  # [MASK]
    return ids, targets


def as_batch(ids, targets, lengths):
    length = ids.shape[1]
    real = [(i, j) for i, n in enumerate(lengths) for j in range(n)]
    first = [(i, j) for i, j in real if targets[i, j] != -100]
    then = [(i, j) for i, j in real if targets[i, j] == -100]
    mask = np.array([[int(j < n) for j in range(length)] for n in lengths])
    return {
        "input_ids": torch.tensor(ids),
        "attention_mask": None if mask.all() else torch.tensor(mask),
        "rows": torch.tensor([i * length + j for i, j in first + then]),
        "targets": torch.tensor([int(targets[i, j]) for i, j in first]),
        "counts": {"examples": len(ids), "tokens": len(real), "masked": len(first)},
    }


@pytest.fixture(scope="module")
def pair():
    teacher = small_bert(2)
    student = student_from_teacher(teacher)
    shake(student)
    return student, teacher


def flat_gradient(model):
    return np.concatenate([p.grad.double().numpy().ravel() for p in model.parameters()])


def with_gradients(loss_config, student, teacher, batch):
    student.zero_grad()
    out = LanguageModelLoss(loss_config, teacher)(student, batch, batch["counts"])
    out["loss"].backward()
    return [float(v.detach()) for v in out.values()], flat_gradient(student)


LENGTHS = (9, 3, 14)


@pytest.mark.parametrize(
    "loss_config", [LossConfig(), LossConfig(restrict_kd_to_mask=True, mlm_target="teacher")]
)
def test_the_loops_loss_is_the_formula_over_the_non_pad_tokens(pair, loss_config):
    student, teacher = pair
    ids, targets = padded_batch(LENGTHS)
    batch = as_batch(ids, targets, LENGTHS)
    real = batch["attention_mask"].bool()
    values = []
    with torch.no_grad():
        for model in (student, teacher):
            inputs = {k: batch[k] for k in ("input_ids", "attention_mask")}
            out = model(**inputs, output_hidden_states=True)
            values += [out.logits[real], out.hidden_states[-1][real]]
    s, sh, t, th = (x.double().numpy() for x in values)
    reference, _ = triple_formula(s, t, sh, th, targets[real.numpy()], loss_config)
    ours, _ = with_gradients(loss_config, student, teacher, batch)
    assert ours == pytest.approx(reference, rel=2e-6)


@pytest.mark.parametrize(
    "loss_config", [LossConfig(), LossConfig(restrict_kd_to_mask=True, mlm_target="teacher")]
)
def test_padding_has_no_influence(pair, loss_config):
    """More padding, and other tokens under the padding: the same losses, the same gradients."""
    ids, targets = padded_batch(LENGTHS)
    reference, gradient = with_gradients(loss_config, *pair, as_batch(ids, targets, LENGTHS))
    wide_ids = np.pad(ids, ((0, 0), (0, 11)))
    wide_targets = np.pad(targets, ((0, 0), (0, 11)), constant_values=-100)
    for fill in (0, 17):
        for i, n in enumerate(LENGTHS):
            wide_ids[i, n:] = fill
        ours, g = with_gradients(loss_config, *pair, as_batch(wide_ids, wide_targets, LENGTHS))
        assert ours == pytest.approx(reference, rel=1e-5)
        close(g, gradient, 1e-5)


def test_ragged_micro_batches_add_up_to_the_whole_batch(pair):
    """Losses and gradients, with the counts of the whole batch in each part."""
    ids, targets = padded_batch(LENGTHS)
    whole = as_batch(ids, targets, LENGTHS)
    reference, gradient = with_gradients(LossConfig(), *pair, whole)
    student, teacher = pair
    student.zero_grad()
    total = np.zeros(4)
    for rows in (slice(0, 1), slice(1, 3)):
        n = max(LENGTHS[rows])
        part = as_batch(ids[rows, :n], targets[rows, :n], LENGTHS[rows])
        out = LanguageModelLoss(LossConfig(), teacher)(student, part, whole["counts"])
        out["loss"].backward()
        total += [float(v.detach()) for v in out.values()]
    np.testing.assert_allclose(total, reference, rtol=1e-5)
    close(flat_gradient(student), gradient, 1e-5)


# Errors


@pytest.mark.parametrize("temperature", [0, 0.0, -1, -0.5, math.nan, math.inf, -math.inf])
def test_a_temperature_that_is_none_is_refused(temperature):
    x = torch.ones(2, 3)
    with pytest.raises(ValueError, match="temperature = "):
        soft_target_loss(x, x, temperature)
    with pytest.raises(ValueError, match="temperature = "):
        softmax_with_temperature(x, temperature)


@pytest.mark.parametrize(
    ("student", "teacher"),
    [((4, 5), (4, 6)), ((4, 5), (3, 5)), ((4, 5), (1, 5)), ((4, 5), (5,)), ((), ())],
)
def test_shapes_that_do_not_match_are_refused_not_broadcast(student, teacher):
    s, t = torch.ones(student), torch.ones(teacher)
    with pytest.raises(ValueError, match="soft_target_loss: student"):
        soft_target_loss(s, t, 2.0)
    with pytest.raises(ValueError, match="cosine_loss: student"):
        cosine_loss(s, t)


@pytest.mark.parametrize("targets", [(3,), (5,), (4, 1), (1, 4), ()])
def test_targets_that_do_not_match_are_refused(targets):
    with pytest.raises(ValueError, match=r"mlm_loss: logits \(4, 5\) need targets \(4,\)"):
        mlm_loss(torch.ones(4, 5), torch.zeros(targets, dtype=torch.long))


@pytest.mark.parametrize(("hidden", "targets"), [(4, 3), (6, 4)])
def test_rows_of_the_triple_loss_that_do_not_match_are_refused(hidden, targets):
    x, h = torch.ones(4, 5), torch.ones(hidden, 3)
    with pytest.raises(ValueError, match="triple_loss"):
        triple_loss(x, x, h, h, torch.zeros(targets, dtype=torch.long))
