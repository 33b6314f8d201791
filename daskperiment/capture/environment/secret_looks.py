"""What looks like a secret: files by their names, and texts by the words and forms in them.

It errs on the side of leaving out. What is left out is only what a trial would have recorded of
the user's repository: no step needs it.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from daskperiment.formatting import listed

__all__ = ["SecretFinder", "is_secret_name", "is_secret_text", "split_diff"]

# Compiled at the first look, which many a process never takes.
_VERBOSE: Final = re.VERBOSE | re.IGNORECASE
_NAMES: Final = r"""
    \.env(\.(?!(example|sample|template|dist)$).*)? | .+\.env | \.envrc
    | id_(rsa|dsa|ecdsa|ed25519)(_sk)?(?!\.pub$)(\..*)?
    | .*\.(pem|key|p8|p12|pfx|ppk|jks|keystore|kdbx?|gpg|asc|age|ovpn|tfvars|token|secrets?)
    | [._]netrc | \.pgpass | \.my\.cnf | \.htpasswd | \.npmrc | \.pypirc | \.git-credentials
    | \.dockercfg | kubeconfig | (.*[._-])?credentials?([._-](?!.*\.?pyx?$).*)? | client_secret.*
    | [._-]?(secrets?|passwords?|passwd|tokens?|api[_-]?keys?)(\.(?!pyx?$|ipynb$).*)?
    | service[_-]?account.*\.json
    """
_FOLDERS: Final = frozenset({".aws", ".azure", ".gnupg", ".kube", ".ssh", ".secrets"})

_WORD: Final = (
    r"(?:pass(?:wd|word|phrase|code)|pwd|secret|token|credential|authorization|dsn|"
    r"(?:api|access|private|account|auth|encryption|signing)[_-]?key)"
)
_TEXTS: Final = rf"""
    -----BEGIN\ [A-Z0-9 ]*PRIVATE\ KEY
    | \b(?:AKIA|ASIA)[0-9A-Z]{{16}}
    | \b(?:gh[oprsu]_|github_pat_|glpat-|xox[a-z]-|hf_|npm_|pypi-|dop_v1_)[\w-]{{10}}
    | \b[sr]k_(?:live|test)_\w{{10}} | \bsk-[\w-]{{20}}
    | \bAIza[\w-]{{30}} | \bya29\.[\w-]{{10}} | \beyJ[\w-]{{8,}}\.eyJ[\w-]{{8,}}
    | \bBearer\ [\w.~+/-]{{8}} | \bAccountKey=
    | ://[^\s/:@"'<>{{}}]{{0,99}}:[^\s@"'<>{{}}]{{1,199}}@
    | {_WORD}\w{{0,40}}\\?["']?\]?\s*(?::[^="'\n]{{0,40}})?[:=,]\s*
      (?:\w+\s*=\s*)?[bfru]{{0,2}}\\?["'][^"'\s]{{3}}
    """
_SETTINGS: Final = (
    rf"^[+\- ]?\s*(?:export\s+)?[\w.-]{{0,80}}{_WORD}[\w.-]{{0,80}}\s*[:=]\s*[^\s\"'$<{{}}]{{3}}"
)
"""A line of a file that is no program: there, what is set needs no quotes."""
_PROGRAM: Final = r".*\.(py[ix]?|ipynb|r|jl|sql|md|rst|c|h|cpp|hpp|cu|js|ts|go|rs|java)"


def is_secret_name(path: str) -> bool:
    """Whether a file is one that holds secrets, by its name or its folders.

    Examples
    --------
    >>> is_secret_name("deploy/.env"), is_secret_name("deploy/.env.example")
    (True, False)
    """
    *folders, name = path.strip('"').split("/")
    return re.fullmatch(_NAMES, name, _VERBOSE) is not None or not _FOLDERS.isdisjoint(folders)


def is_secret_text(text: str, path: str) -> bool:
    """Whether a text, or changes of it, has keys, tokens or passwords in it."""
    if re.search(_TEXTS, text, _VERBOSE) is not None:
        return True
    if re.fullmatch(_PROGRAM, path.lower()) is not None:
        return False
    return re.search(_SETTINGS, text, re.IGNORECASE | re.MULTILINE) is not None


def split_diff(diff: str) -> list[str]:
    """Return the sections of a diff, one for each file."""
    # Lines of a file begin with a sign or a blank there.
    return [part for part in re.split(r"^(?=diff --)", diff, flags=re.MULTILINE) if part]


class _Section(NamedTuple):
    """What a section of a diff says of one file."""

    name: str
    paths: list[str]

    @classmethod
    def of(cls, text: str) -> _Section:
        """Read the names of the file, before and after, from the lines above its changes."""
        head = re.split(r"^@@", text, maxsplit=1, flags=re.MULTILINE)[0]
        found = re.findall(r"^(?:---|\+\+\+|rename \w+|copy \w+) (.+?)\t?$", head, re.MULTILINE)
        named = [path.strip('"') for path in found if path != "/dev/null"]
        # Of binary and empty files the first line alone has the name.
        words = [word.strip('"') for word in head.partition("\n")[0].split()[2:]]
        name = (named or words or ["?"])[-1]
        return cls(name.removeprefix("b/"), named or words)


class SecretFinder:
    """Leaves out what looks like a secret, and remembers the names of the files it was in."""

    def __init__(self) -> None:
        self.names: dict[str, None] = {}

    def without_secrets(self, diff: str) -> str:
        """Return a diff without the files that look like secrets or have one in their changes.

        All changes of such a file go, so that the rest of the diff can still be applied.
        """
        return "".join(part for part in split_diff(diff) if not self._is_secret(part))

    def _is_secret(self, part: str) -> bool:
        section = _Section.of(part)
        secret = any(map(is_secret_name, section.paths)) or is_secret_text(part, section.name)
        if secret:
            self.names[section.name] = None
        return secret

    def leaves_out(self, path: str) -> bool:
        """Whether a file looks like a secret by its name; then even its digest stays out."""
        secret = is_secret_name(path)
        if secret:
            self.names[path] = None
        return secret

    def note(self) -> str:
        """Return what was left out, or nothing."""
        if not self.names:
            return ""
        return f"left out, as it looks like secrets: {listed(sorted(self.names), 5)}"
