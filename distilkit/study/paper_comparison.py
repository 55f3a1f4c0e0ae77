"""The claims of Sanh et al. 2019 and of the article, with the kit's value and a verdict for each.

The kit's values are counted (parameters, file size), computed (temperature example), or read from
the files of notebooks, study and runs. A row without a value names the command that makes it.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import pandas as pd
import torch

from distilkit.config import Scale
from distilkit.losses import softmax_with_temperature
from distilkit.measure.inference_benchmark import random_pair
from distilkit.measure.size import BYTES_PER_MB, parameter_count
from distilkit.student import DISTILBERT_LAYERS, default_layers
from distilkit.study import paper
from distilkit.study.arms import macro_scores
from distilkit.study.conditions import ABLATION
from distilkit.study.paper_sources import (
    arm_scores,
    downstream_scores,
    macro_difference,
    mean_over_seeds,
    paper_setting,
    read_table,
    retained_share,
    run_result,
    time_ratio,
)
from distilkit.study.verdicts import SCORES_WITHIN, Claim, Measurement, claim_row

EXAMPLE = {"dog": 6.0, "wolf": 4.5, "fox": 3.0, "cat": 2.0, "car": -2.0}  # logits of notebook 1
EXAMPLE_TEMPERATURES = (0.25, 0.5, 1, 2, 5, 10)

_NAN = float("nan")


def compare_with_paper(scale: Scale) -> pd.DataFrame:
    """Compare every claim of the paper and the article with the kit's value.

    Columns: ``source, what, unit, published, measured, low, high, verdict, why, where``; ``low``
    and ``high`` bound the 95 % interval, ``where`` names the source of the kit's value. Scores are
    in points, means over seeds (the paper's are medians). A source that is missing or damaged
    gives a row "not run".
    """
    parts = (_cost, _table_1, _table_2, _speed, _table_4, _article)
    claims = [*_architecture(), *(claim for part in parts for claim in part(scale))]
    return pd.DataFrame([claim_row(claim) for claim in claims])


# ---- values that are counted or computed


@cache
def _parameters() -> dict[str, dict[str, int]]:
    """Parameters of BERT-base and its student without a head, by name; no memory is allocated."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        return {
            model: {name: p.numel() for name, p in encoder.base_model.named_parameters()}
            | {"all": parameter_count(encoder.base_model)}
            for model, encoder in random_pair().items()
        }


def _exact(value: float, where: str) -> Measurement:
    return Measurement(value, where, value, value)


def _architecture() -> list[Claim]:
    """Layers, parameters and file size (section 3, figure 1, table 3, abstract)."""
    student, teacher = (_parameters()[model] for model in ("student", "teacher"))
    layers, published = default_layers(12), paper.speed()["parameters"] / 1e6
    same_layers = len(set(layers) & set(DISTILBERT_LAYERS))
    removed = sum(n for name, n in student.items() if "token_type" in name or "pooler" in name)
    fewer, size_mb = teacher["all"] - student["all"], 4 * student["all"] / BYTES_PER_MB  # float32
    bert_m, student_m = teacher["all"] / 1e6, student["all"] / 1e6
    authors = f"layers copied that the authors' code copies too ({', '.join(map(str, layers))})"
    figure_1 = "DistilBERT among recent models, parameters"
    everywhere, percent = "Abstract; section 4.1; article", paper.FEWER_PARAMETERS_PERCENT
    fewer_m, what = paper.FEWER_PARAMETERS / 1e6, "parameters fewer than BERT-base's"
    claims = [
        ("Section 3", "layers of BERT's 12", "", 6, len(layers)),
        ("Section 3", authors, "", 6, same_layers),
        ("Section 3", "parameters left in token-type embeddings and pooler", "", 0, removed),
        ("Figure 1", figure_1, "M", published["DistilBERT"], student_m),
        ("Table 3", "BERT-base: parameters", "M", published["BERT-base"], bert_m),
        ("Table 3", "DistilBERT: parameters", "M", published["DistilBERT"], student_m),
        ("Article", what, "M", fewer_m, fewer / 1e6),
        (everywhere, f"{what}, share", "%", percent, 100 * fewer / teacher["all"]),
    ]
    where = "computed: BertConfig() and its student, encoders without a task's head"
    bert_mb = 4 * teacher["all"] / BYTES_PER_MB
    size = Claim(
        "Section 4.1, on device",
        "size of the model",
        "MB",
        paper.MODEL_SIZE_MB,
        _exact(size_mb, f"computed: 4 bytes a parameter; BERT-base: {bert_mb:.0f} MB"),
        null=bert_mb,
        difference=f"in 16 bits it would be {size_mb / 2:.0f} MB; the paper does not say how its "
        "file is stored",
    )
    return [*(Claim(*claim, _exact(value, where)) for *claim, value in claims), size]


def _example_entropy_rises() -> Measurement:
    """At how many steps up in temperature the example's softmax has a higher entropy."""
    logits = torch.tensor(list(EXAMPLE.values()), dtype=torch.float64)
    probabilities = [softmax_with_temperature(logits, t) for t in EXAMPLE_TEMPERATURES]
    entropies = [float(torch.special.entr(p).sum()) for p in probabilities]
    rises = sum(after > before for before, after in pairwise(entropies))
    return _exact(rises, f"computed: entropy at T = {', '.join(map(str, EXAMPLE_TEMPERATURES))}")


# ---- claims that need runs, notebooks or the study


def _option(scale: Scale) -> str:
    return "" if scale.name == "tiny" else f" --scale {scale.name}"


def _first(verb: str, scale: Scale) -> str:
    return f"first: python -m distilkit {verb}{_option(scale)}"


def _cost(scale: Scale) -> list[Claim]:
    name, hours, tokens = f"{scale.name}-distilled", None, None
    if run := run_result(name):
        config, result = run
        hours = Measurement(result.get("seconds", _NAN) / 3600, f"runs/{name}")
        blocks, length = config.get("blocks") or (_NAN, _NAN)
        tokens = Measurement(blocks * length / 1e6, f"runs/{name}: once through")
    gpus = "cost of the distillation: 8 GPUs of 16 GB for about 90 hours"
    text = "text to distil on: BooksCorpus and English Wikipedia, in words (here in tokens)"
    gpu_hours, words_m = paper.TRAINING_GPUS * paper.TRAINING_HOURS, paper.CORPUS_WORDS / 1e6
    rule = {"same": False, "command": _first("figures", scale)}
    machine = rule | {"difference": "another machine and a fraction of the work"}
    other_text = rule | {"difference": "another text"}
    return [
        Claim("Section 3", gpus, "device hours", gpu_hours, hours, **machine),
        Claim("Section 3; article", text, "M", words_m, tokens, **other_text),
    ]


def _table_1(scale: Scale) -> list[Claim]:
    published = paper.glue_scores()
    scores, where = arm_scores(scale, "distilled", "teacher") or (None, "")
    measured = set() if scores is None else set(scores["task"])
    rule = paper_setting(scale) | {"within": SCORES_WITHIN, "command": _first("figures", scale)}
    claims = []
    for name, arm, slip in (("BERT-base", "teacher", 1), ("DistilBERT", "distilled", None)):
        macro = None
        if measured:
            macros = macro_scores(scores).set_index("arm").loc[[arm], "score"]
            macro = mean_over_seeds(macros, f"{arm}: {where}")
        what, stated = f"{name}: macro-score of nine tasks", published.loc[name, "macro_stated"]
        claims.append(Claim("Table 1", what, "points", stated, macro, slip=slip, **rule))
    retained = paper.retained().set_index("task")["retained"]
    nine = "share of BERT's macro-score that is kept, nine tasks"
    for source, what, share, without in (
        ("Abstract; table 1; article", nine, paper.RETAINED_PERCENT, ()),
        ("Table 1", "the same without WNLI", retained["macro without WNLI"], ("wnli",)),
    ):
        value = retained_share(scores, where, without) if measured - set(without) else None
        claims.append(Claim(source, what, "%", share, value, null=100, slip=2, **rule))
    for name in paper.GLUE_TASKS:
        task, value, missing = name.lower().replace("-", ""), None, {}
        if task in measured:
            value = macro_difference(scores[scores["task"] == task], where, "distilled", "teacher")
        elif measured:
            missing = {"command": f"the scale {scale.name} leaves this task out"}
        student, bert = published.loc[["DistilBERT", "BERT-base"], name]
        what = f"{name}: student minus teacher ({student:.1f} − {bert:.1f})"
        task_rule = rule | missing | {"null": 0, "slip": 1 if name == "MNLI" else None}
        delta = round(student - bert, 2)
        claims.append(Claim("Table 1", what, "points", delta, value, **task_rule))
    return claims


def _table_2(scale: Scale) -> list[Claim]:
    published, scores = paper.downstream_scores(), downstream_scores(scale)
    bert, student, again = published.index
    arms = {bert: "teacher", student: "distilled", again: "distilled_again"}
    claims = []
    for task, name, model, control, slip in (
        ("imdb accuracy", "IMDb accuracy", student, bert, None),
        ("squad exact_match", "SQuAD exact match", student, bert, 5),
        ("squad f1", "SQuAD F1", student, bert, 5),
        ("squad exact_match", "SQuAD exact match", again, student, 4),
        ("squad f1", "SQuAD F1", again, student, 4),
    ):
        column, dataset = task.replace(" ", "_"), task.split()[0]
        first, second = (published.loc[each, column] for each in (model, control))
        pair = [arms[model], arms[control]]
        of_task = scores[(scores["task"] == task) & scores["arm"].isin(pair)]
        by_seed = of_task.groupby("seed")["arm"].nunique()
        both = by_seed.index[by_seed == len(pair)]
        value = None
        if len(both):
            where = f"runs/{scale.name}-*-{dataset}-*, {len(both)} seed(s)"
            value = macro_difference(of_task[of_task["seed"].isin(both)], where, *pair)
        what = "distilled again minus once" if model == again else "student minus teacher"
        what, delta = f"{name}: {what} ({first:g} − {second:g})", round(first - second, 2)
        rule = {"null": 0, "slip": slip, "command": _finetune(scale, dataset, *pair)}
        rule |= paper_setting(scale)
        claims.append(Claim("Table 2", what, "points", delta, value, **rule))
    pair = ("distilled_twice", "distilled")
    scores_and_source = arm_scores(scale, *pair, parts=True)
    value = scores_and_source and macro_difference(*scores_and_source, *pair)
    what = "distilled again at fine-tuning minus once, on this scale's tasks (paper: SQuAD F1)"
    delta = round(published.loc[again, "squad_f1"] - published.loc[student, "squad_f1"], 2)
    rule = {"same": False, "null": 0, "difference": "other tasks"}
    rule["command"] = _first("study", scale)
    return [*claims, Claim("Section 4.1; article", what, "points", delta, value, **rule)]


def _finetune(scale: Scale, task: str, arm: str, control: str) -> str:
    teacher = f" --teacher runs/{scale.name}-teacher-{task}-1/model"
    extra = teacher if arm == "distilled_again" else ""
    return (
        f"first: python -m distilkit finetune CHECKPOINT --task {task} --seed 1{extra} "
        f"--name {scale.name}-ARM-{task}-1{_option(scale)}, ARM being {control} and {arm}"
    )


def _speed(scale: Scale) -> list[Claim]:
    """Table 3's times; its parameters are in :func:`_architecture`."""
    folder = f"figures/{scale.name}"
    base = read_table(scale.figures / "06_bert_base.csv", {"model", "latency_ms_p50", "length"})
    own = read_table(scale.figures / "06_pass.csv", {"model", "seconds"})
    base_ratio = time_ratio(base, "BERT-base", "DistilBERT", "latency_ms_p50")
    own_ratio = time_ratio(own, "teacher", "distilled", "seconds")
    if base_ratio is not None:
        conditions = f"classifiers with random weights, {base['length'].iloc[0]} tokens, p50"
        base_ratio = Measurement(base_ratio, f"{folder}/06_bert_base.csv: {conditions}")
    if own_ratio is not None:
        own_ratio = Measurement(own_ratio, f"{folder}/06_pass.csv: one pass, pairs in turns")
    faster = "“60 % faster”: BERT-base's time over DistilBERT's, CPU, batch 1 (668 s / 410 s)"
    own_pair = "the same for this scale's own pair of models: a pass over pairs of sentences"
    other = {"difference": "another processor, and one length in place of STS-B's sentences"}
    published = paper.speed().loc["DistilBERT", "throughput_ratio"]
    rule = {"null": 1, "slip": 3, "command": _first("figures", scale)}
    return [
        Claim("Abstract; table 3; article", faster, "×", published, base_ratio, **rule, **other),
        Claim("Table 3", own_pair, "×", published, own_ratio, **rule, **paper_setting(scale)),
    ]


def _table_4(scale: Scale) -> list[Claim]:
    deltas = paper.ablation().set_index("left_out")["delta"]
    # one table for all rows if one has all arms, so that the rows can be compared
    together = arm_scores(scale, *ABLATION.values(), "distilled", parts=True)
    what = "without the {}: macro-score minus the full recipe's"
    rows = [
        ("Table 4", what.format(part), deltas[part], (arm, "distilled"))
        for part, arm in ABLATION.items()
    ]
    what = "“MLM matters least”: macro-score without MLM minus that without cosine"
    delta = round(deltas["MLM loss"] - deltas["cosine loss"], 2)
    pair = (ABLATION["MLM loss"], ABLATION["cosine loss"])
    rows.append(("Section 4.2; article", what, delta, pair))
    claims = []
    for source, what, delta, pair in rows:
        scores_and_source = together or arm_scores(scale, *pair, parts=True)
        rule = paper_setting(scale) | {"null": 0, "command": _first("study", scale)}
        tasks = scores_and_source[0]["task"].nunique() if scores_and_source else len(scale.tasks)
        if tasks < len(scale.tasks):
            few = f"{tasks} of {len(scale.tasks)} tasks"
            rule["difference"] = few if rule["same"] else f"{rule['difference']}; {few}"
            rule["same"] = False
        value = scores_and_source and macro_difference(*scores_and_source, *pair)
        claims.append(Claim(source, what, "points", delta, value, **rule))
    return claims


def _article(scale: Scale) -> list[Claim]:
    name = f"{scale.name}-distilled"
    run = run_result(name)
    loss_config = run[0].get("loss_config", {}) if run else {}
    flatter = "softmax(z / T) of five classes: T flattens it, at so many of five steps up"
    steps = len(EXAMPLE_TEMPERATURES) - 1
    claims = [Claim("Article", flatter, "", steps, _example_entropy_rises())]
    difference = f"chosen for this scale's text (config.py, scale {scale.name})"
    rule = {"null": 0, "difference": difference, "command": _first("figures", scale)}
    for key, words in (
        ("kd_weight", "weight of the soft targets (times T²)"),
        ("mlm_weight", "weight of the masked words"),
        ("cosine_weight", "weight of the cosine"),
        ("temperature", "temperature T, the same for both"),
    ):
        what, published, value = f"triple loss: {words}", paper.TRIPLE_LOSS[key], None
        if key in loss_config:
            value = Measurement(loss_config[key], f"runs/{name}/config.json")
        claims.append(Claim("Article; authors' code", what, "", published, value, **rule))
    return claims
