import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors import safe_open

from graft_lightning.domains.molecules import AtomCounts, MoleculeReference
from graft_lightning.domains.molecules.files import read_molecules
from graft_lightning.domains.molecules.perception import shared
from graft_lightning.domains.molecules.rewards import StableAtoms
from graft_lightning.domains.molecules.rotations import random_rotations
from graft_lightning.domains.molecules.spectrum import coulomb_spectrum
from graft_lightning.processes.grids import Powered
from graft_lightning.processes.interleaved import Interleaved
from graft_lightning.processes.noise import Noise
from graft_lightning.processes.objectives import Objective
from graft_lightning.processes.samplers import DDIM, DDPM
from graft_lightning.rejection.reference import FrozenDenoiser, TrainableDenoiser, open_views
from graft_lightning.types import SettingsError, concatenate

ROOT = Path(__file__).parents[3]
TEXTS = ["n=5", "n=8 #1", "n=3"]
SMALL = {"layers": 2, "width": 16, "pair_width": 4, "radial": 4}


def small(kind="egnn", max_atoms=8, sampler=None, seed=0):
    network = SMALL if kind == "egnn" else {"layers": 2, "width": 16, "heads": 2}
    reference = MoleculeReference(
        sampler=sampler or Interleaved(5, grid=Powered()), kind=kind, network=network, max_atoms=max_atoms
    )
    torch.manual_seed(seed)
    built = reference.build(pretrained=False)
    for parameter in built.parameters():
        if parameter.abs().max() < 0.01:
            torch.nn.init.normal_(parameter, std=0.1)  # no output is trivially zero
    return reference, built


def sampled(reference, network, texts=TEXTS, seeds=(1, 2, 3), keep=()):
    return reference.sampler.sample(
        FrozenDenoiser(reference, network),
        reference.process,
        reference.encode(texts, "cpu"),
        Noise(torch.tensor(seeds)),
        reference.shape(texts),
        keep,
        reference.static_fields(texts, "cpu"),
    )


@pytest.mark.parametrize("kind", ["egnn", "transformer"])
@pytest.mark.parametrize("sampler", [Interleaved(5, grid=Powered()), DDPM(5), DDIM(5)], ids=["inter", "ddpm", "ddim"])
def test_samples_have_the_atoms_that_were_asked_for_and_no_centre_of_mass(kind, sampler):
    reference, network = small(kind, sampler=sampler)
    levels = sampler.levels(reference.process)
    trajectory = sampled(reference, network, keep=levels[1:3])
    for state in (trajectory.x_0, *trajectory.states.values()):
        assert state["mask"].sum(1).tolist() == [5, 8, 3]
        assert state["positions"].sum(1).abs().max() < 1e-4
        assert (state["positions"][~state["mask"]] == 0).all()
        assert (state["types"][~state["mask"]] == 0).all()
        assert state["positions"].isfinite().all()
    assert reference.decode(trajectory.x_0)["types"].max() <= 4


def test_a_sample_depends_on_its_own_seed_alone():
    reference, network = small()
    together = sampled(reference, network).x_0
    alone = sampled(reference, network, TEXTS[1:2], (2,)).x_0
    torch.testing.assert_close(together["positions"][1:2], alone["positions"], atol=1e-5, rtol=0)
    assert torch.equal(together["types"][1:2], alone["types"])


@pytest.mark.parametrize("kind", ["egnn", "transformer"])
def test_padding_changes_nothing(kind):
    """The loss and the prediction of the same molecules in wider rows."""
    reference, network = small(kind)
    wide, _ = small(kind, max_atoms=11)
    x = sampled(reference, network).x_0
    padded = {
        "positions": torch.nn.functional.pad(x["positions"], (0, 0, 0, 3)),
        "types": torch.nn.functional.pad(x["types"], (0, 3)),
    }
    wider = wide.static_fields(TEXTS, "cpu")
    for name, value in padded.items():
        wider[name] = value
    t = torch.full((3,), 0.4, dtype=torch.float64)
    narrow = TrainableDenoiser(reference, network)(x, t, None)
    broad = TrainableDenoiser(wide, network)(wider, t, None)
    torch.testing.assert_close(broad["positions"][:, :8], narrow["positions"], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(broad["types"][:, :8], narrow["types"], atol=1e-5, rtol=1e-4)
    assert (broad["positions"][:, 8:] == 0).all()


class Turned(Noise):
    """The same noise, with positions turned: what an equivariant sampler turns its result by."""

    def __init__(self, seeds, rotation):
        super().__init__(seeds)
        self.rotation = rotation

    def normal(self, *shape):
        drawn = super().normal(*shape)
        return drawn @ self.rotation.T if shape[-1:] == (3,) else drawn


@pytest.mark.parametrize("mirror", [1.0, -1.0])
def test_a_trajectory_of_the_egnn_turns_with_its_noise(mirror):
    reference, network = small()
    rotation = mirror * random_rotations(torch.randn(1, 4, generator=torch.Generator().manual_seed(3)))[0]
    arguments = reference.process, reference.encode(TEXTS, "cpu")
    states = []
    for noise in (Noise(torch.arange(3)), Turned(torch.arange(3), rotation)):
        denoiser = FrozenDenoiser(reference, network)
        shape, carried = reference.shape(TEXTS), reference.static_fields(TEXTS, "cpu")
        states.append(reference.sampler.sample(denoiser, *arguments, noise, shape, static=carried).x_0)
    torch.testing.assert_close(states[0]["positions"] @ rotation.T, states[1]["positions"], atol=1e-3, rtol=1e-3)
    assert torch.equal(states[0]["types"], states[1]["types"])


@pytest.mark.parametrize("kind", ["egnn", "transformer"])
def test_the_loss_is_finite_at_every_level_and_reaches_every_weight(kind):
    reference, network = small(kind)
    network.train()
    x = sampled(reference, network).x_0
    x = concatenate([x] * 30)
    loss = Objective().loss(TrainableDenoiser(reference, network), reference.process, x, None, Noise(torch.arange(90)))
    assert loss.value.isfinite().all()
    assert loss.t.max() == 1.0
    loss.value.mean().backward()
    untouched = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert untouched == []


def test_written_samples_are_read_again(tmp_path):
    reference, network = small()
    samples = reference.decode(sampled(reference, network).x_0)
    paths = reference.write(samples, ["a", "b", "c"], tmp_path)
    assert [path.name for path in paths] == ["a.sdf", "b.sdf", "c.sdf"]
    for kind in ("sdf", "xyz"):
        for row, name in enumerate("abc"):
            (found,) = read_molecules(tmp_path / f"{name}.{kind}")
            mask = samples["mask"][row]
            assert len(found.symbols) == int(mask.sum())
            torch.testing.assert_close(
                torch.as_tensor(found.positions).float(), samples["positions"][row][mask], atol=2e-4, rtol=0
            )


def test_keys_and_pictures():
    reference, network = small()
    samples = reference.decode(sampled(reference, network).x_0)
    assert reference.keys(samples).tolist() == [molecule.key for molecule in shared(samples)]
    image = reference.draw(samples, ["one", "two", "three"])
    assert image.dtype == torch.uint8
    assert image.shape[0] == 3


def test_weights_belong_to_their_network(tmp_path):
    reference, network = small()
    reference.save(network, tmp_path / "weights.safetensors", {"steps": 1})
    same = MoleculeReference(str(tmp_path / "weights.safetensors"), network=SMALL, max_atoms=8).build()
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), same.parameters(), strict=True))
    with pytest.raises(SettingsError, match="width: file 16, configuration None"):
        MoleculeReference(str(tmp_path / "weights.safetensors"), network={}).build()
    with pytest.raises(FileNotFoundError, match=r"pretrain\.yaml"):
        MoleculeReference(str(tmp_path / "absent.safetensors")).build()


def test_what_cannot_be_sampled_is_refused():
    with pytest.raises(ValueError, match=r"n=9 asks for more atoms than max_atoms=8"):
        small()[0].encode(["n=9"], "cpu")
    with pytest.raises(ValueError, match="kind='gnn'"):
        MoleculeReference(kind="gnn")
    assert max(small()[0].encode(AtomCounts(4).texts()[:0] or ["n=4"], "cpu")) == 4


def test_the_shipped_weights_are_what_their_configuration_makes():
    config = yaml.safe_load((ROOT / "experiments/molecules/pretrain.yaml").read_text())
    reference = config["model"]["init_args"]["reference"]
    path = MoleculeReference().weights_file
    assert path.samefile(ROOT / reference["init_args"].pop("weights"))
    MoleculeReference(**reference["init_args"]).build()  # refuses weights of another network
    with safe_open(str(path), "pt") as file:
        metadata = file.metadata()
    assert json.loads(metadata["provenance"]) == {
        "class": reference["class_path"].rpartition(".")[2],
        "method": {"Pretrain": "pretrained"}[config["model"]["class_path"]],
        "seed": config["seed_everything"],
        "steps": config["trainer"]["max_steps"],
    }


def test_the_shipped_reference_makes_molecules():
    """Its weights fit the default settings, and their samples are what the data card says, roughly."""
    reference = MoleculeReference()
    network = reference.build().eval()
    texts = AtomCounts(groups=48).texts()
    found = sampled(reference, network, texts, range(48))
    assert StableAtoms()(reference.decode(found.x_0), texts).mean() > 0.8  # 0.897 of 256
    untrained = reference.build(pretrained=False).eval()
    found = sampled(reference, untrained, texts, range(48))
    assert StableAtoms()(reference.decode(found.x_0), texts).mean() < 0.5


def test_levels_that_are_never_trained_are_refused():
    """Every level alike, and fields one after the other: the pairs of levels would be new to the network."""
    reference = MoleculeReference(network={"width": 8, "layers": 1}, train_steps=0)
    with pytest.raises(SettingsError, match=r"Interleaved asks.*'positions': 1.0, 'types': 0.9.*UniformTime never"):
        open_views(reference, reference.build(pretrained=False))
    factorised = MoleculeReference(sampler=DDPM(5), network={"width": 8, "layers": 1}, train_steps=0)
    open_views(factorised, factorised.build(pretrained=False))


def test_molecules_are_compared_whatever_their_order_and_rotation():
    """Water: the matrix's trace and determinant by hand; turned, moved, its atoms in another order, it is the same."""
    positions = torch.tensor([[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0], [0.0, 0.0, 0.0]]).double()
    types = torch.tensor([3, 0, 0, 0])  # O H H and padding
    mask = torch.tensor([True, True, True, False])
    spectrum = coulomb_spectrum(positions[None], types[None], mask[None])[0]
    oh, hh = (8 / (positions[0] - positions[1]).norm(), 1 / (positions[1] - positions[2]).norm())
    other = 8 / (positions[0] - positions[2]).norm()
    matrix = torch.tensor([[0.5 * 8**2.4, oh, other], [oh, 0.5, hh], [other, hh, 0.5]]).double()
    torch.testing.assert_close(spectrum.sum(), matrix.trace())
    torch.testing.assert_close(spectrum[:3].prod(), matrix.det())
    assert spectrum[3] == 0
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0)).double()).Q
    order = torch.tensor([2, 0, 1, 3])
    moved = coulomb_spectrum(((positions @ turn) + 1.0)[order][None], types[order][None], mask[order][None])[0]
    torch.testing.assert_close(moved, spectrum)
    positions[1, 0] = torch.nan
    assert coulomb_spectrum(positions[None], types[None], mask[None]).isnan().all()
