"""Backups that nobody reads without the key."""

from __future__ import annotations

import io
from pathlib import Path

import pyrage
import pytest

from imil_backend.config import Settings
from imil_backend.errors import BackupError
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.queues.engine import prepare
from imil_backend.loop.upkeep.backup.encryption import Keys, decrypted, encrypted
from imil_backend.loop.upkeep.backup.making import back_up
from imil_backend.loop.upkeep.backup.restoring import restore

CONTENT = bytes(range(256)) * 1000  # several of age's pieces


@pytest.fixture
def private(tmp_path: Path) -> Path:
    file = tmp_path / "key.txt"
    file.write_text(f"# of the tests\n{pyrage.x25519.Identity.generate()}\n")
    return file


def public_of(private: Path) -> str:
    return str(pyrage.x25519.Identity.from_str(private.read_text().splitlines()[1]).to_public())


def passphrase(tmp_path: Path, text: str = "correct horse battery staple") -> Path:
    file = tmp_path / f"{text[:8]}.txt"
    file.write_text(f"{text}\n")
    return file


def written(keys: Keys) -> bytes:
    target = io.BytesIO()
    with encrypted(target, keys) as plain:
        plain.write(CONTENT)
    return target.getvalue()


def read(data: bytes, keys: Keys) -> bytes:
    with decrypted(io.BytesIO(data), keys, "b.age") as plain:
        return plain.read()


def test_a_public_key_encrypts_and_the_private_one_opens(private: Path) -> None:
    data = written(Keys(recipient=public_of(private)))
    assert data.startswith(b"age-encryption.org/v1")
    assert CONTENT[:100] not in data
    assert read(data, Keys(identity=private)) == CONTENT
    identity = pyrage.x25519.Identity.from_str(private.read_text().splitlines()[1])
    assert pyrage.decrypt(data, [identity]) == CONTENT  # as age's own program does


@pytest.mark.slow
def test_a_passphrase_encrypts_and_opens(tmp_path: Path) -> None:
    data = written(Keys(passphrase=passphrase(tmp_path)))
    assert CONTENT[:100] not in data
    assert read(data, Keys(passphrase=passphrase(tmp_path))) == CONTENT

    key, rest = data.split(b"-----END AGE ENCRYPTED FILE-----\n", 1)
    assert key.startswith(b"-----BEGIN AGE ENCRYPTED FILE-----\n")
    assert rest.startswith(b"age-encryption.org/v1\n")  # as docs/security.md tells to take it apart
    with pytest.raises(BackupError, match="--passphrase-file"):
        read(data, Keys())


@pytest.mark.parametrize("key", ["nothing", "AGE-SECRET-KEY-1GARBAGE"])
def test_a_passphrase_that_opens_no_key_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setattr(pyrage.passphrase, "decrypt", lambda *_: key.encode())  # which takes seconds
    data = b"-----BEGIN AGE ENCRYPTED FILE-----\n-----END AGE ENCRYPTED FILE-----\n"
    with pytest.raises(BackupError, match=r"b\.age"):
        read(data, Keys(passphrase=passphrase(tmp_path)))


@pytest.mark.parametrize("damage", ["cut off", "changed", "extended", "cut off at a piece"])
def test_what_was_changed_is_told(private: Path, damage: str) -> None:
    data = bytearray(written(Keys(recipient=public_of(private))))
    if damage == "cut off":
        del data[-100:]
    elif damage == "changed":
        data[-100_000] ^= 1
    elif damage == "extended":
        data += b"x"
    else:
        header = len(data) - len(CONTENT) - 16 * -(-len(CONTENT) // 65_536)
        del data[header + 2 * (65_536 + 16) :]
    with pytest.raises(BackupError, match=r"b.* cannot be decrypted"):
        read(bytes(data), Keys(identity=private))


def test_a_header_of_thousands_of_recipients_is_not_read(private: Path) -> None:
    data = b"age-encryption.org/v1\n" + b"-> x\n\n" * 5000 + b"--- " + b"A" * 43 + b"\n"
    with pytest.raises(BackupError, match="has more than 16,384 bytes"):
        read(data, Keys(identity=private))


def test_wrong_keys_are_told(tmp_path: Path, private: Path) -> None:
    data = written(Keys(recipient=public_of(private)))
    other = tmp_path / "other.txt"
    other.write_text(str(pyrage.x25519.Identity.generate()))
    with pytest.raises(BackupError, match=r"b.* cannot be decrypted"):
        read(data, Keys(identity=other))
    with pytest.raises(BackupError, match="--identity"):
        read(data, Keys())
    other.write_text("nothing")
    with pytest.raises(BackupError, match="holds no private key"):
        read(data, Keys(identity=other))
    other.write_text("AGE-SECRET-KEY-1GARBAGE")
    with pytest.raises(BackupError, match=r"key of age in .*other\.txt cannot be used"):
        read(data, Keys(identity=other))
    with pytest.raises(BackupError, match="no public key"):
        written(Keys(recipient="age1nonsense"))
    with pytest.raises(BackupError, match="fewer than 12"):
        written(Keys(passphrase=passphrase(tmp_path, "short")))
    with pytest.raises(BackupError, match="one of them"):
        written(Keys(recipient="age1", passphrase=other))


def test_an_error_where_it_is_written_to_is_raised(private: Path) -> None:
    class Full(io.BytesIO):
        def write(self, _: object) -> int:
            raise OSError(28, "No space left on device")

    with (
        pytest.raises(BackupError, match="No space left"),
        encrypted(Full(), Keys(recipient=public_of(private))) as plain,
    ):
        for _ in range(100):
            plain.write(CONTENT)


def test_what_is_wrong_with_the_content_is_told_before_the_pipe_that_it_breaks(private: Path) -> None:
    data = written(Keys(recipient=public_of(private)))
    with (
        pytest.raises(ValueError, match="wrong"),
        decrypted(io.BytesIO(data), Keys(identity=private), "b.age"),
    ):
        raise ValueError("wrong")


def test_an_encrypted_backup_is_restored(backend: Backend, tmp_path: Path, private: Path) -> None:
    prepare(backend)
    key = backend.group_key()
    file = tmp_path / "backup.tar.age"
    back_up(backend, file, keys=Keys(recipient=public_of(private)))
    assert file.stat().st_mode & 0o777 == 0o600
    assert key.hex().encode() not in file.read_bytes()
    elsewhere = Settings(_env_file=None, data_dir=tmp_path / "elsewhere")
    with pytest.raises(BackupError, match="--identity"):
        restore(elsewhere, file)
    restore(elsewhere, file, keys=Keys(identity=private))
    restored = Backend(elsewhere)
    assert restored.group_key() == key
    restored.close()
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(BackupError, match=r"b.* cannot be decrypted"):
        restore(elsewhere, file, replace=True, keys=Keys(identity=private))
