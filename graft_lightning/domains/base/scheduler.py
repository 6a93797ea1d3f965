"""What a pipeline's scheduler configuration asks for, and the levels that scheduler steps through.

A published configuration is that of one class, while samples here are drawn by DDIM (Euler, for a flow). What the file
leaves out has the default of the class that it names; what DDIM would make of it otherwise is refused by name.
"""

import logging
import math
from functools import cache
from inspect import Parameter, signature
from itertools import pairwise
from typing import Any, get_args

from graft_lightning.processes.grids import Grid, checked
from graft_lightning.processes.outputs import Output
from graft_lightning.processes.paths import GaussianPath
from graft_lightning.processes.process import Process
from graft_lightning.processes.schedules import FromTable, Schedule
from graft_lightning.refusals import first_line
from graft_lightning.types import SettingsError

log = logging.getLogger(__name__)

Config = dict[str, Any]
"""A configuration of diffusers."""

SPACED = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas")
"""Levels of another spacing, which only the schedulers that know them visit."""
SPACINGS = ("leading", "linspace", "trailing")
"""What ``timestep_spacing`` may be."""
DISTILLED = ("LCMScheduler", "TCDScheduler")
"""Schedulers of models that were distilled for a few steps of theirs."""
_UNTOUCHED: Config = {"clip_sample": False, "thresholding": False, "rescale_betas_zero_snr": False, "steps_offset": 0}
"""What a class does that has no such setting."""


class PipelineGrid(Grid):
    """The levels that a scheduler of diffusers steps through: its spacing, offset, shift and last level.

    Args:
        scheduler: the class in diffusers.
        config: its configuration.
    """

    def __init__(self, scheduler: str, config: Config) -> None:
        self.scheduler, self.config = scheduler, config

    def levels(self, schedule: Schedule, steps: int) -> list[float]:
        """The levels.

        Raises:
            SettingsError: if the scheduler's steps do not lead from one of its timesteps to the next.
        """
        if spaced := next((key for key in SPACED if schedule.discrete and self.config.get(key)), None):
            raise refused(spaced, True, f"{self.scheduler} has no such levels; set sampler.grid, e.g. to Uniform")
        scheduler = scheduler_of(self.scheduler, self.config)
        return checked(stepped(scheduler, steps), schedule, steps)


def stepped(scheduler: Any, steps: int) -> list[float]:
    """The ``steps + 1`` levels that a DDIM or a flow-matching scheduler steps through, the last step's end first.

    DDIM steps by a fixed number of timesteps, whatever its next timestep is: where the two differ, the network would be
    told another level than that of its input.

    Raises:
        SettingsError: where they differ, a step has no effect, or the spacing is unknown.
    """
    config = scheduler.config
    if hasattr(scheduler, "sigmas"):
        scheduler.set_timesteps(steps)
        return scheduler.sigmas.double().flip(0).tolist()
    spacing, count = config.timestep_spacing, config.num_train_timesteps
    if steps > count:
        raise SettingsError(f"steps={steps}; the pipeline's configuration has num_train_timesteps={count}")
    if spacing not in SPACINGS:
        raise refused("timestep_spacing", spacing, f"known are {', '.join(SPACINGS)}")
    if not isinstance(config.steps_offset, int):
        raise refused("steps_offset", config.steps_offset, "it is a whole number of timesteps")
    scheduler.set_timesteps(steps)
    starts = scheduler.timesteps.tolist()
    stride = count // steps
    if len(starts) != steps or starts[0] >= count:
        raise refused("steps_offset", config.steps_offset, f"steps={steps} then start beyond timestep {count - 1}")
    for start, following in pairwise(starts):
        if start - stride != following:
            raise refused(
                "timestep_spacing",
                spacing,
                f"with steps={steps} DDIMScheduler steps from timestep {start} to {start - stride}, but goes on from "
                f"{following}; {_spacing_advice(spacing, count, steps)}",
            )
    end = starts[-1] - stride
    first = float(end + 1) if end >= 0 else 0.0 if config.set_alpha_to_one else 1.0
    if first >= starts[-1] + 1:
        raise refused(
            "set_alpha_to_one",
            False,
            f"the last step starts at timestep {starts[-1]} and would have no effect; set sampler.grid, e.g. to Uniform"
            f" (steps_offset={config.steps_offset}, timestep_spacing={spacing!r})",
        )
    return [first, *(float(start) + 1 for start in reversed(starts))]


def _spacing_advice(spacing: str, count: int, steps: int) -> str:
    own = "or set sampler.grid, e.g. to Uniform, whose steps are right at any number"
    if spacing == "trailing":
        near = min((n for n in range(1, count + 1) if count % n == 0), key=lambda n: (abs(n - steps), n))
        return f"choose steps that divide {count}, e.g. {near}, {own}"
    return own.removeprefix("or ")


def output_of(config: Config) -> Output:
    """The output type of the network of a scheduler with a table of betas.

    Raises:
        SettingsError: if it is unknown.
    """
    prediction: Any = config.get("prediction_type", "epsilon")
    if prediction == "logits" or prediction not in get_args(Output):
        raise refused("prediction_type", prediction, "known are epsilon, sample and v_prediction")
    return prediction


def process_of(config: Config, output: Output) -> Process:
    """The noise process of a complete configuration, with the grid that its scheduler would use.

    Args:
        config: as `ddim_config` gives it.
        output: of the network.

    Raises:
        SettingsError: if the betas are none, or the network's output says nothing at the last level.
    """
    table = scheduler_of("DDIMScheduler", config).alphas_cumprod
    try:
        schedule = FromTable(table.tolist())
    except ValueError as error:
        raise SettingsError(f"the pipeline's scheduler configuration: its betas make no schedule ({error})") from error
    if table[-1] <= 0 and output == "epsilon":
        raise refused(
            "rescale_betas_zero_snr" if config["rescale_betas_zero_snr"] else "trained_betas",
            True if config["rescale_betas_zero_snr"] else "a last beta of 1",
            "without signal at the last level eps-prediction says nothing of x_0 (diffusers itself makes NaN); "
            "such models have prediction_type v_prediction or sample",
        )
    keys = ("num_train_timesteps", "timestep_spacing", "steps_offset", "set_alpha_to_one", *SPACED)
    grid = PipelineGrid("DDIMScheduler", {key: config[key] for key in keys if key in config})
    return Process(GaussianPath(schedule), grid=grid)


def ddim_config(config: Config, clips: bool = False) -> Config:
    """A complete configuration of DDIMScheduler from that of any scheduler with a table of betas.

    Args:
        config: of the scheduler, ``_class_name`` among it.
        clips: whether the sampler will clip x_0 where ``clip_sample`` says so.

    Raises:
        SettingsError: for a class without betas, or for what DDIM cannot repeat.
    """
    import diffusers

    name = config.get("_class_name", "DDIMScheduler")
    named = getattr(diffusers, name, None) if isinstance(name, str) else None
    if named is None:
        raise refused("_class_name", name, "diffusers has no such scheduler")
    own = defaults_of(named) | {key: value for key, value in config.items() if not key.startswith("_")}
    if "beta_schedule" not in defaults_of(named):
        raise refused("scheduler", name, "its U-Net needs one with a table of betas")
    if name in DISTILLED:
        _tell_of_distillation(name)
    last = {"set_alpha_to_one": own.get("final_sigmas_type", "zero") == "zero"}
    complete = defaults_of(diffusers.DDIMScheduler) | _UNTOUCHED | last
    complete = {key: own.get(key, value) for key, value in complete.items()}
    if own.get("variance_type") in ("learned", "learned_range"):
        raise refused("variance_type", own["variance_type"], "DDIM takes no learned variance")
    for key, value in (("use_flow_sigmas", True), ("timestep_type", "continuous")):
        if own.get(key) == value:
            raise refused(key, value, "the network's levels are then none of a table of betas")
    if (scale := own.get("snr_shift_scale", 1)) != 1:
        raise refused("snr_shift_scale", scale, f"{name} then changes the levels that the betas make")
    for key in ("clip_sample", "thresholding"):
        if complete[key] and not (clips and key == "clip_sample"):
            raise refused(
                key,
                complete[key],
                ("" if key in config else f"by default of {name}; ")
                + "the scheduler then changes x_0 without eps, which no sampler here repeats; set it to false in "
                "scheduler_config.json of a copy of the model",
            )
    betas, count = complete["trained_betas"], complete["num_train_timesteps"]
    if betas is not None and len(betas) != count:
        raise refused("trained_betas", f"{len(betas)} values", f"num_train_timesteps={count} asks for as many")
    return complete | {key: True for key in SPACED if own.get(key)}


@cache
def _tell_of_distillation(name: str) -> None:
    log.warning(
        "the pipeline has %s: its model was distilled for a few steps of that, which no sampler here takes; by DDIM it "
        "gives other and worse images. Fine-tune the model that it was distilled from",
        name,
    )


def as_loaded(config: Config, made: Any) -> Config:
    """A scheduler's configuration as its pipeline takes it: of the class in the index, whatever the file names.

    Args:
        config: of the scheduler.
        made: what ``model_index.json`` says of it, library and class; None where it says nothing.
    """
    named = {"_class_name": made[1]} if isinstance(made, list) and len(made) == 2 and made[1] else {}
    return {**config, **named}


def flow_config(config: Config) -> Config:
    """A configuration of FlowMatchEulerDiscreteScheduler from that of a flow-matching scheduler.

    Raises:
        SettingsError: for another kind of scheduler, or for what Euler's method on a flow cannot repeat.
    """
    name = config.get("_class_name", "FlowMatchEulerDiscreteScheduler")
    if name not in ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler"):
        raise refused("scheduler", name, "this transformer needs one of flow matching, by Euler's or Heun's method")
    if config.get("use_dynamic_shifting"):
        raise refused("use_dynamic_shifting", True, "a shift that depends on the size of images is not supported")
    for key, instead in (
        ("invert_sigmas", "levels would rise from the data to noise"),
        ("stochastic_sampling", "each step would draw new noise, which no sampler here repeats"),
    ):
        if config.get(key):
            raise refused(key, config[key], f"{instead}; set it to false in scheduler_config.json of a copy")
    shift = config.get("shift", 1.0)
    if not isinstance(shift, int | float) or not 0 < shift < math.inf:
        raise refused("shift", shift, "it is a number above 0, and 1 shifts nothing")
    return {key: value for key, value in config.items() if not key.startswith("_")}


def defaults_of(kind: Any) -> Config:
    """The settings of a class of diffusers, with their defaults."""
    parameters = signature(kind.__init__).parameters.items()
    return {name: p.default for name, p in parameters if p.default is not Parameter.empty}


def scheduler_of(class_name: str, config: Config) -> Any:
    """A scheduler of diffusers from the configuration of any other; what it does not know is left out.

    Raises:
        SettingsError: if diffusers refuses the configuration.
    """
    import diffusers

    kind = getattr(diffusers, class_name)
    known = signature(kind.__init__).parameters
    try:
        return kind(**{name: value for name, value in config.items() if name in known})
    except (NotImplementedError, ValueError, ImportError, TypeError, IndexError) as error:
        raise SettingsError(
            f"the pipeline's scheduler configuration: {class_name} refuses it ({first_line(error)})"
        ) from error


def refused(setting: str, value: Any, instead: str) -> SettingsError:
    """An error about a pipeline's own configuration."""
    return SettingsError(f"the pipeline's configuration has {setting}={value!r}; {instead}")
