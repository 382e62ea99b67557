"""What learns and what acts. A command, `python -m agents.NAME`, is a folder or a file; other files are shared parts.

Installed as `dream_env.agents`; code imports it under that name only.
"""

import os

# torch's OpenMP threads spin while they wait, which costs small networks more than they gain.
# Set before anything here imports torch; an OMP_NUM_THREADS of the caller's wins.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from dream_env import deprecated  # noqa: E402  old names of commands, see there

deprecated.install()
