"""No token lost, the right ones masked, and masks a function of (seed, epoch, sample id) only."""

from __future__ import annotations

import logging
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.stats
import torch
from transformers import BertTokenizerFast

from distilkit import masking as corpus
from distilkit.data.packing import pack
from distilkit.masking import MaskedBlocks, choose_masked, masking_weights, uniform

PAD, UNK, CLS, SEP, MASK = range(5)  # the fixture's vocabulary: then w0 to w199
V = 205


def full_blocks(blocks=60, length=64, seed=0):
    """[CLS] random words [SEP], no padding."""
    ids = np.random.default_rng(seed).integers(5, V, (blocks, length)).astype(np.int32)
    ids[:, 0], ids[:, -1] = CLS, SEP
    return ids


def padded_blocks(lengths, length=32, seed=0):
    ids = np.zeros((len(lengths), length), dtype=np.int32)
    random = np.random.default_rng(seed)
    for row, n in enumerate(lengths):
        ids[row, :n] = [CLS, *random.integers(5, V, n - 2), SEP]
    return ids


def far(observed, n, p):
    """By how many standard deviations a count of n draws is off n·p."""
    return abs(observed - n * p) / np.sqrt(n * p * (1 - p))


# Packing


def stream_of(texts):
    """The tokens that must come out: words by their number, a [SEP] between documents."""
    stream = []
    for text in texts:
        words = [5 + int(word[1:]) for word in text.split()]
        if words:
            stream += [*words, SEP]
    return stream[:-1]


@pytest.mark.parametrize("length", [8, 16, 33, 64])
def test_packing_loses_and_doubles_no_token(tokenizer, texts, length):
    blocks = pack(texts, tokenizer, length)
    assert blocks.dtype == np.int32
    assert blocks.shape[1] == length
    stream = stream_of(texts)
    body = length - 2
    assert len(blocks) == -(-len(stream) // body)
    assert (blocks[:, 0] == CLS).all()
    found = []
    for i, block in enumerate(blocks.tolist()):
        if i < len(blocks) - 1:
            assert PAD not in block
        while block[-1] == PAD:
            block.pop()
        assert block[-1] == SEP  # of the block itself, after its text
        found += block[1:-1]
    assert found == stream


@pytest.mark.parametrize("words", [1, 5, 6, 7, 11, 12, 13])
def test_packing_at_the_borders_of_a_block(tokenizer, words):
    """Six tokens of text fill a block of eight: nothing, one or all of it may be left over."""
    text = " ".join(f"w{i}" for i in range(words))
    blocks = pack([text], tokenizer, 8)
    rows = [
        [CLS, *range(5 + start, 5 + min(start + 6, words)), SEP] for start in range(0, words, 6)
    ]
    assert blocks.tolist() == [row + [PAD] * (8 - len(row)) for row in rows]


def test_documents_without_tokens_leave_no_trace(tokenizer):
    assert pack(["w1", "", "  ", "w2"], tokenizer, 8).tolist() == [[CLS, 6, SEP, 7, SEP, 0, 0, 0]]


def test_packing_takes_any_iterable_and_more_texts_than_it_tokenizes_at_once(tokenizer):
    texts = [f"w{i % 200}" for i in range(2100)]
    blocks = pack((text for text in texts), tokenizer, 64)
    words = Counter(blocks.ravel().tolist())
    expected = Counter(5 + i % 200 for i in range(2100))
    assert {k: n for k, n in words.items() if k >= 5} == dict(expected)


def test_a_document_longer_than_the_model_is_cut_into_blocks_without_a_warning(tmp_path):
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nw0\n")
    short = BertTokenizerFast(vocab=str(tmp_path / "vocab.txt"), model_max_length=16)
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    logger = logging.getLogger("transformers")  # it does not propagate to pytest's own handler
    logger.addHandler(handler)
    try:
        blocks = pack(["w0 " * 100], short, 12)
        assert said == []
        short("w0 " * 100)  # the handler does hear the warning where it is not suppressed
    finally:
        logger.removeHandler(handler)
    assert "longer than" in said[0]
    assert (blocks == 5).sum() == 100


def test_errors_of_packing(tokenizer, texts):
    for length in (7, 2, 0, -1):
        with pytest.raises(ValueError, match="at least 8 tokens"):
            pack(texts, tokenizer, length)
    for nothing in ([], ["", "  "]):
        with pytest.raises(ValueError, match="no tokens"):
            pack(nothing, tokenizer, 16)
    for missing in ("cls_token_id", "sep_token_id", "pad_token_id"):
        other = {"cls_token_id": 2, "sep_token_id": 3, "pad_token_id": 0} | {missing: None}
        with pytest.raises(ValueError, match=r"needs \[CLS\], \[SEP\] and \[PAD\]"):
            pack(texts, SimpleNamespace(**other), 16)


# Random numbers


def test_uniform_numbers_are_uniform_and_independent():
    u = uniform(1, 2, np.arange(400), 100, 0)
    assert u.shape == (400, 100)
    assert u.dtype == np.float64
    assert (u > 0).all()
    assert (u < 1).all()
    assert scipy.stats.kstest(u.ravel(), "uniform").pvalue > 0.001
    assert len(np.unique(u)) == u.size
    others = [
        u[:, 1:].ravel(),
        uniform(1, 2, np.arange(400), 100, 1).ravel(),
        uniform(1, 3, np.arange(400), 100, 0).ravel(),
        uniform(2, 2, np.arange(400), 100, 0).ravel(),
        uniform(1, 2, np.arange(1, 401), 100, 0).ravel(),
        uniform(2, 1, np.arange(400), 100, 0).ravel(),
    ]
    for other in others:
        mine = u[:, :-1].ravel() if other.size < u.size else u.ravel()
        assert abs(np.corrcoef(mine, other)[0, 1]) * np.sqrt(mine.size) < 4


def test_uniform_takes_large_seeds_epochs_and_ids():
    u = uniform(2**63, 10**6, np.array([0, 2**40]), 4, 2)
    assert ((u > 0) & (u < 1)).all()


# Which tokens are masked


def test_fifteen_in_a_hundred_of_each_block_exactly():
    lengths = [2, 3, 4, 5, 8, 9, 12, 20, 31, 32] * 5
    blocks = padded_blocks(lengths)
    weights = masking_weights(blocks, V, range(5))
    for epoch in range(4):
        masked = choose_masked(blocks, weights, 3, epoch, np.arange(len(blocks)))
        assert masked.dtype == bool
        assert not masked[blocks < 5].any()  # never special tokens, never padding
        for row, n in zip(masked, lengths, strict=True):
            words = n - 2
            if words == 0:
                assert row.sum() == 0
            elif words < 7:
                assert row.sum() == 1  # at least one
            else:
                assert abs(row.sum() - 0.15 * words) <= 0.5  # the nearest whole number


def test_full_blocks_have_the_same_number_of_masked_tokens(tokenizer):
    data = MaskedBlocks(full_blocks(length=128), tokenizer, seed=1)
    counts = {
        int(data.mask(epoch, np.arange(60))[1][i].sum()) for epoch in (0, 1) for i in range(60)
    }
    assert counts == {19}  # 0.15 · 126 = 18.9


@pytest.mark.parametrize("special", [UNK, MASK, SEP, CLS, PAD])
def test_special_tokens_in_the_text_are_never_masked(tokenizer, special):
    blocks = full_blocks(40, 32)
    blocks[:, 5:20] = special
    data = MaskedBlocks(blocks, tokenizer, seed=1)
    for epoch in range(3):
        inputs, masked, originals = data.mask(epoch, np.arange(40))
        assert not masked[originals < 5].any()
        assert (inputs[:, 5:20] == special).all()
        assert masked.sum(1).tolist() == [2] * 40  # 15 % of the 15 words


def test_blocks_of_special_tokens_only_have_nothing_to_mask(tokenizer):
    blocks = np.array([[CLS, UNK, SEP, PAD, PAD, PAD, PAD, PAD]] * 3)
    batch = MaskedBlocks(blocks, tokenizer, seed=1).batch(0, np.arange(3))
    assert batch["counts"] == {"examples": 3, "tokens": 9, "masked": 0}
    assert batch["targets"].shape == (0,)
    assert torch.equal(batch["input_ids"], torch.from_numpy(blocks))


def alike(tokenizer) -> np.ndarray:
    """Weights that mask all words alike."""
    return masking_weights(full_blocks(1), len(tokenizer), tokenizer.all_special_ids, smoothing=0)


@pytest.mark.slow
def test_every_word_of_a_block_can_be_masked_at_every_place(tokenizer):
    data = MaskedBlocks(full_blocks(1, 32), tokenizer, seed=1, weights=alike(tokenizer))
    hit = sum(data.mask(epoch, np.array([0]))[1][0].astype(int) for epoch in range(2000))
    assert hit[0] == hit[-1] == 0
    share = 4 / 30  # 0.15 · 30 = 4.5, a half rounded to the even number
    assert max(far(n, 2000, share) for n in hit[1:-1]) < 4.5


def frequent_and_rare(blocks=4000, seed=0):
    """In every block one word once, one 4 times, one 16 times, shuffled."""
    words = np.repeat([10, 11, 12], [1, 4, 16])
    random = np.random.default_rng(seed)
    ids = np.array([[CLS, *random.permutation(words), SEP] for _ in range(blocks)])
    return ids.astype(np.int32)


@pytest.mark.parametrize("smoothing", [0.7, 0.0])
def test_rare_words_are_masked_more_often_by_their_count(tokenizer, monkeypatch, smoothing):
    """With one draw a block, P(a token) is exactly proportional to its word's count^-smoothing."""
    monkeypatch.setattr(corpus, "MASKED_SHARE", 0.001)  # "at least one" remains
    blocks = frequent_and_rare()
    weights = masking_weights(blocks, len(tokenizer), tokenizer.all_special_ids, smoothing)
    data = MaskedBlocks(blocks, tokenizer, seed=4, weights=weights)
    _, masked, originals = data.mask(0, np.arange(len(blocks)))
    assert (masked.sum(1) == 1).all()
    seen = Counter(originals[masked].tolist())
    counts = {10: 1, 11: 4, 12: 16}  # the common factor, the number of blocks, cancels
    mass = {word: n * n**-smoothing for word, n in counts.items()}
    for word in counts:
        p = mass[word] / sum(mass.values())
        assert far(seen[word], len(blocks), p) < 4
        for other in (0.3, 1.0):  # the test can tell another exponent
            wrong = {w: n * n**-other for w, n in counts.items()}
            if word == 10:
                assert far(seen[word], len(blocks), wrong[word] / sum(wrong.values())) > 8


def test_the_published_share_and_exponent_are_the_defaults(tokenizer):
    assert corpus.MASKED_SHARE == 0.15
    assert corpus.SMOOTHING == 0.7
    blocks = frequent_and_rare(50)
    data = MaskedBlocks(blocks, tokenizer, seed=1)
    assert data.weights[11] / data.weights[10] == pytest.approx(4**-0.7)


def test_masking_weights():
    blocks = np.array([[CLS, 7, 7, 8, SEP, PAD], [CLS, 7, 9, SEP, PAD, PAD]])
    weights = masking_weights(blocks, 12, [0, 1, 2, 3, 4])
    assert weights.tolist() == pytest.approx([0] * 5 + [1, 1, 3**-0.7, 1, 1, 1, 1])
    assert masking_weights(blocks, 12, [0, 2, 3], 0.0).tolist() == [0, 1, 0, 0, *[1] * 8]
    assert masking_weights(blocks, 12, [], 1.0)[PAD] == pytest.approx(1 / 3)


def test_weights_of_another_corpus_are_taken(tokenizer):
    blocks = full_blocks()
    weights = np.zeros(V)
    weights[5:105] = 1.0
    data = MaskedBlocks(blocks, tokenizer, seed=1, weights=weights)
    _, masked, originals = data.mask(0, np.arange(len(blocks)))
    assert masked.sum() > 100
    assert (originals[masked] < 105).all()
    # validation text under the weights of the training text
    training = MaskedBlocks(full_blocks(seed=1), tokenizer, seed=1)
    validation = MaskedBlocks(blocks, tokenizer, seed=1, weights=training.weights)
    own = MaskedBlocks(blocks, tokenizer, seed=1)
    assert np.array_equal(validation.weights, training.weights)
    assert not np.array_equal(validation.mask(0, np.arange(60))[1], own.mask(0, np.arange(60))[1])


# What becomes of them


def test_eighty_ten_ten(tokenizer):
    blocks = full_blocks(1200, 66)
    data = MaskedBlocks(blocks, tokenizer, seed=2, weights=alike(tokenizer))
    inputs, masked, originals = data.mask(1, np.arange(len(blocks)))
    assert np.array_equal(originals, blocks)
    assert np.array_equal(inputs[~masked], blocks[~masked])  # the others stay
    n = int(masked.sum())
    assert n == 1200 * 10  # 0.15 · 64 = 9.6
    now, was = inputs[masked], originals[masked]
    words = 200
    assert far((now == MASK).sum(), n, 0.8) < 4
    assert far((now == was).sum(), n, 0.1 + 0.1 / words) < 4
    other = now[(now != MASK) & (now != was)]
    assert far(len(other), n, 0.1 * (1 - 1 / words)) < 4
    assert other.min() >= 5  # never a special token
    counts = np.bincount(other - 5, minlength=words)
    assert scipy.stats.chisquare(counts).pvalue > 0.001  # any word, all alike
    # what becomes of a token does not depend on where it is
    places = np.nonzero(masked)[1]
    replaced = places[now != MASK]
    assert abs(replaced.mean() - places.mean()) < 4 * places.std() / np.sqrt(len(replaced))


# A function of (seed, epoch, sample id)


def test_a_samples_mask_does_not_depend_on_its_batch(tokenizer):
    data = MaskedBlocks(padded_blocks([20, 32, 7, 32, 11, 32, 5] * 4), tokenizer, seed=5)
    whole = data.mask(3, np.arange(28))
    for ids in (np.array([17]), np.arange(28)[::-1], np.array([4, 4, 9]), np.arange(0, 28, 3)):
        part = data.mask(3, ids)
        for one, all_of_it in zip(part, whole, strict=True):
            assert np.array_equal(one, all_of_it[ids])


def test_nor_on_what_was_asked_before_nor_on_the_global_generators(tokenizer):
    blocks, ids = full_blocks(), np.arange(60)
    first = MaskedBlocks(blocks, tokenizer, seed=5)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    reference = first.mask(2, ids)[0]
    for epoch in range(5):
        first.mask(epoch, ids[:7])
    np.random.seed(2)  # noqa: NPY002
    torch.manual_seed(2)
    assert np.array_equal(first.mask(2, ids)[0], reference)
    again = MaskedBlocks(blocks.copy(), tokenizer, seed=5)
    assert np.array_equal(again.mask(2, ids)[0], reference)


def test_epochs_and_seeds_and_samples_differ(tokenizer):
    blocks = np.repeat(full_blocks(1), 60, axis=0)  # the same text under 60 ids
    ids = np.arange(60)
    data = MaskedBlocks(blocks, tokenizer, seed=5)
    other = MaskedBlocks(blocks, tokenizer, seed=6)
    masks = [data.mask(0, ids)[1], data.mask(1, ids)[1], other.mask(0, ids)[1]]
    assert len({row.tobytes() for mask in masks for row in mask}) == 180
    # no more alike than chance allows: two masks of 9 among 62 share 9 · 9 / 62 on the average
    for a, b in [(0, 1), (0, 2), (1, 2)]:
        shared = (masks[a] & masks[b]).sum(1).mean()
        assert shared == pytest.approx(81 / 62, abs=5 * 1.0 / np.sqrt(60))


def test_masking_leaves_the_blocks_as_they_are(tokenizer):
    blocks = full_blocks()
    before = blocks.copy()
    data = MaskedBlocks(blocks, tokenizer, seed=5)
    inputs, _, originals = data.mask(0, np.arange(60))
    inputs[:], originals[:] = 1, 1
    data.batch(0, np.arange(60))["input_ids"].fill_(1)
    assert np.array_equal(blocks, before)


def test_the_order_is_a_permutation_of_its_own_in_every_epoch(tokenizer):
    data = MaskedBlocks(full_blocks(50), tokenizer, seed=5)
    assert len(data) == 50
    orders = [data.order(epoch, 8) for epoch in range(5)]
    orders.append(MaskedBlocks(full_blocks(50), tokenizer, seed=6).order(0, 8))
    for order in orders:
        assert sorted(order.tolist()) == list(range(50))
        assert order.tolist() != list(range(50))
    assert len({order.tobytes() for order in orders}) == 6
    again = MaskedBlocks(full_blocks(50), tokenizer, seed=5)
    assert np.array_equal(again.order(3, 8), orders[3])
    assert np.array_equal(again.order(3, 16), orders[3])


# Batches


@pytest.mark.parametrize("ids", [[0, 1, 2, 3, 4, 5], [5, 2], [3], [4, 0, 1]])
def test_a_batch_is_what_a_slow_walk_over_its_tokens_finds(tokenizer, ids):
    blocks = padded_blocks([32, 20, 7, 32, 3, 14])
    data = MaskedBlocks(blocks, tokenizer, seed=7)
    ids = np.array(ids)
    batch = data.batch(2, ids)
    length = blocks.shape[1]
    inputs = batch["input_ids"].numpy()
    assert inputs.shape == (len(ids), length)
    masked_count = batch["counts"]["masked"]

    # the rows: every non-pad position once, the masked ones first
    real = [i * length + j for i, b in enumerate(ids) for j in range(length) if blocks[b, j] != PAD]
    rows = batch["rows"].tolist()
    assert sorted(rows) == real
    assert batch["counts"] == {"examples": len(ids), "tokens": len(real), "masked": masked_count}
    assert batch["targets"].shape == (masked_count,)

    # the targets: what stood there; and nothing else was changed
    restored = inputs.ravel().copy()
    for row, target in zip(rows[:masked_count], batch["targets"].tolist(), strict=True):
        i, j = divmod(row, length)
        assert target == blocks[ids[i], j]
        assert target >= 5
        restored[row] = target
    assert np.array_equal(restored.reshape(inputs.shape), blocks[ids])
    assert all(inputs.ravel()[row] != MASK for row in rows[masked_count:])

    mask = batch["attention_mask"]
    if (blocks[ids] != PAD).all():
        assert mask is None
    else:
        assert mask.tolist() == [[int(t != PAD) for t in blocks[b]] for b in ids]
    for name in ("input_ids", "rows", "targets"):
        assert batch[name].dtype == torch.int64


def test_there_is_an_attention_mask_only_if_there_is_padding(tokenizer):
    data = MaskedBlocks(padded_blocks([32, 32, 31]), tokenizer, seed=7)
    assert data.batch(0, np.array([0, 1]))["attention_mask"] is None
    assert data.batch(0, np.array([0, 2]))["attention_mask"].sum() == 63
    assert data.batch(0, np.array([2]))["attention_mask"].shape == (1, 32)


def test_counts_of_micro_batches_add_up(tokenizer, texts):
    data = MaskedBlocks(pack(texts, tokenizer, 16), tokenizer, seed=7)
    order = data.order(0, 7)
    parts = [data.batch(0, order[i : i + 7])["counts"] for i in range(0, len(order), 7)]
    whole = data.batch(0, np.arange(len(data)))["counts"]
    assert {k: sum(part[k] for part in parts) for k in whole} == whole
    stream = stream_of(texts)
    assert whole["tokens"] == len(stream) + 2 * len(data)


# Errors


def test_blocks_of_another_tokenizer_are_refused(tokenizer):
    blocks = full_blocks(3, 16)
    blocks[1, 4] = V
    with pytest.raises(ValueError, match=f"hold ids .* to {V}.*another tokenizer"):
        MaskedBlocks(blocks, tokenizer, seed=1)
    blocks[1, 4] = -1
    with pytest.raises(ValueError, match="another tokenizer"):
        MaskedBlocks(blocks, tokenizer, seed=1)
    blocks[1, 4] = V - 1
    assert len(MaskedBlocks(blocks, tokenizer, seed=1)) == 3


def test_blocks_of_another_shape_are_refused(tokenizer):
    for shape in ((0, 16), (16,), (2, 2, 8)):
        with pytest.raises(ValueError, match=r"give \[blocks, L\]"):
            MaskedBlocks(np.full(shape, 7), tokenizer, seed=1)


def test_a_tokenizer_without_a_mask_token_is_refused():
    with pytest.raises(ValueError, match=r"no \[MASK\]"):
        MaskedBlocks(full_blocks(2, 16), SimpleNamespace(mask_token_id=None), seed=1)


@pytest.mark.parametrize("shape", [(100,), (V + 1,), (V, 1)])
def test_weights_that_do_not_fit_the_tokenizer_are_refused(tokenizer, shape):
    weights = np.ones(shape)
    weights[:5] = 0
    with pytest.raises(ValueError, match="weights of shape"):
        MaskedBlocks(full_blocks(3, 16), tokenizer, seed=1, weights=weights)


def test_weights_that_would_mask_special_tokens_are_refused(tokenizer):
    weights = np.ones(V)
    weights[:4] = 0  # but not [MASK]
    with pytest.raises(ValueError, match="0 for its special tokens"):
        MaskedBlocks(full_blocks(3, 16), tokenizer, seed=1, weights=weights)
