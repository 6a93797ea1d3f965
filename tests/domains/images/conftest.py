"""Real digits as files: a folder, a zip archive and a database that hold the same 40 images."""

import io
import zipfile

import pytest
from PIL import Image

from graft_lightning.domains.base.images import to_pixels
from graft_lightning.domains.digits.flow import real_digits

COUNT = 40


def encoded(image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.fixture(scope="session")
def images():
    """Name -> PNG; their order is not that of their names."""
    pixels = to_pixels((real_digits("train")[:COUNT] + 1) / 2)
    return {f"{(7 * i) % COUNT:03d}.png": encoded(one) for i, one in enumerate(pixels)}


@pytest.fixture(scope="session")
def folder(tmp_path_factory, images):
    path = tmp_path_factory.mktemp("images") / "digits"
    for name, content in images.items():
        file = path / ("low" if name < "020" else "sub/high") / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    (path / "samples.jsonl").write_text("no image")
    return path


@pytest.fixture(scope="session")
def archive(tmp_path_factory, images):
    path = tmp_path_factory.mktemp("zip") / "digits.zip"
    with zipfile.ZipFile(path, "w") as file:
        for name, content in images.items():
            file.writestr(f"digits/{name}", content)
        file.writestr("digits/README", "no image")
    return path


@pytest.fixture(scope="session")
def database(tmp_path_factory, images):
    import lmdb

    path = tmp_path_factory.mktemp("lmdb") / "digits_lmdb"
    with lmdb.open(str(path), map_size=1 << 24) as environment, environment.begin(write=True) as transaction:
        for name, content in images.items():
            transaction.put(name.removesuffix(".png").encode(), content)
    return path
