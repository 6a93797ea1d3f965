"""In the steady state neither a step of sampling nor one of training waits for the device."""

import pytest
import torch

from graft_lightning.processes.denoiser import Denoiser, Guided
from graft_lightning.processes.interleaved import Interleaved
from graft_lightning.processes.objectives import Objective
from graft_lightning.processes.paths import CategoricalPath, CentredGaussianPath, GaussianPath
from graft_lightning.processes.process import Process
from graft_lightning.processes.samplers import DDIM, DDPM, Euler, Heun
from graft_lightning.processes.schedules import Cosine, RectifiedFlow, Trigonometric
from graft_lightning.processes.stitched import Stitched
from graft_lightning.processes.times import LogitNormalTime, VisitedLevels
from graft_lightning.processes.velocity import EulerInTime
from graft_lightning.processes.weightings import CappedInverseAlpha, MinSNR, OwnOutput, Unit
from tests.readbacks import ReadBacks, Supplied

COUNT, POINTS, CLASSES = 4, 3, 5
DEVICES = ["cpu", "meta"]
MIXED = {"y": CentredGaussianPath(Cosine()), "c": CategoricalPath(Cosine(), CLASSES, "absorbing")}
PROCESSES = {
    "table": Process(GaussianPath(Cosine())),
    "flow": Process(GaussianPath(RectifiedFlow())),
    "trigonometric": Process(GaussianPath(Trigonometric())),
    "logit-normal": Process(GaussianPath(RectifiedFlow()), LogitNormalTime()),
    "categorical": Process(CategoricalPath(Cosine(), CLASSES)),
    "mixed": Process(MIXED),
    "one by one": Process(MIXED, VisitedLevels(Interleaved(4).training_levels(Process(MIXED)))),
}
OUTPUTS = {"table": "v_prediction", "flow": "flow", "trigonometric": "v_prediction", "logit-normal": "flow"}


class Free(Denoiser):
    """A network that costs nothing: one weight."""

    def __init__(self, name, device, output=None):
        self.output = output or OUTPUTS.get(name, "logits")
        if name in ("mixed", "one by one"):
            self.output = {"y": "epsilon", "c": "logits"}
        self.weight = torch.ones(1, device=device, requires_grad=True)
        self.logits = torch.zeros(CLASSES, device=device, requires_grad=True)

    def __call__(self, x_t, t, condition):
        if isinstance(x_t, dict):
            return {"y": x_t["y"] * self.weight, "c": self.logits.expand(*x_t["c"].shape, -1)}
        return self.logits.expand(*x_t.shape, -1) if self.output == "logits" else x_t * self.weight


def shapes(name):
    if name in ("mixed", "one by one"):
        return {"y": (POINTS, 2), "c": (POINTS,)}
    return (POINTS,) if name == "categorical" else (POINTS, 2)


def mask(name, device):
    if name not in ("mixed", "one by one"):
        return None
    return {"mask": torch.tensor([[True] * POINTS] * COUNT).to(device)}


def counted(step):
    """What a step does once the caches are filled."""
    step()
    with ReadBacks() as mode:
        step()
    return dict(mode.found)


def sampling(name, sampler, denoiser, device):
    process = PROCESSES[name]
    level = sampler.levels(process)[2]
    condition = torch.zeros(COUNT, 1, device=device)
    along = mask(name, device)
    return lambda: sampler.sample(
        denoiser, process, condition, Supplied(COUNT, device), shapes(name), keep=[level], static=along
    )


CONTINUOUS = [DDPM(4), DDIM(4, 0.5), Euler(4), Heun(4), DDIM(4, clip_sample=1.0)]
SAMPLED = [(name, sampler) for name in ("table", "flow", "trigonometric") for sampler in CONTINUOUS]
SAMPLED += [(name, EulerInTime(4)) for name in ("flow", "trigonometric")]
SAMPLED += [(name, sampler) for name in ("mixed", "one by one") for sampler in (DDPM(4), DDIM(4, clip_sample=1.0))]
SAMPLED += [("categorical", DDPM(4)), ("one by one", Interleaved(4))]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("name", "sampler"), SAMPLED, ids=lambda value: getattr(value, "__class__", value).__name__)
def test_sampling_waits_for_nothing(name, sampler, device):
    assert counted(sampling(name, sampler, Free(name, device), device)) == {}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("joint", [True, False])
@pytest.mark.parametrize("name", ["table", "flow", "one by one"])
def test_a_guided_and_stitched_model_waits_for_nothing(name, joint, device):
    sampler = Interleaved(4) if name == "one by one" else DDPM(4)
    handoff = sampler.levels(PROCESSES[name])[2]
    null = torch.zeros(1, 1, device=device)
    guided = [Guided(Free(name, device), Free(name, device), 2.0, lambda _: null, joint) for _ in range(2)]
    if name == "one by one" and joint:
        guided = [Free(name, device), Free(name, device)]
    assert counted(sampling(name, sampler, Stitched(*guided, handoff), device)) == {}


def training(name, objective, denoiser, device, level=0.0, **between):
    process = PROCESSES[name]
    x = {}
    for field, shape in (shapes(name) if isinstance(shapes(name), dict) else {"x": shapes(name)}).items():
        classes = field == "c" or name == "categorical"
        whole = torch.zeros(COUNT, *shape, dtype=torch.int64) if classes else torch.ones(COUNT, *shape)
        x[field] = whole.to(device)
    state = x["x"] if "x" in x else {**x, **mask(name, device)}

    def step():
        loss = objective.loss(denoiser, process, state, None, Supplied(COUNT, device), level, **between)
        loss.value.mean().backward()

    return step


def halfway(name):
    """A level that training may start at: the states' own, or that below which none is drawn."""
    return round(PROCESSES[name].t_max / 4, 2)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", PROCESSES)
@pytest.mark.parametrize("start", ["x_0", "x_s", "x_0 above s", "below s"])
def test_training_waits_for_nothing(name, start, device):
    s = halfway(name)
    arguments = {
        "x_0": {},
        "x_s": {"level": s},
        "x_0 above s": {"low": s},
        "below s": {"low": 0.0, "high": 3 * s},
    }[start]
    assert counted(training(name, Objective(), Free(name, device), device, **arguments)) == {}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("output", ["epsilon", "sample", "v_prediction", "flow"])
@pytest.mark.parametrize(
    "weighting", [None, Unit(), MinSNR(), CappedInverseAlpha(), OwnOutput()], ids=lambda value: type(value).__name__
)
def test_no_output_and_no_weighting_waits(output, weighting, device):
    denoiser = Free("table", device, output)
    for level in (0.0, halfway("table")):
        assert counted(training("table", Objective(weighting), denoiser, device, level=level)) == {}


@pytest.mark.parametrize("device", DEVICES)
def test_the_head_of_the_class_at_s_waits_for_nothing(device):
    objective = Objective(field_weights={"c": 0.5}, categorical_target="c_s")
    assert counted(training("mixed", objective, Free("mixed", device), device, level=250.0)) == {}


@pytest.mark.parametrize("device", DEVICES)
def test_a_kernel_to_a_level_that_the_host_knows_waits_for_nothing(device):
    x_s = torch.ones(COUNT, 2, device=device)
    process = PROCESSES["table"]
    assert counted(lambda: process.diffuse(x_s, 100.0, 400.0, Supplied(COUNT, device))) == {}


class TestWhatIsCounted:
    """The counter itself: a test that finds nothing must be able to find something."""

    @pytest.mark.parametrize(
        "wait",
        [
            float,
            lambda x: bool((x > 0).all()),
            lambda x: x.sum().item(),
            lambda x: torch.equal(x, x),
            lambda x: x.reshape(1)[x.reshape(1) > 0],
            lambda x: x.reshape(1).nonzero(),
            lambda x: x.to("meta"),
            lambda x: torch.empty((), device="meta").copy_(x),
        ],
        ids=["float", "bool", "item", "equal", "mask", "nonzero", "to", "copy_"],
    )
    def test_every_way_to_wait(self, wait):
        x = torch.tensor(1.0)
        with ReadBacks() as mode:
            wait(x)
        assert sum(mode.found.values()) == 1

    def test_a_change_of_type_is_none(self):
        with ReadBacks() as mode:
            torch.ones(2).double().float().copy_(torch.ones(2))
            torch.ones(2)[torch.tensor([1, 0])]
        assert not mode.found

    @pytest.mark.parametrize("wait", [torch.Tensor.tolist, float, bool])
    def test_the_meta_device_has_nothing_to_read(self, wait):
        with pytest.raises((RuntimeError, NotImplementedError)):
            wait(torch.ones((), device="meta"))


def test_a_fraction_of_t_moves_classes():
    process = Process(CategoricalPath(RectifiedFlow(), CLASSES))
    x_s = torch.zeros(4000, 1, dtype=torch.int64)
    moved = (process.diffuse(x_s, 0.0, 0.5, Supplied(4000, "cpu")) != 0).double().mean()
    assert moved.item() == pytest.approx((1 - 0.5**2) * (1 - 1 / CLASSES), abs=0.03)  # drawn anew, and another


@pytest.mark.parametrize("t", [float("nan"), torch.tensor([0.5, float("nan"), 0.5, 0.5])], ids=["number", "tensor"])
def test_a_level_that_is_none_is_refused(t):
    with pytest.raises(ValueError, match="nan"):
        PROCESSES["flow"].diffuse(torch.ones(COUNT, 2), 0.0, t, Supplied(COUNT, "cpu"))
