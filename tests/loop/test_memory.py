"""What decoding has freed is given back to the system."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from imil_backend.loop.serving import memory
from imil_backend.loop.serving.memory import Surplus

# As a decoder does: many buffers, in a thread that stays, with one that outlives them.
PROGRAM = """
import threading, time
from imil_backend.loop.serving import memory
memory.REST_SECONDS = 0.05

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 // 2**20

kept, filled, checked = [], threading.Event(), threading.Event()
def decode():
    buffers = [bytearray(60_000) for _ in range(5_000)]
    kept.append(bytearray(60_000))
    buffers.clear()
    filled.set()
    checked.wait(30)
threading.Thread(target=decode).start()
filled.wait(30)
before = resident()
memory.Surplus().give_back()
deadline = time.monotonic() + 10
while resident() > before - 200 and time.monotonic() < deadline:
    time.sleep(0.02)
print(before, resident())
checked.set()
"""


@pytest.mark.slow  # a process
def test_what_a_thread_has_freed_is_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert after < before - 200


def test_many_requests_at_once_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "REST_SECONDS", 0.01)
    given_back: list[int] = []
    done = threading.Event()

    def trim(kept: int) -> int:
        given_back.append(kept)
        done.set()
        return 1

    surplus = Surplus(trim)
    for _ in range(50):
        surplus.give_back()
    assert done.wait(10)
    assert given_back == [0]
    done.clear()
    surplus.give_back()
    assert done.wait(10)
    assert given_back == [0, 0]
