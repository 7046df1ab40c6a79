"""Two archivers at once in an object store: one writes, the other does not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest
from aiokafka import TopicPartition

from models.errors import ConfigError
from streams.archive import Archiver, _Heap
from streams.archive_files import Files, Source
from streams.archive_lease import Lease
from streams.archive_rows import Row
from streams.archive_store import Store

RAW = Source("toytown", "raw", "raw.toytown.hfp", "CC0-1.0", ("Somebody",), "hfp", True)


def test_a_second_archiver_is_refused_and_comes_in_when_the_first_has_gone(s3: Callable[[], str]) -> None:
    where = s3()

    async def both() -> None:
        async with Lease(Store(where), "toytown", lease_s=3).held():
            with pytest.raises(ConfigError, match="no other archiver of toytown"):
                async with Lease(Store(where), "toytown", lease_s=3).held():
                    pytest.fail("two at once")
            async with Lease(Store(where), "elsewhere", lease_s=3).held():
                pass
        async with Lease(Store(where), "toytown", lease_s=3).held():
            pass

    asyncio.run(both())


def test_of_two_that_claim_before_either_lists_none_goes_on(s3: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = (Lease(store, "toytown") for store in [Store(s3())] * 2)
    listed, met = one._claims, []

    def late() -> dict[str, object]:
        met.append(other.claim())
        return listed()

    monkeypatch.setattr(one, "_claims", late)
    one_sees = one.claim()
    assert list(met[0]) or list(one_sees), "at least one steps back"


def test_a_dead_claim_is_taken_over_and_its_archiver_writes_nothing_more(s3: Callable[[], str]) -> None:
    store, now_s = Store(s3()), [0.0]
    dead, heir = Lease(store, "toytown", lease_s=1, clock_s=lambda: now_s[0]), Lease(store, "toytown", lease_s=1)
    assert dead.claim() == {}
    assert list(heir.claim()) == [dead.name], "it may live"
    time.sleep(2.1)  # the store's times have whole seconds
    assert heir.claim() == {}
    with pytest.raises(TimeoutError):
        dead.renew()

    archiver = Archiver({RAW.topic: RAW}, store, "nowhere:1")
    archiver.leases.append(dead)
    tp = TopicPartition(RAW.topic, 0)
    archiver.heaps[tp] = _Heap(Files.open(store, RAW, 0), [Row(0, 1_773_100_800_000, b"k", b"v", None)])
    with pytest.raises(TimeoutError):
        asyncio.run(archiver._flush(tp))
    assert store.files(RAW.product_folder) == []


def test_time_that_passed_without_renewal_is_enough(s3: Callable[[], str]) -> None:
    now_s = [0.0]
    lease = Lease(Store(s3()), "toytown", lease_s=30, clock_s=lambda: now_s[0])
    lease.claim()
    now_s[0] = 20.0
    lease.renew()
    now_s[0] = 43.0
    lease.check()
    now_s[0] = 45.0
    with pytest.raises(TimeoutError, match="not renewed"):
        lease.check()
