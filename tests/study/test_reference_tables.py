"""Which table a notebook shows, and what it says of it."""

import pandas as pd
import pytest

from distilkit.cli.main import build_parser
from distilkit.config import RESULTS, SCALES
from distilkit.study.factorial import DESIGN
from distilkit.study.paper_comparison import COMMANDS, load_reference_table


@pytest.mark.parametrize("name", ["study", "parts", "frontier"])
def test_the_readers_own_table_comes_first_and_ours_is_said_to_be_ours(home, name):
    shipped = pd.read_csv(RESULTS / f"{name}.csv")
    for scale in (SCALES["tiny"], SCALES["base"]):
        table, of, said = load_reference_table(scale, name)
        pd.testing.assert_frame_equal(table, shipped)
        assert of == SCALES["tiny"]
        assert "measured beforehand" in said
        command = COMMANDS[name].format(scale="base")
        assert (f"distilkit {command} would" in said) == (scale.name == "base")
        build_parser().parse_args(command.split())  # such a command there is
        shipped[:3].to_csv(scale.figures / f"{name}.csv", index=False)
        table, of, said = load_reference_table(scale, name)
        assert (len(table), of) == (3, scale)
        assert said == f"figures/{scale.name}/{name}.csv: a table of your own"


def test_a_table_without_the_arms_of_the_design_is_not_taken_for_it(home):
    scale, shipped = SCALES["tiny"], pd.read_csv(RESULTS / "study.csv")
    shipped[shipped.arm != "as_cut"].to_csv(scale.figures / "study.csv", index=False)
    table, _, said = load_reference_table(scale, "study", DESIGN)
    pd.testing.assert_frame_equal(table, shipped)
    assert said.endswith("lacks the arms as_cut")
    shipped.assign(score=50.0).to_csv(scale.figures / "study.csv", index=False)
    assert set(load_reference_table(scale, "study", DESIGN)[0].score) == {50.0}
