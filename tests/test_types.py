"""States: into the process and out of it, taken apart and joined."""

import torch

from graft_lightning.types import (
    Batch,
    Draws,
    as_state,
    bare,
    batch_of,
    broadcast,
    concatenate,
    device_of,
    map_fields,
    on_device,
    take,
)

X = torch.arange(6.0).reshape(3, 2)
STATE = {"y": X, "c": torch.tensor([0, 1, 2])}


def test_a_field_without_a_name_is_a_plain_tensor_outside():
    assert as_state(X) == {"x": X}
    assert bare({"x": X}) is X
    one_named, with_mask = {"y": X}, {"x": X, "mask": STATE["c"]}
    assert bare(one_named) is one_named
    assert bare(with_mask) is with_mask


def test_a_state_of_fields_is_copied_at_the_edge_and_its_tensors_are_not():
    state = as_state(STATE)
    assert state is not STATE
    assert state.keys() == STATE.keys()
    assert all(state[name] is STATE[name] for name in STATE)


def test_samples_are_counted_along_the_first_axis():
    assert batch_of(X) == batch_of(STATE) == 3
    assert device_of(X) == device_of(STATE) == torch.device("cpu")


def test_taking_samples():
    assert take(X, slice(1, 3)).tolist() == [[2.0, 3.0], [4.0, 5.0]]
    assert {name: field.tolist() for name, field in take(STATE, torch.tensor([2, 0])).items()} == {
        "y": [[4.0, 5.0], [0.0, 1.0]],
        "c": [2, 0],
    }
    assert take(STATE, torch.tensor([False, True, False]))["c"].tolist() == [1]


def test_joining_is_one_after_the_other():
    assert concatenate([X[:1], X[2:]]).tolist() == [[0.0, 1.0], [4.0, 5.0]]
    assert concatenate([["a"], ["b", "c"]]) == ["a", "b", "c"]
    joined = concatenate([STATE, take(STATE, slice(0, 1))])
    assert joined["c"].tolist() == [0, 1, 2, 0]
    assert joined["y"].shape == (4, 2)


def test_a_function_of_fields_meets_the_fields_of_one_name():
    found = map_fields(lambda a, b: a - 2 * b, STATE, {"c": torch.tensor([1, 1, 1]), "y": X})
    assert found["y"].tolist() == (-X).tolist()
    assert found["c"].tolist() == [-2, -1, 0]
    assert map_fields(torch.neg, X).tolist() == (-X).tolist()


def test_values_of_samples_multiply_sample_by_sample():
    """Also where the batch is as large as the last axis, and both orders would broadcast."""
    square = torch.ones(2, 2)
    assert (broadcast(torch.tensor([1.0, 10.0]), square) * square).tolist() == [[1.0, 1.0], [10.0, 10.0]]
    assert broadcast(torch.ones(3), torch.ones(3, 4, 5)).shape == (3, 1, 1)
    assert broadcast(torch.ones(3, 4), torch.ones(3, 4, 5)).shape == (3, 4, 1)


def test_what_goes_to_a_device_and_what_stays():
    """Seeds stay with the generators on the CPU; the meta device stands for any other."""
    seeds = torch.arange(3)
    batch = Batch(STATE, ["a"] * 3, seeds, torch.ones(3)).to("meta")
    assert {batch.x["y"].device.type, batch.x["c"].device.type, batch.weight.device.type} == {"meta"}
    assert batch.seeds is seeds
    assert batch.conditions == ["a"] * 3
    assert on_device(X, "meta").device.type == "meta"
    assert on_device(["a text"], "meta") == ["a text"]
    draws = Draws(["a"], torch.tensor([0]), torch.tensor([7]))
    assert draws.to("meta") is draws
