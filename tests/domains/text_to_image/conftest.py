"""Small models, built once a session."""

import pytest

from tests.domains.text_to_image import tiny_models


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
