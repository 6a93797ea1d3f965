import pytest

from graft_lightning.domains.text_to_image.prompts import GenEval, MissingPromptsError

TASKS = {"single_object": 80, "two_object": 99, "counting": 80, "colors": 94, "position": 100, "color_attr": 100}


def test_official_counts(test_data):
    bench = GenEval(str(test_data / "geneval"))
    assert len(bench) == 553
    assert {task: bench.tags().count((task,)) for task in TASKS} == TASKS
    assert bench.metadata()[0]["include"] == [{"class": "bench", "count": 1}]
    assert bench.texts()[0] == "a photo of a bench"
    prompts = (test_data / "geneval" / "generation_prompts.txt").read_text().splitlines()
    assert bench.texts() == prompts


def test_overall_is_the_mean_over_tasks(tmp_path):
    path = tmp_path / "evaluation_metadata.jsonl"
    path.write_text("".join(f'{{"tag": "{tag}", "prompt": "{tag}"}}\n' for tag in ("b", "a", "a", "a")))
    assert GenEval(str(path)).averages([0.0, 1.0, 1.0, 1.0])["overall"] == 0.5


def test_absent_file_says_where_to_get_it(tmp_path):
    with pytest.raises(MissingPromptsError, match=r"github\.com/djghosh13/geneval"):
        GenEval(str(tmp_path)).texts()
