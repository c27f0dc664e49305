"""What backends that read a bundle's graphs themselves have in common: they need no engines."""

from __future__ import annotations

from typing import Self

from sdrt.bundle import Bundle


class GraphRuntime:
    """A runtime that takes any bundle's graphs, in any shape."""

    def for_bundle(self, bundle: Bundle, *, trust_engines: bool = False) -> Self:
        """Itself: bundles make no difference."""
        return self

    def pictures_at_once(self, width: int, height: int) -> int | None:
        """No limit."""
        return None
