"""What platforms set in a container's environment."""

from __future__ import annotations

CLUSTER = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443", "HOSTNAME": "shop-7d9f-x2x4k"}
DYNO = {"DYNO": "web.1", "PORT": "5000"}
TASK = {"ECS_CONTAINER_METADATA_URI_V4": "http://169.254.170.2/v4/1", "AWS_EXECUTION_ENV": "AWS_ECS_FARGATE"}
KNATIVE = {"K_SERVICE": "shop", "K_REVISION": "shop-00001", "K_CONFIGURATION": "shop", "PORT": "8080"}

SCALINGO_WEB = {
    "APP": "shop",
    "CONTAINER": "web-1",
    "CONTAINER_VERSION": "f00",
    "CONTAINER_MEMORY": "536870912",
    "SCALINGO_APPLICATION_ID": "ap-1",
    "PORT": "5000",
}

VARIABLES: tuple[tuple[str, dict[str, str]], ...] = (
    ("scalingo", SCALINGO_WEB),
    ("fly", {"FLY_APP_NAME": "shop", "FLY_MACHINE_ID": "148e", "FLY_PRIVATE_IP": "fdaa:0:1::2", "FLY_REGION": "ams"}),
    ("railway", {"RAILWAY_PROJECT_ID": "p", "RAILWAY_SERVICE_ID": "s", "RAILWAY_REPLICA_ID": "r", "PORT": "8080"}),
    ("render", CLUSTER | {"RENDER": "true", "RENDER_SERVICE_TYPE": "web", "PORT": "10000"}),
    ("heroku", DYNO),
    ("heroku-private", DYNO | {"HEROKU_PRIVATE_IP": "10.0.141.3", "HEROKU_DNS_DYNO_NAME": "1.web.shop.app.localspace"}),
    ("heroku-private", DYNO | CLUSTER | {"HEROKU_PRIVATE_IP": "10.0.141.3"}),
    ("dokku", DYNO | {"GIT_REV": "f00"}),
    ("dokku", DYNO | {"DOKKU_APP_TYPE": "herokuish"}),
    ("cloud-foundry", {"VCAP_APPLICATION": "{}", "CF_INSTANCE_GUID": "g", "PORT": "8080"}),
    ("clever-cloud", {"APP_ID": "app_1", "INSTANCE_ID": "i", "CC_PRETTY_INSTANCE_NAME": "Calm Fox", "PORT": "8080"}),
    ("koyeb", {"KOYEB_APP_NAME": "shop", "KOYEB_SERVICE_NAME": "web", "PORT": "8000"}),
    ("northflank", CLUSTER | {"NF_PROJECT_ID": "shop", "NF_OBJECT_ID": "web", "NF_HOSTS": "a.code.run"}),
    ("container-apps", CLUSTER | {"CONTAINER_APP_NAME": "shop", "CONTAINER_APP_REVISION": "shop--1"}),
    ("app-service", {"WEBSITE_SITE_NAME": "shop", "WEBSITE_INSTANCE_ID": "5c", "PORT": "8000"}),
    ("upsun", {"PLATFORM_APPLICATION": "e30=", "PLATFORM_PROJECT": "p", "PORT": "8888"}),
    ("coolify", {"COOLIFY_RESOURCE_UUID": "u", "PORT": "3000", "HOST": "0.0.0.0"}),
    ("nomad", {"NOMAD_ALLOC_ID": "a", "NOMAD_PORT_http": "24001"}),
    ("ecs", TASK),
    ("cloud-run", KNATIVE),
    ("kubernetes", CLUSTER),
    ("kubernetes", CLUSTER | KNATIVE),
    ("none", KNATIVE | {"GAE_SERVICE": "default"}),
    ("none", {"RENDER": "1", "HOSTNAME": "laptop", "APP": "shop", "CONTAINER": "docker"}),
)
"""What a platform sets, as far as it tells one from another; with the variables of what it is built on."""
