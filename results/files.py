"""The names of everything in a run folder: `tuning` writes it, and this package reads it."""

# Of the run.
CONFIG = "config.yaml"
MANIFEST = "manifest.json"
LEDGER = "study.db"
SUMMARY = "summary.parquet"
REPORT = "report.html"
TENSORBOARD = "tensorboard"
RAY_LOG = "ray.log"
# What certifying the run again leaves, unless it is told to go elsewhere: a folder like the run's.
CERTIFIED = "certified"

# Of each setting, in a folder of the setting's name.
TRIALS = "trials.parquet"
INSIGHT = "insight.json"
CONFIRMATION = "confirmation.parquet"
BASELINES = "baselines.parquet"
CERTIFICATES = "certificates.parquet"
FRONT = "front.parquet"
CURVES = "curves.png"
VOTES = "votes.db"
QUERIES = "queries.db"
DENOISERS = "denoisers"
EXPORT = "smoothed_classifier"
LOGS = "certificates"


def log(variant: str) -> str:
    """The name of a variant's certificates in Cohen et al.'s format."""
    return f"{LOGS}/{variant}.tsv"


def denoiser(variant: str) -> str:
    """The name of a variant's denoiser."""
    return f"{DENOISERS}/{variant}.safetensors"
