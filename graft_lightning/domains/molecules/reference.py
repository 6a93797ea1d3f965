"""The reference of molecules: a denoiser of positions and types together, given the number of atoms."""

import copy
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from tensordict import TensorDict
from torch import Tensor, nn

from graft_lightning.domains.base.weights import DATA, load_weights, save_weights
from graft_lightning.domains.molecules import drawing
from graft_lightning.domains.molecules.atoms import SYMBOLS, batch, padded, unpadded
from graft_lightning.domains.molecules.conditions import count_of
from graft_lightning.domains.molecules.egnn import EGNN
from graft_lightning.domains.molecules.files import read_molecules
from graft_lightning.domains.molecules.perception import molecule_keys
from graft_lightning.domains.molecules.sdf import write_sdf
from graft_lightning.domains.molecules.spectrum import coulomb_spectrum
from graft_lightning.domains.molecules.transformer import MoleculeTransformer
from graft_lightning.domains.molecules.xyz import write_xyz
from graft_lightning.processes.grids import Grid, Powered
from graft_lightning.processes.interleaved import Interleaved
from graft_lightning.processes.paths import CategoricalPath, CentredGaussianPath
from graft_lightning.processes.paths import Path as NoisePath
from graft_lightning.processes.process import Process, Shape
from graft_lightning.processes.samplers import Sampler
from graft_lightning.processes.schedules import Schedule, Trigonometric
from graft_lightning.processes.times import VisitedLevels
from graft_lightning.rejection.codec import WrongSize
from graft_lightning.rejection.reference import Reference
from graft_lightning.types import SettingsError, State

REMAKE = "python -m graft_lightning fit --config experiments/molecules/pretrain.yaml"

NETWORKS: dict[str, type[nn.Module]] = {"egnn": EGNN, "transformer": MoleculeTransformer}


class MoleculeReference(Reference):
    """Molecules of a given number of atoms, positions in Angstrom with zero centre of mass.

    Positions are predicted by v, types by the probabilities of the clean type. Conditions are ``n=<atoms>``.

    Args:
        weights: safetensors file; the shipped one, of the embedded set, by default.
        sampler: by default 50 interleaved steps that crowd near the data, where geometry is decided.
        kind: "egnn", equivariant, or "transformer", which needs molecules turned at random, as examples are by default.
        network: arguments of the network that differ from its defaults.
        max_atoms: atoms per row of a batch; no condition may ask for more.
        schedule: of positions and of types; the continuous cosine by default.
        train_steps: sampler steps N whose levels training draws; those of ``sampler`` by default. 0 draws every level.
    """

    lora_targets = ("message_out", "move_hidden", "types_out", "qkv", "out")

    def __init__(
        self,
        weights: str | None = None,
        sampler: Sampler | None = None,
        kind: Literal["egnn", "transformer"] = "egnn",
        network: dict[str, Any] | None = None,
        max_atoms: int = 12,
        schedule: Schedule | None = None,
        train_steps: int | None = None,
    ) -> None:
        super().__init__(sampler or Interleaved(steps=50, grid=Powered()))
        if kind not in NETWORKS:
            raise ValueError(f"kind={kind!r}; it is one of {', '.join(NETWORKS)}")
        if max_atoms < 1:
            raise ValueError(f"max_atoms={max_atoms}; it must be at least 1")
        self.output = {"positions": "v_prediction", "types": "logits"}
        self.weights, self.kind, self.network = weights, kind, dict(network or {})
        self.max_atoms, self.schedule, self.train_steps = max_atoms, schedule or Trigonometric(), train_steps

    @cached_property
    def process(self) -> Process:
        paths: dict[str, NoisePath[Any]] = {
            "positions": CentredGaussianPath(self.schedule),
            "types": CategoricalPath(self.schedule, len(SYMBOLS)),
        }
        grid: Grid = self.sampler.grid or Powered()
        if self.train_steps == 0:
            return Process(paths, grid=grid)
        visits = copy.copy(self.sampler)
        visits.steps = visits.steps if self.train_steps is None else self.train_steps
        return Process(paths, VisitedLevels(visits.training_levels(Process(paths, grid=grid))), grid)

    @property
    def weights_file(self) -> Path:
        """Where the weights are read."""
        return Path(self.weights) if self.weights else DATA / "molecules" / "reference.safetensors"

    def build(self, pretrained: bool = True) -> nn.Module:
        network = NETWORKS[self.kind](**self.network)
        if pretrained:
            load_weights(network, self.weights_file, self._architecture(), REMAKE)
        return network

    def _architecture(self) -> dict[str, Any]:
        return {"kind": self.kind, **self.network}

    def save(self, network: nn.Module, path: Path, provenance: dict[str, Any]) -> None:
        """Writes weights that `build` reads."""
        save_weights(network, path, self._architecture(), provenance)

    def denoise(self, network: nn.Module, x_t: State, t: Tensor, condition: Any) -> State:
        share = (t / self.process.t_max).to(x_t["positions"].dtype)
        t_positions, t_types = (share, share) if share.ndim == 1 else share.unbind(1)
        positions, types = network(x_t["positions"], x_t["types"], t_positions, t_types, x_t["mask"])
        return {"positions": positions, "types": types}

    def encode(self, conditions: Sequence[str], device: torch.device | str) -> Tensor:
        """Numbers of atoms, int64 ``(batch,)``.

        Raises:
            ValueError: if a condition is not understood, or asks for more than ``max_atoms``.
        """
        counts = [count_of(text) for text in conditions]
        if max(counts, default=0) > self.max_atoms:
            raise ValueError(f"condition n={max(counts)} asks for more atoms than max_atoms={self.max_atoms}")
        return torch.tensor(counts, device=device)

    def refuse(self, conditions: Sequence[str]) -> None:
        self.encode(conditions, "cpu")

    def shape(self, conditions: Sequence[str]) -> Mapping[str, Shape]:
        return {"positions": (self.max_atoms, 3), "types": (self.max_atoms,)}

    def static_fields(self, conditions: Sequence[str], device: torch.device | str) -> State:
        counts = self.encode(conditions, device)
        mask = torch.arange(self.max_atoms, device=device) < counts[:, None]
        return {"mask": mask}

    def decode(self, x_0: State) -> TensorDict:
        return batch(x_0["positions"], x_0["types"], x_0["mask"])

    def read(self, path: Path, condition: str) -> TensorDict:
        """The one molecule in an xyz or SD file, of as many atoms as the condition asks for."""
        found = list(read_molecules(path))
        if len(found) != 1:
            raise SettingsError(f"{path} holds {len(found)} molecules; a sample is a file with one")
        if len(found[0].symbols) != count_of(condition):
            raise WrongSize(f"{path} has {len(found[0].symbols)} atoms; {condition} asks for {count_of(condition)}")
        try:
            return padded(found, self.max_atoms)
        except ValueError as error:
            raise SettingsError(str(error)) from None

    def state_of(self, samples: Any, conditions: Sequence[str]) -> State:
        """Their fields, with zero centre of mass."""
        mask = samples["mask"]
        real = mask.unsqueeze(-1).to(samples["positions"].dtype)
        centre = (samples["positions"] * real).sum(1, keepdim=True) / real.sum(1, keepdim=True)
        return {"positions": (samples["positions"] - centre) * real, "types": samples["types"], "mask": mask}

    def keys(self, samples: Any) -> Tensor:
        return molecule_keys(samples)

    def numbers(self, samples: Any) -> Tensor:
        return coulomb_spectrum(samples["positions"], samples["types"], samples["mask"])

    def draw(self, samples: Any, captions: Sequence[str] | None = None) -> Tensor:
        """A grid of structural formulas, uint8 ``(3, height, width)``."""
        return drawing.as_tensor(drawing.grid(samples, captions))

    def write(self, samples: Any, names: Sequence[str], folder: Path) -> list[Path]:
        """One SD file and one xyz file a molecule. Returns the paths of the SD files."""
        paths = []
        for name, molecule in zip(names, unpadded(samples), strict=True):
            paths.append(folder / f"{name}.sdf")
            write_sdf(paths[-1], [molecule])
            write_xyz(folder / f"{name}.xyz", [molecule])
        return paths
