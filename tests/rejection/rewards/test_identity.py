import importlib
import linecache
import sys

from graft_lightning.rejection.fingerprint import describe
from graft_lightning.rejection.reward import Reward
from graft_lightning.rejection.rewards import FunctionReward, WeightedSum
from graft_lightning.rejection.rewards.identity import digest_of, fingerprint, identity


class Model(Reward):
    def __init__(self, path, threshold=0.5):
        self.path = str(path)
        self.threshold = threshold
        self._loaded = None

    def __call__(self, samples, conditions):
        raise NotImplementedError("not called here")


def test_settings_count_and_state_does_not(tmp_path):
    reward = Model(tmp_path / "absent")
    before = digest_of(identity(reward))
    reward._loaded = object()
    assert digest_of(identity(reward)) == before
    assert digest_of(identity(Model(tmp_path / "absent", 0.6))) != before


def test_files_behind_a_path_count(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    reward = Model(tmp_path)
    before = digest_of(identity(reward))
    assert digest_of(identity(Model(tmp_path))) == before
    (tmp_path / "weights.bin").write_text("1")
    assert digest_of(identity(reward)) != before


def test_the_code_of_a_function_counts_also_inside_a_sum(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)

    def of(code):
        (tmp_path / "scored_by.py").write_text(code)
        import importlib
        import linecache
        import sys

        linecache.clearcache()
        sys.modules.pop("scored_by", None)
        importlib.invalidate_caches()
        return digest_of(identity(WeightedSum([FunctionReward("scored_by.own")])))

    first = of("def own(samples, conditions):\n    return [1.0 for _ in conditions]\n")
    assert of("def own(samples, conditions):\n    return [1.0 for _ in conditions]\n# elsewhere\n") == first
    assert of("def own(samples, conditions):\n    return [2.0 for _ in conditions]\n") != first


def test_a_pool_knows_a_reward_by_its_code_and_not_by_the_times_of_files(tmp_path, monkeypatch):
    module = tmp_path / "rewarding.py"

    def stored(code: str) -> dict:
        module.write_text(code)
        linecache.clearcache()
        sys.modules.pop("rewarding", None)
        importlib.invalidate_caches()
        return fingerprint(FunctionReward("rewarding.brightness", {"file": str(module)}))

    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    first = stored("def brightness(samples, conditions, file):\n    return samples.mean(1)\n")
    again = stored("def brightness(samples, conditions, file):\n    return samples.mean(1)\n")
    other = stored("def brightness(samples, conditions, file):\n    return samples.amax(1)\n")
    assert first == again
    assert first != other
    assert fingerprint(Model("a")) == describe(Model("a"))  # settings tell it all: pools made before know it still
