"""The page in a real browser: it works, it fits a phone, and no text of others ever runs."""

from __future__ import annotations

import random
import shutil

import pytest
from fixed_results import LEVELS, write_answers, write_curves, write_results
from test_report import HOSTILE, hostile_example

from harness.report import write_report

playwright = pytest.importorskip(
    "playwright.sync_api", reason="needs playwright, which is not installed"
)
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FOUND = next((path for name in BROWSERS if (path := shutil.which(name))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(FOUND is None, reason=f"needs a browser: none of {', '.join(BROWSERS)}"),
]


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=FOUND, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A report of three seeds, with hostile text in notes, reasons, prompts and answers."""
    made = tmp_path_factory.mktemp("browser")
    write_results(
        made,
        seeds=(0, 1, 2),
        states={("dpo", 2): ("failed", HOSTILE[1])},
        left_out=(("dpo", 2),),
        examples=[hostile_example(HOSTILE[0])],
        note=HOSTILE[1],
    )
    words = random.Random(0).choices(["weeds", "pliers", "Barnham", "owl", "cart"], k=100)
    write_answers(made, [*HOSTILE[:-1], "</script><script>alert(2)</script>", *words])
    write_curves(made)
    write_report(made)
    return made


@pytest.fixture
def page(browser, folder):
    """The page as a desktop shows it; whatever it complains of, or runs, fails the test."""
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    said = []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("dialog", lambda dialog: said.append(dialog.message) or dialog.dismiss())
    opened.on("request", lambda request: said.append(request.url) if is_web(request) else None)
    opened.goto((folder / "report.html").as_uri())
    yield opened
    opened.close()
    assert said == []


def is_web(request):
    return not request.url.startswith("file:")


def column(page, table, number):
    return page.locator(f"#{table} tbody tr").evaluate_all(
        "(rows, i) => rows.map((row) => row.cells[i].textContent.trim())", number
    )


def test_figures_tables_and_colours_are_there(page):
    assert page.locator("figure svg").count() >= 4
    assert page.locator("table").count() > 10
    boxes = page.locator("figure svg").evaluate_all(
        "(all) => all.map((svg) => svg.getBoundingClientRect().width)"
    )
    assert min(boxes) > 200
    assert column(page, "t1_hamlet_hamlet", 0) == list(LEVELS)


def test_a_heading_sorts_its_table_by_number_and_again_the_other_way_round(page):
    heading = page.locator("#t1_hamlet_hamlet thead th").nth(1)
    heading.locator("button").click()
    assert column(page, "t1_hamlet_hamlet", 0) == ["base", "sft", "best_of_n", "dpo"]
    assert heading.get_attribute("aria-sort") == "ascending"
    heading.locator("button").click()
    assert column(page, "t1_hamlet_hamlet", 0) == ["dpo", "best_of_n", "sft", "base"]


def test_numbers_say_what_they_rest_on_and_lead_to_their_artifacts(page):
    cell = page.locator("#t1_hamlet_hamlet tbody tr", has_text="dpo").locator("td").nth(1)
    said = cell.get_attribute("title")
    for part in ("n = 120 in 40 clusters, 2 seeds", "95 % interval", "detectable", "grade-"):
        assert part in said
    cell.locator("a").click()
    target = page.locator("#from_hamlet_hamlet_dpo")
    assert target.is_visible()
    assert "hamlet/hamlet/dpo/0" in target.text_content()


def test_answers_are_filtered_searched_and_paged_by_keyboard(page):
    where = page.locator(".where")
    assert where.text_content() == "1 of 110 prompts"
    assert page.locator(".card").count() == len(LEVELS)
    page.get_by_label("search").fill("PLIERS")
    count = int(where.text_content().split()[2])
    assert 0 < count < 110
    assert "pliers" in page.locator(".card .said").first.text_content()
    page.locator(".pager button").last.click()
    assert where.text_content() == f"2 of {count} prompts"
    page.keyboard.press("ArrowLeft")
    assert where.text_content() == f"1 of {count} prompts"
    page.keyboard.press("/")
    page.keyboard.press("Control+a")
    page.keyboard.press("Delete")
    page.get_by_role("combobox", name="method").select_option("dpo")
    page.get_by_role("combobox", name="outcome").select_option("better")
    assert page.locator(".card").count() == 2  # the method and the reference beside it
    assert page.locator(".card", has_text="dpo").locator(".up").count() >= 1
    page.get_by_role("combobox", name="outcome").select_option("invalid")
    assert where.text_content() == "no prompt fits these filters"


def test_hostile_text_is_shown_as_text(page):
    for text in (HOSTILE[0], "</script><script>alert(2)</script>"):
        page.get_by_label("search").fill(text)
        assert text in page.locator(".card .said").first.text_content()
    assert page.locator("#browser script, #browser img, main script").count() == 0
    assert page.locator("body *[onerror], body *[onload]").count() == 0


def test_the_page_fits_a_phone(browser, folder):
    phone = browser.new_page(viewport={"width": 390, "height": 800})
    phone.goto((folder / "report.html").as_uri())
    phone.evaluate("document.querySelectorAll('details').forEach((node) => { node.open = true })")
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    wide = phone.locator("table").evaluate_all(
        "(all) => all.filter((t) => t.offsetWidth > 390 && !t.closest('.scroll')).length"
    )
    assert wide == 0
    phone.close()


def test_thousands_of_prompts_are_searched_without_lag(browser, tmp_path):
    folder = write_results(tmp_path)
    texts = [f"answer {i} about weeds and owls" for i in range(4000)]
    write_answers(folder, texts, decodings=("T=1",))
    write_report(folder)
    page = browser.new_page()
    page.goto((folder / "report.html").as_uri())
    assert page.locator(".where").text_content() == "1 of 4,000 prompts"
    milliseconds = page.evaluate(
        """() => {
          const field = document.querySelector("#browser input");
          field.value = "answer 3999 ";
          const started = performance.now();
          field.dispatchEvent(new Event("input", { bubbles: true }));
          return performance.now() - started;
        }"""
    )
    assert page.locator(".where").text_content() == "1 of 1 prompts"
    assert milliseconds < 500
    page.close()


def test_without_scripts_the_numbers_and_some_answers_are_still_there(browser, folder):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((folder / "report.html").as_uri())
    assert page.locator("#t1_hamlet_hamlet tbody tr").count() == len(LEVELS)
    assert page.get_by_text("A few answers side by side").is_visible()
    context.close()
