import torch

from graft_lightning.domains.digits.data import digits
from graft_lightning.domains.digits.metrics import recognise


def test_the_judge_recognises_digits_it_has_not_seen() -> None:
    for third in ("reference", "reward"):
        images, labels = digits(third)
        assert (recognise(images) == labels).float().mean() > 0.95
    assert recognise(torch.zeros(2, 8, 8)).tolist() == [10, 10]
    assert recognise(torch.zeros(0, 8, 8)).shape == (0,)
