"""What everything else rests on: configuration, manifest, and the metadata of tables."""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from results import files
from results.run import Run, Setting
from results.schema import Row
from results.store import read_metadata
from results.verification.differences import differences

# A type, or that of the parts of a list.
_Kind = type | tuple[type]
_CONFIG: Mapping[str, _Kind] = {
    **dict.fromkeys(("seed", "n", "n0", "certify_images"), int),
    **dict.fromkeys(("alpha", "tolerance"), float),
    **dict.fromkeys(("procedure", "noise"), str),
    "radii": (float,),
}
_SEARCH_CONFIG: Mapping[str, _Kind] = dict.fromkeys(("confirm_votes", "confirm_folds"), int)
# What the manifest says about a setting whose models are certified.
_FACTS: Mapping[str, _Kind] = {
    **dict.fromkeys(("precision", "classifier_hash"), str),
    **dict.fromkeys(("image_shape", "test_indices"), (int,)),
    "radii": (float,),
    "classes": int,
    "class_names": (str,),
}
_SEARCH_FACTS: Mapping[str, _Kind] = {"tuning_indices": (int,)}
_BLOCK_SIZE = "100"


def check_run(run: Run) -> Iterator[str]:
    """What is wrong with the configuration and the manifest, and with their agreement."""
    yield from _wrong_types(files.CONFIG, run.config, _CONFIG)
    content = (run.folder / files.CONFIG).read_bytes()
    found, recorded = hashlib.sha256(content).hexdigest(), run.manifest.get("config_hash")
    if found != recorded:
        yield f"{files.CONFIG}: has the hash {found}, but {files.MANIFEST} says {recorded}"
    if run.config.get("seed") != run.manifest.get("seed"):
        yield (
            f"{files.CONFIG}: seed is {run.config.get('seed')}, but {files.MANIFEST} says "
            f"{run.manifest.get('seed')}"
        )
    claimed, there = _settings(run), {s.name for s in run.settings}
    summarised = {s.name for s in run.settings if s.summary}
    for name in sorted({*claimed, *summarised}):
        if name not in summarised:
            yield f"{files.SUMMARY}: has no row of {name}, a setting of {files.MANIFEST}"
        elif name not in claimed:
            yield f"{files.MANIFEST}: has no setting {name}, which {files.SUMMARY} has"
    for name in sorted(there - {*claimed, *summarised}):
        yield f"{name}: is a folder of trials, but no setting of {files.MANIFEST}"
    for path in [files.SUMMARY, *(f"{s.name}/{t}" for s in run.settings for t in files.TABLES)]:
        if (run.folder / path).exists():
            table = read_metadata(run.folder / path).get("config_hash")
            if table != recorded:
                yield f"{path}: config_hash is {table}, but {files.MANIFEST} says {recorded}"


def check_facts(run: Run, name: str, searched: bool) -> Iterator[str]:
    """What is missing or of the wrong kind in what is known of a setting beforehand."""
    facts, where = _settings(run)[name], f"{files.MANIFEST}, {name}"
    wrong = list(_wrong_types(where, facts, _FACTS))
    yield from wrong
    if not wrong and len(facts["class_names"]) != facts["classes"]:
        yield f"{where}: names {len(facts['class_names'])} of {facts['classes']} classes"
    if searched:
        yield from _wrong_types(where, facts, _SEARCH_FACTS)
        yield from _wrong_types(files.CONFIG, run.config, _SEARCH_CONFIG)


def check_metadata(run: Run, setting: Setting, variants: Sequence[str]) -> Iterator[str]:
    """What is wrong with the metadata of the certificates of a setting."""
    facts, metadata = _settings(run)[setting.name], setting.metadata
    where, noise = f"{setting.name}/{files.CERTIFICATES}", run.config["noise"]
    hashes = {
        key.removeprefix("model_hash_"): value
        for key, value in metadata.items()
        if key.startswith("model_hash_")
    }
    if set(hashes) != set(variants):
        yield f"{where}: is of {', '.join(hashes)}, but has rows of {', '.join(variants)}"
    # Named only where models are certified without a search.
    models = facts.get("models", {})
    if models and set(models) != set(variants):
        yield f"{where}: has rows of {', '.join(variants)}, not of {', '.join(models)}"
    bare = facts["classifier_hash"]
    expected = {
        "noise": noise,
        "pixels": str(math.prod(facts["image_shape"])),
        "precision": facts["precision"],
        "classes": str(facts["classes"]),
        "class_names": json.dumps(facts["class_names"]),
        "block_size": _BLOCK_SIZE,
        "model_hash": hashes.get("best", hashes.get("none", "")),
        **({"model_hash_none": bare} if "none" in hashes else {}),
    }
    yield from differences(where, metadata, expected)
    if "device" not in metadata:
        yield f"{where}: device is missing"
    for key in ("pixel_steps", "forward_pixels"):
        if not (steps := metadata.get(key, "")).isdigit():
            yield f"{where}: {key} is {steps or 'missing'}"
        elif key == "pixel_steps" and (steps == "0") != (noise == "gaussian"):
            yield f"{where}: pixel_steps is {steps}, but the noise is {noise}"
    for table in (files.FRONT, files.CLASSES):
        path = run.folder / setting.name / table
        if path.exists():
            found = read_metadata(path)
            every = dict.fromkeys((*found, *metadata)) | dict(metadata)
            yield from differences(f"{setting.name}/{table}", found, every)


def check_rows(run: Run, setting: Setting, groups: Mapping[str, Sequence[Row]]) -> Iterator[str]:
    """Certificates that are missing, or not as configuration and manifest say; by variant."""
    facts = _settings(run)[setting.name]
    expected = {name: run.config[name] for name in ("n0", "alpha", "procedure")}
    expected |= {name: setting.metadata.get(name) for name in ("precision", "device")}
    images, classes = facts["test_indices"], facts["classes"]
    if len(images) > run.config["certify_images"]:
        yield f"{setting.name}: {len(images)} images, but {run.config['certify_images']} were asked"
    labels: dict[int, int] = {}
    for variant, rows in groups.items():
        where = f"{setting.name}: {variant}"
        known = facts.get("models", {}).get(variant, {})
        sigma = {"sigma": known["sigma"]} if "sigma" in known else {}
        found = [row["image_index"] for row in rows]
        if found != sorted(images):
            missing, more = sorted({*images} - {*found}), sorted({*found} - {*images})
            repeated = sorted(index for index, times in Counter(found).items() if times > 1)
            for what, those in (
                ("is missing", missing),
                ("is too many", more),
                ("is there twice", repeated),
            ):
                for index in those:
                    yield f"{where}, image {index}: {what}"
        for row in rows:
            image = f"{where}, image {row['image_index']}"
            yield from differences(image, row, expected | sigma)
            if not 0 < row["n"] <= run.config["n"]:
                yield f"{image}: n is {row['n']}, of at most {run.config['n']}"
            first = labels.setdefault(row["image_index"], row["label"])
            if row["label"] != first or not 0 <= row["label"] < classes:
                yield f"{image}: label is {row['label']}, elsewhere {first}, of {classes} classes"
            if not (row["seconds"] >= 0 and -1 <= row["predicted"] < classes):
                yield f"{image}: seconds is {row['seconds']}, predicted {row['predicted']}"


def _settings(run: Run) -> Mapping[str, Mapping[str, Any]]:
    """What the manifest says about settings, by name; nothing if it is no such thing."""
    found = run.manifest.get("settings")
    entries = found if isinstance(found, dict) else {}
    return {name: facts for name, facts in entries.items() if isinstance(facts, dict)}


def _wrong_types(
    where: str, values: Mapping[str, Any], kinds: Mapping[str, _Kind]
) -> Iterator[str]:
    for name, kind in kinds.items():
        value = values.get(name)
        if isinstance(kind, tuple):
            right = type(value) is list and all(_is(part, kind[0]) for part in value)
        else:
            right = _is(value, kind)
        if not right:
            yield f"{where}: {name} is {'missing' if value is None else repr(value)}"


def _is(value: object, kind: type) -> bool:
    # JSON and YAML write 1.0 as 1 in places; a truth value is no number.
    return type(value) is kind or (kind is float and type(value) is int)
