"""duallisten's own endpoints, in front of the application: health, metrics and the status page.

`routes` chooses the pages of a process, `pages` answers them, and `hostnames` checks the `Host` of requests. All pages
read the scoreboard of the launch, so any process can report on all processes. Other packages import these modules one
by one: `metrics` needs `prometheus_client`, and a launch without these endpoints imports none of them.
"""
