"""DDPO and Flow-GRPO: gradients against sums over all trajectories and against densities written out by hand."""

import itertools

import pytest
import torch
from torch import nn
from torch.distributions import Normal

from graft_lightning.modules import Graft, PGraft
from graft_lightning.processes.denoiser import predict
from graft_lightning.processes.flow_sde import FlowSDE
from graft_lightning.processes.interleaved import Interleaved
from graft_lightning.processes.noise import Noise
from graft_lightning.processes.paths import CategoricalPath, GaussianPath
from graft_lightning.processes.process import Process
from graft_lightning.processes.samplers import DDIM, DDPM, Heun
from graft_lightning.processes.schedules import Cosine, RectifiedFlow, Trigonometric
from graft_lightning.rejection.objectives import DDPO, FlowGRPO
from graft_lightning.rejection.pool import PoolError
from graft_lightning.rejection.reference import LoRA
from graft_lightning.rejection.walk import Remembered, Walk, walked
from graft_lightning.types import Chains, SettingsError
from tests.fakes import ModuleDenoiser, Recorder, TinyReference
from tests.rejection.test_rival_objectives import NAN, REWARDS, selection_of


def chains_of(x, weight, step, rewards=None):
    count = len(weight)
    rewards = torch.zeros(count) if rewards is None else rewards
    return Chains(x, ["left"] * count, torch.arange(count), weight, rewards, 1, step)


# ---- advantages


def test_ddpo_looks_at_the_round_until_a_condition_has_enough_rewards():
    finite = REWARDS[REWARDS.isfinite()].double()
    found = DDPO(least=7).weights(selection_of())
    expected = (REWARDS.double() - finite.mean()) / (finite.std(unbiased=False) + 1e-6)
    torch.testing.assert_close(found, torch.where(REWARDS.isfinite(), expected, 0.0))
    own = DDPO(least=6).weights(selection_of())  # the first condition has 5 rewards, the others 6
    torch.testing.assert_close(own[0], found[0])
    row = REWARDS[1].double()
    torch.testing.assert_close(own[1], (row - row.mean()) / (row.std(unbiased=False) + 1e-6))
    assert (own[2] == 0).all()
    assert (DDPO().weights(selection_of(torch.tensor([[0.0] * 99 + [1.0]]))).max(), own[0, 1]) == (5, 0)


def test_ddpo_remembers_the_last_rewards_of_earlier_rounds():
    earlier = torch.tensor([[9.0, 9.0, NAN, 1.0, 2.0]] * 3)
    found = DDPO(buffer=8, least=3).weights_after(selection_of(), earlier)
    known = torch.cat([torch.tensor([1.0, 2.0]).double(), REWARDS[1].double()])
    torch.testing.assert_close(found[1], (REWARDS[1].double() - known.mean()) / (known.std(unbiased=False) + 1e-6))
    assert found[2, 0] < 0  # alike in this round, worse than those before
    assert not DDPO.within_conditions


def test_flow_grpo_normalises_by_the_group_alone():
    found = FlowGRPO().weights(selection_of())
    row = REWARDS[1].double()
    torch.testing.assert_close(found[1], (row - row.mean()) / (row.std(unbiased=False) + 1e-4))
    assert found[0, 1] == 0
    assert found.sum(1).abs().max() < 1e-6
    assert (found[2] == 0).all()
    nothing = torch.full((1, 3), NAN)
    assert (FlowGRPO().weights(selection_of(torch.cat([REWARDS[:, :3], nothing])))[3] == 0).all()


# ---- the gradient


class Table(nn.Module):
    """Logits by level and class, of one element."""

    def __init__(self, levels, classes):
        super().__init__()
        self.levels = levels
        self.logits = nn.Parameter(torch.randn(len(levels), classes, classes, dtype=torch.float64))

    def forward(self, x, t, condition):
        return self.logits[self.levels.index(float(t[0]))][x]


def test_ddpo_follows_the_gradient_of_the_expected_reward():
    """A chain of classes, all of whose trajectories are summed over: E[A grad log p] = grad E[r], A = r."""
    torch.manual_seed(0)
    classes, sampler = 3, DDPM(3)
    process = Process(CategoricalPath(Trigonometric(), classes))
    path, levels = process.paths["x"], sampler.levels(process)
    table = Table(levels, classes)
    model = ModuleDenoiser(table, "logits")
    reward = torch.tensor([0.3, -1.0, 2.0]).double()
    every = torch.tensor(list(itertools.product(range(classes), repeat=4)))  # x_0 .. x_3
    states = {t: every[:, n : n + 1] for n, t in enumerate(levels)}
    likelihood = torch.full((len(every),), 1 / classes).double()  # of the noise that it begins with
    for n in (1, 2, 3):
        answer = path.predict(
            table(states[levels[n]], torch.tensor([levels[n]], dtype=torch.float64), None), None, levels[n], "logits"
        )
        low, high = (torch.tensor([t], dtype=torch.float64) for t in (levels[n - 1], levels[n]))
        chances = path.posterior(states[levels[n]], answer.probabilities, low, high)[:, 0]
        likelihood = likelihood * chances.gather(1, states[levels[n - 1]])[:, 0]
    assert float(likelihood.sum()) == pytest.approx(1)
    (expected,) = torch.autograd.grad((likelihood * reward[every[:, 0]]).sum(), [table.logits])
    walk = Walk(torch.arange(len(every)), None, levels, states, model)
    found = torch.zeros_like(table.logits)
    for step in DDPO().trained_steps(sampler, process):
        chains = chains_of(states[0.0], reward[every[:, 0]].float(), step)
        loss = DDPO().step_loss(model, model, sampler, process, walk, chains).value
        found += torch.autograd.grad((likelihood.detach() * loss).sum(), [table.logits])[0]
    torch.testing.assert_close(found, -expected, atol=1e-6, rtol=1e-5)
    assert expected.abs().max() > 1e-2


@pytest.mark.parametrize("objective", [DDPO(), FlowGRPO(kl=0.0)], ids=lambda o: o.method)
@pytest.mark.parametrize(
    "reference",
    [
        TinyReference(DDPM(6)),
        TinyReference(DDIM(6, eta=0.5), guidance_scale=2.0),
        TinyReference(FlowSDE(6), GaussianPath(RectifiedFlow()), "flow"),
    ],
    ids=["ancestral", "guided", "flow"],
)
def test_at_the_model_that_drew_the_ratio_is_one_and_the_gradient_reinforces(objective, reference):
    """-A grad log N(x_next; mean, std) over the dimensions, the density by torch."""
    module = Graft(reference=reference, objective=objective)
    module.configure_model()
    views, process, sampler, weight = module.views, reference.process, reference.sampler, torch.randn(5)
    conditions, seeds = ["left", "right", "left", "right", "left"], torch.arange(5)
    condition = reference.encode(conditions, "cpu")
    ends = sampler.sample(views.frozen, process, condition, Noise(seeds), (2,)).x_0
    walk = walked(reference, views.frozen, conditions, seeds, ends, True)
    trained = [p for p in views.network.parameters() if p.requires_grad]
    for step in module.policy_steps():
        chains = Chains(ends, conditions, seeds, weight, torch.zeros(5), 1, step)
        total, loss = module.loss_of(chains)
        torch.testing.assert_close(loss.value, -weight, atol=1e-5, rtol=0)
        assert (loss.t == walk.levels[step]).all()
        found = torch.autograd.grad(total, trained)

        def model(x, t):
            return predict(views.trainable, process, x, t, condition)

        law = sampler.transitions(
            process, model, walk.before(step), walk.after(step), walk.levels[step], walk.levels[step - 1]
        )["x"]
        by_hand = -(weight * Normal(law.mean, law.std).log_prob(walk.after(step)["x"]).mean(1)).mean()
        for one, two in zip(found, torch.autograd.grad(by_hand, trained), strict=True):
            torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-4)
    assert all(p.grad is None for p in views.original.parameters())


class Shift(nn.Module):
    """Predicts x_t / 2 plus a number for each sample."""

    def __init__(self, shift):
        super().__init__()
        self.shift = nn.Parameter(shift)

    def forward(self, x, t, condition):
        return x / 2 + self.shift[:, None]


def shifted(objective, weight, shift, start=None, count=4):
    """Losses, gradients by sample and log-ratios where the trained model has moved from the one that drew."""
    process, sampler = Process(GaussianPath(Trigonometric())), DDPM(5)
    zero = torch.zeros(count) if start is None else start
    drew, ours = ModuleDenoiser(Shift(zero), "sample"), Shift(shift.clone())
    trajectory = sampler.sample(drew, process, None, Noise(torch.arange(count)), (3,), keep=sampler.levels(process))
    walk = Walk(torch.arange(count), None, sampler.levels(process), trajectory.states, Remembered(drew))
    reference = ModuleDenoiser(Shift(torch.zeros(count)), "sample")
    chains = chains_of(trajectory.x_0, weight, 3)
    loss = objective.step_loss(ModuleDenoiser(ours, "sample"), reference, sampler, process, walk, chains).value
    (gradient,) = torch.autograd.grad(loss.sum(), [ours.shift])
    (alpha_s, sigma_s), (alpha_t, sigma_t) = (process.schedule.at(walk.levels[n]) for n in (2, 3))
    std = (sigma_t**2 - (alpha_t / alpha_s) ** 2 * sigma_s**2) ** 0.5 * sigma_s / sigma_t
    direction = (sigma_s**2 - std**2) ** 0.5
    slope = alpha_s - direction * alpha_t / sigma_t  # of the step's mean in the predicted x_0
    x, x_next = walk.before(3)["x"], walk.after(3)["x"]
    means = [slope * (x / 2 + by[:, None]) + direction * x / sigma_t for by in (shift, zero)]
    logs = [Normal(mean, std).log_prob(x_next).mean(1) for mean in means]
    return loss.detach(), gradient, (logs[0] - logs[1]).exp(), slope, std


def test_the_ratio_is_that_of_the_densities_and_clipping_stops_the_gradient_that_would_go_on():
    weight = torch.tensor([1.0, -1.0, 1.0, -1.0])
    for sign in (1.0, -1.0):
        loss, gradient, ratio, _, _ = shifted(DDPO(clip=0.005), weight, sign * torch.full((4,), 0.2))
        assert (ratio - 1).abs().min() > 0.005
        expected = torch.maximum(-weight * ratio, -weight * ratio.clamp(0.995, 1.005))
        torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)
        gone_far = ((weight > 0) & (ratio > 1.005)) | ((weight < 0) & (ratio < 0.995))
        assert torch.equal(gradient == 0, gone_far)
    unclipped, gradient, ratio, _, _ = shifted(DDPO(clip=float("inf")), weight, torch.full((4,), 0.2))
    torch.testing.assert_close(unclipped, -weight * ratio, atol=1e-5, rtol=1e-5)
    assert (gradient != 0).all()


def test_the_divergence_is_that_of_gaussians_and_nothing_at_the_reference():
    shift = torch.tensor([0.3, -0.2, 0.0, 1.0])
    loss, gradient, _, slope, std = shifted(FlowGRPO(kl=0.5), torch.zeros(4), shift, start=shift)
    torch.testing.assert_close(loss, 0.5 * (slope * shift).square() / (2 * std**2), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(gradient, 0.5 * slope**2 * shift / std**2, atol=1e-6, rtol=1e-5)
    assert FlowGRPO(kl=0.5).asks_reference
    assert not DDPO().asks_reference


def test_what_could_not_be_judged_teaches_nothing():
    process, sampler = Process(GaussianPath(Trigonometric())), DDPM(5)
    model, levels = Shift(torch.zeros(2)), DDPM(5).levels(process)
    walk = Walk(torch.arange(2), None, levels, {t: torch.randn(2, 3) for t in levels}, ModuleDenoiser(model, "sample"))
    chains = chains_of(torch.randn(2, 3), torch.ones(2), 3, torch.tensor([NAN, 0.1]))
    loss = FlowGRPO().step_loss(*[ModuleDenoiser(model, "sample")] * 2, sampler, process, walk, chains).value
    assert loss.tolist() == [0, -1]


class Both(nn.Module):
    """A number and a class, each of which has its own weights."""

    def __init__(self):
        super().__init__()
        self.of_y = nn.Parameter(torch.tensor(0.3))
        self.of_c = nn.Parameter(torch.randn(4))

    def forward(self, x, t, condition):
        return {"y": self.of_y * x["y"], "c": self.of_c.expand(*x["c"].shape, 4)}


@pytest.mark.parametrize("sampler", [DDPM(5), Interleaved(5)], ids=["together", "interleaved"])
def test_a_mixed_state_has_a_ratio_and_a_clip_for_each_block(sampler):
    torch.manual_seed(0)
    process = Process({"y": GaussianPath(Cosine()), "c": CategoricalPath(Cosine(), 4, "absorbing")})
    drew, ours = Both(), Both()
    output, weight = {"y": "sample", "c": "logits"}, torch.tensor([1.0, -2.0, 0.5])
    drawn = sampler.sample(
        ModuleDenoiser(drew, output),
        process,
        None,
        Noise(torch.arange(3)),
        {"y": (2,), "c": (5,)},
        sampler.levels(process),
    )
    walk = Walk(torch.arange(3), None, sampler.levels(process), drawn.states, ModuleDenoiser(drew, output))

    def loss_of(objective, step):
        return objective.step_loss(
            *[ModuleDenoiser(ours, output)] * 2, sampler, process, walk, chains_of(drawn.x_0, weight, step)
        ).value

    def laws(module, step):
        model = ModuleDenoiser(module, output)
        return sampler.transitions(
            process,
            lambda x, t: predict(model, process, x, t, None),
            walk.before(step),
            walk.after(step),
            walk.levels[step],
            walk.levels[step - 1],
        )

    both = [laws(module, 3) for module in (ours, drew)]
    ratios = {
        name: ((both[0][name].log_density(x) - both[1][name].log_density(x)) / {"y": 2, "c": 5}[name]).exp()
        for name, x in walk.after(3).items()
    }
    free = loss_of(DDPO(clip=float("inf")), 3)
    torch.testing.assert_close(free, (-weight * (ratios["y"] + ratios["c"])).float(), atol=1e-5, rtol=1e-4)
    clipped = loss_of(DDPO(clip={"y": float("inf"), "c": 1e-3}), 3)
    bound = torch.maximum(-weight * ratios["c"], -weight * ratios["c"].clamp(0.999, 1.001))
    torch.testing.assert_close(clipped, (-weight * ratios["y"] + bound).float(), atol=1e-5, rtol=1e-4)
    # the step to the data draws no number: its classes alone are trained
    grads = torch.autograd.grad(loss_of(DDPO(), 1).sum(), [ours.of_y, ours.of_c], allow_unused=True)
    assert grads[0] is None or grads[0] == 0
    assert grads[1].abs().max() > 0
    with pytest.raises(ValueError, match=r"clip names \['y'\]; the fields are \['c', 'y'\]"):
        DDPO(clip={"y": 0.1}).check(process)


# ---- walks


def test_a_walk_asks_the_model_that_drew_once_a_step_and_ends_where_it_ended():
    reference = TinyReference(DDPM(6))
    module = Graft(reference=reference, objective=DDPO())
    module.configure_model()
    recorder = Recorder(module.views.frozen)
    condition, seeds = reference.encode(["left"] * 3, "cpu"), torch.arange(3)
    ends = reference.sampler.sample(module.views.frozen, reference.process, condition, Noise(seeds), (2,)).x_0
    walk = walked(reference, recorder, ["left"] * 3, seeds, ends)
    assert torch.equal(walk.states[0.0], ends)
    for step in module.policy_steps():
        DDPO().step_loss(
            module.views.trainable,
            None,
            reference.sampler,
            reference.process,
            walk,
            chains_of(ends, torch.ones(3), step),
        )
    assert len(recorder.levels) == 6
    with pytest.raises(PoolError, match=r"1 of 3 trajectories end elsewhere.*imported"):
        walked(reference, recorder, ["left"] * 3, seeds, ends * torch.tensor([[1.0], [1.5], [1.0]]))


# ---- modules


def test_samplers_without_a_density_are_refused_in_words():
    for sampler in (DDIM(8), Heun(8)):
        module = Graft(reference=TinyReference(sampler), objective=DDPO())
        with pytest.raises(SettingsError, match=r"model.objective=DDPO: .*draws nothing.*choose DDPM"):
            module.setup("fit")
    with pytest.raises(SettingsError, match="guidance=absorbed"):
        Graft(reference=TinyReference(DDPM(8), guidance_scale=2.0), guidance="absorbed", objective=DDPO())
    with pytest.raises(ValueError, match="share=0"):
        DDPO(share=0.0)


@pytest.mark.parametrize(
    ("settings", "steps", "method"),
    [
        ({"handoff": 0.0}, [2, 3, 4, 5, 6, 7, 8], "ddpo"),
        ({"handoff": 0.5}, [5, 6, 7, 8], "pddpo@0.5"),
        ({"handoff": 0.5, "states": "x_0"}, [5, 6, 7, 8], "pddpo@0.5"),
        ({"handoff": 0.5, "reverse": True}, [2, 3, 4], "rpddpo@0.5"),
    ],
)
def test_a_hand_off_leaves_the_steps_of_its_own_model(settings, steps, method):
    module = PGraft(reference=TinyReference(DDPM(8)), objective=DDPO(), **settings)
    assert (module.policy_steps(), module.method, module.training_state) == (steps, method, "x_0")
    (stage,) = module.stages()
    assert stage.beside_training == -(-8 // len(steps))


@pytest.mark.parametrize("lora", [None, LoRA(rank=2)], ids=["full", "lora"])
@pytest.mark.parametrize("handoff", [0.0, 0.5])
def test_later_rounds_are_walked_by_the_weights_that_drew_them(lora, handoff):
    """Dropout and all: the ratio is 1 before a step is taken, and another number after it."""
    reference = TinyReference(DDPM(8), dropout=0.5)
    module = PGraft(reference=reference, handoff=handoff, objective=DDPO(clip=float("inf")), lora=lora)
    module.configure_model()
    trained = [p for p in module.network.parameters() if p.requires_grad]
    torch.manual_seed(1)
    with torch.no_grad():
        for p in trained:
            p.add_(0.3 * torch.randn_like(p))
    seeds, condition = torch.arange(4), reference.encode(["left"] * 4, "cpu")
    module.eval()
    ends = reference.sampler.sample(module.sampling_denoiser(), reference.process, condition, Noise(seeds), (2,)).x_0
    module.drawn_again()
    module.train()
    chains = chains_of(ends, torch.ones(4), module.policy_steps()[-1])
    assert module.loss_of(chains)[1].value.tolist() == pytest.approx([-1.0] * 4, abs=1e-5)
    with torch.no_grad():
        for p in trained:
            p.add_(0.1 * torch.randn_like(p))
    assert (module.loss_of(chains)[1].value + 1).abs().min() > 1e-4
