"""The bench is run by hand; here only that it still runs."""

from graft_lightning.domains.digits import DigitReference
from graft_lightning.processes.samplers import DDPM
from tests import bench


def test_sampling_is_compared_with_a_bare_loop(monkeypatch):
    for name, value in (("REPEATS", 1), ("SAMPLES", 2), ("STEPS", 8)):
        monkeypatch.setattr(bench, name, value)
    share, bare = bench.sampling(DigitReference(sampler=DDPM(steps=8, clip_sample=1.0)))
    assert share > 0 < bare
