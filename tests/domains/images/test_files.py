"""A folder, an archive and a database of the same images are the same images."""

import multiprocessing
import pickle
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest

from graft_lightning.domains.images.examples import ImageFiles
from graft_lightning.domains.images.files import Folder, Lmdb, Zip, open_files
from graft_lightning.types import SettingsError


@pytest.mark.parametrize(("source", "kind"), [("folder", Folder), ("archive", Zip), ("database", Lmdb)])
def test_every_picture_in_the_order_of_names(request, images, source, kind):
    files = open_files(str(request.getfixturevalue(source)))
    assert type(files) is kind
    assert [files.read(name) for name in files.names] == [images[name] for name in sorted(images)]


def test_a_database_in_one_file(tmp_path, images):
    import lmdb

    path = tmp_path / "digits.mdb"
    with lmdb.open(str(path), subdir=False, map_size=1 << 24) as environment, environment.begin(write=True) as writing:
        writing.put(b"\xff\x00", images["000.png"])
    files = open_files(str(path))
    assert [files.read(name) for name in files.names] == [images["000.png"]]


def read_all(files, names):
    return [files.read(name) for name in names]


@pytest.mark.parametrize(("method", "processes"), [("fork", 2), ("spawn", 1)])
@pytest.mark.usefixtures("warm")
def test_readers_go_to_other_processes(folder, archive, database, method, processes):
    sources = [open_files(str(path)) for path in (folder, archive, database)]
    here = [read_all(files, files.names) for files in sources]  # opened before the fork
    parts = [(files, files.names[half]) for files in sources for half in (slice(20), slice(20, None))]
    with multiprocessing.get_context(method).Pool(processes) as pool:
        halves = pool.starmap(read_all, parts)
    assert [halves[i] + halves[i + 1] for i in (0, 2, 4)] == here


@pytest.mark.parametrize("source", ["folder", "archive", "database"])
def test_two_readers_of_one_place(request, source):
    path = str(request.getfixturevalue(source))
    first, second = open_files(path), open_files(path)
    assert read_all(first, first.names) == read_all(second, second.names)


@pytest.mark.parametrize("source", ["archive", "database"])
def test_readers_are_shared_by_threads(request, source):
    files = open_files(str(request.getfixturevalue(source)))
    here = read_all(files, files.names)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(files.read, files.names * 5)) == here * 5
    assert pickle.loads(pickle.dumps(files)).read(files.names[3]) == here[3]


def test_what_is_there_and_what_is_not(tmp_path, images):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        open_files(str(tmp_path / "nowhere"))
    text = tmp_path / "a.txt"
    text.write_text("hello")
    with pytest.raises(SettingsError, match=r"a\.txt is none of"):
        open_files(str(text))
    with pytest.raises(SettingsError, match=r"holds no image \(\.png"):
        _ = open_files(str(tmp_path)).names
    damaged = tmp_path / "b.zip"
    damaged.write_bytes(images["000.png"])
    with pytest.raises(SettingsError, match=r"b\.zip is no zip archive"):
        _ = open_files(str(damaged)).names
    database = tmp_path / "c.mdb"
    database.write_bytes(b"no database" * 1000)
    with pytest.raises(SettingsError, match=r"c\.mdb is no LMDB database"):
        _ = open_files(str(database)).names


def test_a_damaged_member_of_an_archive_is_named(tmp_path, archive):
    content = bytearray(archive.read_bytes())
    content[60] ^= 0xFF  # within the first image
    broken = tmp_path / "broken.zip"
    broken.write_bytes(content)
    files = open_files(str(broken))
    with pytest.raises(SettingsError, match=r"broken\.zip: digits/000\.png is damaged"):
        read_all(files, files.names)


def test_a_damaged_stream_of_an_archive_is_named(tmp_path):
    """Compressed, the damage is found by zlib, before any sum is checked."""
    path = tmp_path / "broken.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.bmp", bytes(range(256)) * 40)
    content = bytearray(path.read_bytes())
    content[35:60] = b"\xff" * 25  # within the stream, which begins after 30 bytes and the name
    path.write_bytes(content)
    files = open_files(str(path))
    with pytest.raises(SettingsError, match=r"broken\.zip: a\.bmp is damaged.*make the archive again"):
        files.read("a.bmp")


def test_what_macos_writes_beside_pictures_is_none(tmp_path, images):
    names = ["a.png", "b/c.png", "._a.png", "b/._c.png", "__MACOSX/a.png", "__MACOSX/b/._c.png"]
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as file:
        for name in names:
            file.writestr(name, images["000.png"])
    with zipfile.ZipFile(tmp_path / "all.zip") as file:
        file.extractall(tmp_path / "all")
    for place in ("all.zip", "all"):
        assert open_files(str(tmp_path / place)).names == ["a.png", "b/c.png"]


def test_one_rule_of_what_counts_as_a_file(tmp_path, images, caplog):
    """Hidden ones are passed by, linked folders followed, loops end, and other kinds are told by suffix."""
    content = images["000.png"]
    names = ["a.png", "b.TIF", "c.gif", ".hidden.png", ".thumbs/d.png", "e.heic", "f.heic", "g.svg"]
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as file:
        for name in names:
            file.writestr(name, content)
    with zipfile.ZipFile(tmp_path / "all.zip") as file:
        file.extractall(tmp_path / "all")
    for place in ("all.zip", "all"):
        caplog.clear()
        assert open_files(str(tmp_path / place)).names == ["a.png", "b.TIF", "c.gif"]
        assert "passed over 3 files that are no image: 2 .heic, 1 .svg" in caplog.text
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "h.png").write_bytes(content)
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "all")
    (tmp_path / "all" / "link").symlink_to(tmp_path / "elsewhere")
    files = open_files(str(tmp_path / "all"))
    assert files.names == ["a.png", "b.TIF", "c.gif", "link/h.png"]
    assert files.read("link/h.png") == content
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "a.heic").touch()
    with pytest.raises(SettingsError, match=r"holds no image .*, but 1 \.heic"):
        _ = open_files(str(tmp_path / "none")).names


def test_links_that_cannot_be_followed(tmp_path, images, caplog):
    """In an archive they are told; in a folder, one that leads to itself is refused by name."""
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as file:
        file.writestr("a.png", images["000.png"])
        link = zipfile.ZipInfo("b.png")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        file.writestr(link, "a.png")
    assert open_files(str(tmp_path / "all.zip")).names == ["a.png"]
    assert "passed over 1 file that is no image: 1 .png (link)" in caplog.text
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / "c.png").symlink_to("c.png")
    with pytest.raises(SettingsError, match=r"c\.png cannot be read \(Too many levels"):
        open_files(str(tmp_path / "all")).read("c.png")
    (tmp_path / "all" / "d.png").symlink_to("nowhere.png")
    with pytest.raises(SettingsError, match=r"d\.png is a link to nothing"):
        open_files(str(tmp_path / "all")).read("d.png")


@pytest.mark.parametrize(
    ("content", "said"), [(b"", "the file is empty"), (b"<svg/>", "of no format that Pillow knows")]
)
def test_what_is_no_image_is_told_in_words(tmp_path, content, said):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(SettingsError, match=rf"a\.png is no image, or a damaged one \(.*{said}\)"):
        ImageFiles(str(tmp_path)).read(0)


def test_an_archive_that_was_cut_short_is_refused(tmp_path, archive):
    content = archive.read_bytes()
    path = tmp_path / "cut.zip"
    for cut in range(0, len(content), 97):
        path.write_bytes(content[:cut])
        with pytest.raises(SettingsError, match=r"cut\.zip is no zip archive"):
            _ = open_files(str(path)).names


def test_a_name_that_an_archive_has_twice_is_one_picture(tmp_path, images):
    path = tmp_path / "twice.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a.png", images["000.png"])
        with pytest.warns(UserWarning, match="Duplicate"):
            file.writestr("a.png", images["001.png"])
    files = open_files(str(path))
    assert [files.read(name) for name in files.names] == [
        images["001.png"]
    ]  # the later one replaces, as unpacking does


def put(path, items):
    import lmdb

    with lmdb.open(str(path), map_size=1 << 24) as environment, environment.begin(write=True) as writing:
        for key, value in items.items():
            writing.put(key, value)
    return str(path)


@pytest.mark.parametrize(("size", "taken"), [(None, 64), (8, 32), (32, 32), (33, 64), (256, 64)])
def test_a_database_of_several_resolutions_holds_each_picture_once(tmp_path, size, taken):
    """StyleGAN2's layout: the side and the number, and how many there are under "length"."""
    items = {b"%d-%05d" % (side, i): b"%d %d" % (side, i) for side in (32, 64) for i in range(12)}
    files = open_files(put(tmp_path / "many", {**items, b"length": b"12"}), size)
    assert [files.read(name) for name in files.names] == [b"%d %d" % (taken, i) for i in range(12)]


def test_keys_that_only_look_like_resolutions(tmp_path):
    """Class and number, of classes that are not equally large; and one resolution alone."""
    classes = {b"%d-%d" % (label, i): b"%d" % i for label in (1, 2) for i in range(label)}
    assert len(open_files(put(tmp_path / "classes", classes)).names) == 3
    one = {b"256-%05d" % i: b"%d" % i for i in range(3)}
    assert len(open_files(put(tmp_path / "one", {**one, b"length": b"3"}), 512).names) == 3


@pytest.mark.parametrize("key", [b"length", b"num-samples"])
def test_a_database_that_holds_other_than_it_says_is_refused(tmp_path, key):
    """One that was not finished, in one resolution or in some of several, or that holds more than images."""
    whole = {b"%d-%05d" % (side, i): b"x" for side in (32, 64) for i in range(3)}
    one = {b"%d" % i: b"x" for i in range(3)}
    wrong = [one | {b"label": b"x"}, dict(list(one.items())[:2]), dict(list(whole.items())[:5])]
    for number, (items, has) in enumerate(zip(wrong, (4, 2, 5), strict=True)):
        with pytest.raises(SettingsError, match=rf"says it holds 3 images, and has {has}: some are missing"):
            _ = open_files(put(tmp_path / str(number), {**items, key: b"3"})).names
    assert len(open_files(put(tmp_path / "unread", {**one, key: b"\x80\x04K\x05."})).names) == 3


def test_an_image_of_a_database_is_named_by_its_key(tmp_path):
    path = put(tmp_path / "some", {b"no-image": b"x"})
    with pytest.raises(SettingsError, match=r"some, key 'no-image' is no image"):
        ImageFiles(path).read(0)


def test_a_database_that_was_cut_short_is_refused(tmp_path, images):
    """Read beyond the end of the file, the process would end."""
    path = put(tmp_path / "cut", {b"%d" % i: content * 50 for i, content in enumerate(images.values())})
    file = tmp_path / "cut" / "data.mdb"
    file.write_bytes(file.read_bytes()[:-4096])
    with pytest.raises(SettingsError, match="cut is an LMDB database that was cut short"):
        _ = open_files(path).names
