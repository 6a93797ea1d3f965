import pytest
import torch

from graft_lightning.domains.layouts import LayoutReference
from graft_lightning.domains.layouts.files import read_layouts
from graft_lightning.domains.layouts.given import Given
from graft_lightning.domains.layouts.inspection import Inspection
from graft_lightning.domains.layouts.layout import edges
from graft_lightning.domains.layouts.vocabularies import PUBLAYNET
from graft_lightning.processes.grids import Powered
from graft_lightning.processes.interleaved import Interleaved
from graft_lightning.processes.noise import Noise
from graft_lightning.processes.objectives import Objective
from graft_lightning.processes.outputs import convert
from graft_lightning.processes.samplers import DDIM, DDPM
from graft_lightning.rejection.reference import FrozenDenoiser, TrainableDenoiser
from graft_lightning.types import SettingsError, concatenate

TEXTS = ["n=5", "n=8 #1", "n=3 | title | text"]
SMALL = {"layers": 2, "width": 16, "heads": 2, "frequencies": 3}
SAMPLERS = {
    "interleaved": lambda: Interleaved(6, grid=Powered()),
    "mixed": lambda: Interleaved(6, eta=0.0, grid=Powered()),
    "ddpm": lambda: DDPM(6),
    "ddim": lambda: DDIM(6),
}


def small(labels="uniform", max_elements=8, sampler=None, seed=0, **arguments):
    reference = LayoutReference(
        sampler=sampler or Interleaved(6, grid=Powered()),
        network=SMALL,
        max_elements=max_elements,
        labels=labels,
        **arguments,
    )
    torch.manual_seed(seed)
    built = reference.build(pretrained=False)
    for parameter in built.parameters():
        if parameter.abs().max() < 0.01:
            torch.nn.init.normal_(parameter, std=0.1)  # no output is trivially zero
    return reference, built


def sampled(reference, network, texts=TEXTS, seeds=(1, 2, 3), keep=()):
    return reference.sampler.sample(
        FrozenDenoiser(reference, network),
        reference.process,
        reference.encode(texts, "cpu"),
        Noise(torch.tensor(seeds)),
        reference.shape(texts),
        keep,
        reference.static_fields(texts, "cpu"),
    )


@pytest.mark.parametrize("labels", ["uniform", "absorbing"])
@pytest.mark.parametrize("sampler", list(SAMPLERS))
def test_samples_have_the_elements_that_were_asked_for(labels, sampler):
    reference, network = small(labels, sampler=SAMPLERS[sampler]())
    levels = reference.sampler.levels(reference.process)
    trajectory = sampled(reference, network, keep=levels[1:3])
    for state in (trajectory.x_0, *trajectory.states.values()):
        assert state["mask"].sum(1).tolist() == [5, 8, 3]
        assert (state["box"][~state["mask"]] == 0).all()
        assert (state["label"][~state["mask"]] == 0).all()
        assert state["box"].isfinite().all()
    layouts = reference.decode(trajectory.x_0)
    assert layouts["label"].max() <= 4
    assert edges(layouts["box"]).min() >= -1e-6
    assert edges(layouts["box"]).max() <= 1 + 1e-6


def test_a_sample_depends_on_its_own_seed_alone():
    reference, network = small()
    together = sampled(reference, network).x_0
    alone = sampled(reference, network, TEXTS[1:2], (2,)).x_0
    torch.testing.assert_close(together["box"][1:2], alone["box"], atol=5e-4, rtol=0)  # short waves, not yet trained
    assert torch.equal(together["label"][1:2], alone["label"])


def test_padding_changes_nothing():
    reference, network = small()
    wide, _ = small(max_elements=11)
    x = sampled(reference, network).x_0
    wider = wide.static_fields(TEXTS, "cpu")
    wider["box"] = torch.nn.functional.pad(x["box"], (0, 0, 0, 3))
    wider["label"] = torch.nn.functional.pad(x["label"], (0, 3))
    t = torch.full((3,), 0.4, dtype=torch.float64)
    narrow = TrainableDenoiser(reference, network)(x, t, reference.encode(TEXTS, "cpu"))
    broad = TrainableDenoiser(wide, network)(wider, t, wide.encode(TEXTS, "cpu"))
    for name in ("box", "label"):
        torch.testing.assert_close(broad[name][:, :8], narrow[name], atol=1e-5, rtol=1e-4)
    assert (broad["box"][:, 8:] == 0).all()


def test_training_layouts_may_be_narrower_or_wider_than_the_samples():
    """A set's batches are as wide as its largest layout, whatever the room that conditions have."""
    reference, network = small()
    texts = ["n=3 | title | text 0.2 0.2 0.1 0.1", "n=2"]
    x = sampled(reference, network, texts, (1, 2)).x_0
    t = torch.tensor([0.3, 0.6], dtype=torch.float64)
    expected = reference.denoise(network, x, t, reference.encode(texts, "cpu"))
    for width in (3, 12):
        other = {
            "box": torch.nn.functional.pad(x["box"], (0, 0, 0, width - 8)),
            "label": torch.nn.functional.pad(x["label"], (0, width - 8)),
            "mask": torch.nn.functional.pad(x["mask"], (0, width - 8)),
        }
        found = reference.denoise(network, other, t, reference.encode(texts, "cpu"))
        torch.testing.assert_close(found["box"][:, :3], expected["box"][:, :3], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(found["label"][:, :3], expected["label"][:, :3], atol=1e-5, rtol=1e-4)


def test_elements_have_no_order():
    """Permuted elements, with what is known of them, give permuted answers."""
    reference, network = small()
    x = sampled(reference, network, ["n=4"] * 3).x_0
    known = ["title", "? 0.5 ? 0.1 ?", "text 0.2 0.2 0.1 0.1", "?"]
    order = [2, 0, 3, 1]
    full = torch.tensor([*order, 4, 5, 6, 7])
    texts = [" | ".join(["n=4", *known])] * 3, [" | ".join(["n=4", *(known[i] for i in order)])] * 3
    t = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    plain = reference.denoise(network, x, t, reference.encode(texts[0], "cpu"))
    moved = {**x, "box": x["box"][:, full], "label": x["label"][:, full]}
    permuted = reference.denoise(network, moved, t, reference.encode(texts[1], "cpu"))
    for name in ("box", "label"):
        torch.testing.assert_close(permuted[name], plain[name][:, full], atol=1e-5, rtol=1e-4)


def test_the_number_of_elements_is_seen():
    reference, network = small()
    one = sampled(reference, network, ["n=1"], (5,)).x_0
    conditions = reference.encode(["n=2"], "cpu")
    t = torch.tensor([0.5], dtype=torch.float64)
    pair = {
        "box": one["box"].index_copy(1, torch.tensor([1]), one["box"][:, :1]),
        "label": one["label"],
        "mask": torch.arange(8)[None] < 2,
    }
    alone = reference.denoise(network, one, t, conditions)["box"][:, 0]
    twice = reference.denoise(network, pair, t, conditions)["box"][:, 0]  # attention to a copy of itself alone sees 1
    assert (alone - twice).abs().max() > 1e-3


@pytest.mark.parametrize("labels", ["uniform", "absorbing"])
def test_the_loss_is_finite_at_every_level_and_reaches_every_weight(labels):
    reference, network = small(labels)
    network.train()
    x = concatenate([sampled(reference, network).x_0] * 30)
    x["label"] = x["label"].clamp(max=4)
    condition = reference.encode(["n=5 | title", "n=8", "n=3 | ? 0.5 ? ? 0.1"] * 30, "cpu")
    loss = Objective().loss(
        TrainableDenoiser(reference, network), reference.process, x, condition, Noise(torch.arange(90))
    )
    assert loss.value.isfinite().all()
    assert loss.t.max() == 1.0
    loss.value.mean().backward()
    untouched = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert untouched == []


@pytest.mark.parametrize("labels", ["uniform", "absorbing"])
@pytest.mark.parametrize("level", [0.0, 0.2])
def test_what_is_known_is_not_learnt(labels, level):
    """Where everything is known the loss from the data is zero, and no weight gets a gradient at any level."""
    reference, network = small(labels, train_steps=0)
    text = "n=2 | title 0.5 0.1 0.8 0.05 | text 0.5 0.6 0.8 0.7"
    x = {
        "box": torch.zeros(20, 8, 4),
        "label": torch.zeros(20, 8, dtype=torch.int64),
        "mask": (torch.arange(8) < 2).expand(20, 8),
    }
    x["box"][:, :2] = 2 * torch.tensor([[0.5, 0.1, 0.8, 0.05], [0.5, 0.6, 0.8, 0.7]]) - 1
    x["label"][:, 0] = 1
    state = x if level == 0 else reference.process.diffuse(x, 0.0, level, Noise(torch.arange(20)))
    loss = Objective().loss(
        TrainableDenoiser(reference, network),
        reference.process,
        state,
        reference.encode([text] * 20, "cpu"),
        Noise(torch.arange(20) + 100),
        level=level,
    )
    assert loss.value.isfinite().all()
    if level == 0:
        assert loss.value.abs().max() < 1e-4
    assert not loss.value.requires_grad or not any(
        p.grad is not None and p.grad.any() for p in _after_backward(loss.value.sum(), network)
    )


def _after_backward(loss, network):
    loss.backward()
    return list(network.parameters())


@pytest.mark.parametrize("labels", ["uniform", "absorbing"])
@pytest.mark.parametrize("sampler", list(SAMPLERS))
def test_what_is_known_is_in_the_sample(labels, sampler):
    """Whatever an untrained network says: labels, whole boxes, and single coordinates."""
    reference, network = small(labels, sampler=SAMPLERS[sampler]())
    texts = [
        "n=3 | title | table | figure",
        "n=4 | text 0.3 0.2 0.4 0.1 | ? | list 0.6 0.7 0.2 0.3",
        "n=2 | ? ? ? 0.25 0.125 | title 0.5 ? 0.5 ?",
    ]
    state = sampled(reference, network, texts).x_0
    assert state["label"][0, :3].tolist() == [1, 3, 4]
    assert state["label"][1, [0, 2]].tolist() == [0, 2]
    box = (state["box"] + 1) / 2
    torch.testing.assert_close(box[1, 0], torch.tensor([0.3, 0.2, 0.4, 0.1]), atol=2e-5, rtol=0)
    torch.testing.assert_close(box[1, 2], torch.tensor([0.6, 0.7, 0.2, 0.3]), atol=2e-5, rtol=0)
    torch.testing.assert_close(box[2, 0, 2:], torch.tensor([0.25, 0.125]), atol=2e-5, rtol=0)
    torch.testing.assert_close(box[2, 1, [0, 2]], torch.tensor([0.5, 0.5]), atol=2e-5, rtol=0)


def test_what_is_known_is_as_noisy_as_the_rest_on_the_way():
    """Kept states are draws of x_t given x_0, so that P-GRAFT trains on what its kernel would give."""
    reference, network = small(sampler=DDPM(10))
    level = reference.sampler.levels(reference.process)[4]
    count = 400
    texts = ["n=2 | text 0.3 0.2 0.4 0.1 | text 0.7 0.8 0.3 0.2"] * count
    state = sampled(reference, network, texts, range(count), keep=[level]).states[level]
    alpha, sigma = reference.schedule.at(level)
    known = 2 * torch.tensor([[0.3, 0.2, 0.4, 0.1], [0.7, 0.8, 0.3, 0.2]]) - 1
    noise = (state["box"][:, :2] - alpha * known) / sigma
    assert noise.mean().abs() < 4 / (count * 8) ** 0.5
    assert abs(float(noise.var()) - 1) < 4 * (2 / (count * 8)) ** 0.5


def test_the_velocity_of_what_is_known_leads_there():
    """In every output conversion: x_0 is what is known, eps what then is left of x_t."""
    alpha, sigma = (torch.tensor(values, dtype=torch.float64) for values in ([0.8, 0.0, 0.999], [0.6, 1.0, 0.04]))
    box, x_t = torch.rand(3, 2, 4) * 2 - 1, torch.randn(3, 2, 4)
    given = Given(torch.full((3, 2), -1), box, torch.ones(3, 2, 4, dtype=torch.bool))
    found = convert("v_prediction", given.velocities(torch.full_like(x_t, 7.0), x_t, alpha, sigma), x_t, alpha, sigma)
    torch.testing.assert_close(found.x_0, box, atol=1e-4, rtol=1e-4)
    expected = (x_t - alpha[:, None, None] * box) / sigma[:, None, None]
    torch.testing.assert_close(found.epsilon, expected.float(), atol=1e-4, rtol=1e-4)


def test_what_is_known_roughly_holds_until_the_noise_is_as_small():
    reference, _ = small(roughness=0.03)
    condition = reference.encode(["n=2 | text ~0.5 ~0.5 ~0.1 0.1 | ? ~0.2 ? ? ?"], "cpu")
    for share, early in ((0.031, True), (0.029, False)):
        sigma = torch.tensor([2 * share], dtype=torch.float64)  # of boxes in [-1, 1]
        fixed = Given.at(condition, torch.ones(1, dtype=torch.float64), sigma, 2 * reference.roughness, 8).fixed
        assert fixed[0, 0].tolist() == [early, early, early, True]
        assert fixed[0, 1].tolist() == [early, False, False, False]


def test_refined_layouts_stay_near_what_was_given_and_move():
    reference, network = small(sampler=Interleaved(30, grid=Powered()))
    text = "n=2 | text ~0.3 ~0.3 ~0.4 ~0.2 | title ~0.6 ~0.8 ~0.5 ~0.1"
    box = (sampled(reference, network, [text], (3,)).x_0["box"][0, :2] + 1) / 2
    away = (box - torch.tensor([[0.3, 0.3, 0.4, 0.2], [0.6, 0.8, 0.5, 0.1]])).abs()
    assert 1e-3 < away.max() < 0.3


def test_elements_that_stay_without_a_label_are_none():
    reference, _ = small("absorbing")
    state = {
        "box": torch.rand(1, 8, 4),
        "label": torch.tensor([[5, 2, 5, 1, 0, 0, 0, 0]]),
        "mask": torch.arange(8)[None] < 4,
    }
    layouts = reference.decode(state)
    assert layouts["mask"].sum() == 2
    assert layouts["label"][0].tolist() == [2, 1, 0, 0, 0, 0, 0, 0]
    assert (layouts["box"][0, 2:] == 0).all()
    expected = reference.decode({**state, "label": state["label"].clamp(max=4)})["box"][0, [1, 3]]
    assert torch.equal(layouts["box"][0, :2], expected)


def test_boxes_are_cut_at_the_edges_of_the_page():
    reference, _ = small()
    box = torch.tensor([[[0.1, 0.5, 0.4, 0.2], [0.5, 0.5, -0.1, 0.2], [1.4, 0.5, 0.2, 0.2]]])
    state = {"box": 2 * box - 1, "label": torch.zeros(1, 3, dtype=torch.int64), "mask": torch.ones(1, 3, dtype=bool)}
    found = reference.decode(state)["box"][0]
    torch.testing.assert_close(found[0], torch.tensor([0.15, 0.5, 0.3, 0.2]))
    assert found[1, 2] == 0  # a negative width is none
    assert found[2].tolist()[::2] == [1.0, 0.0]  # nothing of it is on the page


def test_written_samples_are_read_again(tmp_path):
    reference, network = small()
    samples = reference.decode(sampled(reference, network).x_0)
    for names in (["a", "b", "c"], ["d", "e", "f"], ["a", "b", "c"]):  # the third time they are written anew
        paths = reference.write(samples, names, tmp_path)
        assert [path.name for path in paths] == [f"{name}.svg" for name in names]
    found = {layout.name: layout for layout in read_layouts(tmp_path / "layouts.jsonl", Inspection(PUBLAYNET))}
    assert sorted(found) == list("abcdef")
    assert len((tmp_path / "layouts.jsonl").read_text().splitlines()) == 6
    for row, name in enumerate("abc"):
        seen = samples["mask"][row] & (samples["box"][row][:, 2:] > 1e-6).all(-1)
        torch.testing.assert_close(
            torch.as_tensor(found[name].boxes).float(), samples["box"][row][seen], atol=1e-5, rtol=0
        )


def test_keys_and_numbers_do_not_see_the_order():
    reference, network = small()
    samples = reference.decode(sampled(reference, network, ["n=8"] * 3).x_0)
    permuted = samples.clone()
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    permuted["box"], permuted["label"] = samples["box"][:, order], samples["label"][:, order]
    assert torch.equal(reference.keys(samples), reference.keys(permuted))
    assert len(reference.keys(samples).unique()) == 3
    torch.testing.assert_close(reference.numbers(samples), reference.numbers(permuted))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"max_elements": 0}, "max_elements=0"),
        ({"labels": "gone"}, "labels='gone'"),
        ({"vocabulary": "books"}, "vocabulary='books'"),
        ({"roughness": -0.1}, "roughness=-0.1"),
        ({"roughness": float("nan")}, "roughness=nan"),
    ],
)
def test_settings_that_cannot_be_are_named(arguments, named):
    with pytest.raises(SettingsError, match=named):
        LayoutReference(**arguments)


def test_no_condition_is_no_row():
    assert small()[0].encode([], "cpu")["box"].shape == (0, 8, 4)


def test_captions_do_not_spell_out_what_is_known():
    reference, network = small()
    samples = reference.decode(sampled(reference, network).x_0)
    short, long = (
        reference.draw(samples, [text] * 3).shape for text in ("n=3", "n=3 | " + "title 0.5 0.5 0.5 0.5 | " * 3)
    )
    assert long[1] <= short[1] + 13


def test_a_condition_may_not_ask_for_more_than_there_is_room_for():
    with pytest.raises(SettingsError, match=r"n=9 .* max_elements=8"):
        small()[0].encode(["n=3", "n=9 | title"], "cpu")
