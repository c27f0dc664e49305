"""ComfyUI's graph: nodes by id, each with `class_type` and `inputs`; an input [id, output] is a link."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from sdrt.errors import InputError

_LONGEST = 200  # links in a row

Node = Mapping[str, Any]
# how switches of the common packs call their choice, and their inputs
_CHOICES = ("select", "index", "switch", "boolean", "condition", "value")
_OF_BOOLEAN = {True: ("on_true", "if_true", "true"), False: ("on_false", "if_false", "false")}


class Graph:
    """The nodes; every look at them is checked."""

    def __init__(self, nodes: Mapping[str, Any]) -> None:
        self.nodes = {key: node for key, node in nodes.items() if isinstance(node, dict)}

    def of(self, *kinds: str) -> list[Node]:
        """The nodes of some classes."""
        return [node for node in self.nodes.values() if kind(node) in kinds]

    def linked(self, node: Node, key: str) -> Node | None:
        """The node that an input comes from; None if it is no link."""
        value = inputs(node).get(key)
        if not isinstance(value, list) or len(value) != 2:
            return None
        found = self.nodes.get(str(value[0]))
        if found is None:
            raise InputError(f"the {key} of its {kind(node)} comes from a node that is not there")
        return self._through(found)

    def _through(self, node: Node) -> Node:
        """The node itself, or what a reroute or a switch passes on."""
        for _ in range(_LONGEST):
            key = _passed_on(node)
            value = None if key is None else inputs(node).get(key)
            if not isinstance(value, list) or len(value) != 2 or str(value[0]) not in self.nodes:
                return node
            node = self.nodes[str(value[0])]
        raise InputError("its ComfyUI graph runs in a circle")

    def chain(self, node: Node | None, *keys: str) -> Iterator[Node]:
        """A node, the one that the first of its inputs `keys` that is a link comes from, and so on."""
        for _ in range(_LONGEST):
            if node is None:
                return
            yield node
            sources = (self.linked(node, key) for key in keys)
            node = next(filter(None, sources), None)
        raise InputError("its ComfyUI graph runs in a circle")


def _passed_on(node: Node) -> str | None:
    """The input that a reroute or a switch gives as it is; None for any other node."""
    called, given = kind(node).lower(), inputs(node)
    links = [key for key, value in given.items() if isinstance(value, list)]
    if "reroute" in called:
        return links[0] if len(links) == 1 else None
    if "switch" not in called:
        return None
    chosen = next((given[key] for key in _CHOICES if isinstance(given.get(key), bool | int)), None)
    if isinstance(chosen, bool):
        return next((key for key in _OF_BOOLEAN[chosen] if key in given), None)
    if chosen is not None:
        return next((key for key in links if re.sub(r"\D", "", key) == str(chosen)), None)
    return min(links, default=None)  # the first that is there, as switches without a choice have it


def kind(node: Node) -> str:
    """The class of a node."""
    found = node.get("class_type")
    return found if isinstance(found, str) else ""


def inputs(node: Node) -> Mapping[str, Any]:
    """The inputs of a node."""
    found = node.get("inputs")
    return found if isinstance(found, dict) else {}
