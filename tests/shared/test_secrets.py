"""Secret parameters: used and compared, in no store and no journal in any spelling."""

from __future__ import annotations

import base64
import io
import pickle
import warnings
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from urllib.parse import quote, quote_plus

import cloudpickle
import dask
import pytest

import daskperiment
from daskperiment.recording.registry import close_recorders

TEXT = "hunter2 & Zq9/ü"
OTHER = "correct-horse/battery"


@dataclass(frozen=True)
class Login:
    """A user's own class with a secret in it."""

    user: str
    password: str


FORMS = {
    "str": (lambda text: text, lambda value: value),
    "bytes": (lambda text: text.encode(), lambda value: value.decode()),
    "dict": (lambda text: {"user": "me", "password": text}, lambda value: value["password"]),
    "dataclass": (lambda text: Login("me", text), lambda value: value.password),
    "nested": (lambda text: [("a", {"b": [text]})], lambda value: value[0][1]["b"][0]),
    "url": (lambda text: f"db://me:{quote(text, safe='')}@host/x", lambda value: value),
}


def spellings(text):
    """Give the bytes by which a text could be found."""
    data = text.encode()
    plain = [text, repr(text)[1:-1], quote(text), quote(text, safe=""), quote_plus(text)]
    found = [each.encode() for each in plain]
    # In the middle of other bytes, base64 begins anew every three of them.
    for shift in range(3):
        coded = base64.b64encode(bytes(shift) + data).rstrip(b"=")
        found.append(coded[4 if shift else 0 : -2])
    found += [repr(data)[2:-1].encode(), repr(repr(data))[3:-2].encode()]
    found += [data.hex().encode(), text.encode("utf-16-le"), text.encode("unicode_escape")]
    found += [pickle.dumps(text)[3:-2], cloudpickle.dumps(data)[3:-2]]
    return found


def leaks(content, *texts):
    """Give the names of what has any of some texts in any spelling."""
    return [(name, form) for name, data in content.items() for text in texts
            for form in spellings(text) if form in data]  # fmt: skip


def everything(place, journal_root):
    """Give all bytes of a store and of the journals."""
    found = dict(place.dump())
    roots = [journal_root, place.backend] if place.kind == "folder" else [journal_root]
    for root in roots:
        files = [path for path in root.rglob("*") if path.is_file()] if root.exists() else []
        found.update((str(path), path.read_bytes()) for path in files)
    return found


def study(backend, form):
    """Make an experiment whose steps take a secret in many ways, and a result that may fail."""
    ex = daskperiment.Experiment("study", backend=backend)
    make, text_of = FORMS[form]
    dsn = ex.parameter("dsn", secret=True)
    mode = ex.parameter("mode", default="work")

    @ex.parameter
    def derived(dsn):
        return {"inside": dsn}

    @ex.persist(reuse=True)
    def size(dsn, held, derived, *, by_name):
        assert text_of(dsn) == text_of(held[0]["x"]) == text_of(derived["inside"])
        return len(text_of(by_name))

    def joined(value):
        return [value, "and more"]

    @ex.result
    def total(size, dsn, mode, between):
        if mode == "fail":
            raise ConnectionError(f"cannot log in with {text_of(dsn)!r} as {between}")
        return size + len(between)

    between = dask.delayed(joined, pure=False)(dsn)
    s = total(size(dsn, [{"x": dsn}], derived, by_name=dsn), dsn, mode, between)
    return ex, s, make


@contextmanager
def _all_told(output):
    """Catch what is printed, and the warnings."""
    caught = warnings.catch_warnings(record=True)
    with redirect_stdout(output), redirect_stderr(output), caught as seen:
        warnings.simplefilter("always")
        yield seen


@pytest.mark.parametrize("form", FORMS)
def test_no_store_and_no_journal_has_a_secret(place, journal_root, form):
    """All bytes that are written and all texts that are shown are without it, however it fails."""
    output = io.StringIO()
    with _all_told(output) as seen:
        ex, s, make = study(place.backend, form)
        ex.set_parameters(dsn=make(TEXT))
        s.compute()
        other = s.bind(dsn=make(OTHER))
        other.compute(reuse=False)
        for result in (s, other):
            with pytest.raises(ConnectionError, match="cannot log in"):
                result.bind(mode="fail").compute()
        shown = [
            ex,
            s,
            other,
            ex.get_parameters(),
            ex.get_parameters(1),
            ex.compare(1, 2),
            ex.explain(other),
            ex.explain(2),
            ex.get_steps(),
            *ex.get_parameters(2).values(),
        ]
        pages = [each._repr_html_() for each in (ex, s, other, ex.compare(1, 2), ex.explain(s))]
        history = ex.get_history(verbose=True)
        print(
            *shown,
            *pages,
            history.to_string(),
            history.to_csv(),
            history.to_json(default_handler=str),
        )
        for trial in range(1, 5):
            print(ex.get_code(trial), ex.get_environment(trial, "git"))
        assert history["Description"].tolist()[2:] == [history["Description"][3]] * 2
        assert "<secret>" in history["Description"][3]
        # Whatever waits is looked for, and what was delivered.
        waiting = everything(place, journal_root)
        ex.flush()
        close_recorders()
        content = everything(place, journal_root)
    texts = "\n".join([output.getvalue(), *(str(each.message) for each in seen)])
    assert len(content) > 3
    for found in (waiting, content, {"output": texts.encode()}):
        assert leaks(found, TEXT, OTHER) == []


def test_the_search_finds_what_a_plain_parameter_leaves(place, journal_root):
    """The same search finds the value in all stores where the parameter is not secret."""
    ex = daskperiment.Experiment("plain", backend=place.backend)
    dsn = ex.parameter("dsn", default=TEXT)

    @ex.result
    def score(dsn):
        return len(dsn)

    score(dsn).compute()
    close_recorders()
    assert leaks(everything(place, journal_root), TEXT)


def test_a_secret_that_changed_runs_what_depends_on_it(place):
    """A change is a miss and is said by name; the same value is a hit, in a later process too."""
    ex, s, make = study(place.backend, "dict")
    ex.set_parameters(dsn=make(TEXT))
    s.compute()
    assert ex.explain(s).steps[0].verdict == "hit"
    changed = s.bind(dsn=make(OTHER))
    assert "parameter dsn changed (a secret)" in str(ex.explain(changed))
    changed.compute()
    comparison = ex.compare(1, 2)
    assert set(comparison.parameters) == {"dsn", "derived"}
    assert "dsn <secret> -> another secret" in comparison.explanation
    close_recorders()
    daskperiment.experiment._EXPERIMENTS.clear()
    ex, s, make = study(place.backend, "dict")
    ex.set_parameters(dsn=make(TEXT))
    assert ex.explain(s).steps[0].verdict == "hit"
    s.compute()
    assert ex.compare(1, 3).parameters == {}
    assert "parameter dsn changed (a secret)" in str(ex.explain(s.bind(dsn=make(OTHER + "!"))))


def test_with_another_key_nothing_is_said_to_have_changed(place):
    """A colleague's key makes secrets not comparable: they are neither changed nor the same."""
    ex, s, make = study(place.backend, "str")
    ex.set_parameters(dsn=make(TEXT))
    s.compute()
    with dask.config.set({"daskperiment.secret-key": "a colleague's"}):
        told = str(ex.explain(s))
        assert "perhaps parameter dsn" in told.replace("\n", " ")
        assert "changed (a secret)" not in told
        s.compute()
    comparison = ex.compare(1, 2)
    assert comparison.parameters == {}
    assert "dsn" not in comparison.same_parameters
    assert not comparison.identical
    assert not comparison.differs
    assert any("'dsn' is a secret that is not comparable" in line for line in comparison.problems)
    s.bind(dsn=make(OTHER + "longer")).compute()
    assert "perhaps argument dsn" in ex.compare(2, 3).explanation
    with dask.config.set({"daskperiment.secret-key": "a colleague's"}):
        assert ex.explain(s).steps[0].verdict == "hit"


def test_reproduce_asks_for_a_secret(place):
    """Without the value it says how to give it; with another one it says that it is another."""
    ex, s, make = study(place.backend, "str")
    s.bind(dsn=make(TEXT)).compute()
    with pytest.raises(daskperiment.errors.ReproductionError, match=r"Give it: bind\(dsn=\.\.\.\)"):
        s.reproduce(1)
    assert ex.trial_id == 1
    again = s.bind(dsn=make(TEXT)).reproduce(1)
    assert again.same_result
    assert again.parameters == {}
    assert again.notes == ("parameter 'derived' has no recorded value: it is computed anew",)
    assert "another one than in trial 1" in s.bind(dsn=make(OTHER)).reproduce(1).notes[0]
    with dask.config.set({"daskperiment.secret-key": "a colleague's"}):
        assert "is not known" in s.bind(dsn=make(TEXT)).reproduce(1).notes[0]


def test_a_sweep_over_secrets_keeps_none(place, journal_root):
    """Its table and its record are without them; to be resumed, it wants the space again."""
    ex, s, make = study(place.backend, "dict")
    space = {"dsn": [make(TEXT), make(OTHER)], "mode": ["work", "also"]}
    table = s.sweep(space)
    assert table["Success"].all()
    assert table["Result"].nunique() == 2
    assert ex.explain(s.bind(dsn=make(OTHER))).steps[0].verdict == "hit"
    sweep = table.attrs["sweep"]
    with pytest.raises(ValueError, match=r"is secret.*give the space again"):
        s.sweep(resume=sweep)
    assert len(s.sweep(space, resume=sweep)) == 4
    with (
        dask.config.set({"daskperiment.secret-key": "other"}),
        pytest.raises(ValueError, match="another key"),
    ):
        s.sweep(space, resume=sweep)
    changed = {**space, "dsn": [make(TEXT), make("third")]}
    with pytest.raises(ValueError, match="another space") as caught:
        s.sweep(changed, resume=sweep)
    close_recorders()
    content = {**everything(place, journal_root), "table": table.to_csv().encode()}
    assert leaks({**content, "error": str(caught.value).encode()}, TEXT, OTHER) == []


def test_a_resumed_sweep_asks_for_a_secret_that_does_not_vary(place):
    """The missing value is named; another one than before is refused without showing it."""
    _, s, make = study(place.backend, "str")
    bound = s.bind(dsn=make(TEXT))
    sweep = bound.sweep({"mode": ["work", "also"]}).attrs["sweep"]
    with pytest.raises(daskperiment.errors.ParameterUndefinedError, match="'dsn'"):
        s.sweep(resume=sweep)
    with pytest.raises(ValueError, match="another parameter 'dsn'") as caught:
        s.bind(dsn=make(OTHER)).sweep(resume=sweep)
    assert leaks({"error": str(caught.value).encode()}, TEXT, OTHER) == []
    assert len(bound.sweep(resume=sweep)) == 2
