"""Brush RLE: our decoder beside Label Studio's SDK and the Rust wheel label-studio-brush-rle-rs.

    python -m benchmarks.masks [--json FILE]

All three get the same list of ints and run in one process, in turns; the best time counts. Peak memory is
what a forked child's resident set grows by. Every result is compared, value by value. Needs
Linux with glibc, for the memory, and the package's `benchmark` extra. The last case, noise of 4000 x 3000,
makes the SDK use several gigabytes.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import lzma
import os
import statistics
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from label_studio_brush_rle_rs import decode_rle as decode_rust
from label_studio_sdk.converter.brush import decode_rle as decode_sdk
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from imil_backend.images.masks.masks import decode_rle, encode_rle

RECORDED = Path(__file__).parents[1] / "tests" / "fixtures" / "rle"
SIZES = ((512, 512), (1024, 1024), (2000, 2500), (4000, 3000))
LARGE = 20_000  # ints of a recorded region from which it counts as a large one
SECONDS = 1.0  # that each decoder may take for the repetitions of a case; once, if it takes longer

HEADER = f"""\
{"":34}{"ms":>9}{"SDK /":>8}{"ours /":>8}{"peak":>9}{"SDK /":>8}{"Rust /":>8}{"bytes/int":>11}
{"region":24}{"ints":>10}{"ours":>9}{"ours":>8}{"Rust":>8}{"MB":>9}{"ours":>8}{"ours":>8}{"> alpha":>11}"""

Decoder = Callable[[], Any]


class Case(NamedTuple):
    """A brush region to decode."""

    name: str
    kind: str  # recorded, strokes or noise
    rle: list[int]
    width: int
    height: int


def recorded_cases() -> Iterator[Case]:
    """Regions that were painted in the real editor, the smallest first."""
    cases = []
    for path in RECORDED.glob("*.json.xz"):
        region = json.loads(lzma.decompress(path.read_bytes()))["result"]
        size = region["original_width"], region["original_height"]
        cases.append(Case(path.name.split(".")[0], "recorded", region["value"]["rle"], *size))
    yield from sorted(cases, key=lambda case: len(case.rle))


def synthetic_cases() -> Iterator[Case]:
    """Thick strokes with soft edges, and noise of 0 and 255."""
    for kind, draw in (("strokes", thick_strokes), ("noise", noise)):
        for width, height in SIZES:
            yield Case(f"{kind}_{width}x{height}", kind, encode_rle(draw(width, height)), width, height)


def thick_strokes(width: int, height: int) -> NDArray[np.uint8]:
    """Eight long strokes, each as wide as a 25th of the image, with edges of two grey pixels."""
    random = np.random.default_rng(0)
    image = Image.new("L", (width, height))
    for _ in range(8):
        points = [tuple(point) for point in random.uniform(0, 1, (6, 2)) * (width, height)]
        ImageDraw.Draw(image).line(points, fill=255, width=width // 25, joint="curve")
    return np.asarray(image.filter(ImageFilter.BoxBlur(1)))


def noise(width: int, height: int) -> NDArray[np.uint8]:
    """Each pixel 0 or 255 by chance: as many runs as there can be in a mask, nearly."""
    return np.random.default_rng(0).integers(0, 2, (height, width), np.uint8) * np.uint8(255)


def decoders(case: Case) -> dict[str, Decoder]:
    """The three decoders, ready to decode this case."""
    return {
        "ours": lambda: decode_rle(case.rle, case.width, case.height),
        "sdk": lambda: decode_sdk(case.rle),
        "rust": lambda: decode_rust(case.rle, False),
    }


def assert_equal(case: Case) -> None:
    """All decoders agree, on all four channels."""
    ours, sdk, rust = (decode() for decode in decoders(case).values())
    for other in (sdk, rust):
        assert np.array_equal(np.asarray(other).reshape(-1, 4), np.repeat(ours.reshape(-1, 1), 4, axis=1)), (
            case.name
        )


def milliseconds(case: Case) -> dict[str, float]:
    """Best time of each decoder, taken in turns so that a busy neighbour disturbs all of them."""
    best = dict.fromkeys(decoders(case), float("inf"))
    spent = dict.fromkeys(best, 0.0)
    while todo := [name for name, seconds in spent.items() if seconds < SECONDS]:
        for name in todo:
            decode = decoders(case)[name]
            start = time.perf_counter()
            decode()
            seconds = time.perf_counter() - start
            best[name] = min(best[name], 1000 * seconds)
            spent[name] += max(seconds, SECONDS / 200)
    return best


def peak_bytes(decode: Decoder) -> int:
    """How much a fresh child's resident set grows at most while it decodes."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        ctypes.CDLL(None).malloc_trim(0)  # what the parent has freed shall not be used again
        before = _status("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # starts VmHWM, the high-water mark, again
        decode()
        os.write(writing, str(_status("VmHWM") - before).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        grown = int(answer.read())
    os.waitpid(child, 0)
    return grown


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith(field)))


def bytes_beyond_alpha(case: Case) -> float:
    """Peak of our own decoder beyond the alpha channel that it returns, in bytes per int of the region."""
    tracemalloc.start()
    alpha = decode_rle(case.rle, case.width, case.height)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return (peak - alpha.nbytes) / len(case.rle)


def measure(case: Case) -> dict[str, Any]:
    """All numbers of one case, as they are written to the JSON file."""
    memory = {name: peak_bytes(decode) for name, decode in decoders(case).items()}
    assert_equal(case)
    return {
        "name": case.name,
        "kind": case.kind,
        "size": f"{case.width} x {case.height}",
        "ints": len(case.rle),
        "milliseconds": milliseconds(case),
        "peak_bytes": memory,
        "bytes_per_int_beyond_alpha": bytes_beyond_alpha(case),
    }


def print_row(row: dict[str, Any]) -> None:
    """One line of the table."""
    times, memory = row["milliseconds"], row["peak_bytes"]
    ours = max(memory["ours"], 4096)
    print(
        f"{row['name']:24}{row['ints']:>10,}{times['ours']:>9.2f}"
        f"{times['sdk'] / times['ours']:>8.1f}{times['ours'] / times['rust']:>8.2f}"
        f"{memory['ours'] / 2**20:>9.1f}{memory['sdk'] / ours:>8.1f}{memory['rust'] / ours:>8.1f}"
        f"{row['bytes_per_int_beyond_alpha']:>11.1f}",
        flush=True,
    )


def summary(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The numbers that the project has promised to keep."""
    recorded = [row for row in rows if row["kind"] == "recorded"]
    large = [row for row in rows if row["kind"] != "recorded" or row["ints"] >= LARGE]
    against_rust = {row["name"]: row["milliseconds"]["ours"] / row["milliseconds"]["rust"] for row in rows}
    painted = [row for row in large if row["kind"] != "noise"]
    return {
        "least times faster than the SDK, large": min(
            row["milliseconds"]["sdk"] / row["milliseconds"]["ours"] for row in large
        ),
        "times of the Rust wheel, median of recorded": statistics.median(
            against_rust[row["name"]] for row in recorded
        ),
        "times of the Rust wheel, median of recorded and large": statistics.median(
            against_rust[row["name"]] for row in recorded if row["ints"] >= LARGE
        ),
        "times of the Rust wheel, at most": max(against_rust.values()),
        "bytes per int beyond alpha, at most, large strokes": max(
            row["bytes_per_int_beyond_alpha"] for row in painted
        ),
    }


def main() -> None:
    """Measure all cases and print them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="write what was measured to this file")
    arguments = parser.parse_args()
    print(HEADER)
    rows = []
    for cases in (recorded_cases(), synthetic_cases()):
        for case in cases:
            rows.append(measure(case))
            print_row(rows[-1])
    print()
    for what, number in summary(rows).items():
        print(f"{what}: {number:.2f}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"summary": summary(rows), "cases": rows}, indent=1))


if __name__ == "__main__":
    main()
