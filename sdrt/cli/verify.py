"""`sdrt verify`."""

from __future__ import annotations

import click

from sdrt.cli.status import status
from sdrt.cli.terminal import echo, echo_json


@click.command()
@click.argument("bundle", required=False)
@click.option("--fast", is_flag=True, help="Sizes and headers only.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def verify(bundle: str | None, fast: bool, as_json: bool) -> None:
    """Check every file of BUNDLE (by default the demo model) against its manifest.

    Hashes every file, whether or not it passed before; exits 2 and names the file if one is wrong.
    """
    from sdrt.bundle import Bundle
    from sdrt.models import find_bundle

    path = find_bundle(bundle)
    with status() as progress:
        checked = Bundle.open(path, verify="fast" if fast else "full", progress=progress)
    files = checked.manifest.files
    size = sum(entry.size for entry in files.values())
    if as_json:
        mode = "fast" if fast else "full"
        echo_json({"bundle": str(path), "verify": mode, "files": len(files), "bytes": size, "ok": True})
    else:
        how = "sizes and headers" if fast else "SHA-256"
        echo(f"{path} is sound: {len(files)} files, {size / 1e6:.1f} MB ({how})")
