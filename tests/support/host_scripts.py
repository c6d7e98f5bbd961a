"""What tests run on a host of theirs, as `python -c`."""

CREATE_BUCKET = """
import sys, time
from pyarrow.fs import S3FileSystem
host, port, bucket = sys.argv[1:]
s3 = S3FileSystem(endpoint_override=f"{host}:{port}", scheme="http", region="us-east-1",
                  allow_bucket_creation=True)
for _ in range(600):
    try:
        s3.create_dir(bucket)
        break
    except OSError:
        time.sleep(0.5)
else:
    sys.exit("no S3 server")
"""
LIST = """
import base64, json, sys
from tuning.cluster.storage import open_storage
run = open_storage(sys.argv[1]) / sys.argv[2]
print(json.dumps({name: base64.b64encode(run.read(name)).decode() for name in run.files()}))
"""
SESSION = """
import sys, ray
ray.init(address=sys.argv[1], log_to_driver=False)
print(ray._private.worker._global_node.get_session_dir_path())
"""
DRAIN = """
import sys, time, ray
from ray._raylet import GcsClient
from ray.core.generated.autoscaler_pb2 import DrainNodeReason
address, host = sys.argv[1:]
ray.init(address=address, log_to_driver=False)
(node,) = [n["NodeID"] for n in ray.nodes() if n["Alive"] and n["NodeManagerAddress"] == host]
preemption = DrainNodeReason.DRAIN_NODE_REASON_PREEMPTION
deadline = int((time.time() + 3600) * 1000)
print(GcsClient(address=address).drain_node(node, preemption, "a spot instance", deadline))
"""
WAIT_FOR_NODES = """
import sys, time, ray
address, count = sys.argv[1], int(sys.argv[2])
for _ in range(300):
    try:
        ray.init(address=address, log_to_driver=False)
        break
    except Exception:
        time.sleep(1)
for _ in range(1200):
    if sum(node["Alive"] for node in ray.nodes()) == count:
        sys.exit(0)
    time.sleep(0.5)
sys.exit(f"the cluster has {ray.nodes()}")
"""
