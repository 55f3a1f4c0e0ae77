"""Every field of every config refuses nonsense by name; the dial; configs as JSON."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest

from distilkit import config
from distilkit.config import MLM_ONLY, SCALES, FinetuneLossConfig, LossConfig, TrainingConfig, scale
from distilkit.run import as_json

TINY = SCALES["tiny"]

NOT_A_NUMBER = ("1e-4", None, True, math.nan, math.inf, -math.inf, -1.0, 1j, [1.0], np.ones(2))
NOT_WHOLE = ("3", None, True, math.nan, math.inf, -1, 1.5, 2.0, [1], np.ones(2))

# class, field -> values it must refuse
BAD_PAIRS = ((), ((1,),), ((1, 2, 3),), ((0, -1),), ((0.5, 1),), ((True, 1),))

BAD = {
    (LossConfig, "kd_weight"): NOT_A_NUMBER,
    (LossConfig, "mlm_weight"): NOT_A_NUMBER,
    (LossConfig, "cosine_weight"): NOT_A_NUMBER,
    (LossConfig, "temperature"): (*NOT_A_NUMBER, 0, 0.0),
    (LossConfig, "restrict_kd_to_mask"): ("masked", None, 1, 0, "True"),
    (LossConfig, "mlm_target"): ("student", "", None, True, 1, "Original"),
    (LossConfig, "cosine_layers"): BAD_PAIRS,
    (FinetuneLossConfig, "label_weight"): NOT_A_NUMBER,
    (FinetuneLossConfig, "kd_weight"): NOT_A_NUMBER,
    (FinetuneLossConfig, "temperature"): (*NOT_A_NUMBER, 0),
    (FinetuneLossConfig, "cosine_weight"): NOT_A_NUMBER,
    (FinetuneLossConfig, "cosine_layers"): BAD_PAIRS,
    (TrainingConfig, "epochs"): (*NOT_WHOLE, 0),
    (TrainingConfig, "steps"): ("3", True, math.nan, math.inf, -1, 1.5, 0, [1]),  # None is allowed
    (TrainingConfig, "batch_size"): (*NOT_WHOLE, 0),
    (TrainingConfig, "micro_batch_size"): (*NOT_WHOLE, 0),
    (TrainingConfig, "learning_rate"): (*NOT_A_NUMBER, 0),
    (TrainingConfig, "betas"): (
        (0.9,),
        (0.9, 0.98, 0.99),
        (),
        (0.9, 1.0),
        (1.5, 0.98),
        (-0.1, 0.98),
        (0.9, math.nan),
        ("0.9", 0.98),
        (0.9, None),
        (True, 0.98),
        "ab",
        None,
        0.9,
    ),
    (TrainingConfig, "eps"): (*NOT_A_NUMBER, 0),
    (TrainingConfig, "weight_decay"): NOT_A_NUMBER,
    (TrainingConfig, "warmup_fraction"): (*NOT_A_NUMBER, 1.01, 5),
    (TrainingConfig, "max_grad_norm"): (*NOT_A_NUMBER, 0),
    (TrainingConfig, "seed"): NOT_WHOLE,
    (TrainingConfig, "precision"): ("fp16", "", None, True, 16, "BF16"),
    (TrainingConfig, "log_interval"): (*NOT_WHOLE, 0),
    (TrainingConfig, "eval_interval"): ("3", True, math.nan, math.inf, -1, 1.5, 0, [1]),
    (TrainingConfig, "checkpoint_interval"): (*NOT_WHOLE, 0),
    (TrainingConfig, "workers"): NOT_WHOLE,
    (TrainingConfig, "log_with"): ("all", "", True, 3, "TensorBoard"),
    (config.Scale, "tasks"): (("cola", "squad"), ("CoLA",), (None,), "cola", None),
    (config.Scale, "length"): (*NOT_WHOLE, 0, 7),
    (config.Scale, "seeds"): ((), None, 5, (1, "x"), (1, -1), (True,)),
    (config.Scale, "teacher"): (None, "", 3),
}


def cases():
    for (cls, name), values in BAD.items():
        for value in values:
            yield pytest.param(cls, name, value, id=f"{cls.__name__}.{name}={value!r}")


GOOD = {
    LossConfig: LossConfig(),
    FinetuneLossConfig: FinetuneLossConfig(),
    TrainingConfig: TrainingConfig(),
    config.Scale: SCALES["base"],
}


def test_the_table_of_bad_values_covers_every_field_that_is_data():
    for cls in (LossConfig, FinetuneLossConfig, TrainingConfig):
        assert {f.name for f in dataclasses.fields(cls)} == {n for c, n in BAD if c is cls}


@pytest.mark.parametrize(("cls", "name", "value"), list(cases()))
def test_a_bad_value_is_refused_by_the_name_of_its_field(cls, name, value):
    with pytest.raises(ValueError, match=rf"{cls.__name__}\.{name}\b"):
        dataclasses.replace(GOOD[cls], **{name: value})


@pytest.mark.parametrize(
    ("cls", "values"),
    [
        (LossConfig, {"kd_weight": 0, "mlm_weight": 1, "cosine_weight": 0.0, "temperature": 1e-3}),
        (LossConfig, {"restrict_kd_to_mask": True, "mlm_target": "teacher", "temperature": 100}),
        (FinetuneLossConfig, {"label_weight": 0, "kd_weight": 1}),
        (FinetuneLossConfig, {"label_weight": 1, "kd_weight": 0}),
        (FinetuneLossConfig, {"label_weight": 0, "kd_weight": 0, "cosine_weight": 1}),
        (TrainingConfig, {"epochs": 1, "steps": 1, "batch_size": 1, "micro_batch_size": 1}),
        (
            TrainingConfig,
            {"betas": (0, 0.999), "warmup_fraction": 0, "weight_decay": 0, "seed": 0, "workers": 0},
        ),
        (
            TrainingConfig,
            {"warmup_fraction": 1, "precision": "bf16", "eval_interval": 1},
        ),
        (config.Scale, {"length": 8, "seeds": (0,)}),
    ],
)
def test_values_at_the_edge_of_what_is_allowed_are_taken_as_they_are(cls, values):
    made = dataclasses.replace(GOOD[cls], **values)
    assert {name: getattr(made, name) for name in values} == values


def test_all_weights_zero_is_nothing_to_learn_from():
    with pytest.raises(ValueError, match="LossConfig: all weights are 0"):
        LossConfig(kd_weight=0, mlm_weight=0, cosine_weight=0)
    with pytest.raises(ValueError, match="FinetuneLossConfig: all weights are 0"):
        FinetuneLossConfig(label_weight=0, kd_weight=0)


def test_the_defaults_are_the_recipe_of_the_released_weights():
    o, t = LossConfig(), TrainingConfig()
    assert (o.kd_weight, o.mlm_weight, o.cosine_weight, o.temperature) == (5, 2, 1, 2)
    assert (o.restrict_kd_to_mask, o.mlm_target) == (False, "original")
    assert (t.learning_rate, t.betas, t.eps, t.weight_decay) == (5e-4, (0.9, 0.98), 1e-6, 0)
    assert (t.warmup_fraction, t.max_grad_norm, t.epochs, t.seed) == (0.05, 5, 3, 56)
    squad = FinetuneLossConfig()
    assert (squad.label_weight, squad.kd_weight, squad.temperature) == (0.5, 0.5, 2)


@pytest.mark.parametrize(
    ("values", "needed"),
    [
        ({}, True),
        ({"kd_weight": 0, "cosine_weight": 0}, False),
        ({"kd_weight": 0, "mlm_weight": 0}, True),
        ({"cosine_weight": 0, "mlm_weight": 0}, True),
        ({"kd_weight": 0, "cosine_weight": 0, "mlm_target": "teacher"}, True),
    ],
)
def test_needs_teacher(values, needed):
    assert LossConfig(**values).needs_teacher is needed


def test_mlm_only_asks_no_teacher():
    assert not MLM_ONLY.needs_teacher
    assert MLM_ONLY.mlm_weight > 0


def test_lists_are_taken_and_kept_as_tuples():
    pairs = [[0, 0], [3, 6]]
    with_lists = dataclasses.replace(
        SCALES["tiny"],
        tasks=["sst2"],
        seeds=[1, 2],
        loss_config=LossConfig(cosine_layers=pairs),
        finetuning=TrainingConfig(betas=[0.9, 0.99]),
    )
    assert isinstance(hash(with_lists), int)
    assert with_lists.loss_config.cosine_layers == ((0, 0), (3, 6))


def test_configs_cannot_be_changed():
    for made in (LossConfig(), FinetuneLossConfig(), TrainingConfig(), TINY):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(made, dataclasses.fields(made)[0].name, 1)


# The dial


def test_scale_by_argument_by_environment_and_by_default(monkeypatch):
    monkeypatch.delenv("DISTILKIT_SCALE", raising=False)
    assert scale().name == "tiny"
    assert scale("small").name == "small"
    monkeypatch.setenv("DISTILKIT_SCALE", "base")
    assert scale().name == "base"
    assert scale("small").name == "small"  # the argument wins
    monkeypatch.setenv("DISTILKIT_SCALE", "")
    assert scale().name == "tiny"


def test_an_unknown_scale_names_the_known_ones(monkeypatch):
    with pytest.raises(ValueError, match=r"'huge'.*tiny, small, base"):
        scale("huge")
    monkeypatch.setenv("DISTILKIT_SCALE", "Tiny")
    with pytest.raises(ValueError, match=r"'Tiny'.*DISTILKIT_SCALE"):
        scale()


def test_the_scales_are_consistent():
    assert list(SCALES) == ["tiny", "small", "base"]
    for name, one in SCALES.items():
        assert one.name == name
        assert one.tasks
        assert len(set(one.seeds)) == len(one.seeds)

    shipped = json.loads((Path(TINY.teacher) / "config.json").read_text())
    assert TINY.length <= shipped["max_position_embeddings"]


# JSON


@pytest.mark.parametrize(
    "made", [LossConfig(), FinetuneLossConfig(), TrainingConfig(), *SCALES.values()]
)
def test_as_json_survives_a_round_trip_through_json(made):
    plain = as_json(made)
    back = json.loads(json.dumps(plain, allow_nan=False))
    assert back == plain  # nothing is turned into something else: no tuple is left in it
    assert list(back) == [f.name for f in dataclasses.fields(made) if f.name != "log_with"]


def test_from_json_the_same_config_is_made_again():
    made = TrainingConfig(steps=7, betas=(0.8, 0.9), precision="fp32")
    back = json.loads(json.dumps(as_json(made)))
    assert TrainingConfig(**back | {"betas": tuple(back["betas"])}) == made
    assert as_json(made)["betas"] == [0.8, 0.9]
    nested = as_json(TINY)
    assert nested["distillation"]["betas"] == [0.9, 0.98]
    assert LossConfig(**nested["loss_config"]) == TINY.loss_config


def test_as_json_takes_dataclass_instances_only():
    for wrong in ({"mlm_weight": 1}, 3, None):
        with pytest.raises(TypeError):
            as_json(wrong)


def test_numpy_numbers_that_pass_the_checks_can_be_written():
    made = (TrainingConfig(seed=np.int64(3)), LossConfig(mlm_weight=np.float32(2)))
    assert json.dumps([as_json(one) for one in made])


# Home


def test_home_is_the_repository_unless_the_environment_names_another(monkeypatch, tmp_path):
    monkeypatch.delenv("DISTILKIT_HOME", raising=False)
    assert config.home() == Path(__file__).resolve().parents[1]
    monkeypatch.setenv("DISTILKIT_HOME", "")
    assert config.home() == Path(__file__).resolve().parents[1]
    monkeypatch.setenv("DISTILKIT_HOME", str(tmp_path))
    assert config.home() == tmp_path
    monkeypatch.chdir(tmp_path)  # the folder one stands in plays no part
    monkeypatch.delenv("DISTILKIT_HOME")
    assert config.home() == Path(__file__).resolve().parents[1]
    monkeypatch.setattr(config, "CHECKOUT", None)  # installed from a wheel
    assert config.home() == tmp_path


@pytest.mark.parametrize(("name", "tokens"), [("tiny", 1.2e5), ("small", 2.4e6), ("base", 1.2e8)])
def test_a_killed_distillation_loses_little(name, tokens):
    """`tokens`: of the scale's text, about."""
    chosen = SCALES[name]
    training = chosen.distillation
    a_step = training.batch_size * chosen.length
    steps = training.steps or training.epochs * tokens / a_step
    assert training.checkpoint_interval <= 0.4 * steps
    assert training.eval_interval <= 0.5 * steps
