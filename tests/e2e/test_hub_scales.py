"""The real client libraries against a stand-in Hub on 127.0.0.1, with and without faults.

Every client is a process of its own with an empty cache: what they read from the environment is
read once, when they are imported.
"""

from __future__ import annotations

import pandas as pd
import pytest
from hub_server import Fault, HubServer
from hub_tree import BERT, GLUE, WIKITEXT, write_tree
from kernels import SHORT_MEASURING, kernels_run_first
from processes import client

from distilkit.config import SCALES

pytestmark = [pytest.mark.processes, pytest.mark.hub]

SCALE = f"""
from dataclasses import replace
from distilkit.config import SCALES
from distilkit.data import sources
text = "{WIKITEXT}:wikitext-2-raw-v1"
chosen = replace(SCALES["small"], teacher="{BERT}", text=text, glue="{GLUE}", length=16)
"""
FETCH = f"""
from distilkit.models.hub import fetch
print(sorted(file.name for file in fetch("{BERT}").iterdir()))
"""

FEWER = """
def _fewer():
    from dataclasses import replace
    from distilkit import config
    small = config.SCALES["small"]
    config.SCALES["small"] = replace(small, seeds=(1,), tasks=small.tasks[:2])
_fewer()
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory, tokenizer):
    return write_tree(tmp_path_factory.mktemp("hub"), tokenizer)


def test_teacher_text_and_tasks_come_once_and_then_from_the_cache(tree, tmp_path):
    code = SCALE + (
        "teacher, tokenizer = sources.load_teacher(chosen)\n"
        "blocks, validation = sources.load_blocks(chosen, tokenizer)\n"
        "sizes = [len(sources.load_task(chosen, task)['train']) for task in chosen.tasks]\n"
        "print(type(teacher).__name__, blocks.blocks.shape, validation.blocks.shape, sizes)\n"
    )
    with HubServer(tree) as hub:
        status, first, error = client(code, tmp_path, hub.endpoint)
        assert status == 0, error
        assert first.startswith("BertForMaskedLM (")
        assert first.endswith("[64, 64, 64, 64]")
        weights = hub.count("GET", "/_cdn/")
        status, again, error = client(code, tmp_path, hub.endpoint)
        assert (status, again) == (0, first), error
        assert hub.count("GET", "/_cdn/") == weights  # nothing large comes twice
        seen = len(hub.requests)
        status, offline, error = client(code, tmp_path, hub.endpoint, HF_HUB_OFFLINE="1")
        assert (status, offline) == (0, first), error
        assert len(hub.requests) == seen


def test_notebooks_run_at_the_small_scale_from_the_cache(tmp_path, tokenizer, soak):
    """Fetched once, then HF_HUB_OFFLINE=1 and nothing listens where the Hub was.

    The two that distil and fine-tune; all nine in the long form.
    """
    small = SCALES["small"]
    fetch = (
        "from distilkit.data import sources\n"
        "from distilkit.config import SCALES\n"
        "small = SCALES['small']\n"
        "teacher, tokenizer = sources.load_teacher(small)\n"
        "sources.load_blocks(small, tokenizer)\n"
        "[sources.load_task(small, task) for task in small.tasks]\n"
    )
    with HubServer(write_tree(tmp_path / "tree", tokenizer, small.teacher)) as hub:
        status, _, error = client(fetch, tmp_path, hub.endpoint)
        assert status == 0, error
    run = (
        "from distilkit.cli.main import main; raise SystemExit(main(['figures']))"
        if soak
        else "from distilkit import home\n"
        "from distilkit.cli.run_notebooks import numbered_notebooks, run_notebooks\n"
        "out = home() / 'runs' / 'notebooks' / 'small'\n"
        "run_notebooks(numbered_notebooks()[3:5], out=out, scale='small')"
    )
    first = kernels_run_first(tmp_path / "ipython", SHORT_MEASURING + FEWER)
    offline = {"HF_HUB_OFFLINE": "1", "DISTILKIT_SCALE": "small", "IPYTHONDIR": first}
    status, printed, error = client(run, tmp_path, hub.endpoint, timeout=900, **offline)
    assert status == 0, error
    assert not soak or "Scale small. GLUE validation scores in points, one seed." in printed
    executed = (tmp_path / "runs" / "notebooks" / "small").glob("0*.ipynb")
    assert len(list(executed)) == (9 if soak else 2)
    scores = pd.read_csv(tmp_path / "figures" / "small" / "05_scores.csv")
    assert set(scores.task) == set(small.tasks[:2])
    assert len(scores) == 4 * 2


def test_text_is_streamed(tree, tmp_path):
    code = SCALE + (
        "import numpy as np\n"
        "_, tokenizer = sources.load_teacher(chosen)\n"
        "stored, _ = sources.load_blocks(chosen, tokenizer)\n"
        "chosen = replace(chosen, stream=64)\n"
        "streamed, validation = sources.load_blocks(chosen, tokenizer)\n"
        "ids = streamed.order(0, 32)[:32]\n"
        "assert (streamed.blocks[ids] == stored.blocks[ids]).all()\n"
        "print(len(streamed), len(validation) > 0)\n"
    )
    with HubServer(tree) as hub:
        status, out, error = client(code, tmp_path, hub.endpoint)
        assert status == 0, error
        assert out == "64 True"
        assert any(request.range for request in hub.requests)  # parts of files, over the network


@pytest.mark.parametrize(
    ("pattern", "action", "times"),
    [
        ("HEAD .*model.safetensors", "status:503", 1),
        ("GET .*resolve.*config.json", "status:429", 1),
        ("GET /_cdn/", "truncate:1000", 1),
        ("GET /_cdn/", "drop", 1),
        ("GET /_cdn/", "stall:8", 1),
    ],
)
def test_a_fault_that_passes_is_got_over(tree, tmp_path, pattern, action, times):
    with HubServer(tree, faults=[Fault(pattern, action, times)]) as hub:
        status, out, error = client(FETCH, tmp_path, hub.endpoint, HF_HUB_DOWNLOAD_TIMEOUT="2")
        assert status == 0, error
        assert "model.safetensors" in out
        assert hub.faults[0].hits == times


@pytest.mark.parametrize(
    ("pattern", "action"),
    [("/_cdn/", "status:503"), ("resolve|/_cdn/", "drop"), ("/_cdn/", "stall:30")],
)
def test_a_fault_that_stays_ends_with_a_clear_word(tree, tmp_path, pattern, action):
    timeouts = {"HF_HUB_DOWNLOAD_TIMEOUT": "1", "HF_HUB_ETAG_TIMEOUT": "1"}
    with HubServer(tree, faults=[Fault(pattern, action, 10_000)]) as hub:
        status, _, error = client(FETCH, tmp_path, hub.endpoint, **timeouts)
        assert status == 1
        last = error.strip().splitlines()[-1]
        assert f"{BERT} could not be downloaded from {hub.endpoint}" in last
        assert "then retry" in last


def test_altered_weights_are_refused_and_come_whole_the_next_time(tree, tmp_path):
    with HubServer(tree, faults=[Fault("GET /_cdn/", "corrupt", 1)]) as hub:
        status, _, error = client(FETCH, tmp_path, hub.endpoint)
        assert status == 1
        assert "model.safetensors is not the file that the Hub announced" in error
        status, out, error = client(FETCH, tmp_path, hub.endpoint)
        assert status == 0, error
        assert "model.safetensors" in out


CLASSIFIER = f"""
from distilkit import classifier
try:
    classifier("{BERT}", "sst2", 0)
except ValueError as error:
    print(error)
print(type(classifier("{BERT}", "sst2", 0)).__name__)
"""


def test_a_classifier_is_not_made_of_altered_weights(tree, tmp_path):
    with HubServer(tree, faults=[Fault("GET /_cdn/", "corrupt", 1)]) as hub:
        status, out, error = client(CLASSIFIER, tmp_path, hub.endpoint)
    assert status == 0, error
    assert "model.safetensors is not the file that the Hub announced" in out
    assert out.endswith("BertForSequenceClassification")


def test_a_tokenizer_comes_without_weights(tree, tmp_path):
    code = f"from distilkit.models.loading import load_tokenizer\nload_tokenizer('{BERT}')"
    with HubServer(tree, faults=[Fault("GET /_cdn/", "corrupt", 100)]) as hub:
        status, _, error = client(code, tmp_path, hub.endpoint)
    assert status == 0, error  # the weights, which would be refused, were not asked for


def test_what_is_not_there(tree, tmp_path):
    code = "from distilkit.models.hub import fetch\nfetch({!r})"
    with HubServer(tree) as hub:
        status, _, error = client(code.format("nobody/nothing"), tmp_path, hub.endpoint)
        assert status == 1
        assert "nobody/nothing could not be downloaded" in error
    status, _, error = client(code.format(BERT), tmp_path, HF_HUB_OFFLINE="1")
    assert status == 1
    assert f"{BERT} could not be downloaded" in error
    for gone in (str(tmp_path / "gone"), "runs/gone/model"):
        status, _, error = client(code.format(gone), tmp_path)
        assert f"FileNotFoundError: no file or folder at {gone!r}" in error
