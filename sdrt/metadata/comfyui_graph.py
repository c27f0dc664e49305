"""ComfyUI's graph: nodes by id, each with `class_type` and `inputs`; an input [id, output] is a link."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sdrt.errors import InputError

_LONGEST = 200  # links in a row

Node = Mapping[str, Any]


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
        return found

    def chain(self, node: Node | None, *keys: str) -> Iterator[Node]:
        """A node, the one that the first of its inputs `keys` that is a link comes from, and so on."""
        for _ in range(_LONGEST):
            if node is None:
                return
            yield node
            sources = (self.linked(node, key) for key in keys)
            node = next(filter(None, sources), None)
        raise InputError("its ComfyUI graph runs in a circle")


def kind(node: Node) -> str:
    """The class of a node."""
    found = node.get("class_type")
    return found if isinstance(found, str) else ""


def inputs(node: Node) -> Mapping[str, Any]:
    """The inputs of a node."""
    found = node.get("inputs")
    return found if isinstance(found, dict) else {}
