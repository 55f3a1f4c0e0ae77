"""Command line: the notebooks' steps as verbs."""

import logging
import os
import signal
import sys
from argparse import SUPPRESS, ArgumentParser, Namespace
from collections.abc import Callable, Mapping
from concurrent.futures import BrokenExecutor

from distilkit.cli import compress, measure, notebooks, study, train

GROUPS = (notebooks, train, compress, study, measure)

# What a verb does, and what adds its options
Verb = tuple[Callable[[Namespace], int | None], Callable[[ArgumentParser], None] | None]


def main(arguments: list[str] | None = None) -> int:
    """Run one verb and return the exit status; wrong input ends with one clear line and 2."""
    options = build_parser().parse_args(arguments)
    import httpx

    from distilkit.processes import processes
    from distilkit.run import ALLOW_INEXACT, RunBusy

    refusals = (ValueError, TypeError, OSError, MemoryError, FloatingPointError, ImportError)
    refusals += (BrokenExecutor, httpx.HTTPError)  # a worker killed for its memory; the Hub
    allowed = os.environ.get(ALLOW_INEXACT, "")
    if options.allow_inexact:
        os.environ[ALLOW_INEXACT] = "1"  # parallel runs are processes of their own: they inherit it
    # SIGTERM becomes an exit, so that locks and files are released; the loop saves first
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    log, handler = logging.getLogger("distilkit"), logging.StreamHandler()
    if os.environ.get("RANK", "0") == "0":  # only rank 0 logs
        log.setLevel(logging.INFO)
    log.addHandler(handler)
    try:
        status = options.verb(options) or 0
        processes().destroy_process_group()
        return status
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except (*refusals, RunBusy) as error:
        if options.traceback:
            raise
        print(f"distilkit: {error}", file=sys.stderr)
        return 2
    finally:
        log.removeHandler(handler)
        log.setLevel(logging.NOTSET)
        os.environ[ALLOW_INEXACT] = allowed  # of this command, not of the next in the process
        signal.signal(signal.SIGTERM, before)


def build_parser() -> ArgumentParser:
    """Build the parser of all verbs."""
    parser = ArgumentParser(prog="distilkit", description=__doc__)
    parser.add_argument("--traceback", action="store_true", help="show where an error arose")
    parser.add_argument(
        "--allow-inexact",
        action="store_true",
        help="resume runs that began with other threads, processes, devices or versions",
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    for group in GROUPS:
        _add_verbs(verbs, group.VERBS)
    about = "Speed and memory, measured here: of a training step, of compressed models"
    bench = verbs.add_parser("bench", help=about, description=about)
    _add_verbs(bench.add_subparsers(required=True, metavar="WHAT"), measure.BENCHES)
    return parser


def _add_verbs(parsers, verbs: Mapping[str, Verb]) -> None:
    for name, (function, add_options) in verbs.items():
        about = function.__doc__.splitlines()[0]
        parser = parsers.add_parser(name, help=about, description=about)
        if add_options is not None:
            add_options(parser)
        for option in ("--traceback", "--allow-inexact"):  # understood after the verb, too
            parser.add_argument(option, action="store_true", default=SUPPRESS, help=SUPPRESS)
        parser.set_defaults(verb=function)
