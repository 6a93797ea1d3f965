import importlib
import re
import subprocess
import sys

import pytest
import yaml

from graft_lightning import __version__
from graft_lightning.cli.main import COMMANDS, HELP, HIDDEN, LIGHTNING, main
from graft_lightning.cli.pages import options_of, page
from tests.runs import arguments, launch, tiny_config

LIGHT = """
import sys
from graft_lightning.cli.main import main
main([{argument!r}])
heavy = {{"lightning", "torch", "transformers", "diffusers", "matplotlib", "sklearn", "numpy"}} & set(sys.modules)
assert not heavy, heavy
"""


@pytest.mark.parametrize("argument", ["--help", "-h", "--version"])
def test_help_and_version_import_nothing_heavy(argument):
    done = subprocess.run(
        [sys.executable, "-c", LIGHT.format(argument=argument)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == (__version__ if argument == "--version" else HELP.strip())


def test_no_command_shows_the_help(capsys):
    main([])
    assert capsys.readouterr().out.strip() == HELP.strip()


def test_the_table_of_commands_is_what_there_is():
    from graft_lightning.cli.lightning import GraftCLI

    lightning = {name for name, command in COMMANDS.items() if command.target == LIGHTNING}
    assert lightning == set(GraftCLI.subcommands())
    for name, command in COMMANDS.items():
        module, _, function = command.target.partition(":")
        assert callable(getattr(importlib.import_module(module), function)), name
        shown = re.search(rf"^  {name} +(.+)$", HELP, re.MULTILINE)
        assert shown is None if name in HIDDEN else shown[1] == command.help


@pytest.mark.parametrize("command", [name for name in COMMANDS if COMMANDS[name].target != LIGHTNING])
def test_the_help_of_our_own_commands_waits_for_no_trainer(command):
    code = f"""
import sys
from graft_lightning.cli.main import main
try:
    main([{command!r}, "--help"])
except SystemExit as end:
    assert not end.code
assert not {{"lightning", "transformers", "diffusers", "matplotlib", "sklearn"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"usage: python -m graft_lightning {command}" in done.stdout
    assert "Raises" not in done.stdout  # a docstring speaks to who calls the function
    assert "SystemExit" not in done.stdout


RUN_COMMANDS = [name for name in COMMANDS if COMMANDS[name].target == LIGHTNING]


@pytest.mark.parametrize("command", RUN_COMMANDS)
def test_every_command_has_all_help(capsys, command):
    with pytest.raises(SystemExit) as exit_:
        main([command, "--help_all"])
    assert exit_.value.code == 0
    shown = capsys.readouterr().out
    assert "--collect.draws" in shown
    assert "--evaluate.rewards" in shown


@pytest.mark.parametrize("command", RUN_COMMANDS)
def test_the_short_page_imports_nothing(command):
    code = f"""
import sys
before = set(sys.modules)
from graft_lightning.cli.main import main
main([{command!r}, "--config=absent.yaml", "--help"])
own = {{"graft_lightning" + rest for rest in ("", ".cli", ".cli.main", ".cli.pages", ".cli.pipes")}}
loaded = {{name for name in set(sys.modules) - before - own if name.split(".")[0] not in sys.stdlib_module_names}}
assert not loaded, loaded
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == page(command, COMMANDS[command].help).strip()


def at(config: dict, key: str):
    """The value at a dotted key, ``init_args`` left out; of a class its path; None where a block is absent."""
    value = config
    for part in key.split("."):
        if value is None:
            return None
        value = value.get("init_args", {}).get(part) if "class_path" in value else value.get(part)
    return value["class_path"].rpartition(".")[2] if isinstance(value, dict) and "class_path" in value else value


@pytest.mark.parametrize("command", RUN_COMMANDS)
def test_the_short_page_is_what_the_parser_takes(capsys, tmp_path, command):
    """Each option of the page, with its example, is one of the parser's, and reaches the key that it names."""
    config = tiny_config(tmp_path, {"model.lora": {"rank": 2}})
    options = options_of(command)
    line = [f"--{key}={value}" for o in options for key, value in ((o.key, o.example), *o.needs) if key != "model"]
    with pytest.raises(SystemExit, match="0"):
        main(arguments(command, tmp_path, config, *line, "--print_config"))
    printed = yaml.safe_load(capsys.readouterr().out)
    shown = page(command, COMMANDS[command].help)
    for option in options:
        assert f"--{option.key} {option.example} " in shown + " " or f"--{option.key} {option.example}\n" in shown
        found = at(printed, option.key)
        if option.key == "model":
            assert found == "PGraft"
        else:
            wanted = yaml.safe_load(option.example)
            assert found == wanted or str(found).lower() == str(wanted).lower(), option.key
            assert found != at(config, option.key) or option.key in ("data.acceptance", "trainer.accelerator"), option


def test_another_model_than_the_files_is_named_on_the_command_line(capsys, tmp_path):
    """As the page says of ``--model``."""
    config = tiny_config(tmp_path, {"model.handoff": ...})
    example = next(option.example for option in options_of("fit") if option.key == "model")
    with pytest.raises(SystemExit, match="0"):
        main(arguments("fit", tmp_path, config, f"--model={example}", "--print_config"))
    assert at(yaml.safe_load(capsys.readouterr().out), "model") == example


def test_a_class_shows_its_own_page(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["fit", "--model.help", "PGraft"])
    assert "--model.handoff" in capsys.readouterr().out


ONLY_THE_NAMED = """
import sys
from graft_lightning.cli.main import main

fit, other = sys.argv[1:]

def loaded():
    return {name.split(".")[2] for name in sys.modules if name.startswith("graft_lightning.domains.")} - {"base"}

for command in ("fit", "plan"):
    try:
        main([command, f"--config={fit}", "--print_config"])
    except SystemExit as end:
        assert not end.code
    assert loaded() == {"digits"}, loaded()
main(["plan", f"--config={fit}", "--measure=false"])
main(["fit", f"--config={fit}", "--trainer.max_steps=1"])
assert loaded() == {"digits"}, loaded()
assert "rdkit" not in sys.modules
try:
    main(["fit", f"--config={fit}", f"--config={other}", "--print_config"])
except SystemExit as end:
    assert not end.code
assert loaded() == {"digits", "molecules"}, loaded()
"""


@pytest.mark.usefixtures("warm")
def test_a_domain_is_imported_where_it_is_named(tmp_path):
    """By its class's bare name, in the files and in those that are merged with them."""
    fit = arguments("fit", tmp_path, tiny_config(tmp_path))[1].partition("=")[2]
    other = tmp_path / "other.yaml"
    other.write_text(yaml.safe_dump({"data": {"init_args": {"conditions": {"class_path": "AtomCounts"}}}}))
    done = subprocess.run(
        [sys.executable, "-c", ONLY_THE_NAMED, fit, str(other)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize(("word", "meant"), [("fitt", "fit"), ("reports", "report"), ("zzz", None), ("", None)])
def test_an_unknown_command_is_refused(capsys, word, meant):
    with pytest.raises(SystemExit, match="2"):
        main([word])
    printed = capsys.readouterr().err
    assert printed.startswith(f"error: there is no command '{word}'; ")
    assert ("did you mean" in printed) == (meant is not None)
    assert meant is None or f"did you mean '{meant}'?" in printed
    assert "cell" not in printed


def test_options_may_stand_before_a_command_of_lightnings(capsys, tmp_path):
    line, nothing = arguments("fit", tmp_path, tiny_config(tmp_path)), tmp_path / "nothing.yaml"
    nothing.write_text("{}\n")
    with pytest.raises(SystemExit, match="0"):
        main(["--config", str(nothing), *line, "--print_config"])
    assert yaml.safe_load(capsys.readouterr().out)["collect"]["rounds"] == 1


def test_the_printed_configuration_runs_as_it_is(capsys, tmp_path):
    config = tiny_config(tmp_path)
    with pytest.raises(SystemExit):
        main(arguments("fit", tmp_path, config, "--print_config"))
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["data"]["init_args"]["acceptance"]["init_args"] == {"k": 2}
    assert printed["collect"]["rounds"] == 1
    assert launch("fit", tmp_path, config=printed).trainer.global_step == 10


def test_layers_are_merged_and_later_ones_win(tmp_path):
    layer = tmp_path / "layer.yaml"
    layer.write_text("data:\n  init_args:\n    acceptance:\n      class_path: Always\ntrainer:\n  max_steps: 1\n")
    cli = launch("fit", tmp_path, {}, f"--config={layer}", "--data.batch_size=2", "--collect.draws=3")
    assert type(cli.datamodule.acceptance).__name__ == "Always"
    assert (cli.trainer.max_steps, cli.datamodule.batch_size, cli.datamodule.selection.rewards.shape[1]) == (1, 2, 3)


def test_a_command_line_beats_a_checkpoint(tmp_path):
    launch("fit", tmp_path, {"trainer.max_steps": 5})
    last = f"--ckpt_path={tmp_path}/run/checkpoints/last.ckpt"
    cli = launch("test", tmp_path, {"model.states": "x_0"}, last)
    assert cli.model.states == "x_0"


def test_option_names_must_be_written_out(capsys, tmp_path):
    with pytest.raises(SystemExit):
        main(arguments("fit", tmp_path, tiny_config(tmp_path), "--trainer.max_epoch=3"))
    assert "max_epoch" in capsys.readouterr().err


def test_messages_go_to_where_standard_error_is_now(capsys, tmp_path):
    """Who runs commands in one process may redirect it between them."""
    short = {"trainer.max_steps": 1, "trainer.limit_val_batches": 0, "evaluate.baseline": False}
    for _ in range(2):
        launch("fit", tmp_path, short)
        printed = capsys.readouterr().err
        assert printed.count("round 0: 16 trajectories") == 1
        assert "Logging error" not in printed
