"""A server that speaks S3's protocol, and buckets on it."""

import os
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pyarrow.fs import S3FileSystem

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
REFUSALS = {"throttled": ("503 Slow Down", "SlowDown"), "broken": ("500 Oh", "InternalError")}


@dataclass
class Trouble:
    """Fails every request whose turn it is: it is `throttled`, `broken`, or `cut` in its middle."""

    kind: str
    turn: Callable[[int], bool]
    requests: int = 0
    failed: int = 0

    def around(self, app: Application) -> Application:
        """The same server, in trouble."""

        def answer(request: dict[str, Any], begin: Callable[..., Any]) -> Iterable[bytes]:
            self.requests += 1
            if not self.turn(self.requests):
                return app(request, begin)
            self.failed += 1
            length = int(request.get("CONTENT_LENGTH") or 0)
            if self.kind == "cut":
                request["wsgi.input"].read(length // 2)
                request["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
                return []
            request["wsgi.input"].read(length)
            status, code = REFUSALS[self.kind]
            begin(status, [("Content-Type", "application/xml")])
            return [f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()]

        return answer


@contextmanager
def bucket(name: str, trouble: Trouble | None = None) -> Iterator[str]:
    """The URL of an empty bucket, whose server is in `trouble` from then on."""
    # A second, which every process of the suite would spend.
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    secrets = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "planted-in-the-environment"}
    before = {key: os.environ.get(key) for key in secrets}
    os.environ.update(secrets)
    try:
        s3 = S3FileSystem(
            endpoint_override=f"{host}:{port}",
            scheme="http",
            region="us-east-1",
            allow_bucket_creation=True,
        )
        s3.create_dir(name)
        if trouble is not None:
            # Its only handle on the application that answers.
            wsgi: Any = server._server
            wsgi.app = trouble.around(wsgi.app)
        yield f"s3://{name}/runs?endpoint_override={host}:{port}&scheme=http&region=us-east-1"
    finally:
        server.stop()
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value
