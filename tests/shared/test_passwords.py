"""The password of a server is told to nobody but the server."""

from __future__ import annotations

import logging
import pickle
import traceback
import warnings
from urllib.parse import quote

import cloudpickle
import dask
import numpy as np
import pymongo
import pytest

import daskperiment
from daskperiment.errors import StoreError, StoreUnavailableError, StoreWarning
from tests.shared.conftest import open_again
from tests.store.mongo_server import running as mongo_server
from tests.store.patience import once_back
from tests.store.redis_server import redis_server, server_of_wheel

PASSWORD = "Pass/word @of% the:tests"
FORMS = [PASSWORD, quote(PASSWORD, safe=""), quote(PASSWORD), "Pass/word", "Pass%2Fword"]


class Protected:
    """A server with a password, and a way to read all that it holds."""

    def __init__(self, server, template, dump):
        self.server = server
        self.dump = dump
        self.right = template.format(quote(PASSWORD, safe=""))
        self.wrong = template.format(quote(PASSWORD + " not", safe=""))


@pytest.fixture(params=["redis", "mongo"])
def protected(request, tmp_path):
    """Run a server that asks for a password."""
    if request.param == "redis":
        options = ("--requirepass", PASSWORD)
        with redis_server(server_of_wheel(), tmp_path / "server", *options) as server:
            yield Protected(server, f"redis://:{{}}@127.0.0.1:{server.port}/0", dump_redis)
    else:
        with mongo_server(tmp_path / "server", auth=True) as server:
            # The first user may be made from this machine without one.
            with pymongo.MongoClient(server.host) as client:
                client.admin.command("createUser", "tester", pwd=PASSWORD, roles=["root"])
            template = f"mongodb://tester:{{}}@{server.host}/test?authSource=admin"
            yield Protected(server, template, dump_mongo)
    # What is left is told as a warning, because the server is gone.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StoreWarning)
        daskperiment.recording.registry.close_recorders()


def dump_redis(url):
    """Give all that a server of Redis holds as text."""
    import redis

    with redis.Redis.from_url(url) as client:
        return repr([client.dump(key) for key in client.scan_iter()])


def dump_mongo(url):
    """Give all that a database of MongoDB holds as text."""
    with pymongo.MongoClient(url) as client:
        database = client["test"]
        return repr([list(database[name].find()) for name in database.list_collection_names()])


def assert_clean(text):
    """No form of the password is in a text."""
    found = [form for form in FORMS if form in str(text)]
    assert not found, text


def everything_told(error):
    """Give all that an error tells when it is shown: its chain, notes and arguments."""
    texts = ["".join(traceback.format_exception(error))]
    while error is not None:
        texts += [str(error), repr(error), repr(error.args)]
        error = error.__cause__ or error.__context__
    return "\n".join(texts)


def define(ex):
    """Declare an experiment whose step persists an array."""

    @ex.persist
    def train(size):
        ex.save_metric("loss", 0, 1.0)
        return np.arange(size)

    @ex.result
    def total(array):
        return array.sum()

    return total(train(ex.parameter("size", default=1000)))


def test_password_shows_nowhere(protected, journal_root, caplog):
    """Not in what is shown, logged, warned of, recorded or written, with and without the server."""
    caplog.set_level(logging.DEBUG)
    with warnings.catch_warnings(record=True, action="always") as caught:
        ex = daskperiment.Experiment("secret", backend=protected.right)
        result = define(ex)
        result.compute()
        result.compute(scheduler="processes")
        shown = [repr(ex), ex._repr_html_(), repr(ex._store), str(ex._store), ex._store.address]
        shown += [repr(result), repr(result.dask.to_dict()), result._repr_html_()]
        definition = result.definition
        plan = ex._planner.plan(definition.template, definition.options, later=True)
        recorder = daskperiment.recording.registry.recorder_for(ex._store)
        shown += [repr(vars(ex)), repr(plan), repr(plan.source.request()), repr(recorder)]
        shown += [ex.get_environment(1), ex.get_code(1), repr(ex.compare(1, 2))]
        shown += [ex.get_history(verbose=True).to_csv(), ex.get_steps().to_csv()]
        shown += [daskperiment.list_experiments(protected.right).to_csv()]
        shown += [protected.dump(protected.right)]
        # A server that is there may need longer on a machine that has other work.
        with dask.config.set({"daskperiment.timeout": 1.0}):
            ex = open_again("secret", protected.right)
            ran = []

            @ex.result
            def through():
                protected.server.kill()
                return ran.append(1)

            once_back(lambda: through().compute())
            shown += [repr(ex)]
            for ask in (
                ex.flush,
                ex.get_history,
                through().compute,
                ex.delete,
                lambda: ex.trial_id,
            ):
                with pytest.raises(StoreUnavailableError) as failure:
                    ask()
                shown.append(everything_told(failure.value))
            daskperiment.recording.registry.close_recorders()
    assert any(issubclass(warning.category, StoreWarning) for warning in caught)
    shown += [str(warning.message) for warning in caught]
    shown += [record.getMessage() for record in caplog.records]
    shown += [path.read_bytes() for path in journal_root.rglob("*") if path.is_file()]
    shown += [str(path) for path in journal_root.rglob("*")]
    for text in shown:
        assert_clean(text)
    assert ran == [1]


def test_wrong_password(protected):
    """A server that refuses a password: the error does not tell which."""
    ex = daskperiment.Experiment("secret", backend=protected.wrong)
    with pytest.raises(StoreError) as failure:
        define(ex).compute()
    assert_clean(everything_told(failure.value))
    with pytest.raises(StoreError) as failure:
        daskperiment.list_experiments(protected.wrong)
    assert_clean(everything_told(failure.value))


@pytest.mark.parametrize("scheme", ["redis", "mongodb", "postgres", "mongodb+srv"])
@pytest.mark.parametrize("tail", ["", "/", "/a/b", "/a?b", ":x/0", "/x?ssl=1&timeout=x"])
def test_malformed_urls(scheme, tail):
    """A URL that cannot be used is refused without its password."""
    url = f"{scheme}://user:{quote(PASSWORD, safe='')}@127.0.0.1{tail}"
    try:
        ex = daskperiment.Experiment("secret", backend=url)
    except (ValueError, TypeError) as error:
        assert_clean(everything_told(error))
    else:
        assert_clean(repr(ex))


def test_pickles(protected):
    """What goes to a worker has the password, because the worker connects; handles' reprs do not.

    That are the experiment, the result, the plan of a trial and the handle of a running one. What
    stands in the store, or comes back as an answer, pickles without it.
    """
    ex = daskperiment.Experiment("secret", backend=protected.right)
    define(ex).compute()
    secret = [PASSWORD.encode(), quote(PASSWORD, safe="").encode()]
    assert any(form in cloudpickle.dumps(ex) for form in secret)
    copied = pickle.loads(pickle.dumps(ex._store))
    assert copied.state().latest == 1
    copied.close()
    for answer in (
        ex.get_history(verbose=True),
        ex.get_steps(),
        ex.get_parameters(1),
        ex.load_metric("loss", 1),
        ex.compare(1, 1),
        daskperiment.list_experiments(protected.right),
    ):
        assert not any(form in cloudpickle.dumps(answer) for form in secret)


def test_pickled_history_of_objects(protected):
    """A table of results that are no plain data pickles without the password, too."""
    ex = daskperiment.Experiment("secret", backend=protected.right)

    @ex.result
    def array():
        return np.arange(1000)

    array().compute()
    pickled = pickle.dumps(ex.get_history())
    assert PASSWORD.encode() not in pickled
    assert quote(PASSWORD, safe="").encode() not in pickled
