"""Where an xyz frame keeps elements and coordinates, and in which unit: extended xyz tells in the comment.

Extended xyz has ``key=value`` in its comment, among them ``Properties=species:S:1:pos:R:3:...``, the columns in order:
name, type (S, R, I or L) and number of each. A plain frame has the element first and then x y z, in Angstrom. Of
sentences only ``units: bohr`` and the like are understood; others that speak of bohr are told by `speaks_of_bohr`.
"""

import re
from dataclasses import dataclass

_PAIR = re.compile(r"""([A-Za-z_][\w-]*)\s*=\s*("[^"]*"|'[^']*'|\{[^}]*\}|[^\s"'{]\S*)""")

_SPECIES = ("species", "symbol", "symbols", "element", "elements", "atom", "atoms")
_NUMBERS = ("z", "numbers", "number", "atomic_number", "atomic_numbers")
_POSITIONS = ("pos", "position", "positions", "coord", "coords", "coordinates")

_UNIT_KEY = re.compile(r"(?:(?:pos|position|positions|coord|coordinates|length|distance)_)?units?", re.IGNORECASE)

_SAID = re.compile(r"""(?<![\w-])([A-Za-z_][\w-]*)\s*:\s*["'({]?([^\s"'(){},;]+)""")
"""A word, a colon, and another word; one comment may have many of them."""

_BOHR = re.compile(r"(?<![\w/])bohrs?(?!\w)", re.IGNORECASE)
"""Not that of ``hartree/bohr``, of which forces are."""

_OF_MUCH = ("au", "a.u.", "atomic", "a")
"""Units that energies and forces have too, and words: in a sentence they are meant of lengths where it says so."""

ANGSTROM = {
    **dict.fromkeys(("angstrom", "angstroms", "ang", "a", "\u00e5", "\u212b"), 1.0),
    **dict.fromkeys(("bohr", "bohrs", "au", "a.u.", "atomic", "a0"), 0.529177210903),
    **dict.fromkeys(("nm", "nanometer", "nanometers"), 10.0),
    **dict.fromkeys(("pm", "picometer", "picometers"), 0.01),
}
"""Units of length, in Angstrom."""

_ENERGY = ("ev", "mev", "hartree", "hartrees", "ha", "ry", "kcal", "kcal/mol", "kj", "kj/mol")
"""What ``units`` without a word of whose is also said of; there it says nothing of lengths."""


@dataclass(frozen=True)
class Columns:
    """What stands where in a line of an atom.

    Attributes:
        element: column of the symbol or atomic number, from 0.
        position: column of x; y and z follow.
        unit: of the coordinates, in Angstrom; None where nothing tells of one, and it is Angstrom.
    """

    element: int = 0
    position: int = 1
    unit: float | None = None

    @property
    def width(self) -> int:
        """The least number of words in a line."""
        return max(self.element + 1, self.position + 3)


def columns_of(comment: str) -> Columns:
    """The columns that a comment tells of; the plain ones where it tells of none.

    Raises:
        ValueError: if they name no element, no position, or a unit that is unknown.
    """
    pairs = {key.lower(): value.strip("\"'{}").strip() for key, value in _PAIR.findall(comment)}
    units = [value for key, value in pairs.items() if _UNIT_KEY.fullmatch(key) and value.lower() not in _ENERGY]
    unit = length_unit(units[0]) if units else _said_unit(comment)
    if "properties" not in pairs:
        return Columns(unit=unit)
    element, position = _parsed(pairs["properties"])
    return Columns(element, position, unit)


def _said_unit(comment: str) -> float | None:
    """The unit of length of ``units: bohr``; None where there is none, or it is a word that no unit is called."""
    for key, word in _SAID.findall(comment):
        unit = word.lower() if word.lower() in ANGSTROM else word.lower().rstrip(".")
        if _UNIT_KEY.fullmatch(key) and unit in ANGSTROM and ("_" in key or unit not in _OF_MUCH):
            return ANGSTROM[unit]
    return None


def speaks_of_bohr(comment: str) -> bool:
    """Whether a comment has the word "bohr" in it, understood or not."""
    return _BOHR.search(comment) is not None


def length_unit(word: str) -> float:
    """A unit of length in Angstrom.

    Raises:
        ValueError: if it is unknown.
    """
    try:
        return ANGSTROM[word.lower()]
    except KeyError:
        raise ValueError(f"the unit {word!r} should be one of angstrom, bohr, nm, pm") from None


def _parsed(properties: str) -> tuple[int, int]:
    """The columns of element and position."""
    fields = properties.split(":")
    if len(fields) % 3 or not all(count.isdecimal() and int(count) for count in fields[2::3]):
        raise ValueError(f"Properties={properties} should be name:type:count, repeated")
    place = 0
    starts: dict[str, tuple[int, int]] = {}
    for name, count in zip(fields[::3], map(int, fields[2::3]), strict=True):
        starts.setdefault(name.lower(), (place, count))
        place += count
    element = next((starts[name][0] for name in (*_SPECIES, *_NUMBERS) if name in starts), None)
    position = next((starts[name] for name in _POSITIONS if name in starts), None)
    if element is None or position is None or position[1] != 3:
        raise ValueError(f"Properties={properties} should name species:S:1 (or Z:I:1) and pos:R:3 among its columns")
    return element, position[0]
