"""What holds for every teacher, text and batch, tried on many that hypothesis draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from toy_models import small_bert, zeroed
from transformers import BertTokenizerFast, DistilBertForMaskedLM

from distilkit.config import LossConfig
from distilkit.data.packing import pack
from distilkit.families import Head
from distilkit.fused_loss import fused_triple_loss
from distilkit.losses import IGNORE, cosine_loss, mlm_loss, soft_target_loss, triple_loss
from distilkit.masking import MaskedBlocks
from distilkit.measure.size import parameter_count
from distilkit.models.pruning import prune
from distilkit.student import default_layers, student_from_teacher

settings.register_profile(
    "repeatable",
    derandomize=True,  # CI draws what everybody draws
    database=None,
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("repeatable")

WORDS = [f"w{i}" for i in range(200)]
TOKENIZER = BertTokenizerFast(
    vocab={w: i for i, w in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS])}
)
LOGITS = st.floats(-30, 30, allow_nan=False, width=32)


# ---- the student


@given(data=st.data(), depth=st.integers(1, 5), heads=st.integers(1, 4), seed=st.integers(0, 99))
@pytest.mark.slow
def test_a_student_of_any_depth_map_and_width(data, depth, heads, seed):
    """The embeddings are the teacher's, the layers those of the map; all layers lose nothing."""
    shape = {"hidden_size": 8 * heads, "num_attention_heads": heads, "intermediate_size": 16}
    teacher = small_bert(depth, seed=seed, **shape)
    layers = data.draw(
        st.lists(st.integers(0, depth - 1), min_size=1, max_size=depth, unique=True).map(sorted)
    )
    student = student_from_teacher(teacher, layers)
    assert type(student) is DistilBertForMaskedLM
    assert student.config.num_hidden_layers == len(layers)
    ids = torch.randint(5, 205, (2, 9), generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        theirs = teacher.eval()(ids, output_hidden_states=True)
        ours = student.eval()(ids, output_hidden_states=True)
    assert torch.allclose(ours.hidden_states[0], theirs.hidden_states[0], atol=1e-5)
    for position, layer in enumerate(layers):
        mine = student.distilbert.transformer.layer[position].ffn.lin1.weight
        assert torch.equal(mine, teacher.bert.encoder.layer[layer].intermediate.dense.weight)
    if layers == list(range(depth)):
        assert torch.allclose(ours.logits, theirs.logits, atol=1e-4)


@given(depth=st.integers(1, 200))
@pytest.mark.slow
def test_the_default_map_is_half_the_layers_from_the_first_to_the_last(depth):
    layers = default_layers(depth)
    assert len(layers) == max(1, depth // 2)
    assert list(layers) == sorted(set(layers))
    assert layers[0] == 0 or len(layers) == 1
    assert 0 <= layers[-1] < depth
    assert len(layers) == 1 or layers[-1] == depth - 1


# ---- pruning


@given(
    data=st.data(),
    depth=st.integers(1, 3),
    heads=st.integers(1, 4),
    units=st.integers(1, 9),
    head_size=st.integers(1, 5),
    distilled=st.booleans(),
    seed=st.integers(0, 99),
)
@pytest.mark.slow
def test_a_model_without_any_of_its_heads_and_units(
    data, depth, heads, units, head_size, distilled, seed
):
    """The logits are those of the whole model with zeros, the parameters fewer by the formula."""
    width = heads * head_size
    shape = {"hidden_size": width, "num_attention_heads": heads, "intermediate_size": units}
    model = small_bert(depth, seed=seed, **shape)
    if distilled:
        model = student_from_teacher(model, range(depth))
    model.double()

    def some(most: int) -> st.SearchStrategy[dict[int, list[int]]]:
        numbers = st.lists(st.integers(0, most - 1), unique=True)
        return st.dictionaries(st.integers(0, depth - 1), numbers)

    cut = data.draw(some(heads)), data.draw(some(units))
    pruned = prune(model, *cut)
    ids = torch.randint(5, 205, (2, 7), generator=torch.Generator().manual_seed(seed))
    inputs = {"input_ids": ids, "attention_mask": torch.tensor([[1] * 7, [1] * 4 + [0] * 3])}
    with torch.no_grad():
        expected, found = zeroed(model, *cut)(**inputs).logits, pruned(**inputs).logits
    assert torch.allclose(found, expected, rtol=0, atol=1e-10)
    gone_heads, gone_units = (sum(map(len, part.values())) for part in cut)
    a_head = 3 * (width + 1) * head_size + head_size * width
    fewer = gone_heads * a_head + gone_units * (2 * width + 1)
    assert parameter_count(model) - parameter_count(pruned) == fewer


# ---- packing and masking


DOCUMENTS = st.lists(
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=30).map(" ".join), min_size=1, max_size=12
)


@given(texts=DOCUMENTS, length=st.integers(8, 40))
def test_packing_loses_and_doubles_no_token(texts, length):
    blocks = pack(texts, TOKENIZER, length)
    cls, sep, pad = 2, 3, 0
    stream = [
        token
        for text in texts
        for token in (*TOKENIZER.encode(text, add_special_tokens=False), sep)
    ][:-1]
    assert blocks.shape[1] == length
    bodies = []
    for row in blocks:
        real = row[row != pad]
        assert real[0] == cls
        assert real[-1] == sep
        bodies += real[1:-1].tolist()
    assert bodies == stream


@pytest.mark.slow
@given(
    texts=DOCUMENTS,
    length=st.integers(8, 40),
    seed=st.integers(0, 2**31),
    epoch=st.integers(0, 1000),
)
def test_masking_any_text(texts, length, seed, epoch):
    blocks = pack(texts, TOKENIZER, length)
    masked = MaskedBlocks(blocks, TOKENIZER, seed=seed)
    ids = np.arange(len(blocks))
    inputs, chosen, originals = masked.mask(epoch, ids)
    special = np.isin(originals, TOKENIZER.all_special_ids)
    assert not (chosen & special).any()
    assert (inputs == originals)[~chosen].all()
    candidates = (~special).sum(1)
    wanted = np.minimum(candidates, np.maximum(1, np.rint(0.15 * candidates)))
    assert chosen.sum(1).tolist() == wanted.tolist()
    assert not np.isin(inputs[chosen], [0, 1, 2, 3]).any()  # [MASK] or a word
    # a sample's masks are its own, whatever stands beside it in the batch
    alone = [masked.mask(epoch, ids[i : i + 1])[0][0] for i in ids]
    assert np.array_equal(np.stack(alone), inputs)


# ---- losses


@st.composite
def batches(draw):
    """Logits and hidden states of student and teacher, and targets of some rows, masked first."""
    rows, words, width = draw(st.integers(1, 6)), draw(st.integers(2, 7)), draw(st.integers(1, 5))
    masked = draw(st.integers(0, rows))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = draw(st.sampled_from([0.1, 1.0, 10.0]))
    student, teacher = (torch.tensor(random.normal(0, scale, (rows, words))) for _ in range(2))
    ours, theirs = (torch.tensor(random.normal(0, 1, (rows, width))) for _ in range(2))
    targets = torch.full((rows,), IGNORE)
    targets[:masked] = torch.tensor(random.integers(0, words, masked))
    return student, teacher, ours, theirs, targets


TEMPERATURES = st.floats(0.2, 20)


@given(batch=batches(), temperature=TEMPERATURES)
def test_the_losses_are_zero_at_equality_and_nowhere_below(batch, temperature):
    student, teacher, ours, theirs, _ = batch
    assert abs(float(soft_target_loss(teacher, teacher, temperature))) < 1e-9
    assert float(soft_target_loss(student, teacher, temperature)) >= -1e-12
    assert abs(float(cosine_loss(theirs, theirs))) < 1e-9
    assert -1e-12 <= float(cosine_loss(ours, theirs)) <= 2 + 1e-12
    sure = torch.full((1, 3), -1e4, dtype=torch.float64).index_fill(1, torch.tensor([1]), 1e4)
    assert float(mlm_loss(sure, torch.tensor([1]))) == 0


@given(batch=batches(), temperature=TEMPERATURES, more=st.integers(1, 4))
def test_rows_that_are_not_selected_change_nothing(batch, temperature, more):
    """Padding never reaches the losses: rows with no target, appended, leave MLM as it is."""
    student, _, _, _, targets = batch
    junk = torch.full((more, student.shape[1]), 1e3, dtype=student.dtype)
    padded = torch.cat([student, junk]), torch.cat([targets, torch.full((more,), IGNORE)])
    assert float(mlm_loss(*padded)) == float(mlm_loss(student, targets))


@pytest.mark.slow
@given(batch=batches(), temperature=TEMPERATURES, masked_only=st.booleans())
def test_gradients_against_finite_differences(batch, temperature, masked_only):
    student, teacher, ours, theirs, targets = batch
    loss_config = LossConfig(temperature=temperature, restrict_kd_to_mask=masked_only)

    def loss(logits, hidden):
        return triple_loss(logits, teacher, hidden, theirs, targets, loss_config).loss

    logits, hidden = student.clone().requires_grad_(), ours.clone().requires_grad_()
    loss(logits, hidden).backward()
    torch.manual_seed(0)
    direction = [torch.randn_like(logits), torch.randn_like(hidden)]
    step = 1e-6
    with torch.no_grad():
        ahead = loss(logits + step * direction[0], hidden + step * direction[1])
        behind = loss(logits - step * direction[0], hidden - step * direction[1])
    slope = float(ahead - behind) / (2 * step)
    ours_slope = float((logits.grad * direction[0]).sum() + (hidden.grad * direction[1]).sum())
    assert abs(slope - ours_slope) <= 1e-5 * max(1.0, abs(slope))


@pytest.mark.slow
@given(
    seed=st.integers(0, 2**31),
    rows=st.integers(1, 12),
    words=st.integers(2, 40),
    temperature=TEMPERATURES,
    masked_only=st.booleans(),
    data=st.data(),
)
def test_the_fused_loss_is_the_plain_formula(seed, rows, words, temperature, masked_only, data):
    masked = data.draw(st.integers(0, rows))
    torch.manual_seed(seed)
    heads = [Head(lambda h: h, torch.nn.Linear(6, words, dtype=torch.float64)) for _ in range(2)]
    ours, theirs = (torch.randn(rows, 6, dtype=torch.float64) for _ in range(2))
    ours.requires_grad_()
    some = torch.randint(words, (masked,))
    loss_config = LossConfig(temperature=temperature, restrict_kd_to_mask=masked_only)
    lean = fused_triple_loss(
        ours, heads[0], some, loss_config, teacher_hidden=theirs, teacher_head=heads[1]
    )
    (gradient,) = torch.autograd.grad(lean.loss, ours)
    targets = torch.full((rows,), IGNORE)
    targets[:masked] = some
    plain = triple_loss(
        heads[0].decoder(ours), heads[1].decoder(theirs), ours, theirs, targets, loss_config
    )
    (expected,) = torch.autograd.grad(plain.loss, ours)
    assert torch.allclose(lean.loss, plain.loss, rtol=1e-10, atol=1e-12)
    assert torch.allclose(gradient, expected, rtol=1e-8, atol=1e-12)
