"""URLs: one spelling, hosts, registered domains, and splits that keep domains together."""

import socket
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nolabel.data import urls as module
from nolabel.data.urls import (
    host_of,
    normalise_url,
    normalise_urls,
    registered_domain,
    require_urls,
    split_by_domain,
)


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    def refuse(*args):
        raise AssertionError("asked for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("http://www.Example.COM/", "example.com"),
        ("  HTTPS://example.com/A/b/  ", "example.com/A/b"),
        ("//cdn.example.com/x.js", "cdn.example.com/x.js"),
        ("www.example.com", "example.com"),
        ("wwwexample.com/www.x", "wwwexample.com/www.x"),
        ("example.com?to=http://www.a.de/b", "example.com?to=http://www.a.de/b"),
        ("ftp://Me@Host.org:21/F", "Me@host.org:21/F"),
        ("http://", "http://"),
        ("http://www./", "http://www./"),
        ("http://www.\x01/", "http://www.\x01/"),
        ("http://müller.de/ß", "müller.de/ß"),
    ],
)
def test_one_spelling(url, wanted):
    assert normalise_url(url) == wanted


def test_parts_may_stay():
    url = "HTTPS://www.Example.com/A/?Q=1/"
    assert normalise_url(url, scheme=True, www=True, trailing_slash=True) == "https://www.example.com/A/?Q=1/"
    assert normalise_url(url, scheme=True) == "https://example.com/A/?Q=1"
    assert normalise_url(url, lowercase=True) == "example.com/a/?q=1"


@given(st.text(st.characters(codec="ascii", categories=("L", "N", "P")), min_size=1, max_size=30))
def test_spelling_again_changes_the_scheme_free_form_no_more(path):
    once = normalise_url(f"http://example.com/{path}")
    assert once.startswith("example.com")
    assert normalise_url(once) == once


def test_punycode_only_where_asked():
    assert normalise_url("http://www.Müller.de/ä?ö", punycode=True) == "xn--mller-kva.de/ä?ö"
    with pytest.raises(ValueError, match="no ASCII form"):
        normalise_url(f"http://{'ä' * 80}.de", punycode=True)
    with pytest.warns(UserWarning, match="1 of 2 URLs have a host without an ASCII form"):
        found = normalise_urls([f"http://{'ä' * 80}.de", "ä.de"], punycode=True)
    assert found == [f"{'ä' * 80}.de", "xn--4ca.de"]


def test_require_urls_names_the_row():
    assert require_urls(np.array(["a.de", "b.de"])) == ["a.de", "b.de"]
    for wrong, error, message in (
        ([], ValueError, "no URLs"),
        (["a.de", ""], ValueError, r"url\[1\]: expected a URL, got ''"),
        (["a.de", " \t"], ValueError, r"url\[1\]"),
        (["a.de", "\x00"], ValueError, r"url\[1\]"),
        (["a.de", "b.de", None], TypeError, r"url\[2\]: expected a URL as a text, got NoneType"),
        ([b"a.de"], TypeError, r"url\[0\].*bytes"),
    ):
        with pytest.raises(error, match=message):
            require_urls(wrong)


def test_hosts_and_registered_domains():
    assert host_of("https://Me:pw@A.b.Example.co.uk:443/x@y") == "a.b.example.co.uk"
    assert host_of("example.com.:80?x") == "example.com"
    for url, wanted in (
        ("https://a.b.example.co.uk:443/x", "example.co.uk"),
        ("www.example.com", "example.com"),
        ("someone.blogspot.com/2020", "blogspot.com"),  # the host of many, told apart by nobody who splits carefully
        ("http://192.168.0.1:8080/a", "192.168.0.1"),
        ("http://[2001:db8::1]:80/", "[2001:db8::1]"),
        ("intranet/page", "intranet"),
        ("http://müller.de/x", "müller.de"),
        ("co.uk", "co.uk"),
    ):
        assert registered_domain(url) == wanted


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tldextract", None)
    module._extract.cache_clear()
    module._domain.cache_clear()
    with pytest.raises(ImportError, match=r"nolabel\[url\]"):
        registered_domain("example.com")
    module._extract.cache_clear()


URLS = [f"http://{'www.' if i % 3 else ''}d{i % 40}.example{i % 7}.com/{i}" for i in range(400)] + [
    f"host{i}.org/{i}" for i in range(100)
]


def test_no_domain_on_both_sides_and_about_the_share():
    learn, held = split_by_domain(URLS, 0.3, random_state=1)
    assert sorted([*learn, *held]) == list(range(500))
    assert not {registered_domain(URLS[i]) for i in learn} & {registered_domain(URLS[i]) for i in held}
    assert 100 <= len(held) <= 150
    assert np.array_equal(split_by_domain(URLS, 0.3, random_state=1)[1], held)
    assert not np.array_equal(split_by_domain(URLS, 0.3, random_state=2)[1], held)


def test_every_label_keeps_rows_to_learn_from():
    labels = ["rare" if i == 499 else "common" for i in range(500)]
    for seed in range(20):
        learn, _ = split_by_domain(URLS, 0.9, labels, random_state=seed)
        assert 499 in learn


def test_splits_that_cannot_be():
    with pytest.raises(ValueError, match="none of their 1 registered domains can be held out"):
        split_by_domain(["a.de/1", "a.de/2", "www.a.de/3"], 0.5)
    with pytest.raises(ValueError, match=r"share must lie in \(0, 1\), got 1.0"):
        split_by_domain(URLS, 1.0)
    with pytest.raises(ValueError, match="labels: expected 500, one a URL, got 2"):
        split_by_domain(URLS, 0.5, ["a", "b"])
