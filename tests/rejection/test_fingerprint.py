"""Fingerprints: they change with what decides a distribution, and with nothing else."""

import functools
from pathlib import Path

import pytest
import torch
from torch import nn

from graft_lightning.domains.digits import DigitReference
from graft_lightning.identity import describe, digest, digest_of
from graft_lightning.processes.grids import Leading, Uniform
from graft_lightning.processes.paths import CategoricalPath, GaussianPath
from graft_lightning.processes.process import Process
from graft_lightning.processes.samplers import DDIM, DDPM
from graft_lightning.processes.schedules import Cosine, FromTable, Linear, RectifiedFlow
from graft_lightning.rejection.pool import PoolMismatch, TrajectoryPool
from graft_lightning.rejection.reference import LoRA, open_views
from tests.fakes import LinearReward, TinyReference


def test_digest_sees_values_shapes_and_types():
    x = torch.arange(6.0)
    different = [x, x + 1e-6, x.reshape(2, 3), x.double(), x.bfloat16(), -x]
    assert len({digest([tensor]) for tensor in different}) == len(different)
    assert digest([x, x[:2]]) != digest([x[:2], x])


def test_digest_sees_values_alone():
    x = torch.randn(4, 5)
    assert digest([x]) == digest([x.clone().requires_grad_(True)]) == digest([x.T.contiguous().T])
    assert len(digest([x])) == 16
    assert digest([torch.tensor(1.0)]) != digest([torch.tensor(2.0)])


def test_describe_is_plain_and_by_attribute():
    found = describe(DDIM(5, 0.5, Leading()))
    assert found["class"] == "graft_lightning.processes.samplers.DDIM"
    assert (found["steps"], found["eta"], found["clip_sample"]) == (5, 0.5, None)
    assert found["grid"] == {
        "class": "graft_lightning.processes.grids.Leading", "set_alpha_to_one": False, "steps_offset": 1
    }  # fmt: skip


def test_describe_tells_settings_apart():
    values = [
        DDIM(5),
        DDIM(6),
        DDIM(5, 0.5),
        DDPM(5),
        DDIM(5, grid=Uniform(2.0)),
        DDIM(5, clip_sample=1.0),
        Process(GaussianPath(Cosine())),
        Process(GaussianPath(Cosine(500))),
        Process(GaussianPath(Linear(1000, 0.0001, 0.03))),
        Process(GaussianPath(RectifiedFlow())),
        Process(GaussianPath(FromTable([0.9, 0.5]))),
        Process(GaussianPath(FromTable([0.9, 0.4]))),
        Process(CategoricalPath(Cosine(), 3)),
        Process(CategoricalPath(Cosine(), 3, "absorbing")),
        LinearReward(),
        LinearReward((0.0, 1.0)),
        {"a": [1, 2]},
        {"a": [2, 1]},
        Path("a"),
        functools.partial(max, 1),
        functools.partial(max, 2),
        torch.ones(2),
        torch.zeros(2),
        nn.Linear(2, 2),
        nn.Linear(2, 2),
        describe,
        digest,
    ]
    found = [str(describe(value)) for value in values]
    assert len(set(found)) == len(found)


def test_describe_ignores_state_and_place():
    schedule = Linear()
    before = describe(schedule)
    schedule.alpha_sigma(torch.tensor([3]))  # reads the table
    assert describe(schedule) == before
    reward = LinearReward()
    reward.device = torch.device("cpu")
    assert describe(reward) == describe(LinearReward())
    reward(torch.ones(1, 2), ["left"])
    assert describe(reward) == describe(LinearReward())


class TestReference:
    def fingerprint(self, network=None, **settings):
        reference = TinyReference(**settings)
        return reference.fingerprint(network or reference.build())

    def test_is_reproducible(self):
        assert self.fingerprint() == self.fingerprint()

    def test_changes_with_weights_sampler_process_and_guidance(self):
        changed = TinyReference().build()
        with torch.no_grad():
            changed.second.bias[0] += 1e-6
        found = [
            self.fingerprint(),
            self.fingerprint(changed),
            self.fingerprint(seed=1),
            self.fingerprint(sampler=DDIM(9)),
            self.fingerprint(sampler=DDPM(8)),
            self.fingerprint(path=GaussianPath(Linear())),
            self.fingerprint(guidance_scale=2.0),
        ]
        assert len({str(fingerprint) for fingerprint in found}) == len(found)

    def test_does_not_change_with_an_adapter(self):
        """A pool is the reference's, whichever way of fine-tuning reads it, and whatever the adapter has learned."""
        reference = TinyReference()
        plain = reference.fingerprint(reference.build())
        views = open_views(reference, reference.build(), LoRA(rank=2))
        assert reference.fingerprint(views.original) == plain
        with torch.no_grad():
            for parameter in views.network.parameters():
                if parameter.requires_grad:
                    parameter += 1
        assert reference.fingerprint(views.original) == plain
        with torch.no_grad():
            views.network.second.base_layer.bias += 1
        assert reference.fingerprint(views.original) != plain

    def test_does_not_change_with_training_or_device(self):
        reference = TinyReference()
        views = open_views(reference, reference.build())
        before = reference.fingerprint(views.original)
        with torch.no_grad():
            views.network.first.weight += 1
        assert reference.fingerprint(views.original) == before
        if torch.cuda.is_available():
            assert reference.fingerprint(views.original.cuda()) == before


OWN = """
from torch import nn, zeros
from graft_lightning.api import DDIM, GaussianPath, Linear, Process, Reference

SCALE = 1.0

class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(zeros(()))

    def forward(self, x):
        return x * self.scale

class Own(Reference):
    output = "epsilon"
    lora_targets = ("first",)

    def __init__(self, factor: float = 1.0, sampler=None):
        super().__init__(sampler or DDIM(5))
        self.factor, self.network = factor, None

    @property
    def process(self):
        return Process(GaussianPath(Linear()))

    def build(self, pretrained=True):
        self.network = Network()
        return self.network

    def denoise(self, network, x_t, t, condition):
        return SCALE * network(x_t)

    def encode(self, conditions, device):
        return zeros(len(conditions), 0)

    def shape(self, conditions):
        return (2,)

    def draw(self, samples, captions=None):
        return None
"""


def own_fingerprint(tmp_path, text=OWN, **settings):
    """Of a reference of a module with that text."""
    file = tmp_path / f"own_{len(list(tmp_path.iterdir()))}.py"
    file.write_text(text)
    module = {"__name__": "own_reference", "__file__": str(file)}
    exec(compile(text, str(file), "exec"), module)
    reference = module["Own"](**settings)
    return reference.fingerprint(reference.build())


class TestClassOfOnesOwn:
    def test_changes_with_code_and_settings_that_decide_samples(self, tmp_path):
        texts = [
            OWN,
            OWN.replace("SCALE * network", "2 * network"),
            OWN.replace("SCALE = 1.0", "SCALE = 3.0"),
            OWN.replace("x * self.scale", "x + self.scale"),
            OWN.replace("    def draw", "    def decode(self, x_0):\n        return -x_0\n\n    def draw"),
        ]
        found = [own_fingerprint(tmp_path, text) for text in texts] + [own_fingerprint(tmp_path, factor=2.0)]
        assert len({digest_of(one) for one in found}) == len(found)

    def test_does_not_change_with_what_stands_beside_the_samples(self, tmp_path):
        texts = [
            OWN.replace("return None", "return samples"),
            OWN.replace('("first",)', '("second",)'),
            OWN.replace("class Own(Reference):", 'class Own(Reference):\n    """Mine."""  # own'),
            OWN.replace("    def draw", "    def numbers(self, samples):\n        return samples\n\n    def draw"),
        ]
        assert all(own_fingerprint(tmp_path, text) == own_fingerprint(tmp_path) for text in texts)

    def test_does_not_change_with_where_it_is_used_nor_with_what_else_lies_there(self, tmp_path, monkeypatch):
        """Of constants and defaults the statements count, of settings that are folders the names."""
        constants = "from pathlib import Path\n\nHERE, WEIGHTS = Path(__file__).parent, 'data/a.pt'"
        text = OWN.replace("SCALE = 1.0", constants)
        text = text.replace("SCALE * network", "HERE.exists() * network")
        text = text.replace("factor: float = 1.0", "factor: float = 1.0, weights=WEIGHTS, log_dir='out/log'")
        text = text.replace("self.factor, ", "self.weights, self.log_dir = WEIGHTS, log_dir\n        self.factor, ")
        found = []
        for name in ("one", "other", "third"):
            folder = tmp_path / name
            (folder / "data").mkdir(parents=True)
            (folder / "code").mkdir()
            (folder / "code/notes.txt").write_text(name)
            monkeypatch.chdir(folder)
            if name == "other":
                (folder / "data/a.pt").write_text("of somebody else")  # which is a setting here, and counts
            elif name == "third":
                (folder / "out/log").mkdir(parents=True)
                (folder / "out/log/of_a_run.txt").touch()
            found.append(own_fingerprint(folder / "code", text))
        one, other, third = found
        assert one == third
        assert one["code"] == other["code"]
        assert one["settings"]["weights"] != other["settings"]["weights"]

    def test_texts_with_a_slash_are_texts_and_secrets_are_not_told(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        text = OWN.replace("factor: float = 1.0", "template='a/b', token='', place=''")
        text = text.replace(
            "self.factor, ", "self.template, self.token, self.place = template, token, place\n        self.own, "
        )
        text = text.replace("= factor, None", "= 1, None")

        def settings(**given):
            return own_fingerprint(tmp_path, text, **given)["settings"]

        assert settings(template="a/b") != settings(template="c/b")
        assert "def" not in str(settings(token="/abc/def"))
        before = settings(place=f"{tmp_path}/made"), settings(place="made/later")
        (tmp_path / "made/later").mkdir(parents=True)
        (tmp_path / "made/later/of_a_run.txt").touch()
        assert (settings(place=f"{tmp_path}/made"), settings(place="made/later")) == before

    def test_settings_of_a_shipped_base_are_its_own_to_tell(self, tmp_path):
        class Mine(DigitReference):
            def __init__(self, own: float = 1.0, **rest):
                super().__init__(**rest)
                self.own = own

        network = {"width": 16, "depth": 1}
        places = [tmp_path / name / "weights.safetensors" for name in ("one", "other")]
        made = [Mine(weights=str(place), network=network) for place in places]
        assert made[0].fingerprint(net := made[0].build(pretrained=False)) == made[1].fingerprint(net)
        assert made[0].fingerprint(net)["settings"] == {"own": 1.0}
        assert Mine(2.0, network=network).fingerprint(net) != made[0].fingerprint(net)

    def test_does_not_change_with_an_adapter_on_a_network_that_the_reference_keeps(self):
        reference = TinyReference()
        reference.kept = network = reference.build()
        plain = reference.fingerprint(network)
        assert plain["settings"]["kept"]
        open_views(reference, network, LoRA(rank=2))
        assert reference.fingerprint(network) == plain

    def test_a_pool_that_tells_no_code_is_used_again_and_one_that_does_is_refused(self, tmp_path):
        now = TinyReference().fingerprint(TinyReference().build())
        before = {key: value for key, value in now.items() if key not in ("code", "settings")}
        assert now.keys() > before.keys()
        old, new = tmp_path / "old", tmp_path / "new"
        for folder, told in ((old, before), (new, {**now, "code": {}}), (tmp_path / "flow", {"flow": before})):
            TrajectoryPool.create(folder, told, 0)
            (folder / "notes.txt").touch()  # what nothing was drawn into is of who comes next
        TrajectoryPool.create(old, now, 0)
        TrajectoryPool.create(tmp_path / "flow", {"flow": now}, 0)
        TrajectoryPool.create(new, before, 0)  # by the same class, which is installed now and tells none
        with pytest.raises(PoolMismatch, match=r"fingerprint\.code\.tests\.fakes\.TinyReference"):
            TrajectoryPool.create(new, now, 0)
