"""Listeners: addresses and sockets, admission, trusted proxies, and the accept loop."""

from duallisten.listeners.accept_loop import AcceptLoop, ConnectionLimit
from duallisten.listeners.acceptor import (
    Acceptor,
    AcceptorState,
    AdmissionPolicy,
    ListenerService,
    ListenerSet,
    Listening,
    host_of,
)
from duallisten.listeners.address_watch import AddressWatch, await_plan
from duallisten.listeners.admission import Verdict
from duallisten.listeners.description import ServedListener, log_listeners, served_listeners
from duallisten.listeners.forwarded import Trust, believing, proxies_of, trust_of
from duallisten.listeners.listener_config import engine_settings, listener_config, place_endpoints
from duallisten.listeners.plan import Plan, Pool, make_pools, request_of
from duallisten.listeners.sockets import (
    BoundSocket,
    bound_socket,
    claimed,
    drop_newcomers,
    has_waiting,
    listen,
    tcp_socket,
)

__all__ = [
    "AcceptLoop",
    "Acceptor",
    "AcceptorState",
    "AddressWatch",
    "AdmissionPolicy",
    "BoundSocket",
    "ConnectionLimit",
    "ListenerService",
    "ListenerSet",
    "Listening",
    "Plan",
    "Pool",
    "ServedListener",
    "Trust",
    "Verdict",
    "await_plan",
    "believing",
    "bound_socket",
    "claimed",
    "drop_newcomers",
    "engine_settings",
    "has_waiting",
    "host_of",
    "listen",
    "listener_config",
    "log_listeners",
    "make_pools",
    "place_endpoints",
    "proxies_of",
    "request_of",
    "served_listeners",
    "tcp_socket",
    "trust_of",
]
