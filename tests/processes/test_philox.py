"""Philox4x64-10 against the published answers, and against NumPy's."""

import ctypes
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from graft_lightning.processes.philox import philox, rows_of_words
from graft_lightning.processes.philox_numpy import Generator, parts_of_words, within
from graft_lightning.processes.splitmix import mixed, shifted_right, signed

ONES = 0xFFFFFFFFFFFFFFFF
ANSWERS = [
    ([0] * 4, [0] * 2, [0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B]),
    ([ONES] * 4, [ONES] * 2, [0x87B092C3013FE90B, 0x438C3C67BE8D0224, 0x9CC7D7C69CD777B6, 0xA09CAEBF594F0BA0]),
    (
        [0x243F6A8885A308D3, 0x13198A2E03707344, 0xA4093822299F31D0, 0x082EFA98EC4E6C89],
        [0x452821E638D01377, 0xBE5466CF34E90C6C],
        [0xA528F45403E61D95, 0x38C72DBD566E9788, 0xA5A1610E72FD18B5, 0x57BD43B5E52B7FE6],
    ),
]
"""Counter, key and words, as the authors of the generator publish them (Random123, ``kat_vectors``)."""


@pytest.mark.parametrize(("counter", "key", "words"), ANSWERS, ids=["zeros", "ones", "pi"])
def test_the_published_answers(counter, key, words):
    counter, key = (torch.tensor([signed(word) for word in part]).unsqueeze(1) for part in (counter, key))
    assert philox(counter, key).squeeze(1).tolist() == [signed(word) for word in words]


@pytest.mark.parametrize(("rows", "words"), [(3, 1), (3, 4), (3, 5), (3, 40_000), (500, 1), (5000, 16), (500, 17)])
def test_all_sources_are_the_same_stream(rows, words):
    """A generator at a place of each row, operations on whole arrays and on whole tensors: few and many rows."""
    seeds = torch.cat([torch.tensor([0, 1, 2**62 + 12345]), torch.arange(rows - 3) * 7919 - 2**60])
    expected = rows_of_words(seeds, 1, 3, words)
    found = np.empty(expected.shape, np.uint64)
    for part, bits in parts_of_words(seeds.numpy().view(np.uint64), 1, 3, words):
        found[part] = bits
    assert torch.equal(torch.from_numpy(found.view(np.int64)), expected)
    numpys = np.random.Philox(counter=[0, 3, 1, 0], key=[2**62 + 12345, 0]).random_raw(words)
    assert expected[2].tolist() == numpys.view(np.int64).tolist()


@pytest.mark.parametrize("count", [1, 3, 4, 5, 130])
@pytest.mark.parametrize("first", [0, 8])
def test_a_generator_is_set_from_within_or_as_numpy_offers(first, count):
    keys = np.array([0, 2**63 + 5, 2**64 - 1, 5], np.uint64)
    quick, plain = Generator(), Generator()
    assert quick._within is not None, "draws of few numbers take twice as long"
    plain._within = None
    for _ in range(2):  # nothing is left over from the first time
        assert (quick.words(keys, 1, 7, first, count) == plain.words(keys, 1, 7, first, count)).all()


@pytest.mark.parametrize("change", [lambda place: 1, lambda place: place + 8], ids=["out of it", "elsewhere in it"])
def test_a_state_that_is_kept_otherwise_is_left_alone(change):
    class Other(np.random.Philox):
        @property
        def ctypes(self):
            there = (ctypes.c_uint64 * 2).from_address(super().ctypes.state_address)
            self.told = (ctypes.c_uint64 * 2)(*map(change, there))
            return SimpleNamespace(state_address=ctypes.addressof(self.told))

    assert within(Other(key=3)) is None
    assert within(np.random.Philox(key=3)) is not None


def test_the_finaliser_of_splitmix64():
    """The first numbers of the generator that starts from 1234567, as its author's program prints them."""
    step, state, found = 0x9E3779B97F4A7C15, 1234567, []
    for _ in range(3):
        state = (state + step) % 2**64
        found.append(int(mixed(torch.tensor(signed(state)))) % 2**64)
    assert found == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_a_logical_shift_fills_with_zeros():
    assert shifted_right(torch.tensor([-1, 8]), 1).tolist() == [2**63 - 1, 4]
