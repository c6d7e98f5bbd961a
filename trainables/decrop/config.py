"""The hyperparameters of one DE-CROP training."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field, model_validator

from trainables.decrop.schedules import Schedule

EightBits = Literal["truncated", "rounded", "none"]


class DecropConfig(BaseModel, frozen=True, extra="forbid"):
    """Everything a search may vary; the defaults are the published code for CIFAR-10, as it runs.

    Pixels are in [0, 1]; sigma, radius and step sizes are in the same unit. `epochs` are those of
    the whole training: with two stages, the second half of them is a training of its own, which
    starts from the weights of the first.
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
        0.75, ge=0, le=1, description="share of a single stage after which the discriminator joins"
    )
    discriminator_learning_rate: float = Field(1e-5, gt=0, le=1)
    normalised_features: bool = Field(
        True, description="features of length 1 in MMD and for the discriminator"
    )

    attack_radius: float = Field(8 / 255, ge=0, le=1, description="L-infinity radius of PGD")
    step_size: float = Field(2 / 255, gt=0, le=1, description="step of PGD")
    attack_steps: int = Field(20, ge=1, le=1000)
    mix: float = Field(0.8, ge=0, le=1, description="weight of the clean logits in the mix")
    interpolation_steps: int = Field(1, ge=1, le=1000)
    interpolation_learning_rate: float = Field(1e-3, gt=0, le=1)
    eight_bits: EightBits = Field(
        "truncated", description="how generated samples are brought to 8 bits a pixel, if at all"
    )

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
    norm_eps: float = Field(
        1e-4, gt=0, le=1, description="what the denoiser's batch norm adds to a variance"
    )
    norm_momentum: float = Field(
        0.95, gt=0, le=1, description="weight of the latest batch in batch norm's statistics"
    )
    joined_batch_norm: bool = Field(
        False, description="batch norm over images and samples together, not over one view each"
    )

    epochs: int = Field(1200, ge=1, le=100_000, description="of all stages together")
    stages: Literal[1, 2] = Field(
        2, description="2: restart halfway, with the discriminator from there on"
    )
    batch_size: int = Field(200, ge=2, le=100_000)
    equal_batches: bool = Field(
        False, description="batches of nearly equal size, not a smaller last one"
    )
    learning_rate: float = Field(1e-3, gt=0, le=1)
    weight_decay: float = Field(1e-4, ge=0, le=1)
    schedule: Schedule = Field("step", description="of the learning rate")
    lr_decay: float = Field(
        0.1, gt=0, le=1, description="step schedule: factor after each third of a stage"
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

    def stage(self, epoch: int) -> range:
        """The epochs of the stage that `epoch`, counted from 0, belongs to."""
        restart = -(-self.epochs // self.stages)
        return range(restart) if epoch < restart else range(restart, self.epochs)

    def discriminator_progress(self, epoch: float) -> float | None:
        """The share of the discriminator's epochs that are over at `epoch`; None before them.

        With two stages these are the second stage.
        """
        start = self.stage(0).stop if self.stages > 1 else self.discriminator_start * self.epochs
        if not self.reversal_strength or epoch < start or start == self.epochs:
            return None
        return (epoch - start) / (self.epochs - start)


# What turns DE-CROP into plain denoised smoothing on the same images, by the baseline's name:
# "stability" and "MSE" in Salman et al. 2020, Section 3. It is a single training.
BASELINES: dict[str, dict[str, float]] = {
    "label_consistency": {
        "w_label": 1.0,
        "w_mse": 0.0,
        "w_cosine": 0.0,
        "w_mmd": 0.0,
        "reversal_strength": 0.0,
        "stages": 1,
    },
    "mse": {
        "w_label": 0.0,
        "w_mse": 1.0,
        "w_cosine": 0.0,
        "w_mmd": 0.0,
        "reversal_strength": 0.0,
        "stages": 1,
    },
}
