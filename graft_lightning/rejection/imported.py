"""Samples that somebody else has drawn, as a round of a pool: x_0 alone, without the way there.

Such a round says in its fingerprint what it is of. It is trained on at every level (hand-off 0), by objectives of x_0;
it never grows, for what would be added is not of the same distribution. The seeds of its trajectories are those of
their places and make nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor
from tqdm import tqdm

from graft_lightning.identity import digest_of
from graft_lightning.processes.noise import trajectory_seeds
from graft_lightning.rejection.codec import Codec
from graft_lightning.rejection.pool import PoolError, Round, TrajectoryPool
from graft_lightning.rejection.reference import Reference
from graft_lightning.types import FIELD, SettingsError, as_state, concatenate, on_device

MODEL = "imported"
"""What the fingerprint of a round calls the model that drew it."""


def is_imported(opened: Round) -> bool:
    """Whether the samples of a round were imported."""
    return opened.fingerprint.get("model") == MODEL


def imported_round(folder: Path | str, index: int = 0) -> Round | None:
    """The round of a pool, where it was imported; None where it was drawn, or there is none."""
    try:
        found = TrajectoryPool.open(folder, verify=None).rounds()
    except (OSError, PoolError):
        return None  # whoever opens it for use says what is wrong
    return next((one for one in found if one.index == index and is_imported(one)), None)


def of_imported(
    pool: TrajectoryPool, opened: Round, conditions: Sequence[str], draws: int, needed: int | str = "x_0"
) -> Round:
    """What is asked for of an imported round.

    Args:
        pool: that it is of.
        opened: all of the round.
        conditions: that are asked for.
        draws: of each.
        needed: the states that are asked for: "x_0", or an index above 0, which no imported sample has.

    Raises:
        SettingsError: if the round does not hold that: nothing can be drawn to complete it.
    """
    if needed not in ("x_0", 0):
        raise SettingsError(
            f"{opened.path} holds imported samples, finished states without the way there, and state {needed} is asked "
            "for; set model.handoff to 0 (Graft), or choose a pool that is drawn (data.pool)"
        )
    absent = [text for text in conditions if text not in set(opened.conditions)]
    if absent:
        raise SettingsError(
            f"{opened.path} holds imported samples of {len(opened.conditions)} conditions, and {len(absent)} others of "
            f"data.conditions, such as {absent[0]!r}, cannot be drawn for it; ask for its own: data.conditions "
            f"TextFile with path {conditions_file(pool.path)}"
        )
    if draws > opened.draws:
        raise SettingsError(
            f"collect.draws={draws}: {opened.path} holds {opened.draws} imported samples of each condition, and no "
            f"further one can be drawn for it; set collect.draws to at most {opened.draws}"
        )
    return pool.round(opened.index, conditions, draws)


def require_encoding(reference: Reference) -> None:
    """Refuses a reference that does not say how a file becomes a sample, or which state a sample has.

    Raises:
        SettingsError: naming the class and the methods.
    """
    kind = type(reference)
    decodes = kind.decode is not Codec.decode
    if kind.read is Codec.read or (decodes and kind.state_of is Codec.state_of):
        raise SettingsError(
            f"model.reference={kind.__name__} does not say how a file becomes a sample (`read`) and a sample a state "
            "(`state_of`), so that nothing can be imported for it; write these two methods"
        )


CONDITIONS = ("conditions.jsonl", "conditions.txt")
"""Beside the rounds of an imported pool: its conditions, one in quotes a line; older pools have one a plain line."""


def conditions_file(folder: Path) -> Path:
    """The file of the conditions of an imported pool."""
    found = [folder / name for name in CONDITIONS if (folder / name).is_file()]
    return found[0] if found else folder / CONDITIONS[0]


def import_samples(
    pool: TrajectoryPool,
    reference: Reference,
    conditions: Sequence[str],
    draws: int,
    read: Callable[[str, int], Any],
    scores: Mapping[str, Tensor],
    identity: str,
    device: torch.device | str = "cpu",
    batch_size: int = 64,
) -> Round:
    """Fills round 0 of a pool with samples that are there. Resumable: what is there already is left.

    Args:
        pool: made for the reference; without a round of drawn samples.
        reference: says which state a sample has, and which key.
        conditions: every one once.
        draws: samples of each.
        read: gives the sample of a condition's text and a draw, a batch of one, as the reference decodes samples.
        scores: by name of the reward, ``(conditions, draws)``.
        identity: digest of the samples and what they were drawn for.
        device: where states are encoded.
        batch_size: samples in a file, and encoded at a time.

    Raises:
        PoolMismatch: if the pool has other samples; names what differs.
        SettingsError: if the reference does not encode samples, or the states that it makes are of another shape.
    """
    opened = pool.start_round(0, conditions, draws, {}, batch_size, {"model": MODEL, "samples": identity})
    with pool.locked(), tqdm(total=len(opened), desc="Importing", unit="sample", delay=2) as bar:
        for shard in opened.missing():
            texts, numbers = opened.pairs(shard)
            parts = [read(text, number) for text, number in zip(texts, numbers, strict=True)]
            opened.write(shard, _trajectories(pool, reference, texts, numbers, concatenate(parts), device))
            bar.update(len(shard))
        for name, values in scores.items():
            # of these samples and no others, so that scores of another import are never mixed with them
            pool.add_reward(name, {"imported": digest_of([identity, values.tolist()]), "by": "a table"})
            if opened.missing_rewards(name):
                opened.write_scores(name, values)
    return opened


def _trajectories(
    pool: TrajectoryPool,
    reference: Reference,
    texts: Sequence[str],
    numbers: Sequence[int],
    samples: Any,
    device: torch.device | str,
) -> TensorDict:
    states = reference.state_of(on_device(samples, device), texts)
    shape = reference.shape(texts)
    wanted = {name: tuple(one) for name, one in (shape if isinstance(shape, Mapping) else {FIELD: shape}).items()}
    found = {name: tuple(value.shape[1:]) for name, value in as_state(states).items() if name in wanted}
    if wanted != found:
        raise SettingsError(
            f"{type(reference).__name__} makes states {found} of imported samples; the model has {wanted}"
        )
    keys = reference.keys(reference.decode(states)) if type(reference).keys is not Reference.keys else None
    data = {
        "seed": trajectory_seeds(pool.run_seed, 0, texts, numbers),
        "key": torch.full((len(texts),), -1) if keys is None else keys.cpu(),
        "x_0": on_device(states, "cpu"),
    }
    return TensorDict(data, batch_size=[len(texts)])
