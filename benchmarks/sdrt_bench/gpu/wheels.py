"""Fetches the wheels that a bare machine with a GPU lacks, where there is a network.

python -m sdrt_bench.gpu.wheels [--python 3.12] [--onnxruntime-gpu]
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import click

from sdrt_bench.gpu.environment import ROOT, SUMS, sha256

FOLDER = ROOT / "benchmarks" / "gpu"
IN_PARTS = "onnxruntime-gpu"
PART_BYTES = 50_000_000
_PLATFORMS = [
    f"manylinux{version}_x86_64" for version in ("_2_28", "_2_27", "_2_17", "2014")
]  # pip takes each for itself alone


@click.command()
@click.option("--python", default="3.12", show_default=True, help="That the wheels are for.")
@click.option("--onnxruntime-gpu", is_flag=True, help="Its wheel too, in numbered parts of 50 MB.")
def main(python: str, onnxruntime_gpu: bool) -> None:
    """Fetch the wheels that benchmarks/gpu/run.sh installs, and print their sizes.

    They are in benchmarks/gpu/wheels; the parts of onnxruntime-gpu, for those who can bring them in several
    trips, in benchmarks/gpu/onnxruntime-gpu.
    """
    pins = ROOT / "constraints.txt"
    with tempfile.TemporaryDirectory() as name:
        made = Path(name)
        _download(made, python, ["-c", str(pins), "-r", str(FOLDER / "requirements.txt")])
        _put(made, FOLDER / "wheels")
    if not onnxruntime_gpu:
        return
    version = next(
        line.partition("==")[2] for line in pins.read_text().splitlines() if line.startswith("onnxruntime==")
    )
    with tempfile.TemporaryDirectory() as name:
        made = Path(name)
        _download(made, python, [f"{IN_PARTS}=={version}"])
        for wheel in list(made.iterdir()):
            _split(wheel)
        _put(made, FOLDER / IN_PARTS)


def _put(made: Path, folder: Path) -> None:
    """Write the sums, and put everything in the place of what was there."""
    files = sorted(made.iterdir())
    sums = "".join(f"{sha256(file)}  {file.name}\n" for file in files)
    for file in files:
        click.echo(f"{file.stat().st_size / 1e6:7.2f} MB  {file.name}")
    click.echo(f"{sum(file.stat().st_size for file in files) / 1e6:7.2f} MB  in {folder}")
    (made / SUMS).write_text(sums)
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(made, folder)


def _download(folder: Path, python: str, what: list[str]) -> None:
    words = ["download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"]
    words += ["--python-version", python, "--implementation", "cp", "--dest", str(folder)]
    words += [word for platform in _PLATFORMS for word in ("--platform", platform)]
    done = subprocess.run([sys.executable, "-m", "pip", *words, *what], capture_output=True, text=True)
    if done.returncode:
        raise click.ClickException(f"pip cannot fetch the wheels: {done.stderr.strip().splitlines()[-1]}")


def _split(wheel: Path) -> None:
    """Replace a wheel by its parts."""
    content = wheel.read_bytes()
    starts = range(0, len(content), PART_BYTES)
    for number, start in enumerate(starts, 1):
        part = wheel.with_name(f"{wheel.name}.part{number:02}of{len(starts):02}")
        part.write_bytes(content[start : start + PART_BYTES])
    wheel.unlink()


if __name__ == "__main__":
    main()
