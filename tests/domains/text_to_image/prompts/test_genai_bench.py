import json
import math

import pytest

from graft_lightning.domains.text_to_image.prompts import GenAIBench, MissingPromptsError

TAGS = {
    "basic": 722,
    "advanced": 871,
    "attribute": 553,
    "scene": 360,
    "spatial relation": 386,
    "action relation": 467,
    "part relation": 195,
    "counting": 340,
    "comparison": 162,
    "differentiation": 296,
    "negation": 347,
    "universal": 147,
}


def write(folder, images, skills):
    (folder / "genai_image.json").write_text(json.dumps(images))
    (folder / "genai_skills.json").write_text(json.dumps(skills))
    return GenAIBench(str(folder))


def test_overall_leaves_untagged_prompts_out(tmp_path):
    images = {f"{i:05d}": {"id": f"{i:05d}", "prompt": f"p{i}", "models": {}} for i in (1, 2, 3)}
    bench = write(tmp_path, images, {"counting": [1, 3], "basic": [3]})
    assert bench.tags() == [("counting",), (), ("counting", "basic")]
    assert bench.averages([1.0, 100.0, 3.0]) == {"overall": 2.0, "counting": 2.0, "basic": 3.0}


def test_files_of_different_sizes_are_refused(tmp_path):
    bench = write(tmp_path, {"00001": {"prompt": "p", "models": {}}}, {"basic": [1, 528]})
    with pytest.raises(ValueError, match="tags prompt 528"):
        bench.prompts()


@pytest.mark.parametrize(
    ("images", "skills", "said"),
    [
        ({"00001": {"text": "p"}}, {}, r"genai_image\.json has '00001': .*; expected a number and a prompt"),
        ({"00001": "p"}, {}, r"genai_image\.json has '00001'"),
        ({"one": {"prompt": "p"}}, {}, r"genai_image\.json has 'one'"),
        ({"00001": {"prompt": "p"}}, {"basic": 1}, r"genai_skills\.json has 'basic': 1; expected the numbers"),
        ({"00001": {"prompt": "p"}}, {"basic": ["1"]}, r"genai_skills\.json has 'basic'"),
    ],
)
def test_files_of_another_form_are_refused(tmp_path, images, skills, said):
    with pytest.raises(ValueError, match=said):
        write(tmp_path, images, skills).prompts()


def test_absent_files_say_where_to_get_them(tmp_path):
    with pytest.raises(MissingPromptsError, match=r"huggingface.co/datasets/BaiqiL/GenAI-Bench-1600.*set `folder`"):
        GenAIBench(str(tmp_path / "nowhere")).texts()


def test_the_official_1600(test_data):
    bench = GenAIBench(str(test_data / "genai_bench" / "genai1600"))
    assert len(bench) == 1600
    counts = {tag: sum(tag in tags for tags in bench.tags()) for tag in TAGS}
    assert counts == TAGS
    assert sum(bool(tags) for tags in bench.tags()) == 1593
    assert not any({"basic", "advanced"} <= set(tags) for tags in bench.tags())
    words = [len(text.split()) for text in bench.texts()]
    assert round(sum(words) / 1600, 1) == 12.6
    assert max(words) == 39
    assert sum(text != text.strip() for text in bench.texts()) > 0, "prompts are kept as published"


def test_the_official_human_ratings(test_data):
    bench = GenAIBench(str(test_data / "genai_bench" / "genai1600"))
    means = {model: round(sum(ratings) / len(ratings), 2) for model, ratings in bench.human_ratings().items()}
    assert means == {
        "DALLE_3": 3.82,
        "Midjourney_6": 3.64,
        "DeepFloyd_I_XL_v1": 3.36,
        "SDXL_Base": 3.26,
        "SDXL_Turbo": 3.20,
        "SDXL_2_1": 3.02,
    }


def test_the_official_averages(test_data):
    bench = GenAIBench(str(test_data / "genai_bench" / "genai1600"))
    ratings = bench.human_ratings()["DALLE_3"]
    table = bench.averages(ratings)
    # basic and advanced are disjoint and between them hold every tagged prompt
    assert math.isclose(table["overall"], (722 * table["basic"] + 871 * table["advanced"]) / 1593)
    assert not math.isclose(table["overall"], sum(ratings) / 1600, abs_tol=1e-4)


def test_the_official_527(test_data):
    small = GenAIBench(str(test_data / "genai_bench" / "genai527"))
    large = GenAIBench(str(test_data / "genai_bench" / "genai1600"))
    assert [prompt.id for prompt in small.prompts()] == [f"{i:05d}" for i in range(1, 528)]
    assert sum("basic" in tags for tags in small.tags()) == 214
    assert sum("advanced" in tags for tags in small.tags()) == 313
    # ids count from 1 here and from 0 there: the same sentence must carry the same skills
    by_text = {prompt.text: set(prompt.tags) for prompt in large.prompts()}
    shared = [(set(prompt.tags), by_text[prompt.text]) for prompt in small.prompts() if prompt.text in by_text]
    assert len(shared) == 488
    assert sum(mine == theirs for mine, theirs in shared) > 400
