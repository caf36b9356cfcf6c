"""One process that serves: lifespan, start, heartbeat, drain and end."""

from duallisten.server.registration import registration_of
from duallisten.server.server import Server
from duallisten.server.shutdown import linger_seconds

__all__ = ["Server", "linger_seconds", "registration_of"]
