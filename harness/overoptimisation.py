"""How a gold reward rises and turns with the distance from SFT, and the most it could have been.

Distance is d = sqrt(KL(policy || SFT)), reward is gold minus SFT's, so that R(0) = 0. KL is not a
fair ruler between methods: a fit is of one method. The report draws gold along d with the fit, and
gold by the proxy that was trained on, where training kept it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from harness.statistics import ALPHA, Array, critical

Form = Literal["best-of-n", "rl"]
NEAREST = 0.1  # nats^(1/2): nearer to SFT the slope of the RL form has no bound


@dataclass(frozen=True)
class Fit:
    """One of Gao's forms fitted to one method's checkpoints.

    best-of-n: R = d (alpha - beta d); rl: R = d (alpha - beta log d). `residual` is the weighted
    root mean square on the scale of the rewards, `df` points less two. `near` counts the points
    left out for lying too near SFT. `first` and `last` are the distances observed. `covariance` is
    that of the coefficients: of alpha, of both, of beta.
    """

    form: Form
    alpha: float
    beta: float
    beta_low: float
    beta_high: float
    residual: float
    df: int
    near: int
    first: float
    last: float
    covariance: tuple[float, float, float]

    def reward(self, distance: float) -> float:
        """Return the fitted gold reward at a distance, SFT's being 0."""
        if distance == 0:
            return 0.0
        bent = distance if self.form == "best-of-n" else math.log(distance)
        return distance * (self.alpha - self.beta * bent)

    @property
    def peak(self) -> tuple[float, float] | None:
        """The distance and reward at which the fit turns down, None where it never does.

        best-of-n: alpha / (2 beta) and alpha^2 / (4 beta); rl: exp(alpha / beta - 1) and beta
        times that.
        """
        if self.beta <= 0 or (self.form == "best-of-n" and self.alpha <= 0):
            return None
        if self.form == "best-of-n":
            return self.alpha / (2 * self.beta), self.alpha**2 / (4 * self.beta)
        if self.alpha / self.beta > 700:
            return None  # farther than a float can say
        at = math.exp(self.alpha / self.beta - 1)
        return at, self.beta * at

    @property
    def peak_interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the distance at which the fit turns, None where it has no end.

        The distance grows with alpha / beta in both forms, so its ends are those of this ratio's
        interval (Fieller 1954), which is bounded where beta is surely not 0.
        """
        if self.beta_low <= 0:
            return None
        of_alpha, of_both, of_beta = self.covariance
        ratio, t = self.alpha / self.beta, critical(ALPHA, self.df)
        g = t**2 * of_beta / self.beta**2
        if of_beta == 0:
            return self.turned(ratio), self.turned(ratio)
        inner = of_alpha - 2 * ratio * of_both + ratio**2 * of_beta
        inner -= g * (of_alpha - of_both**2 / of_beta)
        half = t / self.beta * math.sqrt(max(inner, 0.0)) / (1 - g)
        centre = (ratio - g * of_both / of_beta) / (1 - g)
        return self.turned(centre - half), self.turned(centre + half)

    def turned(self, ratio: float) -> float:
        """Return the distance at which a curve with this alpha / beta turns down."""
        if self.form == "best-of-n":
            return max(ratio / 2, 0.0)
        return math.exp(min(ratio - 1, 700.0))

    @property
    def turns(self) -> bool:
        """Whether a turnover may be claimed: beta is surely positive and the peak was passed."""
        if self.peak is None:
            return False
        return self.beta_low > 0 and self.first <= self.peak[0] <= self.last


def fit(
    kl: Sequence[float] | Array,
    reward: Sequence[float] | Array,
    stderr: Sequence[float] | Array,
    form: Form,
    *,
    nearest: float = NEAREST,
) -> Fit:
    """Return one of Gao's forms by weighted least squares without an intercept.

    kl: (points,), in nats, to SFT; reward: (points,), gold minus SFT's; stderr: (points,), of the
    rewards, weights being 1 / stderr^2. (Gao, Schulman and Hilton 2022, arXiv:2210.10760, section
    3.) Points of the RL form nearer than `nearest` are left out and counted. Errors are scaled by
    the residual, t with points - 2 degrees of freedom. Raises ValueError for fewer than three
    points, negative KL, errors that are not positive, and points all at one distance.
    """
    divergence, r, s = (np.asarray(x, dtype=float) for x in (kl, reward, stderr))
    if not (len(divergence) == len(r) == len(s)):
        raise ValueError(f"{len(divergence)} KLs, {len(r)} rewards, {len(s)} errors: one of each")
    if (divergence < 0).any() or not (s > 0).all():
        raise ValueError("KL must not be negative, and every standard error must be positive")
    d = np.sqrt(divergence)
    kept = d >= nearest if form == "rl" else d > 0
    near, d, r, s = int((~kept).sum()), d[kept], r[kept], s[kept]
    if len(d) < 3:
        raise ValueError(f"{len(d)} points away from SFT; a fit of two coefficients needs three")
    bent = d if form == "best-of-n" else np.log(d)
    x = np.stack([d, -d * bent], axis=1) / s[:, None]
    if np.linalg.matrix_rank(x) < 2:
        raise ValueError("all points lie at one distance from SFT: no curve goes through them")
    beta, *_ = np.linalg.lstsq(x, r / s, rcond=None)
    rest = r / s - x @ beta
    df = len(d) - 2
    spread = float(rest @ rest) / df
    inverse = spread * np.linalg.inv(x.T @ x)
    covariance = (float(inverse[0, 0]), float(inverse[0, 1]), float(inverse[1, 1]))
    half = critical(ALPHA, df) * math.sqrt(covariance[2])
    residual = math.sqrt(float(rest @ rest) / float((1 / s**2).sum()))
    return Fit(
        form, float(beta[0]), float(beta[1]), float(beta[1]) - half, float(beta[1]) + half,
        residual, df, near, float(d.min()), float(d.max()), covariance,
    )  # fmt: skip


@dataclass(frozen=True)
class Limit:
    """The most reward that any policy can have at a KL to SFT; arrays are (points,), KL rising."""

    kl: Array
    reward: Array


def limit_curve(rewards: Array, *, points: int = 60) -> Limit:
    """Return the frontier of reward and KL that no policy can cross, from SFT's own answers.

    rewards: (prompts, samples), of SFT's draws; the result's rewards are above SFT's mean. The
    policy that earns most at a KL tilts SFT by exp(r / L) (Gibbs): with weights w over a prompt's N
    samples, R = sum_j w_j r_j and KL = R / L - log mean_j exp(r_j / L), averaged over prompts at
    common L. With finite N it is too low once KL nears log N: it is given up to KL = (log N) / 4.
    Raises ValueError for fewer than two samples a prompt and for rewards that are all equal.
    """
    r = np.asarray(rewards, dtype=float)
    if r.ndim != 2 or r.shape[1] < 2:
        raise ValueError("give a table of rewards with two samples of SFT a prompt, or more")
    r = r - r.mean(axis=1, keepdims=True)
    scale = float(r.std())
    if scale == 0:
        raise ValueError("all samples of each prompt have one reward: there is nothing to gain")
    kls, gains = [0.0], [0.0]
    for temperature in scale * np.geomspace(100, 0.05, points):
        tilt = r / temperature
        top = tilt.max(axis=1, keepdims=True)
        w = np.exp(tilt - top)
        log_mean = top[:, 0] + np.log(w.mean(axis=1))
        gain = (w * r).sum(axis=1) / w.sum(axis=1)
        kls.append(float((gain / temperature - log_mean).mean()))
        gains.append(float(gain.mean()))
    shown = np.array(kls) <= math.log(r.shape[1]) / 4
    return Limit(np.array(kls)[shown], np.array(gains)[shown])
