"""The short page that ``--help`` shows for a command on a run: what people change. It imports nothing.

The parser's own page has hundreds of options, and takes as long as importing Lightning; ``--help_all`` shows that one.
"""

from typing import NamedTuple


class Option(NamedTuple):
    """An option of the page.

    Attributes:
        key: dotted, as in the YAML.
        example: a value that it may have.
        text: what it does, in one line.
        needs: further options without which this one has no place.
    """

    key: str
    example: str
    text: str
    needs: tuple[tuple[str, str], ...] = ()


RUN = (
    Option("seed_everything", "1", "seed of pool, training and evaluation"),
    Option("trainer.logger.save_dir", "runs/mine", "where the run's folder is made"),
    Option("trainer.logger.name", "graft-1", "name of that folder"),
    Option("trainer.accelerator", "cpu", "cpu, gpu; what there is by default"),
    Option("trainer.devices", "2", "processes or GPUs of one machine"),
    Option("trainer.num_nodes", "2", "machines; experiments/clusters has launchers"),
    Option("trainer.strategy", "ddp", "how they share: ddp, or a class for FSDP"),
    Option("trainer.precision", "bf16-mixed", "of networks: 32-true, bf16-mixed"),
    Option("model", "Graft", "what is trained: PGraft, Graft, Pretrain, ..."),
    Option("model.handoff", "0.5", "N_I / N of P-GRAFT, one of collect.keep"),
    Option("data.pool", "runs/pool", "folder of the trajectories, used again where they fit"),
)
DRAWING = (
    Option("collect.draws", "64", "M, samples per condition"),
    Option("collect.batch_size", "32", "trajectories sampled at a time"),
    Option("data.acceptance", "TopK", "the rule: TopK, Classical, ...", (("data.acceptance.k", "4"),)),
    Option("data.acceptance.k", "4", "K of TopK"),
)
TRAINING = (
    Option("model.optimizer.lr", "0.0002", "learning rate"),
    Option("model.lora.rank", "8", "train adapters of this rank, not all weights"),
    Option("data.batch_size", "16", "examples per step and process"),
    Option("trainer.max_steps", "1000", "gradient steps"),
)
HELD_OUT = (
    Option("data.eval_draws", "4", "samples per held-out condition"),
    Option("data.eval_batch_size", "32", "of these, sampled at a time"),
    Option("evaluate.method", "mine", "name in reports; the model's own by default"),
)
STEERING = (
    Option("steer.particles", "4", "draw each sample by steering so many after the reward; 1 is plain sampling"),
    Option("steer.temperature", "0.1", "of steering: the smaller, the more one reward outweighs another"),
)
KEEPING = (
    Option("model.baseline", "unselected", "train selected less unselected draws"),
    Option("best.patience", "0", "evaluations in a row below the best that end a run"),
)
RATES = Option("rates", "[0.0003,0.0001]", "learning rates; by default some around the configuration's own")
AVERAGES = Option("averages", "[0.0,0.97]", "decays of moving averages; 0 is none")
SAMPLES = Option("samples", "64", "held-out samples at each evaluation, at most")
TAKEN_UP = Option("ckpt_path", "runs/mine/checkpoints/last.ckpt", "whose weights; `last` takes up what was stopped")
WEIGHTS = Option("ckpt_path", "runs/mine/checkpoints/last.ckpt", "whose weights; those of the reference by default")

OWN: dict[str, tuple[Option, ...]] = {
    "fit": (*RUN, *DRAWING, *TRAINING, *KEEPING, *HELD_OUT, TAKEN_UP),
    "placebo": (
        *RUN,
        *DRAWING,
        Option("steps", "100", "gradient steps at each learning rate"),
        RATES,
        AVERAGES,
        SAMPLES,
    ),
    "tune": (
        *RUN,
        *DRAWING,
        Option("budget", "800", "gradient steps in all"),
        RATES,
        AVERAGES,
        Option("caps", "[15.0]", "also try the weightings min(1 / alpha^2, cap)"),
        Option("baselines", "[own,unselected]", "also train selected less unselected draws"),
        SAMPLES,
    ),
    "validate": (*RUN, *HELD_OUT, *STEERING, WEIGHTS),
    "test": (*RUN, *HELD_OUT, *STEERING, WEIGHTS),
    "predict": (*RUN, *HELD_OUT[:2], *STEERING, WEIGHTS),
    "plan": (
        *RUN,
        *DRAWING,
        *TRAINING,
        Option("measure", "false", "time a few steps here; true by default"),
    ),
    "collect": (*RUN, *DRAWING[:2], Option("data.rescore", "true", "score anew where a reward has changed")),
    "diagnose": (
        *RUN,
        *DRAWING,
        Option("states", "80", "stored states per kept level from which the sampler continues"),
        Option("continuations", "16", "fresh continuations of each of them"),
    ),
}
"""By command; another on a run has what all have."""

FOR_ALL = """\
  --config FILE                          a YAML file; several are merged, the later one wins
  --print_config                         print the whole configuration, and end
  --model.help PGraft                    what a class takes; so for every key that names one: --collect.reward.help, ...
  --help_all                             every option there is (waits for PyTorch Lightning to be imported)
"""


def options_of(command: str) -> tuple[Option, ...]:
    """The options on the page of a command."""
    return OWN.get(command, RUN)


def page(command: str, purpose: str) -> str:
    """What ``--help`` of a command on a run shows.

    Args:
        command: its name.
        purpose: what it does, in one line.
    """
    shown = [(f"--{option.key} {option.example}", option.text) for option in options_of(command)]
    lines = [f"  {left:<38} {text}" if len(left) <= 38 else f"  {left}\n{'':41}{text}" for left, text in shown]
    return f"""\
usage: python -m graft_lightning {command} --config FILE [--KEY VALUE ...]

{purpose[0].upper()}{purpose[1:]}.

Every key of the YAML is an option, with init_args left out. What people change, with an example:
{chr(10).join(lines)}

For all:
{FOR_ALL}"""
