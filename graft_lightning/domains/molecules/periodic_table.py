"""Symbols of the elements, so that a file is understood before RDKit is loaded."""

import re
from functools import lru_cache

ELEMENTS = tuple(
    """
    H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr Nb Mo
    Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl
    Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og
    """.split()  # noqa: SIM905 (a table to be read, not 118 quoted words)
)
"""By atomic number, from 1."""

ISOTOPES = {"D": "H", "T": "H"}
"""Isotopes with a symbol of their own."""

_SYMBOLS = {symbol: symbol for symbol in ELEMENTS} | ISOTOPES

_NUMBER = re.compile(r"\d{1,3}(?:\.0*)?")

_MARKED = re.compile(r"\d{0,3}([A-Za-z]{1,2})(?:[^A-Za-z].*)?")
"""A mass number before the symbol, and after it a charge, a label or a type: ``13C``, ``O-``, ``C12``, ``N_3``."""


@lru_cache(maxsize=4096)
def symbol_of(word: str) -> str | None:
    """The symbol that a word of a file means; None if it means no element.

    It is written in any capitals, with a mass number before it and a charge, label or type after it, or it is an
    atomic number, also as a float.
    """
    if _NUMBER.fullmatch(word):
        number = int(float(word))
        return ELEMENTS[number - 1] if 1 <= number <= len(ELEMENTS) else None
    marked = _MARKED.fullmatch(word)
    return _SYMBOLS.get(marked[1].capitalize()) if marked else None
