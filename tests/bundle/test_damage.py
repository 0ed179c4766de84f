"""What a damaged or hostile bundle can do: be refused, in words, before anything of it is opened."""

import hashlib
import json
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import cloudpickle
import pytest
import torch
from torch import nn

from autoopt.bundle import checksums, load, manifest
from autoopt.errors import BundleError


def flip(bundle: Path) -> None:
    path = bundle / "artifact" / "model.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def link_out(bundle: Path) -> None:
    path = bundle / "artifact" / "model.onnx"
    path.rename(bundle.parent / "outside.onnx")
    path.symlink_to(bundle.parent / "outside.onnx")


def link_folder(bundle: Path) -> None:
    (bundle / "artifact").rename(bundle.parent / "outside")
    (bundle / "artifact").symlink_to(bundle.parent / "outside")


def list_outside(bundle: Path) -> None:
    outside = bundle.parent / "outside.txt"
    outside.write_text("x")
    digest = hashlib.sha256(b"x").hexdigest()
    with (bundle / "SHA256SUMS").open("a") as file:
        file.write(f"{digest}  ../outside.txt\n")


def list_absolute(bundle: Path) -> None:
    with (bundle / "SHA256SUMS").open("a") as file:
        file.write(f"{'0' * 64}  /etc/passwd\n")


def pipe(bundle: Path) -> None:
    os.mkfifo(bundle / "artifact" / "pipe")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (flip, "model.onnx is not what was exported"),
        (lambda bundle: (bundle / "artifact" / "model.onnx").unlink(), "model.onnx is missing"),
        (lambda bundle: (bundle / "artifact" / "extra.so").touch(), "extra.so does not belong"),
        (lambda bundle: (bundle / "SHA256SUMS").unlink(), "no SHA256SUMS"),
        (lambda bundle: (bundle / "SHA256SUMS").write_bytes(b"\xff\xfe"), "no text"),
        (lambda bundle: (bundle / "SHA256SUMS").write_text("hello\n"), "no checksum"),
        (link_out, "link or no regular file"),
        (link_folder, "link or no regular file"),
        (list_outside, "not inside it"),
        (list_absolute, "not inside it"),
        (pipe, "no regular file"),
    ],
)
def test_a_damaged_bundle_is_refused(bundle: Path, damage: Callable[[Path], object], message: str) -> None:
    damage(bundle)
    with pytest.raises(BundleError, match=message):
        load(bundle)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "upgrade autoopt"),
        ({"kind": "cake"}, "is something else"),
        ({"candidate": 3}, "bundle.json cannot be read"),
        ({"candidate": {"model": [], "deployment": {"engine": "warp"}}}, "unknown engine 'warp'"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_refused(bundle: Path, change: dict[str, object], message: str) -> None:
    data = json.loads((bundle / "bundle.json").read_text())
    (bundle / "bundle.json").write_text(json.dumps(data | change))
    checksums.write(bundle)
    with pytest.raises(BundleError, match=message):
        load(bundle)


def test_half_a_manifest_is_refused(bundle: Path) -> None:
    (bundle / "bundle.json").write_text((bundle / "bundle.json").read_text()[:200])
    checksums.write(bundle)
    with pytest.raises(BundleError, match="cannot be read"):
        load(bundle)


def test_what_is_no_bundle_is_called_that(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(BundleError, match="not a bundle"):
            load(path)


class Bomb:
    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return Path.write_text, (self.place, "boom")  # type: ignore[return-value]  # what a hostile pickle looks like


def test_a_pickled_artifact_is_not_opened_without_trust(bundle: Path, tmp_path: Path) -> None:
    """A bundle that was changed to name an engine whose artifacts are pickles, checksums made good."""
    data = json.loads((bundle / "bundle.json").read_text())
    data["candidate"]["deployment"]["engine"] = "pytorch"
    (bundle / "bundle.json").write_text(json.dumps(data))
    (bundle / "artifact" / "module.pt").write_bytes(pickle.dumps(Bomb(tmp_path / "boom")))
    checksums.write(bundle)
    with pytest.raises(BundleError, match=r"trust=True"):
        load(bundle)
    assert not (tmp_path / "boom").exists()


def test_an_engine_that_is_not_here_is_named_with_the_command_that_mends_it(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(BundleError, match=r"needs onnxruntime.*pip install 'autoopt\[onnxruntime\]'"):
        load(bundle)


def test_what_a_pickled_network_needs_is_named(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A class of the user's file is pickled by value, which takes cloudpickle to open."""

    class Own(nn.Flatten):
        pass

    data = json.loads((bundle / "bundle.json").read_text())
    data["candidate"]["deployment"]["engine"] = "pytorch"
    data["packages"] = {"torch": "2.13.0", "cloudpickle": "3.1.1"}
    (bundle / "bundle.json").write_text(json.dumps(data))
    torch.save(Own(), bundle / "artifact" / "module.pt", pickle_module=cloudpickle)
    checksums.write(bundle)
    load(bundle, trust=True).close()
    for name in [name for name in sys.modules if name.partition(".")[0] == "cloudpickle"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(BundleError, match=r"needs cloudpickle: pip install 'cloudpickle==3\.1\.1'"):
        load(bundle, trust=True)


def test_a_manifest_survives_the_disk(bundle: Path, tmp_path: Path) -> None:
    read = manifest.read(bundle)
    manifest.write(read, tmp_path)
    assert manifest.read(tmp_path) == read
