"""What people watch while a run goes on: progress, TensorBoard, Prometheus.

Nothing here decides anything.
"""
