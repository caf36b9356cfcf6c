"""What systemd says to a service, and hears from it: passed sockets, readiness, its watchdog.

All of it is on where systemd's variables are in the environment, and nothing of it is imported elsewhere:

- `listeners.socket_activation`: the sockets of `.socket` units become the listeners (`LISTEN_FDS`, sd_listen_fds(3));
- `processes.sd_notify`: what is told (`NOTIFY_SOCKET`, `WATCHDOG_USEC`; sd_notify(3), sd_watchdog_enabled(3));
- `server`, `supervisor`, `reload` here: who tells it, in each of the three ways to launch.

It is our own, for each is a datagram or a few variables, and there is no library that is small, written in Python and
kept: sdnotify and sd-notify are that but for the last (2017, 2019) and know neither descriptors nor reloads;
systemd-python and cysystemd are bindings, which take a compiler and libsystemd, or a megabyte of it.
"""
