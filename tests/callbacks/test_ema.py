import pytest
import torch

from graft_lightning.callbacks import TrainableEMA
from tests.runs import Remember, assert_same_weights, launch

DECAY, WARMUP = 0.6, 4


def ema_run(folder, changes=None, *more):
    callbacks = [
        {"class_path": "tests.runs.Remember"},
        {"class_path": "TrainableEMA", "init_args": {"decay": DECAY, "warmup": WARMUP}},
        {"class_path": "ModelCheckpoint", "init_args": {"save_last": True, "enable_version_counter": False}},
    ]
    cli = launch("fit", folder, {"trainer.callbacks": callbacks, **(changes or {})}, *more)
    found = {type(callback): callback for callback in cli.trainer.callbacks}
    return cli, found[Remember], found[TrainableEMA]


def averages(start, steps):
    """By hand: a_n = d a_(n-1) + (1 - d) p_n, d = min(decay, (1 + n) / (warmup + n))."""
    average, found = start, []
    for n, raw in enumerate(steps, 1):
        decay = min(DECAY, (1 + n) / (WARMUP + n))
        average = {name: decay * average[name] + (1 - decay) * raw[name] for name in raw}
        found.append(average)
    return found


def test_the_average_is_the_one_computed_by_hand_and_validation_sees_it(tmp_path):
    cli, seen, _ = ema_run(tmp_path)
    expected = averages(seen.start, seen.steps)
    assert len(expected) == 10
    weights = dict(cli.model.named_parameters())
    assert_same_weights({name: weights[name].detach() for name in seen.start}, expected[-1], rtol=1e-5, atol=1e-6)
    for number, at in enumerate(seen.validated):  # 6 held-out samples in batches of 4 at most: two batches each time
        assert_same_weights(at, expected[4 + 5 * (number // 2)], rtol=1e-5, atol=1e-6)
    assert len(seen.validated) == 4
    checkpoint = torch.load(tmp_path / "run/checkpoints/last.ckpt")
    saved = {name: checkpoint["state_dict"][name] for name in seen.start}
    assert_same_weights(saved, expected[-1], rtol=1e-5, atol=1e-6)
    assert_same_weights(checkpoint["raw_parameters"], seen.steps[-1])


def test_training_itself_is_not_touched(tmp_path):
    _, with_average, _ = ema_run(tmp_path / "with")
    plain = launch("fit", tmp_path / "without", {"trainer.callbacks": [{"class_path": "tests.runs.Remember"}]})
    without = next(c for c in plain.trainer.callbacks if isinstance(c, Remember))
    assert_same_weights(with_average.steps[-1], without.steps[-1])


def test_accumulated_batches_count_as_one_step(tmp_path):
    _, seen, average = ema_run(tmp_path, {"trainer.accumulate_grad_batches": 2, "trainer.max_steps": 4})
    assert average.updates == 4
    assert len(seen.steps) > 4


def test_evaluation_from_a_checkpoint_is_that_of_the_average(tmp_path):
    cli, _, _ = ema_run(tmp_path)
    ended = {name: p.detach().clone() for name, p in cli.model.named_parameters() if p.requires_grad}
    callbacks = [{"class_path": "TrainableEMA"}]
    last = f"--ckpt_path={tmp_path}/run/checkpoints/last.ckpt"
    for command, changes in (("test", {}), ("validate", {"trainer.callbacks": callbacks})):
        loaded = launch(command, tmp_path, changes, last)
        assert_same_weights({name: p.detach() for name, p in loaded.model.named_parameters() if p.requires_grad}, ended)


def test_a_checkpoint_of_an_interrupted_validation_keeps_both(tmp_path):
    cli, _, average = ema_run(tmp_path)
    average.swap_out(cli.model)
    state = {name: p.detach().clone() for name, p in cli.model.named_parameters()}
    raw = {name: value + 1 for name, value in average.average.items()}
    for name, parameter in cli.model.named_parameters():
        if name in raw:
            parameter.data.copy_(raw[name])
    average.swap_in(cli.model)  # where validation is when it is interrupted
    checkpoint = {"state_dict": {name: p.detach() for name, p in cli.model.named_parameters()}}
    average.on_save_checkpoint(cli.trainer, cli.model, checkpoint)
    assert_same_weights(checkpoint["raw_parameters"], raw)
    assert_same_weights({n: checkpoint["state_dict"][n] for n in raw}, average.average)
    assert state.keys() == checkpoint["state_dict"].keys()


def test_a_decay_outside_its_range_is_refused():
    with pytest.raises(ValueError, match=r"decay=1\.5"):
        TrainableEMA(decay=1.5)
