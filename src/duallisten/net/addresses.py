"""Where a listener is bound, as values that print themselves; parsed once and never passed on as text."""

from __future__ import annotations

from typing import NamedTuple

WILDCARDS = ("0.0.0.0", "::")  # noqa: S104


class TCPAddress(NamedTuple):
    """An IP address (with its zone, if it has one) and a port in host order; 0 lets the kernel choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_wildcard(self) -> bool:
        """Whether it stands for every address of the host."""
        return self.host in WILDCARDS

    def covers(self, other: TCPAddress) -> bool:
        """Whether a socket bound here also gets what is sent to `other`; `::` is bound for both families."""
        if self.port != other.port or self.port == 0:
            return False
        return self.host in (other.host, "::") or (self.host == "0.0.0.0" and ":" not in other.host)  # noqa: S104


class UnixAddress(NamedTuple):
    """The path of a UNIX domain socket."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


class InheritedSocket(NamedTuple):
    """A socket that the process was started with.

    descriptor: its file descriptor
    address: where it is bound, if that has been looked up
    """

    descriptor: int
    address: TCPAddress | UnixAddress | None = None

    def __str__(self) -> str:
        return f"fd:{self.descriptor}" if self.address is None else f"{self.address} (fd:{self.descriptor})"


class Passed(NamedTuple):
    """The sockets that a service manager has bound for the listeners, by their sides."""

    public: tuple[InheritedSocket, ...] = ()
    private: InheritedSocket | None = None


Address = TCPAddress | UnixAddress | InheritedSocket
