"""The page in a real browser with 41 parameters and 60 trials of 200 epochs."""

from __future__ import annotations

from tests.dashboard.pages import PAUSES, SWIFT
from tests.dashboard.stores import FolderLab

TABLE = "?experiment=wide"
ROW = "tr[data-trial='60']"


def heads(site):
    return [text.rstrip("↑↓") for text in site.texts("thead th")][1:]


def test_results_stand_in_sight(site):
    """Results and metrics come first, then parameters that differ; head and first column stay."""
    page = site.open(TABLE, ROW)
    assert heads(site)[:6] == ["Trial", "Status", "Result.f1", "Result.cost.s", "acc", "loss"]
    assert heads(site)[6:10] == ["lr", "depth", "kind", "batch"]
    at = "document.querySelector('thead .result').getBoundingClientRect().left"
    assert page.evaluate(at) < 600
    site.picture("wide")
    page.evaluate("document.querySelector('.trials').scrollTo(3000, 900)")
    places = """() => ["thead th:nth-child(2)", "tbody tr:last-child .id", ".trials"]
      .map((one) => document.querySelector(one).getBoundingClientRect())
      .map(({ top, left }) => [Math.round(top), Math.round(left)])"""
    head, first, box = page.evaluate(places)
    assert head[0] - box[0] <= 1
    assert 0 <= first[1] - box[1] <= 60
    assert head[1] == first[1]


def test_numbers_are_short_and_copied_in_full(site):
    """Numbers stand on the right in short; pointing shows the whole one, and copying takes it."""
    page = site.open(TABLE + "&filter=Result.f1>0.9&sort=-Result.f1", "td.number.result")
    cell = page.locator("td.number.result").first
    assert cell.text_content() == "0.983333"
    assert cell.get_attribute("title") == "0.9833333343333333"
    assert cell.evaluate("one => getComputedStyle(one).textAlign") == "right"
    copied = page.evaluate("""() => {
      const cell = document.querySelector("td.number.result");
      getSelection().selectAllChildren(cell);
      const clipboardData = new DataTransfer();
      const event = new ClipboardEvent("copy", { clipboardData, bubbles: true, cancelable: true });
      document.dispatchEvent(event);
      return event.clipboardData.getData("text/plain");
    }""")
    assert copied == "0.9833333343333333"


def test_columns_are_pinned_and_moved(site):
    """A column that is pinned stands beside the first; one that is moved changes its place."""
    page = site.open(TABLE, ROW)
    page.click("summary:has-text('Columns')")
    page.click("[data-key='pin depth']")
    site.until(lambda: heads(site)[:2] == ["Trial", "depth"])
    page.click("[data-key='up lr']")
    site.until(lambda: heads(site).index("lr") == heads(site).index("loss") - 1)
    page.uncheck("[data-key='column kind']")
    site.until(lambda: "kind" not in heads(site))
    site.address("pin=depth", "order=", "hide=kind")
    before = heads(site)
    page.reload()
    page.wait_for_selector(ROW)
    assert heads(site) == before
    for _ in range(3):
        page.go_back()
    site.until(lambda: heads(site)[1] == "Status" and "kind" in heads(site))


def test_trials_are_grouped(site):
    """Grouped by a parameter there is a line for each value, with mean and deviation."""
    page = site.open(TABLE, ROW)
    page.select_option("#group", "kind")
    page.wait_for_selector("table.groups")
    site.address("group=kind")
    assert len(site.texts("table.groups tbody tr")) == 3
    assert " ± " in site.texts("table.groups tbody td")[1]
    page.click("[data-key='group b']")
    site.until(lambda: site.texts(".range") == ["1–20 of 20"])
    assert page.input_value("#filter") == "kind == 'b'"


def test_all_that_a_filter_finds_is_selected(site):
    """One button selects all trials of the filter, and their views take them."""
    page = site.open(TABLE + "&size=25&filter=depth+<+3", "tbody tr")
    page.check("[data-key=all]")
    page.click("[data-key='all found']")
    page.wait_for_selector("text=36 selected")
    page.click(".selection a:has-text('Metrics')")
    site.drawn(2)
    page.wait_for_selector("text=of 36 trials")
    page.click("[data-key=band]")
    page.wait_for_selector("text=The line is the mean")
    site.drawn(2)
    site.until(lambda: page.evaluate("Bokeh.documents.length") == 2)
    means = "Bokeh.documents[0].get_model_by_name('band').data.x.length"
    assert page.evaluate(means) == 200
    site.picture("wide-band")
    page.go_back()
    page.wait_for_selector(".shades")


def test_archived_trials_are_hidden_unless_asked(site):
    """What is archived is left out, and there when it is asked for; tags are told."""
    page = site.open(TABLE + "&sort=trial", "tr[data-trial='3']")
    assert page.locator("tr[data-trial='4']").count() == 0
    assert "baseline" in site.texts("tr[data-trial='3'] td")
    page.click("[data-key=archived]")
    page.wait_for_selector("tr[data-trial='4'] >> text=archived")


def test_experiments_are_searched_and_sorted(site):
    """The list of experiments is searched by name and sorted by the number of trials."""
    page = site.open("", ".list")
    page.click("[data-key='by trials']")
    site.until(lambda: site.texts(".list tbody th")[0] == "wide")
    page.fill("#search", "PLA")
    site.until(lambda: site.texts(".list tbody th") == ["planted", "plain"])
    page.fill("#search", "nothing like it")
    page.wait_for_selector("text=No experiment fits")


def test_nan_and_infinite_points_are_told(site):
    """Points that are nan or infinite are counted and marked; dashes are told by the legend."""
    page = site.open(TABLE + "&tab=metrics&trials=1-7,59,60&metric=acc", ".plot canvas")
    site.drawn(1)
    page.wait_for_selector("text=1 nan and 1 infinite among the points")
    marks = "Bokeh.documents[0].get_model_by_name('odd60').data"
    assert page.evaluate(f"[...{marks}.x, ...{marks}.what, ...{marks}.sign]") == [150, "nan", "x"]
    dashes = "one => one.getAttribute('stroke-dasharray')"
    lines = page.locator(".legend line")
    assert lines.nth(0).evaluate(dashes) is None
    assert lines.nth(6).evaluate(dashes) == "7 4"


def test_one_trial_has_its_curves(site):
    """A trial's page has its curves, tags, notes, what runs since when, and lines to paste."""
    page = site.open(TABLE + "&tab=trial&trial=60", ".curves .plot canvas")
    site.drawn(2)
    page.wait_for_selector(".unfinished >> text=s running since")
    site.until(
        lambda: "loss 1.5" in " ".join(site.texts(".lastpoints li")) or site.texts(".lastpoints li")
    )
    assert page.locator(".node.running").count() == 1
    assert "ex.load_metric('acc', 60)" in " ".join(site.texts("pre"))
    site.picture("wide-trial")
    site.turn(TABLE + "&tab=trial&trial=3", "text=a note")
    site.drawn(2)


def test_several_are_compared(site):
    """Any number of trials stand side by side, results by their keys and with differences."""
    page = site.open(TABLE + "&tab=compare&trials=1-5", "text=5 trials")
    assert len(site.texts(".lead")) == 4
    outcome = page.locator("[aria-label=Outcome]")
    assert "+0.1167 (+1.17e+10 %)" in outcome.text_content()
    assert "Result.cost.s" in outcome.text_content()
    site.picture("wide-compare")
    page.fill("#trials", "1, 2")
    page.click("form button:has-text('Compare')")
    page.wait_for_selector("text=Trials 1 and 2")


def test_parameters_against_two_results(site):
    """Two results have a front; parameters are ranked; a box along an axis brushes trials."""
    page = site.open(
        TABLE + "&tab=parameters&across==Result.cost.s&bestacross=min&up=Result.f1", ".plot"
    )
    site.drawn(2)
    page.wait_for_selector("text=Pareto front")
    page.wait_for_selector(".importance >> text=of 58 trials")
    page.evaluate("""() => {
      const crossings = Bokeh.documents[1].get_model_by_name("crossings");
      const { axis, place } = crossings.data;
      crossings.selected.indices = [...axis.keys()].filter((i) => axis[i] === 0 && place[i] === 1);
    }""")
    page.wait_for_selector("text=15 brushed")
    site.picture("wide-parameters")
    page.click("text=Select them >> nth=0")
    site.address("trials=")


def test_back_goes_back_one_step(site):
    """Sorting, filtering and turning a page are one step each, and Back undoes the last."""
    page = site.open(TABLE + "&size=25", ROW)
    page.click("thead button:has-text('depth')")
    site.address("sort=-depth")
    page.focus("#filter")
    page.keyboard.type("depth > 1")
    site.address("filter=depth")
    site.until(lambda: "36" in site.texts(".range")[0] or "35" in site.texts(".range")[0])
    page.click("[aria-label='Next page']")
    site.address("start=25")
    page.go_back()
    site.until(lambda: "start=" not in page.url)
    page.go_back()
    site.until(lambda: "filter=" not in page.url and page.input_value("#filter") == "")
    page.go_back()
    site.until(lambda: "sort=" not in page.url)


def test_pages_that_are_open_before_a_trial_begins(site, folder):
    """The pages of an experiment, a trial, its metrics and a comparison fill by themselves.

    They ask for what is to come once a second, however long it does not.
    """
    site.page.add_init_script(PAUSES + SWIFT)
    page = site.open("?experiment=later&tab=trial&trial=1", "text=No such experiment")
    lab = FolderLab(folder / "later")
    first = lab.open({"a": 1})
    page.wait_for_selector("main h1:has-text('Trial 1')")
    site.turn("?experiment=later&tab=metrics&trials=2", "text=There is no trial 2 yet")
    lab.points(lab.open({"a": 2}), ("loss", 0, 1.0), ("loss", 1, 0.5))
    page.wait_for_selector(".plot canvas")
    site.drawn(1)
    site.turn("?experiment=later&tab=compare&trials=1,3", "text=No such trial")
    lab.succeed(first, 1)
    lab.open({"a": 3})
    page.wait_for_selector("main h1:has-text('Trials 1 and 3')")
    site.turn("?experiment=later&tab=trial&trial=4", "text=No such trial")
    lab.open({"a": 4})
    page.wait_for_selector("main h1:has-text('Trial 4')")
    pauses = page.evaluate("window.pauses")
    assert len(pauses) >= 4
    assert max(pauses) <= 1000


def test_what_drawing_costs_is_no_reason_to_ask_later(site, folder):
    """New points are asked for a second later, though each drawing takes one itself."""
    lab = FolderLab(folder / "growing")
    trial = lab.open({"a": 1})
    lab.points(trial, ("loss", 0, 0.0))
    page = site.open("?experiment=growing&tab=metrics&trials=1", ".plot canvas")
    site.drawn(1)
    page.wait_for_selector(".live.live")
    slow = """() => {
      window.pauses = [];
      const later = window.setTimeout;
      window.setTimeout = (call, pause) => {
        window.pauses.push(pause);
        return later(call, pause);
      };
      Bokeh.documents[0].get_model_by_name("trial1").properties.data.change.connect(() => {
        const end = performance.now() + 1000;
        while (performance.now() < end);
      });
    }"""
    page.evaluate(slow)
    last = "Bokeh.documents[0].get_model_by_name('trial1').data.y.at(-1)"
    for number in range(2):
        lab.points(trial, ("loss", 1 + number, 7.0 + number))
        site.until(lambda number=number: page.evaluate(last) == 7 + number)
    page.wait_for_timeout(300)
    # Longer ones are those of the test's own waiting.
    assert max(pause for pause in page.evaluate("window.pauses") if pause < 20_000) <= 1000


def test_on_a_phone(site):
    """On a phone nothing is wider than the screen, and what is long is cut or scrolled to."""
    page = site.page
    page.set_viewport_size({"width": 375, "height": 812})
    views = [("", "tbody tr"), ("&tab=parameters", ".plot canvas"),
             ("&tab=compare&trials=1-4", ".lead"), ("&tab=trial&trial=60", ".curves canvas"),
             ("&group=kind", "table.groups")]  # fmt: skip
    for query, wait in views:
        site.turn(TABLE + query, wait)
        assert page.evaluate("document.documentElement.scrollWidth") <= 375, query
        site.picture(f"phone-wide{query.replace('&', '-').replace('=', '-')}")
    label = page.get_attribute(".brand", "aria-label")
    assert label == "daskperiment: all experiments"


def test_times_have_their_zone(site):
    """Every time that is written out says in which zone it is."""
    page = site.open(TABLE + "&tab=trial&trial=1", ".facts")
    facts = page.locator(".facts dd").all_text_contents()
    zones = [one for one in facts if "2023" in one]
    assert zones
    assert all(one.split()[-1][:3] in ("UTC", "GMT") or one[-1].isalpha() for one in zones)
