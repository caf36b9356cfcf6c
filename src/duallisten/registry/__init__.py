"""Service discovery by name: a registry in Redis or PostgreSQL, or only the private network's DNS.

    async with Registry(url) as registry:
        await registry.instances("billing")
        async for instances in registry.watch("billing"): ...

    async with duallisten.registry.http.client("billing", url) as client:
        await client.get("/invoices")

`python -m duallisten.registry URL` lists the registered instances. A `Registrar` registers this process and keeps it
registered. The module `http` must be imported separately, because it needs httpx2 or httpx.
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
