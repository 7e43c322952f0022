"""The rational approximation of erf in crates/chiasm-nn/src/activation.rs: prints its coefficients and its error.

erf(x) = x P(x^2) / Q(x^2) on 0 < x < 4, degrees 6 and 5, weighted least squares iterated towards the least maximal error.
Needs numpy 2.x. No seed: nothing here is random.
"""

from math import erf

import numpy as np

DEGREE_P, DEGREE_Q = 6, 5

x = np.linspace(1e-4, 4.0, 20001)
t = x * x
exact = np.array([erf(v) for v in x])
weight, q = np.ones_like(x), np.ones_like(x)
for _ in range(60):
    # P(t) - y (Q(t) - 1) = y with y = erf(x) / x, linear in the coefficients once Q of the last round divides the residual.
    y = exact / x
    left = np.stack([t**i for i in range(DEGREE_P + 1)] + [-y * t**i for i in range(1, DEGREE_Q + 1)], axis=1)
    scale = (x * weight / q)[:, None]
    norms = np.linalg.norm(left * scale, axis=0)
    c = np.linalg.lstsq(left * scale / norms, y * scale[:, 0], rcond=None)[0] / norms
    p = np.polyval(c[DEGREE_P::-1], t)
    q = np.polyval(np.r_[1.0, c[DEGREE_P + 1 :]][::-1], t)
    error = np.abs(x * p / q - exact)
    weight *= 1.0 + 2.0 * error / error.max()
    weight /= weight.mean()

print("P", [float(v) for v in c[: DEGREE_P + 1].astype(np.float32)])
print("Q", [1.0] + [float(v) for v in c[DEGREE_P + 1 :].astype(np.float32)])
print("largest error before rounding to f32:", error.max())
