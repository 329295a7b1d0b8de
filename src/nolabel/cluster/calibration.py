"""Probabilities that mean what they say: loss on rows kept out, the temperature that lowers it, weights of domains.

The temperature T divides logits:

    T = argmin mean over held-out rows of - log softmax(logits / T)[domain]

Guo, Pleiss, Sun & Weinberger, "On calibration of modern neural networks", ICML 2017, arXiv:1706.04599.
"""

import math

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax


def balancing_weights(codes: np.ndarray) -> np.ndarray:
    """Weights (r,) of rows by their domain, so that all domains count alike and the mean row weighs 1.

    >>> balancing_weights(np.array([0, 0, 0, 1])).round(3).tolist()
    [0.667, 2.0]
    """
    counts = np.bincount(codes)
    weights: np.ndarray = len(codes) / (len(counts) * counts)
    return weights


def logarithm(probabilities: np.ndarray) -> np.ndarray:
    """Logarithms of probabilities, of which none counts as less than 1e-12."""
    return np.log(np.maximum(np.asarray(probabilities, dtype=np.float64), 1e-12))


def log_loss(log_p: np.ndarray, codes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted - log p of each row's own column, (n,)."""
    loss: np.ndarray = -weights[codes] * log_p[np.arange(len(codes)), codes]
    return loss


def fitted_temperature(logits: np.ndarray, codes: np.ndarray, weights: np.ndarray) -> float:
    """The temperature that makes the probabilities of rows (n, r) most likely, each row weighted by its domain (r,).

    >>> logits = np.array([[8.0, 0.0]] * 4)
    >>> round(fitted_temperature(logits, np.array([0, 0, 0, 1]), np.ones(2)), 2)  # 8 / T = log 3
    7.28
    """

    def loss(log_temperature: float) -> float:
        log_p = log_softmax(logits / math.exp(log_temperature), axis=1)
        return float(log_loss(log_p, codes, weights).mean())

    return math.exp(float(minimize_scalar(loss, bounds=(-3.0, 3.0), method="bounded").x))
