"""Compare the ranking of layer maps before and after training.

:mod:`distilkit.study.layer_search` scores all maps without training. Here some of their students
are trained with the same loss for the same number of steps, and scored on held-out text. Maps
spread over the ranking are trained with one seed, for a rank correlation; the named ones, the best
and the worst with several, for the variance between seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from transformers import AutoModelForMaskedLM

from distilkit.checkpoint import write_atomically
from distilkit.config import Scale
from distilkit.data.sources import check_plan, load_blocks, load_teacher
from distilkit.distillation import distil
from distilkit.models.loading import load_model
from distilkit.student import default_layers, student_from_teacher
from distilkit.study.layer_search import LayerMap, probe_of, score_layer_maps, score_student
from distilkit.study.run_parallel import run_parallel

if TYPE_CHECKING:
    import pandas as pd

SPREAD = 20  # maps at most that are trained with the first seed, for the rank correlation
SEEDS = (1, 2, 3)


def score_and_train(
    scale: Scale,
    seeds: Sequence[int] = SEEDS,
    *,
    student_layers: int | None = None,
    out: Path,
    name: str | None = None,
) -> pd.DataFrame:
    """Score all maps of the scale's teacher, train some of their students, score those again.

    Finished runs are only read, an unfinished one resumes from its checkpoint. The scores before
    are on the first tokens of the training text (:func:`distilkit.study.layer_search.probe_of`),
    those after on the whole held-out text.

    Args:
        scale: teacher, text, loss, and the training of each student.
        seeds: of order, masks and dropout; the first is that of the rank correlation.
        student_layers: by default half of the teacher's.
        out: a csv file, replaced when all is done; its table is returned (:func:`read_trained`).
        name: prefix of the run folders; by default ``layers-<scale>-<steps>-steps``.

    Raises:
        ValueError: the teacher has fewer layers than the student, or a run of this name was begun
            with other settings.
    """
    import pandas as pd

    teacher, tokenizer = load_teacher(scale)
    default_layers(teacher.config.num_hidden_layers, student_layers)  # refuses others at once
    name = name or f"layers-{scale.name}-{scale.distillation.steps or 'all'}-steps"
    check_plan(scale, tokenizer, teacher, name=name)
    blocks, _ = load_blocks(scale, tokenizer)
    scores = score_layer_maps(
        teacher, probe_of(blocks), student_layers, loss_config=scale.loss_config
    )
    planned = plan(scores, seeds)
    after = run_parallel(train_map, [(scale, *each, name) for each in planned], "layer maps")
    table = pd.DataFrame(planned, columns=["layers", "seed"]).join(pd.DataFrame(after))
    before = scores.set_index("layers")[["soft_target", "masked_accuracy"]].add_suffix("_cut")
    table = table.join(before, on="layers").assign(layers=table.layers.map(_dashed))
    order = ["layers", "seed", "steps", *before, "soft_target", "masked_accuracy"]
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, table[order].round(5).to_csv(index=False).encode())
    return read_trained(out)


def plan(scores: pd.DataFrame, seeds: Sequence[int]) -> list[tuple[LayerMap, int]]:
    """(layers, seed) of the students to be trained, seed by seed in the order of the scores."""
    spread = set(np.linspace(0, len(scores) - 1, SPREAD).round().astype(int))
    ends = {0, len(scores) - 1}
    return [
        (row.layers, seed)
        for seed in seeds
        for row in scores.itertuples()
        if row.name or row.Index in ends or (seed == seeds[0] and row.Index in spread)
    ]


def train_map(scale: Scale, layers: LayerMap, seed: int, name: str) -> dict[str, float]:
    """Train the student of one map unless that is done: its ``steps`` and held-out scores."""
    scale = replace(scale, distillation=replace(scale.distillation, seed=seed))
    teacher, tokenizer = load_teacher(scale)
    blocks, held_out = load_blocks(scale, tokenizer)
    run = distil(
        student_from_teacher(teacher, layers),
        teacher,
        blocks,
        scale.distillation,
        loss_config=scale.loss_config,
        name=f"{name}-{_dashed(layers)}-seed-{seed}",
    )
    student, _ = load_model(AutoModelForMaskedLM, str(run.model))
    scores = score_student(student, teacher, held_out, scale.loss_config)
    return {"steps": run.result()["steps"], **scores}


def read_trained(path: Path) -> pd.DataFrame:
    """Read the table of :func:`score_and_train`: a row a student, ``layers`` a tuple.

    The columns ending in ``_cut`` are scores on the probe before training.
    """
    import pandas as pd

    return pd.read_csv(
        path, converters={"layers": lambda text: tuple(int(i) for i in text.split("-"))}
    )


def rank_correlation(trained: pd.DataFrame, before: str, after: str) -> float:
    """Spearman's correlation over the first seed's maps; NaN if a column is constant."""
    first = trained[trained.seed == trained.seed.iloc[0]]
    with np.errstate(invalid="ignore"):  # 0/0 where all maps are alike
        return float(first[before].rank().corr(first[after].rank()))


def _dashed(layers: LayerMap) -> str:
    return "-".join(map(str, layers))
