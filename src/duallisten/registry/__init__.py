"""Services that find each other by name, in a registry in Redis or PostgreSQL, or by the private network's DNS alone.

    async with Registry(url) as registry:
        await registry.instances("billing")
        async for instances in registry.watch("billing"): ...

    async with duallisten.registry.http.client("billing", url) as client:
        await client.get("/invoices")

`python -m duallisten.registry URL` shows who is there. A `Registrar` puts this process in, and keeps it in. `http` is
imported by itself, for it needs httpx2 or httpx.
"""

from duallisten.net import PRIVATE_NETWORKS
from duallisten.registry.backend import Backend, Polling, RegistryError, Stored, Wake, Write
from duallisten.registry.entry import Instance, State
from duallisten.registry.finding import Registry
from duallisten.registry.registrar import Registrar, Timing

__all__ = [
    "PRIVATE_NETWORKS",
    "Backend",
    "Instance",
    "Polling",
    "Registrar",
    "Registry",
    "RegistryError",
    "State",
    "Stored",
    "Timing",
    "Wake",
    "Write",
]
