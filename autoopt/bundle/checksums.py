"""Whether a bundle is whole: ``SHA256SUMS``, in the format of the command ``sha256sum``.

Every file is listed, and only what is listed is there; links and special files are refused, so that nothing outside
the bundle is ever opened. Checksums tell damage, not malice: who can change a file can change its sum. Against malice
stands that loading runs no code of the bundle unless it is trusted.
"""

from __future__ import annotations

import hashlib
import re
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from autoopt.bundle.manifest import MANIFEST, SUMS
from autoopt.errors import BundleError

_LINE = re.compile(r"([0-9a-f]{64})  (.+)")


def write(folder: Path) -> None:
    """List every file of the folder in its ``SHA256SUMS``."""
    names = sorted(name for name in _files(folder) if name != SUMS)
    lines = [f"{_sha256(folder / name)}  {name}\n" for name in names]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def check(folder: Path) -> int:
    """Read every file of a bundle once and compare.

    Returns:
        How many files were checked.

    Raises:
        BundleError: something is missing, added, changed, a link, or listed outside the folder.
    """
    listed = _listed(folder)
    present = set(_files(folder)) - {SUMS}
    for problem, names in (("is missing", listed.keys() - present), ("does not belong to it", present - listed.keys())):
        if names:
            raise _damaged(folder, f"{min(names)} {problem}")
    for name, expected in listed.items():
        if _sha256(folder / name) != expected:
            raise _damaged(folder, f"{name} is not what was exported")
    return len(listed)


def _listed(folder: Path) -> dict[str, str]:
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        if (folder / MANIFEST).is_file():
            raise _damaged(folder, f"it has no {SUMS}") from None
        message = f"{folder} is not a bundle: it has no {SUMS}. `autoopt export JOB -o DIR` writes one"
        raise BundleError(message) from None
    except UnicodeDecodeError:
        raise _damaged(folder, f"{SUMS} is no text") from None
    listed: dict[str, str] = {}
    for line in lines:
        match = _LINE.fullmatch(line)
        if match is None:
            raise _damaged(folder, f"{SUMS} has a line that is no checksum: {line[:80]!r}")
        name = PurePosixPath(match[2])
        if name.is_absolute() or ".." in name.parts or str(name) != match[2]:
            raise _damaged(folder, f"{SUMS} names {match[2]!r}, which is not inside it")
        listed[match[2]] = match[1]
    return listed


def _files(folder: Path) -> Iterator[str]:
    """Relative names of all files; refuses whatever is neither file nor folder, without following it."""
    for path in folder.rglob("*"):
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            continue
        name = path.relative_to(folder).as_posix()
        if not stat.S_ISREG(mode):
            raise _damaged(folder, f"{name} is a link or no regular file")
        yield name


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _damaged(folder: Path, what: str) -> BundleError:
    return BundleError(f"the bundle {folder} is damaged and was not opened: {what}. Export or copy it again")
