"""The address of an existing Ray cluster: is one there, and does it know our token?

Asked before Ray is imported, because Ray reads the authentication mode only then, and because its
own answer to a wrong token takes most of a minute.
"""

from __future__ import annotations

import os
from pathlib import Path

import grpc

from tuning.config import RunConfig
from tuning.errors import ConfigError

DEFAULT_PORT = 6379
TIMEOUT = 5.0
# The first thing every Ray process asks a cluster.
METHOD = "/ray.rpc.NodeInfoGcsService/GetClusterId"


def cluster_address(config: RunConfig) -> str:
    """HOST:PORT of the cluster that --cluster names, or RAY_ADDRESS when it names none.

    Raises:
        ConfigError: when neither does, or it is no HOST:PORT.
    """
    address = os.environ.get("RAY_ADDRESS") if config.cluster == "auto" else config.cluster
    if not address:
        raise ConfigError(
            "--cluster: no address given and RAY_ADDRESS is not set; pass --cluster HOST:PORT, "
            "or start a cluster with `ray start --head`"
        )
    address = address if ":" in address else f"{address}:{DEFAULT_PORT}"
    if not address.rpartition(":")[2].isdecimal():
        raise ConfigError(f"--cluster: {address!r} is no HOST:PORT")
    return address


def check_cluster(address: str) -> None:
    """Make sure that a Ray cluster answers at `address`, and turn on the token if it wants one.

    Raises:
        ConfigError: when none answers, or it refuses our token.
    """
    if os.environ.get("RAY_USE_TLS") == "1":
        return
    if _ask(address, token=None) is not grpc.StatusCode.UNAUTHENTICATED:
        return
    token = _token()
    if token is None or _ask(address, token) is grpc.StatusCode.UNAUTHENTICATED:
        what = "wants a token" if token is None else "refuses the token"
        raise ConfigError(
            f"--cluster: the Ray cluster at {address} {what}; set RAY_AUTH_TOKEN, or "
            "RAY_AUTH_TOKEN_PATH, to that of the cluster"
        )
    os.environ["RAY_AUTH_MODE"] = "token"


def token_file() -> Path:
    """Where Ray keeps the user's token."""
    return Path.home() / ".ray" / "auth_token"


def _ask(address: str, token: str | None) -> grpc.StatusCode:
    metadata = None if token is None else (("authorization", f"Bearer {token}"),)
    with grpc.insecure_channel(address) as channel:
        try:
            channel.unary_unary(METHOD)(b"", timeout=TIMEOUT, metadata=metadata)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNAUTHENTICATED:
                return error.code()
            raise ConfigError(
                f"--cluster: no Ray cluster answers at {address}; start one with `ray start "
                "--head`, or pass another address"
            ) from error
    return grpc.StatusCode.OK


def _token() -> str | None:
    if token := os.environ.get("RAY_AUTH_TOKEN"):
        return token
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or token_file())
    try:
        return path.read_text().strip()
    except OSError:
        return None
