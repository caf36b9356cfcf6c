"""What each side may reach: path rules, endpoint sets, routes and OpenAPI documents."""

from duallisten.endpoints.endpoint_set import endpoint_set, refusal
from duallisten.endpoints.path_rules import Rules, contradiction, read_prefix

__all__ = ["Rules", "contradiction", "endpoint_set", "read_prefix", "refusal"]
