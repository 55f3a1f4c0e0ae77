"""Compression of a sentence-embedding model: a smaller student, in a folder to hand over.

The student learns the teacher's embeddings of plain texts (Reimers and Gurevych 2020, arXiv
2004.09813, section 2); no labels, no pairs.
"""

import copy
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import combinations
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm
from transformers import AutoModel, PreTrainedModel, PreTrainedTokenizerBase

from distilkit.compress.embedding_scores import columns_of, embed, encoded, measure_embeddings
from distilkit.compress.hand_over import check_out, write_folder
from distilkit.compress.onnx_export import check_exportable
from distilkit.config import SCALES, TrainingConfig
from distilkit.data.examples import Examples, by_length, tokens_at_once
from distilkit.data.tasks import Task
from distilkit.data.teacher_store import cache_folder, write_missing
from distilkit.data.text_check import check_known
from distilkit.finetuning import input_length
from distilkit.models.loading import load_model
from distilkit.models.sentence_encoder import Pooling, embeddings_of, load_sentence_encoder
from distilkit.processes import processes, to_device
from distilkit.run import Run, as_json, fingerprint, model_entry, open_run, teacher_entry
from distilkit.student import default_layers, student_from_teacher
from distilkit.training_loop import check_weights, train

log = logging.getLogger("distilkit")

PROBE = 500  # texts that choose the layer map
MOST_MAPS = 60  # more are not tried
HELD_OUT = 1000  # texts at most, a tenth of all
LEAST_TEXTS = 20
PART = 1024  # embeddings that are written and hashed together

_BATCH = {"batch_size": 64, "micro_batch_size": 64}
TRAINING = replace(SCALES["base"].finetuning, epochs=3, learning_rate=5e-4, **_BATCH)


def compress_embeddings(
    checkpoint: str | Path,
    texts: Sequence[str],
    out: str | Path,
    training: TrainingConfig = TRAINING,
    *,
    pairs: Task | None = None,
    layers: Sequence[int] | None = None,
    depth: int | None = None,
    max_length: int | None = None,
    name: str | None = None,
    licence: str | None = None,
) -> pd.DataFrame:
    """Distil a sentence-embedding model into one with fewer layers, and write it to a folder.

    The training is the run `name`; interrupted, it resumes. `out` is a sentence-transformers model
    with ONNX files in float32 and int8, the table and a model card. Arguments and columns that are
    not explained here are those of :func:`distilkit.compress.compress.compress`.

    Args:
        checkpoint: Hub id or folder of a sentence-transformers model: the teacher.
        texts: to learn from; some are held out. Those of `pairs` are left out.
        pairs: a regression on pairs of texts (:func:`distilkit.data.own_task.task_from`), to score
            teacher and student; all its rows.
        layers, depth: teacher layers to copy; or their number (by default half), which are then
            chosen by :func:`rank_layer_maps`.
        max_length: tokens; by default the teacher's.

    Returns:
        A row for teacher and student in each engine. ``score`` is Spearman on the pairs,
        ``agreement`` the share of the ten nearest neighbours of a held-out text that are the
        teacher's (NaN for fewer than a hundred held-out texts, of which too many are near).
    """
    out, name = check_out(out, name)
    teacher, tokenizer, pooling = load_sentence_encoder(checkpoint)
    check_exportable(teacher)
    length = input_length([teacher], max_length, pooling.max_length)
    pooling = replace(pooling, max_length=length)
    learnt, held_out = divide(texts, pairs)
    if layers is None:
        probe = encoded(learnt[:PROBE], tokenizer, pooling)
        ranking = rank_layer_maps(teacher, probe, pooling, depth)
        layers = ranking["layers"][0]
        log.info("layers %s: cosine %.3f as cut", layers, ranking["cosine"][0])
    student = student_from_teacher(teacher, layers)
    del teacher  # loaded again for each use: nobody holds it while the student is trained
    run = distil_embeddings(
        student,
        load_sentence_encoder(checkpoint)[0],
        tokenizer,
        pooling,
        learnt,
        training,
        name=name,
    )
    student, _ = load_model(AutoModel, run.model)
    models = {"teacher": load_sentence_encoder(checkpoint)[0], "student": student.eval()}
    notes = [f"{len(learnt):,} texts without labels to learn from, {len(held_out):,} held out"]
    if pairs is not None:
        notes.append(f"{len(columns_of(pairs)[2]):,} scored pairs: {pairs.name}")
    about = {"checkpoint": str(checkpoint), "layers": tuple(layers), "max_length": length}
    data = Task(name, name, ("text",), (), "regression", notes=tuple(notes))
    with tempfile.TemporaryDirectory(prefix="distilkit-compress-") as folder:
        table = measure_embeddings(models, tokenizer, pooling, held_out, pairs, Path(folder))
        files = Path(folder) / "1"
        write_folder(out, student, tokenizer, files, table, data, run, about, licence, pooling)
    return table


def divide(texts: Sequence[str], pairs: Task | None) -> tuple[list[str], list[str]]:
    """Return the texts to learn from and those held out, each text once, shuffled by seed 0."""
    if isinstance(texts, str):
        raise TypeError("texts is one text: give a list of them")
    first, second, _ = columns_of(pairs)
    scored = {*first, *second}
    left = [text for text in dict.fromkeys(texts) if text.strip() and text not in scored]
    if len(left) < LEAST_TEXTS:
        raise ValueError(
            f"{len(left)} different texts that are in none of the pairs: give at least "
            f"{LEAST_TEXTS}, better some ten thousand"
        )
    shuffled = [left[i] for i in np.random.default_rng(0).permutation(len(left))]
    count = min(HELD_OUT, len(left) // 10)
    return shuffled[count:], shuffled[:count]


def distil_embeddings(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pooling: Pooling,
    texts: Sequence[str],
    training: TrainingConfig,
    *,
    name: str,
) -> Run:
    """Train a copy of the student on the teacher's embeddings of texts.

    The loss is :func:`embedding_loss`; there is no dropout. A finished run of this name and
    configuration is returned at once, an unfinished one resumes. The student is an encoder of the
    teacher's width that reads its tokens.
    """
    check_weights(student)
    longest_first = sorted(texts, key=len, reverse=True)  # a part holds texts of similar length
    examples = encoded(longest_first, tokenizer, pooling, training.seed)
    check_known(examples.input_ids.flat, tokenizer, name)
    config = {
        "kind": "embeddings",
        "training": as_json(training),
        "model": model_entry(student),
        "teacher": teacher_entry(teacher),
        "pooling": asdict(pooling),
        "examples": len(examples),
        "data": examples.digest(),
    }

    def loss(model: PreTrainedModel, batch: dict[str, Any], counts: dict[str, int]) -> Any:
        embeddings, target = embeddings_of(model, batch, pooling), batch["labels"]
        return {"loss": embedding_loss(embeddings, target, counts["targets"], pooling)}

    with open_run(name, config, training.log_with) as run:
        if run.finished:
            return run
        examples.labels = teacher_embeddings(teacher, examples, pooling)
        del teacher  # frees it, if nobody else holds it
        model = copy.deepcopy(student)
        for module in model.modules():  # the targets have no noise to overfit to
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        summary = train(model, examples, loss, training, run)
        if processes().is_main_process:
            run.keep_model(model, tokenizer)
            run.finish({"kind": "embeddings", **summary})
    return run


def embedding_loss(student: Tensor, teacher: Tensor, count: int, pooling: Pooling) -> Tensor:
    """Return the distance of embeddings [B, H], summed over texts and divided by `count`.

    1 − cosine where embeddings are normalised, else the squared error, the mean over H.
    """
    if pooling.normalize:
        return (1 - F.cosine_similarity(student, teacher, dim=-1)).sum() / count
    return (student - teacher).square().mean(-1).sum() / count


def rank_layer_maps(
    teacher: PreTrainedModel, probe: Any, pooling: Pooling, depth: int | None = None
) -> pd.DataFrame:
    """Rank layer maps by the mean cosine of the student's embeddings, as cut, and the teacher's.

    A row a map of :func:`candidate_maps`, best first: ``layers, cosine``.
    """
    target = torch.from_numpy(embed(teacher, probe, pooling))
    rows = []
    for layers in tqdm(candidate_maps(teacher.config.num_hidden_layers, depth), "layer maps"):
        found = torch.from_numpy(embed(student_from_teacher(teacher, layers), probe, pooling))
        rows.append({"layers": layers, "cosine": float(F.cosine_similarity(found, target).mean())})
    return pd.DataFrame(rows).sort_values("cosine", ascending=False, ignore_index=True)


def candidate_maps(teacher_layers: int, depth: int | None = None) -> list[tuple[int, ...]]:
    """List the maps from first layer to last whose steps differ by at most one.

    Only the default map if there are more than :data:`MOST_MAPS`.
    """
    default = default_layers(teacher_layers, depth)
    steps = len(default) - 1
    size, longer = divmod(teacher_layers - 1, max(steps, 1))
    if not steps or comb(steps, longer) > MOST_MAPS:
        return [default]
    return [
        tuple(sum(size + (i in chosen) for i in range(end)) for end in range(steps + 1))
        for chosen in combinations(range(steps), longer)
    ]


def teacher_embeddings(
    teacher: PreTrainedModel, examples: Examples, pooling: Pooling
) -> np.ndarray:
    """Return embeddings [N, H] of texts, stored once for every student and seed.

    They are float32, in ``data/cache/embeddings-<key>/`` (:mod:`distilkit.data.teacher_store`).
    The longest texts should come first: a batch that does not fit into memory then fails at once.
    """
    about = {"teacher": fingerprint(teacher), "texts": examples.digest(), **asdict(pooling)}
    folder = cache_folder("embeddings", about)
    parts = [np.arange(len(examples))[i : i + PART] for i in range(0, len(examples), PART)]
    width, counts = teacher.config.hidden_size, [len(part) for part in parts]

    def compute(number: int, bar: tqdm) -> bytes:
        part, found = parts[number], np.empty((counts[number], width), np.float32)
        for rows in by_length(examples.lengths[part], tokens_at_once(teacher.device)):
            batch = to_device(examples.batch(0, part[rows]), teacher.device)
            found[rows] = embeddings_of(teacher, batch, pooling).cpu().numpy()
            bar.update(len(rows))
        return found.tobytes()

    write_missing(folder, about, [4 * width * n for n in counts], compute, teacher, counts)
    shape = (len(examples), width)
    return np.memmap(folder / "entries.bin", np.float32, mode="r", shape=shape)
