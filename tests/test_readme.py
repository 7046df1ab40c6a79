"""What the README shows is true: its commands parse, its example runs, its links lead somewhere, its table of topics is the table of topics."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from models.records import VehiclePosition, encode
from models.topics import PRODUCTS, open_topic
from tests.demo.conformance import check_kcat, kcat_line, run
from tilannekuva import cli

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)


def shown_commands() -> list[str]:
    lines = [line.split("#")[0].strip() for kind, text in BLOCKS if kind == "sh" for line in text.splitlines()]
    return [line for line in lines if line]


@pytest.mark.parametrize("line", [c for c in shown_commands() if "tilannekuva " in c])
def test_a_command_that_the_readme_shows_parses(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = shlex.split(line)[1:]
    monkeypatch.chdir(tmp_path)
    for word in words:
        if word.endswith((".pbf", ".zip", ".csv")):
            Path(word).write_bytes(b"")
    command: click.Command = cli
    context: click.Context | None = None
    while isinstance(command, click.Group):
        context = command.make_context(command.name or "tilannekuva", words, parent=context)
        name, command, words = command.resolve_command(context, [*context._protected_args, *context.args])
        assert name is not None
        assert command is not None
    command.make_context(command.name, words, parent=context)


@pytest.mark.parametrize("line", [c for c in shown_commands() if c.startswith("make ")])
def test_a_make_target_that_the_readme_shows_exists(line: str) -> None:
    done = subprocess.run([*shlex.split(line), "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_link_leads_to_a_file() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_topic_in_the_table_exists_with_that_key() -> None:
    rows = re.findall(r"^\| `(mobility\.helsinki\.[\w.-]+)` \|.*\| `([\w:]+)` \|$", README, re.MULTILINE)
    keys = {open_topic("helsinki", p.name): p.key for p in PRODUCTS.values()}
    assert len(rows) >= 5
    assert {topic: keys.get(topic) for topic, _ in rows} == dict(rows)


def test_the_example_is_the_file_that_it_names() -> None:
    (example,) = [text for kind, text in BLOCKS if kind == "python"]
    assert example == (ROOT / "docs/examples/first_record.py").read_text("utf-8")


async def test_the_example_prints_a_first_record(kafka: str) -> None:
    topic = open_topic("helsinki", "vehicle-position")
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        if topic not in await admin.list_topics():
            await admin.create_topics([NewTopic(topic, 1, 1)])
    finally:
        await admin.close()
    time = "2026-03-10T05:30:00.000Z"
    record = VehiclePosition(vehicle_id="0018/00423", event_time=time, ingest_time=time, feed="hfp", route_id="1064", delay_s=42)
    async with AIOKafkaProducer(bootstrap_servers=kafka) as producer:
        await producer.send_and_wait(topic, encode(record), key=b"0018/00423")
    example = await asyncio.create_subprocess_exec(sys.executable, "docs/examples/first_record.py", kafka, cwd=ROOT, stdout=subprocess.PIPE)
    out, _ = await asyncio.wait_for(example.communicate(), 60)
    assert example.returncode == 0
    assert out.decode().split()
    assert json.loads(encode(record))["vehicle_id"] == "0018/00423"
    if shutil.which("kcat") is None:
        pytest.skip("the Python consumer runs; kcat is not installed (Debian: apt-get install kcat)")
    check_kcat(await run(*kcat_line(kafka)))
