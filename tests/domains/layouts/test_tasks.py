import math
from collections import Counter

import pytest
import torch

from graft_lightning.domains.layouts import EmbeddedLayouts, LayoutReference, TaskConditions, WithTasks
from graft_lightning.domains.layouts.partial import read
from graft_lightning.domains.layouts.tasks import MOVED, SHARES, TASKS
from graft_lightning.domains.layouts.vocabularies import PUBLAYNET
from graft_lightning.types import SettingsError


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    return EmbeddedLayouts(count=400, cache=str(tmp_path_factory.mktemp("layouts")), part="all")


def task_of(condition):
    """The task that a condition comes of."""
    _, known = read(condition, PUBLAYNET)
    if not known:
        return "unconditional"
    if any(math.isnan(one.box[0]) and one.label is None for one in known):
        return "completion"
    if all(math.isnan(one.box[3]) for one in known):
        return "label"
    return "label_size" if all(math.isnan(one.box[0]) for one in known) else "completion"


@pytest.mark.parametrize("task", ["label", "label_size", "completion", "refinement"])
def test_what_is_shown_is_that_of_the_example_itself(pages, task):
    """Element i of the condition is element i of the state."""
    states, conditions = WithTasks(pages, {task: 1.0}).batch(range(64), 0)
    encoded = LayoutReference(max_elements=pages.width).encode(conditions, "cpu")
    known = encoded["known"] > 0
    tolerance = 2 * (6 * MOVED if task == "refinement" else 1e-5)
    assert ((encoded["box"] - states["box"]).abs()[known] <= tolerance).all()
    labelled = encoded["label"] >= 0
    assert torch.equal(encoded["label"][labelled], states["label"][labelled])
    mask = states["mask"]
    if task == "completion":
        assert torch.equal(labelled, known.all(-1))
        assert (labelled.sum(1) >= 1).all()
        assert labelled.sum() < 0.5 * mask.sum()
    else:
        assert torch.equal(labelled, mask)
    if task == "label":
        assert not known.any()
    if task == "label_size":
        assert torch.equal(known, mask[..., None] & torch.tensor([False, False, True, True]))
    if task == "refinement":
        moved = (encoded["box"] - states["box"])[mask] / 2
        inside = (encoded["box"][mask].abs() < 1 - 1e-6) & (states["box"][mask].abs() < 1 - 6 * MOVED)
        assert abs(float(moved[inside].std()) - MOVED) < 0.1 * MOVED


def test_tasks_come_in_their_shares_whatever_the_batch(pages):
    examples = WithTasks(pages)
    _, together = examples.batch(range(1000), 0)
    apart = [text for start in range(0, 1000, 125) for text in examples.batch(range(start, start + 125), 0)[1]]
    assert together == apart
    found = Counter(map(task_of, together))
    for task, share in SHARES.items():
        # completion that shows all elements of a small page, or its first alone, still counts as completion
        assert abs(found[task] / 1000 - share) < 4 * (share * (1 - share) / 1000) ** 0.5 + 0.01
    assert examples.batch(range(50), 1)[1] != together[:50]


@pytest.mark.parametrize("task", TASKS)
def test_held_out_conditions_are_of_every_layout_once(pages, task):
    texts = TaskConditions(pages, task, limit=200).texts()
    assert len(texts) == len(set(texts)) == 200
    counts = [read(text, PUBLAYNET)[0] for text in texts]
    assert counts == pages.layouts.counts[:200].tolist()
    assert texts == TaskConditions(pages, task, limit=200).texts()
    LayoutReference(max_elements=pages.width).encode(texts, "cpu")  # all are understood
    other = TaskConditions(pages, task, limit=200, seed=1).texts()
    assert (texts != other) == (task in ("completion", "refinement"))


def test_completion_shows_a_fifth_at_most_on_average(pages):
    """The share is drawn between 0 and 20 %, and one element is always shown: by hand for pages of 10 elements."""
    texts = [t for t in TaskConditions(pages, "completion").texts() if read(t, PUBLAYNET)[0] == 10]
    shown = [sum(one.label is not None for one in read(text, PUBLAYNET)[1]) for text in texts]
    assert min(shown) == 1
    expected = 10 * 0.1 + (1 - 0.8**11) / (11 * 0.2)  # of those drawn, and one more where none was
    assert abs(sum(shown) / len(shown) - expected) < 0.5


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda pages: WithTasks(pages, {"sorting": 1.0}), "sorting"),
        (lambda pages: WithTasks(pages, {"label": -1.0}), "-1.0"),
        (lambda pages: WithTasks(pages, {"label": 0.0}), "0.0"),
        (lambda pages: WithTasks(pages, {}), "shares={}"),
        (lambda pages: TaskConditions(pages, "sorting"), "sorting"),
        (lambda pages: TaskConditions(pages, "label", limit=0), "limit=0"),
    ],
)
def test_settings_that_cannot_be_are_named(pages, make, named):
    with pytest.raises(SettingsError, match=named):
        make(pages)
