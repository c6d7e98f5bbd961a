"""A server that speaks S3's protocol, and buckets on it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from pyarrow.fs import S3FileSystem


@contextmanager
def bucket(name: str) -> Iterator[str]:
    """The URL of an empty bucket."""
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
        yield f"s3://{name}/runs?endpoint_override={host}:{port}&scheme=http&region=us-east-1"
    finally:
        server.stop()
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value
