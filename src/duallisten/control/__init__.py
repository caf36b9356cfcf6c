"""The control socket of a launch (`--control PATH`), and its command: `python -m duallisten.control`.

`listening` is the launch's part: it opens the socket, and reads requests in its own thread; `processes` answers them.
`client` is the command's part, and `tables` prints the answers. Both use `protocol`: a request and its answer are one
line of JSON each.

A process that can open the socket has the power of the launch's user. So it has mode 0600, and is never a TCP port.
"""
