"""What looks like a secret is no part of the recorded state of a repository."""

from __future__ import annotations

import json

import pytest

from daskperiment.capture.environment import git as git_module
from daskperiment.capture.environment.secret_looks import is_secret_name, is_secret_text
from tests.capture.test_git import git, repo, state  # noqa: F401  # two of them are fixtures

SECRET = "Geheim7Wort"

NAMES = [
    ".env",
    ".env.local",
    "prod.env",
    ".ENV",
    ".envrc",
    "x/id_rsa",
    "id_ed25519",
    "server.pem",
    "tls.key",
    ".netrc",
    "a/.ssh/config",
    "credentials.json",
    "aws_credentials",
    "secrets.yaml",
    "service-account-1.json",
    ".npmrc",
    "password.txt",
    "token",
    "api_key.txt",
    ".streamlit/secrets.toml",
    "store.kdbx",
]
HARMLESS_NAMES = [
    ".env.example",
    "id_rsa.pub",
    "train.py",
    "keys.py",
    "environment.yml",
    "secrets.py",
    "env.py",
    "tokenizer.json",
    "tokens.py",
    "a/token.py",
    "monkey.txt",
    "data.csv",
    "credentials.py",
]

LINES = [
    (f"password = '{SECRET}'", "a.py"),
    (f'password: str = "{SECRET}"', "a.py"),
    (f'os.environ["API_KEY"] = "{SECRET}"', "a.py"),
    (f"connect(user='me', password='{SECRET}')", "a.py"),
    (f'ex.parameter("password", default="{SECRET}")', "a.py"),
    (f'add_argument("--token", default="{SECRET}")', "a.py"),
    (f"url = 'postgres://me:{SECRET}@host/db'", "a.py"),
    (f"url = 'redis://:{SECRET}@host/0'", "a.py"),
    (f'dsn = "host=a password={SECRET}"', "a.py"),
    (f"-----BEGIN RSA PRIVATE KEY-----{SECRET}", "a.txt"),
    (f"AKIAIOSFODNN7EXAMPLE {SECRET}", "a.txt"),
    (f"ghp_0123456789abcdefghij{SECRET}", "a.md"),
    (f"sk-proj-0123456789abcdef{SECRET}", "a.txt"),
    (f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.{SECRET}", "a.txt"),
    (f"Authorization: Bearer {SECRET}", "a.txt"),
    (f"db_password: {SECRET}", "c.yaml"),
    (f"export SECRET_KEY={SECRET}", "c.sh"),
    (json.dumps({"source": [f'password = "{SECRET}"']}), "a.ipynb"),
    (json.dumps({"token": SECRET}), "a.json"),
]
HARMLESS_LINES = [
    ("token = make_token()", "a.py"),
    ("    token=request.token, result=1", "a.py"),
    ('token = os.environ["ACCESS"]', "a.py"),
    ("tokens = ['a']", "a.py"),
    ("tokenize(text, 'utf8')", "a.py"),
    ("sk_learn_something_long_name = 1", "a.py"),
    ("lr: 0.1", "c.yaml"),
    ("password: ${PASSWORD}", "c.yaml"),
    ("http://localhost:8080/a", "a.txt"),
    ("mail me@host.org", "a.md"),
]


def test_names():
    """Files of keys and credentials are known by their names; programs and examples are not."""
    assert [name for name in NAMES if not is_secret_name(name)] == []
    assert [name for name in HARMLESS_NAMES if is_secret_name(name)] == []


@pytest.mark.parametrize("sign", ["", "+", "-", " "])
def test_lines(sign):
    """Keys, tokens and passwords in lines are known by their forms; mere code stays."""
    assert [line for line, file in LINES if not is_secret_text(sign + line, file)] == []
    assert [line for line, file in HARMLESS_LINES if is_secret_text(sign + line, file)] == []


@pytest.mark.parametrize("name", NAMES)
def test_untracked_files(repo, name):  # noqa: F811
    """Of an untracked file that looks like a secret only the name stands in a note."""
    (repo / name).parent.mkdir(parents=True, exist_ok=True)
    (repo / name).write_text(SECRET)
    (repo / "other.txt").write_text("x")
    found = state(repo)
    assert found["untracked"].endswith("  other.txt")
    assert len(found["untracked"].splitlines()) == 1
    assert found["note"] == f"left out, as it looks like secrets: {name}"


def test_changes_of_secret_files(git, repo):  # noqa: F811
    """Changes of secret files are left out, renamed, removed, binary and oddly named ones too."""
    names = [".env", "old.pem", "gone.key", "bin.p12", "ä secret.key", "\tx.pem"]
    for name in names:
        (repo / name).write_text(f"first {SECRET}\n" * 20)
    git("add", "-A")
    git("commit", "-q", "-m", "careless")
    git("mv", "old.pem", "new.txt")
    (repo / "gone.key").unlink()
    (repo / "bin.p12").write_bytes(b"\0\1")
    for name in (".env", "ä secret.key", "\tx.pem", "new.txt"):
        (repo / name).write_text(f"second {SECRET}\n" + f"first {SECRET}\n" * 19)
    (repo / "train.py").write_text("x = 2\n")
    found = state(repo)
    assert SECRET not in json.dumps(found, ensure_ascii=False)
    assert found["diff"].count("diff --git") == 1
    assert "+x = 2\n" in found["diff"]
    assert ".env" in found["note"]
    assert found["dirty"] == "yes"


def test_changed_lines(git, repo):  # noqa: F811
    """All changes of a file with a secret in them are left out; the rest can be applied."""
    for number, (line, file) in enumerate(LINES):
        (repo / f"{number}{file}").write_text(f"{line}\n" if number % 2 else "x\n")
    git("add", "-A")
    git("commit", "-q", "-m", "careless")
    for number, (line, file) in enumerate(LINES):
        (repo / f"{number}{file}").write_text("x\n" if number % 2 else f"{line}\n")
    (repo / "train.py").write_text("x = 2\n")
    found = state(repo)
    assert SECRET not in json.dumps(found)
    assert f"and {len(LINES) - 5} more" in found["note"]
    git("checkout", "train.py")
    (repo / "saved.diff").write_text(found["diff"])
    git("apply", "saved.diff")
    assert (repo / "train.py").read_text() == "x = 2\n"


def test_no_digest_by_which_to_guess(repo, monkeypatch):  # noqa: F811
    """Of a diff that is too long, and has a secret in it, no digest of the whole is kept."""
    monkeypatch.setattr(git_module, "DIFF_LIMIT", 1000)
    (repo / "train.py").write_text(f"password = '{SECRET}'\n" + "x = 2\n" * 10_000)
    note = state(repo)["note"]
    assert "cut off after 1000 bytes" in note
    assert "SHA-256" not in note
