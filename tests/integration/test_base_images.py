"""build_base_images.sh builds from a digest where a registry answers, and says so where none does.

The engine is a stand-in that notes what it is asked for: what counts here is what it is asked.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
DIGEST = f"sha256:{'1' * 64}"
OTHERS = f"mirror.example/python@sha256:{'2' * 64}"
ENGINE = """#!/bin/sh
echo "$@" >>"$ASKED"
case "$1 $2" in
  "pull --quiet") [ -n "$DIGESTS" ] || exit 1 ;;
  "image inspect") case "$*" in *RepoDigests*) printf '%s\\n' $DIGESTS ;; *) echo 1000000 ;; esac ;;
esac
"""


def build(folder: Path, digests: str) -> tuple[str, str]:
    """What the script says, and how it has the image built, with an engine that knows digests."""
    engine, asked = folder / "docker", folder / "asked"
    engine.write_text(ENGINE)
    engine.chmod(0o755)
    environment = {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "ASKED": str(asked),
        "DIGESTS": digests,
    }
    ran = subprocess.run(
        [PROJECT / "build_base_images.sh"],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    (built,) = (line for line in asked.read_text().splitlines() if line.startswith("build "))
    return ran.stderr, built


def test_the_base_is_built_from_the_digest_that_a_registry_has(tmp_path: Path) -> None:
    said, built = build(tmp_path, f"{OTHERS} python@{DIGEST}")
    pinned = f"python:3.12-slim@{DIGEST}"
    assert f"from {pinned}\n" in said
    assert f"--build-arg BASE={pinned} " in built
    assert "--label org.opencontainers.image.base.name=python:3.12-slim " in built
    assert f"--label org.opencontainers.image.base.digest={DIGEST} " in built


@pytest.mark.parametrize("digests", ["", OTHERS], ids=["no registry", "another registry's digest"])
def test_without_a_digest_it_is_built_by_name_and_says_so(tmp_path: Path, digests: str) -> None:
    said, built = build(tmp_path, digests)
    assert "from python:3.12-slim as it is here, not pinned" in said
    assert "--build-arg BASE=python:3.12-slim " in built
    assert "--label org.opencontainers.image.base.digest= " in built


@pytest.mark.parametrize("name", ["python", "postgres", "rabbitmq", "fluentd", "nginx"])
def test_every_image_that_is_not_ours_has_a_name_to_be_found_by(name: str) -> None:
    command = f". docker/functions.sh && official_name {name}"
    found = subprocess.run(
        ["bash", "-c", command], cwd=PROJECT, check=True, capture_output=True, text=True
    )
    assert f"{name}:" in found.stdout


def test_a_dockerfile_names_its_base_once() -> None:
    """By the argument that the script gives, or as an image of ours."""
    for file in ("docker/base/Dockerfile", "docker/services/Dockerfile"):
        text = (PROJECT / file).read_text(encoding="utf-8")
        bases = {line.split()[1] for line in text.splitlines() if line.startswith("FROM ")}
        assert bases <= {"$BASE", "orderly-base:local"}
