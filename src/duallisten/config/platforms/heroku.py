"""Heroku's Common Runtime, from its documentation (devcenter.heroku.com) and its Python buildpack.

- Dynos cannot reach each other: nothing but the router's requests reaches one.
- `$DYNO` is `<process type>.<index>`. Requests come to dynos of the type `web` alone, to `$PORT`.
- Router 2.0 keeps idle connections for 90 s. It appends the client to X-Forwarded-For, and takes over a client's
  X-Request-ID.
- SIGTERM, to every process of the dyno, is followed by SIGKILL after 30 s.
- The buildpack exports `FORWARDED_ALLOW_IPS='*'` over the user's own value, and WEB_CONCURRENCY by the dyno's size.
"""

from duallisten.config.platforms.base import Platform

HEROKU = Platform(
    name="heroku",
    title="Heroku (Common Runtime)",
    sources=(
        "https://devcenter.heroku.com/articles/networking",
        "https://devcenter.heroku.com/articles/http-routing",
        "https://devcenter.heroku.com/articles/dyno-shutdown-behavior",
        "https://github.com/heroku/heroku-buildpack-python (vendor/python.gunicorn.sh, WEB_CONCURRENCY.sh)",
        "https://github.com/heroku/python-getting-started/pull/261",
    ),
    inferred=("request_id_header",),
    notes=(
        "Recognised by `DYNO` alone, which Dokku sets, too: a container there that has no `GIT_REV` needs "
        "`--platform dokku`.",
    ),
    application_variable="HEROKU_APP_NAME",
    container_variable="DYNO",
    container_separator=".",
    version_variable="HEROKU_RELEASE_VERSION",
    public_process_types=("web",),
    has_private=False,
    is_routed=True,
    exports_trust=True,
    request_id_header="X-Request-ID",
    grace=30.0,
    keep_alive=90.0,
    probes="tcp",
    sets_concurrency=True,
)
