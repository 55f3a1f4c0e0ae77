"""Not a test: the students of `make study` on held-out text, before any fine-tuning.

    python tests/measurements/held_out_study.py [--seeds 401 402] [--arms ARM ...] [--out CSV]

How close is each to its teacher, and how many masked words does it predict? Reads what `make study`
leaves in `runs/`, and in `data/cache/` of students without pretraining; trains nothing. A row for
each, and one for the teacher: ``arm, kl, kl_masked, soft_target, mlm, cosine, masked_accuracy,
seed``. ``kl`` is KL(teacher ‖ student) in nats at temperature 1, over all tokens; ``kl_masked``
over those to predict, where MLM is trained. ``soft_target``, ``cosine`` and ``mlm`` are the
unweighted terms of the tiny scale's loss (T = 2); ``masked_accuracy`` is a share. Masks are the
same for all.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm
from transformers import AutoModelForMaskedLM, PreTrainedModel

from distilkit.config import home, scale
from distilkit.data.sources import load_blocks, load_teacher
from distilkit.distillation import losses_on
from distilkit.run import Run, run_folder
from distilkit.study.arms import write_table
from distilkit.study.conditions import ARMS, SEEDS
from distilkit.study.factorial import DESIGN
from distilkit.study.held_out_text import held_out_scores


def trained(arm: str, seed: int) -> PreTrainedModel:
    """Load the student of an arm as it was before fine-tuning."""
    name = f"study-tiny-{arm}-{seed}"
    if not ARMS[arm].pretraining:
        return AutoModelForMaskedLM.from_pretrained(home() / "data" / "cache" / name)
    run = Run(run_folder(name))
    if not run.finished:
        raise ValueError(f"{run.path} is not finished: run `make study` first")
    return AutoModelForMaskedLM.from_pretrained(run.model)


def main() -> None:
    import pandas as pd

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--arms", nargs="+", default=DESIGN)
    parser.add_argument("--out", type=Path, default=Path("study_held_out.csv"))
    options = parser.parse_args()
    tiny = scale("tiny")
    teacher, tokenizer = load_teacher(tiny)
    _, held_out = load_blocks(tiny, tokenizer)
    everywhere = replace(tiny.loss_config, temperature=1.0)
    sharp = {"kl": everywhere, "kl_masked": replace(everywhere, restrict_kd_to_mask=True)}

    def scores(model: PreTrainedModel) -> dict[str, float]:
        kl = {
            name: losses_on(model, held_out, config, teacher)["soft_target"]
            for name, config in sharp.items()
        }
        return kl | held_out_scores(model, held_out, teacher, tiny.loss_config)

    rows = [{"arm": "teacher"} | scores(teacher)]
    for arm, seed in tqdm([(arm, seed) for arm in options.arms for seed in options.seeds]):
        rows.append({"arm": arm, "seed": seed} | scores(trained(arm, seed)))
    table = write_table(pd.DataFrame(rows).astype({"seed": "Int64"}), options.out)
    print(table.groupby("arm", sort=False).mean().drop(columns="seed").to_string())


if __name__ == "__main__":
    main()
