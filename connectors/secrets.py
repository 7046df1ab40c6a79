"""Secrets come from environment variables that the city file names. Read when a connector starts, never shown, never kept in settings."""

from __future__ import annotations

from collections.abc import Mapping

from models.errors import ConfigError


def read(env: Mapping[str, str], name: str, file: str, key: str) -> str:
    """
    Raises:
        ConfigError: the variable is not set, or empty; says its name, and where it was asked for.
    """
    value = env.get(name, "")
    if not value:
        raise ConfigError(file, key, name, f"the environment variable {name} to be set")
    return value


def login(env: Mapping[str, str], username_env: str | None, password_env: str | None, file: str, key: str) -> tuple[str, str] | None:
    """User and password; None where the city file names neither.

    Raises:
        ConfigError: as ``read``; or a password without a user.
    """
    if username_env is None:
        if password_env is not None:
            raise ConfigError(file, f"{key}.username_env", None, "the name of a variable, since password_env is given")
        return None
    password = "" if password_env is None else read(env, password_env, file, f"{key}.password_env")
    return read(env, username_env, file, f"{key}.username_env"), password
