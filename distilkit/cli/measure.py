"""Verbs that measure: measure, and the benches of steps, forward passes and compressed models."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from distilkit.cli.options import HELP, add_scale, chosen_scale


def _measure_options(parser: ArgumentParser) -> None:
    parser.add_argument("checkpoints", nargs="+", help="folders or Hub ids")
    parser.add_argument(
        "--length", type=int, help="tokens (default 128, or the most that all models take)"
    )
    _add_threads(parser)


def measure(options: Namespace) -> None:
    """Parameters, bytes, latency and throughput of encoders, alternated in one run."""
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
    parser.add_argument("--tokens", nargs="+", choices=("all", "masked"), default=["all", "masked"])
    parser.add_argument(
        "--malloc",
        nargs="+",
        choices=("default", "large"),
        default=["default", "large"],
        help="thresholds of the C library's allocator (CPU; default: both)",
    )
    parser.add_argument("--text", help=f"for a teacher with a tokenizer: {HELP['text']}")
    parser.add_argument("--steps", type=int, default=10, help="of each variant (default 10)")
    parser.add_argument("--batch-size", type=int, help="sequences a step")
    parser.add_argument("--length", type=int, help="tokens a sequence (default 128, on a GPU 512)")
    _add_threads(parser)
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: a GPU if there is one")
    parser.add_argument("--json", metavar="FILE", help="rows, rewritten after each measurement")


def bench_step(options: Namespace) -> None:
    """Tokens/s, processor time and memory of one distillation step, textbook and fused."""
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
    columns = ["work", "variant", "tokens_per_s", "cpu_s_per_ktok", "peak_rss_mib"]
    columns += ["share_of_peak", "ratio_to_textbook", "ratio_low", "ratio_high"]
    columns += ["largest_batch"] * cuda
    print(table[columns].round(2).to_string(index=False))


def _inference_options(parser: ArgumentParser) -> None:
    add_scale(parser, "glue")
    parser.add_argument(
        "checkpoints",
        nargs="*",
        help="classifiers, the teacher first (default: BERT-base and its student, random weights)",
    )
    parser.add_argument("--lengths", type=int, nargs="+", default=[32, 128, 512])
    parser.add_argument("--threads", type=int, nargs="+", help="default: 1 and all (--stsb: 1)")
    parser.add_argument(
        "--stsb", action="store_true", help="the paper's protocol: one pass over STS-B, batch 1"
    )


def bench_inference(options: Namespace) -> None:
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
        chosen = chosen_scale(options)
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


def bench_compression(_options: Namespace) -> None:
    """BERT-base and its student, each in PyTorch, ONNX and int8: size and latency (minutes)."""
    from distilkit.compress.engines import bench_compression

    print(bench_compression().round(2).to_string(index=False))


def _add_threads(parser: ArgumentParser) -> None:
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default 1)")


VERBS = {"measure": (measure, _measure_options)}
BENCHES = {
    "step": (bench_step, _step_options),
    "inference": (bench_inference, _inference_options),
    "compression": (bench_compression, None),
}
