"""The bundle: a directory with a schema, the only hand-over from training to the device.

Everything is verified before anything is loaded: ``manifest.json`` lists every file with its size
and sha256, no other file may be there, and no path may lead out of the directory. The sums detect
damage and mix-ups; who made a bundle is for a signature over the directory (OpenSSF
model-signing) to say.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, NoReturn

from srd_edge.errors import BundleError, RunError, SrdEdgeError, UsageError
from srd_edge.runtime.bundle_specs import TOKENIZER_FILE, FileEntry
from srd_edge.runtime.check_specs import REFERENCE_FOLDER
from srd_edge.runtime.json_fields import parse_json
from srd_edge.runtime.manifest import Manifest, pairing_id

MANIFEST_FILE: Final = "manifest.json"
BUILT_IN: Final = Path(__file__).parent / "assets" / "bundle"
MAX_MANIFEST_BYTES: Final = 1 << 20
MAX_FILE_BYTES: Final = 64 << 30

# An allow-list: it leaves no room for "..", backslashes, drive letters or control characters.
_PATH: Final = re.compile(r"(?!\.{1,2}(/|\Z))[\w.-]+(/(?!\.{1,2}(/|\Z))[\w.-]+)*", re.ASCII)
_DO: Final = "fetch or export the bundle again"


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified bundle: its directory (absolute) and what it says of itself."""

    directory: Path
    manifest: Manifest

    def path(self, name: str) -> Path:
        """Where the listed file ``name`` lies; a BundleError for one that is not listed."""
        if self.manifest.entry(name) is None:
            _refuse(f"{name} among the bundle's files", "no such entry in its manifest")
        return self.directory / name


def read_bundle(directory: Path | str | None = None) -> Bundle:
    """Verify a bundle and read its manifest; nothing in it is loaded or run.

    Args:
        directory: where it lies; None for the one that comes with the package.

    Raises:
        BundleError: whatever is wrong with it, in one line.
    """
    root = BUILT_IN if directory is None else Path(directory)
    try:
        root = root.resolve()
        if not root.is_dir():
            _refuse("a bundle, which is a directory", f"none at {root}", "name one with --bundle")
        manifest = Manifest.from_json(_read_json(root))
        _check_lists(manifest)
        _check_nothing_unlisted(root, {entry.path for entry in manifest.files})
        for entry in manifest.files:
            _check_file(root, entry)
        _check_pairing(manifest)
    except (OSError, ValueError, RuntimeError) as error:
        if isinstance(error, SrdEdgeError):
            raise
        # ValueError: a NUL in the path; RuntimeError: a loop of symbolic links.
        _refuse("a bundle that can be read", f"{type(error).__name__}: {error}", cause=error)
    return Bundle(root, manifest)


def write_bundle(
    directory: Path | str,
    manifest: Manifest,
    files: Mapping[str, bytes | Path],
    *,
    overwrite: bool = False,
    move: bool = False,
) -> Bundle:
    """Write a bundle that appears whole or not at all.

    It is built in a hidden sibling, with its manifest last, read back as a device would read it,
    and renamed into place. Replacing takes two renames, between which there is for an instant no
    bundle, but never half of one.

    Args:
        directory: where to put it; missing parents are made.
        manifest: with ``files`` left empty, and ``policy.pairing`` "" to have it filled in.
        files: path in the bundle -> its bytes, or a file.
        overwrite: whether a bundle that is already there is replaced.
        move: whether files are moved, being the caller's own and of no further use, not copied.

    Returns:
        The bundle as read back.

    Raises:
        UsageError: something is there already, and may not or must not be replaced.
        BundleError: what would be written is not a bundle.
        RunError: the disk says no.
    """
    target = Path(directory).resolve()
    _check_free(target, overwrite=overwrite)
    for name in files:
        _check_path(name)
    made = [parent for parent in target.parents if not parent.exists()]
    tag = secrets.token_hex(4)
    fresh = target.with_name(f".{target.name}.{tag}.new")
    try:
        # Not tempfile: the bundle is to have the permissions that the umask gives.
        fresh.mkdir(parents=True)
        written = _fill(fresh, manifest, files, shutil.move if move else shutil.copyfile)
        _swap(fresh, target, target.with_name(f".{target.name}.{tag}.old"))
    except BaseException as error:
        shutil.rmtree(fresh, ignore_errors=True)
        for parent in made:
            with suppress(OSError):
                parent.rmdir()
        if isinstance(error, OSError) and not isinstance(error, SrdEdgeError):
            raise RunError(
                expected=f"to write a bundle at {target}",
                found=str(error),
                do="make room, or choose another place",
            ) from error
        raise
    return Bundle(target, written)


def _fill(
    fresh: Path,
    manifest: Manifest,
    files: Mapping[str, bytes | Path],
    take: Callable[[Path, Path], object],
) -> Manifest:
    entries = []
    for name, content in sorted(files.items()):
        path = fresh / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            take(content, path)
        # From the copy: the sum is of what was written, whatever happens to the source meanwhile.
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        entries.append(FileEntry(name, path.stat().st_size, digest))
    complete = replace(manifest, files=tuple(entries))
    if complete.policy is not None and not complete.policy.pairing:
        paired = replace(complete.policy, pairing=_pairing(complete))
        complete = replace(complete, policy=paired)
    try:
        text = json.dumps(complete.to_json(), indent=2, allow_nan=False)
    except (TypeError, ValueError) as error:
        _refuse("a manifest of plain JSON values", str(error), "convert them first", cause=error)
    (fresh / MANIFEST_FILE).write_text(text + "\n", encoding="utf-8")
    return read_bundle(fresh).manifest


def _swap(fresh: Path, target: Path, aside: Path) -> None:
    if not target.exists():
        fresh.rename(target)
        return
    target.rename(aside)
    try:
        fresh.rename(target)
    except BaseException:
        aside.rename(target)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _check_free(target: Path, *, overwrite: bool) -> None:
    if not target.exists():
        return
    if not overwrite:
        raise UsageError(
            expected=f"nothing at {target} yet",
            found="something",
            do="choose another place, or ask for it to be overwritten",
        )
    # Overwriting deletes: a slip of the hand must not cost a home directory.
    if not target.is_dir() or (any(target.iterdir()) and not (target / MANIFEST_FILE).is_file()):
        raise UsageError(
            expected=f"a bundle at {target} to overwrite",
            found="something else",
            do="choose another place",
        )


def _read_json(root: Path) -> Any:
    path = root / MANIFEST_FILE
    if not path.is_file() or not path.resolve().is_relative_to(root):
        _refuse(f"a file {MANIFEST_FILE} in {root}", "none")
    with path.open("rb") as file:
        raw = file.read(MAX_MANIFEST_BYTES + 1)
    if len(raw) > MAX_MANIFEST_BYTES:
        _refuse(f"a {MANIFEST_FILE} of at most {MAX_MANIFEST_BYTES} bytes", "a larger one")
    try:
        return parse_json(raw)
    except (ValueError, RecursionError) as error:
        _refuse(f"{MANIFEST_FILE} to be JSON", f"{type(error).__name__}: {error}", cause=error)


def _check_path(path: str) -> None:
    if path == MANIFEST_FILE or len(path) > 255 or not _PATH.fullmatch(path):
        _refuse(
            "file paths inside the bundle, of letters, digits and ._-/ and other than its manifest",
            repr(path[:80]),
        )


def _check_lists(manifest: Manifest) -> None:
    for entry in manifest.files:
        _check_path(entry.path)
        if entry.bytes > MAX_FILE_BYTES:
            _refuse(f"files of at most {MAX_FILE_BYTES} bytes", f"{entry.path} of {entry.bytes}")
    listed = [entry.path for entry in manifest.files]
    if len(set(listed)) != len(listed):
        _refuse("every file listed once", "a path listed twice")
    needed = {f"the {name}": file for name, file in manifest.captioner.components.items()}
    needed["the tokenizer"] = TOKENIZER_FILE
    if manifest.policy is not None:
        needed["the policy"] = manifest.policy.file
    if manifest.check is not None:
        needed["the language model"] = manifest.check.language.file
        needed["the language model's tokenizer"] = manifest.check.language.tokenizer
        if manifest.check.reference:
            needed["the reference captioner"] = f"{REFERENCE_FOLDER}/{MANIFEST_FILE}"
    for role, file in needed.items():
        if file not in listed:
            _refuse(f"{role} {file!r} among the listed files", "no such entry")


def _check_nothing_unlisted(root: Path, listed: set[str]) -> None:
    for path in _walk(root):
        name = path.relative_to(root).as_posix()
        if name != MANIFEST_FILE and name not in listed:
            _refuse("only files that the manifest lists", repr(name), f"remove it, or {_DO}")


def _walk(directory: Path) -> Iterator[Path]:
    """Everything below that is not a plain directory; a link to a directory is not followed."""
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(Path(entry.path))
            else:
                yield Path(entry.path)


def _check_file(root: Path, entry: FileEntry) -> None:
    path = root / entry.path
    try:
        real = path.resolve(strict=True)
    except FileNotFoundError as error:
        _refuse(f"the file {entry.path}", "no such file", cause=error)
    if not real.is_relative_to(root):
        _refuse(f"{entry.path} inside the bundle", "a link that leads out of it")
    # Before it is opened: opening a pipe would wait for a writer.
    if not stat.S_ISREG(real.stat().st_mode):
        _refuse(f"{entry.path} to be a file", "something else")
    with real.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size != entry.bytes:
            _refuse(f"{entry.path} of {entry.bytes} bytes", f"{size} bytes")
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != entry.sha256:
        _refuse(f"{entry.path} with sha256 {entry.sha256[:12]}...", f"{digest[:12]}...")


def _check_pairing(manifest: Manifest) -> None:
    if manifest.policy is not None and manifest.policy.pairing != _pairing(manifest):
        _refuse(
            f"a policy made for this captioner ({_pairing(manifest)[:12]}...)",
            f"one made for another ({manifest.policy.pairing[:12]}...)",
            "export captioner and policy together",
        )


def _pairing(manifest: Manifest) -> str:
    encoder = manifest.entry(manifest.captioner.components.get("encoder", ""))
    if encoder is None:
        _refuse("the encoder among the listed files", "no such entry")
    assert manifest.observation is not None, "which a policy does not come without"
    return pairing_id(encoder.sha256, manifest.actions, manifest.observation)


def _refuse(expected: str, found: str, do: str = _DO, cause: Exception | None = None) -> NoReturn:
    raise BundleError(expected=expected, found=" ".join(found.split()), do=do) from cause
