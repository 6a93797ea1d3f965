"""Generalised rejection sampling: draw, score, accept, keep; torch only."""
