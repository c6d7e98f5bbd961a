"""The address of an existing Ray cluster, and whether it answers and accepts our token.

This is checked before Ray is imported: Ray reads the authentication mode only then, and takes most
of a minute to report a wrong token.
"""

from __future__ import annotations

import os
from importlib.metadata import version
from pathlib import Path

import grpc
import requests

from tuning.config import RunConfig
from tuning.errors import ConfigError

DEFAULT_PORT = 6379
TIMEOUT = 5.0
# The first call of every Ray process to a cluster.
METHOD = "/ray.rpc.NodeInfoGcsService/GetClusterId"


def cluster_address(config: RunConfig) -> str:
    """HOST:PORT of the cluster that --cluster names, or of RAY_ADDRESS if it has no address.

    Raises:
        ConfigError: when neither does, or it is not HOST:PORT.
    """
    address = os.environ.get("RAY_ADDRESS") if config.cluster == "auto" else config.cluster
    if not address:
        raise ConfigError(
            "--cluster: no address given and RAY_ADDRESS is not set; pass --cluster HOST:PORT, "
            "or start a cluster with `ray start --head`"
        )
    address = address if ":" in address else f"{address}:{DEFAULT_PORT}"
    if not address.rpartition(":")[2].isdecimal():
        raise ConfigError(f"--cluster: {address!r} is not HOST:PORT")
    return address


def dashboard_address(cluster: str | None) -> str | None:
    """The http:// address in `cluster`, or in RAY_ADDRESS if that is "auto"; otherwise None."""
    address = os.environ.get("RAY_ADDRESS") if cluster == "auto" else cluster
    return address if address and address.startswith(("http://", "https://")) else None


def job_address(cluster: str | None, *, detach: bool) -> str | None:
    """The dashboard to which the work is submitted as a job; None if it runs from here.

    Raises:
        ConfigError: when there is none, although the user wants to `detach` from the job.
    """
    address = dashboard_address(cluster)
    if detach and address is None:
        raise ConfigError("--detach: needs the address of a dashboard, --cluster http://HOST:8265")
    return address


def check_dashboard(address: str) -> None:
    """Make sure that a Ray of our version answers at `address`, and use our token if it needs one.

    Raises:
        ConfigError: when none answers, it refuses our token, or has a different version.
    """
    token = _token()
    answer = _get(address, None)
    if answer.status_code == requests.codes.unauthorized:
        if token is None or not (answer := _get(address, token)).ok:
            raise _refused(address, token)
        os.environ["RAY_AUTH_MODE"] = "token"
    try:
        found = answer.json()["ray_version"]
    except (ValueError, KeyError) as error:
        raise ConfigError(f"--cluster: what answers at {address} is not a Ray dashboard") from error
    ours = version("ray")
    if found != ours:
        raise ConfigError(
            f"--cluster: {address} has Ray {found}, but this machine has {ours}; install the "
            "versions of constraints.txt on both"
        )


def _get(address: str, token: str | None) -> requests.Response:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    try:
        return requests.get(f"{address}/api/version", headers=headers, timeout=TIMEOUT)
    except requests.RequestException as error:
        raise ConfigError(
            f"--cluster: no Ray dashboard answers at {address}; check the address, and that this "
            "machine reaches it"
        ) from error


def check_cluster(address: str) -> None:
    """Make sure that a Ray cluster answers at `address`, and use our token if it needs one.

    Raises:
        ConfigError: when none answers, or it refuses our token.
    """
    if os.environ.get("RAY_USE_TLS") == "1":
        return
    if _first_call(address, token=None) is not grpc.StatusCode.UNAUTHENTICATED:
        return
    token = _token()
    if token is None or _first_call(address, token) is grpc.StatusCode.UNAUTHENTICATED:
        raise _refused(address, token)
    os.environ["RAY_AUTH_MODE"] = "token"


def _refused(address: str, token: str | None) -> ConfigError:
    what = "requires a token" if token is None else "refuses the token"
    return ConfigError(
        f"--cluster: the Ray cluster at {address} {what}; set RAY_AUTH_TOKEN, or "
        "RAY_AUTH_TOKEN_PATH, to that of the cluster"
    )


def token_file() -> Path:
    """Where Ray keeps the user's token."""
    return Path.home() / ".ray" / "auth_token"


def _first_call(address: str, token: str | None) -> grpc.StatusCode:
    metadata = None if token is None else (("authorization", f"Bearer {token}"),)
    with grpc.insecure_channel(address) as channel:
        try:
            channel.unary_unary(METHOD)(b"", timeout=TIMEOUT, metadata=metadata)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNAUTHENTICATED:
                return error.code()
            raise ConfigError(
                f"--cluster: no Ray cluster answers at {address}; start one with `ray start "
                "--head`, or pass a different address"
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
