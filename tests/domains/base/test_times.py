import math

import torch

from graft_lightning.domains.base.times import TimedTypes, Times, fourier


def test_features_are_cosines_and_sines_of_wavelengths():
    t = torch.tensor([0.0, 0.25, 0.5])
    got = fourier(t, 3, longest=4.0, shortest=0.25)
    angle = 2 * math.pi * t[:, None] / torch.tensor([4.0, 1.0, 0.25])
    torch.testing.assert_close(got, torch.cat([angle.cos(), angle.sin()], 1), atol=1e-6, rtol=0)
    assert got[0].tolist() == [1, 1, 1, 0, 0, 0]
    assert fourier(t.expand(2, 3), 3, 4.0, 0.25).shape == (2, 3, 6)


def test_every_time_counts_and_rows_do_not_mix():
    torch.manual_seed(0)
    times = Times(3, 8)
    t = torch.tensor([[0.1, 0.1, 0.7], [0.5, 0.5, 0.5], [0.9, 0.2, 0.9]])  # a field a row, a sample a column
    out = times(*t)
    assert out.shape == (3, 8)
    torch.testing.assert_close(times(*t[:, 1:2]), out[1:2])
    assert (times(*t.roll(1, 0)) - out).abs().max() > 1e-3
    for field in range(3):
        other = t.clone()
        other[field] += 0.05
        assert (times(*other) - out).abs().amin(0).max() > 1e-4


def test_narrow_types_keep_the_features():
    """A frequency rounded to bfloat16 would turn the angle of the shortest wavelength by half a degree or more."""
    torch.manual_seed(0)
    times, t = Times(2, 8), (torch.tensor([0.999, 0.37]), torch.tensor([0.123, 0.871]))
    seen = []
    times[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    times(*t)
    times.to(torch.bfloat16)(*t)
    assert seen[1].dtype == torch.bfloat16
    assert torch.equal(seen[0].to(torch.bfloat16), seen[1])


def test_types_are_the_same_as_numbers_and_as_one_hot_codes():
    torch.manual_seed(0)
    inputs, t = TimedTypes(5, 8), (torch.rand(2), torch.rand(2))
    types = torch.tensor([[0, 4, 1], [2, 2, 3]])
    elements, times = inputs(types, *t)
    assert (elements.shape, times.shape) == ((2, 3, 8), (2, 8))
    torch.testing.assert_close(elements, inputs.types.weight.T[types] + inputs.types.bias)
    assert torch.equal(inputs(torch.nn.functional.one_hot(types, 5).float(), *t)[0], elements)
    assert list(inputs.state_dict()) == [
        *("types.weight", "types.bias"),
        *("times.0.weight", "times.0.bias", "times.2.weight", "times.2.bias"),
    ]
