"""What can go wrong: one class for each kind, all of them :class:`Error`.

Whoever has to change something decides the kind: the caller (:class:`InvalidArgumentError`), the
sender of the bytes (:class:`CorruptError`, :class:`TruncatedError`), the version installed
(:class:`UnsupportedError`), or a limit (:class:`LimitError`).
"""

from __future__ import annotations


class Error(Exception):
    """What fedpress raises.

    Attributes:
        tensor: name of the tensor at fault, where there is one.
        offset: position in the stream, in bytes, of the record at fault.
        values_done: how many values an interrupted :func:`fedpress.add_into` had added.
    """

    def __init__(
        self,
        message: str,
        *,
        tensor: str | None = None,
        offset: int | None = None,
        values_done: int | None = None,
    ) -> None:
        """Keep the message and where it happened."""
        super().__init__(message)
        self.tensor = tensor
        self.offset = offset
        self.values_done = values_done


class StreamIOError(Error, OSError):
    """A file, a pipe or a disk refused."""


class TruncatedError(Error, EOFError):
    """The bytes end before the end of the stream."""


class UnsupportedError(Error):
    """The stream is of another version, or holds what this version does not know."""


class CorruptError(Error, ValueError):
    """The bytes are not a fedpress stream, or were changed on their way."""


class OutOfStepError(CorruptError):
    """A message builds on what this :class:`fedpress.delta.Replica` does not hold.

    The server is to be told, and to :meth:`~fedpress.delta.Versions.forget` the client.
    """


class LimitError(Error, MemoryError):
    """Decoding would take more memory than ``memory_limit``.

    Attributes:
        limit: the limit, in bytes.
        needed: what would have been needed, in bytes.
    """

    def __init__(
        self,
        message: str,
        *,
        limit: int = 0,
        needed: int = 0,
        tensor: str | None = None,
        offset: int | None = None,
        values_done: int | None = None,
    ) -> None:
        """Keep the message, the limit, and where it happened."""
        super().__init__(message, tensor=tensor, offset=offset, values_done=values_done)
        self.limit = limit
        self.needed = needed


class InvalidArgumentError(Error, ValueError):
    """The caller asked for something that cannot be."""


class DeviceError(Error, RuntimeError):
    """The device that was asked to code failed."""


class PoisonedError(Error, RuntimeError):
    """An earlier call on this object failed; start again with a new one."""


class RejectedError(Error, ValueError):
    """A server does not take what a client sent; the server is as it was.

    Attributes:
        reason: its name in section 1.3 of ``fl/MESSAGES.md``, such as ``"Duplicate"``.
        number: its number there.
    """

    def __init__(self, message: str, *, reason: str, number: int) -> None:
        """Keep the message and the reason."""
        super().__init__(message)
        self.reason = reason
        self.number = number
