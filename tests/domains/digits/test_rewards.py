from pathlib import Path

import pytest
import torch

from graft_lightning.domains.digits.data import DigitPairs
from graft_lightning.domains.digits.metrics import DigitPairJudge
from graft_lightning.domains.digits.rewards import DigitPairReward, shown


def test_shown_is_the_sum_over_layouts_of_products_over_slots() -> None:
    probability = torch.rand(3, 4, 11).softmax(dim=2)
    found = shown(probability, ["a three to the right of a seven", "two fours", "an eight above a zero"])
    left, right, top, bottom = probability.unbind(dim=1)
    expected = [
        left[0, 7] * right[0, 3],
        left[1, 4] * right[1, 4] + top[1, 4] * bottom[1, 4],
        top[2, 8] * bottom[2, 0],
    ]
    assert torch.allclose(found, torch.stack(expected))


def test_shown_never_exceeds_one_and_wants_as_many_prompts_as_pictures() -> None:
    assert shown(torch.ones(1, 4, 11), ["two fours"]).tolist() == [1.0]
    assert shown(torch.ones(0, 4, 11), []).shape == (0,)
    with pytest.raises(ValueError, match="2 images, but 1 prompts"):
        shown(torch.ones(2, 4, 11), ["two fours"])


@pytest.mark.parametrize("reward", [DigitPairReward(), DigitPairJudge()], ids=["reward", "judge"])
def test_real_pictures_score_high_with_their_own_caption_and_low_with_anothers(reward: DigitPairReward) -> None:
    images, captions = DigitPairs(400, seed=1, wrong_captions=0.0).batch(torch.arange(400))
    right = reward((images + 1) / 2, captions)
    wrong = reward((images + 1) / 2, captions[1:] + captions[:1])
    assert right.shape == (400,)
    assert right.dtype == torch.float32
    assert right.mean() > 0.92
    assert wrong.mean() < 0.03


@pytest.mark.parametrize("reward", [DigitPairReward(), DigitPairJudge()], ids=["reward", "judge"])
def test_empty_noisy_and_broken_pictures_earn_nothing(reward: DigitPairReward) -> None:
    noise = torch.rand(64, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    prompts = ["a three to the left of a seven"] * 64
    assert reward(noise, prompts).mean() < 0.02
    assert reward(torch.zeros(64, 1, 16, 16), prompts).max() < 0.1
    noise[0, 0, 6, 3] = torch.nan
    scores = reward(noise[:2], prompts[:2])
    assert scores.isnan().tolist() == [True, False]


def test_the_classifier_may_be_another_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"mine\.safetensors"):
        DigitPairReward(str(tmp_path / "mine.safetensors"))(torch.zeros(1, 1, 16, 16), ["two fours"])


def test_pictures_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(1, 1, 8, 8\)"):
        DigitPairReward()(torch.zeros(1, 1, 8, 8), ["two fours"])
