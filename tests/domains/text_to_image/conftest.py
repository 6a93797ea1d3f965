"""Small models, built once a session."""

import pytest

from tests.domains.text_to_image import tiny_models, tiny_pipelines


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    """Folder of a model of `tiny_models`, by name."""
    folders = {}

    def folder(name):
        if name not in folders:
            folders[name] = tmp_path_factory.mktemp(name)
            getattr(tiny_models, name)(folders[name])
        return str(folders[name])

    return folder


@pytest.fixture(scope="session")
def pipeline_folder(tmp_path_factory):
    """Folder of a pipeline of `tiny_pipelines`, by name; not to be written to."""
    folders = {}

    def folder(name):
        if name not in folders:
            folders[name] = tmp_path_factory.mktemp("pipelines") / name
            tiny_pipelines.PIPELINES[name](folders[name])
        return folders[name]

    return folder
