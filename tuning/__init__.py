"""Orchestration: the only package that knows Ray and Optuna."""
