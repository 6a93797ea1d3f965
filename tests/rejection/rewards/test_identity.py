import importlib
import sys

from graft_lightning.identity import describe, differences, digest_of
from graft_lightning.rejection.reward import Reward
from graft_lightning.rejection.rewards import CachedReward, FunctionReward, WeightedSum


class Model(Reward):
    def __init__(self, path, threshold=0.5):
        self.path = str(path)
        self.threshold = threshold
        self._loaded = None

    def __call__(self, samples, conditions):
        raise NotImplementedError("not called here")


def test_settings_count_and_state_does_not(tmp_path):
    reward = Model(tmp_path / "absent")
    before = digest_of(describe(reward))
    reward._loaded = object()
    assert digest_of(describe(reward)) == before
    assert digest_of(describe(Model(tmp_path / "absent", 0.6))) != before


def test_a_class_whose_source_changed_is_another_reward_also_inside_a_sum(tmp_path, monkeypatch):
    """Its sign flipped between two fits: the scores of before are not its own."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    text = (
        "from graft_lightning.rejection.reward import Reward\n\n\n"
        "class Bright(Reward):\n    def __call__(self, samples, conditions):\n        return samples.mean(1)\n"
    )

    def stored(code):
        (tmp_path / "flipping.py").write_text(code)
        sys.modules.pop("flipping", None)
        importlib.invalidate_caches()
        own = importlib.import_module("flipping").Bright()
        return [describe(own), describe(WeightedSum([own])), describe(CachedReward(own, str(tmp_path)))]

    first, flipped = stored(text), stored(text.replace("return ", "return -"))
    assert all(one != two for one, two in zip(first, flipped, strict=True))
    assert stored(text) == first
    (line,) = differences(first[0], flipped[0])
    assert line.startswith("source_text.flipping.Bright: ")


def test_sums_of_other_weights_are_told_apart():
    one, two = (describe(WeightedSum([Model("a"), Model("b")], weights)) for weights in ([1, 2], [2, 1]))
    assert differences(one, two) == ["weights[0]: 1.0 then, 2.0 now", "weights[1]: 2.0 then, 1.0 now"]


def test_files_behind_a_path_count(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    reward = Model(tmp_path)
    before = digest_of(describe(reward))
    assert digest_of(describe(Model(tmp_path))) == before
    (tmp_path / "weights.bin").write_text("1")
    assert digest_of(describe(reward)) != before


def test_the_code_of_a_function_counts_also_inside_a_sum(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)

    def of(code):
        (tmp_path / "scored_by.py").write_text(code)
        sys.modules.pop("scored_by", None)
        importlib.invalidate_caches()
        return digest_of(describe(WeightedSum([FunctionReward("scored_by.own")]), evidence=True))

    first = of("def own(samples, conditions):\n    return [1.0 for _ in conditions]\n")
    assert of("def own(samples, conditions):\n    return [1.0 for _ in conditions]\n# elsewhere\n") == first
    assert of("def own(samples, conditions):\n    return [2.0 for _ in conditions]\n") != first


def test_a_pool_knows_a_reward_by_its_code_and_not_by_the_times_of_files(tmp_path, monkeypatch):
    module = tmp_path / "rewarding.py"

    def stored(code: str) -> dict:
        module.write_text(code)
        sys.modules.pop("rewarding", None)
        importlib.invalidate_caches()
        return describe(FunctionReward("rewarding.brightness", {"file": str(module)}), evidence=True)

    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    first = stored("def brightness(samples, conditions, file):\n    return samples.mean(1)\n")
    again = stored("def brightness(samples, conditions, file):\n    return samples.mean(1)\n")
    other = stored("def brightness(samples, conditions, file):\n    return samples.amax(1)\n")
    assert first == again
    assert first != other
