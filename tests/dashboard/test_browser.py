"""The page in a real browser: every view, live, hostile, empty and broken."""

from __future__ import annotations

from urllib.parse import quote

from daskperiment import dashboard
from daskperiment.dashboard import first_reading, trial_index
from daskperiment.errors import StoreError
from daskperiment.records import Node
from tests.dashboard.plants import FIELDS
from tests.dashboard.stores import PLANTS, Away, FolderLab, Held
from tests.history.lab import NOW, Lab


def test_from_all_experiments_to_one_trial(site):
    """One clicks from the experiments to the table and on to a trial, and goes back."""
    page = site.open("", ".list")
    listed = site.texts(".list tbody th")
    assert listed == sorted(listed)
    assert {"hostile", "lost", "plain", "planted", "study", "wide"} <= set(listed)
    site.picture("experiments")
    page.click("text=study")
    page.wait_for_selector("tr[data-trial='28']")
    assert "26 succeeded" not in page.title()
    site.address("experiment=study")
    page.click("[aria-label='Trial 3']")
    page.wait_for_selector("svg.graph")
    site.address("tab=trial", "trial=3")
    assert page.title() == "Trial 3 · study · daskperiment"
    page.go_back()
    page.wait_for_selector("tr[data-trial='28']")
    page.go_back()
    page.wait_for_selector(".list")


def test_table(site):
    """The table is filtered, sorted and cut into pages, and the address says how."""
    page = site.open("?experiment=study&size=25", "tr[data-trial='28']")
    assert site.texts(".range") == ["1–25 of 28"]
    page.click("[aria-label='Next page']")
    page.wait_for_selector("tr[data-trial='1']")
    site.address("start=25")
    page.fill("#filter", "lr > 0.3 kernel=a")
    site.until(lambda: site.texts("tbody .id") == ["28", "25", "22", "19", "16"])
    site.address("filter=lr")
    assert site.texts(".became code") == ["lr > 0.3 and kernel == 'a'"]
    page.click("thead button:has-text('Result')")
    site.until(lambda: site.texts("tbody .id") == ["16", "19", "22", "25", "28"])
    assert page.get_attribute("th.result", "aria-sort") == "descending"
    page.click("thead button:has-text('Result')")
    site.until(lambda: site.texts("tbody .id") == ["25", "22", "19", "16", "28"])
    page.click("button:has-text('failed')")
    site.until(lambda: site.texts("tbody .id") == ["28"])
    site.picture("table-filtered")
    page.fill("#filter", "nonsense=1")
    page.wait_for_selector("text=There is no column 'nonsense'")
    page.fill("#filter", "no such words")
    page.wait_for_selector("text=No trial fits")
    page.click("text=Show all trials")
    site.until(lambda: site.texts(".range") == ["1–25 of 28"])
    assert page.input_value("#filter") == ""


def test_columns(site):
    """Columns can be hidden and shown, and parameters that are the same can be left out."""
    page = site.open("?experiment=study", "tr[data-trial='28']")
    assert "data" in site.texts("thead th")
    page.click("text=Only what differs")
    site.until(lambda: "data" not in site.texts("thead th"))
    page.click("summary:has-text('Columns')")
    page.uncheck("[data-key='column depth']")
    site.until(lambda: "depth" not in site.texts("thead th"))
    page.check("[data-key='column Host']")
    site.until(lambda: "Host" in site.texts("thead th"))
    site.address("differ=1", "hide=depth", "hide=Host")
    page.keyboard.press("Escape")
    page.reload()
    page.wait_for_selector("tr[data-trial='28']")
    headers = site.texts("thead th")
    assert "Host" in headers
    assert "depth" not in headers


def test_keyboard(site):
    """Trials are selected with the keyboard alone, and the focus stays where it was."""
    page = site.open("?experiment=study", "tr[data-trial='28']")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.focus("[aria-label='Select trial 28']")
    page.keyboard.press("Space")
    page.wait_for_selector("text=1 selected")
    focused = "document.activeElement.getAttribute('aria-label')"
    assert page.evaluate(focused) == "Select trial 28"
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_selector("svg.graph")


def test_metrics(site):
    """Selected trials' curves can be smoothed, put over time and on logarithmic axes."""
    page = site.open("?experiment=study", "tr[data-trial='28']")
    for trial in (5, 9):
        page.check(f"[aria-label='Select trial {trial}']")
    page.wait_for_selector(".selection a:has-text('Compare')")
    # The link is followed before the table has heard of the third.
    page.evaluate("""
        document.querySelector("[aria-label='Select trial 13']").click();
        document.querySelector(".selection a").click();
    """)
    site.address("tab=metrics", "trials=5,9,13")
    site.drawn(2)
    assert site.texts(".charts h2") == ["accuracy", "loss"]
    assert [text.split()[1].strip("×") for text in site.texts(".legend li")] == ["5", "9", "13"]
    length = "Bokeh.documents.map((one) => one.get_model_by_name('trial5').data.x.length)"
    assert page.evaluate(length) == [40, 40]
    page.click("button:has-text('Time')")
    page.click("button:has-text('log y')")
    page.focus("input[type=range]")
    page.keyboard.press("End")
    site.address("over=time", "logy=1", "smooth=0.99")
    page.click("[data-key='metric accuracy']")
    site.address("metric=loss")
    site.until(lambda: site.texts(".charts h2") == ["loss"])
    site.drawn(1)
    site.until(lambda: page.evaluate("Bokeh.documents.length") == 1)
    page.click("[aria-label='Take trial 9 away']")
    site.address("trials=5,13")
    site.until(lambda: len(site.texts(".legend li")) == 2)  # the charts are made anew with it
    page.click("summary:has-text('Figures')")
    page.wait_for_selector("[aria-label='Figures of loss'] >> text=40")
    site.picture("metrics")


def test_metrics_without_a_selection(site):
    """Without selected trials the latest are offered."""
    page = site.open("?experiment=study&tab=metrics", "text=No trial selected")
    page.click("text=Take the latest 5")
    site.drawn(2)
    site.address("trials=28,27,26,25,24")
    site.turn("?experiment=plain&tab=metrics&trials=1", "text=No metrics")
    site.turn("?experiment=study&tab=metrics&trials=1,99", "text=There is no trial 99")
    site.drawn(2)


def test_parameters(site):
    """Parameters stand against results as points and as lines; a click opens the trial."""
    page = site.open("?experiment=study&tab=parameters", ".plot")
    site.drawn(2)
    site.picture("parameters")
    page.select_option("[data-key=across]", "kernel")
    page.select_option("[data-key=up]", "metrics.loss")
    site.address("across=kernel", "up=metrics.loss")
    page.wait_for_selector("[aria-label='metrics.loss against kernel']")
    site.drawn(2)
    page.select_option("[data-key=across]", "lr")
    page.wait_for_selector("[aria-label='metrics.loss against lr']")
    page.click("button:has-text('log x')")
    page.wait_for_selector("text=The x axis stays linear")
    site.until(lambda: page.evaluate("Bokeh.documents.length") == 2)
    page.evaluate("Bokeh.documents[0].get_model_by_name('points').selected.indices = [3]")
    site.address("tab=trial", "trial=4")
    page.wait_for_selector("svg.graph")


def test_compare(site):
    """Two selected trials are compared, with the step where they part first."""
    page = site.open("?experiment=study&trials=3,28", "tr[data-trial='28']")
    page.click(".selection a:has-text('Compare')")
    page.wait_for_selector(".origin")
    assert "scale" in site.texts(".origin th")[0]
    assert "Trial 28 differs from trial 3 first in step 'scale'" in site.texts(".lead")[0]
    site.picture("compare")
    page.fill("#trials", "3,4")
    page.click("form button:has-text('Compare')")
    page.wait_for_selector("text=Trials 3 and 4")
    page.click("text=Swap")
    page.wait_for_selector("text=Trials 4 and 3")
    page.fill("#trials", "4,99")
    page.click("form button:has-text('Compare')")
    page.wait_for_selector("text=There is no trial 99")
    site.turn("?experiment=study&tab=compare&trials=1", "text=Two trials or more, please")


def test_code_differences(site, folder):
    """Code, packages and uncommitted changes that differ are shown in colour."""
    lab = FolderLab(folder / "changes")
    for number in range(2):
        trial = lab.open(
            {"a": 1},
            graph=[Node("fit", "fit")],
            sources={"fit": f"def fit(x):\n    return x + {number}\n"},
            environment={
                "git": {"diff": f"+new {number}"},
                "requirements": {"numpy": f"2.{number}"},
            },
        )
        lab.step(trial, "fit", output=f"o{number}", code=f"s-{number}")
        lab.succeed(trial, number)
    page = site.open("?experiment=changes&tab=compare&trials=1,2", ".diff .added")
    assert site.texts(".diff .removed")[0] == "-    return x + 0"
    assert "+    return x + 1" in site.texts(".diff .added")
    assert "+new 1" in site.texts(".diff .added")
    colour = "getComputedStyle(document.querySelector('.diff .added')).backgroundColor"
    assert page.evaluate(colour) != page.evaluate(colour.replace("added", "removed"))
    page.wait_for_selector("text=2.1")
    site.picture("compare-code")


def test_one_trial(site):
    """A failed trial tells its parameters, graph, timeline, traceback, code and values."""
    page = site.open("?experiment=study&tab=trial&trial=28", "svg.graph")
    assert page.locator(".node").count() == 4
    assert page.locator(".node.failed").count() == 1
    assert page.locator(".node.waiting").count() == 1
    assert page.locator(".track .run").count() == 3
    assert "ValueError: lr 0.675 diverges" in site.texts(".traceback")[0]
    assert "numpy.ndarray" in " ".join(site.texts("[aria-label='Persisted values']"))
    assert "def fit(values, depth, lr):" in " ".join(site.texts("pre.code"))
    page.click("summary:has-text('Packages')")
    page.wait_for_selector(".packages >> text=dask==")
    site.picture("trial-failed")
    page.click("[data-key=before]")
    page.wait_for_selector("main h1:has-text('Trial 27')")
    page.click("text=Compare with 26")
    page.wait_for_selector("text=Trials 26 and 27")


def test_running_trials_move(site, folder):
    """A trial that runs shows its new points, its end and its steps without a reload."""
    lab = FolderLab(folder / "live")
    trial = lab.open({"a": 1}, graph=[Node("fit", "fit")])
    lab.points(trial, ("loss", 0, 1.0))
    table = site.open("?experiment=live", ".badge.running")
    assert "1" in site.texts("td.metric")
    lab.points(trial, ("loss", 1, 0.125))
    table.wait_for_selector("td.metric:has-text('0.125')")
    site.turn("?experiment=live&tab=metrics&trials=1", ".plot")
    site.drawn(1)
    data = "Bokeh.documents[0].get_model_by_name('trial1').data.y"
    assert table.evaluate(data) == [1.0, 0.125]
    canvas = table.query_selector(".plot canvas")
    lab.points(trial, ("loss", 2, 0.5))
    site.until(lambda: table.evaluate(data) == [1.0, 0.125, 0.5])
    assert canvas.evaluate("one => one.isConnected")
    lab.points(trial, ("new", 0, 7.0))
    site.until(lambda: site.texts(".charts h2") == ["loss", "new"])
    site.drawn(2)
    lab.points(trial, ("system/cpu_percent", 5, 50.0))
    table.wait_for_selector("section.system h2:has-text('Machine')")
    site.until(lambda: "cpu_percent" in "".join(site.texts("section.system .card h2")[:1]))
    assert not table.query_selector(".charts:not(section.system .charts) >> text=cpu_percent")
    site.turn("?experiment=live&tab=trial&trial=1", ".node.waiting")
    table.wait_for_selector(".unfinished >> text=fit ready to run since")
    lab.beat(trial, NOW, fit=NOW)
    table.wait_for_selector(".node.running")
    table.wait_for_selector(".unfinished >> text=fit running since 14 Nov 2023")
    lab.step(trial, "fit")
    table.wait_for_selector(".node.succeeded")
    lab.succeed(trial, 3)
    table.wait_for_selector(".badge.succeeded")
    table.wait_for_selector("pre.result:has-text('3')")


def test_names_of_running_steps_are_text(site, folder):
    """What a process tells of the steps that it runs stands there as it is, markup or not."""
    lab = FolderLab(folder / "telling")
    trial = lab.open({}, graph=[Node(PLANTS, "fit"), Node("مرحبا 🚀", "fit", [PLANTS])])
    lab.beat(trial, NOW, "7.x", **{PLANTS: NOW, "مرحبا 🚀": 1e300, "x" * 300: NOW})
    page = site.open("?experiment=telling&tab=trial&trial=1", ".node.running")
    now = page.locator(".unfinished").text_content()
    assert f"{PLANTS} running since 14 Nov 2023" in now
    assert "مرحبا 🚀 waits for its inputs" in now
    assert "xxx" not in now


def test_a_new_experiment_appears(site, folder):
    """The list of experiments and a table without trials fill by themselves."""
    page = site.open("", ".list")
    lab = FolderLab(folder / "arriving")
    lab.open({})
    page.wait_for_selector(".list >> text=arriving")


ALL_HIDDEN = "&hide=Host&hide=User&hide=Step&hide=Sweep&hide=Seed&hide=Notes"
HOSTILE = [
    (f"?experiment=hostile{ALL_HIDDEN}", "tr[data-trial='3']"),
    ("?experiment=hostile&tab=metrics&trials=1,2,3&smooth=0.5", ".plot canvas"),
    ("?experiment=hostile&tab=parameters", ".plot canvas"),
    ("?experiment=hostile&tab=compare&trials=1,2", "text=Trials 1 and 2"),
    ("?experiment=hostile&tab=compare&trials=2,3", "text=Trials 2 and 3"),
    ("?experiment=hostile&tab=trial&trial=1", ".traceback"),
    ("?experiment=hostile&tab=trial&trial=2", "pre.result"),
    (f"?experiment={quote(PLANTS)}", "text=No such experiment"),
]


def test_nothing_of_a_store_runs(site):
    """Markup, formulas and templates in every field stand there as text, and nothing runs."""
    for query, wait in HOSTILE:
        page = site.turn(query, wait)
        site.until(lambda page=page: "<script>" in page.locator("main").text_content())
        open_all = "document.querySelectorAll('details').forEach((one) => { one.open = true; })"
        page.evaluate(open_all)
        if "parameters" in query:
            site.drawn(2)
            page.mouse.move(640, 500)
            page.select_option("[data-key=across]", index=1)
            site.address("across=")
            site.until(lambda page=page: page.evaluate("Bokeh.documents.length") == 2)
        if "tab=trial" in query:
            assert _not_shown(page.locator("main").text_content(), query) == []
        site.check()


def _not_shown(content: str, query: str) -> list[str]:
    """Name the planted fields of a trial that the page does not show as they are."""
    fields = ["name", "key", "last", "host", "user", "thread", "worker", "category", "fact"]
    fields += ["fact's", "code", "result step", "sweep", "package"]
    fields += ["failure"] if "trial=1" in query else ["repr"]
    # A value's repr is recorded in short.
    return [field for field in fields if f"{field} {PLANTS}"[:60] not in content]


PLANTED = [
    (f"?experiment=planted{ALL_HIDDEN}", "tr[data-trial='3']"),
    ("?experiment=planted&filter=%7B%7Bb%7D%7D%3D1", "text=There is no column"),
    ("?experiment=planted&filter=%3Cscript%3E", "tr[data-trial='3']"),
    ("?experiment=planted&tab=metrics&trials=1,2", ".plot canvas"),
    ("?experiment=planted&tab=parameters", ".plot canvas"),
    ("?experiment=planted&tab=compare&trials=1,2", "text=Trials 1 and 2"),
    ("?experiment=planted&tab=compare&trials=2,3", "text=Trials 2 and 3"),
    ("?experiment=planted&tab=trial&trial=1", ".traceback"),
    ("?experiment=planted&tab=trial&trial=2", "pre.result"),
]
INWARD = {
    # Digests and fingerprints, of which only the equality counts, and what tells kernels apart.
    "Begun.token", "Begun.code", "Begun.environment", "Begun.graph", "Origin.boot",
    "ObjectRef.digest", "Function.fingerprint", "StepCode.fingerprint", "StepCode.constants",
    "StepRun.code", "StepRun.inputs", "StepRun.output", "StepRun.cache_key", "StepRun.kept",
    # The key of a step, and the description of a failure, hold these; of points numbers are drawn.
    "Node.step", "Node.steps", "StepRun.step", "Impurity.step", "StepCode.functions",
    "StepCode.packages", "Failure.type", "Point.epoch", "Point.value",
    # A value that shows more stands in its place; arguments and files are shown where they were
    # taken, by the runs of the steps.
    "Ended.value", "Node.literals", "Node.parts", "Node.beside", "Node.ignored", "Begun.files",
    "Argument.data", "CodeInside.constants", "CodeInside.functions", "CodeInside.packages",
    "StepCode.data", "StepCode.states", "Begun.unreached", "Argument.fingerprint",
    "FileState.digest", "FileState.step", "FileState.relative", "FileState.left", "Curation.untags",
    # What tells equal submissions and hosts, and what was signed; clocks are named in warnings.
    "Begun.submission", "Begun.code_hash", "Begun.hashes", "Begun.signature", "StepRun.signature",
    "StepCode.clocks", "ObjectRef.python", "ObjectRef.mark", "StepRun.serial", "Ended.serial",
    "Artifact.signature", "Artifact.serial", "Curation.signature", "Curation.serial",
    "Impurity.signature", "Impurity.serial", "ObjectRef.format",
    "ObjectRef.seal", "ObjectRef.parts", "ObjectRef.number",
    # A picture stands for itself, and so does a page, whose name is its preview.
    "Artifact.value", "Artifact.file", "Artifact.thumbnail", "Preview.text",
    "Ended.signature", "Computed.serial", "Computed.signature",
}  # fmt: skip


def test_every_text_of_every_record(site):
    """Each text that a record can hold is shown as text or kept inward, and nothing of it runs."""
    content = ""
    for query, wait in PLANTED:
        page = site.turn(query, wait)
        if "canvas" in wait:
            site.drawn(1)
        page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        content += page.evaluate("""() => document.body.textContent
          + [...document.querySelectorAll('[title]')].map((one) => one.title).join(" ")""")
        site.check()
    fields = {field for field in FIELDS if not field.endswith(" key") and field not in INWARD}
    missing = sorted(field for field in fields if f"{field} <script>" not in content)
    assert missing == [], " ".join(missing)
    assert {field for field in INWARD if f"{field} <script>" in content} == set()


def test_from_a_lost_trial_to_what_went_on_from_it_and_back(site):
    """A trial that went on from another one and that one are one click from each other."""
    page = site.open("?experiment=lost&tab=trial&trial=1", "text=no sign of life")
    page.click("dt:has-text('Gone on with') + dd a")
    site.until(lambda: page.title() == "Trial 2 · lost · daskperiment")
    site.address("trial=2")
    page.click("dt:has-text('Goes on from') + dd a")
    site.until(lambda: page.title() == "Trial 1 · lost · daskperiment")
    page.wait_for_selector(".badge.lost")


def test_what_is_lost_and_what_is_not_there(site):
    """A lost trial, an unknown experiment and an unknown trial are told in words."""
    page = site.open("?experiment=lost&tab=trial&trial=1", "text=no sign of life")
    site.picture("lost")
    assert page.locator(".badge.lost").count() == 1
    site.turn("?experiment=lost", "td .badge.lost")
    site.turn("?experiment=nothing", "text=No such experiment")
    page.click("main a")
    page.wait_for_selector(".list")
    site.turn("?experiment=study&tab=trial&trial=99", "text=this experiment has trials 1 to 28")
    site.turn("?experiment=study&tab=trial&trial=x", "text=A trial has a number from 1")
    site.turn("?experiment=plain&tab=parameters", "text=No parameters")


def test_an_empty_store(visit, tmp_path):
    """A store without experiments says how the first one comes."""
    with dashboard.start(tmp_path / "none", port=0) as server:
        site = visit(server)
        page = site.open("", "text=No experiment yet")
        site.picture("empty")
        assert not (tmp_path / "none").exists()
        lab = FolderLab(tmp_path / "none" / "first")
        lab.open({})
        page.wait_for_selector(".list >> text=first")
        page.goto("about:blank")


def test_no_trial_yet(visit):
    """An experiment without trials says so, and shows the first as it begins."""
    lab = Lab()
    with dashboard.start(lab.store, experiment="young", port=0) as server:
        site = visit(server)
        page = site.open("?experiment=young", "text=No trial yet")
        lab.begin({"a": 1})
        page.wait_for_selector("tr[data-trial='1']")
        page.goto("about:blank")


def test_a_store_that_goes_away(visit):
    """While the store is away, what was there stays with a word, and comes to life again."""
    lab = Lab()
    lab.run(1, a=1)
    store = Away(lab.store)
    with dashboard.start(store, experiment="remote", port=0) as server:
        site = visit(server)
        page = site.open("?experiment=remote", "tr[data-trial='1']")
        store.gone = True
        page.wait_for_selector(".banner >> text=The store is away")
        assert page.locator("tr[data-trial='1']").is_visible()
        site.picture("away")
        page.reload()
        page.wait_for_selector("main >> text=The store is away")
        store.gone = False
        page.wait_for_selector("tr[data-trial='1']")
        site.until(lambda: page.locator(".banner").is_hidden())
        page.goto("about:blank")


def test_a_long_history(visit, monkeypatch):
    """While all trials are read the latest stand there, with a word, and then all do."""
    monkeypatch.setattr(trial_index, "_LONG", 20)
    monkeypatch.setattr(trial_index, "_LATEST", 2)
    monkeypatch.setattr(first_reading, "_PAUSE", 0.0)
    lab = Lab()
    for number in range(40):
        lab.run(number, a=number)
    store = Held(lab.store)
    with dashboard.start(store, experiment="long", port=0) as server:
        site = visit(server)
        page = site.open("?experiment=long&filter=a<2", "text=of 40 trials are read")
        assert "None of the latest" in page.locator(".notice").text_content()
        site.turn("?experiment=long", "tr[data-trial='40']")
        site.picture("long")
        store.fault = StoreError("the disk fails")
        store.let_go.set()
        page.wait_for_selector("text=Older trials cannot be read: the disk fails")
        assert page.locator("tr[data-trial='40']").is_visible()
        store.fault = None
        page.wait_for_selector(".heading >> text=40 trials")
        assert not page.locator("progress").is_visible()
        site.turn("?experiment=long&filter=a<2", "tr[data-trial='1']")
        page.goto("about:blank")


def test_a_server_that_was_stopped(visit, folder):
    """When the server is gone, the page says so and keeps what it shows."""
    server = dashboard.start(folder, port=0)
    site = visit(server)
    page = site.open("?experiment=study", "tr[data-trial='28']")
    server.stop()
    page.wait_for_selector(".banner >> text=The dashboard was stopped")
    assert page.locator("tr[data-trial='28']").is_visible()
    site.trouble = [text for text in site.trouble if "ERR_" not in text]


def test_colours_can_be_chosen(site):
    """The button goes through light and dark, charts follow, and a reload keeps the choice."""
    page = site.open("?experiment=study&tab=metrics&trials=3", ".plot")
    site.drawn(2)
    ink = "Bokeh.documents[1]?.roots()[0].below[0].major_label_text_color"
    before = page.evaluate(ink)
    page.click("#theme")
    page.click("#theme")
    assert page.get_attribute("#theme", "aria-label") == "Colours: dark"
    site.until(lambda: page.evaluate(ink) not in (None, before))
    page.reload()
    page.wait_for_selector("html[data-theme=dark]")
    site.drawn(2)
    page.click("#theme")
    site.until(lambda: page.evaluate("document.documentElement.dataset.theme") is None)


def test_a_token_in_the_address(visit, folder):
    """The whole address opens a dashboard with a token, which does not stay in the address."""
    token = "a-token-of-the-tests"
    with dashboard.start(folder, port=0, token=token, experiment="study") as server:
        site = visit(server)
        page = site.page
        page.goto(server.url)
        page.wait_for_selector("tr[data-trial='28']")
        assert "token" not in page.url
        page.goto("about:blank")


def test_another_site_reads_nothing(browser, server, folder):
    """A page of another origin can neither fetch an answer nor open a websocket."""
    lab = Lab()
    with dashboard.start(lab.store, experiment="other", port=0) as other:
        page = browser.new_page()
        # Its own policy would forbid asking elsewhere already; the server must refuse as well.
        page.goto("about:blank")
        page.goto(f"{other.url}static/icon.svg")
        script = """async (address) => {
          const told = [];
          try { await (await fetch(address + "api/experiments")).text(); told.push("fetched"); }
          catch { told.push("refused"); }
          told.push(await new Promise((done) => {
            let socket;
            try { socket = new WebSocket(address.replace("http", "ws") + "api/experiments"); }
            catch { done("refused"); return; }
            socket.onopen = () => done("opened");
            socket.onerror = () => done("refused");
          }));
          return told;
        }"""
        assert page.evaluate(script, server.url) == ["refused", "refused"]
        page.close()
