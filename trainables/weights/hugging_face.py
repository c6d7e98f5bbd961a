"""Image classifiers of transformers, with the normalisation of their image processor."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from trainables.errors import InputError, describe_error
from trainables.models.blueprint import Blueprint
from trainables.weights.checkpoint import Source
from trainables.weights.extras import optional

HUGGING_FACE = "hf:"
# What a processor may do to an image besides scaling and normalising its pixels: images have been
# brought to their size before.
_HARMLESS = {"do_resize", "do_center_crop", "do_convert_rgb", "do_rescale", "do_normalize"}
# What a configuration says about code, weights and files that are not in it.
_ELSEWHERE = {
    *("_name_or_path", "auto_map", "backbone", "transformers_version"),
    *("use_pretrained_backbone", "use_timm_backbone"),
}


def read_hugging_face(name: str, download: bool, *, normalised: bool = False) -> Source:
    """The classifier in the folder `name`, or of that name in the cache or the Hugging Face Hub.

    Only with `download` is anything fetched. Weights are safetensors, and code that comes with them
    does not run. The normalisation is that of its preprocessor_config.json, unless the caller has
    one (`normalised`).

    Raises:
        InputError: when there is no such classifier, when weights are missing, or when its images
            are prepared in a way that is not supported.
    """
    transformers = optional("transformers", "huggingface", f"{HUGGING_FACE}NAME")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    safely = {"local_files_only": not download, "trust_remote_code": False}
    try:
        network, loaded = transformers.AutoModelForImageClassification.from_pretrained(
            name, use_safetensors=True, dtype=torch.float32, output_loading_info=True, **safely
        )
    except Exception as error:  # it can raise almost anything
        raise InputError(_absent(name, download, error), field="classifier") from error
    # It would give these random values, as for a new head that is to be trained.
    for missing in (*loaded["missing_keys"], *(key for key, *_ in loaded["mismatched_keys"])):
        problem = f"{name} has no weights for {missing!r}; it is not a trained classifier"
        raise InputError(problem, field="classifier")
    blueprint = Blueprint("transformers", details=_configuration(network))
    if normalised:
        return Source(network, (0.0,), (1.0,), blueprint)
    try:
        processor = transformers.AutoImageProcessor.from_pretrained(name, **safely)
    except Exception as error:
        raise InputError(
            f"{name} has no preprocessor_config.json that says how its images are normalised "
            f"({describe_error(error)}); pass `mean` and `std`",
            field="classifier",
        ) from error
    return Source(network, *_normalisation(name, processor), blueprint)


def transformers_network(
    configuration: Mapping[str, Any], weights: Mapping[str, Tensor]
) -> nn.Module:
    """The classifier of this `configuration`, with `weights`; nothing is fetched or executed.

    Raises:
        InputError: when transformers is not installed.
        RuntimeError, ValueError, ...: whatever it raises where the two do not fit.
    """
    transformers = optional("transformers", "huggingface", f"{HUGGING_FACE}NAME")
    values = {name: value for name, value in configuration.items() if name not in _ELSEWHERE}
    config = transformers.AutoConfig.for_model(**values)
    build = transformers.AutoModelForImageClassification.from_config
    # First without memory, of which a damaged configuration could claim any amount.
    with torch.device("meta"):
        expected = {name: tensor.shape for name, tensor in build(config).state_dict().items()}
    if expected != {name: tensor.shape for name, tensor in weights.items()}:
        raise ValueError("the weights are not those of its configuration")
    network: nn.Module = build(config)
    network.load_state_dict(dict(weights))
    return network.eval()


def _configuration(network: Any) -> str:
    """The network's configuration as JSON, without what says where it was."""
    values: dict[str, Any] = json.loads(network.config.to_json_string(use_diff=False))
    return json.dumps({name: value for name, value in values.items() if name not in _ELSEWHERE})


def _absent(name: str, download: bool, error: Exception) -> str:
    if download:
        return f"{name} cannot be loaded as an image classifier: {describe_error(error)}"
    return (
        f"{name} is not a folder with an image classifier in safetensors format, nor in the cache "
        f"({describe_error(error)}); pass `download` to fetch it from the Hugging Face Hub"
    )


def _normalisation(name: str, processor: Any) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and std for pixels in [0, 1], of a processor of pixels from 0 to 255."""
    of_timm = getattr(processor, "data_config", None)
    if of_timm is not None:
        return of_timm["mean"], of_timm["std"]
    does = {step for step, on in vars(processor).items() if step.startswith("do_") and on}
    unknown = sorted(does - _HARMLESS)
    if getattr(processor, "rescale_offset", False):
        unknown.append("rescale_offset")
    if unknown:
        raise InputError(
            f"{name} prepares images with {unknown[0]}, which is not supported; write a "
            "package.module:factory whose network does it, or pass `mean` and `std`",
            field="classifier",
        )
    scale = 255 * (processor.rescale_factor if "do_rescale" in does else 1)
    mean, std = (0.0,), (1.0,)
    if "do_normalize" in does:
        mean, std = processor.image_mean, processor.image_std
    return [value / scale for value in mean], [value / scale for value in std]
