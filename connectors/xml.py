"""XML from strangers: parsed with every door shut, and refused with its reason when it is not what a data feed sends.

No document type at all (so no entities, no bombs of them, no external files), no network, encodings in which ASCII is ASCII, limits on size,
elements and depth. Used by the families siri and datex2.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from lxml import etree

from connectors.reading import Refused

#: Larger documents do not fit a message of Kafka anyway.
MAX_BYTES = 64 * 1024 * 1024
#: Opening tags; a node takes some 150 bytes of memory.
MAX_ELEMENTS = 3_000_000
#: libxml2 itself stops at 256; the deepest real delivery here (DATEX II 3) has 17 levels.
MAX_DEPTH = 64
_ENCODINGS = frozenset({"utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1", "iso-8859-15", "latin1", "windows-1252", "cp1252"})
_BOMS = (b"\xfe\xff", b"\xff\xfe", b"\x00\x00\xfe\xff", b"\x00<", b"<\x00")
_DECLARATION = re.compile(rb"""<\?xml\s[^<>]{0,200}?\?>""")
_ENCODING = re.compile(rb"""encoding\s*=\s*["']([^"']*)["']""")
_TOO_DEEP = etree.XPath("boolean(" + "/*" * (MAX_DEPTH + 1) + ")")
_SKIPPED = re.compile(rb"\s+|<!--.*?-->|<\?.*?\?>", re.DOTALL)


def parse(body: bytes) -> etree._Element:
    """The root element.

    Raises:
        Refused: ``not_xml`` (HTML, JSON, nothing), ``doctype``, ``bad_encoding``, ``over_limit``, ``bad_xml`` (not well-formed: cut, broken).

    >>> parse(b"<a><b>1</b></a>").findtext("b")
    '1'
    """
    if len(body) > MAX_BYTES:
        raise Refused("over_limit", "body", len(body), f"at most {MAX_BYTES} bytes")
    _check_start(body)
    if body.count(b"<") > 2 * MAX_ELEMENTS:
        raise Refused("over_limit", "elements", body.count(b"<") // 2, f"at most {MAX_ELEMENTS} elements")
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, dtd_validation=False, huge_tree=False,
        remove_comments=True, remove_pis=True, collect_ids=False, recover=False,
    )  # fmt: skip
    try:
        root = etree.fromstring(body, parser)
    except (etree.XMLSyntaxError, ValueError) as e:
        raise Refused("bad_xml", "body", str(e), "a whole, well-formed XML document") from e
    if root.getroottree().docinfo.internalDTD is not None:
        raise Refused("doctype", "body", "a document type", "XML without <!DOCTYPE")
    if _TOO_DEEP(root):
        raise Refused("over_limit", "depth", f"more than {MAX_DEPTH}", f"at most {MAX_DEPTH} levels")
    return root


def _check_start(body: bytes) -> None:
    """Everything that can be told before a parser sees the document."""
    if not body.strip():
        raise Refused("not_xml", "body", "", "an XML document")
    if body.startswith(_BOMS):
        raise Refused("bad_encoding", "body", body[:4].hex(), "UTF-8, or another encoding in which ASCII is ASCII")
    at = 3 if body.startswith(b"\xef\xbb\xbf") else 0
    if body.startswith(b"<?xml", at) and body[at + 5 : at + 6].isspace():
        found = _DECLARATION.match(body, at)
        if found is None:
            raise Refused("bad_xml", "body", body[at : at + 80].decode("utf-8", "replace"), "a short XML declaration")
        named = _ENCODING.search(found[0])
        if named is not None and named[1].decode("latin-1").lower() not in _ENCODINGS:
            raise Refused("bad_encoding", "encoding", named[1].decode("latin-1"), "UTF-8, or another encoding in which ASCII is ASCII")
    while skipped := _SKIPPED.match(body, at):
        at = skipped.end()
    start = body[at : at + 16]
    if start[:9].upper() == b"<!DOCTYPE":
        html = start[9:].strip()[:4].lower() == b"html"
        raise Refused("not_xml" if html else "doctype", "body", body[at : at + 80].decode("utf-8", "replace"), "XML without <!DOCTYPE")
    if not start.startswith(b"<") or start[1:5].lower() == b"html":
        raise Refused("not_xml", "body", body[at : at + 80].decode("utf-8", "replace"), "an XML document")


@lru_cache(maxsize=1024)
def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def name(element: etree._Element) -> str:
    """An element's name without its namespace: senders differ in namespaces and prefixes, never in names."""
    return _local(element.tag) if isinstance(element.tag, str) else ""


def fields(element: etree._Element | None) -> dict[str, etree._Element]:
    """The first child of each name: much faster than asking for many of them one by one."""
    found: dict[str, etree._Element] = {}
    for c in element if element is not None else ():
        found.setdefault(name(c), c)
    return found


def child(element: etree._Element | None, *path: str) -> etree._Element | None:
    """The first descendant by names, one a level, whatever their namespaces."""
    for step in path:
        if element is None:
            return None
        element = next(element.iterchildren(f"{{*}}{step}"), None)
    return element


def children(element: etree._Element | None, *steps: str) -> Iterator[etree._Element]:
    """Children of some names."""
    return iter(()) if element is None else element.iterchildren(*(f"{{*}}{step}" for step in steps))


def descendants(element: etree._Element, *steps: str) -> Iterator[etree._Element]:
    """Elements of some names at any depth, the element itself among them."""
    found: Iterator[etree._Element] = element.iter(*(f"{{*}}{step}" for step in steps))
    return found


def text(element: etree._Element | None, *path: str) -> str | None:
    """Text of a descendant without surrounding space; None where it is missing or empty."""
    found = child(element, *path)
    return (found.text or "").strip() or None if found is not None else None


def raw(element: etree._Element) -> bytes:
    """One element as bytes, for the dead letter."""
    body: bytes = etree.tostring(element, with_tail=False)
    return body
