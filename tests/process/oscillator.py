#!/usr/bin/env python3
"""The damped oscillator to 60 digits: writes tests/process/oscillator.csv, which tests/test_oscillator.c reads.

    python3 tests/process/oscillator.py >tests/process/oscillator.csv          (mpmath 1.3; a minute)

x'' + 2 zeta x' + x = 0 from its complex roots l = -zeta +- sqrt(zeta^2 - 1), in 220-digit arithmetic, where the
cancellation that the C code must avoid does not matter:

    h = (e^(l1 tau) - e^(l2 tau)) / (l1 - l2),  mean = h' + 2 zeta h,  cov_xx = int h^2, cov_vv = int h'^2  (g = 1)

Each value comes with its condition number 1 + |zeta df/dzeta / f| + |tau df/dtau / f|: how much a relative error of the
arguments' last bit grows on its way to f, whoever computes it (of f = 0 the absolute one).  zeta and tau are doubles,
written exactly.
"""
import sys

from mpmath import mp, mpf, mpc, exp, expm1, fabs, nstr, quad, re, sqrt

mp.dps = 220
ZETAS = [0.0, 1e-12, 1e-3, 0.02, 0.05, 0.2, 0.5, 0.8, 0.99, 1 - 2.0 ** -30, 1 - 2.0 ** -53, 1.0, 1 + 2.0 ** -52, 1 + 2.0 ** -30,
         1.01, 1.5, 2.5, 10.0, 1000.0, 1e6]
TAUS = [1e-9, 1e-6, 1e-4, 1e-2, 0.1, 0.5, 1.0, 1.9, 2.5, 5.0, 8.0, 13.0, 30.0, 100.0, 500.0]
NAMES = ["mean_x", "h", "dh", "cov_xx", "cov_xv", "cov_vv"]


def grown(a, tau):
    """int_0^tau e^(a t) dt"""
    return tau if a == 0 else expm1(a * tau) / a


def values(zeta, tau):
    if zeta == 1:
        e, e2 = exp(-tau), exp(-2 * tau)
        h, dh = tau * e, (1 - tau) * e
        xx = (1 - e2 * (1 + 2 * tau + 2 * tau ** 2)) / 4
        vv = mpf(1) / 4 - e2 * (mpf(1) / 4 - tau / 2 + tau ** 2 / 2)
    else:
        root = sqrt(mpc(zeta * zeta - 1))
        l1, l2, gap = -zeta + root, -zeta - root, 2 * root
        e1, e2 = exp(l1 * tau), exp(l2 * tau)
        h, dh = re((e1 - e2) / gap), re((l1 * e1 - l2 * e2) / gap)
        both = grown(l1 + l2, tau)
        xx = re((grown(2 * l1, tau) - 2 * both + grown(2 * l2, tau)) / gap ** 2)
        vv = re((l1 ** 2 * grown(2 * l1, tau) - 2 * l1 * l2 * both + l2 ** 2 * grown(2 * l2, tau)) / gap ** 2)
    return [dh + 2 * zeta * h, h, dh, xx, h * h / 2, vv]


def conditions(zeta, tau):
    """By central differences: 70 digits of step leave 140 good ones."""
    total = [mpf(1)] * len(NAMES)
    f = values(zeta, tau)
    for which in (0, 1):
        step = (zeta, tau)[which] * mpf(10) ** -70
        if step == 0:
            continue
        high = values(zeta + step * (which == 0), tau + step * (which == 1))
        low = values(zeta - step * (which == 0), tau - step * (which == 1))
        total = [t + fabs((a - b) / (2 * step) * (zeta, tau)[which] / (y or 1)) for t, a, b, y in zip(total, high, low, f)]
    return total


def check():
    """The closed forms of the covariances against quadrature of the squares."""
    mp.dps = 40
    for zeta, tau in ((0.2, 2.5), (1.0, 1.9), (2.5, 5.0)):
        z, t = mpf(zeta), mpf(tau)
        want = values(z, t)
        for column, square in ((3, 1), (5, 2)):
            found = quad(lambda s: values(z, s)[square] ** 2, [0, t / 2, t])
            assert fabs(found / want[column] - 1) < mpf(10) ** -30, (zeta, tau, found, want[column])
    mp.dps = 220


def main():
    check()
    print("zeta,tau," + ",".join(NAMES) + "," + ",".join("cond_" + n for n in NAMES))
    for zeta in ZETAS:
        for tau in TAUS:
            row = values(mpf(zeta), mpf(tau))
            bounds = conditions(mpf(zeta), mpf(tau))
            print(",".join([repr(zeta), repr(tau)] + [nstr(x, 60) for x in row] + [nstr(c, 4) for c in bounds]))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
