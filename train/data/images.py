"""Reads images with Pillow and transforms them one at a time. For batches see `train.data.augment`.

The kit itself does not need Pillow: `pip install pillow`. Crops are drawn and sizes rounded as in torchvision's
transforms, so that published results can be reproduced.

An image stays uint8 until its batch is on the device, so that a quarter of the bytes pass between processes.

Shape suffixes: N samples, C channels (red, green, blue), H rows, W columns.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import interpolate

if TYPE_CHECKING:
    from PIL import Image

IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})


class ImageError(ValueError):
    """An image cannot be read. The message names the file and says what to do."""


def load_rgb(path: Path) -> Image.Image:
    """Decode the image in `path`, and convert it to three channels.

    Raises:
        ImageError: Pillow is missing, or the file is not a complete image.
        OSError: the file cannot be read.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise ImageError(f"{path}: images need Pillow, which this Python does not have: pip install pillow") from error
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    # Pillow raises these for damaged files. UnidentifiedImageError and "image file is truncated" are OSErrors.
    except (OSError, SyntaxError, ValueError, LookupError, struct.error, Image.DecompressionBombError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        problem = "is empty" if path.stat().st_size == 0 else f"cannot be decoded ({error})"
        raise ImageError(f"{path}: {problem}: fetch the file again, or remove it") from error


def to_tensor(image: Image.Image) -> torch.Tensor:
    """Return image_CHW (uint8) from an image of three channels."""
    return _view(image).contiguous()


def resized(image: Image.Image, height: int, width: int) -> torch.Tensor:
    """Return image_CHW (uint8) of `height` x `width` pixels, as Pillow's BILINEAR resizes it (to within 1 of 255).

    torch's kernel is modelled on Pillow's and takes a third of its time.
    """
    if (image.height, image.width) == (height, width):
        return to_tensor(image)
    return interpolate(_view(image)[None], (height, width), mode="bilinear", antialias=True)[0].contiguous()


def _view(image: Image.Image) -> torch.Tensor:
    """Return image_CHW (uint8); in memory its rows store pixel after pixel, as the image does."""
    import numpy

    return torch.from_numpy(numpy.array(image)).permute(2, 0, 1)


def normalise(
    images_NCHW: torch.Tensor,
    mean_C: Sequence[float] = IMAGENET_MEAN,
    deviation_C: Sequence[float] = IMAGENET_DEVIATION,
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """Convert uint8 (0 to 255) to `dtype` (0 to 1), subtract each channel's mean, divide by its deviation.

    It runs on the device of the images, and also accepts one image_CHW.
    """
    mean = torch.tensor(mean_C, device=images_NCHW.device).view(-1, 1, 1)
    deviation = torch.tensor(deviation_C, device=images_NCHW.device).view(-1, 1, 1)
    return torch.addcmul(-mean / deviation, images_NCHW.float(), 1 / (255 * deviation)).to(dtype)


class RandomResizedCrop:
    """A random crop of an image, resized to a square and mirrored half of the time; usual for training on ImageNet.

    The crop has `scale` of the image's area and a width of `ratio` times its height. It is drawn again up to ten times
    until it fits into the image; after that it is the largest crop in the centre with such a ratio.
    """

    def __init__(
        self,
        size: int = 224,
        *,
        scale: tuple[float, float] = (0.08, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        mirrored: float = 0.5,
    ) -> None:
        """`size` is in pixels; `mirrored` is the probability of a flip from left to right."""
        self.size, self.scale, self.ratio, self.mirrored = size, scale, ratio, mirrored

    def __call__(self, image: Image.Image, generator: torch.Generator) -> torch.Tensor:
        """Return image_CHW (uint8) of `size` x `size` pixels."""
        draws = torch.rand(41, generator=generator).tolist()
        part = resized(image.crop(self._box(image.width, image.height, draws[:40])), self.size, self.size)
        return part.flip(-1) if draws[40] < self.mirrored else part

    def _box(self, width: int, height: int, draws: list[float]) -> tuple[int, int, int, int]:
        """Return left, top, right and bottom of the crop in pixels."""
        low, high = (math.log(one) for one in self.ratio)
        for area_draw, ratio_draw, x_draw, y_draw in zip(*[iter(draws)] * 4):
            area = width * height * (self.scale[0] + (self.scale[1] - self.scale[0]) * area_draw)
            ratio = math.exp(low + (high - low) * ratio_draw)
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                left, top = int(x_draw * (width - w + 1)), int(y_draw * (height - h + 1))
                return left, top, left + w, top + h
        w = min(width, max(1, round(height * self.ratio[1])))
        h = min(height, max(1, round(width / self.ratio[0])))
        left, top = (width - w) // 2, (height - h) // 2
        return left, top, left + w, top + h


class ResizedCentreCrop:
    """The centre crop of an image with its shorter side resized; usual for evaluation on ImageNet."""

    def __init__(self, size: int = 224, *, shorter_side: int = 256) -> None:
        """`size` and `shorter_side` are in pixels.

        Raises:
            ValueError: the crop would not fit.
        """
        if size > shorter_side:
            raise ValueError(f"a crop of {size} pixels does not fit in a shorter side of {shorter_side}")
        self.size, self.shorter_side = size, shorter_side

    def __call__(self, image: Image.Image, generator: torch.Generator | None = None) -> torch.Tensor:  # noqa: ARG002
        """Return image_CHW (uint8) of `size` x `size` pixels."""
        shorter = min(image.width, image.height)
        width, height = (self.shorter_side * side // shorter for side in (image.width, image.height))
        left, top = round((width - self.size) / 2), round((height - self.size) / 2)
        return resized(image, height, width)[:, top : top + self.size, left : left + self.size].contiguous()
