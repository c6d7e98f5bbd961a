"""The base classifier, and how it may be used."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from trainables.command import Flag, flag
from tuning.config.lists import Numbers
from tuning.errors import ConfigError


class ClassifierConfig(BaseModel, frozen=True, extra="forbid"):
    """The frozen classifier."""

    classifier: Annotated[
        str | None, Flag("SPEC", default="trained once for digits, then cached")
    ] = Field(
        None,
        description='the frozen classifier: a checkpoint {"arch", "state_dict"}, '
        "package.module:factory, torchvision:NAME, timm:NAME, hf:NAME or hf:DIR (transformers), a "
        "torch.export FILE.pt2, FILE.onnx, an exported smoothed_classifier, or an http:// endpoint",
    )
    weights: Annotated[Path | None, Flag("FILE")] = Field(
        None, description="state dict for the network of a factory, torchvision or timm"
    )
    mean: Annotated[Numbers | None, Flag("X[,X,X]")] = Field(
        None, description="the classifier's normalisation, by channel"
    )
    std: Annotated[Numbers | None, Flag("X[,X,X]")] = Field(None, description="like --mean")
    feature_layer: Annotated[str | None, Flag("NAME", default="the input of the last layer")] = (
        Field(None, description="layer whose output is the features")
    )
    access: Literal["white-box", "black-box"] = Field(
        "white-box",
        description="whether the classifier's gradients may be used; black-box trains through a "
        "surrogate",
    )
    query_budget: int = Field(
        20_000,
        ge=1,
        le=1_000_000_000,
        description="black box: most images that training may query the classifier about",
    )


def check_classifier(config: ClassifierConfig) -> None:
    """Refuse flags that contradict each other.

    Raises:
        ConfigError: naming one of them.
    """
    if config.classifier is None:
        for name in ("weights", "mean", "std", "feature_layer"):
            if getattr(config, name) is not None:
                raise ConfigError(f"{flag(name)}: describes a --classifier; pass that too")
    elif is_endpoint(config.classifier) and config.access == "white-box":
        raise ConfigError(
            f"--access: {config.classifier} answers queries only; pass --access black-box"
        )


def is_endpoint(classifier: str) -> bool:
    """Whether --classifier names an HTTP endpoint."""
    return classifier.startswith(("http://", "https://"))
