"""A peer's process in an environment in which sdrt is not installed: lends it the code of this one.

python elsewhere.py FOLDER_OF_SDRT FOLDER_OF_SDRT_BENCH '{"runner": "optimum", ...}'

The two packages alone are lent: with this environment's site-packages on its path, the other would import
this one's torch. What the peer's process needs beside the peer itself is in NEEDED.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

NEEDED = ("msgspec", "numpy")
_LEAST_PYTHON = (3, 11)


def command(python: str) -> list[str]:
    """What to start, before the words that tell the peer what it is."""
    import sdrt
    import sdrt_bench

    folders = [str(Path(package.__path__[0])) for package in (sdrt, sdrt_bench)]
    return [python, str(Path(__file__).resolve()), *folders]


def check(python: str) -> None:
    """Raises InputError for an interpreter that cannot run a peer, before an hour is spent on the others."""
    from sdrt.errors import InputError

    probe = "\n".join(f"import {name}" for name in NEEDED)
    probe = f"import sys\nassert sys.version_info >= {_LEAST_PYTHON}, sys.version\n{probe}"
    try:
        done = subprocess.run([python, "-c", probe], capture_output=True, text=True, check=False)
    except OSError as error:
        raise InputError(f"--python: cannot run {python}: {error.strerror}") from None
    if done.returncode:
        last = done.stderr.strip().rpartition("\n")[2]
        raise InputError(
            f"--python: {python} cannot run a peer: {last}; it needs Python "
            f"{'.'.join(map(str, _LEAST_PYTHON))} and: {python} -m pip install {' '.join(NEEDED)}"
        )


def _lend(name: str, folder: Path) -> None:
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


def main() -> None:
    """Lend the packages, then be the child."""
    sys.path.pop(0)  # the folder of this file, whose modules would stand before the environment's
    sdrt, sdrt_bench = sys.argv[1:3]
    del sys.argv[1:3]
    _lend("sdrt", Path(sdrt))
    _lend("sdrt_bench", Path(sdrt_bench))
    from sdrt_bench.peers import child

    child.main()


if __name__ == "__main__":
    main()
