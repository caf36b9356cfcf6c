"""One server process: lifespan, startup, heartbeat, drain and shutdown."""

from duallisten.server.drain import waited_for
from duallisten.server.registration import registration_of
from duallisten.server.server import Server
from duallisten.server.services import share_of
from duallisten.server.shutdown import linger_seconds, logged

__all__ = ["Server", "linger_seconds", "logged", "registration_of", "share_of", "waited_for"]
