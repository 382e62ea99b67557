"""World models, policies and data sets on the Hugging Face Hub, by `hf://user/name@revision`.

    push_to_hub("runs/model", "user/my-robot")                      # a folder of any of the three kinds
    gym.make("Dream-v0", world_model="hf://user/my-robot@v1")       # and in every option that names one
    checkpoint.from_pretrained("user/my-robot", revision="v1")

What travels is safetensors, json, npz, parquet and mp4: nothing that is loaded can run code. `huggingface_hub` is an
extra, `pip install dream_env[hub]`, and is imported when a name needs it.
"""

from dream_env.hub.names import is_hub_name, label, named
from dream_env.hub.pull import folder, pull
from dream_env.hub.push import push_to_hub

__all__ = ["folder", "is_hub_name", "label", "named", "pull", "push_to_hub"]
