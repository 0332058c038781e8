"""Encrypted backups, in the format of age (age-encryption.org/v1), by its Rust implementation.

For a public key: an age file, which age's own program opens as well. For a passphrase: a new key, encrypted
with the passphrase (scrypt) and in letters, and behind it the age file for that key; so neither has to be
held in memory, as age's own passphrase mode does in Python.

What is read has been authenticated, in pieces of 64 KiB; a file that was cut off is told at its end.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from imil_backend.errors import BackupError

_AGE = b"age-encryption.org/v1\n"
_KEY_BEGINS, _KEY_ENDS = b"-----BEGIN AGE ENCRYPTED FILE-----", b"-----END AGE ENCRYPTED FILE-----"
_MOST_KEY_LINES = 100
_MOST_HEADER_BYTES, _HEADER_ENDS = 2**14, b"\n--- "  # age takes 40 s for a header of 20,000 recipients
_LEAST_CHARACTERS = 12
_BROKEN_PIPE = os.strerror(errno.EPIPE)
_SECRET_KEY = "AGE-SECRET-KEY-"  # noqa: S105 - how one begins


@dataclass(frozen=True)
class Keys:
    """What a backup is encrypted with, or opened.

    Attributes:
        recipient: age's public key, such as age1...; to encrypt.
        identity: file with age's private key; to open.
        passphrase: file with a passphrase in its first line; for both.
    """

    recipient: str | None = None
    identity: Path | None = None
    passphrase: Path | None = None


UNENCRYPTED = Keys()


@contextmanager
def encrypted(target: IO[bytes], keys: Keys) -> Iterator[IO[bytes]]:
    """What is written here is written to the target, encrypted if there is a key.

    Raises:
        BackupError: the keys cannot be used.
    """
    import pyrage

    if keys.recipient and keys.passphrase:
        raise BackupError("A backup is encrypted for a public key or with a passphrase. Give one of them.")
    if keys.passphrase:
        key = pyrage.x25519.Identity.generate()
        target.write(pyrage.passphrase.encrypt(str(key).encode(), _passphrase(keys.passphrase), armored=True))
        recipient = key.to_public()
    elif keys.recipient:
        try:
            recipient = pyrage.x25519.Recipient.from_str(keys.recipient)
        except pyrage.RecipientError as error:
            raise BackupError(f"{keys.recipient!r} is no public key of age, such as age1...") from error
    else:
        yield target
        return

    def encrypt_all(source: IO[bytes]) -> None:
        try:
            pyrage.encrypt_io(source, target, [recipient])
        except pyrage.EncryptError as error:  # or what the target raised
            raise BackupError(f"The backup cannot be encrypted and written: {error}.") from error

    with _pipe(encrypt_all, "write") as plain:
        yield plain


@contextmanager
def decrypted(source: IO[bytes], keys: Keys, name: object) -> Iterator[IO[bytes]]:
    """A backup to be read, whether it is encrypted or not; messages call it by its name.

    Raises:
        BackupError: it cannot be opened with these keys, or has been changed or cut off.
    """
    import pyrage

    start = source.read(len(_KEY_BEGINS))
    source.seek(0)
    if not start.startswith((_AGE, _KEY_BEGINS)):
        yield source
        return
    if start.startswith(_KEY_BEGINS):
        lines = [source.readline(200)]
        while lines[-1].rstrip() != _KEY_ENDS and len(lines) < _MOST_KEY_LINES:
            lines.append(source.readline(200))
        if keys.passphrase is None:
            raise BackupError(f"{name} is encrypted with a passphrase: give its file with --passphrase-file.")
        holder = name
        text = _opened(lambda: pyrage.passphrase.decrypt(b"".join(lines), _passphrase(keys.passphrase)), name)
    elif keys.identity is None:
        raise BackupError(f"{name} is encrypted for a key: give the file of the private key with --identity.")
    else:
        holder = keys.identity
        text = keys.identity.read_bytes()
    identities = _identities(text, holder)
    _check_header(source, name)

    def open_all(target: IO[bytes]) -> None:
        _opened(lambda: pyrage.decrypt_io(source, target, identities), name)

    with _pipe(open_all, "read") as plain:
        yield plain


def _check_header(source: IO[bytes], name: object) -> None:
    """Refuse a header, which begins here, that would take long."""
    begins = source.tell()
    header = source.read(_MOST_HEADER_BYTES)
    source.seek(begins)
    if len(header) == _MOST_HEADER_BYTES and _HEADER_ENDS not in header:
        raise BackupError(
            f"The header of {name} has more than {_MOST_HEADER_BYTES:,} bytes: imil encrypts for one key. "
            "Decrypt the file with age first, if it is yours."
        )


def _identities(text: bytes, holder: object) -> list[Any]:
    """The private keys in a text of this file."""
    import pyrage

    lines = text.decode("utf-8", "replace").splitlines()
    try:
        found = [
            pyrage.x25519.Identity.from_str(line.strip()) for line in lines if line.startswith(_SECRET_KEY)
        ]
    except pyrage.IdentityError as error:
        raise BackupError(f"A private key of age in {holder} cannot be used: {error}.") from error
    if not found:
        raise BackupError(f"{holder} holds no private key of age ({_SECRET_KEY}...).")
    return found


def _passphrase(file: Path | None) -> str:
    assert file is not None  # noqa: S101  # whoever asks has seen that it is
    lines = file.read_text(encoding="utf-8").splitlines()
    if not lines or len(lines[0].strip()) < _LEAST_CHARACTERS:
        raise BackupError(
            f"The first line of {file} has fewer than {_LEAST_CHARACTERS} characters. Use a longer one."
        )
    return lines[0].strip()


def _opened(work: Callable[[], Any], name: object) -> Any:
    import pyrage

    try:
        return work()
    except pyrage.IdentityError as error:
        raise BackupError(f"The private key cannot be used: {error}.") from error
    except (pyrage.DecryptError, OSError) as error:
        raise BackupError(
            f"{name} cannot be decrypted ({error}): another key or passphrase, or it was changed or cut off."
        ) from error


@contextmanager
def _pipe(work: Callable[[IO[bytes]], object], mode: str) -> Iterator[IO[bytes]]:
    """An end of a pipe whose other end a thread works on. What went wrong there comes first."""
    reading, writing = (os.fdopen(end, how) for end, how in zip(os.pipe(), ("rb", "wb"), strict=True))
    here, there = (writing, reading) if mode == "write" else (reading, writing)
    failed: list[Exception] = []

    def run() -> None:
        try:
            with there:
                work(there)
        except Exception as error:  # noqa: BLE001 - it is raised below
            failed.append(error)

    thread = threading.Thread(target=run, name="backup-encryption", daemon=True)
    thread.start()
    try:
        with here:
            yield here
    except Exception:
        thread.join()
        if failed and _BROKEN_PIPE not in str(failed[0]):  # which is but what happened here
            raise failed[0] from None
        raise
    thread.join()
    if failed:
        raise failed[0]
