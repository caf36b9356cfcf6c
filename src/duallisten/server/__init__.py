"""One process that serves: lifespan, start, heartbeat, drain and end."""

from duallisten.server.drain import waited_for
from duallisten.server.registration import registration_of
from duallisten.server.server import Server, logged, share_of
from duallisten.server.shutdown import limit_linger

__all__ = [
    "Server",
    "limit_linger",
    "logged",
    "registration_of",
    "share_of",
    "waited_for",
]
