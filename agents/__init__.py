"""Commands that fit world models and train, evaluate and run policies, and the code that they share.

`python -m agents.NAME` runs a command, which is a folder or a single file; `python -m agents` lists all of them. The
package is installed as `dream_env.agents`; import it under that name only.
"""

import os

# torch's OpenMP threads busy-wait, which costs small networks more time than parallelism saves.
# This must be set before torch is imported; a value that the caller has set is kept.
os.environ.setdefault("OMP_NUM_THREADS", "1")
