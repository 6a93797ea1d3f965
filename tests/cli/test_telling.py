"""What is said of an error on one line."""

import pytest
import torch

from graft_lightning.cli.telling import told
from graft_lightning.refusals import first_line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("one\ntwo", "one"),
        ("\n  one  \ntwo", "one"),
        ("of these:\n\t- one\n\t- two", "of these: - one"),
        ("of:\nthese:\none\ntwo", "of: these: one"),
        ("of these:", "of these:"),
        ("", "ValueError"),
    ],
)
def test_the_first_line_and_what_it_announces(text, line):
    assert first_line(ValueError(text)) == line


def test_the_weights_that_a_network_lacks_are_named():
    with pytest.raises(RuntimeError) as caught:
        torch.nn.Linear(2, 2).load_state_dict({"module.weight": torch.zeros(2, 2)})
    assert 'Missing key(s) in state_dict: "weight", "bias"' in told(caught.value)[0]
