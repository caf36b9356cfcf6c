"""Faults: what clients see when something breaks, on real sockets and with real processes. Where each is shown:

- **A worker is killed**: `test_rolling.py` (requests in hand), `test_supervisor.py`, `test_balance.py` (its queue).
- **A worker is stopped, or its event loop blocked**: `test_workers.py`; killed and replaced: `test_supervisor.py`.
- **The supervisor is killed**: `test_workers.py` (the port is free); no orphans: `test_supervisor.py`,
  `test_balance.py`, `test_fork_server.py`.
- **The workers keep crashing**: `test_workers.py`; the growing delay: `test_supervisor.py`.
- **A successor fails, or never serves**: `test_recycling.py`; with SIGHUP: `test_supervisor.py`.
- **The files change all the time under --reload**: `test_workers.py`.
- **The application fails to start**: `test_cli.py`, `test_supervisor.py`; before it accepts: `test_server.py`;
  it blocks: `test_shutdown.py`.
- **The application fails in its shutdown, or amid an answer**: `test_application.py`.
- **The private address comes late, or goes and comes back**: `test_late_address.py`.
- **Nobody reads the output, its reader is gone, or it is closed**: `test_surroundings.py`.
- **The clock is set back**: `test_surroundings.py`.
- **No descriptor is left**: `test_accept_loop.py`; for the supervisor: `test_supervisor.py`.
- **Many requests, slow readers**: `test_load.py`.
"""
