"""By which names two feeds speak of the same situation: its id with its version, and what it says, for feeds that give the same message ids of their own."""

from __future__ import annotations

import zlib

from models.records import Situation

#: A title shorter than this says too little to tell one situation from another, characters.
LEAST_TITLE = 12


def names(s: Situation) -> list[str]:
    """Each is enough. A newer version is another thing to tell, so the id goes with it; of an end, and where versions are not counted, the id alone.

    >>> names(Situation(situation_id="digitraffic/GUID1", kind="roadwork", event_time="", ingest_time="", feed="messages", version=3))
    ['situation:digitraffic/GUID1@3']
    """
    version = "" if s.version is None or s.ended else f"@{s.version}"
    said = _said(s)
    return [f"situation:{s.situation_id}{version}", *([f"said:{said:08x}"] if said is not None else [])]


def heard_names(s: Situation) -> list[str]:
    """The names under which a feed that tells of a situation is known to tell of it: also by the id alone."""
    return list(dict.fromkeys([f"situation:{s.situation_id}", *names(s)]))


def _said(s: Situation) -> int | None:
    """Number of what it says: title, lines and stops, and of what is no alert of lines its beginning; None where that is too little."""
    title = " ".join((s.title or {}).get("fi", next((s.title[k] for k in sorted(s.title)), "") if s.title else "").casefold().split())
    if len(title) < LEAST_TITLE or not (s.routes or s.stops or s.valid_from):
        return None
    parts = [title, *sorted(s.routes or ()), "", *sorted(s.stops or ()), "" if s.kind == "transit_alert" else s.valid_from or ""]
    return zlib.crc32("\n".join(parts).encode())
