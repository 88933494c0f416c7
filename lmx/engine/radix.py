"""A radix tree over token sequences with compressed edges; each node counts what its subtree holds, per tier."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.int32]
TIERS = 3


def as_array(tokens: Sequence[int] | Array) -> Array:
    """The same tokens as numpy sees them; free for arrays, 12 ns a token for lists."""
    return np.asarray(tokens, np.int32)


def common(left: Array, right: Array) -> int:
    """How many tokens both begin with."""
    size = min(len(left), len(right))
    differ = left[:size] != right[:size]
    first = int(differ.argmax()) if size else 0
    return first if size and differ[first] else size


@dataclass(eq=False, slots=True)
class Node:
    """The sequence from the root to here. `holds[tier]` counts the marks of it and of everything below."""

    edge: Array
    depth: int
    parent: "Node | None" = None
    children: dict[int, "Node"] = field(default_factory=dict)
    marks: list[bool] = field(default_factory=lambda: [False] * TIERS)
    holds: list[int] = field(default_factory=lambda: [0] * TIERS)

    def up(self) -> "Iterator[Node]":
        """This node, its parent and so on; the root comes last."""
        node: Node | None = self
        while node is not None:
            yield node
            node = node.parent

    def tokens(self) -> Array:
        return np.concatenate([node.edge for node in self.up()][::-1])

    def mark(self, tier: int, *, on: bool) -> None:
        if self.marks[tier] != on:
            self.marks[tier] = on
            for node in self.up():
                node.holds[tier] += 1 if on else -1

    def below(self, tier: int) -> int:
        return self.holds[tier] - self.marks[tier]

    def nearest(self, tier: int) -> "Node":
        """A marked node at or below this one, which must hold one: the newest branch first."""
        node = self
        while not node.marks[tier]:
            node = next(child for child in reversed(node.children.values()) if child.holds[tier])
        return node


@dataclass(frozen=True, slots=True)
class Walk:
    """`shared` tokens were found in the tree; `last` is the node on whose edge, or at whose end, that ended."""

    last: Node
    shared: int

    @property
    def whole(self) -> Node:
        """The deepest node whose sequence is wholly a beginning of what was looked for."""
        return self.last if self.last.depth == self.shared or self.last.parent is None else self.last.parent


class Tree:
    def __init__(self) -> None:
        self.root = Node(np.empty(0, np.int32), 0)

    def walk(self, tokens: Array) -> Walk:
        node, at = self.root, 0
        while at < len(tokens) and (child := node.children.get(int(tokens[at]))) is not None:
            same = common(child.edge, tokens[at:])
            node, at = child, at + same
            if same < len(child.edge):
                break
        return Walk(node, at)

    def insert(self, tokens: Array) -> Node:
        """The node of exactly these tokens; made, unmarked, where there was none."""
        walk = self.walk(tokens)
        node = walk.last if walk.last.depth == walk.shared else self._split(walk.last, walk.shared)
        if walk.shared == len(tokens):
            return node
        leaf = Node(tokens[walk.shared :].copy(), len(tokens), node)
        node.children[int(leaf.edge[0])] = leaf
        return leaf

    def prune(self, node: Node) -> None:
        """Take away a node that nobody needs: no mark, and at most one way on. Its parent may then go as well."""
        while node.parent is not None and not any(node.marks) and not node.children:
            parent, node.parent = node.parent, None
            del parent.children[int(node.edge[0])]
            node = parent
        if node.parent is not None and not any(node.marks) and len(node.children) == 1:
            (child,) = node.children.values()
            child.edge = np.concatenate([node.edge, child.edge])
            child.parent, node.parent = node.parent, None
            child.parent.children[int(child.edge[0])] = child

    @staticmethod
    def _split(node: Node, depth: int) -> Node:
        """A new node in the middle of this one's edge. Copies, so that neither half keeps the other's memory."""
        assert node.parent is not None
        at = len(node.edge) - (node.depth - depth)
        upper = Node(node.edge[:at].copy(), depth, node.parent, holds=list(node.holds))
        node.parent.children[int(upper.edge[0])] = upper
        node.parent, node.edge = upper, node.edge[at:].copy()
        upper.children[int(node.edge[0])] = node
        return upper
