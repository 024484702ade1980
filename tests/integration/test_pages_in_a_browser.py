"""Every page in a real browser: on a telephone, in the dark, by keyboard, and as axe-core sees it.

Nothing comes from elsewhere: the browser is the distribution's, axe-core is in a package.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

from tests.integration.website import TOKEN_OF_A_CLIENT, Website, website
from tests.patience import PATIENCE_SECONDS

if TYPE_CHECKING:
    from tests.databases import Databases

INSTALL = "sudo apt-get install --no-install-recommends chromium"
NAMES = ("chromium", "chromium-browser", "google-chrome", "Chromium")
APPLICATIONS = "/Applications/Chromium.app/Contents/MacOS"
PHONE, DESK = 360, 1280
HEIGHT = 800
# The narrowest that WCAG 2.2 asks for (1.4.10), phones, and both sides of where columns begin.
WIDTHS = (320, PHONE, 480, 832, 833, DESK)
EVERY_RULE = {"resultTypes": ["violations"], "rules": {"target-size": {"enabled": True}}}
"""Those that axe-core applies by itself, and one that it has to be asked for."""
TEXT_MIN = 12

LONG = "three years"
"""Of months: the same as six to axe-core, but for the time that it takes."""
DOCUMENTATION = "documentation"
"""With everything unfolded that can be."""
# (service, path, status) of every kind of page.
PAGES = {
    "billing": ("billing", "/", 200),
    "invoice": ("billing", "/", 200),
    "vip_customers": ("vip_customers", "/", 200),
    LONG: ("vip_customers", "/?count=36", 200),
    "compliance": ("compliance", "/", 200),
    "fraud_police": ("fraud_police", "/", 200),
    "transactions": ("transact", "/", 200),
    "transaction": ("transact", "/?status=ALERTED", 200),
    "alertman": ("alertman", "/", 200),
    "alerts that are dead": ("alertman", "/?state=dead", 200),
    DOCUMENTATION: ("compliance", "/docs", 200),
    "not there": ("compliance", "/nowhere", 404),
    "no invoice": ("billing", "/invoices/0b0b7e0a-97c0-4f0b-8b0e-1a6a3d0b6b7c/page", 404),
    "no month": ("billing", "/?month=2024-13", 422),
    "no token": ("guarded", "/", 401),
    "no right": ("guarded", "/", 403),
    "away": ("away", "/", 503),
}

Open = Callable[[str], Page]


@pytest.fixture(scope="module")
def site(new_databases: Callable[[], Databases], free_port: Callable[[], int]) -> Iterator[Website]:
    with website(new_databases(), free_port) as opened:
        yield opened


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = f"{os.environ['PATH']}:{APPLICATIONS}"
    program = next(filter(None, (shutil.which(name, path=path) for name in NAMES)), None)
    if program is None:
        pytest.fail(f"no Chromium on this machine: {INSTALL}")
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=program) as launched,
    ):
        yield launched


@pytest.fixture
def show(site: Website, browser: Browser) -> Iterator[Open]:
    """Call it with the name of a page, to look at it."""
    context = browser.new_context()
    context.set_default_timeout(PATIENCE_SECONDS * 1000)
    page = context.new_page()

    def visit(name: str) -> Page:
        service, path, status = PAGES[name]
        if name == "no right":
            context.set_extra_http_headers({"X-Token": TOKEN_OF_A_CLIENT})
        answer = page.goto(f"{getattr(site, service)}{path}")
        assert answer is not None
        assert answer.status == status
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        if name in {"invoice", "transaction"}:
            with page.expect_navigation():
                page.get_by_role("rowheader").get_by_role("link").first.click()
        if name == DOCUMENTATION:
            page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        return page

    yield visit
    context.close()


@pytest.mark.parametrize("name", [name for name in PAGES if name != LONG])
def test_axe_finds_nothing(show: Open, name: str) -> None:
    page = show(name)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        for width in (PHONE, DESK):
            page.set_viewport_size({"width": width, "height": HEIGHT})
            found = Axe().run(page, options=EVERY_RULE)
            assert found.violations_count == 0, f"{scheme}, {width}: {found.generate_report()}"


# What cannot be reached without scrolling sideways, or is cut off. A cell's own box may be
# narrower than what it holds.
BEYOND_THE_EDGE = """
    () => {
        const edge = document.documentElement.clientWidth
        const isHidden = one =>
            one.closest("thead") && getComputedStyle(one.closest("thead")).position === "absolute"
        const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
        const found = []
        const look = (box, what) => {
            if (box.width && (box.left < -0.5 || box.right > edge + 0.5)) found.push(what)
        }
        while (texts.nextNode()) {
            const range = document.createRange()
            range.selectNodeContents(texts.currentNode)
            if (!isHidden(texts.currentNode.parentElement))
                for (const box of range.getClientRects()) look(box, texts.currentNode.textContent)
        }
        for (const one of document.querySelectorAll("body *")) {
            if (!isHidden(one)) look(one.getBoundingClientRect(), one.outerHTML.slice(0, 80))
            const style = getComputedStyle(one)
            if (["auto", "scroll"].includes(style.overflowX)) found.push("a scroller")
        }
        if (document.documentElement.scrollWidth > edge) found.push("the page")
        return found
    }
"""


@pytest.mark.parametrize("name", PAGES)
def test_nothing_lies_beyond_the_edge_of_any_screen(show: Open, name: str) -> None:
    page = show(name)
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": HEIGHT})
        assert page.evaluate(BEYOND_THE_EDGE) == [], f"{width} px"


# (label, header) of every cell that says itself what it is; a month's name spans several rows.
LABELS = """
    () => [...document.querySelectorAll("table.rows td[data-label]")].map(cell => {
        const headers = [...cell.closest("table").tHead.rows[0].cells]
        const fromTheEnd = cell.parentElement.cells.length - cell.cellIndex
        return [cell.dataset.label, headers[headers.length - fromTheEnd].textContent]
    })
"""


@pytest.mark.parametrize(
    "name",
    [
        "billing",
        "invoice",
        "vip_customers",
        "compliance",
        "transactions",
        "transaction",
        "alertman",
        DOCUMENTATION,
    ],
)
def test_a_cell_of_a_card_is_called_what_its_column_is_called(show: Open, name: str) -> None:
    page = show(name)
    page.set_viewport_size({"width": PHONE, "height": HEIGHT})
    labels = page.evaluate(LABELS)
    assert labels
    assert all(label == header for label, header in labels), labels
    said = page.evaluate(
        "getComputedStyle(document.querySelector('td[data-label]'), '::before').content"
    )
    assert said == f'"{labels[0][0]}"'


# Sizes of all text of charts, whether any of it is in a picture that is stretched, and how many
# labels lie over the one before.
CHART_TEXT = """
    () => {
        const labels = [...document.querySelectorAll(".chart *")]
            .filter(one => !one.closest("svg") && one.textContent.trim())
        const overlapping = [...document.querySelectorAll(".groups")].flatMap(groups => {
            const boxes = [...groups.querySelectorAll("span > span")]
                .filter(one => one.textContent).map(one => one.getBoundingClientRect())
            return boxes.slice(1).filter((box, number) => box.left < boxes[number].right)
        })
        return {
            smallest: Math.min(...labels.map(one => parseFloat(getComputedStyle(one).fontSize))),
            stretched: document.querySelectorAll(".plot svg text").length,
            overlapping: overlapping.length,
        }
    }
"""


SIZES_IN_PICTURES = """
    () => [...document.querySelectorAll(".flow text")].map(one => {
        const picture = one.closest("svg")
        const box = one.getBBox()
        return {
            size: parseFloat(getComputedStyle(one).fontSize) * picture.getScreenCTM().a,
            isInItsBox: [...picture.querySelectorAll(".box")].map(each => each.getBBox()).some(
                each => box.x >= each.x && box.x + box.width <= each.x + each.width &&
                    box.y >= each.y && box.y + box.height <= each.y + each.height
            ),
        }
    })
"""


def test_the_flow_of_states_can_be_read_on_any_screen(show: Open) -> None:
    page = show("transactions")
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": HEIGHT})
        texts = page.evaluate(SIZES_IN_PICTURES)
        assert len(texts) == 14
        assert min(each["size"] for each in texts) >= TEXT_MIN, f"{width} px"
        assert all(each["isInItsBox"] for each in texts), f"{width} px"


@pytest.mark.parametrize("name", ["billing", "vip_customers", "transactions", LONG])
def test_charts_can_be_read_on_any_screen(show: Open, name: str) -> None:
    page = show(name)
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": HEIGHT})
        text = page.evaluate(CHART_TEXT)
        assert text["smallest"] >= TEXT_MIN
        assert (text["stretched"], text["overlapping"]) == (0, 0), f"{width} px"


CONTROLS = "a[href], button, input:not([type=hidden]), select, summary, textarea, [tabindex]"
# Which control has the focus, and how that is seen.
FOCUSED = """
    controls => {
        const focused = document.activeElement, style = getComputedStyle(focused)
        return {
            number: [...document.querySelectorAll(controls)].indexOf(focused),
            outline: style.outlineStyle === "solid" ? parseFloat(style.outlineWidth) : 0,
            color: style.outlineColor,
            is_in_sight: focused.getBoundingClientRect().top < innerHeight,
        }
    }
"""


def next_control(page: Page) -> dict[str, Any]:
    page.keyboard.press("Tab")
    focused: dict[str, Any] = page.evaluate(FOCUSED, CONTROLS)
    return focused


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("width", [PHONE, DESK])
def test_everything_is_reached_by_keyboard_and_seen_there(
    show: Open, name: str, width: int
) -> None:
    page = show(name)
    page.set_viewport_size({"width": width, "height": HEIGHT})
    reached = set()
    # A field for a month has parts, each a stop of its own.
    while (focused := next_control(page))["number"] >= 0:
        reached.add(focused["number"])
        assert focused["outline"] >= 2, focused
        assert focused["color"] != page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert focused["is_in_sight"]
    assert reached == set(range(page.locator(CONTROLS).count()))


def test_an_agent_is_blocked_without_a_pointing_device(show: Open) -> None:
    page = show("compliance")
    page.set_viewport_size({"width": PHONE, "height": HEIGHT})
    reason = page.get_by_label("Reason to block").first
    label = reason.get_attribute("aria-label")
    assert label is not None
    name = label.removeprefix("Reason to block ")
    while page.evaluate("document.activeElement.getAttribute('aria-label')") != label:
        next_control(page)
    page.keyboard.type("no papers")
    next_control(page)
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == f"Block {name}"
    with page.expect_navigation():
        page.keyboard.press("Enter")
    outcome = page.get_by_role("row").filter(has_text="no papers")
    assert name in outcome.inner_text()
    assert "waiting" in outcome.inner_text()
    assert page.get_by_text("block on its way").count() == 1


def test_a_silence_begins_and_ends_without_a_pointing_device(show: Open) -> None:
    page = show("alertman")
    page.set_viewport_size({"width": PHONE, "height": HEIGHT})
    reach(page, "client")
    page.keyboard.type("noisy")
    reach(page, "reason")
    page.keyboard.type("a load test")
    next_control(page)
    with page.expect_navigation():
        page.keyboard.press("Enter")
    silence = page.get_by_role("row").filter(has_text="noisy")
    assert "a load test" in silence.inner_text()
    with page.expect_navigation():
        silence.get_by_role("button", name="End the silence of noisy, all rules").press("Enter")
    assert page.get_by_role("row").filter(has_text="noisy").count() == 0
    assert page.get_by_role("button", name="Retry email about").count() == 10


def reach(page: Page, name: str) -> None:
    """Go on by keyboard to the field of this id."""
    while page.evaluate("document.activeElement.id") != name:
        next_control(page)


def test_what_goes_wrong_says_so_and_leads_on(show: Open, site: Website) -> None:
    page = show("no invoice")
    assert page.get_by_role("heading").inner_text() == "Not found"
    with page.expect_navigation():
        page.get_by_role("link", name="To the first page").click()
    assert page.url == f"{site.billing}/"
    page = show("away")
    assert page.get_by_role("link", name="trying again").get_attribute("href") == ""
    page = show("no month")
    assert page.get_by_role("row").filter(has_text="month").count() == 1


def test_pages_need_no_script(site: Website, browser: Browser) -> None:
    context = browser.new_context(
        java_script_enabled=False, viewport={"width": PHONE, "height": HEIGHT}
    )
    context.set_default_timeout(PATIENCE_SECONDS * 1000)
    page = context.new_page()
    page.goto(site.compliance)
    box = page.get_by_role("button", name="Block").first.bounding_box()
    assert box is not None
    assert box["x"] + box["width"] <= PHONE
    context.close()


def test_the_documentation_is_tried_out(show: Open, site: Website) -> None:
    """Twice is two commands; a path has what it needs, and what goes wrong is shown as well."""
    page = show(DOCUMENTATION)
    agent = page.request.get(f"{site.compliance}/agents").json()["items"][0]["id"]
    form = page.get_by_role("form", name="Try block_agent", exact=True)
    form.get_by_label("agent_id").fill(agent)
    form.get_by_label("Body").fill('{"reason": "tried out"}')
    keys = set()
    for _ in range(2):
        with page.expect_response(f"{site.compliance}/block_agent/{agent}") as answer:
            form.get_by_role("button").click()
        assert answer.value.status == 202
        keys.add(answer.value.request.headers.get("idempotency-key"))
    assert len(keys - {None}) == 2
    form.get_by_role("status").filter(has_text='"reason": "tried out"').wait_for()
    asked = page.request.get(f"{site.compliance}/requests").json()["items"]
    assert [one["reason"] for one in asked].count("tried out") == 2
    requests = page.get_by_role("form", name="Try get_requests", exact=True)
    requests.get_by_label("size").fill("0")
    requests.get_by_role("button").click()
    requests.get_by_role("status").filter(has_text="422 ").filter(has_text="size").wait_for()
    found = Axe().run(page, options=EVERY_RULE)
    assert found.violations_count == 0, found.generate_report()


def test_the_documentation_is_read_without_a_script(site: Website, browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    context.set_default_timeout(PATIENCE_SECONDS * 1000)
    page = context.new_page()
    page.goto(f"{site.compliance}/docs")
    page.get_by_text("Have an agent blocked").click()
    assert page.get_by_text("What block_agent answers").is_visible()
    assert page.get_by_role("button").count() == 0
    context.close()
