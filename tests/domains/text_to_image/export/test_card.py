"""The table of evaluations on a card: a metric without an interval shows none."""

import json
import math

from graft_lightning.domains.text_to_image.export.card import metrics


def test_an_interval_is_written_where_there_is_one(tmp_path):
    found = {
        "reward": {"mean": 0.5, "low": 0.4, "high": 0.6, "n": 8},
        "FID": {"mean": 12.25, "low": math.nan, "high": math.nan, "n": 8},
        "older": {"mean": 2.0, "low": 2.0, "high": 2.0, "n": 8},
        "nothing": {"mean": math.nan, "low": math.nan, "high": math.nan, "n": 0},
    }
    record = {"stage": "test", "method": "pgraft", "step": 5, "metrics": found}
    (tmp_path / "evaluation.jsonl").write_text(json.dumps(record) + "\n")
    assert "| test | pgraft | 5 | 0.5 [0.4, 0.6] | 12.25 | 2 |  |" in metrics(tmp_path)
