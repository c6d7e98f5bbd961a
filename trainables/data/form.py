"""The form that images are brought into: their size and their channels.

Light to import, because its fields are flags.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, Field, ValidationInfo, field_validator

from trainables.command import Flag

# Beyond this, Pillow warns that a file may claim a size in order to exhaust the memory.
MOST_PIXELS = 89_478_485
# Larger images would fill the memory, as all that a run needs are in it at the same time.
LARGEST = 2048
# ImageNet's classifiers are usually evaluated on the middle 224 of 256 pixels.
RESIZED_TO, CROPPED_TO = 256, 224


class Shape(NamedTuple):
    """Width and height of an image in pixels, and its channels: 1 if it is grey, else 3."""

    width: int
    height: int
    channels: int

    def __str__(self) -> str:
        return f"{self.width} x {self.height} {'grey' if self.channels == 1 else 'RGB'}"


class ImageForm(BaseModel, frozen=True, extra="forbid"):
    """What is done to every image when it is loaded; by default nothing.

    A resized image has the pixels that torchvision's `Resize` and `CenterCrop`, or timm's
    evaluation transform, give a PIL image, which are 8-bit pixels again:

        ImageForm(image_size=224)                                          # torchvision's presets
        ImageForm(image_size=224, resize_size=248, resize_filter="bicubic")  # a ViT of timm's
    """

    image_size: Annotated[int | None, Flag("N", default="that of the images")] = Field(
        None,
        ge=1,
        le=LARGEST,
        description="resize all images to N x N pixels; radii are then distances between resized "
        "images",
    )
    resize_mode: Literal["crop", "squash"] = Field(
        "crop",
        description="crop: resize the shorter side and take the middle, as torchvision and timm "
        "evaluate; squash: resize both sides, whatever the proportions",
    )
    resize_size: Annotated[int | None, Flag("N", default="crop: 8/7 of --image-size")] = Field(
        None,
        ge=1,
        le=4096,
        description="what is resized to before the middle is taken: torchvision's resize_size, or "
        "timm's input size divided by its crop_pct",
    )
    resize_filter: Literal["bilinear", "bicubic"] = Field(
        "bilinear", description="bilinear: most of torchvision's presets; bicubic: most of timm's"
    )
    channels: Annotated[int | None, Flag("1|3", default="those of the images")] = Field(
        None,
        description="3: repeat grey images in three channels, for a network that takes RGB; "
        "1: make colours grey",
    )

    @field_validator("resize_mode", "resize_size", "resize_filter")
    @classmethod
    def _with_a_size(cls, value: Any, info: ValidationInfo) -> Any:
        # A stored configuration names the defaults as well.
        assert info.field_name is not None
        default = cls.model_fields[info.field_name].default
        if value != default and info.data.get("image_size", 0) is None:
            raise ValueError("is for resizing; pass --image-size too")
        return value

    @field_validator("resize_size")
    @classmethod
    def _large_enough(cls, value: int | None, info: ValidationInfo) -> int | None:
        size = info.data.get("image_size")
        if value is not None and size is not None and value < size:
            raise ValueError(f"{value} is less than --image-size, {size}; nothing could be cut off")
        return value

    @field_validator("channels")
    @classmethod
    def _grey_or_rgb(cls, value: int | None) -> int | None:
        if value not in (None, 1, 3):
            raise ValueError(f"must be 1 (grey) or 3 (RGB); got {value}")
        return value

    @property
    def changes_images(self) -> bool:
        """Whether images do not stay as they are."""
        return self.image_size is not None or self.channels is not None

    def shape(self, found: Shape) -> Shape:
        """The shape that an image of the shape `found` gets.

        Raises:
            ValueError: when it has more than `LARGEST`^2 pixels and keeps its size, or would have
                more than `MOST_PIXELS` while it is resized.
        """
        channels = self.channels or found.channels
        if self.image_size is None:
            if found.width * found.height > LARGEST**2:
                raise ValueError(f"is {found}, too large to certify; pass `image_size`")
            return Shape(found.width, found.height, channels)
        width, height = self.before_crop(found.width, found.height)
        if width * height > MOST_PIXELS:
            raise ValueError(
                f"would be resized to {width} x {height}, which is too much; remove it"
            )
        return Shape(self.image_size, self.image_size, channels)

    def before_crop(self, width: int, height: int) -> tuple[int, int]:
        """The width and height that an image of this size is resized to, before it is cropped."""
        assert self.image_size is not None
        if self.resize_mode == "squash":
            side = self.resize_size or self.image_size
            return side, side
        shorter = self.resize_size or round(self.image_size * RESIZED_TO / CROPPED_TO)
        # The longer side is rounded down, as torchvision does.
        if width <= height:
            return shorter, int(shorter * height / width)
        return int(shorter * width / height), shorter


UNCHANGED = ImageForm()
