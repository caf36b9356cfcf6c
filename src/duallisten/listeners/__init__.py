"""What is bound, who may come in, whom a listener believes, and how it accepts."""

from duallisten.listeners.accept_loop import AcceptLoop, ConnectionLimit, PeerLimit
from duallisten.listeners.acceptor import Acceptor, AcceptorState, AdmissionPolicy, ListenerService, host_of
from duallisten.listeners.address_watch import Latecomer, Watch, await_plan, watch_from
from duallisten.listeners.admission import Verdict
from duallisten.listeners.description import log_listeners, names_of, places, scheme
from duallisten.listeners.forwarded import believing, trust_of
from duallisten.listeners.listener_config import endpoints_of, engine_settings, listener_config, place_endpoints
from duallisten.listeners.listener_set import ListenerSet, Listening
from duallisten.listeners.plan import Plan, request_of
from duallisten.listeners.pools import Pool, make_pools, whole
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
    "AdmissionPolicy",
    "BoundSocket",
    "ConnectionLimit",
    "Latecomer",
    "ListenerService",
    "ListenerSet",
    "Listening",
    "PeerLimit",
    "Plan",
    "Pool",
    "Verdict",
    "Watch",
    "await_plan",
    "believing",
    "bound_socket",
    "claimed",
    "drop_newcomers",
    "endpoints_of",
    "engine_settings",
    "has_waiting",
    "host_of",
    "listen",
    "listener_config",
    "log_listeners",
    "make_pools",
    "names_of",
    "place_endpoints",
    "places",
    "request_of",
    "scheme",
    "tcp_socket",
    "trust_of",
    "watch_from",
    "whole",
]
