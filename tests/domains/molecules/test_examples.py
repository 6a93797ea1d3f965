import pytest
import torch

from graft_lightning.domains.base.counts import condition_of
from graft_lightning.domains.molecules.examples import EmbeddedMolecules, MoleculeFiles
from graft_lightning.domains.molecules.perception import perceive
from graft_lightning.domains.molecules.xyz import write_xyz
from graft_lightning.types import SettingsError


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def examples(cache):
    return lambda **arguments: EmbeddedMolecules(max_heavy=3, max_atoms=9, cache=cache, **arguments)


def test_a_position_is_always_the_same_molecule(examples):
    source = examples()
    x, texts = source.batch(range(100, 140), seed=1)
    again, texts_again = examples().batch([139, 100], seed=1)
    for field in ("positions", "types", "mask"):
        torch.testing.assert_close(again[field], x[field][[39, 0]], rtol=0, atol=0)
    assert texts_again == [texts[39], texts[0]]
    assert texts == [condition_of(count) for count in x["mask"].sum(-1).tolist()]


def test_every_shuffle_shows_every_molecule_once(examples):
    source = examples()
    length = len(source.molecules)

    def keys(start: int, seed: int) -> list[int]:
        return [p.key for p in perceive(source.batch(range(start, start + length), seed)[0])]

    streams = [keys(0, seed=0), keys(length, seed=0), keys(0, seed=1)]
    assert [sorted(stream) for stream in streams] == [sorted(source.molecules.keys().tolist())] * 3
    assert len({tuple(stream) for stream in streams}) == 3


def test_parts_are_disjoint_and_equally_wide(examples):
    parts = {part: examples(part=part) for part in ("train", "valid", "test", "all")}
    sizes = {part: len(source.molecules) for part, source in parts.items()}
    assert sizes["train"] + sizes["valid"] + sizes["test"] == sizes["all"]
    assert sizes["train"] > sizes["valid"] > 0 < sizes["test"]
    keys = {part: set(source.molecules.keys().tolist()) for part, source in parts.items()}
    assert keys["train"] | keys["valid"] | keys["test"] == keys["all"]
    assert len(keys["train"]) + len(keys["valid"]) + len(keys["test"]) == len(keys["all"])
    widths = {source.batch([0, 1], 0)[0]["mask"].shape[1] for source in parts.values()}
    assert widths == {9}


def test_rotation_differs_from_time_to_time_and_changes_no_molecule(examples):
    still, turned = examples(rotate=False), examples()
    length = len(still.molecules)
    positions = {"still": still.batch(range(5), 0)[0], "turned": turned.batch(range(5), 0)[0]}
    assert (positions["still"]["positions"] - positions["turned"]["positions"]).abs().max() > 0.1
    lengths = [torch.cdist(x["positions"], x["positions"]) for x in positions.values()]
    torch.testing.assert_close(*lengths)
    assert torch.equal(turned.batch(range(5), 0)[0]["positions"], positions["turned"]["positions"])
    # the same molecule, the next time that it comes
    now, later = (turned.batch(range(k * length, (k + 1) * length), 0)[0] for k in range(2))
    key = perceive(now)[0].key
    here, there = (x["positions"][[p.key for p in perceive(x)].index(key)] for x in (now, later))
    assert (here - there).abs().max() > 1e-3


def test_files(tmp_path, molecule):
    write_xyz(tmp_path / "some.xyz", [molecule(name) for name in ("water", "methane", "ethylene")])
    source = MoleculeFiles([str(tmp_path / "some.xyz")], max_atoms=5, cache=str(tmp_path / "cache"), part="all")
    assert sorted(source.batch([0, 1], 0)[1]) == ["n=3", "n=5"]


def test_a_part_without_molecules_is_refused(tmp_path, molecule):
    """A tenth of five molecules, rounded down, is none."""
    write_xyz(tmp_path / "some.xyz", [molecule("water")] * 5)
    source = MoleculeFiles([str(tmp_path / "some.xyz")], cache=str(tmp_path / "cache"), part="test")
    with pytest.raises(SettingsError, match=r"part='test' has none of 5 molecules"):
        source.batch([0], 0)
