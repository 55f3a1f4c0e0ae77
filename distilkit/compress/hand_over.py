"""The folder of a compressed model: weights, tokenizer, ONNX files, scores and a model card.

ONNX files lie where optimum and transformers.js look for them.
"""

import json
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from huggingface_hub import HfApi, ModelCard, ModelCardData
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from distilkit.data.task_examples import column_names
from distilkit.data.tasks import Task
from distilkit.models.hub import fetch, local_path
from distilkit.models.sentence_encoder import Pooling, save_modules
from distilkit.processes import processes
from distilkit.run import Run, environment, run_folder

MARK = "compression.json"  # by which an earlier folder of the same run is known
_CARD = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    autoescape=False,  # Markdown, not HTML
)


def check_out(out: str | Path, run: str | None) -> tuple[Path, str]:
    """Return the folder, and the name of its run: by default the folder's.

    FileExistsError if it holds anything but an earlier result of this run. ValueError for a name
    that no run can have, and for several processes.
    """
    run = run or Path(out).name
    try:
        folder = run_folder(run).resolve()
    except ValueError as error:
        raise ValueError(f"{error}. Without --name the run is named like the folder") from None
    out = Path(out).expanduser().resolve()  # a link stays, and its folder is written
    if folder in (out, *out.parents):
        raise ValueError(f"{out} is the folder of the run: give another --out, or another --name")
    if processes().num_processes > 1:
        raise ValueError("a model is compressed in one process: leave the launcher out")
    mark = out / MARK
    if mark.is_file():
        earlier = json.loads(mark.read_text(encoding="utf-8")).get("run")
        if earlier != run:
            raise FileExistsError(
                f"{out} holds the model of run {earlier!r}: give another folder, or move it away"
            )
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"{out} is there already: give another folder, or move it away")
    return out, run


def write_folder(
    out: Path,
    student: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    onnx: Path,
    table: pd.DataFrame,
    task: Task,
    run: Run,
    about: Mapping[str, Any],
    licence: str | None,
    pooling: Pooling | None = None,
) -> None:
    """Write a compressed model's folder; all of it or nothing. An earlier one is replaced.

    `onnx` is the folder with the student's exported files, `run` that of the training. `about` has
    ``checkpoint`` (the teacher's), ``layers`` and ``max_length``.
    """
    check_out(out, run.name)
    part = out.with_name(f"{out.name}.partial")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(onnx, part / "onnx")
    tokenizer.model_max_length = about["max_length"]
    student.save_pretrained(part)
    tokenizer.save_pretrained(part)
    if pooling is not None:
        save_modules(part, student, pooling, about["checkpoint"])
    table.to_csv(part / "scores.csv", index=False)
    teacher = _name_of(about["checkpoint"])
    mark = {**about, "checkpoint": teacher, "layers": list(about["layers"]), "run": run.name}
    config = run.config()
    mark["config"] = config | {"teacher": config["teacher"] | {"name": teacher}}
    (part / MARK).write_text(json.dumps(mark, indent=1) + "\n", encoding="utf-8")
    model_card(student, table, task, run, about, licence, pooling).save(part / "README.md")
    old = Path(tempfile.mkdtemp(prefix=f"{out.name}.", dir=out.parent))
    try:
        if out.exists():
            out.rename(old / out.name)  # fails whole, before anything is deleted
        part.rename(out)
    finally:
        if out.exists():
            shutil.rmtree(old, ignore_errors=True)


def push(folder: Path, name: str) -> str:
    """Upload the folder to the Hub as the model `name`; return its address."""
    api = HfApi()
    address = api.create_repo(name, exist_ok=True)
    message = "Compressed by distilkit"
    # with the owner, which `name` may lack
    api.upload_folder(repo_id=address.repo_id, folder_path=folder, commit_message=message)
    return str(address)


def model_card(
    student: PreTrainedModel,
    table: pd.DataFrame,
    task: Task,
    run: Run,
    about: Mapping[str, Any],
    licence: str | None,
    pooling: Pooling | None = None,
) -> ModelCard:
    """Return the card: what the student was made from, its scores and costs, how to run it."""
    checkpoint = about["checkpoint"]
    readme, own = fetch(checkpoint) / "README.md", {}
    if readme.is_file():
        try:
            own = ModelCard.load(readme, ignore_metadata_errors=True).data.to_dict()
        except Exception as error:  # whatever YAML finds
            advice = "" if licence else ": name its licence (--licence)"
            warnings.warn(f"{readme}: metadata cannot be read ({error}){advice}", stacklevel=2)
    base = own.get("base_model") if local_path(checkpoint) else checkpoint
    inside = task.on_words or task.on_spans  # pipelines are called as these kinds
    pipeline = task.kind.replace("_", "-") if inside else "text-classification"
    library, template = "transformers", "model_card.md.j2"
    if pooling is not None:
        pipeline, library = "sentence-similarity", "sentence-transformers"
        template = "embedding_card.md.j2"
    weights = run.config().get("loss_config") or {}
    labelled = task.data is not None and "label" in column_names(task.data["train"])
    data = ModelCardData(
        license=licence or own.get("license"),
        language=own.get("language"),
        base_model=base,
        base_model_relation="finetune" if base else None,
        pipeline_tag=pipeline,
        library_name=library,
        tags=["knowledge-distillation", "onnx", *(["feature-extraction"] if pooling else [])],
    )
    shown = table.drop(columns=["split", "parameters", "threads", "length"]).round(3)
    rows = [list(shown), ["---"] * shown.shape[1], *shown.astype(str).values.tolist()]
    text = _CARD.get_template(template).render(
        card_data=data.to_yaml(),
        teacher=_name_of(checkpoint),
        task=task,
        labelled=labelled and weights["label_weight"] > 0,
        soft_targets=weights.get("kd_weight", 1) > 0,
        about=about,
        student=student,
        pipeline=pipeline,
        pooling=pooling,
        table="\n".join(f"| {' | '.join(row)} |" for row in rows),
        split=table["split"][0],
        length=int(table["length"][0]),
        threads=int(table["threads"][0]),
        seed=run.config()["training"]["seed"],
        steps=run.result()["steps"],
        here=environment(),
    )
    return ModelCard(text)


def _name_of(checkpoint: str) -> str:
    """Name a checkpoint by its folder, a run's `model` by the run; no path: it may be uploaded."""
    if not (folder := local_path(checkpoint)):
        return checkpoint
    folder = folder.resolve()
    return folder.parent.name if folder.name == "model" else folder.name
