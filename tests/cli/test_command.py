"""The pages of commands: what a docstring says, in a user's words, and every default."""

from graft_lightning.cli.command import Command


def feed(args):
    """Feeds the animals
    of a farm.

    What they eat is not told here.

    Raises:
        ValueError: never.
        SystemExit: 1 if one is hungry,
            2 if there is none.
    """


def whisper(args):
    """Says it quietly."""


def words(parser):
    return " ".join(parser.format_help().split())


def test_a_page_says_what_the_docstring_says_and_the_exit_statuses():
    shown = words(Command("feed", feed, "More.", epilog="In the end."))
    assert "usage: python -m graft_lightning feed" in shown
    assert "Feeds the animals of a farm. More." in shown
    assert shown.endswith("In the end. Exit status: 0, or 1 if one is hungry, 2 if there is none.")
    assert "ValueError" not in shown
    assert "not told" not in shown


def test_nothing_is_said_of_statuses_where_there_are_none():
    assert "Exit status" not in words(Command("whisper", whisper))


def test_paragraphs_of_an_epilog_stand_apart():
    assert "In the end.\n\nExit status: 0" in Command("feed", feed, epilog="In the end.").format_help()


def test_a_default_is_said_once_and_only_where_there_is_one():
    parser = Command("whisper", whisper)
    parser.add_argument("--one", type=int, default=1, help="a number")
    parser.add_argument("--zero", type=float, default=0.0, help="another")
    parser.add_argument("--device", default="cpu", help="where; cpu by default")
    parser.add_argument("--quiet", action="store_true", help="no words")
    parser.add_argument("--loud", dest="quiet", action="store_false", help="words")
    parser.add_argument("--out", help="the file")
    parser.add_argument("--name", default="", help="of it")
    shown = words(parser)
    assert "a number (default: 1)" in shown
    assert "another (default: 0.0)" in shown
    assert shown.count("default") == 3  # these two, and the text of --device
