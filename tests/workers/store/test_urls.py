"""What is shown of an address that has secrets in it."""

from __future__ import annotations

import itertools
from urllib.parse import quote, urlsplit

import pytest

from autoopt.workers.store import has_secret, is_url, masked, scrubbed

PASSWORDS = [
    "pw",
    "p@ss",
    "p:ss",
    "p/ss",
    "p?ss",
    "p#ss",
    "p%ss",
    "100%25",
    "pässwort",
    " ",
    "@",
    "@@:/",
    "a b&c=d",
    "x" * 200,
    "***x",
]
USERS = ["user", "us@er", "a:b", "AKIA/1"]
HOSTS = ["host", "host:5432", "[::1]", "[fe80::1%25eth0]:5432", "db.example.org", "10.0.0.1:9000", ""]
PATHS = ["", "/", "/db", "/a@b/c:d", "/p?sslmode=require", "?x=1&y=a@b", "/p#fragment@x"]
SCHEMES = ["postgresql+psycopg", "s3", "sftp", "https"]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_of_user_and_password_only_the_password_is_hidden(scheme: str) -> None:
    users, passwords = ([quote(part, safe="") for part in parts] for parts in (USERS, PASSWORDS))
    for user, password, host, path in itertools.product(users, passwords, HOSTS, PATHS):
        url = f"{scheme}://{user}:{password}@{host}{path}"
        assert masked(url) == f"{scheme}://{user}:***@{host}{path}"
        assert has_secret(url)
        # What a database's or a store's client takes for the password is what is hidden.
        assert urlsplit(url).password == password


@pytest.mark.parametrize("scheme", SCHEMES)
def test_an_address_without_secrets_is_shown_as_it_is(scheme: str) -> None:
    for host, path, user in itertools.product(
        HOSTS, [path for path in PATHS if "@" not in path], ["", "user@", "user:@"]
    ):
        url = f"{scheme}://{user}{host}{path}"
        assert masked(url) == url
        assert not has_secret(url)


@pytest.mark.parametrize("path", ["/a/b", "a:b@c", "store", "C:\\x", "/a/pass=word", "~/x", "", ".", "sqlite:x@y"])
def test_a_path_is_shown_as_it_is(path: str) -> None:
    assert masked(path) == path
    assert not has_secret(path)
    assert not is_url(path)


@pytest.mark.parametrize("password", ["ab/cd+ef", "ab?cd", "ab#cd", "12/ab", "/", "a@b/c", "a/b@c"])
def test_a_password_that_was_not_escaped_is_hidden_too(password: str) -> None:
    shown = masked(f"s3://AKIA:{password}@bucket/folder")
    assert shown.startswith("s3://AKIA:***@")
    assert all(part not in shown.removeprefix("s3://AKIA:***") for part in ("ab", "cd"))


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("password=x", "password=***"),
        ("a=1&secret=x&b=2", "a=1&secret=***&b=2"),
        ("sslmode=require;token=x", "sslmode=require;token=***"),
        ("key=AKIA&SECRET_KEY=x", "key=***&SECRET_KEY=***"),
        ("PassWord=a%26b", "PassWord=***"),
        ("pass%77ord=x", "pass%77ord=***"),
        ("password=", "password="),
        ("endpoint_url=http://user:pw@host:9000&x=1", "endpoint_url=http://user:***@host:9000&x=1"),
        ("endpoint_url=http%3A%2F%2Fuser%3Apw%40host", "endpoint_url=***"),
        ('client_kwargs={"aws_secret_access_key":"x"}', "client_kwargs=***"),
        ('client_kwargs={"region_name":"x"}', 'client_kwargs={"region_name":"x"}'),
        ("sslmode=require&connect_timeout=5", "sslmode=require&connect_timeout=5"),
    ],
)
def test_of_the_parameters_only_the_secret_ones_are_hidden(query: str, shown: str) -> None:
    assert masked(f"scheme://user@host/path?{query}") == f"scheme://user@host/path?{shown}"
    assert has_secret(f"scheme://host/path?{query}") == (query != shown)


def test_masking_twice_is_masking_once() -> None:
    for user, password, host in itertools.product(USERS, PASSWORDS, HOSTS):
        once = masked(f"s3://{quote(user, safe='')}:{quote(password, safe='')}@{host}/p?token=x")
        assert masked(once) == once


def test_an_errors_text_loses_the_secrets_as_they_stand_in_the_address_and_as_they_are() -> None:
    url = "postgresql://user:p%40ss%2Fword@host/db?token=tttt1"
    text = f"cannot connect to {url}: password p@ss/word (p%40ss%2Fword) refused, tttt1"
    shown = "postgresql://user:***@host/db?token=***"
    assert scrubbed(text, url) == f"cannot connect to {shown}: password *** (***) refused, ***"
    assert scrubbed("no secret", "/a/path") == "no secret"
