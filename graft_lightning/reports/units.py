"""Bytes, operations and seconds as people read them."""

PREFIXES = ("", "K", "M", "G", "T", "P", "E")


def readable(count: float, unit: str = "B") -> str:
    """A number of bytes, or of another unit, to three digits."""
    for prefix in PREFIXES[:-1]:
        if count < 999.5:  # from here on three digits would read 1e+03
            return f"{count:.3g} {prefix}{unit}"
        count /= 1000
    return f"{count:.3g} {PREFIXES[-1]}{unit}"


def duration(seconds: float) -> str:
    """Seconds in words."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"
