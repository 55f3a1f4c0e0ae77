"""A teacher's embeddings of texts, computed once for every student and seed.

They are float32, in ``data/cache/embeddings-<key>/``: see :mod:`distilkit.data.teacher_store`.
"""

from dataclasses import asdict

import numpy as np
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from distilkit.data.examples import Examples
from distilkit.data.teacher_store import store_folder, write_missing
from distilkit.models.sentence_encoder import Pooling, embeddings_of
from distilkit.processes import to_device
from distilkit.run import fingerprint

PART = 1024  # texts that are written and hashed together
_BATCH = 64  # texts that the teacher reads at once


def teacher_embeddings(
    teacher: PreTrainedModel, examples: Examples, pooling: Pooling
) -> np.ndarray:
    """Return embeddings [N, H] of texts, mapped from disk; what is missing there is computed.

    Batches are neighbouring texts, so texts should be in the order of their length: the longest
    first, so that what does not fit into memory fails at once.

    Raises:
        OSError: the disk is too small, before or during the work; says how much it takes.
    """
    about = {"teacher": fingerprint(teacher), "texts": examples.digest(), **asdict(pooling)}
    folder = store_folder("embeddings", about)
    parts = [range(len(examples))[i : i + PART] for i in range(0, len(examples), PART)]
    width, counts = teacher.config.hidden_size, [len(part) for part in parts]

    def compute(number: int, bar: tqdm) -> bytes:
        content = b""
        for i in range(0, counts[number], _BATCH):
            ids = list(parts[number][i : i + _BATCH])
            batch = to_device(examples.batch(0, ids), teacher.device)
            content += embeddings_of(teacher, batch, pooling).cpu().numpy().tobytes()
            bar.update(len(ids))
        return content

    write_missing(folder, about, [4 * width * n for n in counts], compute, teacher, counts)
    shape = (len(examples), width)
    return np.memmap(folder / "entries.bin", np.float32, mode="r", shape=shape)
