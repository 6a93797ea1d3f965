"""Metrics of a hand-written batch with known answers, and of real data."""

import math

import pytest
import torch
from torchmetrics import MetricCollection

from graft_lightning.domains.molecules.atoms import padded
from graft_lightning.domains.molecules.files import read_molecules
from graft_lightning.domains.molecules.metrics import (
    AtomStability,
    Connectivity,
    MoleculeStability,
    Novelty,
    Strain,
    Uniqueness,
    Validity,
    ValidUnique,
    share,
)
from graft_lightning.domains.molecules.perception import smiles_key
from tests.domains.together import together

# stable and valid: water twice, methane, two waters (whose largest fragment is water), water and methane;
# valid only: methyl; invalid: methanium, carbon monoxide
BATCH = [
    "water", "water", "methane", "two_waters", "water_and_methane", "methyl", "methanium", "carbon_monoxide",
]  # fmt: skip
WATER, METHANE, METHYL = (smiles_key(s) for s in ("[H]O[H]", "[H]C([H])([H])[H]", "[H]C([H])[H]"))

EXPECTED = {
    "AtomStability": (3 + 3 + 5 + 6 + 8 + 3 + 5 + 0) / (3 + 3 + 5 + 6 + 8 + 4 + 6 + 2),
    "MoleculeStability": 5 / 8,
    "Validity": 6 / 8,
    "Uniqueness": 3 / 6,
    "ValidUnique": 3 / 8,
    "Novelty": 2 / 3,
    "Connectivity": 6 / 8,
}


def collection(**arguments) -> MetricCollection:
    classes = (AtomStability, MoleculeStability, Validity, Uniqueness, ValidUnique, Connectivity)
    known = torch.tensor([WATER, smiles_key("[H]C#N")])
    return MetricCollection([*(metric() for metric in classes), Novelty(known)], **arguments)


@pytest.mark.parametrize("compute_groups", [True, False])
@pytest.mark.parametrize("pieces", [[8], [1, 7], [3, 3, 2]])
def test_hand_written_batch(molecule, pieces, compute_groups):
    """However the batch is cut, and however torchmetrics groups the classes."""
    metrics = collection(compute_groups=compute_groups)
    for piece in torch.arange(8).split(pieces):
        metrics.update(padded([molecule(BATCH[i]) for i in piece]))
    assert {name: float(value) for name, value in metrics.compute().items()} == pytest.approx(EXPECTED)


def test_one_update_serves_all(molecule, monkeypatch):
    from graft_lightning.domains.molecules import metrics as module

    calls = []
    monkeypatch.setattr(module, "shared", lambda samples, real=module.shared: calls.append(1) or real(samples))
    metrics = collection()
    for _ in range(5):
        metrics.update(padded([molecule(name) for name in BATCH]))
    assert len(calls) == 7 + 4  # once each to find the groups, once for all afterwards
    assert float(metrics.compute()["Uniqueness"]) == pytest.approx(3 / 30)


def test_reset(molecule):
    metrics = collection()
    metrics.update(padded([molecule("methanium")]))
    metrics.compute()
    metrics.reset()
    metrics.update(padded([molecule(name) for name in BATCH]))
    assert {name: float(value) for name, value in metrics.compute().items()} == pytest.approx(EXPECTED)


def test_two_processes_give_the_figures_of_one(molecule, tmp_path):
    """One of them has two batches, the other one, and nothing beside it."""
    samples = padded([molecule(name) for name in BATCH])
    batches = [[samples[:3], samples[3:6]], [samples[6:], samples[:0]]]

    def work(rank):
        metrics = [collection(compute_groups=False), MetricCollection([Strain()])]
        for batch in batches[rank]:
            for metric in metrics:
                metric.update(batch, [""] * len(batch))
        return {name: float(value) for metric in metrics for name, value in metric.compute().items()}

    strain = Strain()
    strain.update(samples)
    for found in together(work, tmp_path):
        assert found == pytest.approx({**EXPECTED, "Strain": float(strain.compute())})


def test_shares_of_nothing(molecule):
    metrics = collection()
    metrics.update(padded([molecule("methanium")]))
    found = metrics.compute()
    assert float(found["Validity"]) == 0
    assert math.isnan(found["Uniqueness"])
    assert math.isnan(found["Novelty"])
    assert float(found["ValidUnique"]) == 0
    assert math.isnan(share(0, 0))


def test_strain_sees_what_the_distance_rule_does_not(molecule):
    """A bond stretched within EDM's margin stays a bond; the force field charges for it."""
    relaxed, stretched = padded([molecule("methane")]), padded([molecule("methane")])
    stretched["positions"][0, 1] *= 1.18 / 1.09
    values = []
    for samples in (relaxed, stretched):
        stability, metric = MoleculeStability(), Strain()
        stability.update(samples)
        metric.update(samples)
        assert stability.compute() == 1
        assert metric.judged == 1
        values.append(float(metric.compute()))
    assert values[0] < 0.1
    # harmonic estimate: half of MMFF94's C-H force constant, 4.766 md/A, over (.087 A)^2, in kcal/mol
    assert values[1] == pytest.approx(0.5 * 143.9325 * 4.766 * 0.087**2, rel=0.25)


def test_strain_leaves_out_what_cannot_be_judged(molecule):
    metric = Strain()
    metric.update(padded([molecule(name) for name in ("methane", "methyl", "two_waters", "methanium")]))
    assert float(metric.judged) == pytest.approx(1 / 4)
    assert math.isfinite(metric.compute())
    empty = Strain()
    empty.update(padded([molecule("methyl")]))
    assert math.isnan(empty.compute())


def test_real_data(test_data):
    metrics = collection()
    found = list(read_molecules(test_data / "qm9_sample" / "qm9_sample.xyz"))
    for start in range(0, 100, 30):
        metrics.update(padded(found[start : start + 30], width=29))
    values = {name: round(float(value), 5) for name, value in metrics.compute().items()}
    assert values == {
        "AtomStability": 0.99328,
        "MoleculeStability": 0.95,
        "Validity": 0.96,
        "Uniqueness": 1.0,
        "ValidUnique": 0.96,
        "Connectivity": 1.0,
        "Novelty": 1.0,
    }


def test_novelty_against_nothing_is_nothing(molecule):
    novelty = Novelty(torch.empty(0, dtype=torch.int64))
    novelty.update(padded([molecule("water")]))
    assert novelty.compute().isnan()
