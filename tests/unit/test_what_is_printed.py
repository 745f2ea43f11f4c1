"""What comes from strangers neither moves the terminal nor shows a secret."""

import sys
from io import StringIO

import pytest

from pipeline_lib.errors import UserError, harmless, in_one_line, without_secrets
from stages.cli import print_table, run, say

MOVING = "cat\x1b]0;gone\x07\x1b[31m\u202e"
PLAIN = "cat\ufffd]0;gone\ufffd\ufffd[31m\ufffd"


def test_mistakes_and_lines_hold_nothing_that_moves_it(capsys, monkeypatch) -> None:
    def stage() -> None:
        say(f"{MOVING}\nnext")
        raise UserError(MOVING)

    monkeypatch.setattr(sys, "argv", ["stage"])
    with pytest.raises(SystemExit) as ended:
        run(stage)
    assert ended.value.code == 1
    assert capsys.readouterr() == (f"{PLAIN}\nnext\n", f"{PLAIN}\n")


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")]
)
def test_a_lack_of_memory_is_one_line(error, capsys, monkeypatch) -> None:
    def stage() -> None:
        raise error

    monkeypatch.setattr(sys, "argv", ["stage"])
    with pytest.raises(SystemExit) as ended:
        run(stage)
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith("there is not enough memory; close other programs")


def test_a_table_holds_what_it_was_given_and_no_markup(capsys, monkeypatch) -> None:
    rows = [("name", "value"), ("x[/y] [link=http://evil]hi[/link]", f"a\tb\n{MOVING}")]
    print_table(rows)
    assert capsys.readouterr().out == f"name\tvalue\n{rows[1][0]}\ta b {PLAIN}\n"
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys, "stdout", Terminal())
    print_table(rows)
    shown = sys.stdout.getvalue()
    assert rows[1][0] in shown
    assert PLAIN in shown
    assert "\x1b]" not in shown


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_stay_lines() -> None:
    assert harmless("a\n  b\r\n") == "a\n  b\ufffd\n"
    for text in (
        "95\u202f%\u00a0猫\u3000犬",
        "\u0646\u0645\u06cc\u200c\u062e",
        "\N{WOMAN}\u200d\N{MICROSCOPE}",
    ):
        assert harmless(text) == text
    assert in_one_line(text) == text


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://me:secret@host/x", "https://host/x"),
        ("ssh://me@host/x and https://secret@host", "ssh://host/x and https://host"),
        ("https://host/x?sig=secret; asking", "https://host/x?...; asking"),
        ("/folder/a@b?c", "/folder/a@b?c"),
    ],
)
def test_addresses_are_shown_without_secrets(address: str, shown: str) -> None:
    assert without_secrets(address) == shown
