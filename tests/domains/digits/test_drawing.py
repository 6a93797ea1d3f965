import pytest
import torch

from graft_lightning.domains.digits.drawing import draw_grid, grid_tensor


def test_pixels_are_magnified_without_blur() -> None:
    pictures = torch.tensor([[0.0, 1.0], [0.4, 0.6]]).reshape(1, 1, 2, 2)
    grid = grid_tensor(pictures, scale=3)
    assert grid.dtype == torch.uint8
    assert grid.shape == (3, 18, 18)
    expected = torch.tensor([[0, 255], [102, 153]]).repeat_interleave(3, 0).repeat_interleave(3, 1)
    for channel in grid:
        assert torch.equal(channel[6:12, 6:12].long(), expected)


def test_pictures_run_along_rows_and_captions_need_room() -> None:
    pictures = torch.arange(5).reshape(5, 1, 1, 1).expand(5, 1, 16, 16) / 4
    plain = grid_tensor(pictures, columns=3, scale=1)
    assert plain.shape[1:] == (2 * 22 + 6, 3 * 22 + 6)
    assert plain[0, 10, [10, 32, 54]].tolist() == [0, 64, 128]
    assert plain[0, 32, [10, 32]].tolist() == [191, 255]
    captioned = grid_tensor(pictures, ["a three to the left of a seven"] * 5, columns=3, scale=5)
    assert captioned.shape[1] > grid_tensor(pictures, columns=3, scale=5).shape[1] + 20
    assert (captioned[:, 6 + 80 :, :] < 100).any(), "no ink below the pictures"


def test_marks_frame_in_green_or_red() -> None:
    grid = grid_tensor(torch.zeros(2, 1, 4, 4), scale=2, marks=[True, False])
    frame = grid[:, 5, [10, 24]]
    assert frame[1, 0] > frame[0, 0]
    assert frame[0, 1] > frame[1, 1]


def test_out_of_range_pixels_are_clipped() -> None:
    page = draw_grid(torch.tensor([-1.0, 2.0, torch.nan]).reshape(3, 1, 1, 1), scale=1)
    assert [page.getpixel((6 + 7 * i, 6)) for i in range(3)] == [(0, 0, 0), (255, 255, 255), (0, 0, 0)]


def test_captions_must_be_as_many_as_pictures() -> None:
    with pytest.raises(ValueError, match="1 captions for 2 pictures"):
        draw_grid(torch.zeros(2, 1, 4, 4), ["one"])
