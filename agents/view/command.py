"""Opens a local page that shows the rollout of a world model and lets you control it.

    python -m agents.view                                    # NICOL: keys move the hand; physics runs next to it
    python -m agents.view --policy default unlabelled        # the same, with two policies to choose from
    python -m agents.view --world-model runs/pendulum_model  # any world model written by agents.fit

The page shows the dream, the real environment under the same actions, the goal, and the distance to the goal as a
curve. You can pause, step, and rewind exactly. What you do can be saved as a GIF and as an episode of training data.
"""

from __future__ import annotations

import errno
import socket
import sys
import threading
import webbrowser
from contextlib import suppress
from importlib.util import find_spec
from ipaddress import ip_address

from dream_env.agents.run.config import check_out
from dream_env.agents.view.arguments import Arguments
from dream_env.checks import check_number

NEEDS = ("starlette", "uvicorn", "websockets")
LOCAL = ("127.0.0.1", "localhost", "::1")


def check_extra() -> None:
    """Raises ImportError if the extra is not installed."""
    if missing := [name for name in NEEDS if find_spec(name) is None]:
        raise ImportError(f"the page needs {', '.join(missing)}: pip install 'dream_env[view]'")


def listen(host: str, port: int) -> socket.socket:
    """Opens a socket that listens on an address.

    Raises:
        ValueError: If the port is taken, or the address does not belong to this machine.
    """
    check_number("port", port, 0, 65535)
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    except OSError as error:
        raise ValueError(
            f"host={host!r} is no address ({error.strerror}); accepted: 127.0.0.1, or an address of this machine"
        ) from None
    taken = socket.socket(family, socket.SOCK_STREAM)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind((host, port))
        taken.listen()
    except OSError as error:
        taken.close()
        if error.errno == errno.EADDRINUSE:
            raise ValueError(
                f"port={port} is taken on {host}, perhaps by another viewer; accepted: --port with another number, or 0"
            ) from None
        raise ValueError(
            f"host={host!r}, port={port}: {error.strerror}; accepted: an address of this machine"
        ) from None
    return taken


def is_local(host: str) -> bool:
    """Returns whether an address can be reached from this machine only."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def main(args: Arguments) -> None:
    """Runs the command."""
    check_extra()
    if args.bench is not None:
        from dream_env.agents.view.bench import bench

        print(bench(args.bench, args.world_model))
        return
    check_out(args.saves)
    with listen(args.host, args.port) as place:
        serve(args, place)


def serve(args: Arguments, place: socket.socket) -> None:
    """Loads the world model and policies, and serves the page until Ctrl-C."""
    import uvicorn

    from dream_env.agents.evaluate.command import parse_policies
    from dream_env.agents.policies.registry import named_world_model
    from dream_env.agents.view.server import Viewer
    from dream_env.agents.view.session import DreamSession, SessionConfig

    policies = parse_policies(args.policy)
    world_model = named_world_model(args.world_model, next(iter(policies.values()), None))
    config = SessionConfig(world_model, policies, args.real, args.task, args.temperature, args.seed, args.history)
    session = DreamSession(config)
    local, port = is_local(args.host), place.getsockname()[1]
    viewer = Viewer(session, args.saves, (*LOCAL, args.host) if local else None)
    shown = f"[{args.host}]" if ":" in args.host else args.host
    url = f"http://{shown}:{port}/"
    real = "with the real environment next to it" if session.twin else "without a real environment"
    print(f"{url} shows the world model of {session.spec.name}, {real}. Press Ctrl-C to stop.", flush=True)
    if not local:
        print("Anyone who can reach this address can control the world model.", file=sys.stderr)
    if args.open:
        threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
    settings = uvicorn.Config(viewer.app(), log_level="warning", timeout_graceful_shutdown=1, lifespan="on")
    with suppress(KeyboardInterrupt):  # Ctrl-C is the normal way to stop
        uvicorn.Server(settings).run(sockets=[place])
    session.close()
