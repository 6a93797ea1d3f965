"""The commands of runs in the README files and guides are parsed and built as they stand there; none is run.

Those of one file and nothing else are not built again: `test_experiments` builds every file.
"""

import re
import shlex
from pathlib import Path

import pytest

from graft_lightning.cli.lightning import GraftCLI, run_lightning
from graft_lightning.domains.text_to_image import DiffusersReference
from graft_lightning.domains.text_to_image.rewards import PickScore
from graft_lightning.rejection.acceptance import TopK

ROOT = Path(__file__).parents[1]
PLACES = [ROOT / "README.md", *(ROOT / "graft_lightning").glob("*.md"), *(ROOT / "experiments").rglob("*.md")]
FILES = sorted(path.relative_to(ROOT) for path in PLACES)
RUNS = {"fit", "validate", "test", "predict", "plan", "diagnose"}


def commands(file: Path) -> list[list[str]]:
    """The arguments of every command that reads a configuration, in the order of a README file."""
    text = (ROOT / file).read_text(encoding="utf-8").replace("\\\n", " ")
    lines = re.findall(r"^ *python -m graft_lightning (.*)", text, re.MULTILINE)
    found = [shlex.split(line, comments=True) for line in lines]
    return [command for command in found if command[0] in RUNS]


COMMANDS = [(file, command) for file in FILES for command in commands(file)]
BARE = [(file, command) for file, command in COMMANDS if len(command) == 3]


@pytest.fixture(autouse=True)
def built_only(monkeypatch):
    """Commands end before anything is run."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(GraftCLI, "_run_subcommand", lambda self, subcommand: None)


def overriding(name: str, option: str) -> list[str]:
    """The one command of a README file that has an option."""
    (found,) = [command for command in commands(Path(name)) if any(part.startswith(option) for part in command)]
    return found


def test_there_are_commands():
    assert {str(file) for file, _ in COMMANDS} >= {"README.md", "experiments/text_to_image/README.md"}
    assert len(COMMANDS) > 15


def test_commands_of_one_file_name_one_that_is_there():
    for file, (_, option, config) in BARE:
        assert option == "--config", file
        assert (ROOT / config).is_file(), file


@pytest.mark.parametrize(
    ("file", "command"),
    [found for found in COMMANDS if found not in BARE],
    ids=lambda value: " ".join(value[3:5]) if isinstance(value, list) else str(value),
)
def test_a_command_is_built(file, command):
    """Layers, overrides and checkpoints."""
    cli = run_lightning(command)
    assert cli.subcommand == command[0]
    assert cli.model is not None
    assert cli.datamodule is not None


def test_a_model_and_a_reward_of_ones_own_are_two_lines():
    cli = run_lightning(overriding("experiments/text_to_image/README.md", "--collect.reward"))
    assert isinstance(cli.model.reference, DiffusersReference)
    assert cli.model.reference.model == "path/to/pipeline"
    (collect,) = (callback for callback in cli.trainer.callbacks if type(callback).__name__ == "Collect")
    assert isinstance(collect.reward, PickScore)
    assert collect.reward.model == "yuvalkirstain/PickScore_v1"
    assert cli.model.handoff == 0.25, "what is not named stays as the file has it"


def test_a_hand_off_and_a_rule_are_overridden():
    cli = run_lightning(overriding("README.md", "--model.handoff"))
    assert cli.model.handoff == 0.5
    assert isinstance(cli.datamodule.acceptance, TopK)
    assert cli.datamodule.acceptance.k == 4
