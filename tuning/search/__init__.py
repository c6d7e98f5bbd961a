"""Trials on Ray Tune: what the study proposes is trained, and the study hears what came of it.

What is private to Ray and used all the same stands on one page, `tune_internals`.
"""
