"""The page in a real browser: what a reader sees and clicks, and that the file asks the network for nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from autoopt.report import ReportData, write_report

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
LOCAL = re.compile(r"^(file|data|blob):")

pytestmark = pytest.mark.skipif(
    not CHROMIUM.exists(), reason=f"NOT TESTED: the report in a browser. No {CHROMIUM}: apt-get install chromium"
)


@dataclass
class Opened:
    page: Page
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def open_report(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Callable[[ReportData], Opened]:
    def open_it(data: ReportData, scheme: str = "light") -> Opened:
        folder = tmp_path_factory.mktemp("report")
        write_report(data, folder)
        opened = Opened(browser.new_page(viewport={"width": 1366, "height": 900}, color_scheme=scheme))  # type: ignore[arg-type] # a literal
        opened.page.on("request", lambda request: opened.requests.append(request.url))
        opened.page.on(
            "console",
            lambda message: opened.errors.append(message.text) if message.type in {"error", "warning"} else None,
        )
        opened.page.on("pageerror", lambda error: opened.errors.append(str(error)))
        opened.page.goto((folder / "report.html").as_uri())
        if data.configs:
            opened.page.wait_for_selector("body[data-drawn]", timeout=60_000)
        return opened

    return open_it


@pytest.fixture(scope="module")
def opened(open_report: Callable[..., Opened], data: ReportData) -> Opened:
    return open_report(data)


@pytest.fixture
def page(opened: Opened) -> Page:
    """The page with every filter cleared."""
    opened.page.fill("#search", "")
    opened.page.select_option("#engine", "")
    opened.page.select_option("#outcome", "")
    opened.page.uncheck("#front-only")
    opened.page.evaluate("document.querySelectorAll('tr.facts').forEach((row) => { row.hidden = true; })")
    return opened.page


def numbers(page: Page) -> list[int]:
    rows = page.locator("#table tr.row:visible")
    return [int(number) for number in rows.evaluate_all("rows => rows.map(row => row.dataset.number)")]


def marker(page: Page, number: int) -> tuple[float, float]:
    """Where the point of that candidate is on the screen."""
    page.locator("#plot").scroll_into_view_if_needed()
    x, y = page.evaluate(
        """(number) => {
          const plot = document.getElementById("plot"), box = plot.getBoundingClientRect(), layout = plot._fullLayout;
          const trace = plot.data.find((t) => t.customdata && t.customdata.includes(number));
          const at = trace.customdata.indexOf(number);
          return [box.x + layout.xaxis._offset + layout.xaxis.d2p(trace.x[at]),
                  box.y + layout.yaxis._offset + layout.yaxis.d2p(trace.y[at])];
        }""",
        number,
    )
    return x, y


def test_every_config_is_drawn_as_a_point(page: Page, data: ReportData) -> None:
    assert page.locator("#plot .scatterlayer .point").count() == len(data.configs)
    assert page.locator("#plot .errorbar").count() >= len(data.configs)
    assert page.locator("#plot .scatterlayer .js-line").count() == 1
    assert page.locator("#progress .js-line").count() == 1


def test_hovering_a_point_tells_its_candidate_and_figures(page: Page, data: ReportData) -> None:
    assert data.recommended is not None
    page.mouse.move(*marker(page, data.recommended.config.number))
    label = page.locator("#plot .hoverlayer .hovertext")
    label.wait_for(timeout=5000)
    text = label.text_content() or ""
    assert f"#{data.recommended.config.number}" in text
    assert "speed-up 18.1× (17.9–18.3)" in text
    assert "student" in text


def test_clicking_a_point_highlights_its_row_and_shows_it(page: Page) -> None:
    page.mouse.click(*marker(page, 7))
    selected = page.locator("tr.row.selected")
    assert selected.get_attribute("data-number") == "7"
    assert page.locator("#plot").evaluate("plot => plot.data.find(t => t.name === 'selected').x.length") == 1


def test_clicking_a_header_sorts_and_clicking_again_turns_it_round(page: Page, data: ReportData) -> None:
    page.click("#table th >> text=speed-up")
    figures = {config.number: config.speedup.value for config in data.configs}
    rising = [figures[number] for number in numbers(page) if number in figures]
    assert rising == sorted(rising)
    page.click("#table th >> text=speed-up")
    falling = [figures[number] for number in numbers(page) if number in figures]
    assert falling == sorted(falling, reverse=True)
    assert page.locator("#table th[aria-sort]").get_attribute("aria-sort") == "descending"
    assert numbers(page)[-1] not in figures  # what has no figure stays last
    page.click("#table th >> text=#")
    assert numbers(page) == sorted(numbers(page))


def test_text_engine_outcome_and_front_filter_the_rows(page: Page, data: ReportData) -> None:
    assert data.front is not None
    assert len(numbers(page)) == 60
    page.fill("#search", "student int8 onnx")
    assert numbers(page) == [14]
    assert page.inner_text("#shown") == "1"
    page.fill("#search", "")
    page.select_option("#engine", "torchscript")
    assert numbers(page) == [1]
    page.select_option("#engine", "")
    page.select_option("#outcome", "failed")
    assert len(numbers(page)) == 11
    page.select_option("#outcome", "")
    page.check("#front-only")
    assert set(numbers(page)) == {config.number for config in data.front}


def test_a_row_opens_with_the_whole_message_as_text(page: Page, hostile: str) -> None:
    page.click("#table tr.row[data-number='33']")
    facts = page.locator("#table tr.row[data-number='33'] + tr.facts")
    assert facts.is_visible()
    assert hostile in facts.inner_text()
    assert page.evaluate("window.hacked") is None


def test_the_other_axis_shows_scores(page: Page) -> None:
    page.click("[data-axis=score]")
    page.wait_for_function("document.querySelector('#plot .ytitle').textContent.startsWith('accuracy, %')")
    page.click("[data-axis=gain]")
    page.wait_for_function("document.querySelector('#plot .ytitle').textContent.includes('against the reference')")


def test_an_example_of_the_census_leads_to_its_row(page: Page) -> None:
    page.click("#census a[data-go='33']")
    assert page.locator("tr.row.selected").get_attribute("data-number") == "33"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground_in_both_schemes(
    open_report: Callable[..., Opened], data: ReportData, scheme: str
) -> None:
    shown = open_report(data, scheme)
    ink, ground = (
        sum(map(int, re.findall(r"\d+", shown.page.evaluate(f"getComputedStyle(document.body).{name}"))[:3]))
        for name in ("color", "backgroundColor")
    )
    assert (ink < ground) == (scheme == "light")
    assert abs(ink - ground) > 500
    assert shown.errors == []
    shown.page.close()


def test_a_servers_curves_are_drawn_with_the_bound_and_lead_to_their_rows(
    open_report: Callable[..., Opened], served_data: ReportData
) -> None:
    opened = open_report(served_data)
    curves = opened.page.evaluate(
        "document.getElementById('curves').data.map((t) => [t.name, t.x.length, t.marker.symbol])"
    )
    assert len(curves) == 2 * opened.page.locator("#load tbody tr").count()
    assert all(length == 4 for _, length, _ in curves)  # what was never answered is not drawn
    assert {symbol for _, _, symbols in curves for symbol in symbols} == {"circle", "circle-open"}
    opened.page.locator("#load [data-go]").first.click()
    assert opened.page.locator("tr.row.selected").count() == 1
    assert not opened.errors


@pytest.mark.parametrize("count", [0, 1, 500])
def test_jobs_of_every_size_open_without_an_error(
    open_report: Callable[..., Opened], make_data: Callable[..., ReportData], count: int
) -> None:
    shown = open_report(make_data(count, confirm=False))
    assert shown.page.locator("#table tr.row").count() == count
    if count:
        assert shown.page.locator("#plot .scatterlayer .point").count() > 0
    assert shown.errors == []
    shown.page.close()


def test_after_all_of_it_no_error_was_logged_and_no_request_left_the_file(opened: Opened) -> None:
    assert opened.errors == []
    assert opened.requests
    assert all(LOCAL.match(url) for url in opened.requests), opened.requests
