"""Verbs that measure: measure, and the benches of a step and of compressed models."""

from argparse import ArgumentParser, Namespace


def _measure_options(parser: ArgumentParser) -> None:
    parser.add_argument("checkpoints", nargs="+", help="folders or Hub ids")
    parser.add_argument(
        "--length", type=int, help="tokens (default 128, or the most that all models take)"
    )
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default 1)")


def measure(options: Namespace) -> None:
    """Measure parameters, bytes, latency and throughput of encoders, taking turns."""
    from transformers import AutoModel

    from distilkit.families import positions
    from distilkit.measure.latency import compare
    from distilkit.models.loading import load_model

    models = {path: load_model(AutoModel, path)[0].eval() for path in options.checkpoints}
    length = options.length
    if length is None:
        length = min(128, *(positions(model) for model in models.values()))
    table = compare(models, length=length, threads=options.threads)
    print(table.round(2).to_string(index=False))


def _step_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--widths",
        nargs="+",
        default=["384-wide", "base"],
        metavar="WIDTH",
        help="384-wide, base (random weights), or a teacher's Hub id or folder (default: the two)",
    )
    parser.add_argument("--steps", type=int, default=10, help="of each variant (default 10)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default 1)")


def bench_step(options: Namespace) -> None:
    """Measure tokens/s, processor time and memory of a distillation step, textbook and fused."""
    import torch
    from transformers import AutoModelForMaskedLM

    from distilkit.families import positions
    from distilkit.measure.step_benchmark import WIDTHS, Work, bench_step
    from distilkit.models.loading import load_model

    cuda = torch.cuda.is_available()
    works = []
    for width in options.widths:
        length = 512 if cuda else 128
        if width not in WIDTHS:
            length = min(length, positions(load_model(AutoModelForMaskedLM, width)[0]))
        size = (16384 if cuda else WIDTHS.get(width, (0, 0, 0, 1024))[3]) // length
        same = {"width": width, "batch_size": size, "length": length, "threads": options.threads}
        works += [Work(tokens=tokens, **same) for tokens in ("all", "masked")]
    table = bench_step(works, steps=options.steps)
    columns = ["work", "variant", "tokens_per_s", "cpu_s_per_ktok", "peak_rss_mib"]
    columns += ["share_of_peak", "ratio_to_textbook", "ratio_low", "ratio_high"]
    print(table[columns].round(2).to_string(index=False))


def bench_compression(_options: Namespace) -> None:
    """Measure size and latency of BERT-base and its student in PyTorch, ONNX, int8 (minutes)."""
    from distilkit.compress.engines import bench_compression

    print(bench_compression().round(2).to_string(index=False))


VERBS = {"measure": (measure, _measure_options)}
BENCHES = {"step": (bench_step, _step_options), "compression": (bench_compression, None)}
