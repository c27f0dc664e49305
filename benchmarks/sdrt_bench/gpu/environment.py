"""Makes an environment of this machine's packages and wheels that were brought along; no network.

python3 -m sdrt_bench.gpu.environment WHEELS PARTS SITE

Runs before anything is installed, so it imports nothing but the standard library. What is missing is told all
at once. WHEELS must be whole; PARTS, which together are the wheel of onnxruntime-gpu, may be missing.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parents[3]
SUMS = "SHA256SUMS"
PART = re.compile(r"\.part\d+of\d+$")
# distribution -> the least version that what is run needs; what is not here comes with one of these
NEEDED = {
    "click": "8.2",
    "diffusers": "0.38",
    "msgspec": "0.20",
    "numpy": "2.2",
    "onnx": "1.20",
    "onnx-ir": "1.1",
    "onnxruntime": "1.24",
    "onnxscript": "0.6",
    "peft": "0.18",
    "pillow": "11",
    "pytest": "8",
    "pytest-timeout": "2.3",
    "rich": "14",
    "safetensors": "0.6",
    "tokenizers": "0.22",
    "torch": "2.11",
    "transformers": "5.0",
}


class MissingError(Exception):
    """The environment cannot be made; the message says of what, line by line."""


def check_wheels(folder: Path) -> list[Path]:
    """The wheels in a folder, each with the SHA-256 that `make gpu-wheels` wrote.

    Raises MissingError naming each that is missing or damaged.
    """
    wheels = [(folder / name, digest) for name, digest in _expected(folder).items()]
    troubles = [f"{file.name} is missing in {folder}; bring it" for file, _ in wheels if not file.is_file()]
    troubles += [
        f"{file} is damaged: its SHA-256 is not that in {SUMS}; bring it again"
        for file, digest in wheels
        if file.is_file() and sha256(file) != digest
    ]
    if troubles:
        raise MissingError("\n".join(troubles))
    return [file for file, _ in wheels]


def join_parts(folder: Path, target: Path) -> list[Path]:
    """The wheel that was brought in parts, joined in `target`; none if some parts are still missing.

    Raises MissingError if a part is damaged.
    """
    if not (folder / SUMS).is_file():
        return []
    names = sorted(_expected(folder))
    here = [name for name in names if (folder / name).is_file()]
    if len(here) < len(names):
        print(f"{folder}: {len(here)} of {len(names)} parts are here, so they are left out")
        return []
    parts = check_wheels(folder)
    wheel = target / PART.sub("", names[0])
    with wheel.open("wb") as file:
        for part in sorted(parts):
            file.write(part.read_bytes())
    return [wheel]


def _expected(folder: Path) -> dict[str, str]:
    """SHA-256 by name of file."""
    sums = folder / SUMS
    if not sums.is_file():
        raise MissingError(
            f"there are no wheels in {folder}; where there is a network run: make gpu-wheels, and bring them"
        )
    lines = (line.split(maxsplit=1) for line in sums.read_text(encoding="utf-8").splitlines() if line)
    return {name: digest for digest, name in lines}


def sha256(file: Path) -> str:
    """Of a whole file, in hex digits."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def install(wheels: list[Path], site: Path) -> None:
    """Unpack wheels to `site`, and write there that sdrt is installed, which it is where it lies.

    Raises MissingError if pip is not there or refuses one.
    """
    shutil.rmtree(site, ignore_errors=True)
    site.mkdir(parents=True)
    if importlib.util.find_spec("pip") is None:
        raise MissingError(f"{sys.executable} has no pip to install the wheels with")
    words = ["install", "--quiet", "--no-index", "--no-deps", "--no-cache-dir", "--no-compile"]
    command = [sys.executable, "-m", "pip", *words, "--disable-pip-version-check", "--target", str(site)]
    done = subprocess.run([*command, *map(str, wheels)], capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise MissingError(f"pip cannot install the wheels: {said[-1] if said else 'it said nothing'}")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    about = site / f"sdrt-{project['version']}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: sdrt\nVersion: {project['version']}\n")


def check_packages(site: Path) -> None:
    """Raise MissingError naming every package that is missing or too old."""
    sys.path.insert(0, str(site))
    troubles = []
    for name, least in NEEDED.items():
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            # the GPU build is another distribution of the same module
            if name == "onnxruntime" and importlib.util.find_spec("onnxruntime") is not None:
                continue
            troubles.append(f"{name} is not installed and not among the wheels; at least {least} is needed")
            continue
        if _numbers(found) < _numbers(least):
            troubles.append(f"{name} is {found}, and at least {least} is needed; bring its wheel")
    if troubles:
        raise MissingError("\n".join(troubles))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:3])


def main(wheels: str, parts: str, site: str) -> None:
    """Make the environment, or say what it lacks and end with 1."""
    if sys.version_info < (3, 11):  # noqa: UP036, whatever python3 is on the machine runs this
        raise SystemExit(f"Error: {sys.executable} is Python {sys.version.split()[0]}; 3.11 is needed")
    try:
        brought = [*check_wheels(Path(wheels)), *join_parts(Path(parts), Path(site).parent)]
        install(brought, Path(site))
        check_packages(Path(site))
    except MissingError as error:
        raise SystemExit("\n".join(f"Error: {line}" for line in str(error).splitlines())) from None


if __name__ == "__main__":
    main(*sys.argv[1:])
