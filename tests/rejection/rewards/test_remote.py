import base64
import json
import math
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
from tensordict import TensorDict

from graft_lightning.rejection.rewards import CachedReward, RemoteReward, RemoteRewardError
from graft_lightning.rejection.rewards import server as server_module
from graft_lightning.rejection.rewards.remote import finite_rows, packed
from graft_lightning.rejection.rewards.server import RewardServer, unpack


@pytest.fixture
def serve():
    """Starts reward servers on free ports of 127.0.0.1."""
    running = []

    def start(score, identity=""):
        server = RewardServer(score, port=0, identity=identity)
        running.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return server.url

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


def quick(url, **settings):
    return RemoteReward(url, **{"timeout": 5.0, "backoff": 0.01, "retries": 2, **settings})


def mean(samples, conditions):
    return [float(x.mean()) + len(c) if c else None for x, c in zip(samples, conditions, strict=True)]


IMAGES = torch.rand(5, 3, 4, 4)
PROMPTS = ["a", "bb", "", "dddd", "ä"]


def test_scores_come_back_in_order_over_several_requests(serve):
    seen = []

    def score(samples, conditions):
        seen.append(len(conditions))
        return mean(samples, conditions)

    scores = quick(serve(score), batch_size=2)(IMAGES, PROMPTS)
    expected = IMAGES.mean((1, 2, 3)) + torch.tensor([1.0, 2.0, float("nan"), 4.0, 1.0])
    torch.testing.assert_close(scores, expected, equal_nan=True)
    assert scores.dtype == torch.float32
    assert seen == [2, 2, 1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool, torch.uint8])
def test_values_and_types_survive_the_way(dtype):
    values = (torch.rand(3, 2, 2) * 5).to(dtype)
    samples, conditions = unpack({"version": 1, "conditions": list("abc"), "samples": packed(values)})
    assert conditions == list("abc")
    assert samples.dtype.name == {torch.bfloat16: "float32"}.get(dtype, str(dtype).removeprefix("torch."))
    assert np.array_equal(samples, values.float().numpy() if dtype == torch.bfloat16 else values.numpy())


def test_quantised_images_travel_as_bytes():
    found = packed(torch.tensor([[0.0, 0.5, 1.0, 1.5, 0.999]]), quantise=True)
    assert found["dtype"] == "uint8"
    assert list(base64.b64decode(found["data"])) == [0, 128, 255, 255, 255]


def test_what_bytes_cannot_say_is_not_sent(serve):
    """A sample that is not finite would be judged as a black one, and one in [-1, 1] as another."""
    broken = IMAGES.clone()
    broken[0, 0, 0, 0], broken[3, 2, 1, 1] = torch.nan, torch.inf
    seen = []

    def score(samples, conditions):
        seen.extend(conditions)
        return [float(x.mean()) / 255 for x in samples]

    reward = quick(serve(score), quantise=True, batch_size=2)
    expected = IMAGES.mean((1, 2, 3)).index_fill(0, torch.tensor([0, 3]), torch.nan)
    torch.testing.assert_close(reward(broken, PROMPTS), expected, rtol=0, atol=1 / 255, equal_nan=True)
    assert seen == ["bb", "", "ä"]
    assert finite_rows(TensorDict({"x": broken}, batch_size=[5])) == [1, 2, 4]
    assert reward(broken[:1], ["a"]).isnan().all()
    for wrong, said in ((2 * IMAGES - 1, "these reach from -"), (255 * IMAGES, "quantise=True is for samples in")):
        with pytest.raises(ValueError, match=said):
            reward(wrong, PROMPTS)
    assert reward(IMAGES.half() + 0.4 / 255, PROMPTS).isfinite().all()


def test_mixed_states_travel_by_field(serve):
    state = TensorDict({"x": IMAGES, "inner": {"mask": torch.ones(5, 2, dtype=torch.bool)}}, batch_size=[5])

    def score(samples, conditions):
        assert set(samples) == {"x", "inner.mask"}
        return samples["x"].mean((1, 2, 3)) + samples["inner.mask"].sum(1)

    torch.testing.assert_close(quick(serve(score))(state, PROMPTS), IMAGES.mean((1, 2, 3)) + 2)


def test_a_failing_server_is_asked_again(serve):
    calls = []

    def score(samples, conditions):
        calls.append(len(conditions))
        if len(calls) < 3:
            raise RuntimeError("out of memory")
        return mean(samples, conditions)

    assert quick(serve(score))(IMAGES[:1], ["a"]).shape == (1,)
    assert calls == [1, 1, 1]


def test_a_server_that_keeps_failing_is_given_up_with_its_own_words(serve):
    def score(samples, conditions):
        raise RuntimeError("out of memory")

    with pytest.raises(RemoteRewardError, match=r"failed 3 times, last with status 500, RuntimeError: out of memory"):
        quick(serve(score))(IMAGES, PROMPTS)


def test_a_server_that_is_not_there(serve):
    url = serve(mean)
    free = RewardServer(mean, port=0)
    closed = free.url
    free.server_close()
    with pytest.raises(RemoteRewardError, match=r"failed 2 times, last with .*is the reward server running"):
        quick(closed, retries=1)(IMAGES, PROMPTS)
    assert quick(url)(IMAGES[:1], ["a"]).isfinite().all()


def test_what_takes_longer_than_the_timeout_is_asked_for_again_and_computed_once(serve):
    calls = []

    def score(samples, conditions):
        calls.append(time.monotonic())
        time.sleep(0.4)
        return mean(samples, conditions)

    assert quick(serve(score), timeout=0.1, retries=8, backoff=0.05)(IMAGES[:1], ["a"]).isfinite().all()
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("scores", "message"),
    [([0.5], "1 scores for 5 samples"), (["high"] * 5, "TypeError"), ([math.inf] * 5, "an infinite score")],
)
def test_wrong_scores_are_the_servers_error(serve, scores, message):
    with pytest.raises(RemoteRewardError, match=message):
        quick(serve(lambda samples, conditions: scores), retries=0)(IMAGES, PROMPTS)


def post(url, content):
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return urllib.request.urlopen(urllib.request.Request(url, body, method="POST"), timeout=5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "version 2; this server speaks version 1"),
        ({"conditions": ["a"]}, "1 conditions for 5 samples"),
        ({"samples": {}}, "KeyError: 'dtype'"),
        ({"samples": {"dtype": "object", "shape": [5], "data": ""}}, "does not travel"),
        ({"samples": {"dtype": "uint8", "shape": [5], "data": "AA=="}}, "ValueError"),
    ],
)
def test_a_request_against_the_schema_is_refused(serve, change, message):
    request = {"version": 1, "conditions": PROMPTS, "samples": packed(IMAGES), **change}
    with pytest.raises(urllib.error.HTTPError) as caught:
        post(serve(mean), request)
    assert caught.value.code == 400
    assert message in json.loads(caught.value.read())["error"]


def test_a_refusal_is_not_repeated(serve, monkeypatch):
    calls = []

    def refuse(request):
        calls.append(request)
        raise ValueError("not like this")

    monkeypatch.setattr(server_module, "unpack", refuse)
    with pytest.raises(RemoteRewardError, match="refused the request: status 400, ValueError: not like this"):
        quick(serve(mean))(IMAGES, PROMPTS)
    assert len(calls) == 1


def test_an_answer_in_another_version_is_an_error(serve, monkeypatch):
    url = serve(mean)
    monkeypatch.setattr(server_module, "VERSION", 7)
    with pytest.raises(RemoteRewardError, match="speaks version 7 of the schema, this reward 1"):
        quick(url).evidence()


@pytest.mark.parametrize("url", ["file:///etc/hostname", "127.0.0.1:8000", "http://"])
def test_only_web_addresses(url):
    with pytest.raises(ValueError, match="is not an http or https address"):
        RemoteReward(url)


def test_a_proxy_in_the_environment_is_ignored(serve, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert quick(serve(mean), retries=0)(IMAGES[:1], ["a"]).isfinite().all()


def test_the_servers_identity_is_part_of_a_caches_key(serve, tmp_path):
    for identity in ("one", "two"):
        CachedReward(quick(serve(mean, identity)), str(tmp_path))(IMAGES, PROMPTS)
    assert len(list(tmp_path.iterdir())) == 2


def test_the_file_alone_is_a_server(tmp_path):
    """Copied elsewhere and run with neither torch nor this package."""
    copy = tmp_path / "server.py"
    copy.write_text(Path(server_module.__file__).read_text())
    (tmp_path / "my_reward.py").write_text(
        "import sys\n"
        "from my_helper import SIGN\n"
        "def score(samples, conditions):\n"
        "    assert not {'torch', 'graft_lightning'} & set(sys.modules)\n"
        "    return SIGN * samples.mean(axis=(1, 2, 3))\n"
    )
    command = [sys.executable, "server.py", "my_reward:score", "--port", "0"]
    known = []
    for sign in (1, -1):
        (tmp_path / "my_helper.py").write_text(f"SIGN = {sign}\n")
        with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
            try:
                url = process.stdout.readline().split()[-1]
                torch.testing.assert_close(quick(url)(IMAGES, PROMPTS), sign * IMAGES.mean((1, 2, 3)))
                known.append(quick(url).evidence())
            finally:
                process.terminate()
    assert "" not in known
    assert known[0] != known[1], "an edited server is another reward"


@pytest.mark.parametrize(
    "url", ["http://host:99999", "http://host:port", "http://:8000", "http://[::1", "http://host:0"]
)
def test_an_address_that_cannot_be_asked_is_refused_at_once(url):
    with pytest.raises(ValueError, match="is not an http or https address"):
        RemoteReward(url)


def test_a_password_is_sent_and_never_shown(serve):
    address = serve(mean).replace("http://", "http://me:secret@")
    assert quick(address)(IMAGES, PROMPTS).isfinite().sum() == 4
    nobody = "http://me:secret@127.0.0.1:9/path"
    with pytest.raises(RemoteRewardError, match=r"^http://127\.0\.0\.1:9/path failed 1 times") as told:
        quick(nobody, retries=0)(IMAGES, PROMPTS)
    assert "secret" not in str(told.value)
