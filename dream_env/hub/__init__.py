"""Shares world models, policies and datasets on the Hugging Face Hub, by names such as `hf://user/name@revision`.

    push_to_hub("runs/model", "user/my-robot")                      # uploads a world model, policy or dataset
    gym.make("Dream-v0", world_model="hf://user/my-robot@v1")       # names are accepted wherever a folder is
    checkpoint.from_pretrained("user/my-robot", revision="v1")

Only safetensors, json, npz, parquet and mp4 files are loaded, none of which can run code. `huggingface_hub` is an
optional dependency (`pip install dream_env[hub]`); it is imported when it is needed.
"""

from dream_env.hub.names import is_hub_name, label, named
from dream_env.hub.pull import folder, pull
from dream_env.hub.push import push_to_hub

__all__ = ["folder", "is_hub_name", "label", "named", "pull", "push_to_hub"]
