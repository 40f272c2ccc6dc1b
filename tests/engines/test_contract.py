"""The contract of engines, on each of them."""

from tests.engines.contract import *  # noqa: F403
