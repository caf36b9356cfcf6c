"""Heroku's Common Runtime, from its documentation (devcenter.heroku.com) and its Python buildpack.

- Dynos cannot reach each other: only the router's requests reach a dyno.
- `$DYNO` is `<process type>.<index>`. Only dynos of the type `web` get requests, on `$PORT`.
- Router 2.0 keeps idle connections for 90 s. It appends the client to X-Forwarded-For, and keeps a client's
  X-Request-ID.
- Every process of the dyno gets SIGTERM, and SIGKILL 30 s later.
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
