"""What can go wrong between a server and its nodes."""

from __future__ import annotations

from fedpress.errors import Error


class ProtocolError(Error):
    """Server and node do not fit: another version, or one of them lacks its half of fedpress."""


class ReplyError(Error):
    """A reply cannot be part of the model: wrong names, shapes, types or values.

    Attributes:
        node: id of the node that sent it.
    """

    def __init__(self, node: int, message: str) -> None:
        """Keep the node and what is wrong."""
        super().__init__(f"node {node}: {message}")
        self.node = node


class NoUsableReplyError(Error):
    """Not one reply of a round could be used, and fedpress knows why."""
