"""Write the numbers that repeat a table of this folder into the texts that show them.

    python data/results/render.py

A text holds ``<!-- generated: NAME -->`` and ``<!-- end -->``; what stands between them is written
here from the CSV files, as a table or as a single value in a sentence. Markdown cells of notebooks
are texts too. A test checks that rendering again changes nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from distilkit.compress.engines import INT8, TORCH
from distilkit.compress.pareto import frontier_points, smallest_within
from distilkit.data.tasks import TASKS
from distilkit.study import paper
from distilkit.study.arms import macro_scores, paired_difference, t_interval
from distilkit.study.conditions import ABLATION, ARMS, FACTORIAL, UNSOLVED
from distilkit.study.factorial import STARTS, factorial_effects, factorial_scores
from distilkit.study.label_efficiency import WAYS, best_learning_rates, teacher_gains
from distilkit.study.paper_comparison import retained_share
from distilkit.study.verdicts import Measurement, judge

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]
TEXTS = (
    ROOT / "README.md",
    FOLDER / "README.md",
    *sorted((ROOT / "notebooks").glob("*.ipynb")),
)
MARKED = re.compile(r"(<!-- generated: ([\w-]+) -->)(.*?)(<!-- end -->)", re.DOTALL)
RANDOM_TRIPLE = "random_init"  # the arm: random weights, the triple loss
TINY_WITHIN, MINILM_WITHIN = 3, 4  # points that the smallest model may lose


@cache
def table(name: str) -> pd.DataFrame:
    return pd.read_csv(FOLDER / f"{name}.csv")


# ---- one number, one cell


def signed(value: float) -> str:
    return f"{value:+.1f}".replace("-", "−")


def difference(found: dict[str, float]) -> str:
    return f"{signed(found['mean'])} ({signed(found['low'])} to {signed(found['high'])})"


def spread(values: pd.Series, unit: str = "") -> str:
    shown = f"{values.mean():.1f}{unit}"
    if values.nunique() > 1:  # else a model that no seed changes
        shown += f" ({values.min():.1f} to {values.max():.1f})"
    return shown.replace("-", "−")


def mean(values: pd.Series) -> str:
    return f"{values.mean():.2f}"


def nats(values: pd.Series) -> str:
    return f"{values.mean():.2f} ({values.min():.2f} to {values.max():.2f})"


def markdown(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    header = list(header)
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


# ---- the studies


def macro(name: str, arm: str) -> pd.Series:
    """Macro-score of an arm, one value a seed."""
    macros = macro_scores(table(name))
    return macros[macros.arm == arm].set_index("seed").score


def against(name: str, control: str) -> str:
    """Distilled minus `control`, with its 95 % interval."""
    return difference(paired_difference(table(name), "distilled", control))


def arm_table(name: str) -> str:
    rows = []
    for arm in table(name).arm.unique():
        gap = "" if arm == "distilled" else against(name, arm)
        rows.append([f"`{arm}`", ARMS[arm].about, spread(macro(name, arm)), gap])
    header = ["arm", "what it is", "macro-score (range over seeds)", "distilled minus it (95 %)"]
    return markdown(header, rows)


@cache
def effects() -> pd.DataFrame:
    return factorial_effects(table("study")).set_index(["effect", "start"])


def effect(name: str, start: str) -> str:
    return difference(effects().loc[name, start])


def kept(name: str, *without: str) -> str:
    """Share of the teacher's macro-score that the distilled student keeps, percent."""
    found = retained_share(table(name), name, without)
    return f"{found.value:.1f} % ({found.low:.1f} to {found.high:.1f})"


def factorial_score_table() -> str:
    cells = factorial_scores(table("study"))
    rows = [
        [
            pretraining,
            *(spread(cells[start][pretraining]) for start in STARTS),
            difference(t_interval(cells["copied"][pretraining] - cells["random"][pretraining])),
        ]
        for pretraining in FACTORIAL
    ]
    teacher = macro_scores(table("study"), without=UNSOLVED).query("arm == 'teacher'").score
    rows.append(["the teacher, all layers", spread(teacher), "", ""])
    return markdown(
        [
            "pretraining",
            *(f"{start} weights: mean (range)" for start in STARTS),
            "difference (95 %)",
        ],
        rows,
    )


def factorial_effect_table() -> str:
    names = list(dict.fromkeys(effects().index.get_level_values(0)))
    names.remove("copying")
    columns = ("copied", "random", "main effect", "interaction")
    rows = [[name, *(effect(name, start) for start in columns)] for name in names]
    header = ["effect", "copied weights", "random weights", "mean of the two", "interaction"]
    return markdown(header, rows)


def task_table() -> str:
    """Mean scores by task: the teacher, and the students of both initialisations."""
    arms = {"teacher": "teacher"}
    for i, start in enumerate(STARTS):
        arms |= {FACTORIAL[p][i]: f"{start}, {p}" for p in ("triple loss", "MLM only", "none")}
    means = table("study").pivot_table(index=["task", "metric"], columns="arm", values="score")
    rows = [
        [*task, *(f"{value:.1f}" for value in row)] for task, row in means[list(arms)].iterrows()
    ]
    return markdown(["task", "metric", *arms.values()], rows)


def held_out_table() -> str:
    """Held-out text before fine-tuning: KL to the teacher, words predicted at masked places."""
    scores = table("study_held_out").assign(percent=lambda t: 100 * t.masked_accuracy)
    of = dict(list(scores.groupby("arm")))
    measures = {"kl": nats, "kl_masked": nats, "percent": spread}
    rows = [
        [p, *(show(of[arm][name]) for name, show in measures.items() for arm in FACTORIAL[p])]
        for p in FACTORIAL
    ]
    teacher = spread(of["teacher"].percent)
    rows.append(["the teacher, all layers", "0", "", "0", "", teacher, ""])
    measured = ("KL, all tokens", "KL, masked words", "words predicted, %")
    header = [f"{what}: {start}" for what in measured for start in STARTS]
    return markdown(["pretraining", *header], rows)


def held_out_gap(measure: str, start: str, show: Callable[[pd.Series], str]) -> str:
    """Triple loss and MLM only on held-out text: "0.49 (0.49 to 0.50) instead of ..."."""
    scores, place = table("study_held_out"), STARTS.index(start)
    arms = (FACTORIAL[p][place] for p in ("triple loss", "MLM only"))
    return " instead of ".join(show(scores[scores.arm == arm][measure]) for arm in arms)


# ---- layer maps


def layer_maps() -> pd.DataFrame:
    """A row a map, best first: scores untrained and trained, means over seeds."""
    return table("layer_maps").groupby("layers").mean().sort_values("soft_target")


def layer_map_table() -> str:
    maps, seeds = layer_maps(), table("layer_maps").groupby("layers").seed.nunique()
    rows = [
        [
            layers.replace("-", ", "),
            f"{row.soft_target_cut:.3f}",
            f"{row.soft_target:.3f}",
            f"{100 * row.masked_accuracy_cut:.1f}",
            f"{100 * row.masked_accuracy:.1f}",
            str(seeds[layers]),
        ]
        for layers, row in maps.iterrows()
    ]
    header = [
        "layers",
        "T²·KL untrained",
        "T²·KL trained",
        "MLM accuracy untrained, %",
        "trained, %",
    ]
    return markdown([*header, "seeds"], rows)


def layer_map_answer() -> str:
    maps = layer_maps()
    place = {layers: i + 1 for i, layers in enumerate(maps.index)}
    trained = table("layer_maps")
    first = trained[trained.seed == trained.seed.iloc[0]]  # it has all maps
    correlation = {
        name: f"{first[f'{name}_cut'].corr(first[name], method='spearman'):+.2f}".replace("-", "−")
        for name in ("soft_target", "masked_accuracy")
    }
    within = trained.groupby("layers").soft_target.agg(np.ptp).max()

    rows = [
        [
            label,
            layers.replace("-", ", "),
            f"{maps.soft_target_cut[layers]:.3f}",
            f"{maps.soft_target[layers]:.3f}",
            str(place[layers]),
        ]
        for label, layers in (
            ("best after training", maps.index[0]),
            ("best untrained", maps.soft_target_cut.idxmin()),
            ("the default", "0-2-5"),
            ("worst after training", maps.index[-1]),
        )
    ]
    header = ["map", "layers", "T²·KL untrained", "T²·KL trained", f"rank of {len(maps)}, trained"]
    return "\n".join(
        [
            markdown(header, rows),
            "",
            f"- Rank correlation of the untrained and trained maps: {correlation['soft_target']} "
            f"by T²·KL, {correlation['masked_accuracy']} by MLM accuracy.",
            f"- T²·KL differs by up to {np.ptp(maps.soft_target):.3f} between maps, and by at most "
            f"{within:.4f} between seeds.",
        ]
    )


# ---- frontiers


@cache
def points(name: str) -> pd.DataFrame:
    return frontier_points(table(name))


def point(name: str, variant: str, engine: str) -> pd.Series:
    return points(name).set_index(["variant", "engine"]).loc[variant, engine]


def smallest(name: str, within: float) -> tuple[pd.Series, pd.Series]:
    """The smallest model that loses at most `within` points, and the teacher in PyTorch."""
    return smallest_within(points(name), within), point(name, "teacher", TORCH)


def megabytes(value: float) -> str:
    return f"{value:.1f} MB" if value >= 10 else f"{value:.2f} MB"


def frontier_table(name: str) -> str:
    rows = [
        [
            row.variant,
            row.engine,
            f"{row.score:.1f} ({row.score_low:.1f} to {row.score_high:.1f})",
            signed(0.0 - row.lost),  # no −0.0 for the teacher itself
            megabytes(row.size_mb),
            f"{row.latency_ms_p50:.1f}, {row.latency_ms_p95:.1f}",
            f"{row.memory_mib:.0f}",
            "" if np.isnan(row.same_answer) else f"{100 * row.same_answer:.1f}",
        ]
        for row in points(name).itertuples()
    ]
    header = ["model", "engine", "score (range over seeds)", "against the teacher", "size"]
    header += ["latency, ms: p50, p95", "memory, MiB", "same answer as in PyTorch, %"]
    return markdown(header, rows)


def frontier_answer(name: str, within: float) -> str:
    best, teacher = smallest(name, within)
    row = [f"{best.variant}, {best.engine}", megabytes(best.size_mb), megabytes(teacher.size_mb)]
    header = [f"smallest model within {within} points of the teacher", "its size"]
    header += ["the teacher's, in PyTorch", "points lost"]
    return markdown(header, [[*row, f"{best.lost:.1f}"]])


def int8_change(name: str) -> float:
    """A bound on the change of a mean score by int8, in points: rounded up to a tenth."""
    wide = points(name).pivot(index="variant", columns="engine", values="score")
    return np.ceil(round(10 * (wide[INT8] - wide[TORCH]).abs().max(), 6)) / 10


def int8_answers(name: str) -> float:
    """The largest share of answers that int8 changes in any model and seed, percent."""
    return 100 * (1 - table(name)[table(name).engine == INT8].same_answer.min())


# ---- compressed models


def by_seed(name: str, engine: str) -> pd.DataFrame:
    """Rows of one engine with scores in points, and how far they are from the teacher's."""
    rows = table(name)
    rows = rows[rows.engine == engine].assign(score=100 * rows.score)
    reference = table(name)
    reference = reference[(reference.arm == "teacher") & (reference.engine == TORCH)]
    teacher = 100 * reference.set_index("seed").score
    return rows.assign(against=rows.score - rows.seed.map(teacher))


def compressed_table(name: str) -> str:
    """Scores of the teacher and of each student, and how often they answer as the teacher does."""
    in_torch, in_int8 = by_seed(name, TORCH), by_seed(name, INT8)
    rows = []
    for arm in in_torch.arm.unique():
        own, small = in_torch[in_torch.arm == arm], in_int8[in_int8.arm == arm]
        against = "" if arm == "teacher" else signed(own.against.mean())
        cells = [spread(own.score), against, f"{100 * own.agreement.mean():.1f}"]
        more = [spread(100 * own.macro_f1)] if "macro_f1" in own else []
        rows.append([arm, *cells, spread(small.score), *more])
    header = ["trained on", "score (range over seeds)", "against the teacher"]
    header += ["same answer as the teacher, %", "score in int8"]
    return markdown([*header, *(["macro-F1"] if "macro_f1" in in_torch else [])], rows)


def cost_table(name: str) -> str:
    """Size and latency of teacher and first student, timed in turns; medians over seeds."""
    arms = table(name).arm.unique()[:2]
    costs = table(name)[table(name).arm.isin(arms)].groupby(["model", "engine"], sort=False)
    costs = costs[["size_mb", "latency_ms_p50", "faster", "length"]].median()
    rows = [
        [model, engine, megabytes(c.size_mb), f"{c.latency_ms_p50:.1f} ms", f"{c.faster:.1f}"]
        for (model, engine), c in costs.iterrows()
    ]
    length = f"latency at {costs.length.iloc[0]:.0f} tokens, 1 thread"
    return markdown(["model", "engine", "size", length, "speed-up"], rows)


def embedding_table() -> str:
    """Spearman of teacher and students, and the share of the teacher's nearest neighbours."""
    labels = {"teacher": "teacher, 6 layers", "student": "3 layers, distilled"}
    labels |= {"as cut": "the same layers as cut", "random": "random layers, distilled"}
    rows = []
    for (model, engine), own in table("compress_embeddings").groupby(
        ["model", "engine"], sort=False
    ):
        c = own[["size_mb", "latency_ms_p50", "faster"]].median()
        costs = [megabytes(c.size_mb), f"{c.latency_ms_p50:.1f} ms", f"{c.faster:.1f}"]
        scores = [spread(100 * own.score), spread(100 * own.retained, " %")]
        neighbours = f"{100 * own.agreement.mean():.1f}"
        measured = own.size_mb.notna().all()
        rows.append(
            [labels[model], engine, *scores, neighbours, *(costs if measured else [""] * 3)]
        )
    header = ["model", "engine", "Spearman (range over seeds)", "share of the teacher's"]
    return markdown([*header, "same neighbours, %", "size", "latency", "speed-up"], rows)


def depth_table() -> str:
    found = table("depths").assign(points=lambda t: 100 * t.score)
    long = int(found.steps.max())
    rows = []
    for depth, of_depth in found.groupby("depth"):
        trained = of_depth[of_depth.steps > 0].groupby(["model", "steps"])
        cells = [spread(trained.get_group(key).points) for key in trained.groups]
        cut = of_depth.loc[of_depth.steps == 0, "points"].iloc[0]
        minutes = of_depth.loc[of_depth.steps == long, "minutes"].mean()
        rows.append([f"{depth:.0f}", f"{cut:.1f}", *cells, f"{minutes:.1f}"])
    keys = [f"{model}, {steps:.0f} steps" for model, steps in trained.groups]
    return markdown(["layers", "as cut", *keys, f"minutes, {long} steps"], rows)


# ---- label efficiency


GLUES_SST2 = "GLUE's SST-2"  # of all-MiniLM-L6-v2; the other tasks are the kit's
FEW = 16  # labels, in sentences


@cache
def label_scores() -> pd.DataFrame:
    """Test scores: rows are (task, labels, seed), a column a way of training."""
    best = best_learning_rates(table("labels")).query("way != 'teacher'")
    return best.pivot(index=["task", "labels", "seed"], columns="way", values="score")[list(WAYS)]


def label_gain(task: str, count: int) -> str:
    """With so many labels: soft targets on all texts minus labels alone, points."""
    gains = teacher_gains(table("labels")).set_index(["task", "labels"])
    return difference(gains.loc[(task, count)])


def label_table() -> str:
    rows = []
    teachers = table("labels").query("way == 'teacher'").groupby("task", sort=False).score
    for task, teacher in teachers:
        name = f"the kit's {TASKS[task].title}" if task in TASKS else task
        for count, scores in label_scores().loc[task].groupby(level="labels"):
            cells = ["" if scores[way].isna().all() else spread(scores[way]) for way in WAYS]
            gain = label_gain(task, count) if count else ""
            rows.append([name, f"{count:,}", *cells, gain])
        rows.append([name, "teacher", spread(teacher), "", "", ""])
    ways = ["labels alone", "soft targets, same texts", "soft targets, all texts"]
    return markdown(["task", "labels", *ways, "last minus first (95 %)"], rows)


# ---- the README's table


def summary_table() -> str:
    best, teacher = smallest("frontier", TINY_WITHIN)
    triple = "triple loss − MLM only"
    rows = [
        (
            "Score of 3 layers out of 6, as a share of the teacher's",
            kept("study", *UNSOLVED),
            f"Copied weights, triple loss. Eight tasks, {study_seeds()} seeds.",
        ),
        (
            "Copied minus random weights, points",
            effect("copying", "main effect"),
            "The largest effect of the study.",
        ),
        *(
            (
                f"Triple loss minus MLM only, {start} weights, points",
                effect(triple, start),
                "Not shown: the interval contains 0." if contains_0(triple, start) else after,
            )
            for start, after in zip(
                STARTS,
                (
                    f"Minus no pretraining: {effect('triple loss − none', 'copied')}.",
                    "The losses are all it gets from the teacher.",
                ),
                strict=True,
            )
        ),
        (
            f"{FEW} labels: gain from a teacher's soft targets on 4,000 texts, points",
            label_gain(GLUES_SST2, FEW),
            "The teacher had all labels. Half of all-MiniLM-L6-v2, GLUE's SST-2, 3 seeds.",
        ),
        (
            f"Smallest model within {TINY_WITHIN} points of the teacher",
            f"{megabytes(best.size_mb)} instead of {megabytes(teacher.size_mb)}",
            "3 layers, pruned, int8. Chosen on validation sets of two tasks, so optimistic.",
        ),
    ]
    return markdown(["question", "result (95 % interval)", "note"], rows)


def study_seeds() -> str:
    return str(table("study").seed.nunique())


def contains_0(name: str, start: str) -> bool:
    found = effects().loc[name, start]
    return bool(found["low"] <= 0 <= found["high"])


def study_answer() -> str:
    lines = [
        ("share of the teacher's score that is kept", kept("study", *UNSOLVED)),
        ("copied minus random weights, mean of the pretrainings", effect("copying", "main effect")),
    ]
    lines += [
        (f"triple loss minus {control}, {start} weights", effect(f"triple loss − {control}", start))
        for control in ("MLM only", "none")
        for start in STARTS
    ]
    header = [f"eight tasks, {study_seeds()} seeds", "mean (95 % interval), points if not %"]
    return markdown(header, lines)


def ablation_answer() -> str:
    labels = {
        "without_soft_target": "without soft targets",
        "without_cosine": "without the cosine loss",
        "without_mlm": "without the MLM loss",
        "random_init": "random weights, nothing copied",
    }
    rows = [
        (label, difference(paired_difference(table("parts"), arm, "distilled")))
        for arm, label in labels.items()
    ]
    return markdown(["three tasks, points", "change (95 % interval)"], rows)


# ---- parts of the recipe, from random weights


def random_parts_table() -> str:
    """Change of the macro-score by each change of the recipe, next to table 4 of the paper."""
    published = paper.ablation().set_index("left_out").delta
    published.index = [f"random_{ABLATION[part]}" for part in published.index]
    tried = macro_scores(table("random_parts"))
    again = macro_scores(table("study"), without=UNSOLVED)  # what stood out, with more seeds
    rows = []
    for arm in tried.arm.unique():
        if arm == RANDOM_TRIPLE:
            continue
        changes = [change(scores, arm, RANDOM_TRIPLE) for scores in (tried, again)]
        measured = next(t_interval(each) for each in reversed(changes) if len(each))
        cells = [" and ".join(signed(value) for value in changes[0])]
        cells.append(difference(measured) if len(changes[1]) else "")
        found, number = "", published.get(arm)
        if number is not None:
            value = Measurement(measured["mean"], "", measured["low"], measured["high"])
            found = judge(number, value, same=False, null=0)[0]
        stated = "" if number is None else f"{number:+.2f}".replace("-", "−")
        rows.append([f"`{arm}`", ARMS[arm].about, stated, *cells, found])
    tried_seeds = " and ".join(str(seed) for seed in tried.seed.unique())
    header = ["arm", "what it is", "table 4", f"seeds {tried_seeds}, four tasks"]
    return markdown([*header, f"{study_seeds()} seeds, eight tasks (95 %)", "verdict"], rows)


def change(macros: pd.DataFrame, arm: str, control: str) -> pd.Series:
    """Macro-score of an arm minus the control's, one value a seed; empty if it was not run."""
    wide = macros.pivot(index="seed", columns="arm", values="score")
    return (wide[arm] - wide[control]).dropna() if arm in wide else pd.Series(dtype=float)


BLOCKS: dict[str, Callable[[], str]] = {
    "random-parts": random_parts_table,
    "compress-sst2": lambda: compressed_table("compress_sst2"),
    "compress-sst2-costs": lambda: cost_table("compress_sst2"),
    "compress-banking77": lambda: compressed_table("compress_banking77"),
    "labels": label_table,
    "few-labels-glue": lambda: label_gain(GLUES_SST2, FEW),
    "few-labels-kit": lambda: label_gain("sst2", FEW),
    "few-labels-stsb": lambda: label_gain("stsb", FEW),
    "compress-wnut17": lambda: compressed_table("compress_wnut17"),
    "compress-embeddings": embedding_table,
    "depths": depth_table,
    "summary": summary_table,
    "factorial-scores": factorial_score_table,
    "factorial-effects": factorial_effect_table,
    "copying": lambda: effect("copying", "main effect"),
    "losses-copied": lambda: effect("triple loss − MLM only", "copied"),
    "losses-random": lambda: effect("triple loss − MLM only", "random"),
    "parts-scores": lambda: arm_table("parts"),
    "study-seeds": study_seeds,
    "held-out": held_out_table,
    "held-out-random": lambda: held_out_gap("kl", "random", nats),
    "soft-target-random": lambda: held_out_gap("soft_target", "random", mean),
    "soft-target-copied": lambda: held_out_gap("soft_target", "copied", mean),
    "tasks": task_table,
    "layer-maps": layer_map_table,
    "layer-maps-answer": layer_map_answer,
    "frontier": lambda: frontier_table("frontier"),
    "frontier-answer": lambda: frontier_answer("frontier", TINY_WITHIN),
    "minilm-frontier": lambda: frontier_table("minilm_frontier"),
    "minilm-frontier-answer": lambda: frontier_answer("minilm_frontier", MINILM_WITHIN),
    "study-answer": study_answer,
    "ablation-answer": ablation_answer,
    "int8-change": lambda: f"{int8_change('frontier'):.1f}",
    "int8-change-minilm": lambda: f"{int8_change('minilm_frontier'):.1f}",
    "int8-answers-minilm": lambda: f"{int8_answers('minilm_frontier'):.1f}",
}


def render(text: str) -> str:
    """The text with everything between markers written anew.

    Raises:
        ValueError: a marker names a block that does not exist, or has no end.
    """

    def block(match: re.Match) -> str:
        start, name, _, end = match.groups()
        if name not in BLOCKS:
            raise ValueError(f"no generated block {name!r}: use one of {', '.join(BLOCKS)}")
        body = BLOCKS[name]()
        if "\n" in body:  # a blank line on both sides: HTML comments end a Markdown table
            body = f"\n\n{body}\n\n"
        return f"{start}{body}{end}"

    if text.count("<!-- generated:") != len(MARKED.findall(text)):
        raise ValueError("a marker <!-- generated: NAME --> has no <!-- end -->")
    return MARKED.sub(block, text)


def render_notebook(text: str) -> str:
    """A notebook file whose markdown cells are rendered."""
    notebook = json.loads(text)
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = render("".join(cell["source"])).splitlines(keepends=True)
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def rendered(path: Path) -> str:
    """What the file at `path` holds after rendering."""
    text = path.read_text(encoding="utf-8")
    return render_notebook(text) if path.suffix == ".ipynb" else render(text)


if __name__ == "__main__":
    for path in TEXTS:
        after = rendered(path)
        if after != path.read_text(encoding="utf-8"):
            path.write_text(after, encoding="utf-8")
            print(f"written: {path.relative_to(ROOT)}")
