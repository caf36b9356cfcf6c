"""The configuration: options, the sources of their values, the platform, and `Config`."""

from duallisten.config.config import Config, bare
from duallisten.config.option import NOT_SHOWN, Option, is_secret, nearest
from duallisten.config.options import Options, all_options, own_options, uvicorn_twins
from duallisten.config.platforms import Place, networks_of_interface
from duallisten.config.signatures import takes_options
from duallisten.config.sources import Settings, collect, collect_again
from duallisten.config.trust import keeps_request_ids
from duallisten.config.uvicorn_options import uvicorn_defaults

__all__ = [
    "NOT_SHOWN",
    "Config",
    "Option",
    "Options",
    "Place",
    "Settings",
    "all_options",
    "bare",
    "collect",
    "collect_again",
    "is_secret",
    "keeps_request_ids",
    "nearest",
    "networks_of_interface",
    "own_options",
    "takes_options",
    "uvicorn_defaults",
    "uvicorn_twins",
]
