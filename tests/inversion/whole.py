"""A whole inversion, from data to noise: what the package does in parts, with a pool between them."""

import torch

from graft_lightning.inversion.inverted_state import invert_state
from graft_lightning.inversion.result import concatenate
from graft_lightning.inversion.start import start_state
from graft_lightning.inversion.steps import FlowSteps


def invert(
    velocity,
    x_0,
    steps,
    solver=None,
    start_level=0,
    seeds=None,
    perturbation=0.0,
    method="euler",
    batch_size=None,
    dtype=None,
    keep_going=False,
):
    flow = FlowSteps(velocity, steps, method)
    t = flow.levels[start_level] if 0 <= start_level < flow.steps else 0
    x_0 = x_0 if dtype is None else x_0.to(dtype)
    parts = []
    for rows in torch.arange(len(x_0)).split(batch_size or max(1, len(x_0))):
        part = slice(int(rows[0]), int(rows[-1]) + 1) if len(rows) else slice(0, 0)
        start = start_state(x_0[part], t, None if seeds is None else seeds[part], perturbation)
        parts.append(invert_state(flow, start, start_level, solver, keep_going))
    return concatenate(parts)
