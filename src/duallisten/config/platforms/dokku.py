"""Dokku, from its documentation and source (github.com/dokku/dokku).

- nginx on the host connects over Docker's bridge to `$PORT`, usually 5000; `$DYNO` is `<process type>.<index>`. `$PORT`
  is empty for every type but `web`. Applications that share an attached network reach each other there. A network that
  is attached after the deployment (attach-post-deploy) appears while the container runs.
- nginx replaces X-Forwarded-For by its peer's address; every application on the bridge reaches the port, too.
- SIGTERM comes right after the switch, SIGKILL 30 s later (stop-timeout-seconds), and 60 s at least (wait-to-retire).
- It uses Heroku's buildpacks, which export FORWARDED_ALLOW_IPS and WEB_CONCURRENCY.
"""

from duallisten.config.platforms.base import Platform

DOKKU = Platform(
    name="dokku",
    title="Dokku",
    sources=(
        "https://dokku.com/docs/networking/network/",
        "https://dokku.com/docs/networking/port-management/",
        "https://dokku.com/docs/networking/proxies/nginx/",
        "https://dokku.com/docs/deployment/zero-downtime-deploys/",
        "https://dokku.com/docs/deployment/methods/git/#configuring-the-git_rev-environment-variable",
    ),
    inferred=("is_routed", "exports_trust", "sets_concurrency"),
    notes=(
        "Give `--forwarded-allow-ips` the bridge's gateway, where nginx comes from: 172.17.0.1 unless Docker is told "
        "otherwise. Other applications on the bridge reach `$PORT`, too.",
        "Name the attached network's subnet with `--private-network`; with attach-post-deploy also give "
        "`--private-missing later`.",
    ),
    container_variable="DYNO",
    container_separator=".",
    version_variable="GIT_REV",
    public_process_types=("web",),
    port=5000,
    fence="address",  # all applications of the host share the bridge
    exports_trust=True,
    grace=30.0,
    grace_setting="`dokku ps:set <app> stop-timeout-seconds`",
    sets_concurrency=True,
)
