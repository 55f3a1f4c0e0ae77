"""A small Hub on disk for `hub_server`: a random BERT and its tokenizer, GLUE tasks, WikiText."""

from __future__ import annotations

import random
from pathlib import Path

import pyarrow
import pyarrow.parquet
from toy_models import small_bert
from transformers import BertTokenizerFast

from distilkit.data.tasks import TASKS

BERT, GLUE, WIKITEXT = "google-bert/bert-base-uncased", "nyu-mll/glue", "Salesforce/wikitext"
SPLITS = {"train": 64, "validation": 16, "test": 16}
_GLUE_TASKS = ("cola", "mrpc", "rte", "sst2")


def write_tree(root: Path, tokenizer: BertTokenizerFast, model: str = BERT) -> Path:
    """The folder that a `HubServer` serves; the tokenizer's words are w0 to w199."""
    bert = root / "models" / model
    small_bert(4, max_position_embeddings=128).save_pretrained(bert)
    tokenizer.save_pretrained(bert)
    words = random.Random(0)

    def sentence() -> str:
        return " ".join(f"w{words.randrange(200)}" for _ in range(words.randint(3, 12)))

    glue = root / "datasets" / GLUE
    for task in _GLUE_TASKS:
        for split, n in SPLITS.items():
            columns = {column: [sentence() for _ in range(n)] for column in TASKS[task].columns}
            labels = [-1] * n if split == "test" else [words.randrange(2) for _ in range(n)]
            columns |= {"label": labels, "idx": list(range(n))}
            _write(glue / task / f"{split}-00000-of-00001.parquet", columns)
    (glue / "README.md").write_text(_card({task: tuple(SPLITS) for task in _GLUE_TASKS}))

    wikitext = root / "datasets" / WIKITEXT
    config = "wikitext-2-raw-v1"
    for split, n in {"train": 400, "validation": 200, "test": 40}.items():
        lines = ["" if i % 4 == 0 else f" {sentence()} \n" for i in range(n)]
        _write(wikitext / config / f"{split}-00000-of-00001.parquet", {"text": lines})
    (wikitext / "README.md").write_text(_card({config: tuple(SPLITS)}))
    return root


def _write(path: Path, columns: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table(columns), path, row_group_size=32)


def _card(configs: dict[str, tuple[str, ...]]) -> str:
    """The YAML header in which a dataset's card declares its configurations."""
    lines = ["---", "configs:"]
    for config, splits in configs.items():
        lines += [f"- config_name: {config}", "  data_files:"]
        lines += [f"  - {{split: {split}, path: {config}/{split}-*}}" for split in splits]
    return "\n".join([*lines, "---", ""])
