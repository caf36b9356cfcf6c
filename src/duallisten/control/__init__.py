"""The control socket of a launch (`--control PATH`), and the command that asks at it: `python -m duallisten.control`.

`listening` is the launch's end: it opens the socket, and reads requests in a thread of its own. What a request means is
not known here: `processes` answers it. `client` is the other end, with `tables` for a person. `protocol` is what both
know: a request is one line of JSON, and so is its answer.

Whoever may open the socket may do whatever the launch's user may: it has mode 0600, and is never a TCP port.
"""
