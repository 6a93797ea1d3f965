"""What modules say of themselves, counted by hand and held to what sampling really calls."""

import pytest
import torch

from graft_lightning.domains.digits import DigitFlow
from graft_lightning.modules import GaussianNoise, Graft, NoiseCorrector, PGraft, Pretrain, RealData
from graft_lightning.modules.denoising import DenoisingModule
from graft_lightning.modules.stages import visited
from graft_lightning.processes.samplers import DDIM, Euler, Heun
from graft_lightning.types import Draws
from tests.fakes import CONDITIONS, TinyReference

DRAWS = Draws(CONDITIONS, torch.tensor([0, 0]), torch.tensor([1, 2]))


def counted(module):
    """Evaluations of one sample, as the reference's own `denoise` is called for two."""
    calls, reference = [], module.reference
    original = reference.denoise
    reference.denoise = lambda network, x, t, condition: calls.append(len(x)) or original(network, x, t, condition)
    module.configure_model()
    with torch.no_grad():
        module.sample(DRAWS)
    tuned = sum(calls) / 2
    calls.clear()
    with torch.no_grad():
        module.sample_base(DRAWS)
    return tuned, sum(calls) / 2


@pytest.mark.parametrize("scale", [1.0, 3.0])
@pytest.mark.parametrize("guidance", ["composed", "absorbed"])
@pytest.mark.parametrize("settings", [{}, {"handoff": 0.5}, {"handoff": 0.5, "reverse": True}], ids=str)
@pytest.mark.parametrize("sampler", [DDIM(4), Heun(4)], ids=["ddim", "heun"])
def test_fine_tuning_counts_the_calls_that_sampling_makes(settings, guidance, scale, sampler):
    reference = TinyReference(sampler, guidance_scale=scale)
    module = PGraft(**{"handoff": 0.0} | settings, guidance=guidance, reference=reference)
    (stage,) = module.stages()
    assert (stage.calls, stage.base_calls) == counted(module)
    assert stage.trained
    assert stage.beside_training == (1 if guidance == "composed" and scale != 1 else 0)


def test_by_hand():
    """Heun: two evaluations a step but for the last and the one that ends at the hand-off; guidance doubles them."""
    reference = TinyReference(Heun(4), guidance_scale=3.0)
    assert [n for _, n in visited(reference)] == [2, 2, 2, 1]
    assert [n for _, n in visited(reference, (500.0,))] == [2, 1, 2, 1]
    (stage,) = Graft(reference=reference).stages()
    assert (stage.calls, stage.base_calls) == (14, 14)
    (stage,) = PGraft(handoff=0.5, guidance="absorbed", reference=reference).stages()
    assert stage.calls == 3 + 2 * 3  # above the hand-off the conditional output alone
    (stage,) = Pretrain(reference=reference).stages()
    assert (stage.calls, stage.base_calls, stage.beside_training) == (14, 14, 0)


def test_a_corrected_flow_has_the_corrector_before_the_flow():
    flow, corrector = DigitFlow(sampler=Euler(10)), DigitFlow(sampler=Euler(3), path="trigonometric")
    first, second = NoiseCorrector(flow=flow, reference=corrector).stages()
    assert (first.name, first.calls, first.base_calls, first.trained) == ("corrector", 3, 0, True)
    assert (second.name, second.calls, second.base_calls, second.trained) == ("flow", 10, 10, False)
    (only,) = GaussianNoise(flow=flow).stages()
    assert (only.name, only.calls, only.base_calls, only.trained) == ("flow", 10, 10, False)


def test_what_is_only_sampled_inherits_no_training():
    for module in (GaussianNoise(flow=DigitFlow()), RealData(TinyReference(), examples=None)):
        assert not isinstance(module, DenoisingModule)
        assert not module.trains
        assert module.meta_views() is None
    assert RealData(TinyReference(), examples=None).stages() == []


def test_a_corrector_is_not_guided():
    guided = DigitFlow(sampler=Euler(3), path="trigonometric")
    guided.guidance_scale = 2.0
    with pytest.raises(ValueError, match=r"model\.reference\.guidance_scale=2\.0"):
        NoiseCorrector(flow=DigitFlow(), reference=guided)
