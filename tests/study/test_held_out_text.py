"""Scores of held-out text against plain formulas; a training that is watched."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from toy_models import small_bert

from distilkit.config import MLM_ONLY, LossConfig, TrainingConfig
from distilkit.data.packing import pack
from distilkit.distillation import losses_on, pretrain
from distilkit.masking import MaskedBlocks
from distilkit.plots.training_curves import HELD_OUT_SCORES, plot_starts
from distilkit.student import student_from_teacher
from distilkit.study.held_out_text import held_out_scores, masked_accuracy


@pytest.fixture(scope="module")
def held_out(texts, tokenizer) -> MaskedBlocks:
    return MaskedBlocks(pack(texts, tokenizer, 24)[:70], tokenizer, seed=3)


def test_masked_accuracy_counts_the_masked_words_that_come_first(held_out):
    """Block by block, full logits; more blocks than are measured at once."""
    model = small_bert()
    hits = words = 0
    for i in range(len(held_out)):
        input_ids, masked, originals = held_out.mask(0, np.array([i]))
        ids = torch.from_numpy(input_ids)
        with torch.no_grad():
            logits = model(ids, attention_mask=(ids != held_out.pad_id).long()).logits
        hits += int((logits.argmax(-1).numpy() == originals)[masked].sum())
        words += int(masked.sum())
    assert 0 < hits < words
    assert masked_accuracy(model, held_out) == hits / words


def test_a_training_without_a_teacher_is_watched_by_one(held_out, home):
    teacher, full = small_bert(), LossConfig()
    student = student_from_teacher(teacher)
    training = TrainingConfig(steps=4, batch_size=4, micro_batch_size=4, eval_interval=2)

    def watch(model):
        return held_out_scores(model, held_out, teacher, full)

    given = {"name": "watched", "loss_config": MLM_ONLY, "validation": held_out}
    run = pretrain(student, held_out, training, watch=watch, **given)
    rows = run.metrics("validation")
    assert list(rows["step"]) == [2, 4]
    trained = type(student).from_pretrained(run.model)
    found = losses_on(trained, held_out, full, teacher)
    last = rows.iloc[-1]
    assert [last[term] for term in ("soft_target", "mlm", "cosine")] == pytest.approx(
        [found[term] for term in ("soft_target", "mlm", "cosine")], rel=1e-5
    )
    assert last["masked_accuracy"] == masked_accuracy(trained, held_out)
    # it is no part of what the run is
    assert pretrain(student, held_out, training, **given).path == run.path
    other = pretrain(student, held_out, training, **{**given, "name": "unwatched"})
    assert other.metrics()["loss"].tolist() == run.metrics()["loss"].tolist()
    with pytest.raises(ValueError, match="another"):
        pretrain(student, held_out, replace(training, steps=3), **given)


def test_the_figure_has_a_line_for_each_run_in_each_panel():
    rows = pd.DataFrame({name: [0.1, 0.2, 0.3] for name in HELD_OUT_SCORES})
    rows["step"] = [0, 50, 100]
    curves = {(s, t): rows for s in ("copied", "random") for t in ("triple loss", "MLM only")}
    figure = plot_starts(curves)
    assert [len(axes.get_lines()) for axes in figure.axes] == [4, 4, 4]
    assert len({(line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines}) == 4
    assert figure.axes[2].get_lines()[0].get_ydata()[-1] == pytest.approx(30.0)  # percent
    with pytest.raises(ValueError, match="masked_accuracy"):
        plot_starts({("copied", "MLM only"): rows.drop(columns="masked_accuracy")})
