"""Shares world models, policies and datasets on the Hugging Face Hub, by names such as `hf://user/name@revision`.

    hub.push.push_to_hub("runs/model", "user/my-robot")             # uploads a world model, policy or dataset
    gym.make("Dream-v0", world_model="hf://user/my-robot@v1")       # names are accepted wherever a folder is
    checkpoint.from_pretrained("user/my-robot", revision="v1")

Only safetensors, json, npz, parquet and mp4 files are loaded, none of which can run code. `huggingface_hub` is an
optional dependency (`pip install dream_env[hub]`); it is imported when it is needed. `push` is not imported here: it
checks what it uploads with the loaders of world models and datasets, which import this package.
"""

from dream_env.hub.names import is_hub_name, label, named
from dream_env.hub.pull import folder, pull

__all__ = ["folder", "is_hub_name", "label", "named", "pull"]
