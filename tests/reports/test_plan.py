import re

import pytest
import torch

from graft_lightning.callbacks.round_kl import RoundKL
from graft_lightning.domains.digits import DigitReference
from graft_lightning.modules.sampled import SampledModule
from graft_lightning.modules.stages import Stage, evaluations_of
from graft_lightning.rejection.reference import FrozenDenoiser, Reference, TrainableDenoiser
from graft_lightning.reports.operations import operations
from graft_lightning.reports.units import readable
from tests.runs import NETWORK, PROMPTS, STEPS, Ink, launch, tiny_config


def numbers(text: str) -> dict[str, int]:
    """The first number of the lines that count something."""
    found = {}
    for name in ("collection", "evaluation", "model calls", "reward calls", "gradient steps"):
        match = re.search(rf"^  {name}\s+([\d,]+)", text, re.MULTILINE)
        found[name] = int(match[1].replace(",", "")) if match else 0
    return found


@pytest.fixture
def counted(monkeypatch):
    """Samples through the network in sampling, and rewards given."""
    counts = {"model calls": 0, "reward calls": 0}
    for view in (FrozenDenoiser, TrainableDenoiser):

        def call(self, x_t, t, condition, original=view.__call__):
            import torch

            if not torch.is_grad_enabled():
                counts["model calls"] += len(t)
            return original(self, x_t, t, condition)

        monkeypatch.setattr(view, "__call__", call)

    def reward(self, samples, conditions, original=Ink.__call__):
        counts["reward calls"] += len(conditions)
        return original(self, samples, conditions)

    monkeypatch.setattr(Ink, "__call__", reward)

    def not_counted(self, *models, original=RoundKL._bounds):
        before = dict(counts)
        found = original(self, *models)
        counts.update(before)
        return found

    monkeypatch.setattr(RoundKL, "_bounds", not_counted)
    return counts


HEUN = {"class_path": "graft_lightning.processes.samplers.Heun", "init_args": {"steps": 8}}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"model.reference.guidance_scale": 2.0},
        {"model.reference.guidance_scale": 2.0, "model.handoff": 0.0, "model.guidance": "absorbed"},
        {"model.reference.sampler": HEUN},
        {"model.handoff": 0.0, "model.reference.sampler": HEUN},
        {"collect.rounds": 2},
        {"collect.also": [{"class_path": "tests.runs.Groupwise"}]},
        {"trainer.max_steps": 8},
        {"trainer.accumulate_grad_batches": 2, "model.reference.guidance_scale": 2.0},
        {"trainer.max_steps": -1, "trainer.max_epochs": 3},
        {"evaluate.baseline": False},
        {"trainer.check_val_every_n_epoch": 2},
        {"trainer.limit_val_batches": 0},
        {"data.validation": None},
        {"data.drop_without_signal": False, "collect.draws": 3},
    ],
    ids=lambda changes: " ".join(changes) or "as it is",
)
def test_what_is_planned_is_what_happens(tmp_path, capsys, counted, changes):
    launch("plan", tmp_path, changes, "--measure=false")
    printed = capsys.readouterr().out
    planned = numbers(printed)
    assert ("not counted      what a round has spent of KL" in printed) == ("collect.rounds" in changes)
    assert counted == {"model calls": 0, "reward calls": 0}
    cli = launch("fit", tmp_path, changes)
    assert planned["gradient steps"] == cli.trainer.global_step
    assert planned["model calls"] == counted["model calls"]
    rounds = changes.get("collect.rounds", 1)
    assert planned["collection"] == 4 * cli.trainer.collector.draws * rounds
    pool = sum(path.stat().st_size for path in (tmp_path / "pool").rglob("*.safetensors"))
    assert pool > 0


def test_measuring_changes_nothing_and_gives_a_time(tmp_path, capsys):
    launch("plan", tmp_path)
    printed = capsys.readouterr().out
    assert re.search(r"time\s+about \d", printed)
    assert re.search(r"parameters\s+[\d,]+ in the network, [\d,]+ trained", printed)
    assert re.search(r"activations\s+[\d.]+ [KM]B in a step of 4 examples", printed)
    assert re.search(r"encoded texts\s+[\d.]+ K?B for 4 conditions", printed)
    assert "and rewards, which take theirs" not in printed, "nothing works beside this network"
    assert not (tmp_path / "pool").exists()


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_networks_are_timed_and_their_activations_measured_in_the_precision_of_the_run(
    tmp_path, monkeypatch, precision
):
    asked, own = {False: set(), True: set()}, DigitReference.denoise

    def denoise(reference, network, x_t, *given):
        if not x_t.is_meta:  # where operations are counted
            asked[torch.is_grad_enabled()].add(torch.is_autocast_enabled("cpu"))
        return own(reference, network, x_t, *given)

    monkeypatch.setattr(DigitReference, "denoise", denoise)
    launch("plan", tmp_path, {"trainer.precision": precision})
    assert asked == {training: {precision == "bf16-mixed"} for training in (False, True)}


@pytest.mark.parametrize("changes", [{}, {"collect.keep_as": "float16"}], ids=["as drawn", "in half precision"])
def test_the_disk_that_is_planned_is_what_the_pool_takes(tmp_path, capsys, changes):
    launch("plan", tmp_path, changes, "--measure=false")
    planned = float(re.search(r"disk\s+([\d.]+) KB", capsys.readouterr().out)[1])
    launch("fit", tmp_path, {"trainer.max_steps": 1, **changes})
    taken = sum(path.stat().st_size for path in (tmp_path / "pool").rglob("*.safetensors")) / 1000
    assert planned == pytest.approx(taken, rel=0.1)


def test_what_a_pool_has_already_is_told(tmp_path, capsys):
    def told(changes):
        capsys.readouterr()
        launch("plan", tmp_path, changes, "--measure=false")
        found = re.search(r"in the pool +([\d,]+|cannot be read)", capsys.readouterr().out)
        return found and found[1]

    assert told({}) is None
    launch("collect", tmp_path, {"collect.draws": 8})
    assert told({"collect.draws": 8}) == told({"collect.draws": 12}) == str(8 * len(PROMPTS))
    assert told({"collect.draws": 4}) == str(4 * len(PROMPTS))
    one = {"class_path": "Texts", "init_args": {"values": [PROMPTS[0], "two nines"]}}
    assert told({"collect.draws": 8, "data.conditions": one}) == "8"
    (tmp_path / "pool/manifest.json").write_text("{}")
    assert told({}) == "cannot be read"


def pretraining(folder, **settings):
    """A configuration that pre-trains; the weights that it would continue from are absent."""
    changes = {"model.handoff": ..., "collect.reward": None, "model.reference.weights": str(folder / "absent")}
    config = tiny_config(folder, changes)
    config["model"]["class_path"] = "Pretrain"
    config["model"]["init_args"] |= settings
    config["data"] = {"class_path": "PretrainingExamples", "init_args": {"examples": {"class_path": "CaptionedDigits"}}}
    return config


def test_pretraining_collects_nothing_and_needs_no_weights(tmp_path, capsys):
    launch("plan", tmp_path, config=pretraining(tmp_path))
    printed = capsys.readouterr().out
    assert "collection       none" in printed
    assert numbers(printed)["gradient steps"] == 10
    assert re.search(r"time\s+about \d", printed)
    assert re.search(r"activations\s+[\d.]+ [KM]B in a step", printed)


def test_further_pretraining_without_weights_is_counted(tmp_path, capsys):
    cli = launch("plan", tmp_path, config=pretraining(tmp_path, from_scratch=False))
    printed = capsys.readouterr().out
    weights = sum(p.numel() for p in cli.model.reference.build(pretrained=False).parameters())
    assert f"parameters       {weights:,} in the network, {weights:,} trained" in printed
    assert f"= {4 * weights / 1000:.3g} KB weights (fp32) + {4 * weights / 1000:.3g} KB gradients" in printed
    assert re.search(r"time\s+not measured: .*absent", printed)


def test_operations_are_those_of_the_network_times_its_evaluations(tmp_path, capsys):
    cli = launch("plan", tmp_path, {"model.reference.guidance_scale": 2.0}, "--measure=false")
    each = operations(cli.model.reference, PROMPTS[0])
    stated = f"operations       {readable(each, 'FLOP')} an evaluation, {readable(2 * STEPS * each, 'FLOP')} a sample"
    assert stated in capsys.readouterr().out


def test_real_data_cost_nothing(tmp_path, capsys):
    config = pretraining(tmp_path)
    examples = config["data"]["init_args"]["examples"]
    config["model"] = {
        "class_path": "RealData",
        "init_args": {"reference": {"class_path": "DigitReference"}, "examples": examples},
    }
    launch("plan", tmp_path, config=config)
    printed = capsys.readouterr().out
    assert "sampler          none" in printed
    assert "0 samples" in printed


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999.4, "999 B"), (999.6, "1 KB"), (1234, "1.23 KB"), (5e12, "5 TB"), (7e21, "7e+03 EB")],
)
def test_three_digits_and_a_unit(count, text):
    assert readable(count) == text


def test_memory_and_checkpoint_are_what_a_run_leaves(tmp_path, capsys):
    cli = launch("plan", tmp_path, {}, "--measure=false")
    printed = capsys.readouterr().out
    weights = sum(p.numel() * 4 for p in cli.model.reference.build().parameters())
    stated = re.search(r"memory\s+([\d.]+) (KB|MB) in training = ([\d.]+) (KB|MB) weights \(fp32\)", printed)
    unit = {"KB": 1e3, "MB": 1e6}
    assert float(stated[3]) * unit[stated[4]] == pytest.approx(weights, rel=0.01)
    assert float(stated[1]) * unit[stated[2]] == pytest.approx(
        5 * weights, rel=0.01
    )  # two copies, gradients, 2 moments
    assert "time             not measured: not asked for" in printed
    assert "encoded texts    not measured" in printed
    launch("fit", tmp_path)
    checkpoint = re.search(r"checkpoint\s+([\d.]+) (KB|MB)", printed)
    taken = (tmp_path / "run/checkpoints/last.ckpt").stat().st_size
    assert float(checkpoint[1]) * unit[checkpoint[2]] == pytest.approx(taken, rel=0.2)


def test_where_weights_are_absent_nothing_is_measured_and_all_else_is_said(tmp_path, capsys):
    changes = {"model.reference.weights": str(tmp_path / "absent.safetensors"), "model.lora": {"rank": 2}}
    launch("plan", tmp_path, changes)
    printed = capsys.readouterr().out
    assert re.search(r"time\s+not measured: .*absent", printed)
    assert "adapters" in printed
    assert numbers(printed)["collection"] == 16


class Cascade(SampledModule):
    """Somebody else's module: two references, one after the other, neither of which is trained."""

    untrained = "both networks are used as they are"

    def __init__(self, first: Reference, second: Reference):
        super().__init__()
        self.first, self.second = first, second

    @property
    def method(self):
        return "cascade"

    @property
    def decoder(self):
        return self.second

    def stages(self):
        calls = {"draft": (self.first, evaluations_of(self.first)), "finish": (self.second, 3)}
        return [
            Stage(name, one, count, 0, lambda one=one: FrozenDenoiser(one, one.build(pretrained=False)))
            for name, (one, count) in calls.items()
        ]

    def sample(self, draws):
        raise AssertionError("a plan draws nothing")


def test_a_module_that_is_none_of_ours_is_planned_by_its_stages(tmp_path, capsys):
    config = pretraining(tmp_path)
    first, second = (
        {"class_path": "DigitReference", "init_args": {"network": {**NETWORK, "width": width}}} for width in (16, 32)
    )
    first["init_args"]["sampler"] = {"class_path": "DDPM", "init_args": {"steps": 5}}
    arguments = {"first": first, "second": second}
    config["model"] = {"class_path": "tests.reports.test_plan.Cascade", "init_args": arguments}
    model = launch("plan", tmp_path, config=config).model
    printed = capsys.readouterr().out
    weights = [sum(p.numel() for p in one.build(False).parameters()) for one in (model.first, model.second)]
    assert "sampler          draft: DDPM, 5 steps; finish: DDPM, " in printed
    assert "gradient steps   none: both networks are used as they are" in printed
    assert f"{weights[0]:,} in the draft, {weights[1]:,} in the finish, none of them trained" in printed
    assert re.search(r"time\s+about \d", printed)


@pytest.mark.parametrize("command", ["diagnose", "fit"])
def test_what_collects_nothing_refuses_a_reward(tmp_path, capsys, command):
    config = pretraining(tmp_path)
    config["collect"] = tiny_config(tmp_path)["collect"]
    with pytest.raises(SystemExit) as stopped:
        launch(command, tmp_path, config=config)
    assert stopped.value.code == 2
    assert re.search("model is Pretrain.*PGraft or Graft", capsys.readouterr().err, re.DOTALL)


def test_a_module_without_stages_is_refused_with_a_message(tmp_path, capsys):
    config = pretraining(tmp_path)
    config["model"] = {"class_path": "lightning.pytorch.demos.boring_classes.BoringModel"}
    with pytest.raises(SystemExit) as stopped:
        launch("plan", tmp_path, config=config)
    assert stopped.value.code == 2
    assert "model is BoringModel, which declares no stages" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"data.acceptance.k": 5}, "collect.draws=4 with data.acceptance: TopK: accept k=5, but only M=4"),
        ({"model.handoff": 0.75}, "model.handoff=0.75: state 6 of 8 is not kept in the pool"),
        ({"data.reward": "NoSuchReward"}, "data.reward='NoSuchReward' is neither collected nor in the pool"),
        ({"data.pool": ""}, "data.pool=''; it must not be empty"),
    ],
)
def test_what_a_run_would_refuse_is_refused(tmp_path, capsys, changes, told):
    for command in ("plan", "fit"):
        with pytest.raises(SystemExit) as leave:
            launch(command, tmp_path, changes)
        assert leave.value.code == 2
        assert f"error: {told}" in capsys.readouterr().err
