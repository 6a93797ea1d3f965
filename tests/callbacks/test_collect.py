import json
import logging
import math

import pytest
import torch

from graft_lightning.callbacks import collect
from graft_lightning.modules import PGraft
from graft_lightning.processes.noise import Noise, trajectory_seeds
from graft_lightning.rejection.collection import Collection
from graft_lightning.rejection.pool import TrajectoryPool
from tests.runs import DRAWS, PROMPTS, assert_same_weights, launch, weights_of

GROUPWISE = {"collect.reward": {"class_path": "tests.runs.Groupwise"}, "collect.batch_size": 6, "data.eval_draws": 4}
"""Ranks among the draws of a condition, the held-out ones too; batches do not hold whole groups."""
SHORT = {"trainer.max_steps": 1, "trainer.limit_val_batches": 0, "evaluate.baseline": False}


@pytest.fixture
def sampled(monkeypatch):
    """Counts the trajectories that the sampler is asked for in collection."""
    counted, original = [], Collection.draw

    def draw(collection, opened, denoiser, start, stop, *rest):
        counted.append(stop - start)
        return original(collection, opened, denoiser, start, stop, *rest)

    monkeypatch.setattr(Collection, "draw", draw)
    return counted


@pytest.fixture
def messages(monkeypatch):
    """What the package logs."""
    found = []
    monkeypatch.setattr(logging.getLogger("graft_lightning.callbacks.collect"), "handle", found.append)
    return lambda: [record.getMessage() for record in found]


def record(folder, name="collected.json"):
    """Of the last fit: one with other settings has a folder of its own."""
    last = max(folder.glob(f"run*/{name}"), key=lambda file: file.stat().st_mtime_ns)
    return json.loads(last.read_text())


def test_one_pool_serves_every_rule_handoff_and_kind_of_state(tmp_path, sampled):
    launch("fit", tmp_path, SHORT)
    assert sum(sampled) == len(PROMPTS) * DRAWS
    sampled.clear()

    def rule(name, **arguments):
        return {"data.acceptance": {"class_path": name, "init_args": arguments}}

    for changes, accepted in (
        (rule("TopK", k=1), 4),
        (rule("TopK", k=3), 12),
        (rule("BestOfN"), 4),
        (rule("BestOfN", n=2), 8),
        (rule("Quantile", q=0.5), 12),  # ranks 2, 3 and 4 of 4: F = 2/4 is not below q
        (rule("Always"), 16),
        (rule("RandomK", k=2), 8),
        ({"model.handoff": 0.5}, 8),
        ({"model.handoff": 0.5, "model.states": "x_0"}, 8),
        ({"model.handoff": 0.5, "model.reverse": True}, 8),
        ({"model.handoff": 0.125, "model.states": "x_0"}, 8),
        ({"model.handoff": 0.0}, 8),
        ({"collect.keep": [0.5], "model.handoff": 0.5}, 8),
        ({"collect.batch_size": 5}, 8),
    ):
        launch("fit", tmp_path, {**SHORT, **changes})
        found = record(tmp_path)
        assert (found["newly_drawn"], found["accepted"]) == (0, accepted), changes
    assert not sampled


def test_a_pool_smaller_than_a_shard_is_used_again(tmp_path, sampled):
    launch("fit", tmp_path, {**SHORT, "collect.batch_size": 256})
    launch("fit", tmp_path, {**SHORT, "collect.batch_size": 64})
    assert sum(sampled) == 16


def test_more_draws_conditions_and_levels_draw_what_is_missing(tmp_path, sampled):
    launch("fit", tmp_path, SHORT)
    more = [*PROMPTS[:2], "two fives", *PROMPTS[2:]]
    for changes, drawn in (
        ({"collect.draws": 6}, 2 * len(PROMPTS)),
        ({"data.conditions.values": more, "collect.draws": 6}, 6),
        ({"data.conditions.values": more[::-1], "collect.draws": 4}, 0),
        ({"data.conditions.values": PROMPTS[:2], "collect.draws": 3}, 0),
        ({"collect.keep_as": "float16", "model.handoff": 0.5}, 0),
    ):
        launch("fit", tmp_path, {**SHORT, **changes})
        assert record(tmp_path)["newly_drawn"] == drawn, changes
    assert sum(sampled) == 16 + 8 + 6
    sampled.clear()
    launch("fit", tmp_path, {**SHORT, "collect.keep": [0.25, 0.5, 0.75], "model.handoff": 0.75})
    assert record(tmp_path)["newly_drawn"] == 0
    assert sum(sampled) >= 16  # walked again
    sampled.clear()
    launch("fit", tmp_path, {**SHORT, "collect.keep": [0.25, 0.5, 0.75], "model.handoff": 0.75})
    assert not sampled


@pytest.mark.parametrize("keep_as", ["float16", "bfloat16"])
def test_a_model_is_trained_on_states_in_half_precision(tmp_path, keep_as):
    exact = launch("fit", tmp_path / "whole", {**SHORT, "model.handoff": 0.5})
    half = launch("fit", tmp_path / "half", {**SHORT, "model.handoff": 0.5, "collect.keep_as": keep_as})
    one, two = (cli.datamodule.read(range(8)) for cli in (exact, half))
    assert two.x.dtype == torch.float32
    assert one.conditions == two.conditions
    assert not torch.equal(one.x, two.x)
    torch.testing.assert_close(one.x, two.x, rtol=2.0**-8, atol=1e-6)


def test_a_changed_reward_is_scored_anew_where_that_is_asked_for(tmp_path, sampled):
    def weighted(weight):
        inner = [{"class_path": "tests.runs.Ink"}]
        return {
            "collect.reward": {
                "class_path": "graft_lightning.rejection.rewards.WeightedSum",
                "init_args": {"rewards": inner, "weights": [weight]},
            }
        }

    launch("fit", tmp_path, {**SHORT, **weighted(1.0)})
    sampled.clear()
    with pytest.raises(SystemExit):
        launch("fit", tmp_path, {**SHORT, **weighted(-1.0)})
    before = record(tmp_path)["rewards"]["WeightedSum"]["all"]
    launch("fit", tmp_path, {**SHORT, **weighted(-1.0), "data.rescore": True})
    assert not sampled
    assert record(tmp_path)["rewards"]["WeightedSum"]["all"] == pytest.approx(-before)


def test_a_second_reward_is_scored_on_what_is_there(tmp_path, sampled):
    launch("fit", tmp_path, SHORT)
    sampled.clear()
    also = {"collect.also": [{"class_path": "tests.runs.Groupwise"}], "data.reward": "Groupwise", "data.eval_draws": 4}
    launch("fit", tmp_path, {**SHORT, **also, "collect.batch_size": 6})
    assert not sampled
    assert set(record(tmp_path)["rewards"]) == {"Ink", "Groupwise"}
    assert record(tmp_path)["rewards"]["Groupwise"] == {"all": 1.5, "accepted": 2.5}  # ranks 0 .. 3, the best two


def test_groups_are_never_cut(tmp_path):
    launch("fit", tmp_path, {**SHORT, **GROUPWISE})
    assert record(tmp_path)["rewards"]["Groupwise"]["all"] == 1.5


@pytest.mark.parametrize(
    ("rule", "settings", "expected"),
    [
        # of the rewards 0 .. 3 of every condition
        ("Threshold", {"threshold": 0.5}, {"acceptance_rate": 3 / 4, "kl": math.log(4 / 3), "kl_cap": math.log(4)}),
        ("ClassicalRejection", {"temperature": 1.0, "ceiling": 1.5}, {"share_above_ceiling": 1 / 2}),
    ],
)
def test_what_a_rule_implies_is_recorded(tmp_path, messages, rule, settings, expected):
    launch("fit", tmp_path, {**SHORT, **GROUPWISE, "data.acceptance": {"class_path": rule, "init_args": settings}})
    found = record(tmp_path)
    assert (found["acceptance"], found["reward"], found["seed"]) == (rule, "Groupwise", 3)
    assert found["acceptance_settings"] == settings
    assert {name: found["implied"][name] for name in expected} == pytest.approx(expected)
    assert any(
        f"KL from the reference {found['implied']['kl']:.2f} of at most 1.39 nats" in text for text in messages()
    )


def test_a_soft_rule_is_recorded_by_its_weights_and_under_its_own_name(tmp_path, messages):
    """Rewards 0 .. 3 in every condition, accepted with e^(r - 3): means and counts are those of the weights."""
    rule = {"class_path": "ClassicalRejection", "init_args": {"temperature": 1.0, "ceiling": 3.0}}
    changes = {
        **GROUPWISE,
        "collect.also": [{"class_path": "tests.runs.Ink"}],
        "data.acceptance": {"class_path": "SoftAcceptance", "init_args": {"rule": rule}},
    }
    cli = launch("fit", tmp_path, {**SHORT, **changes})
    found, weight = record(tmp_path), torch.arange(4.0).sub(3).exp()
    ranks = torch.arange(4.0)
    assert found["rewards"]["Groupwise"]["accepted"] == pytest.approx(float((weight * ranks).sum() / weight.sum()))
    assert found["accepted"] == pytest.approx(4 * float(weight.sum()))
    assert found["used"] == 16
    assert found["effective_sample_size"] == pytest.approx(4 * float(weight.sum() ** 2 / weight.square().sum()))
    assert found["acceptance_settings"] == {"rule": "ClassicalRejection(temperature=1.0, ceiling=3.0)"}
    selection, ink = cli.datamodule.selection, TrajectoryPool.open(tmp_path / "pool").round(0)
    scores, by_rank = ink.rewards("Ink"), selection.rewards.long()
    expected = (weight[by_rank] * scores).sum(1) / weight.sum()
    assert found["rewards"]["Ink"]["accepted"] == pytest.approx(float(expected.mean()), rel=1e-5)
    size = f"effective sample size {found['effective_sample_size']:.1f} of 16 trajectories to train on"
    assert any(size in text for text in messages())


def test_rewards_that_failed_are_counted_and_never_accepted(tmp_path, messages):
    acceptance = {"class_path": "Always"}
    changes = {"collect.reward": {"class_path": "tests.runs.Failing"}, "data.acceptance": acceptance}
    cli = launch("fit", tmp_path, {**SHORT, **changes})
    selection = cli.datamodule.selection
    failed = selection.rewards.isnan()
    assert 0 < failed.sum() < failed.numel()
    assert not (selection.accepted & failed).any()
    assert record(tmp_path)["not_finite"] == selection.not_finite == int(failed.sum())
    chosen = torch.cat(selection.members)
    assert not failed.flatten()[chosen].any()
    assert any(f"{int(failed.sum())} rewards are NaN" in text for text in messages())


def test_conditions_without_signal_are_named_and_left_out(tmp_path, messages):
    cli = launch("fit", tmp_path, {**SHORT, "collect.reward": {"class_path": "tests.runs.Indifferent"}})
    assert cli.datamodule.selection.without_signal == [1]
    assert "two ones" not in cli.datamodule.read(range(12)).conditions
    assert any("1 conditions without signal" in text and "two ones" in text for text in messages())
    found, selection = record(tmp_path), cli.datamodule.selection
    assert found["without_signal"] == 1
    kept = selection.rewards[[0, 2, 3]].double()
    assert found["rewards_before"]["Indifferent"] == pytest.approx(float(kept.mean()), rel=1e-5)


def test_the_second_round_is_drawn_from_the_current_model(tmp_path):
    keep_all = {"class_path": "ModelCheckpoint", "init_args": {"save_top_k": -1, "filename": "{step}"}}
    cli = launch("fit", tmp_path, {"collect.rounds": 2, "trainer.callbacks": [keep_all]})
    pool = TrajectoryPool.open(tmp_path / "pool")
    first, second = pool.rounds()
    assert first.complete
    assert second.complete
    assert first.fingerprint != second.fingerprint
    assert not torch.equal(first.column("x_0"), second.column("x_0"))
    assert not set(first.column("seed").flatten().tolist()) & set(second.column("seed").flatten().tolist())
    assert record(tmp_path, "collected-1.json")["newly_drawn"] == 16
    assert cli.datamodule._stream._round.index == 1
    module = PGraft.load_from_checkpoint(tmp_path / "run/checkpoints/step=5.ckpt")
    texts, draws = [text for text in PROMPTS for _ in range(DRAWS)], list(range(DRAWS)) * len(PROMPTS)
    reference = module.reference
    seeds = trajectory_seeds(3, 1, texts, draws)
    expected = reference.sampler.sample(
        module.sampling_denoiser(), reference.process, reference.encode(texts, "cpu"), Noise(seeds), (1, 16, 16)
    ).x_0
    torch.testing.assert_close(second.column("x_0").flatten(0, 1), expected, rtol=0, atol=1e-5)
    assert not torch.allclose(first.column("x_0").flatten(0, 1), expected, atol=1e-2)


@pytest.mark.parametrize("name", ["NFT", "AWM"])
def test_a_later_round_is_compared_with_the_model_that_drew_it_also_after_a_resume(tmp_path, name):
    """Ten steps in rounds of five, and the same in two runs that are cut inside the second one: the same weights."""
    objective = {"class_path": f"graft_lightning.rejection.objectives.{name}"}
    every = {"save_top_k": -1, "every_n_train_steps": 1, "filename": "{step}"}
    keep_all = {"class_path": "ModelCheckpoint", "init_args": every}
    changes = {"model.objective": objective, "collect.rounds": 2, "trainer.callbacks": [keep_all]}
    whole = launch("fit", tmp_path, changes)
    assert whole.model.method == f"p{name.lower()}@0.25"
    at_five = PGraft.load_from_checkpoint(tmp_path / "run/checkpoints/step=5.ckpt")
    at_seven = tmp_path / "run/checkpoints/step=7.ckpt"
    kept = dict(at_five.network.named_parameters())
    assert whole.model.drew_with.keys() == kept.keys()
    assert all(torch.equal(whole.model.drew_with[key], kept[key]) for key in kept)
    resumed = launch("fit", tmp_path, changes, f"--ckpt_path={at_seven}")
    assert_same_weights(weights_of(whole), weights_of(resumed))


def test_the_stream_goes_on_in_the_second_round(tmp_path):
    cli = launch("fit", tmp_path, {"collect.rounds": 2, "trainer.limit_val_batches": 0})
    assert cli.trainer.train_dataloader.steps_done == 10


def test_a_trial_run_is_short_and_leaves_the_real_pool_alone(tmp_path, sampled, monkeypatch):
    launch("fit", tmp_path, SHORT)
    before = sorted(path.stat().st_mtime_ns for path in (tmp_path / "pool").rglob("*"))
    sampled.clear()
    for _ in range(2):
        trial = launch("fit", tmp_path, {"trainer.fast_dev_run": True, "trainer.default_root_dir": str(tmp_path)})
    assert sum(sampled) == 2 * collect.TRIAL * DRAWS
    assert trial.trainer.global_step == 1
    assert sorted(path.stat().st_mtime_ns for path in (tmp_path / "pool").rglob("*")) == before
    assert (tmp_path / "fast_dev_run/evaluation.jsonl").is_file()
