"""What to try next, and what came of it: Optuna, without Ray and without a `RunConfig`.

The ledger is the only record of a search; everything else is derived from it.
"""
