"""Identity: descriptions change with what decides a result, wherever it stands, and with nothing else."""

import enum
import functools
import importlib
import itertools
import json
import re
import sys
import types
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torchmetrics import MeanMetric

from graft_lightning.identity import content, describe, differences, digest, digest_of, is_users
from graft_lightning.identity.description import source_text
from graft_lightning.identity.files import MANY, _read
from graft_lightning.rejection.acceptance import TopK

MODULE = '''
"""A user's file."""
import os
import settings
from torch import nn
from settings import OFFSET
from elsewhere import Base, shifted

SCALE = 2.0
TABLE = {{"a": 1.0}}
TABLE.update(b=1)
SEEN = []
CALLS = 0


def scaled(x):
    return SCALE * x


def unrelated(x):
    return x + 7


class Scorer(Base):
    """Scores."""

    def __init__(self, threshold=0.5):
        self.threshold = threshold

    def __call__(self, x):
        global CALLS
        CALLS += 1
        from late import clipped

        SEEN.append(x)
        # the score
        return clipped(shifted(scaled(x)) + OFFSET * settings.WEIGHT + TABLE["a"])


class Network(nn.Module):
    def __init__(self, power=1):
        super().__init__()
        self.power = power

    def forward(self, x):
        return x**self.power
'''
FILES = {
    "scorers.py": MODULE.replace("{{", "{").replace("}}", "}"),
    "settings.py": "WEIGHT = 1.0\nOFFSET = 0.25\nUNUSED = 3\n",
    "elsewhere.py": (
        "import functools\n\n\nclass Base:\n    def start(self):\n        return 0\n\n\n"
        "@functools.lru_cache\ndef shifted(x):\n    return x - 1\n"
    ),
    "late.py": "def clipped(x):\n    return max(x, 0)\n",
}


def loader(folder, files, main):
    """What writes a user's files, with changes, and loads them as a new process would."""

    def load(changes=()):
        for name, text in files.items():
            for old, new in changes:
                text = text.replace(old, new)
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text)
            sys.modules.pop(name.removesuffix(".py").replace("/", "."), None)
        importlib.invalidate_caches()
        return importlib.import_module(main)

    return load


@pytest.fixture
def users(tmp_path, monkeypatch):
    """Loads a user's files, and forgets them afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    known = set(sys.modules)
    yield functools.partial(loader, tmp_path)
    for name in set(sys.modules) - known:
        if str(tmp_path) in str(getattr(sys.modules[name], "__spec__", "")):
            del sys.modules[name]


@pytest.fixture
def scorers(users):
    return users(FILES, "scorers")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("        SEEN.append(x)\n", "        SEEN.append(-x)\n"),
        ("SCALE = 2.0", "SCALE = -2.0"),
        ("return SCALE * x", "return -SCALE * x"),
        ("return 0", "return 1"),
        ("return x - 1", "return x + 1"),
        ("WEIGHT = 1.0", "WEIGHT = -1.0"),
        ("OFFSET = 0.25", "OFFSET = 0.5"),
        ('"a": 1.0', '"a": 2.0'),
        ("TABLE.update(b=1)", "TABLE.update(b=2)"),
        ("max(x, 0)", "min(x, 0)"),
        ("threshold=0.5", "threshold=0.6"),
    ],
    ids=[
        "method",
        "constant",
        "function",
        "base",
        "import",
        "module",
        "imported",
        "table",
        "filled",
        "late",
        "setting",
    ],
)
def test_whatever_a_users_class_consists_of_counts(scorers, old, new):
    before = describe(scorers().Scorer())
    after = describe(scorers([(old, new)]).Scorer())
    assert before != after
    assert describe(scorers().Scorer()) == before


SCORED = "class Scorer:\n    def __call__(self, x):\n        {}\n"
ADDS = "def adds(x):\n    return x + 1\n"
WEIGHTS = "WEIGHTS = {'a': 1}\n"
DECORATED = (
    "import functools\n\ndef by(k):\n    def decorator(f):\n        @functools.wraps(f)\n"
    "        def wrapped(*a):\n            return k * f(*a)\n        return wrapped\n    return decorator\n\n"
    "def plain(x):\n    return x\n\nscored = by(2)(plain)\n"
)
ELSEWHERE = {
    "a module imported inside a method": ({"far.py": ADDS}, "import far\n        return far.adds(x)", ("+ 1", "- 1")),
    "and renamed": ({"far.py": ADDS}, "import far as near\n        return near.adds(x)", ("+ 1", "- 1")),
    "a part of a package": ({"own/far.py": ADDS}, "import own.far\n        return own.far.adds(x)", ("+ 1", "- 1")),
    "from a package": ({"own/far.py": ADDS}, "from own import far\n        return far.adds(x)", ("+ 1", "- 1")),
    "relative": ({"own/far.py": ADDS}, "from .far import adds as f\n        return f(x)", ("+ 1", "- 1")),
    "a table of another module": (
        {"far.py": WEIGHTS},
        "from far import WEIGHTS\n||return WEIGHTS['a'] * x",
        ("1}", "2}"),
    ),
    "that passed through a package": (
        {"own/__init__.py": "from .far import *\n", "own/far.py": WEIGHTS},
        "from own import WEIGHTS as W\n||return W['a'] * x",
        ("1}", "2}"),
    ),
    "an object of another module": (
        {"far.py": "class Kept:\n    def __init__(self, k):\n        self.k = k\n\nKEPT = Kept(1)\n"},
        "from far import KEPT\n||return KEPT.k * x",
        ("Kept(1)", "Kept(2)"),
    ),
    "filled by a function": ({}, "T = {}\ndef fill():\n    T['a'] = 1\nfill()\n||return T['a'] * x", ("= 1", "= 2")),
    "set by a function": ({}, "def fill():\n    global T\n    T = 1\nfill()\n||return T * x", ("T = 1", "T = 2")),
    "made of a function": (
        {},
        "def listed(f):\n    return [f]\n\n@listed\ndef adds(x):\n    return x + 1\n||return adds[0](x)",
        ("+ 1", "- 1"),
    ),
    "an argument of a decorator": ({}, f"{DECORATED}||return scored(x)", ("by(2)", "by(3)")),
    "the text of a decorator": ({}, f"{DECORATED}||return scored(x)", ("k * f", "k + f")),
    "what a decorator was put on": ({}, f"{DECORATED}||return scored(x)", ("return x\n", "return -x\n")),
    "a file that is named": ({"words.txt": "one"}, "return x * len(open('words.txt').read())", ("one", "three")),
}


@pytest.mark.parametrize("case", ELSEWHERE)
def test_whatever_a_users_class_reaches_counts(users, case):
    files, text, edit = ELSEWHERE[case]
    above, _, inside = text.rpartition("||")
    main = "own.scorer" if any(name.startswith("own/") for name in files) else "scorer"
    files = {**files, f"{main.replace('.', '/')}.py": f"{above}\n{SCORED.format(inside)}"}
    assert any(edit[0] in text for text in files.values())
    load = users(files, main)
    before = describe(load().Scorer())
    assert differences(before, describe(load([edit]).Scorer()))
    assert not differences(before, describe(load().Scorer()))


def test_what_has_the_name_of_a_variable_or_is_written_does_not_count(users):
    writes = "open('out.txt', 'a').write('one')\n        x = np = 2\n        return [x for far in 'a']"
    load = users({"out.txt": "one", "scorer.py": f"x = far = 1\n{SCORED.format(writes)}"}, "scorer")
    before = describe(load().Scorer())
    assert describe(load([("far = 1", "far = 2")]).Scorer()) == before
    (Path.cwd() / "out.txt").write_text("two")
    assert describe(sys.modules["scorer"].Scorer()) == before


def test_a_difference_names_the_functions_and_values_that_were_edited(scorers):
    before = describe(scorers().Scorer())
    for edit, key in (
        (("return SCALE * x", "return -SCALE * x"), "scorers.scaled"),
        (("OFFSET = 0.25", "OFFSET = 0.5"), "value of scorers.OFFSET"),
        (("max(x, 0)", "min(x, 0)"), "late.clipped"),
    ):
        (line,) = differences(before, describe(scorers([edit]).Scorer()))
        assert line.startswith(f"source_text.{key}: '"), line


def test_what_a_users_class_does_not_use_does_not_count(scorers):
    before = describe(scorers().Scorer())
    for change in (
        ("x + 7", "x + 8"),
        ("UNUSED = 3", "UNUSED = 4"),
        ('"""Scores."""', '"""Scores anything."""'),
        ("# the score", "# the score, clipped"),
        ("return SCALE * x", "return (SCALE\n            * x)"),
        ('"""A user\'s file."""', "\n\n\n"),
    ):
        assert describe(scorers([change]).Scorer()) == before, change


def test_use_does_not_change_an_identity(scorers):
    scorer = scorers().Scorer()
    before = describe(scorer)
    assert scorer(3.0) == 6.25
    assert describe(scorer) == before


class Scaled:
    def __init__(self, function, scale):
        functools.update_wrapper(self, function)
        self.scale = scale


def remembering(function):
    seen = {}

    def remembered(*arguments, calls=[]):  # noqa: B006
        calls.append(arguments)
        return seen.setdefault(arguments, function(*arguments))

    return remembered


@remembering
def tripled(x):
    return 3 * x


class Remembering:
    @remembering
    def __call__(self, x):
        return x


def test_what_a_function_remembers_is_no_identity():
    before = describe([tripled, Remembering(), Remembering])
    tripled(1)
    Remembering()(2)
    assert describe([tripled, Remembering(), Remembering]) == before


def test_a_class_is_its_text_also_where_a_method_was_replaced_for_a_while(monkeypatch):
    before = describe(Remembering())
    monkeypatch.setattr(Remembering, "__call__", lambda self, x: -x)
    assert describe(Remembering()) == before


def test_functions_and_classes_themselves_bring_their_source(scorers):
    module, other = scorers(), None
    before = describe([module.scaled, module.Scorer, functools.partial(module.scaled, 1.0), module.Scorer().__call__])
    other = scorers([("SCALE = 2.0", "SCALE = 3.0")])
    after = describe([other.scaled, other.Scorer, functools.partial(other.scaled, 1.0), other.Scorer().__call__])
    assert all(one != two for one, two in zip(before, after, strict=True))


def test_lambdas_and_inner_functions_are_told_apart():
    first, second = lambda x: x + 1, lambda x: x - 1
    made = [lambda x, k=k: k * x for k in (1, 2)]
    held = [(lambda scale: lambda x: scale * x)(k) for k in (1, 2)]
    split = [
        lambda x: (
            x + 3
        ),
        lambda x: (
            x + 4
        ),
    ]  # fmt: skip
    memoised = [functools.lru_cache(lambda x: x + 5), functools.lru_cache(lambda x: x + 6)]
    scaled = [Scaled(first, 1), Scaled(first, 2), Scaled(second, 1)]
    several = [first, second, *scaled, *memoised, *made, *held, *split, lambda x: x, lambda y: -y]
    found = [digest_of(describe(value)) for value in several]
    assert len(set(found)) == len(found)
    assert [digest_of(describe(value)) for value in several] == found


def weighted(weights):
    return lambda x: [weight * x for weight in weights]


def test_a_captured_list_counts_unless_the_function_writes_to_it():
    one, two = weighted([1, 2]), weighted([1, 3])
    assert describe(one) != describe(two)
    assert describe(one) == describe(weighted([1, 2]))
    assert describe(lambda x, scales=[1]: scales) != describe(lambda x, scales=[2]: scales)
    before = describe(weighted)
    assert describe(weighted) == before


class Keeps:
    """Keeps its arguments behind underscores, and loads the rest late."""

    def __init__(self, scale, model="none"):
        self._scale, self._model, self._calls = scale, None, 0
        self.__model = model

    def use(self):
        self._model, self._calls = object(), self._calls + 1


def test_arguments_behind_an_underscore_count_and_what_is_loaded_late_does_not():
    keeps = Keeps(1.0)
    before = describe(keeps)
    assert before != describe(Keeps(2.0))
    assert before != describe(Keeps(1.0, "large"))
    keeps.use()
    assert describe(keeps) == before


class Holds:
    """Keeps its arguments under names of its own."""

    def __init__(self, inner, *others, scale=1.0, token="none", device="cpu", **options):
        doubled = 2 * scale
        self._i, self._list, self._n = inner, [*others], 0
        self._d, self._options, self._k, self.header = doubled, dict(options), token, f"Bearer {token}"
        self._where, self._total, self._buffer = device, scale, torch.ones(1) * scale
        self._kind: object = Kind.ONE if scale > 0 else Kind.TWO

    def use(self):
        self._n, self._where = self._n + 1, "cuda"
        self._total += 1
        self._buffer.add_(1)


class Inherits(Holds):
    def __init__(self, power):
        super().__init__(TopK(power))


@dataclass
class Private:
    _scale: float = 1.0


def test_arguments_count_under_whatever_name_they_are_kept():
    several = [
        Holds(TopK(1)), Holds(TopK(2)), Holds(Holds(TopK(1))), Holds(Holds(TopK(2))), Holds(weighted([1])),
        Holds(weighted([2])), Holds(1, TopK(1)), Holds(1, TopK(2)), Holds(1, scale=2.0), Holds(1, scale=-2.0),
        Holds(1, level=1), Holds(1, level=TopK(1)), Holds(1, token="hunter2-hunter2"), Holds(1, token="hunter3"),
        Inherits(1), Inherits(2), Private(1.0), Private(2.0),
    ]  # fmt: skip
    found = [json.dumps(describe(value), sort_keys=True) for value in several]
    assert len(set(found)) == len(found)
    assert not any("hunter" in text for text in found)
    assert describe(Holds(1, device="cuda")) == describe(Holds(1))
    for value, before in zip(several, found, strict=True):
        if isinstance(value, Holds):
            value.use()
        assert json.dumps(describe(value), sort_keys=True) == before


class Late:
    """Loads and counts in public, as people do."""

    def __init__(self, width=1, threshold=0.5):
        self.width, self.threshold, self.network, self.calls, self.seen = width, threshold, None, 0, []
        self.metric, self.scale = MeanMetric(), 1.0

    @functools.cached_property
    def weights(self):
        return torch.ones(self.width)

    def __call__(self, x):
        self.network = self.network or nn.Linear(self.width, 1)
        self.calls += 1
        self.seen.append(x)
        self.metric(x)
        return self.weights

    def set_scale(self, scale):
        self.scale = scale


def test_what_use_loads_and_counts_is_state_and_what_is_set_is_not():
    late = Late()
    before = describe(late)
    late(torch.ones(1))
    assert describe(late) == before
    assert describe(Late(2)) != before != describe(Late(threshold=0.4))
    late.set_scale(2.0)
    assert describe(late) != before
    late = Late()
    late.threshold = 0.1
    assert describe(late) != before


class Own(list):
    pass


class Level(enum.Enum):
    LOW = 0.1


def test_a_users_own_containers_and_constants_are_told_apart(monkeypatch):
    assert describe(Own([1])) != describe(Own([2]))
    assert "source_text" in describe(Own([1]))
    before = describe(Level.LOW)
    monkeypatch.setattr(Level.LOW, "_value_", 0.2)
    assert describe(Level.LOW) != before


def test_lambdas_of_one_line_are_told_apart_where_code_has_no_columns():
    """As before Python 3.11, whose code objects know lines alone."""
    k = 3
    numbers = [lambda x: x + 1, lambda x: x + k]
    names = [lambda x: x, lambda y: y]
    nested = [lambda x: abs(x), lambda x: (lambda y: y)(x)]
    pairs = numbers, names, nested
    texts = [[source_text(f).split("\n")[1] for f in pair] for pair in pairs]
    assert texts == [
        ["lambda x: x + 1", "lambda x: x + k"],
        ["lambda x: x", "lambda y: y"],
        ["lambda x: abs(x)", "lambda x: (lambda y: y)(x)"],
    ]


def test_functions_without_a_file_are_told_apart():
    made = []
    for text in ("x + 1", "x + 2", "abs(x)", "len(x)"):
        scope = {"__name__": "__main__"}
        exec(f"def own(x):\n    return {text}\n", scope)
        made.append(scope["own"])
    found = {digest_of(describe(value)) for value in made}
    assert len(found) == 4


def test_a_module_is_weights_attributes_and_parts(scorers):
    network = scorers().Network
    buffered = nn.Module()
    buffered.register_buffer("scale", torch.ones(1), persistent=False)
    other = nn.Module()
    other.register_buffer("scale", 2 * torch.ones(1), persistent=False)
    several = [
        network(1), network(2), buffered, other, nn.Dropout(0.1), nn.Dropout(0.2), nn.LeakyReLU(0.1),
        nn.Sequential(nn.Dropout(0.1)), nn.Sequential(nn.Dropout(0.3)), nn.Sequential(nn.Identity(), nn.Dropout(0.1)),
        nn.Conv2d(1, 1, 1, bias=False), nn.Linear(1, 1, bias=False),
    ]  # fmt: skip
    found = [digest_of(describe(value)) for value in several]
    assert len(set(found)) == len(found)
    assert describe(several[4].eval()) == describe(nn.Dropout(0.1))
    changed = scorers([("x**self.power", "-(x**self.power)")]).Network
    assert digest_of(describe(changed(1))) != found[0]


class Kind(enum.Enum):
    ONE = 1
    TWO = 2


class Slots:
    __slots__ = ("_state", "level")

    def __init__(self, level):
        self.level, self._state = level, object()


@dataclass
class Settings:
    values: object
    _state: object = None


class Told(Settings):
    def __init__(self, values, told):
        super().__init__(values)
        vars(self)["_state"] = told

    def evidence(self):
        return self._state


def test_values_of_every_kind_are_told_apart():
    values = [
        1, 1.5, True, None, "1", [1], [[1]], {"1": 1}, {1, 2}, {1, 3}, b"1", b"2", 1j, 2j, range(3), range(4),
        Kind.ONE, Kind.TWO, Slots(1), Slots(2), Settings(1), Settings(2), Settings(Settings(1)),
        Told(1, "a"), Told(1, "b"), re.compile("a"), re.compile("b"), torch.float32, torch.float16,
        np.arange(3), np.arange(3.0), np.array(["a"]), np.array(["b"]), np.zeros(2000), np.r_[np.zeros(1999), 1],
        json, re, torch.Generator().manual_seed(1), torch.Generator().manual_seed(2), [1].append, max, min, int, float,
        types.SimpleNamespace(a=1), types.SimpleNamespace(a=2), "nowhere/x", Path("nowhere/y"), TopK(1), TopK(2),
    ]  # fmt: skip
    found = [json.dumps(describe(value, evidence=True), sort_keys=True) for value in values]
    assert len(set(found)) == len(found)
    assert [json.dumps(describe(value, evidence=True), sort_keys=True) for value in values] == found
    assert describe(Told(1, "a")) == describe(Told(1, "b"))  # unasked
    assert not any(" at 0x" in text for text in found)
    assert describe({3, 1, 2}) == [1, 2, 3]


def test_numbers_of_numpy_are_numbers():
    assert describe(Settings(np.float64(0.5))) == describe(Settings(0.5))
    assert describe(np.int64(3)) == 3


def test_what_holds_itself_has_an_end():
    loop = Settings(None)
    loop.values = [loop]
    json.dumps(describe(loop))


def test_state_and_place_do_not_count(tmp_path):
    place = types.SimpleNamespace(a=1, _loaded=object(), device="cuda:1", cache=str(tmp_path), cache_dir=tmp_path)
    assert describe(place) == describe(types.SimpleNamespace(a=1))
    assert describe(types.SimpleNamespace(use_cache=True)) != describe(types.SimpleNamespace(use_cache=False))


def test_a_path_is_what_it_points_to(tmp_path, monkeypatch):
    file, folder = tmp_path / "weights.bin", tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    file.write_text("1")
    before = describe([Settings(str(file)), Settings(file), Settings(str(folder)), Settings([str(folder)])])
    (tmp_path / "copy").mkdir()
    copied = tmp_path / "copy/weights.bin"
    copied.write_text("1")
    assert describe(Settings(copied)) == before[1]  # moved, and of another time
    monkeypatch.chdir(tmp_path)
    assert describe(Settings("weights.bin")) == before[0]
    file.write_text("2")
    (folder / ".hidden").write_text("of no matter")
    (folder / "config.json").write_text("[]")
    after = describe([Settings(str(file)), Settings(file), Settings(str(folder)), Settings([str(folder)])])
    assert all(one != two for one, two in zip(before, after, strict=True))
    for word in ("model", ".", "..", "/", str(tmp_path), "~", "", "a" * 5000, "a\0b"):
        assert describe(word) == word  # a word, not a folder; or what holds everything


def test_large_files_and_folders_are_looked_at_evenly(tmp_path, monkeypatch):
    monkeypatch.setattr("graft_lightning.identity.files.READ", 1600)
    file = tmp_path / "large"
    data = bytearray(16000)
    file.write_bytes(data)
    before = content(file)
    for place in (0, 15999, 8000 - 8000 % 1060):
        data[place] ^= 1
        file.write_bytes(data)
        assert content(file) != before
        data[place] ^= 1
    file.write_bytes(bytes(16001))
    assert content(file) != before
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(MANY + 1):
        (folder / str(number)).touch()
    before, read = content(folder), _read.cache_info().misses
    (folder / "0").rename(folder / "other")
    assert content(folder) != before
    assert _read.cache_info().misses == read


NAMES = ["token", "hf_token", "password", "api_key", "apikey", "openai_api_key", "secret", "clientSecret", "access-key"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("secret", ["hunter2-hunter2", 99887766, ["hunter2-hunter2"], {"inner": "hunter2-hunter2"}])
def test_secrets_are_never_stored_and_still_told_apart(name, secret):
    holders = [lambda value: types.SimpleNamespace(**{name.replace("-", "_"): value}), lambda value: {name: value}]
    for held, nested in itertools.product(holders, (lambda value: value, lambda value: [Settings({"a": value})])):
        found = json.dumps(describe(nested(held(secret))))
        assert "hunter2" not in found
        assert "99887766" not in found
        assert found != json.dumps(describe(nested(held("another"))))


def test_secrets_in_addresses_and_closures_are_never_stored():
    token = "hunter2-hunter2"
    found = json.dumps(
        [
            describe(f"https://me:{token}@host/path?a=1"),
            describe(f"https://host/path?api_key={token}&a=1"),
            describe(lambda x: (x, token)),
            describe(lambda x, token=token: x),
        ]
    )
    assert "hunter2" not in found
    assert "host/path?a=1" in found
    assert describe("https://host/path?a=1#b") == "https://host/path?a=1#b"


def test_words_that_only_look_like_secrets_are_shown():
    shown = {"tokenizer": "t5", "max_tokens": 77, "keys": "a", "key": "b", "monkey": "c"}
    assert describe(shown) == shown


def test_the_librarys_and_installed_code_is_named_and_no_more():
    assert not any(is_users(value) for value in (TopK, nn.Linear, np.mean, Path, json.dumps, torch.no_grad))
    assert is_users(Kind)
    assert describe(TopK) == "graft_lightning.rejection.acceptance.top_k.TopK"
    assert describe(json.dumps) == "json.dumps"
    assert "source_text" not in describe(TopK(2))


def test_differences_name_each_key_and_both_values():
    stored = {"a": {"b": 1, "c": [1, 2]}, "gone": "x", "same": 0.1 + 0.2, "kind": True, "long": "y" * 500}
    wanted = {"a": {"b": 2, "c": [1, 3]}, "new": None, "same": 0.3, "kind": 1, "long": "z" * 500}
    lines = differences(stored, wanted, "in the pool", "now")
    assert lines[:4] == [
        "a.b: 1 in the pool, 2 now",
        "a.c[1]: 2 in the pool, 3 now",
        "gone: 'x' in the pool, absent now",
        "kind: True in the pool, 1 now",
    ]
    assert "(502 characters)" in lines[4]
    assert lines[5] == "new: absent in the pool, None now"
    assert len(lines) == 6
    assert differences({str(i): i for i in range(30)}, {})[-1] == "… and 20 more"
    assert differences(float("nan"), float("nan")) == []
    assert differences(1, 2) == ["value: 1 then, 2 now"]


def test_digest_sees_values_shapes_and_types():
    x = torch.arange(6.0)
    different = [x, x + 1e-6, x.reshape(2, 3), x.double(), x.bfloat16(), -x]
    assert len({digest([tensor]) for tensor in different}) == len(different)
    assert digest([x, x[:2]]) != digest([x[:2], x])
    assert digest([x]) == digest([x.clone().requires_grad_(True)])
