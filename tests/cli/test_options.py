"""Options set the fields of the configs that they are named after."""

from __future__ import annotations

import sys
from dataclasses import replace

import huggingface_hub
import pytest
from transformers import BertConfig, DistilBertConfig

from distilkit.cli.main import GROUPS, build_parser, main
from distilkit.cli.measure import BENCHES
from distilkit.cli.options import chosen_scale, given, settings_for
from distilkit.config import SCALES, LossConfig
from distilkit.models import loading
from distilkit.models.loading import finetuning_settings
from distilkit.run import as_json, open_run
from distilkit.study import label_efficiency, study


def chosen(*command: str):
    return chosen_scale(build_parser().parse_args(command))


def test_nothing_given_is_the_scale_itself():
    assert chosen("distil", "--scale", "base") == SCALES["base"]
    assert chosen("study") == chosen("finetune", "a", "--task", "sst2") == SCALES["tiny"]


def test_each_option_sets_its_field():
    loss = ("--kd-weight", "1", "--mlm-target", "teacher", "--restrict-kd-to-mask")
    training = ("--batch-size", "8", "--learning-rate", "1e-4", "--precision", "bf16")
    training += ("--log-with", "wandb")
    scale = chosen("distil", "--teacher", "t", *loss, *training, "--seed", "9", "--steps", "3")
    tiny = SCALES["tiny"]
    assert scale == replace(
        tiny,
        teacher="t",
        loss_config=LossConfig(
            kd_weight=1, mlm_weight=0.1, mlm_target="teacher", restrict_kd_to_mask=True
        ),
        distillation=replace(
            tiny.distillation,
            batch_size=8,
            learning_rate=1e-4,
            precision="bf16",
            log_with="wandb",
            seed=9,
            steps=3,
        ),
    )
    assert chosen("head", "encoder", "--text", "text").teacher == "encoder"
    assert chosen("frontier", "--tasks", "sst2", "rte", "--seeds", "4").tasks == ("sst2", "rte")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("study", "--join", "a.csv", "b.csv"), "--out"),
        (("compress", "m", "--out", "x", "--push", "a//b"), "a//b"),
        (("compress", "m", "--out", "x", "--push", "a/b"), "HF_TOKEN"),
    ],
)
def test_what_is_refused_at_once(home, monkeypatch, capsys, command, said):
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    assert main(list(command)) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("count", ["-5", "ten", "1.5"])
def test_a_count_of_labels_is_a_whole_number_or_all(capsys, count):
    with pytest.raises(SystemExit):
        main(["labels", f"--counts={count}"])
    assert f"'{count}'" in capsys.readouterr().err


def test_a_wide_model_is_not_fine_tuned_at_the_tiny_scales_rate(tmp_path):
    narrow, wide, distil = tmp_path / "narrow", tmp_path / "wide", tmp_path / "distil"
    BertConfig(hidden_size=384).save_pretrained(narrow)
    BertConfig(hidden_size=512).save_pretrained(wide)
    DistilBertConfig(dim=768).save_pretrained(distil)
    tiny, bert = SCALES["tiny"].finetuning, SCALES["base"].finetuning
    assert tiny.learning_rate > bert.learning_rate
    slow = replace(tiny, batch_size=bert.batch_size, learning_rate=bert.learning_rate)
    for folder, settings in ((narrow, tiny), (wide, slow), (distil, slow)):
        assert finetuning_settings(folder, SCALES["tiny"]) == settings
        for other in (SCALES["small"], replace(SCALES["tiny"], finetuning=replace(tiny, seed=3))):
            assert finetuning_settings(folder, other) == other.finetuning  # as it was chosen
    options = build_parser().parse_args(("finetune", str(wide), "--task", "sst2", "--epochs", "7"))
    assert settings_for(options, options.checkpoint) == replace(slow, epochs=7)


@pytest.mark.parametrize(
    "command",
    [
        ("finetune", "{}", "--task", "sst2"),
        ("doctor", "--checkpoint", "{}", "--task", "sst2"),
        ("compress", "{}", "--task", "sst2", "--out", "new"),
        ("teacher-quality", "--teacher", "{}"),
    ],
    ids=lambda command: command[0],
)
def test_a_verb_asks_for_the_settings_of_the_model(home, monkeypatch, capsys, command):
    def asked(checkpoint, scale):
        raise ValueError(f"asked of {checkpoint}")

    monkeypatch.setattr(loading, "finetuning_settings", asked)
    teacher = SCALES["tiny"].teacher
    assert main([word.format(teacher) for word in command]) == 2
    assert f"asked of {teacher}" in capsys.readouterr().err


def test_epochs_replace_the_steps_of_the_scale():
    training = chosen("distil", "--epochs", "2").distillation
    assert (training.epochs, training.steps) == (2, None)


def test_a_study_sets_distillation_and_fine_tuning_apart():
    sizes = ("--batch-size", "16", "--finetuning-batch-size", "4")
    rate = ("--finetuning-learning-rate", "1e-4")
    scale = chosen("study", "--steps", "7", "--epochs", "2", *sizes, *rate)
    distillation, finetuning, tiny = scale.distillation, scale.finetuning, SCALES["tiny"]
    assert (distillation.steps, distillation.batch_size) == (7, 16)
    assert (finetuning.epochs, finetuning.batch_size, finetuning.learning_rate) == (2, 4, 1e-4)
    assert distillation.epochs == tiny.distillation.epochs
    assert distillation.learning_rate == tiny.distillation.learning_rate


def test_labels_takes_the_students_of_a_study_with_other_settings(home, monkeypatch):
    longer = replace(SCALES["tiny"].distillation, seed=7, steps=600)
    with open_run("study-tiny-distilled-7", {"training": as_json(longer)}) as run:
        run.finish({"kind": "distil"})
    seen = []
    monkeypatch.setattr(study, "arm_checkpoint", lambda arm, scale: seen.append(scale) or "")
    monkeypatch.setattr(label_efficiency, "label_efficiency", lambda *_, **__: sys.exit(3))
    with pytest.raises(SystemExit):
        main(["labels", "--seeds", "7", "8"])
    assert [each.distillation for each in seen] == [
        longer,
        replace(SCALES["tiny"].distillation, seed=8),
    ]


def test_the_loss_of_a_fine_tuning_needs_a_teacher(capsys):
    command = ["finetune", "a", "--task", "sst2", "--kd-weight", "0.7"]
    assert given(build_parser().parse_args(command), "finetune_loss") == {"kd_weight": 0.7}
    assert main(command) == 2
    assert "kd_weight: of the distillation; give --teacher too" in capsys.readouterr().err


@pytest.mark.parametrize(
    "verb",
    [*(name for group in GROUPS for name in group.VERBS), *(f"bench {name}" for name in BENCHES)],
)
def test_each_verb_has_a_help_of_its_own(verb, capsys):
    with pytest.raises(SystemExit) as end:
        main([*verb.split(), "--help"])
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: distilkit {verb} ")
