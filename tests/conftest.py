"""What tests may ask for: the real broker, the recordings beside the repo, a browser. Each is given, or skipped with its reason."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.kafka.broker import KafkaBroker, why_not
from deploy.kafka.install import cache_dir
from tests.standards import Standards

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"
NO_SHARED = "../shared is absent: recorded samples are not part of the repo"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
NO_BROWSER = f"no headless Chromium: none of {', '.join(BROWSERS)} is on PATH (Debian: apt-get install chromium)"


def in_ci() -> bool:
    """CI must run what needs the real broker, so there a missing one is a failure."""
    return os.environ.get("CI", "").lower() in {"1", "true", "yes"}


def find_chromium() -> str | None:
    """Path of the first Chromium there is."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that asks for a fixture carries its mark, and a mark skips with its reason even where no fixture is asked for."""
    for item in items:
        asks = set(getattr(item, "fixturenames", ()))
        for fixture, mark in (("kafka", "kafka"), ("shared", "shared"), ("standards", "shared"), ("chromium", "browser")):
            if fixture in asks:
                item.add_marker(mark)
        marks = {mark.name for mark in item.iter_markers()}
        if "kafka" in marks and not in_ci() and (reason := why_not()) is not None:
            item.add_marker(pytest.mark.skip(reason=reason))
        if "shared" in marks and not SHARED.is_dir():
            item.add_marker(pytest.mark.skip(reason=NO_SHARED))
        if "browser" in marks and find_chromium() is None:
            item.add_marker(pytest.mark.skip(reason=NO_BROWSER))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of recordings beside the repo."""
    if not SHARED.is_dir():
        pytest.skip(NO_SHARED)
    return SHARED


@pytest.fixture(scope="session")
def standards(shared: Path) -> Standards:
    """The official validators beside the repo."""
    pytest.importorskip("yaml", reason="the validators beside the repo read YAML")
    return Standards(shared)


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of a Chromium to run headless."""
    path = find_chromium()
    if path is None:
        pytest.skip(NO_BROWSER)
    return path


@pytest.fixture(scope="session")
def extract() -> Path:
    """OpenStreetMap's streets of central Helsinki."""
    file = cache_dir() / "Helsinki.osm.pbf"
    if not file.is_file():
        pytest.skip("no OpenStreetMap extract of central Helsinki: make extract")
    return file


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Bootstrap address of one real Apache Kafka for the whole session: use topics and groups with names of your own."""
    reason = why_not()
    if reason is not None:
        if in_ci():
            pytest.fail(f"CI must run the tests against Apache Kafka. {reason}")
        pytest.skip(reason)
    with KafkaBroker(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker.address


@pytest.fixture(scope="session")
def s3() -> Iterator[Callable[[], str]]:
    """Addresses of new buckets of an object store on loopback that speaks S3."""
    pytest.importorskip("moto", reason="the extra `test` brings an S3 server: moto")
    from moto.server import ThreadedMotoServer
    from pyarrow import fs

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()

    def bucket() -> str:
        name = f"kept-{uuid.uuid4().hex[:8]}"
        query = f"region=us-east-1&scheme=http&endpoint_override={host}:{port}"
        fs.FileSystem.from_uri(f"s3://{name}?{query}&allow_bucket_creation=true")[0].create_dir(name)
        return f"s3://{name}/archive?{query}"

    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_EC2_METADATA_DISABLED": "true"}.items():
            patch.setenv(name, value)
        yield bucket
    server.stop()
