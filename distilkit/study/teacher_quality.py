"""Quality of a teacher, checked before any student is judged.

A student can only keep what its teacher knows. A teacher therefore has to complete English
sentences plausibly, and to score far above its own shape from random weights on the scale's tasks.
"""

from pathlib import Path
from typing import Any

import pandas as pd

from distilkit.config import Scale, home
from distilkit.data.sources import load_task, load_teacher
from distilkit.data.tasks import chance_score, get_task
from distilkit.models.fill_mask import fill_mask
from distilkit.processes import processes
from distilkit.run import fingerprint
from distilkit.student import random_student_like
from distilkit.study.arms import POINTS, finetune_arms, macro_scores, results_table

SENTENCES = (
    Path(__file__).with_name("teacher_quality_sentences.txt").read_text("utf-8").splitlines()
)


def teacher_quality(scale: Scale) -> dict[str, Any]:
    """Measure what ``python -m distilkit teacher-quality`` prints.

    Returns ``answers``: completed sentences; ``scores``: table of the teacher and of its shape from
    random weights, both fine-tuned; ``above``: their difference in macro-score, points;
    ``above_chance``: tasks more than two standard errors above the best constant answer.
    """
    teacher, tokenizer = load_teacher(scale)
    sentences = [sentence.format(tokenizer.mask_token) for sentence in SENTENCES]
    digest = fingerprint(teacher)["sha256"][:8]  # each teacher has runs of its own
    untrained = home() / "data" / "cache" / f"untrained-{digest}"
    if processes().is_main_process:
        random_student_like(teacher, seed=0).save_pretrained(untrained)
    processes().wait_for_everyone()
    arms = {"teacher": scale.teacher, "random_weights": untrained}
    scores = finetune_arms(arms, tokenizer, scale, prefix=f"quality-{digest}-")
    macros = macro_scores(scores).groupby("arm").score.median()
    return {
        "answers": fill_mask({"teacher": teacher}, tokenizer, sentences, top_k=5),
        "scores": results_table(scores),
        "above": float(macros["teacher"] - macros["random_weights"]),
        "above_chance": _above_chance(scores[scores.arm == "teacher"], scale),
    }


def _above_chance(scores: pd.DataFrame, scale: Scale) -> list[str]:
    """List tasks whose median score is over two standard errors above a constant answer's."""
    above = []
    own = {str(task): task for task in scale.tasks}
    for name, score in scores.groupby("task", sort=False).score.median().items():
        task = get_task(own.get(name, name))
        labels = load_task(scale, task)[task.validation[0]]["label"][:]
        chance = chance_score(task, labels)
        variance = {"accuracy": chance * (1 - chance), "f1": 0.25}.get(task.score, 1)
        if score > POINTS * (chance + 2 * (variance / len(labels)) ** 0.5):
            above.append(name)
    return above
