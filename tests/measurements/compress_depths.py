"""Not a test: students of 1 to 6 layers of a sentence-embedding model, run by hand.

    python tests/measurements/compress_depths.py ENCODER DATA [--seeds 1 2 3]
        [--depths 1 2 3 4 5 6] [--sentences 3200] [--epochs 0.25 1] [--out FOLDER]
    python tests/measurements/compress_depths.py --plot CSV [--out FOLDER]

What are copied layers worth on a real encoder, and what is distillation worth? ENCODER and DATA are
those of compress_embeddings.py. A student has the teacher layers that `rank_layer_maps` puts first,
or random weights in the same shape. Both learn the teacher's embeddings, by trainings of several
lengths. Scores are Spearman on STS-B's development pairs; minutes are those of the training alone.
They mean something on a quiet machine. A row is written as soon as it is there; trainings resume.
The figure 07_depths.png is drawn at the end, or from a table that is there.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
import scipy.stats
from compress_embeddings import LENGTH, sentences
from matplotlib.figure import Figure
from sklearn.preprocessing import normalize
from transformers import AutoModel

from distilkit.compress.embedding_scores import columns_of, embed, encoded
from distilkit.compress.embeddings import (
    PROBE,
    TRAINING,
    distil_embeddings,
    divide,
    rank_layer_maps,
)
from distilkit.data.own_task import task_from
from distilkit.models.sentence_encoder import load_sentence_encoder
from distilkit.plots import parts, style
from distilkit.plots.style import save_figure
from distilkit.run import environment
from distilkit.student import random_student_like, student_from_teacher


def spearman(model: Any, tokenizer: Any, pooling: Any, pairs: Any) -> float:
    """Correlate the cosines of a model's embeddings with the scores of pairs."""
    firsts, seconds, labels = columns_of(pairs)
    found = normalize(
        embed(model.eval(), encoded([*firsts, *seconds], tokenizer, pooling), pooling)
    )
    first, second = found[: len(firsts)], found[len(firsts) :]
    return float(scipy.stats.spearmanr((first * second).sum(1), labels).statistic)


@style.figure_style()
def plot_depths(table: pd.DataFrame) -> Figure:
    """Plot Spearman against minutes of training: a panel a start, a line a depth, means of seeds.

    Bands are ranges over seeds. The dashed line is the teacher.
    """
    students, depths = table[table.model != "teacher"], sorted(table.depth.dropna().unique())
    figure = style.new_figure(style.FULL_IN, 2.8)
    colours = matplotlib.colormaps["viridis"]
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (start, title) in zip(
        panels, {"copied": "layers copied", "random": "random weights"}.items(), strict=True
    ):
        axes.axhline(100 * table[table.model == "teacher"].score.iloc[0], **_TEACHER)
        for place, depth in enumerate(depths):
            rows = students[(students.model == start) & (students.depth == depth)]
            by_steps = rows.assign(points=100 * rows.score).groupby("steps")
            minutes, points = by_steps.minutes.mean().fillna(0), by_steps.points
            look = {"color": colours(0.85 * place / max(1, len(depths) - 1))}
            line = {"markersize": 3.5, "label": f"{depth:.0f}", "clip_on": False}
            axes.plot(minutes, points.mean(), "o-", **line, **look)
            axes.fill_between(minutes, points.min(), points.max(), alpha=0.2, linewidth=0, **look)
        axes.set_title(f"{title}; dashed: teacher; band: range", fontsize=style.TEXT_PT)
        axes.set_xlabel("minutes of training")
        axes.set_xlim(left=0)
        parts.value_grid(axes)
    panels[0].set_ylabel("Spearman × 100")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], title="layers", loc="outside right center")
    return style.freeze_layout(figure)


_TEACHER = {"color": style.INK, "linewidth": 0.9, "linestyle": "--"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("encoder", type=Path, nargs="?")
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--plot", type=Path, metavar="CSV")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--depths", type=int, nargs="+", default=[1, 2, 3, 4, 5, 6])
    parser.add_argument("--sentences", type=int, default=3200)
    parser.add_argument("--epochs", type=float, nargs="+", default=[0.25, 1.0])
    parser.add_argument("--out", type=Path, default=Path("depths"))
    options = parser.parse_args()
    if options.plot:
        save_figure(plot_depths(pd.read_csv(options.plot)), "07_depths", options.out)
        return
    if options.data is None:
        parser.error("name ENCODER and DATA, or a table to --plot")

    os.environ["DISTILKIT_HOME"] = str(options.out.resolve())
    pairs = task_from(
        options.data / "own" / "stsb_dev.csv",
        text_columns=(0, 1),
        label_column=2,
        kind="regression",
    )
    texts, _ = divide(sentences(options.data, options.sentences), pairs)
    teacher, tokenizer, pooling = load_sentence_encoder(options.encoder)
    pooling = replace(pooling, max_length=LENGTH)
    read = (tokenizer, pooling, pairs)
    about = {"sentences": len(texts), "commit": environment()["commit"]}
    rows = [{"model": "teacher", "score": spearman(teacher, *read)} | about]
    probe = encoded(texts[:PROBE], tokenizer, pooling)
    epoch = -(-len(texts) // TRAINING.batch_size)  # optimizer steps
    for depth in options.depths:
        layers = rank_layer_maps(teacher, probe, pooling, depth)["layers"][0]
        cut = student_from_teacher(teacher, layers)
        about |= {"depth": depth, "layers": "-".join(map(str, layers))}
        rows.append({"model": "copied", "steps": 0, "score": spearman(cut, *read)} | about)
        for seed in options.seeds:
            starts = {"copied": cut, "random": random_student_like(cut, seed)}
            for steps in (max(1, round(epoch * share)) for share in options.epochs):
                training = replace(TRAINING, steps=steps, seed=seed)
                for start, student in starts.items():
                    name = f"depth-{depth}-{start}-{steps}-{seed}"
                    given = (student, teacher, tokenizer, pooling, texts, training)
                    run = distil_embeddings(*given, name=name)
                    model = AutoModel.from_pretrained(run.model)
                    row = {"model": start, "seed": seed, "steps": steps} | about
                    row["minutes"] = run.result()["seconds"] / 60
                    rows.append(row | {"score": spearman(model, *read)})
                    print(rows[-1], flush=True)
                    pd.DataFrame(rows).to_csv(options.out / "depths.csv", index=False)
    save_figure(plot_depths(pd.DataFrame(rows)), "07_depths", options.out)


if __name__ == "__main__":
    main()
