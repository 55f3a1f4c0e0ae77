"""Verbs that train: distil, head, layers, finetune; and doctor, the checks before."""

from argparse import ArgumentParser, Namespace
from dataclasses import replace

from distilkit.cli.options import (
    HELP,
    add_fields,
    add_scale,
    add_training,
    chosen_scale,
    given,
    print_result,
    settings_for,
)
from distilkit.cli.task_options import add_task, chosen_task, refuse_own_data, unlabelled_texts
from distilkit.config import GLUE_TASKS, FinetuneLossConfig


def _distil_options(parser: ArgumentParser) -> None:
    add_scale(parser, "teacher", "text", "length", "stream")
    parser.add_argument("--layers", type=int, nargs="+", help="teacher layers to copy, 0-based")
    parser.add_argument("--name", help="of the run folder")
    loss = parser.add_argument_group("loss")
    add_fields(loss, "loss_config", "kd_weight", "mlm_weight", "cosine_weight", "temperature")
    add_fields(loss, "loss_config", "restrict_kd_to_mask", "mlm_target")
    add_training(parser, "distillation")
    add_fields(parser, "distillation", "seed")


def distil(options: Namespace) -> None:
    """Make a student of some of the teacher's layers and train it with the triple loss."""
    from distilkit.data.sources import check_plan, load_blocks, load_teacher
    from distilkit.distillation import distil as train
    from distilkit.student import student_from_teacher
    from distilkit.study.held_out_text import watch_accuracy

    chosen = chosen_scale(options)
    name = options.name or f"{chosen.name}-distilled"
    teacher, tokenizer = load_teacher(chosen)
    student = student_from_teacher(teacher, options.layers)
    check_plan(chosen, tokenizer, teacher, name=name)
    blocks, validation = load_blocks(chosen, tokenizer)
    run = train(
        student,
        teacher,
        blocks,
        chosen.distillation,
        name=name,
        loss_config=chosen.loss_config,
        validation=validation,
        watch=watch_accuracy(validation, chosen.distillation.micro_batch_size),
    )
    print_result(run)


def _head_options(parser: ArgumentParser) -> None:
    parser.add_argument("scale.teacher", metavar="ENCODER", help="Hub id or folder of a BertModel")
    add_scale(parser, "text", "length")
    parser.add_argument("--name", help="of the run folder")
    add_training(parser, "distillation")
    add_fields(parser, "distillation", "seed")


def head(options: Namespace) -> None:
    """Give an encoder an MLM head and train it: a teacher for distil --teacher."""
    from distilkit.data.sources import check_plan, load_blocks, load_encoder
    from distilkit.models.heads import masked_lm_from_encoder, train_head

    chosen = chosen_scale(options)
    encoder, tokenizer = load_encoder(chosen)
    model = masked_lm_from_encoder(encoder, chosen.distillation.seed)
    name = options.name or f"{chosen.name}-head"
    check_plan(chosen, tokenizer, model, name=name)
    blocks, validation = load_blocks(chosen, tokenizer)
    print_result(train_head(model, blocks, chosen.distillation, name=name, validation=validation))


def _layers_options(parser: ArgumentParser) -> None:
    add_scale(parser, "teacher", "text", "length")
    parser.add_argument("--student-layers", type=int, help="default: half of the teacher's")


def layers(options: Namespace) -> None:
    """Score every layer map of a teacher before any training."""
    from distilkit.data.sources import check_plan, load_blocks, load_teacher
    from distilkit.student import default_layers
    from distilkit.study.layer_search import probe_of, score_layer_maps

    chosen = chosen_scale(options)
    teacher, tokenizer = load_teacher(chosen)
    depth = teacher.config.num_hidden_layers
    default_layers(depth, options.student_layers)  # refuses a wrong number
    check_plan(chosen, tokenizer, teacher)
    blocks, _ = load_blocks(chosen, tokenizer)
    scores = score_layer_maps(
        teacher, probe_of(blocks), options.student_layers, loss_config=chosen.loss_config
    )
    ends = (scores["rank"] <= 10) | (scores["rank"] == len(scores))
    print(scores[ends | (scores["name"] != "")].round(4).to_string(index=False))


def _finetune_options(parser: ArgumentParser) -> None:
    parser.add_argument("checkpoint", help="Hub id or folder of the model to fine-tune")
    add_task(parser, ", ".join((*GLUE_TASKS, "imdb", "squad")), required=True)
    add_scale(parser, "glue")
    parser.add_argument("--tokenizer", help=f"{HELP['teacher']}, if the checkpoint holds none")
    parser.add_argument("--examples", type=int, help="use so many training examples only")
    parser.add_argument(
        "--max-length", type=int, help="tokens (default 128; IMDb 512, SQuAD 384 a window)"
    )
    parser.add_argument("--name", help="of the run folder")
    loss = parser.add_argument_group("distillation")
    loss.add_argument("--teacher", help="Hub id or folder of a model fine-tuned on this task")
    add_fields(loss, "finetune_loss", "label_weight", "kd_weight", "temperature")
    add_training(parser, "finetuning")
    add_fields(parser, "finetuning", "seed")


def finetune(options: Namespace) -> None:
    """Fine-tune a checkpoint on a task or your own data; --teacher adds its soft targets."""
    from distilkit import finetuning
    from distilkit.data.sources import fewer_examples, load_task
    from distilkit.models.loading import load_tokenizer
    from distilkit.processes import processes
    from distilkit.run import run_folder

    chosen = chosen_scale(options)
    loss_config = given(options, "finetune_loss")
    if loss_config and not options.teacher:
        raise ValueError(f"{', '.join(loss_config)}: of the distillation; give --teacher too")
    if options.name is not None:
        run_folder(options.name)  # a name that cannot be one is refused before anything is read
    task = chosen_task(options, options.teacher)
    unlabelled = unlabelled_texts(options, task)
    if processes().is_main_process:
        for note in task.notes:
            print(note)
    data = dict(load_task(chosen, task))
    data["train"] = fewer_examples(data["train"], options.examples)
    training = settings_for(options, options.checkpoint)
    run = finetuning.finetune(
        finetuning.classifier(options.checkpoint, task, training.seed),
        load_tokenizer(options.tokenizer or options.checkpoint),
        task,
        data,
        training,
        name=options.name or f"{chosen.name}-{task}-{training.seed}",
        teacher=finetuning.fine_tuned_on(options.teacher, task) if options.teacher else None,
        unlabelled=unlabelled,
        loss_config=FinetuneLossConfig(**loss_config) if options.teacher else None,
        max_length=options.max_length,
    )
    print_result(run)


def _doctor_options(parser: ArgumentParser) -> None:
    add_scale(parser, "teacher", "text", "glue", "length")
    parser.add_argument(
        "--checkpoint",
        help="with --task or --data: the model to fine-tune, and --teacher its fine-tuned teacher",
    )
    add_task(parser, "to fine-tune on", required=False)
    add_training(parser, "finetuning")


def doctor(options: Namespace) -> int:
    """Check teacher, text or task, and machine before a training (less than a minute)."""
    from distilkit.cli import doctor as checks
    from distilkit.data.sources import load_task

    chosen, checkpoint = chosen_scale(options), options.checkpoint
    if options.data is None and options.task is None:
        if checkpoint is not None:
            raise ValueError("--checkpoint: give the task, --task or --data, too")
        refuse_own_data(options)
        training = replace(chosen.distillation, **given(options, "finetuning"))
        chosen = replace(chosen, distillation=training)
        return 0 if checks.print_checks(checks.doctor(chosen)) else 1
    if checkpoint is None:
        raise ValueError("--task, --data: give --checkpoint, the model to fine-tune, too")
    teacher = given(options, "scale").get("teacher")
    task = chosen_task(options, teacher)
    more = {"teacher": teacher, "unlabelled": unlabelled_texts(options, task)}
    task = replace(task, data=load_task(chosen, task))
    training = settings_for(options, checkpoint)
    table = checks.task_doctor(task, checkpoint, training, **more)
    return 0 if checks.print_checks(table) else 1


VERBS = {
    "doctor": (doctor, _doctor_options),
    "distil": (distil, _distil_options),
    "head": (head, _head_options),
    "layers": (layers, _layers_options),
    "finetune": (finetune, _finetune_options),
}
