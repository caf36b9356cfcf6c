"""duallisten's own endpoints, in front of the application on the private side: health, metrics, status page.

`routes` says which there are, `pages` how they are answered, and `hostnames` to whom. All of them read the scoreboard
of the launch, so that any process may be asked about all. Other rooms import the modules one by one: metrics need
`prometheus_client`, and a launch without these endpoints needs none of it.
"""
