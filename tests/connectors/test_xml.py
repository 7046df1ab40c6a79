"""XML from strangers is parsed with every door shut."""

from __future__ import annotations

import contextlib
import re
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors import xml
from connectors.reading import Refused

LAUGHS = b'<!DOCTYPE l [<!ENTITY a "lol">' + b"".join(
    b'<!ENTITY %c "%s">' % (98 + n, b"&%c;" % (97 + n) * 10) for n in range(9)
) + b"]><l>&j;</l>"  # fmt: skip

BAD = {
    "nothing": (b"", "not_xml"),
    "blanks": (b" \n", "not_xml"),
    "json": (b'{"a": 1}', "not_xml"),
    "html": (b"<!DOCTYPE html><html><body>502</body></html>", "not_xml"),
    "html without a type": (b"<html><body>502</body></html>", "not_xml"),
    "a bomb of entities": (LAUGHS, "doctype"),
    "a bomb after a comment and an instruction": (b"<?xml version='1.0'?>\n<!-- x --><?pi?>\n" + LAUGHS, "doctype"),
    "an external file": (b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>', "doctype"),
    "an external address": (b'<!DOCTYPE a SYSTEM "http://192.0.2.1/x.dtd"><a/>', "doctype"),
    "a parameter entity": (b'<!DOCTYPE a [<!ENTITY % p SYSTEM "http://192.0.2.1/p">%p;]><a/>', "doctype"),
    "an entity nobody declared": (b"<a>&x;</a>", "bad_xml"),
    "UTF-16": ('<?xml version="1.0" encoding="UTF-16"?><a/>'.encode("utf-16"), "bad_encoding"),
    "UTF-16 without its mark": ("<a/>".encode("utf-16-le"), "bad_encoding"),
    "UTF-7, in which a document type hides": (b'<?xml version="1.0" encoding="UTF-7"?>+ADw-!DOCTYPE a+AD4-', "bad_encoding"),
    "a declaration that hides its encoding": (b"<?xml version='1.0'" + b" " * 300 + b"encoding='UTF-7'?><a/>", "bad_xml"),
    "bytes that are not its encoding": (b'<?xml version="1.0" encoding="UTF-8"?><a>\xe4</a>', "bad_xml"),
    "cut": (b"<a><b>1</b>", "bad_xml"),
    "a comment without end": (b"<!-- x <a/>", "bad_xml"),
    "two roots": (b"<a/><a/>", "bad_xml"),
    "gzip": (b"\x1f\x8b\x08\x00", "not_xml"),
    "deeper than a delivery": (b"<a>" * 65 + b"</a>" * 65, "over_limit"),
    "deeper than a parser": (b"<a>" * 100_000 + b"</a>" * 100_000, "bad_xml"),
    "too many elements": (b"<a>" + b"<b/>" * 6_000_001 + b"</a>", "over_limit"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_it_is_refused(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(*_: Any, **__: Any) -> Any:
        raise AssertionError("opened a connection")

    monkeypatch.setattr(socket.socket, "connect", closed)
    body, reason = BAD[what]
    started = time.monotonic()
    with pytest.raises(Refused) as e:
        xml.parse(body)
    assert e.value.reason == reason
    assert "root:" not in str(e.value.value)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("body", [b"\xef\xbb\xbf<a>1</a>", b"<?xml version='1.0' encoding='iso-8859-1'?><a>1</a>", b"\n<!-- c --><a>1</a>"])
def test_what_senders_put_in_front_is_no_obstacle(body: bytes) -> None:
    assert xml.parse(body).text == "1"


def test_the_deepest_document_that_is_allowed_is_read() -> None:
    assert xml.parse(b"<a>" * 64 + b"</a>" * 64) is not None


def test_names_are_told_without_their_namespaces() -> None:
    root = xml.parse(b'<p:a xmlns:p="urn:p" xmlns="urn:q"><p:b/><b>2</b><c><p:b>3</p:b></c></p:a>')
    assert xml.name(root) == "a"
    assert [e.text for e in xml.children(root, "b")] == [None, "2"]
    assert [e.text for e in xml.descendants(root, "b")] == [None, "2", "3"]
    assert xml.text(root, "c", "b") == "3"
    assert xml.text(root, "c", "x") is None
    assert list(xml.fields(root)) == ["b", "c"]


def test_the_standards_own_examples_are_read(shared: Path) -> None:
    for file in (shared / "feeds" / "generic").rglob("*.xml"):
        assert xml.parse(file.read_bytes()) is not None


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200) | st.from_regex(re.compile(rb"<[a!?]{1,3}[<>a-z!&;\[\]\"' -]{0,60}")))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    with contextlib.suppress(Refused):
        xml.parse(body)
