"""``python -m distilkit VERB``: what the notebooks do, without a notebook."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from dataclasses import replace
from pathlib import Path

from distilkit.config import GLUE_TASKS, SCALES, FinetuneLossConfig, LossConfig, Scale, home, scale


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; the exit status. Wrong input ends with one clear line and status 2."""
    options = _parser().parse_args(arguments)
    from distilkit.processes import processes
    from distilkit.run import ALLOW_INEXACT, RunBusy

    allowed = os.environ.get(ALLOW_INEXACT, "")
    if options.allow_inexact:
        os.environ[ALLOW_INEXACT] = "1"  # runs side by side are processes of their own
    before = _exit_at_sigterm()
    try:
        status = options.verb(options) or 0
        processes().destroy_process_group()
        return status
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except (
        ValueError,
        TypeError,
        OSError,
        MemoryError,
        FloatingPointError,
        ImportError,
        RunBusy,
    ) as error:
        if options.traceback:
            raise
        print(f"distilkit: {error}", file=sys.stderr)
        return 2
    finally:
        os.environ[ALLOW_INEXACT] = allowed  # this program's, not the next one's in the process
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def _exit_at_sigterm():
    """Outside the loop, which saves first, SIGTERM ends as an exit: locks and files are let go."""
    if threading.current_thread() is not threading.main_thread():
        return None  # Python leaves signals to the main thread
    return signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def figures(options: argparse.Namespace) -> int:
    """Run the numbered notebooks headless; figures and tables land in figures/<scale>/."""
    from distilkit.cli.run_notebooks import NotebookFailed, run_notebooks

    chosen = _scale(options)
    print(f"scale {chosen.name}: {chosen.about}")
    try:
        run_notebooks(out=home() / "runs" / "notebooks" / chosen.name, scale=chosen.name)
    except NotebookFailed as failure:
        print(f"\n{failure}", file=sys.stderr)
        return 1
    import pandas as pd

    from distilkit.study.study import ARMS

    results = pd.read_csv(chosen.figures / "results.csv", index_col="arm")
    seeds = len(chosen.seeds)
    drawn = f"medians of {seeds} seeds" if seeds > 1 else "one seed"
    print(f"\nScale {chosen.name}. GLUE validation scores in points, {drawn}.\n")
    print(results.T.round(1).to_string(na_rep="–"))
    print()
    for arm in results.index:
        print(f"{arm:16} {ARMS[arm].about if arm in ARMS else ''}")
    print(f"\nFigures and tables: {chosen.figures}")
    return 0


def report(options: argparse.Namespace) -> None:
    """The scale's runs and figures as one HTML page, its tables as CSV and LaTeX."""
    from distilkit.report.page import write_report

    print(write_report(scale(options.scale)))


def head(options: argparse.Namespace) -> None:
    """Give an encoder a masked-word head and train it: a teacher for distil --teacher."""
    from distilkit.data.sources import load_blocks, load_encoder
    from distilkit.models.encoder import masked_lm_from_encoder, train_head

    chosen = _scale(options)
    training = _replaced(chosen.distillation, options)
    encoder, tokenizer = load_encoder(chosen)
    model = masked_lm_from_encoder(encoder, training.seed)
    blocks, validation = load_blocks(chosen, tokenizer)
    name = options.name or f"{chosen.name}-head"
    run = train_head(model, blocks, training, name=name, validation=validation)
    _print_result(run)


def teacher(options: argparse.Namespace) -> None:
    """Make a small teacher out of a pretrained encoder, on any text (hours; it resumes)."""
    from distilkit.study.small_teacher import encoder_as_teacher, ship, small_teacher, teacher_texts

    texts, held_out = teacher_texts(options.text)
    large = encoder_as_teacher(options.encoder, texts, held_out, name=f"{options.name}-of-encoder")
    _print_result(large)
    small = small_teacher(large.model, texts, held_out, name=options.name)
    _print_result(small)
    print(f"{ship(small.model, options.out)}: model and tokenizer, in half precision")


def doctor(options: argparse.Namespace) -> int:
    """Check teacher, text, tasks and machine before time is spent (less than a minute)."""
    from distilkit.cli.doctor import doctor as examine

    table = examine(_scale(options), task=options.task, checkpoint=options.checkpoint)
    for check, found, good in table.itertuples(index=False):
        print(f"{'good' if good else 'BAD '}  {check}: {found}")
    return 0 if table.good.all() else 1


def teacher_quality(options: argparse.Namespace) -> None:
    """Whether a teacher is worth distilling: what it answers and scores (minutes)."""
    from distilkit.study.teacher_quality import teacher_quality as measure_quality

    found = measure_quality(_scale(options))
    print(found["answers"].to_string())
    print(found["scores"].T.round(1).to_string(na_rep="–"))
    print(f"macro-score above the same shape from random weights: {found['above']:.1f} points")
    print(f"clearly above chance: {', '.join(found['above_chance']) or 'none'}")


def study(options: argparse.Namespace) -> None:
    """Every arm with every seed on the test sets (long, resumable); a table of all scores."""
    from distilkit.study.arms import paired_difference, results_table
    from distilkit.study.study import ARMS, SEEDS, join_studies, run_study

    chosen = _scale(options)
    distillation = {name: getattr(options, name) for name in ("steps", "precision")}
    given = {name: value for name, value in distillation.items() if value is not None}
    chosen = replace(chosen, distillation=replace(chosen.distillation, **given))
    if options.epochs is not None:
        longer = replace(chosen.finetuning, epochs=options.epochs, steps=None)
        chosen = replace(chosen, finetuning=longer)
    table = "study"
    if len(chosen.tasks) < len(scale(options.scale).tasks):
        table = "parts"  # fewer tasks: another table, and other runs than the whole study's
    out = options.out or chosen.figures / f"{table}.csv"
    if table == "parts":
        chosen = replace(chosen, name=f"{chosen.name}-parts")
    if options.join:
        scores = join_studies(options.join, out=out)
    else:
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
    if scores is None:
        return
    print(results_table(scores).T.round(1).to_string(na_rep="–"))
    for control in dict.fromkeys(scores.arm):
        if control != "distilled" and "distilled" in set(scores.arm):
            found = paired_difference(scores, "distilled", control)
            print(
                "distilled - {}: {mean:+.2f} points, 95 % interval {low:+.2f} to {high:+.2f}, "
                "{seeds} seeds".format(control, **found)
            )
    print(out)


def frontier(options: argparse.Namespace) -> None:
    """Smaller students, pruned ones, int8: what each loses and costs (long, resumable); a table."""
    from distilkit.compress.frontier import run_frontier
    from distilkit.compress.pareto import frontier_points

    if options.students and options.text:
        raise ValueError("--text is what students are distilled on: leave it or --students out")
    chosen = _scale(options)
    chosen = replace(chosen, finetuning=_replaced(chosen.finetuning, options))
    out = options.out or chosen.figures / "frontier.csv"
    table = run_frontier(
        chosen, options.students, out=out, examples=options.examples, name=options.name
    )
    print(frontier_points(table).round(2).to_string(index=False))
    print(out)


def distil(options: argparse.Namespace) -> None:
    """Cut a student out of the teacher and train it by the triple loss."""
    from distilkit.data.sources import load_blocks, load_teacher
    from distilkit.distillation import distil as run_distillation
    from distilkit.student import student_from_teacher

    chosen = _scale(options)
    training = _replaced(chosen.distillation, options)
    chosen = replace(chosen, distillation=training)  # a stream is dealt out by its micro-batches
    loss_config = replace(
        chosen.loss_config,
        **{
            name: getattr(options, name)
            for name in LossConfig.__dataclass_fields__
            if getattr(options, name, None) is not None
        },
    )
    model, tokenizer = load_teacher(chosen)
    student = student_from_teacher(model, options.layers)
    blocks, validation = load_blocks(chosen, tokenizer)
    run = run_distillation(
        student,
        model,
        blocks,
        training,
        name=options.name or f"{chosen.name}-distilled",
        loss_config=loss_config,
        validation=validation,
    )
    _print_result(run)


def layers(options: argparse.Namespace) -> None:
    """Score every layer map of a teacher as it is cut; --train asks whether the ranking lasts."""
    from distilkit.data.sources import load_blocks, load_teacher
    from distilkit.student import default_layers
    from distilkit.study.layer_search import probe_of, score_layer_maps
    from distilkit.study.layer_study import rank_correlation, score_and_train

    chosen = _scale(options)
    if options.train is None:
        if options.out is not None:
            raise ValueError("--out is the table of the trained students: give --train STEPS too")
        model, tokenizer = load_teacher(chosen)
        default_layers(model.config.num_hidden_layers, options.student_layers)  # refuses others
        blocks, _ = load_blocks(chosen, tokenizer)
        scores = score_layer_maps(
            model, probe_of(blocks), options.student_layers, loss_config=chosen.loss_config
        )
        ends = (scores["rank"] <= 10) | (scores["rank"] == len(scores))
        print(scores[ends | (scores["name"] != "")].round(4).to_string(index=False))
        return
    chosen = replace(chosen, distillation=replace(chosen.distillation, steps=options.train))
    out = options.out or chosen.figures / "layer_maps.csv"
    trained = score_and_train(
        chosen, student_layers=options.student_layers, out=out, name=options.name
    )
    print(trained.to_string(index=False))
    for score in ("soft_target", "masked_accuracy"):
        found = rank_correlation(trained, f"{score}_cut", score)
        print(f"{score}, as cut and trained: rank correlation {found:+.2f}")
    print(out)


def finetune(options: argparse.Namespace) -> None:
    """Fine-tune a checkpoint on one task, with --teacher also on its soft targets."""
    from transformers import (
        AutoModelForQuestionAnswering,
        AutoModelForSequenceClassification,
    )

    from distilkit import finetuning
    from distilkit.data import question_answering, squad
    from distilkit.data.sources import fewer_examples, load_task
    from distilkit.models.loading import load_tokenizer

    chosen = _scale(options)
    on_squad = options.task == "squad"
    if on_squad:
        data = squad.load_squad(options.glue or squad.HUB)
        model = question_answering.question_answerer(options.checkpoint, options.seed)
    else:
        data = load_task(chosen, options.task)
        model = finetuning.sequence_classifier(options.checkpoint, options.task, options.seed)
    data["train"] = fewer_examples(data["train"], options.examples)
    a_teacher = None
    if options.teacher:
        kind = AutoModelForQuestionAnswering if on_squad else AutoModelForSequenceClassification
        a_teacher = finetuning.fine_tuned(kind, options.teacher)
    common = {
        "training": replace(_replaced(chosen.finetuning, options), seed=options.seed),
        "name": options.name or f"{chosen.name}-{options.task}-{options.seed}",
        "teacher": a_teacher,
        "loss_config": FinetuneLossConfig() if a_teacher is not None else None,
        "max_length": options.max_length,
    }
    tokenizer = load_tokenizer(options.tokenizer or options.checkpoint)
    if on_squad:
        run = question_answering.finetune_squad(model, tokenizer, data, **common)
    else:
        run = finetuning.finetune(model, tokenizer, options.task, data, **common)
    _print_result(run)


def submit(options: argparse.Namespace) -> None:
    """Write a fine-tuned model's answers to a GLUE test set as GLUE's server takes them."""
    from transformers import AutoModelForSequenceClassification

    from distilkit.data.sources import load_task
    from distilkit.data.submission import write_submission
    from distilkit.finetuning import fine_tuned
    from distilkit.models.loading import load_tokenizer

    data = load_task(_scale(options), options.task)
    model = fine_tuned(AutoModelForSequenceClassification, options.checkpoint)
    tokenizer = load_tokenizer(options.checkpoint)
    rest = (options.task, data, options.out)
    for file in write_submission(model, tokenizer, *rest, max_length=options.max_length):
        print(file)


def measure(options: argparse.Namespace) -> None:
    """Parameters, bytes, latency and throughput of checkpoints, alternated in one run."""
    from transformers import AutoModel, AutoModelForMaskedLM, AutoModelForSequenceClassification

    from distilkit.families import positions
    from distilkit.measure.latency import compare
    from distilkit.models.loading import load_model

    kinds = {
        "masked-lm": AutoModelForMaskedLM,
        "classifier": AutoModelForSequenceClassification,
        "encoder": AutoModel,
    }
    kind = kinds[options.kind]
    models = {path: load_model(kind, path)[0].eval() for path in options.checkpoints}
    length = options.length
    if length is None:
        length = min(128, *(positions(model) for model in models.values()))
    table = compare(models, length=length, threads=options.threads)
    print(table.round(2).to_string(index=False))


def bench_step(options: argparse.Namespace) -> None:
    """Tokens/s, processor time and memory of one distillation step, the textbook's and ours."""
    import torch

    from distilkit.measure.step_benchmark import WIDTHS, Work, bench_step

    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    cuda = device == "cuda"
    length = options.length or (512 if cuda else 128)
    works = [
        Work(
            width=width,
            tokens=tokens,
            malloc=malloc,
            batch_size=options.batch_size
            or max(1, (16384 if cuda else WIDTHS.get(width, (0, 0, 0, 1024))[3]) // length),
            length=length,
            text=options.text,
            device=device,
            threads=options.threads,
        )
        for width in options.widths
        for tokens in options.tokens
        for malloc in (["default"] if cuda else options.malloc)
    ]
    table = bench_step(works, steps=options.steps, path=options.json)
    shown = ["work", "variant", "tokens_per_s", "cpu_s_per_ktok", "peak_rss_mib"]
    shown += ["share_of_peak", "ratio_to_textbook", "ratio_low", "ratio_high"]
    shown += ["largest_batch"] * cuda
    print(table[shown].round(2).to_string(index=False))


def bench_inference(options: argparse.Namespace) -> None:
    """Latency at batch 1 and throughput at batch 32, by length and threads; the paper's pass."""
    import pandas as pd
    from transformers import AutoModelForSequenceClassification

    from distilkit.data.sources import load_task
    from distilkit.measure.inference_benchmark import bench_inference, bench_pass, random_pair
    from distilkit.models.loading import load_model, load_tokenizer

    if options.checkpoints:
        kind = AutoModelForSequenceClassification
        models = {path: load_model(kind, path)[0] for path in options.checkpoints}
    else:
        models = random_pair()
    if options.stsb:
        chosen = _scale(options)
        tokenizer = load_tokenizer([*options.checkpoints, chosen.teacher][0])
        data = load_task(chosen, "stsb")["validation"]
        pairs = list(zip(data["sentence1"][:], data["sentence2"][:], strict=True))
        table = pd.concat(
            bench_pass(models, tokenizer, pairs, threads=threads)
            for threads in options.threads or [1]
        )
    else:
        table = bench_inference(models, lengths=options.lengths, threads=options.threads)
    print(table.round(2).to_string(index=False))


def bench_compression(_options: argparse.Namespace) -> None:
    """BERT-base beside its student, each in PyTorch, ONNX and int8: size and latency (minutes)."""
    from distilkit.compress.compression_benchmark import bench_compression

    print(bench_compression().round(2).to_string(index=False))


def runs(_options: argparse.Namespace) -> None:
    """List the run folders."""
    from distilkit.run import runs as all_runs

    table = all_runs()
    print(table.to_string(index=False) if len(table) else f"no runs in {home() / 'runs'}")


def _scale(options: argparse.Namespace) -> Scale:
    """The scale, with teacher, text or tasks replaced by what was named."""
    chosen = scale(options.scale)
    named = {
        field: getattr(options, field)
        for field in ("teacher_checkpoint", "text", "stream", "glue", "tasks", "seeds")
        if getattr(options, field, None) is not None
    }
    if "teacher_checkpoint" in named:
        named["teacher"] = named.pop("teacher_checkpoint")
    # argparse makes lists, a scale can be hashed
    return replace(chosen, **{k: tuple(v) if isinstance(v, list) else v for k, v in named.items()})


def _replaced(training, options: argparse.Namespace):
    """The scale's training with the options that were given in place of its own."""
    names = ("epochs", "steps", "batch_size", "micro_batch_size", "learning_rate", "precision")
    given = {name: getattr(options, name) for name in names}
    given = {name: value for name, value in given.items() if value is not None}
    if "epochs" in given:  # what is asked for, not the scale's own steps, which would replace it
        given.setdefault("steps", None)
    return replace(training, **given)


def _print_result(run) -> None:
    from distilkit.processes import processes

    if not processes().is_main_process:
        return
    print(f"{run.path}")
    for name, value in run.result().items():
        print(f"  {name}: {value}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m distilkit", description=__doc__)
    parser.add_argument("--traceback", action="store_true", help="show where an error arose")
    parser.add_argument(
        "--allow-inexact",
        action="store_true",
        help="go on with runs that began with other threads, processes, devices or versions",
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    def verb(function, among=verbs, name=None) -> argparse.ArgumentParser:
        about = function.__doc__.splitlines()[0]
        sub = among.add_parser(name or function.__name__, help=about, description=about)
        sub.set_defaults(verb=function)
        return sub

    def with_scale(sub: argparse.ArgumentParser) -> argparse.ArgumentParser:
        sub.add_argument("--scale", help=f"{', '.join(SCALES)} (default: DISTILKIT_SCALE or tiny)")
        return sub

    def with_training(sub: argparse.ArgumentParser, of: str = "") -> None:
        length = sub.add_mutually_exclusive_group()
        length.add_argument("--epochs", type=int, help=f"passes over the data{of}")
        length.add_argument("--steps", type=int, help=f"optimizer steps{of}")
        sub.add_argument("--batch-size", type=int, help=f"examples an optimizer step{of}")
        sub.add_argument("--micro-batch-size", type=int, help="examples a forward pass")
        sub.add_argument("--learning-rate", type=float)
        sub.add_argument("--precision", choices=("auto", "fp32", "bf16"))
        sub.add_argument(
            "--name", help="of the run folder" + (", or what it begins with" if of else "")
        )

    with_scale(verb(figures))
    with_scale(verb(report))

    text = "Hub dataset id:config, a .txt, .jsonl or .parquet file, or a folder of them"
    sub = with_scale(verb(head))
    sub.add_argument(
        "teacher_checkpoint", metavar="ENCODER", help="Hub id or folder of a BertModel"
    )
    sub.add_argument("--text", help=text)
    with_training(sub)

    sub = verb(teacher)
    sub.add_argument("encoder", help="Hub id or folder of a BertModel and its tokenizer")
    sub.add_argument(
        "--text", nargs="+", required=True, help=".txt, .jsonl or .parquet files to learn from"
    )
    sub.add_argument("--out", required=True, help="folder for the finished teacher")
    sub.add_argument("--name", default="teacher", help="of the run folders")

    sub = with_scale(verb(doctor))
    sub.add_argument("--teacher", dest="teacher_checkpoint", help="Hub id or folder")
    sub.add_argument("--text", help="as for distil")
    sub.add_argument("--glue", help="Hub dataset, or folder with <task>/<split>.parquet")
    sub.add_argument("--task", help="of a classifier that is to teach while fine-tuning")
    sub.add_argument("--checkpoint", help="that classifier")

    sub = with_scale(verb(teacher_quality, name="teacher-quality"))
    sub.add_argument("--teacher", dest="teacher_checkpoint", help="Hub id or folder")

    sub = with_scale(verb(study))
    sub.add_argument(
        "--seeds", type=int, nargs="+", help="one or more (default: the five kept for it)"
    )
    sub.add_argument("--arms", nargs="+", metavar="ARM", help="one or more (default: all)")
    sub.add_argument(
        "--teacher-cache",
        action="store_true",
        help="the arms of a seed share the teacher's answers: faster, and takes disk",
    )
    sub.add_argument("--dry-run", action="store_true", help="say what it would cost, and stop")
    sub.add_argument(
        "--join",
        type=Path,
        nargs="+",
        metavar="CSV",
        help="train nothing: one table of these, parts of one plan",
    )
    sub.add_argument(
        "--tasks", nargs="+", help="fewer than the scale's: a study of its own, parts.csv"
    )
    sub.add_argument("--steps", type=int, help="of every distillation (default: the scale's)")
    sub.add_argument(
        "--precision", choices=("auto", "fp32", "bf16"), help="of every distillation, likewise"
    )
    sub.add_argument("--epochs", type=int, help="of every fine-tuning (default: the scale's)")
    sub.add_argument("--glue", help="Hub dataset, or folder with <task>/<split>.parquet")
    sub.add_argument(
        "--out", type=Path, help="csv file (default: figures/<scale>/study.csv, or parts.csv)"
    )

    sub = with_scale(verb(frontier))
    sub.add_argument("--teacher", dest="teacher_checkpoint", help="Hub id or folder")
    sub.add_argument(
        "--students",
        nargs="+",
        metavar="FOLDER",
        help="distilled from it already; of several of one depth each seed gets the next "
        "(default: half, a third and a sixth of the teacher's layers, distilled here)",
    )
    sub.add_argument("--text", help="as for distil; without --students")
    sub.add_argument("--glue", help="Hub dataset, or folder with <task>/<split>.parquet")
    sub.add_argument("--tasks", nargs="+", help="default: the scale's")
    sub.add_argument("--seeds", type=int, nargs="+", help="default: the scale's")
    sub.add_argument("--examples", type=int, help="use so many training examples only")
    sub.add_argument("--out", type=Path, help="csv file (default: figures/<scale>/frontier.csv)")
    with_training(sub, " (of every fine-tuning)")

    sub = with_scale(verb(distil))
    sub.add_argument("--teacher", dest="teacher_checkpoint", help="Hub id or folder")
    sub.add_argument("--text", help=text)
    sub.add_argument(
        "--stream",
        type=int,
        metavar="BLOCKS",
        help="read the Hub dataset as it is needed, so many blocks an epoch, and store nothing",
    )
    sub.add_argument("--layers", type=int, nargs="+", help="teacher layers to copy, 0-based")
    weights = LossConfig()
    for name in ("kd_weight", "mlm_weight", "cosine_weight", "temperature"):
        help_ = f"default {getattr(weights, name):g}"
        sub.add_argument(f"--{name.replace('_', '-')}", type=float, help=help_)
    sub.add_argument(
        "--restrict-kd-to-mask", action="store_const", const=True, help="KD at masked tokens only"
    )
    sub.add_argument("--mlm-target", choices=("original", "teacher"))
    with_training(sub)

    sub = with_scale(verb(layers))
    sub.add_argument("--teacher", dest="teacher_checkpoint", help="Hub id or folder")
    sub.add_argument("--text", help=text)
    sub.add_argument("--student-layers", type=int, help="default: half of the teacher's")
    sub.add_argument("--train", type=int, metavar="STEPS", help="train students of some maps")
    sub.add_argument("--out", type=Path, help="csv file (default: figures/<scale>/layer_maps.csv)")
    sub.add_argument("--name", help="of the run folders, which go on with layers and seed")

    sub = with_scale(verb(finetune))
    sub.add_argument("checkpoint", help="Hub id or folder of the model to fine-tune")
    sub.add_argument("--task", required=True, help=", ".join((*GLUE_TASKS, "imdb", "squad")))
    sub.add_argument("--glue", help="Hub dataset, or folder with <task>/<split>.parquet")
    sub.add_argument("--teacher", help="folder of a classifier fine-tuned on this task")
    sub.add_argument("--tokenizer", help="if the checkpoint holds none")
    sub.add_argument("--examples", type=int, help="use so many training examples only")
    sub.add_argument(
        "--max-length", type=int, help="tokens (default 128; IMDb 512, SQuAD 384 a window)"
    )
    sub.add_argument("--seed", type=int, default=0)
    with_training(sub)

    sub = with_scale(verb(submit))
    sub.add_argument("checkpoint", help="folder of the fine-tuned model")
    sub.add_argument("--task", required=True, help=", ".join(GLUE_TASKS))
    sub.add_argument("--glue", help="Hub dataset, or folder with <task>/<split>.parquet")
    sub.add_argument("--out", required=True, help="folder for the .tsv files")
    sub.add_argument("--max-length", type=int, help="tokens, as in the fine-tuning (default 128)")

    sub = verb(measure)
    sub.add_argument("checkpoints", nargs="+", help="folders or Hub ids")
    sub.add_argument("--kind", choices=("masked-lm", "classifier", "encoder"), default="encoder")
    sub.add_argument("--length", type=int, help="tokens (default 128, or as many as all can take)")
    sub.add_argument("--threads", type=int, default=1, help="CPU threads (default 1)")

    about = "Speed and memory, measured here: of a step, of a forward pass, and how they grow"
    benches = verbs.add_parser("bench", help=about, description=about)
    benches = benches.add_subparsers(required=True, metavar="WHAT")
    sub = verb(bench_step, benches, "step")
    sub.add_argument(
        "--widths",
        nargs="+",
        default=["384-wide", "base"],
        metavar="WIDTH",
        help="384-wide, base (random weights), or a teacher's Hub id or folder (default: the two)",
    )
    sub.add_argument("--tokens", nargs="+", choices=("all", "masked"), default=["all", "masked"])
    sub.add_argument(
        "--malloc",
        nargs="+",
        choices=("default", "large"),
        default=["default", "large"],
        help="thresholds of the C library's allocator (CPU; default: both)",
    )
    sub.add_argument("--text", help="real tokens, for a teacher with a tokenizer (as for distil)")
    sub.add_argument("--steps", type=int, default=10, help="of each variant (default 10)")
    sub.add_argument("--batch-size", type=int, help="sequences a step")
    sub.add_argument("--length", type=int, help="tokens a sequence (default 128, on a GPU 512)")
    sub.add_argument("--threads", type=int, default=1, help="CPU threads (default 1)")
    sub.add_argument("--device", choices=("cpu", "cuda"), help="default: a GPU where there is one")
    sub.add_argument("--json", metavar="FILE", help="rows, written anew after each measurement")

    sub = with_scale(verb(bench_inference, benches, "inference"))
    sub.add_argument(
        "checkpoints",
        nargs="*",
        help="classifiers, the teacher first (default: BERT-base and its student, random weights)",
    )
    sub.add_argument("--lengths", type=int, nargs="+", default=[32, 128, 512])
    sub.add_argument("--threads", type=int, nargs="+", help="default: 1 and all (--stsb: 1)")
    sub.add_argument(
        "--stsb", action="store_true", help="the paper's protocol: one pass over STS-B, batch 1"
    )
    sub.add_argument("--glue", help="Hub dataset, or folder with <task>/<split>.parquet")

    verb(bench_compression, benches, "compression")

    verb(runs)
    return parser


if __name__ == "__main__":
    sys.exit(main())
