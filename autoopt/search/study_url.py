"""Where a job's study is kept: in the job's folder (a journal), or in a database that a URL names.

A URL may hold a password, and a job's files are read by many: what is kept of a URL is masked, and whoever opens the study
later brings the password again: with ``--study``, in ``$AUTOOPT_STUDY``, or by libpq's own means (``$PGPASSWORD``, ``~/.pgpass``).
Loads nothing heavy.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from autoopt.errors import UserError
from autoopt.workers.store.urls import HIDDEN, masked

VARIABLE = "AUTOOPT_STUDY"
JOURNAL = "journal"
"""In place of a URL: in the job's folder, whatever the variable says."""
POSTGRES, SQLITE = "postgresql+psycopg", "sqlite"
_SCHEMES = {"postgresql": POSTGRES, POSTGRES: POSTGRES, SQLITE: SQLITE}
_ALLOWED = (
    '"postgresql+psycopg://user:password@host:5432/database", "sqlite:////folder/study.db", '
    f'or "{JOURNAL}" for the job\'s own folder'
)
_HOST = re.compile(r"[\w.:-]*")


@dataclass(frozen=True)
class StudyUrl:
    """A study's database."""

    scheme: str
    """`POSTGRES` or `SQLITE`."""
    database: str
    """The database's name; the file's absolute path."""
    host: str = ""
    """Empty: libpq's default."""
    port: int | None = None
    user: str = ""
    password: str = field(default="", repr=False)
    options: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """What stood behind the question mark: libpq's parameters."""

    @property
    def full(self) -> str:
        """The URL, with its password: for the driver and nobody else."""
        if self.scheme == SQLITE:
            return f"{SQLITE}:///{self.database}"
        secret = f":{quote(self.password, safe='')}" if self.password else ""
        user = f"{quote(self.user, safe='')}{secret}@" if self.user or secret else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port is None else f":{self.port}"
        options = f"?{urlencode(self.options)}" if self.options else ""
        return f"{self.scheme}://{user}{host}{port}/{quote(self.database, safe='')}{options}"

    @property
    def shown(self) -> str:
        """The URL as it may be shown and stored."""
        return masked(self.full)

    def __str__(self) -> str:
        return self.shown

    @property
    def without_password(self) -> StudyUrl:
        """The same place, for whoever knows the password otherwise."""
        options = tuple(each for each in self.options if "pass" not in each[0].lower())
        return replace(self, password="", options=options)


def parse_study(given: str) -> StudyUrl:
    """Read a URL.

    Raises:
        UserError: it is none, or none of a database that can hold a study.
    """
    scheme, separator, _ = given.partition("://")
    if not separator or scheme not in _SCHEMES:
        shown = masked(given)
        message = f"the study {shown!r} cannot be used; allowed are {_ALLOWED}"
        raise UserError(message)
    return _sqlite(given) if scheme == SQLITE else _postgres(given)


def _sqlite(given: str) -> StudyUrl:
    path = given.removeprefix(f"{SQLITE}://")
    if not path.startswith("/") or path in {"/", "/:memory:"} or "?" in path:
        message = (
            f'the study {given!r} names no file; write "sqlite:////absolute/study.db" or "sqlite:///relative/study.db"'
        )
        raise UserError(message)
    # Absolute, because a job is resumed and reported from other folders.
    return StudyUrl(SQLITE, str(Path(path[1:]).expanduser().absolute()))


def _postgres(given: str) -> StudyUrl:
    try:
        parts = urlsplit(given)
        port = parts.port
        host = parts.hostname or ""
    except ValueError:
        raise _unreadable(given) from None  # Python's message holds a part of the URL, and that may be the password's
    database = unquote(parts.path[1:])
    if parts.fragment or "@" in parts.path or not _HOST.fullmatch(host):
        raise _unreadable(given)
    if not database or "/" in database:
        message = (
            f"the study {masked(given)!r} names no database; write {POSTGRES}://user:password@host:5432/database, "
            "and make the database with `createdb` where there is none yet"
        )
        raise UserError(message)
    try:
        options = tuple(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError:
        raise _unreadable(given) from None
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    return StudyUrl(POSTGRES, database, host, port, user, password, options)


def _hidden(given: str) -> str:
    """What can be shown of a URL that cannot be read: where its password ends is not known, so all up to the last @ is taken for it."""
    scheme, _, rest = given.partition("://")
    user, colon, _ = rest.partition(":")
    return f"{scheme}://{user}:{HIDDEN}@{rest.rpartition('@')[2]}" if colon and "@" in rest else masked(given)


def _unreadable(given: str) -> UserError:
    message = (
        f"the study's URL {_hidden(given)!r} cannot be read; write {POSTGRES}://user:password@host:5432/database, and in "
        "user and password %40 for @, %2F for /, %3A for :, %3F for ?, %23 for #, %25 for %"
    )
    return UserError(message)


def asked_study(given: str | None) -> StudyUrl | None:
    """Where a new job's study goes: as given, else by ``$AUTOOPT_STUDY``, else (None) into the job's folder.

    Raises:
        UserError: the URL cannot be used.
    """
    wanted = given or os.environ.get(VARIABLE) or JOURNAL
    return None if wanted == JOURNAL else parse_study(wanted)


def known_study(stored: str | None, given: str | None = None) -> StudyUrl | None:
    """Where a job's study is, with the password that its files do not hold; None: in its folder.

    Where neither ``given`` nor ``$AUTOOPT_STUDY`` has it, libpq may: it looks into ``$PGPASSWORD`` and ``~/.pgpass``.

    Args:
        stored: what the job's files say, masked.
        given: the URL of this command, if one was given.

    Raises:
        UserError: another study was given.
    """
    found = None if stored is None else parse_study(stored).without_password
    named = None if not given or given == JOURNAL else parse_study(given)
    if given and (named.without_password if named else None) != found:
        where = "in the job's folder" if stored is None else f"at {stored}"
        message = f"this job's study is {where}, not {masked(given)}; leave --study away, or begin another job there"
        raise UserError(message)
    by_variable = os.environ.get(VARIABLE, "")
    if named is None and found is not None and "://" in by_variable:
        usual = parse_study(by_variable)
        named = usual if usual.without_password == found else None
    return named or found
