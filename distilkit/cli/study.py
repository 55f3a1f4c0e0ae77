"""Verbs that compare: study, labels, frontier, teacher-quality."""

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from dataclasses import replace
from pathlib import Path

import pandas as pd

from distilkit.cli.options import add_fields, add_scale, add_training, chosen_scale, settings_for
from distilkit.config import TrainingConfig, scale


def _study_options(parser: ArgumentParser) -> None:
    add_scale(parser, "glue", "tasks")
    parser.add_argument(
        "--seeds", type=int, nargs="+", help="one or more (default: the study's own five)"
    )
    parser.add_argument("--arms", nargs="+", metavar="ARM", help="one or more (default: all)")
    parser.add_argument(
        "--teacher-cache",
        action="store_true",
        help="store the teacher's hidden states for all arms of a seed: faster, takes disk space",
    )
    parser.add_argument("--dry-run", action="store_true", help="estimate the cost and stop")
    parser.add_argument(
        "--join", type=Path, nargs="+", metavar="CSV", help="train nothing: concatenate to --out"
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="csv file (default: figures/<scale>/study.csv, parts.csv with fewer tasks)",
    )
    add_fields(parser.add_argument_group("every training"), "distillation", "micro_batch_size")
    distillation = parser.add_argument_group("every distillation")
    add_fields(distillation, "distillation", "steps", "batch_size", "precision")
    finetuning = parser.add_argument_group("every fine-tuning")
    add_fields(finetuning, "finetuning", "epochs")
    add_fields(finetuning, "finetuning", "batch_size", "learning_rate", prefix="finetuning-")


def study(options: Namespace) -> None:
    """Train every arm with every seed; write a table of scores (long, resumable)."""
    from distilkit.study.conditions import ARMS, SEEDS
    from distilkit.study.study import join_studies, run_study

    chosen = chosen_scale(options)
    if micro := getattr(options, "distillation.micro_batch_size"):
        micro = min(micro, chosen.finetuning.batch_size)
        finetuning = replace(chosen.finetuning, micro_batch_size=micro)
        chosen = replace(chosen, finetuning=finetuning)
    table = "study"
    if set(scale(options.scale).tasks) - set(chosen.tasks):
        table = "parts"  # fewer tasks: another table, and other runs than the whole study's
    out = options.out or chosen.figures / f"{table}.csv"
    if options.join:
        if options.out is None:
            raise ValueError("--join: name the new table with --out")
        _print_scores(join_studies(options.join, out=out), out)
        return
    if table == "parts":
        chosen = replace(chosen, name=f"{chosen.name}-parts")
    arms = options.arms or tuple(ARMS)
    lacking = [arm for arm in ("teacher", "distilled") if arm not in arms]
    if lacking and options.out is None and not options.dry_run:
        raise ValueError(
            f"without {' and '.join(lacking)} this is a part of a study, for --join: name its "
            f"file with --out (the whole would be {out})"
        )
    scores = run_study(
        chosen,
        options.seeds or SEEDS,
        arms,
        out=out,
        teacher_cache=options.teacher_cache,
        dry=options.dry_run,
    )
    if scores is not None:
        _print_scores(scores, out)


def _print_scores(scores: pd.DataFrame, out: Path) -> None:
    from distilkit.study.arms import paired_difference, results_table

    print(results_table(scores).T.round(1).to_string(na_rep="–"))
    for control in dict.fromkeys(scores.arm):
        if control != "distilled" and "distilled" in set(scores.arm):
            difference = paired_difference(scores, "distilled", control)
            print(
                "distilled - {}: {mean:+.2f} points, 95 % interval {low:+.2f} to {high:+.2f}, "
                "{seeds} seeds".format(control, **difference)
            )
    print(out)


def _labels_options(parser: ArgumentParser) -> None:
    add_scale(parser, "teacher", "glue", "tasks", "seeds")
    students = "one, or one for each seed (default: the study's distilled one of each seed)"
    parser.add_argument("--students", nargs="+", metavar="FOLDER", help=students)
    counts = "numbers of labels (default: 0 16 64 256 all)"
    parser.add_argument("--counts", nargs="+", type=_count, metavar="N", help=counts)
    rates = "tried for each curve (default: the scale's and its double)"
    parser.add_argument("--learning-rates", nargs="+", type=float, metavar="RATE", help=rates)
    parser.add_argument("--examples", type=int, help="use so many training examples only")
    out = "csv file (default: figures/<scale>/label_efficiency.csv)"
    parser.add_argument("--out", type=Path, help=out)
    add_fields(
        parser.add_argument_group("every fine-tuning"),
        "finetuning",
        *("epochs", "batch_size", "micro_batch_size", "learning_rate", "precision"),
    )


def _count(given: str) -> int | None:
    if given != "all" and not given.isdecimal():
        raise ArgumentTypeError(f"{given!r}: give numbers from 0 on, or all")
    return None if given == "all" else int(given)


def labels(options: Namespace) -> None:
    """Measure scores against the number of labels, with and without a teacher (long, resumable)."""
    from distilkit.run import Run
    from distilkit.study.arms import check_table, t_interval
    from distilkit.study.label_efficiency import COUNTS, best_learning_rates, label_efficiency
    from distilkit.study.study import arm_checkpoint, arm_folder

    chosen = chosen_scale(options)
    out = check_table(options.out or chosen.figures / "label_efficiency.csv")
    students = options.students or []
    for seed in () if students else chosen.seeds:
        of_seed = replace(chosen, distillation=replace(chosen.distillation, seed=seed))
        run = Run(arm_folder("distilled", of_seed))
        if run.finished:  # by a study, perhaps of other settings than the scale's
            of_seed = replace(chosen, distillation=TrainingConfig(**run.config()["training"]))
        students.append(arm_checkpoint("distilled", of_seed))
    table = label_efficiency(
        chosen,
        students * len(chosen.seeds) if len(students) == 1 else students,
        out=out,
        counts=options.counts or COUNTS,
        learning_rates=options.learning_rates,
        examples=options.examples,
    )
    best = best_learning_rates(table).groupby(["task", "way", "labels"], sort=False)["score"]
    print(best.apply(lambda values: pd.Series(t_interval(values))).unstack().round(1).to_string())
    print(out)


def _frontier_options(parser: ArgumentParser) -> None:
    add_scale(parser, "teacher", "text", "glue", "tasks", "seeds")
    parser.add_argument(
        "--students",
        nargs="+",
        metavar="FOLDER",
        help="already distilled; several of one depth: one per seed in turn (default: half, "
        "a third and a sixth of the layers, distilled on --text)",
    )
    parser.add_argument("--examples", type=int, help="use so many training examples only")
    out = "csv file (default: figures/<scale>/frontier.csv)"
    parser.add_argument("--out", type=Path, help=out)
    parser.add_argument("--name", help="prefix of the run folders")
    add_training(parser, "finetuning", "every fine-tuning")


def frontier(options: Namespace) -> None:
    """Measure score and cost of smaller, pruned and int8 students (long, resumable)."""
    from distilkit.compress.frontier import run_frontier
    from distilkit.compress.pareto import frontier_points

    if options.students and getattr(options, "scale.text"):
        raise ValueError("--text is what students are distilled on: leave it or --students out")
    chosen = chosen_scale(options)
    out = options.out or chosen.figures / "frontier.csv"
    table = run_frontier(
        chosen, options.students, out=out, examples=options.examples, name=options.name
    )
    print(frontier_points(table).round(2).to_string(index=False))
    print(out)


def teacher_quality(options: Namespace) -> None:
    """Check a teacher before distillation: its fill-mask answers and its scores (minutes)."""
    from distilkit.study.teacher_quality import teacher_quality as measure_quality

    chosen = chosen_scale(options)
    chosen = replace(chosen, finetuning=settings_for(options, chosen.teacher))
    quality = measure_quality(chosen)
    print(quality["answers"].to_string())
    print(quality["scores"].T.round(1).to_string(na_rep="–"))
    print(f"macro-score above the same shape from random weights: {quality['above']:.1f} points")
    print(f"clearly above chance: {', '.join(quality['above_chance']) or 'none'}")


VERBS = {
    "study": (study, _study_options),
    "labels": (labels, _labels_options),
    "frontier": (frontier, _frontier_options),
    "teacher-quality": (
        teacher_quality,
        lambda parser: add_scale(parser, "teacher", "glue", "tasks"),
    ),
}
