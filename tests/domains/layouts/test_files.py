"""Every kind of file, and everything that can be wrong in one: found, counted by kind, never kept silently."""

import copy
import gzip
import json
import math
import shutil
import tarfile
import zipfile

import numpy as np
import pytest

from graft_lightning.domains.layouts import coco, files
from graft_lightning.domains.layouts.examples import LayoutFiles
from graft_lightning.domains.layouts.files import guessed_vocabulary, read_layouts
from graft_lightning.domains.layouts.inspection import Inspection
from graft_lightning.domains.layouts.layout import Layout
from graft_lightning.domains.layouts.lines import line_of, write_lines
from graft_lightning.domains.layouts.loading import load_files
from graft_lightning.domains.layouts.pages import Pages
from graft_lightning.domains.layouts.score import score
from graft_lightning.domains.layouts.vocabularies import MAGAZINE, PUBLAYNET, RICO13, RICO25, VOCABULARIES
from graft_lightning.types import SettingsError

CATEGORIES = [{"id": k + 1, "name": name} for k, name in enumerate(PUBLAYNET.labels)]


def annotation(number, image, box, category=1, **more):
    return {"id": number, "image_id": image, "category_id": category, "bbox": box, "segmentation": [[1.5, 2]], **more}


def a_coco(images=None, annotations=None, categories=CATEGORIES):
    images = [{"id": 7, "width": 100, "height": 200, "file_name": "a.jpg"}] if images is None else images
    return {"images": images, "annotations": annotations or [], "categories": categories}


def read(path, vocabulary=PUBLAYNET, strict=False, **settings):
    inspection = Inspection(vocabulary, **settings)
    return list(read_layouts(path, inspection, strict)), dict(inspection.counts)


@pytest.fixture
def coco_file(tmp_path):
    def write(found, name="a.json"):
        (tmp_path / name).write_text(found if isinstance(found, str) else json.dumps(found))
        return tmp_path / name

    return write


GOOD = annotation(1, 7, [10, 20, 30, 40], 2)


def test_coco(coco_file):
    found, faults = read(coco_file(a_coco(annotations=[GOOD, annotation(2, 7, [0, 0, 100, 200], 5)])))
    assert faults == {}
    assert found[0].labels.tolist() == [1, 4]
    assert found[0].boxes == pytest.approx(np.array([[0.25, 0.2, 0.3, 0.2], [0.5, 0.5, 1, 1]]))
    assert (found[0].name, found[0].filtered) == ("a.jpg", False)


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        (annotation(2, 7, [90, 0, 20, 10]), "off the page"),
        (annotation(2, 7, [-1, 0, 20, 10]), "off the page"),
        (annotation(2, 7, [0, 195, 20, 10]), "off the page"),
        (annotation(2, 7, [200, 300, 20, 10]), "off the page"),
        (annotation(2, 7, [10, 10, 0, 10]), "zero or negative size"),
        (annotation(2, 7, [10, 10, 10, -5]), "zero or negative size"),
        (annotation(2, 7, [10, math.nan, 10, 5]), "not finite"),
        (annotation(2, 7, [10, 5, math.inf, 5]), "not finite"),
        (annotation(2, 7, [10, 5, -math.inf, 5]), "not finite"),
        (annotation(2, 7, [10, 5, None, 5]), "not finite"),
        (annotation(2, 7, [10, 10, 10, 10], 6), "unknown category"),
        (annotation(1, 7, [10, 10, 10, 10]), "duplicate id"),
        (annotation(2, 8, [10, 10, 10, 10]), "page not in the file"),
        (annotation(2, 7, [10, 10, 10]), "malformed element"),
        (annotation(2, 7, "ten"), "malformed element"),
        (annotation(2, 7, None), "malformed element"),
        (annotation(2, None, [10, 10, 10, 10]), "malformed element"),
        (annotation(2, 1e19, [10, 10, 10, 10]), "malformed element"),
        (annotation(2, 7.5, [10, 10, 10, 10]), "malformed element"),
        (annotation(2, 7, [10, 10, 10, 10], "text"), "malformed element"),
        ({"id": 2, "image_id": 7}, "malformed element"),
        ("no annotation", "malformed element"),
    ],
)
@pytest.mark.parametrize("chunk", [1 << 16, 37])
def test_a_wrong_annotation_is_counted_and_left_out(coco_file, monkeypatch, wrong, kind, chunk):
    monkeypatch.setattr(coco, "CHUNK", chunk)
    found, faults = read(coco_file(a_coco(annotations=[GOOD, wrong])))
    assert faults == {kind: 1}
    assert [layout.labels.tolist() for layout in found] == [[1]]
    assert found[0].filtered == (kind not in ("page not in the file", "malformed element"))


def test_elements_that_leave_the_page_can_be_cut(coco_file):
    outside = [annotation(2, 7, [90, 0, 20, 10]), annotation(3, 7, [200, 300, 20, 10])]
    found, faults = read(coco_file(a_coco(annotations=[GOOD, *outside])), off_page="clip")
    assert faults == {"off the page": 1, "cut at the page's edge": 1}
    assert found[0].boxes[1:].tolist() == [pytest.approx([0.95, 0.025, 0.1, 0.05])]


def test_rounding_does_not_put_a_box_off_the_page(coco_file):
    touching = annotation(2, 7, [0.1 + 0.2 - 0.3 - 1e-16, 0, 100, 200.0000001])
    assert read(coco_file(a_coco(annotations=[touching])))[1] == {}


@pytest.mark.parametrize(
    ("images", "kind"),
    [
        ([{"id": 8, "width": 100, "height": 100}], "empty page"),
        ([{"id": 7, "width": 10, "height": 10}], "duplicate page id"),
        ([{"id": 8, "width": 0, "height": 10}], "page without a size"),
        ([{"id": 8, "width": 10, "height": -3}], "page without a size"),
        ([{"id": 8, "width": 10}], "broken entry"),
        ([{"id": "x", "width": 10, "height": 10}], "broken entry"),
        ([{"id": 8, "width": 201, "height": 200}], "wider than high"),
        ([{"id": 1e300, "width": 10, "height": 10}], "broken entry"),
        ([{"id": None, "width": 10, "height": 10}], "broken entry"),
        (["a page"], "broken entry"),
    ],
)
def test_a_wrong_page_is_counted_and_left_out(coco_file, images, kind):
    found, faults = read(coco_file(a_coco([*a_coco()["images"], *images], [GOOD])), portrait=True)
    assert (len(found), faults) == (1, {kind: 1})


def test_pages_with_too_many_elements(coco_file):
    many = [annotation(k, 7, [1, 1 + k / 4, 10, 10]) for k in range(500)]
    path = coco_file(a_coco(annotations=many))
    assert read(path, max_elements=499) == ([], {"too many elements": 1})
    assert len(read(path, max_elements=500)[0][0]) == 500


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"images": [', "no whole JSON"),
        (json.dumps(a_coco(annotations=[GOOD]))[:-40], "no whole JSON"),
        (json.dumps(a_coco(annotations=[GOOD])) + "}", "no whole JSON"),
        ("", "no whole JSON"),
        ("[1, 2", "no whole JSON"),
        ("[" * 100_000, "no whole JSON"),
        ('{"images": []}', "lists no 'images'"),
        ('{"pictures": 3}', "neither COCO"),
        ("3", "neither COCO"),
    ],
)
def test_broken_files_are_counted_or_refused(coco_file, tmp_path, text, problem):
    broken = coco_file(text)
    good = coco_file(a_coco(annotations=[GOOD]), "b.json")
    found, faults = read([broken, good])
    assert (len(found), faults) == (1, {"broken file": 1})
    with pytest.raises(SettingsError, match=f"a.json: .*{problem}"):
        read([broken, good], strict=True)
    with pytest.raises(SettingsError, match=problem):
        load_files([broken, good], cache=tmp_path / "cache", progress=False)
    assert not list((tmp_path / "cache").glob("files-*[!k]"))


@pytest.mark.parametrize("cut", [1, 40, 200])
def test_a_large_file_that_was_cut_short_gives_nothing(coco_file, monkeypatch, cut):
    monkeypatch.setattr(files, "SMALL", 100)
    text = json.dumps(a_coco(annotations=[GOOD, annotation(2, 7, [1, 1, 5, 5])]))
    assert len(read(coco_file(text))[0]) == 1
    assert read(coco_file(text[:-cut])) == ([], {"broken file": 1})


def test_lists_may_come_in_any_order_and_categories_with_any_ids(coco_file):
    whole = a_coco(annotations=[annotation(1, 7, [10, 20, 30, 40], 70)], categories=[{"id": 70, "name": "Figure"}])
    for order in (("annotations", "categories", "images"), ("categories", "images", "annotations")):
        found, faults = read(coco_file({name: whole[name] for name in order}))
        assert (found[0].labels.tolist(), faults) == ([4], {})


@pytest.mark.parametrize("kind", [str, float])
def test_ids_may_be_written_as_texts_or_with_a_point(coco_file, kind):
    whole = copy.deepcopy(a_coco(annotations=[GOOD, annotation(2**60 + 1, 7, [0, 0, 50, 50], 5)]))
    for entry in whole["categories"] + whole["images"] + whole["annotations"]:
        entry.update({name: kind(entry[name]) for name in ("id", "image_id", "category_id") if name in entry})
    found, faults = read(coco_file(whole))
    assert ([layout.labels.tolist() for layout in found], faults) == ([[1, 4]], {})


def test_ids_of_annotations_may_be_large_be_texts_or_be_absent(coco_file):
    ids = [None, None, "u1", "u2", 2**60 + 1, 2**60 + 2, "u2", 1.5]
    elements = [annotation(number, 7, [1, 1, 5 + k, 5]) for k, number in enumerate(ids)]
    inspection = Inspection(PUBLAYNET)
    (found,) = read_layouts(coco_file(a_coco(annotations=elements)), inspection)
    assert (len(found), inspection.counts) == (7, {"duplicate id": 1})
    assert inspection.first["duplicate id"].endswith("a.json: an annotation of image 7, whose id is a text")


def test_texts_as_ids_of_images_are_refused_and_told(coco_file):
    images = [{"id": "p1", "width": 100, "height": 200}]
    path = coco_file(a_coco(images, [annotation(1, "p1", [1, 1, 5, 5])]))
    with pytest.raises(SettingsError, match=r"a\.json: the id of an image is 'p1'; .* should be integers"):
        read(path, strict=True)
    inspection = Inspection(PUBLAYNET)
    assert len(list(read_layouts(coco_file(a_coco([*a_coco()["images"], *images], [GOOD])), inspection))) == 1
    assert inspection.first["broken entry"].endswith("whose id should be an integer")
    with pytest.raises(ValueError, match="no layout is left"):
        load_files(coco_file(a_coco([{"id": "7", "height": 9}])), cache=path.parent / "cache", progress=False)


def test_numbers_that_are_none_are_seen_across_chunks_and_left_alone_in_texts(coco_file, monkeypatch):
    image = {"id": 7, "width": 100, "height": 200, "file_name": "NaN: Infinity, and more.jpg"}
    text = json.dumps(a_coco([image], [GOOD, annotation(2, 7, [10, math.nan, -math.inf, 5])]))
    for chunk in range(17, 60):
        monkeypatch.setattr(coco, "CHUNK", chunk)
        found, faults = read(coco_file(text))
        assert (len(found[0]), faults) == (1, {"not finite": 1})
        assert found[0].name.endswith("more.jpg")


def test_what_stands_in_quotes_is_left_as_it_is(coco_file, monkeypatch):
    names = [
        "scan nan 1.jpg",
        "[NaN] nan, Infinity ",
        r'a "b" \\" , nan ,' + "\\\\",
        "nan , \\" * 9,
        "\\" * 70,
        ' inf \\n" nan ',
    ]
    images = [{"id": k, "width": 100, "height": 200, "file_name": name} for k, name in enumerate(names)]
    boxes = [annotation(k, k, [1, 1, 5, 5]) for k in range(len(names))]
    text = json.dumps(a_coco(images, [*boxes, annotation(99, 0, [10, math.nan, -math.inf, 5])]))
    for chunk in [*range(1, 60), 1 << 16]:
        monkeypatch.setattr(coco, "CHUNK", chunk)
        found, faults = read(coco_file(text))
        assert ([layout.name for layout in found], faults) == (names, {"not finite": 1})


TREE = {
    "bounds": [0, 0, 100, 200],
    "class": "screen",
    "children": [
        {"bounds": [0, 0, 100, 20], "componentLabel": "Toolbar", "children": [
            {"bounds": [5, 5, 15, 15], "componentLabel": "Icon"},
        ]},
        {"bounds": [0, 20, 100, 200], "componentLabel": "Web View", "children": []},
        {"bounds": [0, 20, 50, 40], "componentLabel": "On/Off Switch"},
    ],
}  # fmt: skip


def test_rico_trees(tmp_path):
    (tmp_path / "1.json").write_text(json.dumps(TREE))
    (tmp_path / "2.json").write_text(json.dumps({**TREE, "bounds": None}))
    (tmp_path / "3.json").write_text(
        json.dumps({"bounds": [10, 0, 110, 200], "children": [{"componentLabel": "Text", "bounds": [60, 0, 110, 100]}]})
    )
    (tmp_path / "4.json").write_text(
        json.dumps({"bounds": [0, 0, 9, 9], "children": [{"class": "x"}, {"bounds": [0, 0, 1, 1]}]})
    )
    assert guessed_vocabulary(tmp_path) == "rico25"
    found, faults = read(tmp_path, RICO25)
    assert [RICO25.labels[k] for k in found[0].labels] == ["Toolbar", "Icon", "Web View", "On/Off Switch"]
    assert found[0].boxes[1] == pytest.approx(np.array([0.1, 0.05, 0.1, 0.05]))
    assert found[1].boxes.tolist() == [[0.75, 0.25, 0.5, 0.5]]
    assert faults == {"broken entry": 1, "malformed element": 1, "unknown category": 1, "empty page": 1}
    found, faults = read(tmp_path / "1.json", RICO13)
    assert ([RICO13.labels[k] for k in found[0].labels], faults) == (
        ["Toolbar", "Icon", "Web View"],
        {"unknown category": 1},
    )
    assert found[0].filtered


def test_rico_lines(tmp_path):
    path = tmp_path / "rico.txt"
    path.write_text(
        "Text 0 0 127 127 | On_Off_Switch 1 2 3 4\nText 0 0 127 0\n\nText 1 2 3\n"
        "Text a 0 1 2 | Icon 0 0 1 1 |\nFoo 0 0 9 9"
    )
    assert guessed_vocabulary(path) == "rico25"
    found, faults = read(path, RICO25)
    assert [layout.labels.tolist() for layout in found] == [[0, 17], [2]]
    assert found[0].boxes[1] == pytest.approx(np.array([2, 3, 2, 2]) / 127)
    assert [layout.filtered for layout in found] == [False, True]
    assert faults == {"zero or negative size": 1, "empty page": 4, "malformed element": 3, "unknown category": 1}


def test_real_screens(test_data):
    found, faults = read(test_data / "rico_layouts", RICO25, max_elements=20)
    assert (len(found), faults) == (3729 + 1865, {"zero or negative size": 310})
    assert sum(map(len, found)) == 53_890 - 310
    assert {int(label) for layout in found for label in layout.labels} == set(range(25))


XML = """<annotations><filename>x.jpg</filename><size><width>225</width><height>300</height></size><layout>
<element label="headline" polygon_x="0 112.5 112.5 0" polygon_y="0 0 30 30"/>
<element label="text" polygon_x="100 y" polygon_y="0 1"/>{more}</layout></annotations>"""


def test_magazine(tmp_path):
    (tmp_path / "a.xml").write_text(
        XML.format(
            more="<element><label>text-over-image</label><polygon_x>0 225</polygon_x>"
            "<polygon_y>150,300</polygon_y></element>"
        )
    )
    assert guessed_vocabulary(tmp_path) == "magazine"
    found, faults = read(tmp_path, MAGAZINE)
    assert [MAGAZINE.labels[k] for k in found[0].labels] == ["headline", "text-over-image"]
    assert found[0].boxes.tolist() == [[0.25, 0.05, 0.5, 0.1], [0.5, 0.75, 1.0, 0.5]]
    assert faults == {"malformed element": 1}
    for text in (XML[:-20], "<a/>", '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'):
        (tmp_path / "a.xml").write_text(text)
        assert read(tmp_path, MAGAZINE) == ([], {"broken file": 1})


def test_lines_of_ours_come_back(tmp_path):
    pages = list(Pages(misaligned=1.0).pages(20))
    write_lines(tmp_path / "a.jsonl", pages)
    found, faults = read(tmp_path / "a.jsonl")
    assert faults == {}
    for one, other in zip(found, pages, strict=True):
        assert one.labels.tolist() == other.labels.tolist()
        assert one.boxes == pytest.approx(other.boxes, abs=2e-6)
        assert one.name == other.name
    (tmp_path / "b.json").write_text(f"[{line_of(pages[0])}, 3]")
    assert [(len(f[0]), f[1]) for f in [read(tmp_path / "b.json")]] == [(1, {"broken entry": 1})]
    (tmp_path / "c.json").write_text(line_of(pages[0]))
    assert len(read(tmp_path / "c.json")[0]) == 1


def test_broken_lines_are_counted_and_the_others_read(tmp_path):
    good = line_of(Layout(np.array([0]), np.array([[0.5, 0.5, 0.2, 0.2]]), "ä"))
    lines = [
        good,
        "",
        good[:-5],
        "[]",
        '{"labels": ["text"], "boxes": []}',
        '{"labels": ["text"], "boxes": [[0.5, 0.5, 0.1]]}',
        '{"labels": ["text", 4, 5, true], "boxes": '
        "[[0.5, 0.5, NaN, 0.1], [0.5, 0.5, 1, 1], [0.5, 0.5, 1, 1], [0.5, 0.5, 1, 1]]}",
        '{"labels": [], "boxes": []}',
        '{"vocabulary": "rico25", "labels": ["Text"], "boxes": [[0.5, 0.5, 1, 1]]}',
    ]
    (tmp_path / "a.jsonl").write_bytes(("\ufeff" + "\r\n".join(lines)).encode())
    found, faults = read(tmp_path / "a.jsonl")
    assert [(layout.labels.tolist(), layout.name) for layout in found] == [([0], "ä"), ([4], "")]
    assert faults == {
        "broken entry": 4,
        "malformed element": 1,
        "empty page": 2,
        "not finite": 1,
        "unknown category": 2,
    }


def test_what_is_not_finite_is_written_so_that_it_is_counted(tmp_path):
    broken = Layout(np.array([0, 0]), np.array([[math.nan, 0.5, 0.1, 0.1], [0.5, 0.5, math.inf, 0.1]]))
    write_lines(tmp_path / "a.jsonl", [broken])
    assert "NaN" not in (tmp_path / "a.jsonl").read_text()
    assert read(tmp_path / "a.jsonl") == ([], {"not finite": 2, "empty page": 1})


def test_folders_and_archives(tmp_path, caplog):
    line = line_of(Pages().page(0)) + "\n"
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "deep" / "a.jsonl.gz").write_bytes(gzip.compress(line.encode()))
    (tmp_path / "in" / "b.jsonl").write_text(line)
    (tmp_path / "in" / "b.svg").write_text("<svg/>")
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.write(tmp_path / "in" / "b.jsonl", "x/b.jsonl")
        archive.writestr("__MACOSX/b.jsonl", "")
    with tarfile.open(tmp_path / "t.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "in", "in")
    for path, number in (("in", 2), ("z.zip", 1), ("t.tar.gz", 2)):
        assert len(read(tmp_path / path)[0]) == number
        assert guessed_vocabulary(tmp_path / path) == "publaynet"
    assert "passed over 1 file that is no file of .json" in caplog.text
    for name, content in (("t.tar.gz", (tmp_path / "t.tar.gz").read_bytes()[:-30]), ("z.zip", b"PK\3\4")):
        (tmp_path / name).write_bytes(content)
        assert read([tmp_path / name, tmp_path / "in" / "b.jsonl"])[1] == {"broken file": 1}
    with pytest.raises(SettingsError, match=r"no file of a readable kind \(1 .svg\)"):
        read(tmp_path / "in" / "b.svg")
    with pytest.raises(FileNotFoundError, match="absent does not exist"):
        read(tmp_path / "absent")


def test_a_progress_bar_hears_of_every_byte(coco_file):
    path = coco_file(a_coco(annotations=[GOOD]))
    sizes = []
    assert len(list(read_layouts(path, Inspection(PUBLAYNET), read=sizes.append))) == 1
    assert sum(sizes) == path.stat().st_size


def test_a_stored_set_of_files(tmp_path, caplog):
    pages = list(Pages(max_elements=6).pages(40))
    write_lines(tmp_path / "a.jsonl", pages)
    whole = load_files(tmp_path / "a.jsonl", max_elements=5, cache=tmp_path / "cache", progress=False)
    few = [page for page in pages if len(page) <= 5]
    assert len(whole) == len(few) < 40
    assert whole.manifest["left_out"] == {"too many elements": 40 - len(few)}
    assert "too many elements: left out" in caplog.text
    assert [one.labels.tolist() for one in whole.layouts()] == [page.labels.tolist() for page in few]
    told = list(caplog.messages)
    assert load_files(tmp_path / "a.jsonl", max_elements=5, cache=tmp_path / "cache").folder == whole.folder
    assert caplog.messages == told * 2
    parts = [
        LayoutFiles([str(tmp_path / "a.jsonl")], cache=str(tmp_path / "cache"), part=part)
        for part in ("train", "valid")
    ]
    assert [len(part) for part in parts] == [38, 2]
    with pytest.raises(SettingsError, match="part='test' has none of 40 layouts"):
        LayoutFiles([str(tmp_path / "a.jsonl")], cache=str(tmp_path / "cache"), part="test").layouts  # noqa: B018
    with pytest.raises(SettingsError, match="preprocessing='lace'; it is one of none, layoutdm, layoutdiffusion"):
        LayoutFiles(["a"], "lace")
    with pytest.raises(SettingsError, match="vocabulary='pub'; it is one of publaynet"):
        load_files(tmp_path / "a.jsonl", vocabulary="pub", cache=tmp_path / "cache")


def test_vocabularies():
    assert {name: len(labels) for name, labels in VOCABULARIES.items()} == {
        "publaynet": 5,
        "rico13": 13,
        "rico25": 25,
        "magazine": 5,
    }
    assert set(RICO13.labels) < set(RICO25.labels)
    for known in VOCABULARIES.values():
        assert [known.index(label.upper().replace(" ", "_")) for label in known.labels] == list(range(len(known)))
        assert known.index("nothing of the kind") is None
    with pytest.raises(SettingsError, match="max_elements=0"):
        Inspection(PUBLAYNET, max_elements=0)
    with pytest.raises(SettingsError, match="off_page='keep'"):
        Inspection(PUBLAYNET, off_page="keep")


README = "The data of a paper.\n\nText may be copied. See the paper: pages 1 2 3 4\n"


@pytest.mark.parametrize("where", ["folder", "tar"])
def test_texts_of_other_things_are_passed_over_and_have_no_vote(test_data, tmp_path, caplog, where):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "README.txt").write_text(README)
    (tmp_path / "in" / "a.xml").write_text("<metadata/>")
    shutil.copy(test_data / "publaynet_sample" / "samples.json", tmp_path / "in" / "val.json")
    path = tmp_path / "in"
    if where == "tar":
        path = tmp_path / "in.tar"
        with tarfile.open(path, "w") as archive:
            for name in ("README.txt", "val.json"):
                archive.add(tmp_path / "in" / name, name)
    assert guessed_vocabulary(path) == "publaynet"
    (tmp_path / "in" / "a.xml").unlink()
    found, faults = read(path)
    alone, alike = read(test_data / "publaynet_sample" / "samples.json")
    assert (len(found), faults) == (len(alone), alike)
    assert "passed over 1 file" in caplog.text
    with pytest.raises(SettingsError, match=r"no file of a readable kind \(1 \.txt\).*a \.txt counts where a line is"):
        read(tmp_path / "in" / "README.txt")


@pytest.mark.parametrize("known", VOCABULARIES.values(), ids=VOCABULARIES)
@pytest.mark.parametrize("first", ["categories", "images"])
def test_the_vocabulary_of_coco_is_that_of_its_categories(coco_file, monkeypatch, known, first):
    monkeypatch.setattr(files, "LOOKED_AT", 4000)
    categories = [{"id": k, "name": name.upper()} for k, name in enumerate(known.labels)]
    image = {"id": 7, "width": 100, "height": 200, "file_name": "a.jpg", "categories": [3]}
    whole = a_coco([image], [annotation(k, 7, [1, 1, 5, 5], k % len(known)) for k in range(2000)], categories)
    path = coco_file({first: whole[first], **whole})
    assert guessed_vocabulary(path) == known.name


def test_a_guess_that_lacks_most_labels_is_refused(coco_file, tmp_path):
    names = ["Text", "Page-header", "Formula", "Picture"]
    categories = [{"id": k, "name": name} for k, name in enumerate(names)]
    path = coco_file(a_coco(annotations=[annotation(k, 7, [1, 1, 5, 5], k) for k in range(4)], categories=categories))
    said = r"a\.json.*guessed to be 'publaynet'.* lacks 3 of 4 labels.*'Page-header'.*; set vocabulary to .*rico25"
    with pytest.raises(SettingsError, match=said):
        load_files(path, cache=tmp_path / "cache", progress=False)
    with pytest.raises(SettingsError, match=said):
        score(path, fid_steps=0)
    assert len(load_files(path, vocabulary="publaynet", cache=tmp_path / "cache", progress=False)) == 1


@pytest.mark.parametrize("small", [1 << 25, 100])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
def test_any_encoding_of_unicode_is_read(tmp_path, monkeypatch, encoding, small):
    monkeypatch.setattr(files, "SMALL", small)
    image = {"id": 7, "width": 100, "height": 200, "file_name": "ä😀.jpg"}
    categories = [{"id": k, "name": name} for k, name in enumerate(RICO13.labels)]
    texts = {
        "a.json": json.dumps(a_coco([image], [GOOD], categories), ensure_ascii=False),
        "a.jsonl": json.dumps({"vocabulary": "rico13", "name": "ä😀.jpg", "labels": [2], "boxes": [[0.5] * 4]}) + "\n",
        "a.txt": "Text 0 0 9 9\n",
    }
    for name, text in texts.items():
        (tmp_path / name).write_bytes(text.encode(encoding))
        assert guessed_vocabulary(tmp_path / name) == ("rico25" if name == "a.txt" else "rico13")
        ((layout,), faults) = read(tmp_path / name, RICO13)
        assert (layout.name, layout.labels.tolist(), faults) == ("" if name == "a.txt" else "ä😀.jpg", [2], {})
