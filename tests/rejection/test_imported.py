"""Imported rounds: which samples become which states, and what is refused of them."""

import pytest
import torch
from torch import nn

from graft_lightning.api import Collection, OwnModel
from graft_lightning.domains.molecules import MoleculeReference
from graft_lightning.processes.samplers import DDPM
from graft_lightning.rejection.codec import Codec, WrongSize
from graft_lightning.rejection.imported import (
    conditions_file,
    import_samples,
    imported_round,
    is_imported,
    require_encoding,
)
from graft_lightning.rejection.pool import PoolMismatch, TrajectoryPool
from graft_lightning.types import SettingsError
from tests.domains.text_to_image.conftest import pipeline_folder  # noqa: F401 - a fixture

TEXTS = ["n=3", "n=4"]


@pytest.fixture
def molecules(tmp_path):
    """A reference of molecules, and a file of one molecule for every condition and draw."""
    reference = MoleculeReference(max_atoms=6)
    generator = torch.Generator().manual_seed(0)
    paths = {}
    for count, text in zip((3, 4), TEXTS, strict=True):
        for draw in range(2):
            atoms = torch.randn(count, 3, generator=generator)
            lines = [f"{'CHNO'[i]} {x:.6f} {y:.6f} {z:.6f}" for i, (x, y, z) in enumerate(atoms.tolist())]
            paths[text, draw] = tmp_path / f"{count}-{draw}.xyz"
            paths[text, draw].write_text("\n".join([str(count), "", *lines]) + "\n")
    return reference, paths


def imported(folder, reference, paths, identity="a", values=None):
    pool = TrajectoryPool.create(folder, {"model": 1}, 5)
    scores = {"mine": torch.tensor([[1.0, 2.0], [3.0, 4.0]]) if values is None else values}
    read = lambda text, draw: reference.read(paths[text, draw], text)  # noqa: E731
    return import_samples(pool, reference, TEXTS, 2, read, scores, identity, batch_size=3)


def test_molecules_are_centred_and_padded(molecules, tmp_path):
    reference, paths = molecules
    opened = imported(tmp_path / "pool", reference, paths)
    assert is_imported(opened)
    assert opened.complete
    x_0 = opened.read(range(4))["x_0"]
    assert x_0["mask"].sum(1).tolist() == [3, 3, 4, 4]
    assert x_0["types"][2, :4].tolist() == [1, 0, 2, 3]
    torch.testing.assert_close(x_0["positions"].sum(1), torch.zeros(4, 3), rtol=0, atol=1e-5)
    assert not x_0["positions"][:2, 3:].any()
    sample = reference.read(paths["n=4", 1], "n=4")
    shift = sample["positions"][0, :4] - x_0["positions"][3, :4]
    torch.testing.assert_close(shift, shift[:1].expand(4, 3), rtol=0, atol=1e-5)
    assert torch.equal(opened.column("key").flatten(), reference.keys(reference.decode(x_0)))
    assert opened.rewards("mine").tolist() == [[1, 2], [3, 4]]


def test_files_that_hold_no_sample_are_refused(molecules, tmp_path):
    reference, paths = molecules
    with pytest.raises(WrongSize, match="3 atoms; n=4 asks for 4"):
        reference.read(paths["n=3", 0], "n=4")
    (tmp_path / "two.xyz").write_text(2 * paths["n=3", 0].read_text())
    with pytest.raises(SettingsError, match="holds 2 molecules"):
        reference.read(tmp_path / "two.xyz", "n=3")
    (tmp_path / "gold.xyz").write_text("1\n\nAu 0 0 0\n")
    with pytest.raises(SettingsError, match="Au"):
        reference.read(tmp_path / "gold.xyz", "n=1")


def test_a_round_is_taken_up_and_never_another_one(molecules, tmp_path):
    reference, paths = molecules
    opened = imported(tmp_path / "pool", reference, paths)
    first = opened.path / opened.shards[0].filename
    content = first.read_bytes()
    first.unlink()
    assert not opened.complete
    imported(tmp_path / "pool", reference, paths)
    assert first.read_bytes() == content
    with pytest.raises(PoolMismatch, match="samples"):
        imported(tmp_path / "pool", reference, paths, "b")
    with pytest.raises(PoolMismatch, match="imported"):
        imported(tmp_path / "pool", reference, paths, values=torch.zeros(2, 2))
    assert imported_round(tmp_path / "pool").draws == 2
    assert imported_round(tmp_path / "pool", 1) is None
    assert imported_round(tmp_path) is None


def test_a_collection_uses_it_and_cannot_complete_it(molecules, tmp_path):
    reference, paths = molecules
    imported(tmp_path / "pool", reference, paths)

    def filled(conditions, draws):
        return Collection(reference, [], tmp_path / "pool", conditions, draws, keep=[0.5], seed=5).fill(
            None, {"model": 1}
        )

    found = filled(TEXTS[::-1], 1)
    assert found.drawn == 0
    assert found.round.rewards("mine").tolist() == [[3], [1]]
    assert found.round.kept_levels == {}
    with pytest.raises(SettingsError, match=r"collect.draws=3: .* holds 2 imported samples"):
        filled(TEXTS, 3)
    with pytest.raises(SettingsError, match=r"1 others of data\.conditions, such as 'n=5'"):
        filled([*TEXTS, "n=5"], 2)


def test_a_pool_names_the_file_of_conditions_that_it_has(tmp_path):
    assert conditions_file(tmp_path).name == "conditions.jsonl"
    (tmp_path / "conditions.txt").write_text("n=3\n")  # as pools that were made before have it
    assert conditions_file(tmp_path).name == "conditions.txt"


def test_states_of_another_shape_are_refused(molecules, tmp_path):
    reference, paths = molecules
    reference.state_of = lambda samples, texts: {**samples, "positions": samples["positions"][:, :2]}
    with pytest.raises(SettingsError, match=r"makes states .*\(2, 3\).* the model has .*\(6, 3\)"):
        imported(tmp_path / "pool", reference, paths)


def test_what_does_not_encode_is_refused_in_words(tmp_path):
    model = OwnModel(nn.Identity(), DDPM(2), shape=(2,))
    with pytest.raises(SettingsError, match="OwnModel does not say how a file becomes a sample"):
        require_encoding(model)
    with pytest.raises(SettingsError, match="its `read`"):
        model.read(tmp_path / "a.png", "")
    samples = torch.ones(2, 3)
    assert Codec().state_of(samples, ["", ""]) is samples

    class Decoding(Codec):
        def decode(self, x_0):
            return x_0 + 1

    with pytest.raises(SettingsError, match="its `state_of`"):
        Decoding().state_of(samples, ["", ""])


@pytest.mark.parametrize("name", ["sd15", "sdxl", "sd3"])
def test_latents_are_those_of_the_vae(name, pipeline_folder):  # noqa: F811
    from graft_lightning.domains.text_to_image import DiffusersReference

    reference = DiffusersReference(str(pipeline_folder(name)))
    height, width = reference.size
    images = torch.rand(3, 3, height, width, generator=torch.Generator().manual_seed(1))
    states = reference.state_of(images, [""] * 3)
    assert tuple(states.shape[1:]) == tuple(reference.shape([""]))
    with torch.no_grad():
        mean = reference._vae.encode(2 * images - 1).latent_dist.mode()
    torch.testing.assert_close(reference.family.unscaled(states, reference._vae.config), mean, rtol=1e-4, atol=1e-5)
