import pytest

from graft_lightning.domains.text_to_image.prompts import MissingPromptsError, T2ICompBench
from graft_lightning.domains.text_to_image.prompts.t2i_compbench import CATEGORIES


@pytest.mark.parametrize(("split", "each"), [("train", 700), ("val", 300)])
def test_official_counts(test_data, split, each):
    bench = T2ICompBench(str(test_data / "t2i_compbench"), split)
    assert len(bench) == 8 * each
    assert {tag: sum((tag,) == tags for tags in bench.tags()) for tag in CATEGORIES} == dict.fromkeys(CATEGORIES, each)
    assert all(text == text.strip() and text for text in bench.texts())
    assert len({prompt.id for prompt in bench.prompts()}) == 8 * each
    assert len(bench.texts()) == {"train": 5559, "val": 2400}[split]


@pytest.mark.parametrize(("split", "counts"), [("val_seen", [200, 200, 200]), ("val_unseen", [100, 100, 100])])
def test_seen_and_unseen_combinations(test_data, split, counts):
    bench = T2ICompBench(str(test_data / "t2i_compbench"), split)
    assert [sum((tag,) == tags for tags in bench.tags()) for tag in ("color", "shape", "texture")] == counts


def test_averages_by_category(tmp_path):
    (tmp_path / "color_val.txt").write_bytes(b"a red cat\r\na blue dog")
    (tmp_path / "shape_val.txt").write_bytes(b"a round cat\r\n")
    bench = T2ICompBench(str(tmp_path), categories=["color", "shape"])
    assert [prompt.id for prompt in bench.prompts()] == ["color_val/0000", "color_val/0001", "shape_val/0000"]
    assert bench.averages([0.0, 1.0, 2.0]) == {"overall": 1.0, "color": 0.5, "shape": 2.0}


def test_unknown_category():
    with pytest.raises(ValueError, match="'complex' is not a category of split 'val_seen'; color, shape, texture are"):
        T2ICompBench("anywhere", "val_seen", ["complex"])


def test_absent_folder_says_where_to_get_it(tmp_path):
    with pytest.raises(MissingPromptsError, match=r"examples/dataset in github\.com/Karine-Huang/T2I-CompBench"):
        T2ICompBench(str(tmp_path)).texts()
