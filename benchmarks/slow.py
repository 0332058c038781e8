"""/webhook while hundreds of slow connections without credentials are held: latencies, and how many stay.

    python -m benchmarks slow [--connections N] [--seconds N] [--json FILE]

Starts a real `imil serve` on a data directory of its own (SQLite) and opens connections that send nothing,
half a head, half a body, half a chunk or the hello of TLS, and then a byte every half second; what is cut off
is opened again about a second later. They come from one address, which is also that of the events, or each
from one of its own (Linux: 127.1.x.y). Recorded events are sent as Label Studio does, 20 a second at fixed
times, each on a connection of its own. `held` is how many slow connections were open, in the mean; `cut off`
how often one was closed. Attackers and senders run on the same cores.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import random
import tempfile
from contextlib import ExitStack, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import machine, table
from benchmarks.webhook import Sender, installation, open_loop

RATE = 20  # events a second
DRIP_SECONDS = 0.5
AGAIN_SECONDS = (0.5, 1.5)  # until what was cut off is opened again
POST = b"POST /webhook HTTP/1.1\r\nHost: 127.0.0.1\r\n"
# What is sent at once, and what then drips.
KINDS = (
    (b"", b""),
    (POST + b"X-Slow: ", b"a"),
    (POST + b"Content-Type: application/json\r\nContent-Length: 1000000\r\n\r\n{", b" "),
    (POST + b"Transfer-Encoding: chunked\r\n\r\nffff\r\n", b" "),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\x00"),
)


class Attack:
    """Slow connections to a port of this machine, from a process of their own.

    Args:
        port: of the server.
        connections: how many.
        spread: each from an address of its own.
    """

    def __init__(self, port: int, connections: int, *, spread: bool) -> None:
        self._ours, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        self._process = context.Process(target=_attack, args=(port, connections, spread, theirs))

    def __enter__(self) -> Attack:
        self._process.start()
        self._ours.recv()  # all have been opened once
        return self

    def __exit__(self, *_: object) -> None:
        self._process.join()

    def stop(self) -> tuple[int, int]:
        """End it: how many connections were open in the mean, and how often one was cut off."""
        self._ours.send("stop")
        held, cut_off = self._ours.recv()
        return held, cut_off


def _attack(port: int, connections: int, spread: bool, parent: Connection) -> None:
    asyncio.run(_attacking(port, connections, spread, parent))


async def _attacking(port: int, connections: int, spread: bool, parent: Connection) -> None:
    open_ones: set[int] = set()
    opened, cut_off = 0, 0

    async def hold(number: int) -> None:
        nonlocal opened, cut_off
        address = f"127.1.{number // 200}.{number % 200 + 1}" if spread else "127.0.0.1"
        begin, drop = KINDS[number % len(KINDS)]
        while True:
            with suppress(OSError):
                reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
                opened += 1
                open_ones.add(number)
                writer.write(begin)
                await _drip(reader, writer, drop)
                writer.transport.abort()
            open_ones.discard(number)
            cut_off += 1
            await asyncio.sleep(random.uniform(*AGAIN_SECONDS))

    tasks = [asyncio.create_task(hold(number)) for number in range(connections)]
    while opened < connections:
        await asyncio.sleep(0.05)
    parent.send("opened")
    held = []
    while not parent.poll():
        held.append(len(open_ones))
        await asyncio.sleep(0.1)
    parent.send((round(sum(held) / len(held)), cut_off))
    for task in tasks:
        task.cancel()


async def _drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, drop: bytes) -> None:
    """Send a drop now and then until the other side closes, whatever it answers before."""
    closed = asyncio.create_task(reader.read())
    while not closed.done():
        writer.write(drop)
        await asyncio.wait([closed], timeout=DRIP_SECONDS)
    closed.exception()


def measure_events(
    port: int, secret: str, seconds: float, connections: int, *, spread: bool
) -> dict[str, Any]:
    """Events at fixed times beside an attack, or beside none; latencies in milliseconds."""
    sender = Sender(port, secret)
    held = cut_off = 0
    with ExitStack() as stack:
        attack = connections and stack.enter_context(Attack(port, connections, spread=spread))
        open_loop(sender, seconds, RATE)
        if attack:
            held, cut_off = attack.stop()
    p50, p99, longest = np.percentile(sender.sent.latencies, [50, 99, 100]) * 1000
    return {
        "slow connections": connections,
        "from": ("each its own address" if spread else "one address") if connections else "",
        "held": held,
        "cut off": cut_off,
        "events": len(sender.sent.latencies),
        "not taken": sender.sent.refused,
        "p50 ms": float(p50),
        "p99 ms": float(p99),
        "max ms": float(longest),
    }


def measure(connections: int, seconds: float) -> list[dict[str, Any]]:
    """A row without slow connections, one with all from one address, one with all from others."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        backend, environment = installation(directory, None, stack, training=False)
        port, secret = int(environment["IMIL_PORT"]), backend.webhook_secrets[0]
        return [
            measure_events(port, secret, seconds, many, spread=spread)
            for many, spread in ((0, False), (connections, False), (connections, True))
        ]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--connections", type=int, default=500, help="slow ones, at once")
    parser.add_argument("--seconds", type=float, default=30, help="of each row")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    arguments = parser.parse_args()
    before = machine()
    rows = measure(arguments.connections, arguments.seconds)
    print(f"{before}\n\n{table(rows)}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": before, "rows": rows}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
