import subprocess
import sys

import pytest
import torch

from graft_lightning.modules import Graft, PGraft, Pretrain, graft
from graft_lightning.processes.noise import Noise
from graft_lightning.processes.paths import GaussianPath
from graft_lightning.processes.samplers import DDIM, Heun
from graft_lightning.processes.schedules import RectifiedFlow
from graft_lightning.rejection.reference import LoRA
from graft_lightning.types import SettingsError
from tests.fakes import Recorder, TinyReference
from tests.runs import assert_same_weights, launch, tiny_config

STEPS = 8


def module_at(handoff: float, **settings) -> PGraft:
    torch.manual_seed(0)
    return PGraft(reference=TinyReference(DDIM(STEPS, eta=1.0)), handoff=handoff, **settings)


@pytest.mark.parametrize(
    ("settings", "method", "state", "loss_range"),
    [
        ({"handoff": 0.0}, "graft", "x_0", (0.0, 0.0, None)),
        ({"handoff": 0.25}, "pgraft@0.25", 2, (0.25, 0.25, None)),
        ({"handoff": 0.25, "states": "x_0"}, "pgraft@0.25", "x_0", (0.0, 0.25, None)),
        ({"handoff": 0.75, "reverse": True}, "rpgraft@0.75", "x_0", (0.0, 0.0, 0.75)),
        ({"handoff": 0.05}, "graft", "x_0", (0.0, 0.0, None)),  # nearest to state 0 of 8
    ],
)
def test_what_is_trained_on_and_where(settings, method, state, loss_range):
    module = module_at(**settings)
    assert (module.method, module.training_state) == (method, state)
    low, start, high = module.loss_range()
    t_max = module.reference.process.t_max
    assert (low, start, high) == pytest.approx([part if part is None else part * t_max for part in loss_range])


def test_graft_is_p_graft_at_the_data():
    plain, p_graft = Graft(reference=TinyReference()), module_at(0.0)
    assert (plain.method, plain.training_state, plain.loss_range()) == (
        p_graft.method,
        p_graft.training_state,
        p_graft.loss_range(),
    )


ODE, DRAWN = DDIM(STEPS, eta=0.0), DDIM(STEPS, eta=1.0)
WARNED = {
    "x_0 under an ODE": ({"sampler": ODE, "handoff": 0.25, "states": "x_0"}, True),
    "x_0 under a flow's ODE": (
        {"sampler": Heun(STEPS), "path": GaussianPath(RectifiedFlow()), "handoff": 0.75, "states": "x_0"},
        True,
    ),
    "x_s under an ODE": ({"sampler": ODE, "handoff": 0.25}, False),
    "x_0 with noise": ({"sampler": DRAWN, "handoff": 0.25, "states": "x_0"}, False),
    "a little noise": ({"sampler": DDIM(STEPS, eta=0.1), "handoff": 0.25, "states": "x_0"}, False),
    "GRAFT, where x_0 is x_s": ({"sampler": ODE, "handoff": 0.0, "states": "x_0"}, False),
    "nearest to GRAFT": ({"sampler": ODE, "handoff": 0.05, "states": "x_0"}, False),
    "the reverse, whose levels lie below s": (
        {"sampler": ODE, "handoff": 0.5, "states": "x_0", "reverse": True},
        False,
    ),
}


@pytest.mark.parametrize(("settings", "warned"), WARNED.values(), ids=WARNED)
def test_states_x_0_under_an_ode_are_warned_of(settings, warned, monkeypatch):
    said = []
    monkeypatch.setattr(graft.log, "warning", lambda message, *values: said.append(message % values))
    settings = dict(settings)
    reference = TinyReference(settings.pop("sampler"), settings.pop("path", None))
    module = PGraft(reference=reference, **settings)
    for stage in ("validate", "test", "predict"):
        module.setup(stage)
    assert not said
    module.setup("fit")
    assert len(said) == warned
    if warned:
        words = ["model.states=x_0", f"model.handoff={module.handoff:g}", type(reference.sampler).__name__]
        words += [".96 / .76 / .34", "t = .25 / .5 / .75", "model.states=x_s"]
        assert all(word in said[0] for word in words), said


def test_the_warning_is_given_by_a_run(tmp_path, capfd):
    sampler = {"class_path": "graft_lightning.processes.samplers.DDIM", "init_args": {"steps": 8, "eta": 0.0}}
    changes = {"model.reference.sampler": sampler, "model.states": "x_0", "trainer.max_steps": 1}
    launch("fit", tmp_path, changes)
    assert capfd.readouterr().err.count(".96 / .76 / .34") == 1


def test_constructors_build_no_network():
    for module in (module_at(0.25), Pretrain(reference=TinyReference())):
        assert not list(module.parameters())
        with pytest.raises(RuntimeError, match="configure_model"):
            module.opened()


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("n", [0, 2, 6])
def test_the_fine_tuned_model_makes_exactly_the_steps_that_are_its_own(n, reverse):
    if reverse and n == 0:
        pytest.skip("RP-GRAFT at 0 trains nothing")
    module = module_at(n / STEPS, reverse=reverse)
    module.configure_model()
    stitched = module.sampling_denoiser()
    stitched.above, stitched.below = Recorder(stitched.above), Recorder(stitched.below)
    reference = module.reference
    condition = reference.encode(["left"] * 3, "cpu")
    reference.sampler.sample(stitched, reference.process, condition, Noise(torch.arange(3)), (2,))
    levels = reference.sampler.levels(reference.process)
    fine_tuned, kept = (stitched.below, stitched.above) if reverse else (stitched.above, stitched.below)
    assert fine_tuned.inner is module.opened().trainable
    assert kept.inner is module.opened().frozen
    assert stitched.above.levels == levels[:n:-1]
    assert stitched.below.levels == levels[n:0:-1]


@pytest.mark.parametrize("lora", [None, LoRA(rank=2)], ids=["full", "adapters"])
def test_an_untrained_module_samples_as_the_reference_and_a_changed_one_only_above_the_handoff(lora):
    module = module_at(0.5, lora=lora)
    module.configure_model()
    reference, frozen = module.reference, module.opened().frozen

    def sample(denoiser):
        condition = reference.encode(["left", "right"], "cpu")
        keep = [reference.sampler.levels(reference.process)[4]]
        return reference.sampler.sample(denoiser, reference.process, condition, Noise(torch.arange(2)), (2,), keep)

    before = sample(frozen)
    torch.testing.assert_close(sample(module.sampling_denoiser()).x_0, before.x_0, rtol=0, atol=0)
    for parameter in module.network.parameters():
        if parameter.requires_grad:
            parameter.data += 0.3
    after = sample(module.sampling_denoiser())
    torch.testing.assert_close(sample(frozen).x_0, before.x_0, rtol=0, atol=0)
    (handed_over,) = after.states.values()
    assert not torch.allclose(handed_over, *before.states.values(), atol=1e-3)
    condition = reference.encode(["left", "right"], "cpu")
    level = reference.sampler.levels(reference.process)[4]
    fresh = [
        reference.sampler.resume(d, reference.process, condition, Noise(torch.arange(2)), handed_over, level).x_0
        for d in (frozen, module.sampling_denoiser())
    ]
    torch.testing.assert_close(*fresh, rtol=0, atol=0)


def test_only_the_trained_network_is_part_of_the_module():
    full, adapters = module_at(0.25), module_at(0.25, lora=LoRA(rank=2))
    for module in (full, adapters):
        module.configure_model()
        network = module.network
        module.configure_model()
        assert module.network is network
        assert all(name.startswith("network.") for name, _ in module.named_parameters())
    assert all(p.requires_grad for p in full.parameters())
    assert full.opened().original is not full.network
    assert not any(p.requires_grad for p in full.opened().original.parameters())
    trained = {name for name, p in adapters.named_parameters() if p.requires_grad}
    assert trained
    assert all("lora_" in name for name in trained)


def test_the_frozen_copy_follows_the_module():
    module = module_at(0.25)
    module.configure_model()
    module.double()
    assert {p.dtype for p in module.opened().original.parameters()} == {torch.float64}


def test_a_checkpoint_of_adapters_holds_nothing_else(tmp_path):
    cli = launch("fit", tmp_path, {"model.lora": {"rank": 2}, "trainer.max_steps": 2})
    checkpoint = torch.load(tmp_path / "run/checkpoints/last.ckpt")
    trained = {f"network.{name}" for name, p in cli.model.network.named_parameters() if p.requires_grad}
    assert trained
    assert checkpoint["state_dict"].keys() == trained
    assert checkpoint["handoff_level"] == pytest.approx(0.25 * cli.model.reference.process.t_max)
    loaded = PGraft.load_from_checkpoint(tmp_path / "run/checkpoints/last.ckpt")
    assert_same_weights(loaded.network.state_dict(), cli.model.network.state_dict())


@pytest.mark.parametrize(("trained", "loaded"), [(4.0, None), (None, 4.0), (16.0, 4.0)])
def test_adapters_of_another_strength_are_refused(trained, loaded):
    module, other = (module_at(0.25, lora=LoRA(rank=16, alpha=alpha)) for alpha in (trained, loaded))
    for one in (module, other):
        one.configure_model()
    checkpoint = {"state_dict": module.state_dict(), "global_step": 3}
    module.on_save_checkpoint(checkpoint)
    module.on_load_checkpoint(dict(checkpoint))
    module_at_same = module_at(0.25, lora=LoRA(rank=16, alpha=trained or 16.0))
    module_at_same.configure_model()
    module_at_same.on_load_checkpoint(dict(checkpoint))
    with pytest.raises(SettingsError, match=f"trained at alpha={trained or 16:g}, .*set model.lora.alpha to"):
        other.on_load_checkpoint(dict(checkpoint))


def test_a_module_made_in_python_can_be_saved_and_loaded(tmp_path):
    import lightning as L

    from graft_lightning.domains.digits import DigitReference
    from tests.runs import NETWORK, tiny_reference

    reference = DigitReference(weights=str(tiny_reference(tmp_path / "w.safetensors")), network=NETWORK)
    module = PGraft(reference=reference, handoff=0.25)
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.strategy.connect(module)
    module.configure_model()
    for parameter in module.parameters():
        parameter.data += 0.1
    trainer.save_checkpoint(tmp_path / "made.ckpt")
    loaded = PGraft.load_from_checkpoint(tmp_path / "made.ckpt", reference=reference, handoff=0.25)
    assert_same_weights(loaded.network.state_dict(), module.network.state_dict())
    with pytest.raises(SettingsError, match=r"t=250.*handoff=0\.5"):
        PGraft.load_from_checkpoint(tmp_path / "made.ckpt", reference=reference, handoff=0.5)


FRESH = """
import sys, torch
torch.set_num_threads(1)
from graft_lightning.modules import Graft, PGraft, Pretrain
from graft_lightning.identity import digest
from graft_lightning.processes.noise import Noise
from graft_lightning.types import Draws
for name, path in zip(sys.argv[1::2], sys.argv[2::2]):
    module = {"Graft": Graft, "PGraft": PGraft, "Pretrain": Pretrain}[name].load_from_checkpoint(path)
    draws = Draws(["two ones"], torch.tensor([0]), torch.tensor([5]))
    with torch.no_grad():
        print(name, module.method, module.trained_steps, digest(module.network.state_dict().values()),
              f"{float(module.sample(draws).mean()):.5f}")
"""


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_every_module_is_loaded_from_its_checkpoint_in_a_fresh_process(tmp_path):
    from graft_lightning.identity import digest
    from graft_lightning.types import Draws

    expected, arguments = [], []
    short = {"trainer.max_steps": 2, "trainer.limit_val_batches": 0, "evaluate.baseline": False}
    for name, changes in (
        ("PGraft", {"model.handoff": 0.5, "model.states": "x_0"}),
        ("Graft", {"model.handoff": ...}),
        ("Pretrain", {"model.handoff": ..., "collect.reward": None}),
    ):
        config = tiny_config(tmp_path, {**short, **changes, "trainer.logger.name": name})
        config["model"]["class_path"] = name
        if name == "Pretrain":
            examples = {"class_path": "CaptionedDigits"}
            config["data"] = {"class_path": "PretrainingExamples", "init_args": {"examples": examples, "batch_size": 4}}
        module = launch("fit", tmp_path, config=config).model
        arguments += [name, str(tmp_path / name / "checkpoints/last.ckpt")]
        draws = Draws(["two ones"], torch.tensor([0]), torch.tensor([5]))
        module.eval()
        with torch.no_grad():
            mean = float(module.sample(draws).mean())
        weights = digest(module.network.state_dict().values())
        expected.append(f"{name} {module.method} 2 {weights} {mean:.5f}")
    fresh = subprocess.run([sys.executable, "-c", FRESH, *arguments], capture_output=True, text=True, check=True)
    assert fresh.stdout.split("\n")[:-1] == expected
