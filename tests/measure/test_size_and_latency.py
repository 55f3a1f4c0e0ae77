"""Sizes against independent counts; timings on an injected clock. No test asserts a duration."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from forked import Forked
from torch import nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForMaskedLM,
    DistilBertForSequenceClassification,
)

from distilkit.measure import latency, size
from distilkit.measure.latency import compare, time_passes
from distilkit.measure.size import bytes_on_disk, parameter_count, peak_memory_mb

pytestmark = pytest.mark.slow

SMALL_BERT = {
    "vocab_size": 2000,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 128,
    "max_position_embeddings": 32,
}
SMALL_DISTILBERT = {
    "vocab_size": 2000,
    "dim": 64,
    "n_layers": 1,
    "n_heads": 2,
    "hidden_dim": 128,
    "max_position_embeddings": 32,
}


def small_bert() -> BertForMaskedLM:
    return BertForMaskedLM(BertConfig(**SMALL_BERT))


def small_distilbert() -> DistilBertForMaskedLM:
    return DistilBertForMaskedLM(DistilBertConfig(**SMALL_DISTILBERT))


class Stub(nn.Module):
    """Writes down each call; fails at call number `fails_at`."""

    device = torch.device("cpu")

    def __init__(self, name="stub", calls=None, *, vocabulary=100, positions=64, fails_at=None):
        super().__init__()
        self.config = SimpleNamespace(vocab_size=vocabulary, max_position_embeddings=positions)
        self.part = nn.Dropout()
        self.name = name
        self.calls = [] if calls is None else calls
        self.fails_at = fails_at
        self.seen = []

    def forward(self, input_ids, attention_mask):
        self.calls.append(self.name)
        self.seen.append(
            SimpleNamespace(
                ids=input_ids.clone(),
                mask=attention_mask.clone(),
                training=self.training or self.part.training,
                inference=torch.is_inference_mode_enabled(),
                threads=torch.get_num_threads(),
            )
        )
        if len(self.calls) == self.fails_at:
            raise RuntimeError("stub fails")
        return input_ids


@pytest.fixture
def clock(monkeypatch):
    """A clock whose n-th measured interval is `clock.durations[n]` seconds."""

    class Clock:
        durations: list[float] = []  # noqa: RUF012
        now, reads = 0.0, 0

        def __call__(self):
            if self.reads % 2:
                self.now += self.durations[self.reads // 2]
            self.reads += 1
            return self.now

    clock = Clock()
    monkeypatch.setattr(latency, "perf_counter", clock)
    return clock


# ---- size


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda: BertForMaskedLM(BertConfig()), 109_514_298),
        (lambda: DistilBertForMaskedLM(DistilBertConfig()), 66_985_530),
    ],
    ids=["bert-base", "distilbert"],
)
def test_parameter_count_at_the_published_dimensions(build, expected):
    with torch.device("meta"):
        model = build()
    assert parameter_count(model) == expected


def test_tied_parameters_count_once_as_unique_storages_do():
    model = small_bert()
    persistent = model.state_dict()
    storages = {t.untyped_storage().data_ptr(): t.numel() for t in persistent.values()}
    assert len(storages) < len(persistent)  # the decoder is there twice by name
    assert parameter_count(model) == sum(storages.values())
    assert sum(t.numel() for t in persistent.values()) > parameter_count(model)


@pytest.mark.parametrize("build", [small_bert, small_distilbert])
def test_bytes_on_disk_are_the_unique_tensors_within_one_percent(build):
    model = build()
    storages = {
        t.untyped_storage().data_ptr(): t.numel() * t.element_size()
        for t in model.state_dict().values()
    }
    assert bytes_on_disk(model) == pytest.approx(sum(storages.values()), rel=0.01)
    assert bytes_on_disk(model.half()) == pytest.approx(sum(storages.values()) / 2, rel=0.02)


def test_bytes_on_disk_leaves_the_model_as_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr(size.tempfile, "tempdir", str(tmp_path))
    model = small_bert().train()
    model.bert.encoder.eval()
    modes = [module.training for module in model.modules()]
    config = model.config.to_dict()
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    bytes_on_disk(model)
    assert [module.training for module in model.modules()] == modes
    assert model.config.to_dict() == config
    assert all(torch.equal(weights[name], t) for name, t in model.state_dict().items())
    assert list(tmp_path.iterdir()) == []


# ---- time


def test_the_warm_up_is_left_out(clock):
    a, b = [0.010, 0.030, 0.020, 0.050], [0.001, 0.002, 0.009, 0.004]
    warm_up = [9.0, 9.0, 9.0, 9.0]
    clock.durations = warm_up + [x for pair in zip(a, b, strict=True) for x in pair]
    result = time_passes({"a": Stub(), "b": Stub()}, runs=4, warmup=2, length=8)
    assert result["a"] == pytest.approx(a)
    assert result["b"] == pytest.approx(b)


def test_latency_is_numpys_percentile_and_throughput_examples_a_second(clock, monkeypatch):
    monkeypatch.setattr(latency, "bytes_on_disk", lambda _: 4_000_000)
    single, full = [0.010, 0.030, 0.020], [0.5, 0.25, 1.0]
    clock.durations = [9.0, *single, 9.0, *full]
    how = {"runs": 3, "warmup": 1, "batch_size": 10, "throughput_runs": 3, "length": 8}
    (row,) = compare({"a": Stub()}, **how).itertuples()
    assert row.latency_ms_p50 == pytest.approx(20)
    assert row.latency_ms_p95 == pytest.approx(np.percentile(single, 95) * 1e3)
    assert row.throughput_per_s == pytest.approx(20)
    assert row.size_mb == 4
    assert row.threads == torch.get_num_threads()


def test_models_take_turns():
    calls = []
    models = {name: Stub(name, calls) for name in "abc"}
    time_passes(models, runs=3, warmup=2, length=4)
    assert calls == list("abc") * 5


def test_a_model_sees_full_batches_of_ordinary_tokens_in_eval_and_inference_mode():
    stub = Stub(vocabulary=3000, positions=512).train()
    time_passes({"stub": stub}, batch_size=4, length=300, runs=2, warmup=0)
    for call in stub.seen:
        assert call.ids.shape == call.mask.shape == (4, 300)
        assert call.ids.dtype == torch.int64
        assert call.mask.eq(1).all()
        assert call.ids.min() >= 999  # bert-base-uncased: special and unused entries up to 998
        assert call.ids.max() < 3000
        assert not call.training
        assert call.inference
    assert len(stub.seen[0].ids.unique()) > 100


def test_token_ids_are_the_same_each_time_and_leave_the_global_generator_alone():
    before = torch.get_rng_state()
    stubs = Stub(), Stub()
    for stub in stubs:
        time_passes({"stub": stub}, length=16, runs=1, warmup=0)
    assert torch.equal(stubs[0].seen[0].ids, stubs[1].seen[0].ids)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("fails_at", [None, 1, 3])
def test_modes_and_threads_are_put_back_also_after_an_error(fails_at):
    threads = torch.get_num_threads()
    wanted = threads + 1
    calls = []
    mixed, training = Stub("mixed", calls, fails_at=fails_at), Stub("training", calls)
    mixed.train()
    mixed.part.eval()
    training.train()
    models = {"mixed": mixed, "training": training}
    if fails_at is None:
        time_passes(models, length=4, runs=2, warmup=0, threads=wanted)
    else:
        with pytest.raises(RuntimeError, match="stub fails"):
            time_passes(models, length=4, runs=2, warmup=0, threads=wanted)
    assert {call.threads for call in mixed.seen} == {wanted}
    assert torch.get_num_threads() == threads
    assert not torch.is_inference_mode_enabled()
    assert (mixed.training, mixed.part.training) == (True, False)
    assert (training.training, training.part.training) == (True, True)


@pytest.mark.parametrize(
    ("models", "options", "message"),
    [
        ({"a": Stub()}, {"runs": 0}, "runs is 0"),
        ({"a": Stub()}, {"batch_size": 0}, "batch_size is 0"),
        ({"a": Stub()}, {"length": 0}, "length is 0"),
        ({"a": Stub()}, {"threads": 0}, "threads is 0"),
        ({"a": Stub(positions=64)}, {"length": 65}, "pass length=64 or less"),
    ],
)
def test_bad_requests_say_what_to_do(models, options, message):
    options = {"length": 8, **options}
    with pytest.raises(ValueError, match=message):
        time_passes(models, **options)


def test_compare_gives_a_row_a_model():
    models = {
        "bert": BertForSequenceClassification(BertConfig(**SMALL_BERT, num_labels=1)),
        "distilbert": DistilBertForSequenceClassification(
            DistilBertConfig(**SMALL_DISTILBERT, num_labels=1)
        ),
        "mlm": small_distilbert(),
    }
    table = compare(models, length=16, threads=1, runs=2, warmup=1, batch_size=3, throughput_runs=2)
    assert list(table.columns) == [
        "model",
        "parameters",
        "size_mb",
        "latency_ms_p50",
        "latency_ms_p95",
        "throughput_per_s",
        "threads",
        "length",
    ]
    assert list(table["model"]) == list(models)
    assert set(table["threads"]) == {1}
    assert set(table["length"]) == {16}
    for row, model in zip(table.itertuples(), models.values(), strict=True):
        assert row.parameters == parameter_count(model)
        assert row.size_mb == bytes_on_disk(model) / 1e6
        assert row.latency_ms_p95 >= row.latency_ms_p50 > 0
        assert row.throughput_per_s > 0
        assert model.training  # as transformers built it


# ---- memory


def test_peak_memory_grows_with_what_a_process_holds_and_never_falls():
    if peak_memory_mb() is None:
        pytest.skip("this system does not say")
    code = (
        "import numpy; from distilkit.measure.size import peak_memory_mb as peak_mb\n"
        "peaks = [peak_mb()]; held = numpy.ones(400_000_000 // 8); peaks.append(peak_mb())\n"
        "del held; peaks.append(peak_mb()); print(*peaks)"
    )
    process = Forked(["-c", code])
    assert process.wait() == 0, process.output()
    before, holding, after = map(float, process.output().split())
    assert 200 < holding - before < 420
    assert after == pytest.approx(holding, abs=5)  # the kernel counts in batches
