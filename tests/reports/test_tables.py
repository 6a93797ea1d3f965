"""Tables of a report: for Markdown, and for a terminal."""

import math

from graft_lightning.reports.tables import markdown_table, ordered, text_table

TABLE = {
    "base": {"reward": {"mean": 0.25, "low": 0.2, "high": 0.3, "n": 4}},
    "graft": {
        "reward": {"mean": 0.5, "low": 0.45, "high": 0.55, "n": 4},
        "diversity": {"mean": 2.0, "low": math.nan, "high": math.nan, "n": 4},
    },
}


def test_a_terminal_shows_a_row_a_metric_and_a_column_a_method():
    assert text_table(TABLE) == [
        "           base                  graft",
        "reward     0.250 [0.200, 0.300]  0.500 [0.450, 0.550]",
        "diversity                        2.000",
    ]


def test_markdown_shows_a_row_a_method_and_leaves_out_what_nobody_has():
    assert markdown_table(TABLE, {"reward": "mean reward", "judge": "judge", "diversity": "diversity"}) == [
        "| method | mean reward | diversity |",
        "|---|---|---|",
        "| base | 0.250 [0.200, 0.300] |  |",
        "| graft | 0.500 [0.450, 0.550] | 2.000 |",
    ]


def test_named_rows_come_first_and_none_is_lost():
    assert list(ordered(TABLE, ["graft", "dpo"])) == ["graft", "base"]
