"""Which table a notebook shows, and what it says of it."""

import pandas as pd
import pytest

from distilkit.config import SCALES, SHIPPED
from distilkit.shipped import measured_table


@pytest.mark.parametrize("name", ["study", "frontier"])
def test_the_readers_own_table_comes_first_and_ours_is_said_to_be_ours(home, name):
    shipped = pd.read_csv(SHIPPED / f"{name}.csv")
    for scale in (SCALES["tiny"], SCALES["base"]):
        table, of, said = measured_table(scale, name)
        pd.testing.assert_frame_equal(table, shipped)
        assert of == SCALES["tiny"]
        assert "measured beforehand" in said
        assert (f"distilkit {name} --scale base" in said) == (scale.name == "base")
        shipped[:3].to_csv(scale.figures / f"{name}.csv", index=False)
        table, of, said = measured_table(scale, name)
        assert (len(table), of) == (3, scale)
        assert said == f"figures/{scale.name}/{name}.csv: a table of your own"
