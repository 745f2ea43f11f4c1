"""The page of a comparison in a real browser: what its script does, and that nothing is cut off."""

import itertools

import pytest

from tests.browser import CONTRAST, images_shown, needs_chromium

pytestmark = needs_chromium
COVERED = """() => {
    const focused = document.activeElement, box = focused.getBoundingClientRect();
    const top = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
    return focused.contains(top) || top?.contains(focused) ? null : focused.outerHTML + top?.outerHTML;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("name", ["usual", "crowded"])
def test_nothing_is_cut_off_and_every_image_shows(request, visit, name, width, scheme):
    page = visit(request.getfixturevalue(name), width, scheme)
    assert images_shown(page) >= 8


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_stands_out(usual, visit, scheme):
    """WCAG 2.2 AA, 1.4.3: a contrast of at least 4.5."""
    page = visit(usual, 1440, scheme)
    page.locator("#trainings-table thead button").first.click()
    assert page.evaluate(CONTRAST) == []


def column(page, table, number):
    cells = page.locator(f"#{table} tbody tr:not([hidden]) > :nth-child({number + 1})")
    return cells.evaluate_all("cells => cells.map(c => c.dataset.value ?? c.textContent.trim())")


def in_order(values):
    """Numbers as numbers, names as names, what is not known at the end."""
    known = [value for value in values if value]
    assert values == known + [""] * (len(values) - len(known))
    try:
        return [float(value) for value in known]
    except ValueError:
        return known


@pytest.mark.parametrize(("table", "columns"), [("trainings-table", 13), ("comparisons-table", 11)])
def test_tables_are_sorted_by_every_column_both_ways(usual, visit, table, columns):
    page = visit(usual)
    heads = page.locator(f"#{table} thead th")
    assert heads.count() == columns
    before = sorted(column(page, table, 0))
    for number in range(columns):
        button = heads.nth(number).get_by_role("button")
        button.click()
        assert heads.nth(number).get_attribute("aria-sort") == "ascending"
        rising = in_order(column(page, table, number))
        if all(isinstance(value, float) for value in rising):
            assert rising == sorted(rising)
        button.click()
        assert heads.nth(number).get_attribute("aria-sort") == "descending"
        falling = in_order(column(page, table, number))
        assert sorted(map(str, falling)) == sorted(map(str, rising))
        assert falling[0] == rising[-1]
        assert falling[-1] == rising[0]
        others = heads.evaluate_all("heads => heads.map(head => head.ariaSort)")
        assert others.count("none") == columns - 1
    assert sorted(column(page, table, 0)) == before


def test_numbers_are_sorted_as_numbers(usual, visit):
    """As text 7.2 seconds would come after 12."""
    page = visit(usual)
    page.locator("#trainings-table thead button", has_text="Views").click()
    views = [int(value) for value in column(page, "trainings-table", 11)]
    assert views == sorted(views)
    assert len(set(views)) == 3


def test_trainings_are_filtered_and_the_number_left_is_announced(usual, visit):
    page = visit(usual)
    shown = page.locator("#shown")
    assert shown.get_attribute("role") == "status"
    assert shown.inner_text() == "30 of 30 trainings shown"
    page.get_by_role("combobox", name="Contender").select_option("paws")
    assert shown.inner_text() == "6 of 30 trainings shown"
    page.get_by_role("combobox", name="Budget").select_option("labels_20")
    assert shown.inner_text() == "3 of 30 trainings shown"
    assert column(page, "trainings-table", 0) == ["paws"] * 3
    assert column(page, "trainings-table", 2) == ["1", "2", "3"]
    page.get_by_role("searchbox").fill("nothing like it")
    assert shown.inner_text() == "0 of 30 trainings shown"
    page.get_by_role("searchbox").press("Enter")
    assert page.url == usual.page.as_uri()
    page.get_by_role("searchbox").fill("LABELS_20 3")
    page.get_by_role("combobox", name="Contender").select_option("")
    assert column(page, "trainings-table", 0) == [
        "supervised", "mixmatch", "fixmatch", "paws", "two_phase",
    ]  # fmt: skip


def test_a_filtered_table_stays_filtered_when_sorted(usual, visit):
    page = visit(usual)
    page.get_by_role("combobox", name="Contender").select_option("paws")
    page.locator("#trainings-table thead button", has_text="Accuracy").click()
    accuracy = [float(value) for value in column(page, "trainings-table", 3)]
    assert len(accuracy) == 6
    assert accuracy == sorted(accuracy)


def test_the_accuracy_leads_to_the_report_of_the_training(usual, visit):
    page = visit(usual)
    page.locator("#trainings-table tbody a").first.click()
    assert page.title() == "a cell"
    assert page.url.endswith("pages/supervised-standard-labels_20-1/index.html")


def test_every_number_of_a_row_leads_to_its_report(usual, visit):
    page = visit(usual)
    page.locator("#trainings-table tbody tr").nth(3).locator("td").nth(5).locator("a").click()
    assert page.url.endswith("pages/supervised-standard-labels_100-1/index.html")


def test_without_its_script_the_page_says_the_same(usual, visit):
    page = visit(usual, 390, script=False)
    assert page.locator("#filters").is_hidden()
    assert page.locator("#shown").inner_text() == "30 trainings"
    assert page.locator("#trainings-table tbody tr").count() == 30
    assert page.locator("#trainings-table button").count() == 0


def test_another_script_does_not_run(usual, browser, tmp_path):
    """The policy allows the page's own script by its hash."""
    html = usual.html.replace("</main>", "</main><script>document.title = 'owned'</script>")
    (tmp_path / "index.html").write_text(html, encoding="utf-8")
    page = browser.new_page()
    said = []
    page.on("console", lambda message: said.append(message.text))
    page.goto((tmp_path / "index.html").as_uri())
    assert page.title() == "5 contenders on digits"
    assert any("Content Security Policy" in text for text in said)
    page.close()


def test_row_39_hostile_names_do_nothing(crowded, visit):
    page = visit(crowded)
    assert page.title() == "12 contenders on digits"
    assert page.evaluate("document.querySelectorAll('script').length") == 1


def test_the_page_can_be_used_with_the_keyboard(usual, visit):
    page = visit(usual, 390)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the verdict"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    for _ in range(200):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.closest('#trainings-table thead') !== null"):
            break
    assert page.evaluate("document.activeElement.textContent") == "Contender"
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineWidth")
    assert outline == "3px"
    page.keyboard.press("Enter")
    assert page.locator("#trainings-table thead th").first.get_attribute("aria-sort") == "ascending"
    page.keyboard.press("Space")
    assert (
        page.locator("#trainings-table thead th").first.get_attribute("aria-sort") == "descending"
    )
    headings = page.evaluate("[...document.querySelectorAll('h1,h2,h3')].map(h => +h.tagName[1])")
    assert headings[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(headings))


def test_what_scrolls_can_be_reached_and_has_a_name(usual, visit):
    page = visit(usual, 390)
    for region in page.locator(".scroll").all():
        assert region.get_attribute("tabindex") == "0"
        assert region.get_attribute("aria-label") or region.get_attribute("aria-labelledby")


@pytest.mark.parametrize("width", [390, 1440])
def test_what_has_the_focus_is_not_covered(usual, visit, width):
    """WCAG 2.2 AA, 2.4.11: heads of columns and rows that stick leave room."""
    page = visit(usual, width)
    page.emulate_media(reduced_motion="reduce")  # else the page scrolls slowly
    for table in ("trainings-table", "comparisons-table"):
        page.locator(f"#{table} :is(a[href], button)").last.focus()
        reached = 0
        while page.evaluate(f"document.activeElement.closest('#{table}') !== null"):
            assert page.evaluate(COVERED) is None
            reached += 1
            page.keyboard.press("Shift+Tab")
        assert reached > 10


def test_on_paper_nothing_is_hidden(usual, visit):
    page = visit(usual, 1440, "dark")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(29, 33, 37)"
    assert page.locator("#filters").is_hidden()
    heights = page.evaluate(
        "[...document.querySelectorAll('.scroll')].map(e => [e.scrollHeight, e.clientHeight])"
    )
    assert all(whole <= seen + 1 for whole, seen in heights)
    assert len(page.pdf(format="A4")) > 50_000


def test_names_of_contenders_break_between_words(usual, visit):
    page = visit(usual, 1440)
    style = "getComputedStyle(document.querySelector('.numbers tbody th')).overflowWrap"
    assert page.evaluate(style) == "break-word"
