"""What deploy/ has for machines, containers and clouds, as their own tools read it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from functools import cache
from pathlib import Path
from typing import Any

import hcl2
import pytest
import yaml

from granary.warehouse.project import PROJECT
from tests.python.support.business import REPOSITORY

DEPLOY = REPOSITORY / "granary" / "scaffold" / "template" / "deploy"
TERRAFORM = DEPLOY / "terraform"
PROVIDERS = [
    Path(os.environ.get("TF_PLUGIN_DIR", "/nowhere")),
    Path("/opt/tf-plugins"),
    Path("/usr/local/share/terraform/plugins"),
]
"""Where a machine without a registry may have Terraform's providers."""
EXPOSURE = {"granary-warehouse@": 1.6, "granary@": 1.8}
"""How exposed systemd may find a service: 0 is not at all, 10 is as a plain service of root."""
SERVICES = {"postgres", "pages", "prepare", "code", "webserver", "daemon", "alerts", "metrics", "dashboard"}


def tool(name: str) -> str:
    """Return a linter of this environment."""
    return str(Path(sysconfig.get_path("scripts")) / name)


def of_system(name: str) -> str:
    """Return a program of the machine, or skip the test."""
    return shutil.which(name) or pytest.skip(f"{name} is not on this machine")


def test_a_clone_has_what_a_project_has() -> None:
    assert (REPOSITORY / "deploy").resolve() == DEPLOY
    template = DEPLOY.parent
    assert (REPOSITORY / ".dockerignore").read_text() == (template / "dot-dockerignore").read_text()


def test_the_scripts_pass_shellcheck() -> None:
    scripts = sorted(str(path) for path in DEPLOY.glob("*.sh"))
    assert len(scripts) >= 5
    command = [tool("shellcheck"), "--external-sources", "--source-path=SCRIPTDIR", *scripts]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    for path in scripts:
        is_read = Path(path).name == "environment.sh"
        assert is_read or "\nset -euo pipefail\n" in Path(path).read_text()
        assert os.access(path, os.X_OK) != is_read


@pytest.mark.skipif(sys.platform != "linux", reason="hadolint's package exists for Linux only")
def test_the_containerfile_passes_hadolint_and_runs_as_nobody_special() -> None:
    done = subprocess.run([tool("hadolint"), DEPLOY / "Containerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    words = (DEPLOY / "Containerfile").read_text()
    assert words.count("\nFROM ") == 2
    assert re.search(r"(?m)^USER 10001:10001$", words)
    assert "HEALTHCHECK" in words
    (base,) = re.findall(r"(?m)^ARG BASE=(\S+)$", words)
    assert re.fullmatch(r"python:3\.1[0-3]\.\d+-slim-\w+", base), "pinned to a patch release"


@cache
def compose() -> dict[str, Any]:
    """Return the compose file as it is read."""
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return found


def test_compose_has_every_process_within_limits_and_asks_it_how_it_is() -> None:
    assert set(compose()["services"]) == SERVICES
    for name, service in compose()["services"].items():
        limits = service["deploy"]["resources"]["limits"]
        assert {"cpus", "memory", "pids"} <= set(limits), name
        assert "healthcheck" in service, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not re.fullmatch(r"[^:]+(:latest)?", service["image"].removeprefix("localhost/granary:")) or (
            service["image"].startswith("localhost/")
        ), f"{name} is not pinned"


def test_compose_takes_secrets_from_files_and_publishes_only_what_asks_for_a_login() -> None:
    published = {name: one["ports"] for name, one in compose()["services"].items() if "ports" in one}
    assert published == {"pages": ["127.0.0.1:8443:8443"]}
    assert all(set(one) == {"file"} for one in compose()["secrets"].values())
    for service in compose()["services"].values():
        shown = {key for key in service.get("environment", {}) if re.search(r"PASSWORD|SECRET|TOKEN|KEY", key)}
        assert all(key.endswith("_FILE") for key in shown)
    assert "auth_basic_user_file /run/secrets/users;" in (DEPLOY / "pages.conf").read_text()


def test_the_services_of_compose_are_those_that_the_command_knows() -> None:
    from granary.supervisor.services import services  # noqa: PLC0415
    from granary.warehouse.settings import Settings  # noqa: PLC0415

    known = {one.name for one in services(Settings(Path("/srv/home"), external=True, host="postgres"), 3000, 9189)}
    asked = {
        service["command"][2]
        for service in compose()["services"].values()
        if service.get("command", [])[:2] == ["serve", "--only"]
    }
    assert asked == known


def test_an_image_is_given_its_secrets_by_files(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("of the till\n")
    (tmp_path / "granary").write_text('#!/bin/sh\necho "$1: $TILL_PASSWORD"\n')
    (tmp_path / "granary").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "TILL_PASSWORD_FILE": str(tmp_path / "secret")}
    command = [str(DEPLOY / "entrypoint.sh"), "up"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("up: of the till\n", "")


@pytest.fixture
def units(tmp_path: Path) -> list[str]:
    """Return the units with a program that is there in place of ours, which is not."""
    for path in DEPLOY.glob("systemd/*.service"):
        text = re.sub(r"(?m)^ExecStart=\S+", "ExecStart=/bin/true", path.read_text())
        (tmp_path / path.name).write_text(text)
    return sorted(str(path) for path in tmp_path.iterdir())


def test_systemd_finds_no_fault_in_the_units(units: list[str]) -> None:
    instances = [one.replace("@.", "@prod.") for one in units]
    done = subprocess.run(
        [of_system("systemd-analyze"), "verify", *instances], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_systemd_finds_the_units_hardened(units: list[str]) -> None:
    for unit in units:
        command = [of_system("systemd-analyze"), "security", "--offline=true", unit]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        said = re.search(r"Overall exposure level for .*: ([\d.]+)", done.stdout)
        assert said, done.stderr
        assert float(said[1]) <= EXPOSURE[Path(unit).name.removesuffix(".service")], done.stdout


def test_units_run_what_the_command_has() -> None:
    text = "".join(path.read_text() for path in DEPLOY.glob("systemd/*.service"))
    started = re.findall(r"(?m)^ExecStart=/srv/granary/%i/current/\.venv/bin/(.+)$", text)
    assert sorted(started) == [
        "granary serve --no-warehouse --port $GRANARY_PORT",
        "python -m granary.supervisor.warehouse",
    ]


@cache
def blocks(kind: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Return the resources (or data) of the Terraform configuration: type, name, arguments."""
    found = []
    for path in sorted(TERRAFORM.glob("*.tf")):
        for block in hcl2.loads(path.read_text()).get(kind, []):
            for type_, named in block.items():
                found += [(type_.strip('"'), name.strip('"'), body) for name, body in named.items()]
    return found


def test_terraform_keeps_things_private_encrypted_and_recoverable() -> None:
    resources = blocks("resource")
    types = {type_ for type_, *_ in resources}
    assert {"aws_db_instance", "aws_s3_bucket", "aws_iam_role", "aws_secretsmanager_secret", "aws_sns_topic"} <= types
    ((_, _, server),) = [one for one in resources if one[0] == "aws_db_instance"]
    assert (server["storage_encrypted"], server["publicly_accessible"]) == (True, False)
    assert server["manage_master_user_password"] is True
    assert "password" not in server
    buckets = "aws_s3_bucket_"
    assert {f"{buckets}{what}" for what in ("public_access_block", "versioning", "policy")} <= types
    assert f"{buckets}server_side_encryption_configuration" in types
    text = "".join(path.read_text() for path in TERRAFORM.glob("*.tf"))
    assert not re.search(r'(?i)(password|secret|token)\s*=\s*"', text), "no secret is written down"


def test_terraform_is_formatted_and_valid(tmp_path: Path) -> None:
    terraform = of_system("terraform")
    plugins = next((folder for folder in PROVIDERS if folder.is_dir()), None) or pytest.skip(
        "Terraform's provider for AWS is not on this machine, and no registry is asked"
    )
    shutil.copytree(TERRAFORM, tmp_path / "terraform")
    (tmp_path / "cli").write_text(
        f'provider_installation {{\n  filesystem_mirror {{\n    path = "{plugins}"\n  }}\n}}\n'
    )
    environment = os.environ | {"TF_CLI_CONFIG_FILE": str(tmp_path / "cli"), "CHECKPOINT_DISABLE": "1"}
    for words in (("fmt", "-check", "-diff"), ("init", "-backend=false", "-input=false"), ("validate",)):
        done = subprocess.run(
            [terraform, *words],
            cwd=tmp_path / "terraform",
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_each_environment_has_a_home_and_a_target_of_its_own() -> None:
    profiles = yaml.safe_load((REPOSITORY / "profiles.yml").read_text())["granary"]["outputs"]
    found = {}
    for path in DEPLOY.glob("environments/*.env"):
        lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
        found[path.stem] = dict(line.split("=", 1) for line in lines)
    assert set(found) == {"dev", "ci", "prod"}
    assert {name: one["DBT_TARGET"] for name, one in found.items()} == {"dev": "dev", "ci": "ci", "prod": "prod"}
    assert len({one["GRANARY_ROOT"] for one in found.values()}) == 3
    assert len({one["GRANARY_PORT"] for one in found.values()}) == 3
    assert len({profiles[one["DBT_TARGET"]]["schema"] for one in found.values()}) == 3
    assert (PROJECT / "profiles.yml").exists()
