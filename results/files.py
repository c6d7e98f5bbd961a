"""The names of all files in a run folder, which `tuning` writes and this package reads."""

# Of the run.
CONFIG = "config.yaml"
MANIFEST = "manifest.json"
LEDGER = "study.db"
SUMMARY = "summary.parquet"
REPORT = "report.html"
TENSORBOARD = "tensorboard"
RAY_LOG = "ray.log"
# Where certifying the run again puts its results by default: a folder like the run's.
CERTIFIED = "certified"

# Of each setting, in a folder named after it.
TRIALS = "trials.parquet"
INSIGHT = "insight.json"
CONFIRMATION = "confirmation.parquet"
BASELINES = "baselines.parquet"
CERTIFICATES = "certificates.parquet"
CLASSES = "classes.parquet"
FRONT = "front.parquet"
CURVES = "curves.png"
VOTES = "votes.db"
QUERIES = "queries.db"
EXAMPLES = "examples.npz"
BEST_SPACE = "best.yaml"
DENOISERS = "denoisers"
EXPORT = "smoothed_classifier"
LOGS = "certificates"

# In the exported classifier.
EXPORT_CONFIG = "config.json"
CARD = "README.md"

TABLES = (TRIALS, CONFIRMATION, BASELINES, CERTIFICATES, FRONT, CLASSES)


def log(variant: str) -> str:
    """The name of the file with a variant's certificates in Cohen et al.'s format."""
    return f"{LOGS}/{variant}.tsv"


def denoiser(variant: str) -> str:
    """The name of the file with a variant's denoiser."""
    return f"{DENOISERS}/{variant}.safetensors"
