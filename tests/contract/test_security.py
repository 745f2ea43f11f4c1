"""What SECURITY.md promises of the code: nothing in it executes, unpacks or fetches what it should not."""

from __future__ import annotations

import ast
import configparser
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from jinja2 import DictLoader

from pipeline_lib.report.page import environment
from tests import toy_training

ROOT = Path(__file__).parents[2]
SOURCES = sorted(p for top in ("pipeline_lib", "stages") for p in (ROOT / top).rglob("*.py"))
TEMPLATES = sorted((ROOT / "pipeline_lib").rglob("*.j2"))

HTTPS = "pipeline_lib/datasets/files/https.py"
# Modules that execute, connect or start something: who may import them, and why.
MAY_IMPORT = {
    "pickle": {"pipeline_lib/datasets/files/cifar.py"},  # an unpickler that builds records only
    **dict.fromkeys(("urllib.request", "urllib.error", "http", "ssl"), frozenset({HTTPS})),
    # DVC, Git, cells and the audit of what is installed: lists of arguments, without a shell
    "subprocess": {
        "pipeline_lib/cells/children.py",
        "pipeline_lib/doctor/commands.py",
        *(f"pipeline_lib/sweep/{name}.py" for name in ("job", "project", "engines/slurm")),
        *(f"stages/{name}.py" for name in ("audit", "compare", "dvc_command", "share", "sweep")),
    },
    "ctypes": {
        "pipeline_lib/parent.py",  # prctl: to end with DVC
        "pipeline_lib/doctor/environment.py",  # asks the driver of the GPU
    },
    "importlib": {
        "pipeline_lib/datasets/load.py",
        "pipeline_lib/protocols/split.py",
        "pipeline_lib/training/prepare.py",
    },
    "socket": {
        "pipeline_lib/sweep/engines/ray.py",  # whether the cluster that the user names answers
        "pipeline_lib/training/distributed.py",  # which network leads to the first machine of a training
        "pipeline_lib/training/launch.py",  # waits until that one is there
    },
    **dict.fromkeys(("ftplib", "smtplib", "requests", "httpx", "urllib3", "fsspec"), ()),
    # submitit pickles a job for a process of the same user's; that its code goes along is said to this one
    "cloudpickle": {"pipeline_lib/sweep/engines/submitted.py"},
    **dict.fromkeys(("marshal", "shelve", "dill", "joblib", "runpy", "code", "yaml"), ()),
}
HARMLESS = {"importlib.metadata", "importlib.util"}
BANNED = {
    *("eval", "exec", "compile", "__import__", "input", "breakpoint"),
    *("os.system", "os.popen", "os.execv", "os.spawnv", "os.startfile", "tempfile.mktemp"),
    *("torch.load", "torch.save", "torch.jit.load", "torch.hub.load", "torch.package"),
    *("np.load", "numpy.load", "np.save", "pd.read_pickle"),
}
METHODS = {"extractall", "extract", "read_pickle", "to_pickle", "load_state_dict_from_url"}
KEYWORDS = {("shell", True), ("allow_pickle", True), ("weights_only", False), ("verify", False)}
BY_NAME = re.compile(r"pipeline_lib\.(datasets|protocols|methods)\.")


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def faults(tree: ast.AST) -> Iterator[str]:
    """Calls that have no place here."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        given = {(k.arg, k.value.value) for k in node.keywords if isinstance(k.value, ast.Constant)}
        if called in BANNED or (called.rpartition(".")[2] in METHODS and "." in called):
            yield f"line {node.lineno}: {called}"
        if given & KEYWORDS:
            yield f"line {node.lineno}: {called} with {given & KEYWORDS}"
        if called == "YAML" and not given <= {("typ", "safe"), ("pure", True)}:
            yield f"line {node.lineno}: {ast.unparse(node)}"
        if called == "importlib.import_module":
            first = node.args[0]
            start = first.values[0] if isinstance(first, ast.JoinedStr) else first
            if not (isinstance(start, ast.Constant) and BY_NAME.match(start.value)):
                yield f"line {node.lineno}: {ast.unparse(node)}"


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_code_executes_unpickles_unpacks_and_fetches_nothing_but_what_is_declared(
    path: Path,
) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert list(faults(tree)) == []
    for name in set(imported(tree)):
        parts = name.split(".")
        for module in {".".join(parts[: n + 1]) for n in range(len(parts))} & MAY_IMPORT.keys():
            if not any(name == h or name.startswith(f"{h}.") for h in HARMLESS):
                assert named(path) in MAY_IMPORT[module], f"imports {name}"


def test_this_test_finds_what_it_looks_for() -> None:
    code = """
import importlib, subprocess
torch.load(path)
archive.extractall(folder)
subprocess.run(line, shell=True)
YAML(typ="unsafe").load(text)
importlib.import_module(name)
importlib.import_module(f"{name}.pipeline_lib.methods.")
np.load(path, allow_pickle=True)
"""
    assert len(list(faults(ast.parse(code)))) == 8
    assert {"importlib", "subprocess"} <= set(imported(ast.parse(code)))


@pytest.mark.parametrize("path", TEMPLATES, ids=named)
def test_a_template_trusts_its_own_words_only(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert "autoescape" not in text
    for before in re.findall(r"(.*?)\|\s*safe\b", text):
        assert re.search(r"""'[^']*'\s*$""", before), f"{before} | safe"


def test_pages_escape_whatever_they_are_given() -> None:
    made = environment(
        DictLoader(
            {
                "page": '<p title="{{ x }}">{{ x }}{{ x | class_name(48) }}{{ ([x] | class_names(9))[x] }}</p>'
            }
        )
    )
    html = made.get_template("page").render(x="""<script>"'&</script>""")
    assert "<script" not in html
    assert html.count("&lt;script&gt;") == 4
    assert html.count('"') == 4


def test_training_asks_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        pytest.fail("a connection was asked for")

    for name in ("connect", "connect_ex", "bind", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse, raising=False)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.chdir(tmp_path)
    toy_training.write_inputs()
    files, _ = toy_training.outcome(toy_training.params("cr_dpll"))
    assert "models/predictor.safetensors" in files


def test_dvc_tells_nobody_that_it_is_used() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / ".dvc/config")
    told = [config.getboolean("core", name) for name in ("analytics", "check_update")]
    assert told == [False, False]
