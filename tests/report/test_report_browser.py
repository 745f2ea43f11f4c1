"""The page in a real browser: headless Chromium at the widths of a phone and of a desk."""

import itertools

import pytest

from tests.browser import CONTRAST, images_shown, needs_chromium

pytestmark = needs_chromium


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("names", ["digits_run", "hostile_run"])
def test_nothing_is_cut_off_and_every_image_shows(request, visit, names, width, scheme):
    run = request.getfixturevalue(names)
    page = visit(run, width, scheme)
    assert images_shown(page) > 30
    assert page.title() == "cr_dpll on digits: 83.3\u202f%"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("names", ["hostile_paws_run", "two_phase_run"])
def test_diagnostics_fit_beside_the_other_charts(request, visit, names, width, scheme):
    page = visit(request.getfixturevalue(names), width, scheme)
    assert images_shown(page)
    assert page.evaluate(CONTRAST) == []
    shown = page.locator("figure.chart h3").all_inner_texts()
    assert shown[:2] == ["Loss", "Validation"]
    own = {"hostile_paws_run": {"Embeddings"}, "two_phase_run": {"Learning rate"}}[names]
    assert {*shown} & {"Embeddings", "Learning rate", "Pseudo-labels"} == own | {"Pseudo-labels"}


def test_row_39_hostile_class_names_are_text(hostile_run, visit):
    """FAULTS row 39: escaped, cut short, and whole in the tooltip."""
    page = visit(hostile_run)
    assert page.evaluate("document.querySelectorAll('script, img[onerror], [onerror]').length") == 0
    names = page.locator("table.classes tbody th bdi").all_inner_texts()
    assert names[0] == hostile_run.classes[0]
    assert names[1] == "n" * 60 + "…" + "n" * 59
    assert names[2] == "חתול קטן"
    assert names[3] == "قطة \ufffdgnp.exe"
    assert names[4] == "$\\frac{1}{0}$"
    assert names[5] == "line break tab\ufffdbell"
    assert names[8] == "{{ 7*7 }}{% raw %}"
    tooltip = page.locator("table.classes tbody th bdi").nth(1).get_attribute("title")
    assert tooltip == "n" * 300


def test_charts_follow_the_theme(digits_run, visit):
    shown = {
        scheme: visit(digits_run, 1440, scheme).evaluate(
            "[...document.images].map(i => i.currentSrc)[0]"
        )
        for scheme in ("light", "dark")
    }
    assert shown["light"] != shown["dark"]
    backgrounds = {
        scheme: visit(digits_run, 1440, scheme).evaluate(
            "getComputedStyle(document.body).backgroundColor"
        )
        for scheme in ("light", "dark")
    }
    assert backgrounds == {"light": "rgb(250, 249, 246)", "dark": "rgb(18, 21, 24)"}


def test_paper_is_light(digits_run, visit):
    page = visit(digits_run, 1440, "dark")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(29, 33, 37)"
    assert len(page.pdf(format="A4")) > 20_000


def test_the_page_can_be_read_with_the_keyboard(digits_run, visit):
    page = visit(digits_run, 390)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the result"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    stops = []
    for _ in range(10):
        page.keyboard.press("Tab")
        stops.append(page.evaluate("document.activeElement.textContent.trim().slice(0, 20)"))
    assert stops[:7] == [
        "Result",
        "Training",
        "Errors",
        "Training labels",
        "Training images",
        "Worst mistakes",
        "Reproduce",
    ]
    assert stops[7:9] == ["More on these labels", "Every class in numbe"]
    headings = page.evaluate("[...document.querySelectorAll('h1,h2,h3')].map(h => +h.tagName[1])")
    assert headings[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(headings))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_stands_out(digits_run, visit, scheme):
    """WCAG 2.2 AA, 1.4.3: a contrast of at least 4.5."""
    assert visit(digits_run, 1440, scheme).evaluate(CONTRAST) == []


def test_a_folded_table_is_printed(make_run, visit):
    run = make_run(epochs=1, classes=tuple(f"class {k}" for k in range(21)), test=63)
    run.build()
    page = visit(run, 1440)
    shown = "document.querySelector('table.classes').checkVisibility({contentVisibilityAuto: true})"
    assert not page.evaluate(shown)
    page.emulate_media(media="print")
    # What is folded is known to the browser two frames later.
    frames = f"requestAnimationFrame(() => requestAnimationFrame(() => done({shown})))"
    assert page.evaluate(f"new Promise(done => {frames})")
