"""One thread, a cache of its own and no data beyond what the tests make."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NOLABEL_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("NOLABEL_DATA", raising=False)
        yield


@pytest.fixture(scope="session")
def digits():
    """scikit-learn's digits: uint8 (1797, 8, 8) and their labels, in random order."""
    from sklearn.datasets import load_digits

    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    images = np.rint(data.images * (255 / 16)).astype(np.uint8)[order]
    images.flags.writeable = False
    return images, data.target[order]


@pytest.fixture(scope="session")
def docstrings():
    """What the standard library says of its public functions and classes: a few hundred texts that are always there."""
    import argparse
    import collections
    import csv
    import datetime
    import decimal
    import email.message
    import itertools
    import json
    import logging
    import pathlib
    import random
    import shutil
    import statistics
    import string
    import subprocess
    import threading
    import unittest

    modules = (
        *(
            argparse,
            collections,
            csv,
            datetime,
            decimal,
            email.message,
            itertools,
            json,
            logging,
            pathlib,
            random,
            shutil,
        ),
        *(statistics, string, subprocess, threading, unittest),
    )
    texts = {}
    for module in modules:
        for name, found in sorted(vars(module).items()):
            inside = sorted(vars(found).items()) if isinstance(found, type) else []
            for key, thing in [(name, found), *((f"{name}.{member}", value) for member, value in inside)]:
                text = getattr(thing, "__doc__", None)
                if isinstance(text, str) and len(text.split()) > 5 and key[0] != "_" and "._" not in key:
                    texts[" ".join(text.split())] = f"{module.__name__}.{key}"
    return list(texts)
