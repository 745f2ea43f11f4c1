"""The audit of what is installed: what counts as permissive, and what an answer, or none, comes to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from stages import audit
from stages.app import app


@pytest.mark.parametrize(
    ("words", "permissive"),
    [
        ("MIT", True),
        ("Apache License, Version 2.0", True),
        ("BSD-3-Clause AND 0BSD AND MIT AND Zlib AND CC0-1.0", True),
        ("Apache-2.0 OR GPL-2.0-or-later", True),
        ("MPL-2.0 AND MIT", False),
        ("EPL-2.0 OR GPL-2.0-or-later", False),
        ("GPLv2 | EPLv1", False),
        ("LicenseRef-NVIDIA-Proprietary", False),
        ("", False),
    ],
)
def test_a_licence_is_permissive_if_one_choice_is(words: str, permissive: bool) -> None:
    assert audit.Licence("x", words).permissive == permissive


def test_every_installed_package_is_listed() -> None:
    found = {one.name.lower(): one for one in audit.licences()}
    assert found["numpy"].permissive
    assert found["torch"].permissive
    assert not found["certifi"].permissive


HOLE = {"name": "a", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]}
SAFE = {"name": "b", "version": "1", "vulns": []}
UNKNOWN = {"name": "c", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("packages", "stderr", "code", "said"),
    [
        ([SAFE], "", 0, "known holes: 0\n"),
        ([HOLE, SAFE], "", 1, "known holes: 1\n  a 1: CVE-1, mended in 2\n"),
        ([SAFE, UNKNOWN], "", 0, "known holes: nothing is known of c\nknown holes: 0\n"),
        ([UNKNOWN], "", 0, "known holes: the database knows none of the packages"),
        (None, "error: Failed to fetch: connection refused", 0, "could not be reached (error:"),
        (None, "error: requirements.txt: a hash is missing", 2, "pip-audit: error: requirements"),
    ],
)
def test_an_answer_or_none_of_the_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packages, stderr: str, code: int, said: str
) -> None:
    answer = "" if packages is None else json.dumps({"dependencies": packages})
    uv = tmp_path / "uv"
    uv.write_text(f"#!/bin/sh\necho '{stderr}' >&2\necho '{answer}'\n")
    uv.chmod(0o755)
    monkeypatch.setattr(audit.shutil, "which", lambda *_, **__: str(uv))
    done = CliRunner().invoke(app, ["audit"])
    if code == 2:  # a mistake, which `stages.app` prints
        assert said in str(done.exception)
    else:
        assert done.exit_code == code
        assert said in done.output
