"""The hyperparameters of one DE-CROP training."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field, model_validator

from trainables.decrop.schedules import Schedule


class DecropConfig(BaseModel, frozen=True, extra="forbid"):
    """Everything a search may vary; the defaults are the published recipe for CIFAR-10.

    Pixels are in [0, 1]; sigma, radius and step sizes are in the same unit.
    Source: Nayak et al., WACV 2023, Section 4 and the published code.
    """

    sigma: float = Field(0.25, gt=0, le=4, description="standard deviation of the noise")

    w_label: float = Field(1.0, ge=0, le=1000, description="weight of label consistency")
    w_mse: float = Field(0.0, ge=0, le=1000, description="weight of the MSE to the clean image")
    w_cosine: float = Field(4.0, ge=0, le=1000, description="weight of logit similarity")
    w_mmd: float = Field(4.0, ge=0, le=1000, description="weight of MMD")
    reversal_strength: float = Field(
        2.0, ge=0, le=100, description="final strength of gradient reversal; 0: no discriminator"
    )
    discriminator_start: float = Field(
        0.75, ge=0, le=1, description="share of the epochs after which the discriminator joins"
    )
    discriminator_learning_rate: float = Field(1e-5, gt=0, le=1)

    attack_radius: float = Field(8 / 255, ge=0, le=1, description="L-infinity radius of PGD")
    step_size: float = Field(2 / 255, gt=0, le=1, description="step of PGD")
    attack_steps: int = Field(20, ge=1, le=1000)
    mix: float = Field(0.8, ge=0, le=1, description="weight of the clean logits in the mix")
    interpolation_steps: int = Field(1, ge=1, le=1000)
    interpolation_learning_rate: float = Field(1e-3, gt=0, le=1)
    eight_bit_samples: bool = Field(True, description="round generated samples to 8 bits a pixel")

    crop_padding: int = Field(4, ge=0, le=64, description="random crop after this much padding")
    flip: bool = Field(True, description="random horizontal flips")
    paired_augmentation: bool = Field(
        False, description="one crop and flip for an image and its generated samples"
    )

    denoiser: Literal["dncnn", "memnet", "unet"] = "dncnn"
    width: int = Field(64, ge=1, le=1024, description="channels of the denoiser's first layer")
    depth: int = Field(17, ge=3, le=64, description="convolutions of a DnCNN")
    memory_blocks: int = Field(3, ge=1, le=16, description="memory blocks of a MemNet")
    residual_blocks: int = Field(6, ge=1, le=16, description="of each memory block of a MemNet")
    levels: int = Field(3, ge=1, le=6, description="scales of a U-Net")

    epochs: int = Field(600, ge=1, le=100_000)
    batch_size: int = Field(200, ge=2, le=100_000)
    learning_rate: float = Field(1e-3, gt=0, le=1)
    weight_decay: float = Field(1e-4, ge=0, le=1)
    schedule: Schedule = Field("step", description="of the learning rate")
    lr_decay: float = Field(
        0.1, gt=0, le=1, description="step schedule: factor after each third of the epochs"
    )
    ema_decay: float = Field(
        0.0, ge=0, lt=1, description="moving average of the weights, a step; 0: the last weights"
    )

    @model_validator(mode="after")
    def _some_loss(self) -> DecropConfig:
        if not any((self.w_label, self.w_mse, self.w_cosine, self.w_mmd)):
            raise ValueError("every loss weight is 0: give at least one of them a positive value")
        return self

    @property
    def uses_generated_samples(self) -> bool:
        """Whether any loss looks at boundary and interpolated samples."""
        return bool(self.w_cosine or self.w_mmd)


# What turns DE-CROP into plain denoised smoothing on the same images, by the baseline's name:
# "stability" and "MSE" in Salman et al. 2020, Section 3.
BASELINES: dict[str, dict[str, float]] = {
    "label_consistency": {
        "w_label": 1.0,
        "w_mse": 0.0,
        "w_cosine": 0.0,
        "w_mmd": 0.0,
        "reversal_strength": 0.0,
    },
    "mse": {
        "w_label": 0.0,
        "w_mse": 1.0,
        "w_cosine": 0.0,
        "w_mmd": 0.0,
        "reversal_strength": 0.0,
    },
}
