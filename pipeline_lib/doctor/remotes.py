"""The remotes of DVC: whether downloads are checked, and that no password is committed."""

from __future__ import annotations

from configparser import ConfigParser
from configparser import Error as ConfigError
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from pipeline_lib.doctor.commands import git_lines, ignored
from pipeline_lib.doctor.finding import Checked, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONFIG = ".dvc/config"
LOCAL = ".dvc/config.local"
SECRETS = {
    "access_key_id", "secret_access_key", "session_token", "password", "passphrase", "token",
    "connection_string", "sas_token", "account_key", "client_secret", "oss_key_id", "oss_key_secret",
    "custom_auth_header", "sse_customer_key", "gdrive_client_secret",
}  # fmt: skip
SIGNED = {
    "sig",
    "signature",
    "token",
    "x-amz-signature",
    "x-goog-signature",
}  # in the query of an address
NEVER_VERIFIED = "hdfs"  # DVC has no such setting there


def check(root: Path) -> Checked:
    """Find remotes whose downloads are trusted unseen, and secrets that Git would publish."""
    from dvc.config import Config

    remotes = Config(str(root / ".dvc")).get("remote", {})
    findings = [
        Finding(
            f"remote {name}",
            "what is fetched from it is not compared with its checksum",
            f"`dvc remote modify {name} verify true`",
        )
        for name, values in remotes.items()
        if not values.get("verify") and urlsplit(values["url"]).scheme != NEVER_VERIFIED
    ]
    findings += committed_secrets(root / CONFIG)
    local = root / LOCAL
    if git_lines(root, "ls-files", "--", LOCAL) or (local.exists() and not ignored(root, local)):
        what = "Git does not ignore it, and it is where passwords are kept"
        findings.append(
            Finding(LOCAL, what, "name /config.local in .dvc/.gitignore; `git rm --cached` it")
        )
    return Checked(", ".join(remotes) or "none", tuple(findings))


def _logs_in(url: str) -> bool:
    """Whether an address holds a password, token or signature."""
    parts = urlsplit(url)
    token = parts.username if parts.scheme in {"http", "https", "webdav", "webdavs"} else None
    signed = any(name.lower() in SIGNED for name, _ in parse_qsl(parts.query))
    return bool(parts.password or token or signed)


def committed_secrets(path: Path) -> Iterator[Finding]:
    """Settings of a committed file of DVC that belong into .dvc/config.local.

    Args:
        path: that file.
    """
    parser = ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(path.read_text(encoding="utf-8"))
    except (ConfigError, UnicodeDecodeError) as error:
        yield Finding(CONFIG, f"cannot be read ({error})".replace("\n", " "), "mend it")
        return
    for section in parser.sections():
        for key, value in parser[section].items():
            if key in SECRETS or (key == "url" and _logs_in(value)):
                yield Finding(
                    CONFIG,
                    f"{key} of {section.strip(chr(39))} would be committed",
                    "move it (`dvc remote modify --local`), and change it if it was pushed",
                )
