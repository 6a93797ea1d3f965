"""What ``diagnose`` found, as a text and as a figure."""

from pathlib import Path
from typing import Any

from graft_lightning.callbacks.figures import ACCEPTED, BEFORE, REJECTED, new_figure
from graft_lightning.reports.charts import save_figure

DECIDED = 0.1
"""A hand-off is recommended where no more than this share of the reward's variance is still open."""


def text_of(found: dict[str, Any], folder: Path, advice: str) -> str:
    """What ``diagnose`` prints.

    Args:
        found: what was found, as in diagnose.json.
        folder: of the files.
        advice: the recommendation in words.
    """
    reward, ode = found["reward"], found["deterministic"]
    title = "What a hand-off leaves to learn, and can reach" if ode else "Where the reward is decided"
    columns = [name for name in found["levels"][0] if isinstance(found["levels"][0][name], dict)]
    lines = [
        f"{title}, level by level (N_I / N counted from the data):",
        "",
        f"  {'N_I/N':>6} {'t':>8}  " + "  ".join(f"{name:>22}" for name in columns),
    ]
    for level in found["levels"]:
        cells = [f"{level[name]['mean']:.3f} ± {level[name]['high'] - level[name]['mean']:.3f}" for name in columns]
        lines.append(f"  {level['fraction']:6.3f} {level['t']:8.4g}  " + "  ".join(f"{cell:>22}" for cell in cells))
    finished = "as they were stored" if ode and found["states"] == "x_s" else "afresh"
    accepted = "accepted x_0, noised to t," if ode and found["states"] == "x_0" else "accepted states"
    lines += [
        "",
        "  open_variance   E[Var(r | X_t)] over the variance within conditions: "
        + ("0 by construction, for x_t decides x_0" if ode else "what selection at t cannot see"),
        f"  score_distance  how far the score is from that of pure noise: {found['score_of']}",
        f"  attainable      mean reward of {accepted} finished {finished}: a perfect P-GRAFT of one round",
        f"  reward          {reward['name']}: {reward['all']:.3f} of all, {reward['accepted']:.3f} of the accepted",
        "  ±               to the ends of the 95 % interval over states; the conditions are those of the pool",
        "",
        found["sampler"],
        advice,
        f"Written: {folder / 'diagnose.json'}, {folder / 'diagnose.png'}",
    ]
    return "\n".join(lines)


def draw(found: dict[str, Any], path: Path) -> None:
    """The figure: left where the reward is decided, or what is left to learn; right what a hand-off can reach.

    Args:
        found: as in diagnose.json.
        path: of the PNG.
    """
    figure, (left, right) = new_figure(columns=2)
    fractions = [level["fraction"] for level in found["levels"]]
    # inside, a legend would lie on the intervals, which its automatic place does not avoid
    below: dict[str, Any] = {"frameon": False, "loc": "upper center", "bbox_to_anchor": (0.5, -0.14)}

    def line(axis: Any, name: str, colour: str, label: str) -> None:
        if name in found["levels"][0]:
            means = [level[name]["mean"] for level in found["levels"]]
            errors = [level[name]["high"] - level[name]["mean"] for level in found["levels"]]
            axis.errorbar(fractions, means, errors, color=colour, marker="o", capsize=3, label=label)

    ode = found["deterministic"]
    if not ode:  # under an ODE it is 0 by construction, and nothing is recommended by it
        line(left, "open_variance", REJECTED, "open_variance: E[Var(r | X_t)] / Var(r)")
        left.axhline(DECIDED, color="black", linewidth=0.8, linestyle=":", label=f"{DECIDED:.0%} open")
        low, high = found["recommended"]["low"], found["recommended"]["high"]
        left.axvspan(low, high, color=ACCEPTED, alpha=0.15, label=f"where {DECIDED:.0%} are open, 95 % interval")
    line(left, "score_distance", BEFORE, "score_distance: from that of pure noise")
    title = "What is left to learn above t" if ode else "Where the reward is decided"
    left.set(xlabel="N_I / N, from the data", ylabel="share", title=title, xlim=(0, 1), ylim=(0, None))
    left.legend(**below)
    stored = ode and found["states"] == "x_s"
    line(
        right,
        "attainable",
        ACCEPTED,
        "the accepted, as stored" if stored else "the accepted, finished afresh",
    )
    line(right, "from_real_data", BEFORE, "real data, finished by the reference")
    for name, style in (("all", ":"), ("accepted", "--")):
        right.axhline(found["reward"][name], color="black", linewidth=0.8, linestyle=style, label=f"reward of {name}")
    right.set(xlabel="N_I / N, from the data", ylabel="reward", title="What a hand-off can reach", xlim=(0, 1))
    right.legend(**below)
    save_figure(figure, path)
