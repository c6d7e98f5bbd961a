"""Trials on Ray Tune: they train what the study proposes, and report their results to it.

`tune_internals` lists the private names of Ray that are used.
"""
