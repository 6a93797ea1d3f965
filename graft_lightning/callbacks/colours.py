"""One colour a meaning, in every figure and frame."""

ACCEPTED, REJECTED, BEFORE = "#1b7f5c", "#c0502d", "#8a8f98"
