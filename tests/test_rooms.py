"""What holds for the whole tree: whose names the rooms are, what no module does, what no committed file says."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("models", "geo", "connectors", "streams", "serve", "deploy", "demo", "commands")
LONGEST = 500
#: Modules that may be longer, each with the reason. Empty is the aim.
MAY_BE_LONG: dict[str, str] = {}
#: Names of calls that run or build code or objects from text.
DANGEROUS_CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "yaml.load", "yaml.unsafe_load", "yaml.full_load"}
DANGEROUS_IMPORTS = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
#: Folders of one machine: its users' homes and usual places of checkouts.
MACHINE_PATH = re.compile(r"(?<![\w.~$}/-])/(?:home|Users|root|work|workspace)/[\w.-]")
INDEX_OPTION = re.compile(r"--(?:extra-)?index-url|--find-links|--trusted-host|--registry|<repositor(?:y|ies)>|file://| @ https?:")
PIN = re.compile(r"[a-z0-9][a-z0-9.-]*==[\w.]+( ; .+)?")


def modules() -> list[Path]:
    return [ROOT / "tilannekuva.py", *(path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py")))]


def parsed() -> Iterator[tuple[str, ast.AST]]:
    for path in modules():
        if path.is_file():
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                yield f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}", node


def committed() -> list[Path]:
    """Committed text files; skips where there is no git, as in an unpacked archive."""
    try:
        out = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"not a git checkout: {error}")
    paths = [ROOT / name for name in out.decode().split("\0") if name]
    return [path for path in paths if path.is_file() and b"\0" not in path.read_bytes()[:4096]]


def test_no_other_distribution_owns_the_name_of_a_room() -> None:
    owners = packages_distributions()
    assert {room: owners[room] for room in (*ROOMS, "tilannekuva") if set(owners.get(room, ())) - {"tilannekuva"}} == {}


def test_rooms_are_imported_from_this_checkout() -> None:
    import models

    assert {Path(place).resolve() for place in models.__path__} == {ROOT / "models"}


def test_no_package_file_under_tests_hides_a_room() -> None:
    assert [str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("__init__.py")] == []


def test_no_room_runs_text_as_code_or_loads_objects_from_bytes() -> None:
    found = []
    for where, node in parsed():
        if isinstance(node, ast.Import):
            names = {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = {(node.module or "").split(".")[0]}
        else:
            names = set()
        found += [f"{where} imports {name}" for name in sorted(names & DANGEROUS_IMPORTS)]
        if isinstance(node, ast.Call):
            if (called := ast.unparse(node.func)) in DANGEROUS_CALLS:
                found.append(f"{where} calls {called}")
            if any(keyword.arg == "shell" and ast.unparse(keyword.value) != "False" for keyword in node.keywords):
                found.append(f"{where} runs a shell")
            if any(keyword.arg == "allow_pickle" and ast.unparse(keyword.value) != "False" for keyword in node.keywords):
                found.append(f"{where} allows pickle")
    assert found == []


def test_no_module_is_longer_than_one_subject_needs() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in modules() if path.is_file()}
    assert {name: length for name, length in lengths.items() if length > LONGEST and name not in MAY_BE_LONG} == {}
    assert {name for name in MAY_BE_LONG if lengths.get(name, 0) <= LONGEST} == set()


def test_no_committed_file_names_a_folder_of_one_machine() -> None:
    found = []
    for path in committed():
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            if match := MACHINE_PATH.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {match[0]}")
    assert found == []


def test_no_build_file_names_where_packages_come_from() -> None:
    names = ("pyproject.toml", "constraints.txt", "Makefile", ".ci/run", "deploy/kafka/pom.xml")
    assert {name: found for name in names if (found := INDEX_OPTION.findall((ROOT / name).read_text(encoding="utf-8")))} == {}


def test_every_line_of_the_constraints_is_one_pin() -> None:
    assert [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not PIN.fullmatch(line)] == []
