r"""Noise processes, samplers and objectives; torch only.

Time runs from the data, ``t = 0``, to pure noise, ``t = T``. A discrete schedule has the integer levels ``0 .. T``
(T = 1000): level 0 is the data itself, and level ``t >= 1`` is entry ``t - 1`` of the published table, which is the
network's timestep. A flow has ``t`` in ``[0, 1]``. Models with another convention are turned round inside their
reference and nowhere else.

=================  ==========================================================================================
``alpha_t``        factor of the signal, Eq. 1:  x_t = alpha_t x_0 + sigma_t eps
``sigma_t``        factor of the noise
``alpha_ts``       alpha_t / alpha_s, and sigma_ts^2 = sigma_t^2 - alpha_ts^2 sigma_s^2: the kernel s -> t, Eq. 2
``s``              the hand-off level of P-GRAFT; its index on a sampler's grid, counted from the data, is N_I
``e``              standard normal noise of the kernel s -> t
``epsilon``        the noise of Eq. 1; ``v_prediction``: alpha eps - sigma x_0; ``flow``: eps - x_0; ``sample``: x_0
=================  ==========================================================================================

Equation numbers are those of the project's mathematical notes, repeated where they are implemented:

1. ``x_t = alpha_t x_0 + sigma_t eps``
2. ``x_t | x_s ~ N(alpha_ts x_s, sigma_ts^2)``
3. ``q(c_t | c_s) = beta_ts delta(c_s) + (1 - beta_ts) pi``
4. acceptance probability ``A(r, F(r), x, P)``; 5. the distribution of the accepted, ``p exp(r / alpha)``
6. ``E lambda(t) |(sigma_ts / sigma_t) eps_theta - e|^2``; 6b. the same target in the other outputs
7. ``log sum_c0 p_theta(c_0 | x_t) q(c_s | c_t, c_0)``
8. backward Euler, the exact inverse of a sampler's step; 9. the likelihood gain of a corrector

References:
    Fine-Tuning Diffusion Models via Intermediate Distribution Shaping, arXiv 2510.02692.
"""
