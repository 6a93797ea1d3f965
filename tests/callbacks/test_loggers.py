"""What a run shows goes to every logger that takes it, not to the first of several alone, and to files in any case."""

import csv

import pytest
from lightning.pytorch.loggers import Logger

from tests.runs import launch

PICTURES = {"acceptance", "accepted", "rejected", "base", "validate", "base_and_now"}
TAGS = {
    "collect/accepted",
    "collect/rejected",
    "collect/accepted_and_rejected",
    "collect/acceptance",
    "validate/samples",
    "validate/base_and_now",
    "validate/scores",
}


class Gallery(Logger):
    """The public interface that matters of Lightning's W&B logger, without its dependencies and its server."""

    name, version = "project", "an_id"

    def __init__(self, save_dir: str = ".") -> None:
        super().__init__()
        self.folder = save_dir
        self.pictures: dict[str, list] = {}
        self.texts: dict[str, list] = {}
        self.scalars: set[str] = set()

    @property
    def save_dir(self):
        return self.folder

    def log_hyperparams(self, *_, **__):
        pass

    def log_metrics(self, metrics, step=None):
        self.scalars |= set(metrics)

    def log_image(self, key, images, step=None, **_):
        self.pictures.setdefault(key, []).append((step, *(image.size for image in images)))

    def log_text(self, key, columns=None, data=None, dataframe=None, step=None):
        self.texts.setdefault(key, []).append((step, columns, data))


def gallery(folder):
    return {"class_path": f"{__name__}.Gallery", "init_args": {"save_dir": str(folder)}}


def table(folder):
    return {"class_path": "CSVLogger", "init_args": {"save_dir": str(folder), "name": "run", "version": ""}}


def assert_complete(run):
    assert {file.stem for file in run.glob("*.png")} == PICTURES
    assert len((run / "evaluation.jsonl").read_text().splitlines()) == 3
    assert (run / "config.yaml").is_file()
    assert (run / "run.json").is_file()
    assert (run / "checkpoints/last.ckpt").is_file()


@pytest.mark.parametrize("first", ["table", "gallery"])
def test_every_logger_is_told_of_everything_and_the_first_decides_on_the_folder(tmp_path, first):
    listed = [table(tmp_path / "t"), gallery(tmp_path / "g")]
    cli = launch("fit", tmp_path, {"trainer.logger": listed if first == "table" else listed[::-1]})
    folder = tmp_path / ("t/run" if first == "table" else "g")
    assert_complete(folder)
    with open(next(tmp_path.rglob("metrics.csv"))) as file:
        found = {name for name in next(csv.reader(file)) if name not in ("epoch", "step")}
    assert {"train/loss", "validate/Ink", "interval/validate/Ink/low", "collect/acceptance_rate"} <= found
    assert any(name.startswith("loss_by_level/") for name in found)
    (shown,) = [logger for logger in cli.trainer.loggers if isinstance(logger, Gallery)]
    assert shown.scalars >= found
    assert set(shown.pictures) == TAGS


def test_pictures_and_alarms_have_their_steps(tmp_path):
    cli = launch("fit", tmp_path, {"trainer.logger": gallery(tmp_path / "run"), "evaluate.alarms": {"diversity": 99.0}})
    assert_complete(tmp_path / "run")
    shown = cli.trainer.logger
    assert {tag: [step for step, *_ in found] for tag, found in shown.pictures.items()} == {
        "collect/accepted": [0],
        "collect/rejected": [0],
        "collect/accepted_and_rejected": [0],
        "collect/acceptance": [0],
        "validate/samples": [0, 5, 10],
        "validate/base_and_now": [5, 10],
        "validate/scores": [5, 10],
    }
    assert all(min(size) > 8 for found in shown.pictures.values() for _, size in found)
    assert [(step, data[0][0]) for step, _, data in shown.texts["alarms"]] == [(5, "diversity"), (10, "diversity")]


def test_without_any_logger_the_files_are_there(tmp_path):
    launch("fit", tmp_path, {"trainer.logger": False, "trainer.default_root_dir": str(tmp_path / "run")})
    assert_complete(tmp_path / "run")
