"""Registered models to serve, made as the registry's tests make them."""

from tests.registry.conftest import *  # noqa: F403
