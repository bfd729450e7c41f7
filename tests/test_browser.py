"""The index page and Snakemake's report in a real browser, Chromium, without a network; `make test-browser` runs these."""

import io
import shutil

import numpy as np
import pytest
from chromium import CONTRAST, Browser
from conftest import copy_with, run, write_images
from frames import measured, runs_frame
from miniature import WORLD
from PIL import Image
from test_page import HEADER, course

from whysgd.report import page
from whysgd.report.correlations import correlate
from whysgd.report.measures import wide
from whysgd.results.metrics import read_metrics

BROWSER, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
missing = pytest.mark.skipif(not (BROWSER and DRIVER), reason="chromium and chromedriver are not installed")
pytestmark = [pytest.mark.browser, missing]

OPTIONS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--window-size=1280,900",
)  # fmt: skip
# What a user calls a data set.
LABEL = '<script>document.title = "gone"</script> & <b>co</b>'
PHONE = {"width": 375, "height": 740, "deviceScaleFactor": 1, "mobile": True}


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    from selenium import webdriver  # an extra of these tests: it takes a second

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for option in (*OPTIONS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # With both paths given, Selenium looks for nothing.
    driver = webdriver.Chrome(options, webdriver.ChromeService(executable_path=DRIVER))
    offline = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
    driver.execute_cdp_cmd("Network.enable", {})
    driver.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
    yield driver
    driver.quit()


@pytest.fixture
def browser(chromium):
    yield Browser(chromium)
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
    chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A copy of the project with a finished tiny world: two papers, one of them on images of the user's own."""
    images, generator = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    classes = [f"class {label}" for label in range(3)]
    write_images(images, classes, lambda label, _: generator.integers(0, 80, (8, 8, 3)) + 60 * label, 24, 4, "{}.png")
    tiny = {**WORLD["scales"]["tiny"], "rules_of": {"iyer2023": {"datasets": {"*": "mine"}, "time_divisor": 500}}}
    tiny["measuring"] = {**tiny["measuring"], "keskar": {"steps": 2, "batch": 8}}
    mine = {"source": "image_folder", "path": str(images), "label": LABEL}
    two = {**WORLD, "papers": ["geiping2022", "iyer2023"]}
    config = {**two, "measures": ["accuracy_gap", "keskar"], "datasets": {"mine": mine}, "scales": {"tiny": tiny}}
    folder = copy_with(tmp_path_factory.mktemp("browser") / "project", config)
    run(["snakemake", "--cores", 2, "--configfile", "tiny.yaml"], folder)
    run(["snakemake", "--report", "report.html", "--configfile", "tiny.yaml"], folder)
    return folder


@pytest.fixture
def index(world):
    return world / "results/tiny/index.html"


@pytest.fixture(scope="module")
def numbers(tmp_path_factory):
    """A page with the table of all runs alone, in which there are all kinds of numbers."""
    folder = tmp_path_factory.mktemp("numbers")
    sharpness = {"a": 9.5, "b": 10.0, "c": 1.2e6, "d": float("nan"), "e": 2e-5, "f": -3.0, "g": float("inf")}
    runs = runs_frame({name: [0.0] for name in sharpness})
    runs.loc[runs.run.isin(["a", "c"]), "dataset"] = "mine"
    found = measured(runs, keskar_sharpness=lambda run: sharpness[run.run])
    lines = wide(found, runs)
    frames = {"tidy": found, "wide": lines, "correlations": correlate(lines), "runs": runs, "histories": course()}
    for name, frame in frames.items():
        frame.to_csv(folder / f"{name}.csv", index=False)
    shown = {name: folder / f"{name}.csv" for name in ("tidy", "wide", "correlations")}
    paper = {**HEADER, "claims": None, "picture": None, "figures": {}, "tables": [], "at_paper": {}}
    file = folder / "index.html"
    shown |= {"caption": "C", "figures": {}}
    file.write_text(page.write_page([paper], [folder / "runs.csv"], folder, shown, [folder / "histories.csv"]))
    return file


def shown_runs(browser) -> list[str]:
    return browser.js(
        "return [...document.querySelector('#measures .tall').querySelectorAll('tbody tr:not([hidden]) th')]"
        ".map(t => t.innerText)"
    )


def heads(browser) -> dict:
    found = browser.one("#measures .tall").find_elements("css selector", "thead tr:last-child th")
    return {head.text.split("\n")[0]: head for head in found}


def test_the_page_opens_without_a_request_or_a_complaint(browser, index):
    browser.open(index)
    assert browser.messages() == []
    assert browser.requests() == ({index.as_uri()}, set())
    assert browser.driver.title.startswith("whysgd")
    broken = browser.js("return [...document.images].filter(image => !image.naturalWidth).length")
    assert (len(browser.all("img")) > 5, broken) == (True, 0)
    assert browser.one("h2").text == "What came out"
    assert len(browser.all("#findings article")) == len(browser.all("#findings img")) > 1


def test_what_users_write_is_text(browser, index):
    browser.open(index, "#run=iyer2023/explore-0")
    assert LABEL in browser.one("header .setting").text
    assert LABEL in browser.one("dialog").text
    assert browser.driver.title.startswith("whysgd")
    assert browser.all("main b, header b, dialog b") == []


@pytest.mark.parametrize(("head", "ascending"), [("Keskar sharpness [%]", "feabcgd"), ("run", "abcdefg")])
def test_runs_are_sorted_as_numbers_with_blanks_last(browser, numbers, head, ascending):
    browser.open(numbers)
    cell = heads(browser)[head]
    assert cell.get_attribute("aria-sort") is None
    browser.click(cell.find_element("tag name", "button"))
    assert "".join(name[-1] for name in shown_runs(browser)) == ascending
    assert cell.get_attribute("aria-sort") == "ascending"
    browser.click(cell.find_element("tag name", "button"))
    blank = "d" if head != "run" else ""
    assert "".join(name[-1] for name in shown_runs(browser)) == ascending.removesuffix(blank)[::-1] + blank
    assert cell.get_attribute("aria-sort") == "descending"
    assert len(browser.all("[aria-sort]")) == 1


def test_runs_are_sorted_by_the_keyboard(browser, numbers):
    from selenium.webdriver.common.keys import Keys

    browser.open(numbers)
    button = heads(browser)["Keskar sharpness [%]"].find_element("tag name", "button")
    browser.js("arguments[0].focus()", button)
    for key, first in ((Keys.ENTER, "f"), (Keys.SPACE, "g")):
        browser.press(key)
        assert shown_runs(browser)[0][-1] == first
        assert browser.driver.switch_to.active_element == button


def test_runs_are_filtered_and_counted(browser, numbers):
    browser.open(numbers)
    count, search = browser.one("output"), browser.one("input[name=text]")
    assert (count.text, count.get_attribute("aria-live")) == ("7 runs", "polite")
    search.send_keys("P/A")
    assert (count.text, shown_runs(browser)) == ("1 of 7 runs", ["p/a"])
    search.clear()
    search.send_keys("mine p/")
    assert shown_runs(browser) == ["p/a", "p/c"]
    browser.press("c")
    assert shown_runs(browser) == ["p/c"]
    search.send_keys("d")
    assert (count.text, shown_runs(browser)) == ("0 of 7 runs", [])


def test_runs_are_filtered_by_paper_and_data_set(browser, index):
    browser.open(index)
    browser.one("select[name=run] option:nth-child(3)").click()
    assert {name.split("/")[0] for name in shown_runs(browser)} == {"iyer2023"}
    assert browser.one("output").text == "4 of 9 runs"
    browser.one("select[name=run] option").click()
    labels = [option.text for option in browser.all("select[name=dataset] option")]
    assert sorted(labels) == sorted(["all", "scikit-learn digits", LABEL])
    browser.all("select[name=dataset] option")[labels.index("scikit-learn digits")].click()
    assert {name.split("/")[0] for name in shown_runs(browser)} == {"geiping2022"}


def test_a_click_on_a_number_shows_what_is_behind_it(browser, index, world):
    browser.open(index)
    number = browser.one("#paper-iyer2023 td[data-run] button")
    name = number.find_element("xpath", "..").get_attribute("data-run")
    browser.click(number)
    dialog = browser.one("dialog")
    assert dialog.is_displayed()
    assert browser.one("dialog h2").text == name
    assert number.text in browser.one("dialog header + p").text
    files = sorted((world / f"results/tiny/runs/{name}").glob("*/metrics.json"))
    found = [(file, metrics) for file in files for metrics in read_metrics(file)]
    paths, records = [file for file, _ in found], [metrics for _, metrics in found]
    assert len(records) == 2
    values = [cell.text for cell in browser.all("dialog td.marked")]
    assert values[:2] == [f"{record['final']['test_accuracy']:.2f}" for record in records]
    mean = sum(record["final"]["test_accuracy"] for record in records) / 2
    assert number.text.startswith(f"{mean:.2f} ± ")
    text = dialog.text
    for record in records:
        for part in (record["data"]["sha256"], record["code_digest"], record["device"], record["engine"], record["spec_digest"],
                     record["versions"]["torch"], record["weights_sha256"], str(record["settings"]["lr"])):  # fmt: skip
            assert part in text
    assert "at the scale paper, where it differs" in text
    # A setting that has parts there alone is told part by part.
    keys = [cell.text for cell in browser.all("dialog .facts tbody th")]
    assert "normalize.mean" in keys
    assert "normalize" not in keys
    assert len(browser.all("dialog svg path")) == 4  # training and test accuracy of two seeds
    assert "Keskar sharpness [%]" in text
    links = [link.get_attribute("href") for link in browser.all("dialog a")]
    assert links == [path.as_uri() for path in paths]
    browser.one("dialog header button").click()
    assert not dialog.is_displayed()
    assert browser.messages() == []


def test_a_number_is_opened_and_closed_by_the_keyboard_and_focus_returns(browser, index):
    from selenium.webdriver.common.keys import Keys

    browser.open(index)
    for _ in range(60):
        browser.press(Keys.TAB)
        if browser.js("return document.activeElement.matches('td > button')"):
            break
    number = browser.driver.switch_to.active_element
    assert browser.js("return getComputedStyle(arguments[0]).outlineStyle", number) == "solid"
    browser.press(Keys.ENTER)
    assert browser.one("dialog").is_displayed()
    assert browser.js("return document.activeElement.closest('dialog') !== null")
    browser.wait("location.hash.startsWith('#run=')")
    browser.press(Keys.ESCAPE)
    browser.wait("location.hash === ''")
    assert not browser.one("dialog").is_displayed()
    assert browser.driver.switch_to.active_element == number


def test_the_tab_key_stops_once_in_each_row_of_the_table_of_all_runs(browser, index):
    browser.open(index)
    first = "filter(b => b.tabIndex === 0).map(b => b.innerText)"
    stops = browser.js(f"return [...document.querySelectorAll('#measures tbody button')].{first}")
    assert stops == shown_runs(browser)
    browser.click(browser.one("#measures td[data-quantity=keskar_sharpness] button"))
    assert browser.one("dialog tr th.marked").text == "Keskar sharpness [%]"


def test_a_run_has_an_address(browser, index):
    browser.open(index, "#run=geiping2022/fb-reg")
    assert browser.one("dialog h2").text == "geiping2022/fb-reg"
    browser.js("document.querySelector('dialog').close()")
    link = browser.one('#claims a[href="#run=geiping2022/fb-strong-reg"]')
    browser.js("arguments[0].closest('details').open = true", link)
    browser.click(link)
    browser.wait("document.querySelector('dialog').open")
    assert browser.one("dialog h2").text == "geiping2022/fb-strong-reg"
    for unknown in ("#run=no/run", "#run=__proto__", "#run=%E0%A4%A", "#claims"):
        browser.open(index, unknown)
        assert not browser.one("dialog").is_displayed()
        assert browser.messages() == []


def test_a_phone_scrolls_wide_tables_and_not_the_page(browser, index):
    browser.command("Emulation.setDeviceMetricsOverride", PHONE)
    browser.open(index)
    assert browser.js("return [innerWidth, document.documentElement.scrollWidth]") == [375, 375]
    wider = "filter(box => box.scrollWidth > box.clientWidth)"
    assert browser.js(f"return [...document.querySelectorAll('.scroll')].{wider}.length") > 0
    browser.js("for (const part of document.querySelectorAll('details')) part.open = true")
    assert browser.js("return document.documentElement.scrollWidth") == 375
    box = browser.one("#measures .tall")
    browser.js("arguments[0].scrollLeft = 300", box)
    first = browser.one("#measures tbody th")
    assert browser.js("return arguments[0].getBoundingClientRect().left", first) < 20  # it stays
    browser.click(browser.one("td > button"))
    left, right, inner, outer = browser.js(
        "const d = document.querySelector('dialog'), r = d.getBoundingClientRect(); return [r.left, r.right, d.scrollWidth, d.clientWidth]"
    )
    assert left >= 0
    assert right <= 375
    assert inner <= outer
    assert browser.js("return document.documentElement.scrollWidth") == 375


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_background(browser, index, scheme):
    browser.command("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
    browser.open(index)
    background = browser.js("return getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")
    assert browser.js(CONTRAST) == []
    # The colours of all verdicts, though this world may not have them.
    browser.js(
        "document.querySelectorAll('.verdict').forEach((cell, place) => { cell.className = `verdict ${['holds', 'fails'][place % 2]}`; })"
    )
    assert browser.js(CONTRAST) == []
    browser.click(browser.one("td > button"))
    assert browser.js(CONTRAST) == []


def test_a_tap_on_a_figure_shows_it_in_full_size(browser, index):
    browser.command("Emulation.setDeviceMetricsOverride", PHONE)
    browser.open(index)
    small = browser.one("#findings img")
    assert small.size["width"] < browser.js("return arguments[0].naturalWidth", small)
    browser.click(small)
    large = browser.one("#figure img")
    assert large.get_attribute("alt") == small.get_attribute("alt")
    assert large.size["width"] == browser.js("return arguments[0].naturalWidth", small)
    browser.click(large)
    assert not browser.one("#figure").is_displayed()


def test_a_phone_keeps_label_and_measured_number_in_view(browser, index):
    browser.command("Emulation.setDeviceMetricsOverride", PHONE)
    browser.open(index)
    label, number = browser.js("""
        const row = document.querySelector("section[id^=paper-] .scroll:not(.tall) tbody tr");
        row.closest(".scroll").scrollLeft = 60;
        const cells = [...row.cells].filter((cell) => cell.getBoundingClientRect().width);
        const found = [cells[0], cells.find((cell) => cell.dataset.run)];
        return found.map((cell) => [cell.innerText, cell.getBoundingClientRect().left, cell.getBoundingClientRect().right]);
    """)
    assert label[0] == "Baseline SGD"
    assert "±" in number[0]
    assert 0 <= label[1] < label[2] <= number[2] - 50 < PHONE["width"] - 50


def test_in_the_dark_figures_are_dark(browser, index):
    """The figure draws its own background, in the page's colour."""
    shades = []
    for scheme in ("light", "dark"):
        browser.command("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
        browser.open(index)
        picture = Image.open(io.BytesIO(browser.one("figure img").screenshot_as_png)).convert("RGB")
        page = browser.js("return getComputedStyle(document.body).backgroundColor")
        shades.append((f"rgb{picture.getpixel((3, 3))}", page))
    assert shades == [("rgb(255, 255, 255)",) * 2, ("rgb(21, 24, 28)",) * 2]


def test_without_scripts_everything_can_be_read(browser, index):
    browser.command("Emulation.setScriptExecutionDisabled", {"value": True})
    browser.open(index)
    assert browser.all("td button, th button") == []
    assert not browser.one("#measures form").is_displayed()
    parts = "#claims td.verdict", "#paper-iyer2023 td[data-run]", "#measures tbody th", "figure img", "details summary"
    for selector in parts:
        assert browser.one(selector).is_displayed(), selector


def test_snakemakes_report_shows_tables_and_figures_by_their_names(browser, world):
    browser.open(world / "report.html")
    browser.wait("document.body.innerText.includes('Every run, every measure')")
    assert "trained on one loop at the scale tiny" in browser.js("return document.body.innerText")

    def follow(text):
        browser.wait(f"document.evaluate(`//*[normalize-space(text())='{text}']`, document, null, 9).singleNodeValue")
        browser.driver.find_element("xpath", f"//*[normalize-space(text())='{text}']").click()

    follow("geiping2022")
    follow("Tables")
    browser.wait("document.querySelector('table a[iconname=eye]')")
    assert "Full-batch training against SGD" in browser.one("table").text
    browser.one("table a[iconname=eye]").click()
    browser.wait("document.querySelector('iframe')")
    browser.driver.switch_to.frame(browser.one("iframe"))
    assert "95.70 ± 0.11" in browser.one("table").text
    browser.driver.switch_to.default_content()
    follow("geiping2022")
    follow("Figures")
    browser.wait("document.querySelector('table').innerText.includes('curves')")
    assert all(part in browser.one("table").text for part in ("comparison", "landscape"))
    browser.one("table a[iconname=eye]").click()
    shown = "image => image.src.includes('main_comparison.svg') && image.naturalWidth > 100"
    browser.wait(f"[...document.images].some({shown})")
    # Snakemake's own style sheet warns of itself.
    assert [entry for entry in browser.messages() if "tailwindcss" not in entry["message"]] == []
    assert browser.requests() == ({(world / "report.html").as_uri()}, set())
