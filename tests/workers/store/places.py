"""Stores of every kind, each with as many nodes as a test wants: a folder, S3's protocol over HTTP, and a file server's protocol."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from pathlib import Path

from autoopt.testing.s3 import S3Server
from autoopt.workers.store import LocalStore, RemoteStore, Store


def key(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def publish(store: Store, name: str, content: bytes = b"content") -> Path:
    with store.scratch() as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "file.bin").write_bytes(content)
        (folder / "odd [name] é.txt").write_text("odd")
        (folder / "empty").mkdir()
        return store.publish(key(name), folder)


class Place(ABC):
    """Where a store is kept; it can be opened from several nodes, and looked into."""

    @abstractmethod
    def open(self, node: str = "node") -> Store: ...

    @abstractmethod
    def kept(self) -> dict[str, bytes]:
        """All files that are kept for everybody, by path."""

    @abstractmethod
    def put(self, path: str, content: bytes | None) -> None:
        """Change one behind the store's back; None removes it."""


class FolderPlace(Place):
    def __init__(self, tmp_path: Path) -> None:
        self.root = tmp_path / "shared"

    def open(self, node: str = "node") -> Store:
        return LocalStore(self.root)

    def kept(self) -> dict[str, bytes]:
        return {str(path.relative_to(self.root)): path.read_bytes() for path in self.root.rglob("*") if path.is_file()}

    def put(self, path: str, content: bytes | None) -> None:
        if content is None:
            (self.root / path).unlink()
        else:
            (self.root / path).write_bytes(content)


class FileServerPlace(FolderPlace):
    """A protocol that has folders and renames, as SFTP, WebDAV and HDFS have."""

    def __init__(self, tmp_path: Path) -> None:
        super().__init__(tmp_path)
        self.caches = tmp_path / "caches"
        self.url = f"file://{self.root}"

    def open(self, node: str = "node") -> Store:
        (self.caches / node).mkdir(parents=True, exist_ok=True)
        return RemoteStore(self.url, self.caches / node)


class S3Place(Place):
    def __init__(self, tmp_path: Path, server: S3Server) -> None:
        self.server, self.bucket, self.caches = server, server.bucket(), tmp_path / "caches"
        self.url = server.url(self.bucket)

    def open(self, node: str = "node") -> RemoteStore:
        return RemoteStore(self.url, self.caches / node)

    def kept(self) -> dict[str, bytes]:
        pages = self.server.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        paths = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
        found = {path: self.server.client.get_object(Bucket=self.bucket, Key=path)["Body"].read() for path in paths}
        return {path.removeprefix("team/store/"): content for path, content in found.items()}

    def put(self, path: str, content: bytes | None) -> None:
        where = {"Bucket": self.bucket, "Key": f"team/store/{path}"}
        if content is None:
            self.server.client.delete_object(**where)
        else:
            self.server.client.put_object(**where, Body=content)
