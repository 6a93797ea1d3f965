"""Fingerprints: they change with what decides a distribution, and with nothing else."""

import functools
from pathlib import Path

import torch
from torch import nn

from graft_lightning.identity import describe, digest
from graft_lightning.processes.grids import Leading, Uniform
from graft_lightning.processes.paths import CategoricalPath, GaussianPath
from graft_lightning.processes.process import Process
from graft_lightning.processes.samplers import DDIM, DDPM
from graft_lightning.processes.schedules import Cosine, FromTable, Linear, RectifiedFlow
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
