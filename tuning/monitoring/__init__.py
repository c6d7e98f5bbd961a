"""What people watch during a run: progress, TensorBoard, Prometheus.

Nothing here influences the run.
"""
