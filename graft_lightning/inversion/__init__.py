"""Exact inversion of a flow's sampler, the distribution of the noise that it finds, and what corrects it; torch only.

`steps` holds the sampler's step maps and `solvers`, `anderson`, `newton_krylov`, `automatic` the ways to invert one;
`invert` runs them from the data to the noise. `gaussian` is the corrector that costs nothing, and `likelihood`,
`distance`, `round_trip`, `contraction` measure.

Time is as everywhere: t = 0 is the data, t = 1 the noise, ``x_t = (1 - t) x_0 + t eps`` and ``v = dx/dt``.
"""
