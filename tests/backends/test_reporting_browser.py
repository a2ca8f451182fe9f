"""The reports in a real browser: what is fetched, shown, readable and where it ends."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest
from conftest import QUICK_JOINT
from playwright.sync_api import Browser, Page, Route, sync_playwright
from report_samples import ENDS, STEPS, write_sample_comparison

from latsem.backends.log import read_log
from latsem.backends.reporting.comparison_report import write_comparison_report
from latsem.backends.reporting.numbers import number
from latsem.recipes import load
from latsem.recipes.evaluating import evaluate_run

PHONE, A4, DESKTOP = 360, 718, 1280
KINDS = ("run", "comparison")
SCHEMES = ("light", "dark")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Return a Chromium: the system's, or playwright's own."""
    with sync_playwright() as playwright:
        names = ("chromium", "chromium-browser", "google-chrome")
        own = playwright.chromium.executable_path
        path = next(filter(None, map(shutil.which, names)), own if Path(own).exists() else None)
        if path is None:
            problem = "no Chromium: install Debian's `chromium`, or run `playwright install chromium`"
            (pytest.fail if os.environ.get("CI") else pytest.skip)(problem)
        launched = playwright.chromium.launch(executable_path=path)
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return a real run of seconds, scored twice on its way and once again, and a comparison."""
    root = tmp_path_factory.mktemp("reports")
    recipe = load("pixel_coredi", [*QUICK_JOINT, "train.picture_every=2", "evaluate.every=2"])
    run = recipe.run(root=root, quiet=True).folder
    evaluate_run(run, ["evaluate.guided=true", "guidance.scale=3"])
    write_sample_comparison(root / "comparison")
    write_comparison_report(root / "comparison")
    return {"run": run, "comparison": root / "comparison"}


@dataclass
class Shown:
    """A report in a browser that has no network."""

    page: Page
    fetched: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def handle(self, route: Route) -> None:
        if route.request.url.startswith(("file:", "data:")):
            route.continue_()
        else:
            self.fetched.append(route.request.url)
            route.abort()


def show(browser: Browser, folder: Path, width: int = DESKTOP, scheme: str = "light", *, opened: bool = True) -> Shown:
    """Open a report, by default with everything unfolded."""
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)  # type: ignore[arg-type]
    shown = Shown(context.new_page())
    shown.page.route("**/*", shown.handle)
    shown.page.on("console", lambda message: shown.problems.append(message.text))
    shown.page.on("pageerror", lambda error: shown.problems.append(str(error)))
    shown.page.goto((folder / "report.html").as_uri())
    if opened:
        shown.page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    return shown


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", [PHONE, DESKTOP])
@pytest.mark.parametrize("kind", KINDS)
def test_a_page_is_whole_silent_and_no_wider_than_the_screen(
    browser: Browser, folders: dict[str, Path], kind: str, width: int, scheme: str
) -> None:
    shown = show(browser, folders[kind], width, scheme)
    widths = shown.page.evaluate("Array.from(document.images, image => image.complete ? image.naturalWidth : 0)")
    assert len(widths) == {"run": 5, "comparison": 3}[kind] and all(widths)
    assert shown.page.evaluate("document.documentElement.scrollWidth") <= width
    outside = f"""Array.from(document.querySelectorAll('h1, h2, h3, p, li, figure, figcaption, summary, dl, nav'))
        .filter(part => part.getBoundingClientRect().right > {width}).map(part => part.outerHTML)"""
    assert shown.page.evaluate(outside) == []
    assert not shown.fetched and not shown.problems
    shown.page.context.close()


def test_a_request_would_be_noticed(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("<img src='http://localhost:9/x.png'><script>throw new Error('x')</script>")
    shown = show(browser, tmp_path)
    shown.page.wait_for_load_state()
    assert shown.fetched == ["http://localhost:9/x.png"] and any("x" in problem for problem in shown.problems)


def test_a_run_shows_the_numbers_of_its_files(browser: Browser, folders: dict[str, Path]) -> None:
    folder = folders["run"]
    page = show(browser, folder).page
    records = [json.loads(path.read_text()) for path in sorted((folder / "evaluation").glob("*.json"))]
    assert len(records) == 3 and page.locator("td[data-protocol]").count() == sum(len(r["scores"]) for r in records)
    for record in records:
        for metric, value in record["scores"].items():
            cell = page.locator(f'td[data-step="{record["step"]}"][data-metric="{metric}"][data-value="{value}"]')
            assert cell.inner_text().split(" ")[0] == number(value)
    last = read_log(folder / "metrics.jsonl").objects[-1]
    shown = page.locator("[data-last]")
    values = {
        span.get_attribute("data-series"): span for span in shown.all() if span.get_attribute("data-series") in last
    }
    assert {"loss", "loss/image", "loss/semantic", "gradient_norm", "lr", "images_per_second"} <= set(values)
    for name in values.keys() & last.keys():
        span = values[name]
        assert float(span.get_attribute("data-last") or "nan") == last[name]
        assert span.inner_text() == number(last[name])
    resolved = json.loads((folder / "resolved.json").read_text())["resolved"]
    rows = page.locator(".opening .facts tr")
    assert dict(rows.evaluate_all("all => all.map(row => [...row.cells].map(cell => cell.innerText))")) == resolved
    assert page.locator("[data-finished]").inner_text().split() == ["finished", "4", "steps"]
    page.context.close()


def test_every_point_of_a_short_log_can_be_asked_for(browser: Browser, folders: dict[str, Path]) -> None:
    page = show(browser, folders["run"]).page
    figure = page.get_by_role("figure").filter(has=page.get_by_text("Loss", exact=True))
    lines = read_log(folders["run"] / "metrics.jsonl").objects
    titles = figure.locator("path.point title").all_text_contents()
    assert {f"loss, step {line['step']}: {number(line['loss'])}" for line in lines} <= set(titles)
    heights = {line["step"]: line["loss"] for line in lines}
    boxes = figure.locator("g.s0 path.point").evaluate_all("all => all.map(one => one.getBoundingClientRect().y)")
    assert (boxes[0] < boxes[1]) == (heights[2] > heights[4]), "higher is more"
    page.context.close()


def test_a_comparison_shows_the_numbers_of_its_file(browser: Browser, folders: dict[str, Path]) -> None:
    page = show(browser, folders["comparison"]).page
    table = json.loads((folders["comparison"] / "comparison.json").read_text())["tables"][0]
    for row in table["rows"]:
        for metric, score in row["final"].items():
            cell = page.locator(f'[data-table="1"][data-row="{row["name"]}"][data-metric="{metric}"]')
            assert float(cell.get_attribute("data-mean") or "nan") == score["mean"]
            mean, sign, spread = cell.inner_text().split(" ")
            assert mean == number(score["mean"]) and sign == "\u00b1"
            assert float(spread) == pytest.approx(score["spread"], rel=0.2)
    assert page.locator('[data-reaches="pixel_redi"]').first.inner_text() == "step 400, 5\u00d7 faster"
    assert page.locator('[data-reaches="pixel_coredi"]').first.inner_text() == "never"
    plot = page.locator("#table-1 figure.large .when-wide svg")
    counts = [
        plot.locator(kind).count() for kind in ("path.line", "path.thin", "path.point", "path.goal", "circle.cross")
    ]
    assert counts == [3, 9, 3 * len(STEPS), 1, 1]
    titles = plot.locator("path.point title").all_text_contents()
    mean = sum(curve["1000"]["frechet"] for curve in table["rows"][1]["curves"]) / 3
    assert f"pixel_redi, step 1,000: {number(mean)}" in titles
    sweep = page.get_by_role("figure").filter(has=page.locator("path.bar"))
    sweep = sweep.filter(has=page.get_by_text("frechet", exact=True))
    assert sweep.count() == 2 and sweep.first.locator("path.bar").count() == 6
    assert page.get_by_role("img", name=re.compile("generated by")).count() == len(ENDS)
    page.context.close()


@pytest.mark.parametrize("kind", KINDS)
def test_wide_tables_scroll_in_their_own_box(browser: Browser, folders: dict[str, Path], kind: str) -> None:
    page = show(browser, folders[kind], PHONE).page
    inside = "all => all.map(one => [one.scrollWidth > one.clientWidth, one.getBoundingClientRect().right])"
    boxes = page.locator(".scroll").evaluate_all(inside)
    assert boxes and all(right <= PHONE for _, right in boxes)
    assert any(scrolls for scrolls, _ in boxes) == (kind == "comparison")
    page.context.close()


@pytest.mark.parametrize("kind", KINDS)
def test_there_is_a_name_for_everything_that_is_seen(browser: Browser, folders: dict[str, Path], kind: str) -> None:
    page = show(browser, folders[kind]).page
    assert page.evaluate("Array.from(document.images).every(image => image.alt.length > 10)")
    assert page.evaluate("Array.from(document.querySelectorAll('figure')).every(f => f.querySelector('figcaption'))")
    assert page.evaluate(
        "Array.from(document.querySelectorAll('table')).every(t => t.caption && t.querySelector('th'))"
    )
    charts = "Array.from(document.querySelectorAll('svg.chart')).map(svg => svg.getAttribute('aria-label'))"
    assert all(" over " in label and " ends at " in label for label in page.evaluate(charts))
    links = page.locator("nav a").evaluate_all("all => all.map(one => document.querySelector(one.hash) !== null)")
    assert len(links) >= 2 and all(links)
    headings = page.locator("h1, h2, h3").evaluate_all("all => all.map(one => Number(one.tagName[1]))")
    assert headings[0] == 1 and all(after <= before + 1 for before, after in pairwise(headings))
    page.context.close()


COLOURS = """() => {
    const of = (query, property) => Array.from(document.querySelectorAll(query), part => {
        const shown = getComputedStyle(part);
        let behind = part;
        while (behind && getComputedStyle(behind).backgroundColor === 'rgba(0, 0, 0, 0)') behind = behind.parentElement;
        return [query, shown[property], getComputedStyle(behind || document.body).backgroundColor];
    });
    return {
        text: of('p, td, th, a, summary, code, figcaption, .muted, .badge, .tile-value, caption, li', 'color'),
        labels: of('.tick, .mark', 'fill'),
        lines: [...of('.line', 'stroke'), ...of('.point', 'fill')],
        page: getComputedStyle(document.body).backgroundColor,
    };
}"""


def luminance(colour: str) -> float:
    """Return WCAG's relative luminance of `rgb(r, g, b)`."""
    parts = [int(text) / 255 for text in re.findall(r"\d+", colour)[:3]]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_light_and_dark_are_both_readable(browser: Browser, folders: dict[str, Path], kind: str) -> None:
    """WCAG 2.2 AA: 4.5 to 1 for text, 3 to 1 for the lines of a chart."""
    backgrounds = {}
    for scheme in SCHEMES:
        shown = show(browser, folders[kind], scheme=scheme)
        colours = shown.page.evaluate(COLOURS)
        backgrounds[scheme] = colours["page"]
        for what, least in (("text", 4.5), ("labels", 4.5), ("lines", 3.0)):
            assert len(colours[what]) > 3
            poor = {tuple(found) for found in colours[what] if contrast(found[1], found[2]) < least}
            assert not poor, scheme
        shown.page.context.close()
    assert luminance(backgrounds["dark"]) < 0.05 and luminance(backgrounds["light"]) > 0.9


def test_all_series_colours_are_readable(browser: Browser, folders: dict[str, Path]) -> None:
    names = [f"--s{index}" for index in range(8)]
    read = f"{json.dumps(names)}.map(name => getComputedStyle(document.documentElement).getPropertyValue(name))"
    for scheme in SCHEMES:
        page = show(browser, folders["run"], scheme=scheme).page
        back = page.evaluate("getComputedStyle(document.body).backgroundColor")
        found = [f"rgb{tuple(bytes.fromhex(text.strip()[1:]))}" for text in page.evaluate(read)]
        assert len(set(found)) == 8 and all(contrast(colour, back) >= 3 for colour in found), scheme
        page.context.close()


@pytest.mark.parametrize("kind", KINDS)
def test_paper_is_light_and_unfolded(browser: Browser, folders: dict[str, Path], kind: str) -> None:
    page = show(browser, folders[kind], scheme="dark", opened=False).page
    hidden = "Array.from(document.querySelectorAll('details > :not(summary)')).filter(part => !part.checkVisibility())"
    assert page.evaluate(f"{hidden}.length") > 0
    page.emulate_media(media="print", color_scheme="dark")
    assert luminance(page.evaluate("getComputedStyle(document.body).backgroundColor")) > 0.9
    assert page.evaluate(f"{hidden}.length") == 0
    page.set_viewport_size({"width": A4, "height": 1000})
    assert page.evaluate("document.documentElement.scrollWidth") <= A4
    assert page.pdf(format="A4").startswith(b"%PDF")
    page.context.close()


def test_values_of_every_line_are_shown_where_the_pointer_is(browser: Browser, folders: dict[str, Path]) -> None:
    page = show(browser, folders["comparison"]).page
    plot = page.locator("#table-1 figure.large .when-wide svg")
    assert plot.locator(".at").count() == len(STEPS) and plot.locator(".told:visible").count() == 0
    rows = json.loads((folders["comparison"] / "comparison.json").read_text())["tables"][0]["rows"]
    for at, step in list(enumerate(STEPS))[::3]:
        plot.locator(".at .strip").nth(at).hover()
        means = [sum(curve[str(step)]["frechet"] for curve in row["curves"]) / 3 for row in rows]
        told = plot.locator(".told:visible").all_text_contents()
        lines = [f"{row['name']} {number(mean)}" for row, mean in zip(rows, means, strict=True)]
        assert told == [f"step {number(step)}", *lines]
    boxes = plot.locator(".told:visible").evaluate_all("all => all.map(one => one.getBoundingClientRect().right)")
    assert max(boxes) <= DESKTOP
    page.mouse.move(0, 0)
    assert plot.locator(".told:visible").count() == 0
    page.context.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_chart_and_a_picture_can_be_enlarged(browser: Browser, folders: dict[str, Path], kind: str) -> None:
    page = show(browser, folders[kind]).page
    whole = page.locator("main").evaluate("one => one.getBoundingClientRect().width")
    charts, pictures = ".charts > figure", ".gallery > .picture" if kind == "comparison" else ".opening .picture"
    for name in (charts, pictures):
        figure = page.locator(name).first
        before = figure.bounding_box()
        figure.get_by_label("enlarge").check()
        after = figure.bounding_box()
        assert before and after and before["width"] < 0.6 * whole < 0.98 * whole < after["width"], name
        figure.get_by_label("enlarge").uncheck()
        again = figure.bounding_box()
        assert again and (again["width"], again["height"]) == (before["width"], before["height"])
    assert page.evaluate("document.documentElement.scrollWidth") <= DESKTOP
    page.context.close()


def test_a_phone_sees_the_numbers_of_a_comparison_and_whose_they_are(
    browser: Browser, folders: dict[str, Path]
) -> None:
    page = show(browser, folders["comparison"], PHONE).page
    for name in ENDS:
        cell = page.locator(f'[data-table="1"][data-row="{name}"][data-metric="frechet"]')
        box = cell.bounding_box()
        title = page.locator("#table-1 .named").get_by_text(name, exact=True).bounding_box()
        assert box and title and box["x"] >= 0 and box["x"] + box["width"] <= PHONE / 2
        assert 0 < box["y"] - title["y"] < 60, "its name is above it"
    assert page.locator("#table-1 .compared .n:visible").count() == 0
    page.context.close()
    wide = show(browser, folders["comparison"]).page
    assert wide.locator(".named:visible").count() == 0 and wide.locator("#table-1 .compared .n:visible").count() == 4
    wide.context.close()


def test_a_sweep_is_a_table_too_and_settings_that_differ_are_named(browser: Browser, folders: dict[str, Path]) -> None:
    page = show(browser, folders["comparison"]).page
    table = json.loads((folders["comparison"] / "comparison.json").read_text())["tables"][0]
    for sweep in table["sweeps"]:
        for row in sweep["rows"]:
            cells = page.locator(f'[data-sweep="{sweep["key"]}"][data-name="{row["name"]}"]')
            means = [str(scores["frechet"]["mean"]) if scores else "" for scores in row["scores"]]
            assert cells.evaluate_all("all => all.map(one => one.dataset.swept)") == means
            assert cells.first.inner_text().split(" ")[0] == number(row["scores"][0]["frechet"]["mean"])
    shown = page.locator(".settings tbody tr").evaluate_all(
        "all => all.map(row => [...row.cells].map(c => c.innerText))"
    )
    assert shown == [["encoder", "none", "", ""], ["encoder.name", "", "shapes_vit", "shapes_dino"]]
    page.context.close()


def test_a_run_names_its_parts_at_the_top(browser: Browser, folders: dict[str, Path]) -> None:
    page = show(browser, folders["run"]).page
    recipe = json.loads((folders["run"] / "resolved.json").read_text())["recipe"]
    parts = page.locator("header .parts li").all_inner_texts()
    kinds = ("data", "tokenizer", "encoder", "projection", "denoiser", "process", "guidance", "sampler")
    assert sorted(parts) == sorted(f"{kind} {recipe[kind]['name']}" for kind in kinds)
    page.context.close()
