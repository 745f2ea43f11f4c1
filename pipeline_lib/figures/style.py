"""How every figure looks: colours, type and sizes; and figures as bytes that never change.

Colours are those of Okabe and Ito (Color Universal Design, 2008), which colour-blind readers tell
apart; lines differ in their dashes too, for print. Only the fonts that come with matplotlib are used,
so that a figure does not depend on what a machine has installed.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from unicodedata import category, east_asian_width

import matplotlib as mpl
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from pipeline_lib.errors import is_shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any

    from matplotlib.axes import Axes

# Inches. At 100 % an SVG chart is 422 CSS pixels wide; a phone shows it at four fifths of that.
WIDTH = 4.4
HEIGHT = 3.1
PNG_DPI = 144
KINDS = ("one", "several", "all")  # candidates of an image
DASHES = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)), (0, (3, 1)), (0, (8, 2)))
# A name may hold anything: what is not printable would break the SVG or turn its text around.
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
BEFORE = 3  # letters before the first one that tells names apart
ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"
NARROW = "\N{NARROW NO-BREAK SPACE}"
# Of ticks: as few digits as tell them apart.
PERCENT = FuncFormatter(lambda share, _: f"{100 * share:.4g}{NARROW}%")
NUMBER = FuncFormatter(lambda value, _: f"{value:,.6g}")

logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)


@dataclass(frozen=True)
class Theme:
    """The colours of one theme.

    `series` are for lines, in order; `kinds` for labeled, partial and unlabeled images, as on the page;
    right and wrong are for verdicts.
    """

    name: str
    ink: str
    muted: str
    rule: str
    surface: str
    series: tuple[str, ...]
    kinds: tuple[str, str, str]
    right: str
    wrong: str


LIGHT = Theme(
    name="light",
    ink="#1d2125",
    muted="#59616a",
    rule="#e4e2dc",
    surface="#ffffff",
    series=("#0072b2", "#d55e00", "#009e73", "#b5508c", "#a87500", "#3a9bd4"),
    kinds=("#0072b2", "#7fb6d9", "#d3d1ca"),
    right="#00734f",
    wrong="#b34700",
)
DARK = Theme(
    name="dark",
    ink="#e9e7e2",
    muted="#a4abb3",
    rule="#343a41",
    surface="#1b1f23",
    series=("#56b4e9", "#f0894a", "#3fc79a", "#e29cc5", "#e6b800", "#a8d5f0"),
    kinds=("#56b4e9", "#2f6d92", "#4a5058"),
    right="#4fcfa3",
    wrong="#ff9d5c",
)
THEMES = (LIGHT, DARK)


@contextlib.contextmanager
def applied(theme: Theme) -> Iterator[None]:
    """The matplotlib settings of `theme`, for drawing and saving inside a `with` block: none of the user's own."""
    settings: dict[Any, Any] = {
        "axes.axisbelow": True,
        "axes.edgecolor": theme.rule,
        "axes.facecolor": theme.surface,
        "axes.grid": True,
        "axes.labelcolor": theme.muted,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "figure.facecolor": theme.surface,
        "font.family": ["DejaVu Sans"],
        "font.size": 10.5,
        "grid.color": theme.rule,
        "grid.linewidth": 0.8,
        "image.composite_image": False,
        "image.interpolation": "none",  # an SVG keeps the pixels as they are
        "legend.frameon": False,
        "lines.linewidth": 2.0,
        "lines.solid_capstyle": "round",
        "savefig.facecolor": theme.surface,
        "svg.fonttype": "none",  # text stays text: small files that can be searched and read aloud
        "svg.hashsalt": "figures",
        "text.color": theme.ink,
        "text.parse_math": False,  # a class may be called "$x$"
        "xtick.color": theme.muted,
        "ytick.color": theme.muted,
        "xtick.major.size": 0,
        "ytick.major.size": 0,
    }
    with _only_bundled_fonts(), mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(settings)
        yield


@contextlib.contextmanager
def _only_bundled_fonts() -> Iterator[None]:
    """Without the system's fonts: another version of the same font would shift the layout."""
    fonts, bundled = font_manager.fontManager, str(mpl.get_data_path())
    every = fonts.ttflist
    fonts.ttflist = [font for font in every if font.fname.startswith(bundled)]
    try:
        yield
    finally:
        fonts.ttflist = every


def new_figure(height: float = HEIGHT) -> tuple[Figure, Axes]:
    """A figure with one pair of axes, sized in inches, that belongs to no global state."""
    figure = plain_figure(WIDTH, height)
    figure.set_layout_engine("constrained")
    return figure, figure.subplots()


def plain_figure(width: float, height: float) -> Figure:
    """An empty figure, sized in inches, whose parts stay where they are put."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def as_svg(figure: Figure, theme: Theme) -> bytes:
    """The figure as SVG, the same bytes on every run and machine."""
    buffer = io.BytesIO()
    with _saving(figure, theme):
        # Not by `savefig`, which draws once more before, to lay it out.
        canvas = FigureCanvasSVG(figure)
        canvas.print_svg(buffer, metadata={"Date": None, "Creator": None})  # type: ignore[no-untyped-call]
    return buffer.getvalue().replace(b"'DejaVu Sans'", b"system-ui, 'DejaVu Sans'")


def as_png(figure: Figure, theme: Theme) -> bytes:
    """The figure as PNG, the same bytes on every run."""
    buffer = io.BytesIO()
    with _saving(figure, theme):
        figure.savefig(buffer, format="png", metadata={"Software": None}, dpi=PNG_DPI)
    return buffer.getvalue()


def lacking(names: Iterable[str]) -> list[str]:
    """The names with letters that the font of the figures lacks: boxes in a PNG, the right text in an SVG."""
    font = font_manager.get_font(str(Path(mpl.get_data_path(), "fonts/ttf/DejaVuSans.ttf")))
    return [name for name in names if not all(map(font.get_char_index, map(ord, printable(name))))]


@contextlib.contextmanager
def _saving(figure: Figure, theme: Theme) -> Iterator[None]:
    with applied(theme), warnings.catch_warnings():
        # Names in scripts that the bundled font lacks: boxes in the PNG, the right text in the SVG.
        warnings.filterwarnings(
            "ignore", message="Glyph .* missing from font", category=UserWarning
        )
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
        yield
    figure.set_layout_engine("none")  # what is laid out stays so: the next format is faster


def stroke(theme: Theme, number: int) -> tuple[str, Any]:
    """Colour and dash of line `number`: 36 that differ, the first ones in both."""
    colours = len(theme.series)
    return theme.series[number % colours], DASHES[(number + number // colours) % len(DASHES)]


def label(name: str, limit: int = 18) -> str:
    """A name as a figure can show it: one line of printable characters, at most `limit` letters wide."""
    return shortened(printable(name), limit)


def labels(names: Sequence[str], limit: int = 18) -> list[str]:
    """The `label` of each name, in which no two names look alike: see `told_apart`.

    Args:
        names: what stands side by side.
        limit: letters, at least 10.
    """
    shown = told_apart(names, limit)
    return [shown[name] for name in names]


def told_apart(names: Iterable[str], limit: int = 18) -> dict[str, str]:
    """The `label` of each name; of those that would look alike, its beginning and where they differ.

    Names that differ in several places may still look alike: all of these but the first are numbered.
    """
    whole = {name: printable(name) for name in names}
    shown = _where_they_differ({line: shortened(line, limit) for line in whole.values()}, limit)
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name, line in whole.items():
        text = shown[line]
        for number in itertools.count(2):
            if text not in taken:
                break
            end = f" \N{MIDDLE DOT}{number}"
            text = _beginning(shown[line], limit - width(end)).rstrip() + end
        taken.add(text)
        found[name] = text
    return found


def _where_they_differ(shown: dict[str, str], limit: int) -> dict[str, str]:
    """What is shown of each name, those that look alike from shortly before they differ: over and over."""
    groups: dict[str, list[str]] = {}
    for name, text in shown.items():
        groups.setdefault(text, []).append(name)
    found = dict(shown)
    for alike in groups.values():
        if len(alike) > 1:
            same = itertools.takewhile(lambda at: len(set(at)) == 1, zip(*alike, strict=False))
            start = max(len(list(same)) - BEFORE, 0)
            again = {name: _around(name, start, limit) for name in alike}
            differ = len(set(again.values())) > 1
            found |= _where_they_differ(again, limit) if differ else again
    return found


def _around(name: str, start: int, limit: int) -> str:
    """The beginning of a name, and as much as fits from letter `start` on."""
    head = _beginning(name, limit // 4) + ELLIPSIS
    room, rest = limit - width(head), name[start:]
    return head + (rest if width(rest) <= room else _beginning(rest, room - 1) + ELLIPSIS)


def in_lines(name: str, limit: int = 18) -> str:
    """A contender as a figure can show it: method and variant below each other, each cut to `limit` letters."""
    return "\n".join(label(part, limit) for part in name.split(" ", 1))


def printable(name: str) -> str:
    """One line of printable characters and joiners; the others (control, direction override) are replaced."""
    line = " ".join(name.split())
    return "".join(char if is_shown(char) else REPLACEMENT for char in line) or REPLACEMENT


def shortened(text: str, limit: int) -> str:
    """At most `limit` letters wide, an ellipsis for what was cut: from the middle, as names often begin alike.

    The end of a path, its file name, is kept too.
    """
    if width(text) <= limit:
        return text
    tail = (limit - 1) // 2
    end = _beginning(text[::-1], tail)[::-1]
    return _beginning(text, limit - 1 - tail).rstrip() + ELLIPSIS + end.lstrip()


def width(text: str) -> int:
    """About how many letters wide it is: those of East Asia are two, marks on other letters none."""
    return sum(
        0 if category(char) in {"Mn", "Me", "Cf"} else 2 if east_asian_width(char) in "WF" else 1
        for char in text
    )


def _beginning(text: str, limit: int) -> str:
    ends = itertools.accumulate(map(width, text))
    return text[: sum(end <= limit for end in ends)]


def percent(share: float, digits: int | None = None) -> str:
    """A share in percent, with so many digits after the point; never 0 or 100 for what is only close to it.

    Without `digits`, two or three digits in all.
    """
    if digits is None:
        digits = 0 if share in {0, 1} or 0.0995 <= share < 0.99 else 1
    text, step = f"{100 * share:.{digits}f}", 10**-digits
    if share not in {0, 1} and float(text) in {0, 100}:
        text = f"<{step:.{digits}f}" if share < 0.5 else f">{100 - step:.{digits}f}"
    return f"{text}{NARROW}%"


def share_axis(axes: Axes) -> None:
    """Shares in percent on the vertical axis, which ends where shares end."""
    axes.yaxis.set_major_formatter(PERCENT)
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, 0), min(high, 1))
    for line in axes.get_lines():
        line.set_clip_on(False)  # one along the edge is as thick as the others


def ink_on(colour: Sequence[float]) -> str:
    """Black or white text: what stands out more from a colour (contrast ratio of WCAG 2.2)."""
    return max(("#000000", "#ffffff"), key=lambda text: _contrast(to_rgb(text), colour))


def _contrast(one: Sequence[float], other: Sequence[float]) -> float:
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: Sequence[float]) -> float:
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
