"""Symbols of the elements, so that a file is understood before RDKit is loaded."""

ELEMENTS = tuple(
    """
    H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr Nb Mo
    Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl
    Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og
    """.split()  # noqa: SIM905 (a table to be read, not 118 quoted words)
)
"""By atomic number, from 1."""

_KNOWN = frozenset(ELEMENTS)


def symbol_of(word: str) -> str | None:
    """The symbol that a word of a file means, any capitals or an atomic number; None if it means no element."""
    if word.isdecimal():
        return ELEMENTS[int(word) - 1] if 1 <= int(word) <= len(ELEMENTS) else None
    symbol = word.capitalize()
    return symbol if symbol in _KNOWN else None
