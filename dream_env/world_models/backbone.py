"""Frozen pretrained vision and text encoders of the transformers library, loaded from the local disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor

Part = Literal["vision", "text"]
Read = TypeVar("Read")

_PROCESSORS = ("processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json")
"""Files in which transformers stores the image preprocessing: the first since version 5, the others before."""
_EXTRA = "pretrained encoders need transformers; install it with: pip install 'dream_env[vla]'"
_LOCAL = (
    "a folder that `save_pretrained` or `hf download` wrote, with safetensors weights, or a name in the local Hugging "
    "Face cache; nothing is downloaded here"
)


class ImagePreprocessing(NamedTuple):
    """Image preprocessing that a vision encoder expects.

    Attributes:
        size: Side of the input image in pixels.
        mean: Mean of each color channel, for values in [0, 1].
        std: Standard deviation of each color channel, for values in [0, 1].
    """

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


class VisionLanguageBackbone:
    """Computes features with a pretrained vision encoder, a pretrained text encoder, or both.

    Vision: any vision transformer that `AutoModel` can load and that has one token per patch, such as V-JEPA 2, DINOv2,
    DINOv3, SigLIP, CLIP. Text: any text model that it can load, such as MiniLM, BERT, E5, T5, or the text half of
    SigLIP. Both may name the same checkpoint. The weights are loaded on first use, once per process, in float32; on a
    GPU the encoders run in bfloat16 autocast. The object itself is light: it can be copied and holds no parameters.

    Args:
        vision: Folder of the vision encoder, or its name in the local Hugging Face cache; None for no vision encoder.
        text: Folder of the text encoder, or its name in the local Hugging Face cache; None for no text encoder.
        device: Device that the encoders run on; None uses the GPU if there is one. Patch features are returned on the
            device of the images, sentence features on the CPU.

    Raises:
        ImportError: If transformers is not installed.
        FileNotFoundError: If an encoder does not exist.
        ValueError: If a checkpoint is damaged, or is not an encoder of the expected type.
    """

    def __init__(self, vision: str | None = None, text: str | None = None, device: str | None = None) -> None:
        self.vision, self.text = vision, text
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        if vision:
            self.vision_dim: int = _config(vision, "vision").hidden_size
        if text:
            self.text_dim: int = _config(text, "text").hidden_size

    @cached_property
    def preprocessing(self) -> ImagePreprocessing:
        """Image preprocessing, read from the processor files of the checkpoint."""
        return _preprocessing(self._named("vision"))

    @torch.no_grad()
    def patches(self, images: Tensor) -> Tensor:
        """Maps images `(B, H, W, 3)` uint8 to patch features `(B, D, rows, columns)` float32."""
        path, (size, mean, std) = self._named("vision"), self.preprocessing
        model = _model(path, "vision", str(self.device))
        pixels = images.to(self.device).permute(0, 3, 1, 2).float() / 255
        pixels = F.interpolate(pixels, (size, size), mode="bicubic", antialias=True).clamp(0, 1)
        pixels = (pixels - pixels.new_tensor(mean)[:, None, None]) / pixels.new_tensor(std)[:, None, None]
        with self._precision():
            if model.main_input_name == "pixel_values_videos":
                # A video encoder gets one image as a static clip, as in V-JEPA 2-AC (Assran et al. 2025, section 3).
                clip = pixels[:, None].expand(-1, model.config.tubelet_size, -1, -1, -1)
                tokens = model(pixel_values_videos=clip, skip_predictor=True).last_hidden_state
            else:
                tokens = model(pixel_values=pixels).last_hidden_state
        side = size // _patch_size(path)
        if tokens.ndim != 3 or tokens.shape[1] < side**2:
            raise ValueError(
                f"vision={path!r} gives {tuple(tokens.shape[1:])} features for {side} x {side} patches; accepted: a "
                "vision transformer with one token per patch"
            )
        # Class and register tokens come before the patch tokens; drop them.
        patches = tokens[:, -(side**2) :].float().to(images.device)
        return patches.unflatten(1, (side, side)).permute(0, 3, 1, 2)

    @torch.no_grad()
    def sentence(self, sentence: str) -> Tensor:
        """Maps a sentence to the mean feature of its tokens, `(D,)` float32 on the CPU.

        Sentences are encoded one at a time: without padding, the result does not depend on other sentences in a batch.
        """
        path = self._named("text")
        tokens = _tokenizer(path)(sentence, truncation=True, return_tensors="pt").to(self.device)
        inputs = {name: tokens[name] for name in ("input_ids", "attention_mask") if name in tokens}
        with self._precision():
            features = _model(path, "text", str(self.device))(**inputs).last_hidden_state
        return features[0].float().mean(0).cpu()

    def _named(self, part: Part) -> str:
        path = getattr(self, part)
        if path is None:
            raise ValueError(f"{part}=None: this backbone has no {part} encoder; accepted: {_LOCAL}")
        return path

    def _precision(self) -> torch.autocast:
        """Returns bfloat16 autocast on a GPU; disables autocast on a CPU, even inside another autocast context."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type != "cpu")


def _read(path: str, part: Part, read: Callable[..., Read]) -> Read:
    """Calls a `from_pretrained` function with local files only, and raises an explanatory error if it fails."""
    try:
        return read(path, local_files_only=True)
    except (OSError, ValueError, SafetensorError) as error:
        if Path(path).is_dir():
            raise ValueError(f"{part}={path!r} cannot be read: {error}; accepted: {_LOCAL}") from error
        raise FileNotFoundError(f"{part}={path!r} does not exist; accepted: {_LOCAL}") from error


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise ImportError(_EXTRA) from error
    return transformers


@lru_cache
def _config(path: str, part: Part) -> Any:
    """Reads the config of the vision or the text part of a checkpoint."""
    config = _read(path, part, _transformers().AutoConfig.from_pretrained)
    config = getattr(config, f"{part}_config", config)
    needed = {"vision": ("patch_size", "vision transformer"), "text": ("vocab_size", "text model")}[part]
    if not hasattr(config, needed[0]):
        raise ValueError(f"{part}={path!r} is {config.model_type!r} without {needed[0]}; accepted: a {needed[1]}")
    return config


def _patch_size(path: str) -> int:
    size = _config(path, "vision").patch_size
    return size if isinstance(size, int) else size[0]


@lru_cache(maxsize=4)
@torch.inference_mode(False)  # environments encode in inference mode, but learners may need gradients
def _model(path: str, part: Part, device: str) -> Any:
    """Loads an encoder in eval mode with frozen weights."""
    library = _transformers()

    def read(path: str, **kwargs: Any) -> Any:
        return library.AutoModel.from_pretrained(path, dtype=torch.float32, use_safetensors=True, **kwargs)

    model = _read(path, part, read)
    model = getattr(model, f"{part}_model", model)
    if model.config.is_encoder_decoder:
        model = model.get_encoder()
    return model.to(device).eval().requires_grad_(False)


@lru_cache(maxsize=4)
def _tokenizer(path: str) -> Any:
    return _read(path, "text", _transformers().AutoTokenizer.from_pretrained)


@lru_cache
def _preprocessing(path: str) -> ImagePreprocessing:
    """Reads the image preprocessing from JSON, because the processor classes themselves need torchvision."""
    from transformers.utils import cached_file

    for name in _PROCESSORS:

        def find(path: str, name: str = name, **kwargs: Any) -> str | None:
            return cached_file(path, name, _raise_exceptions_for_missing_entries=False, **kwargs)

        if file := _read(path, "vision", find):
            values = json.loads(Path(file).read_text(encoding="utf-8"))
            values = values.get("image_processor") or values.get("video_processor") or values
            if {"image_mean", "image_std"} <= values.keys():
                size = values.get("crop_size") or values["size"]
                if isinstance(size, dict):
                    size = size.get("height") or size["shortest_edge"]
                return ImagePreprocessing(int(size), tuple(values["image_mean"]), tuple(values["image_std"]))
    raise FileNotFoundError(
        f"vision={path!r} has no {' or '.join(_PROCESSORS)} with image_mean and image_std; accepted: a checkpoint "
        "together with its processor"
    )
