"""Messages between the page and the server.

The page sends JSON: `{"do": NAME, ...}`. The server sends JSON (`{"type": NAME, ...}`) about what changed, and binary
messages with pictures. A binary message is four bytes with the length of a JSON header (big-endian), the header, and
the pictures one after the other as PNGs of their original size (the page enlarges them). `head["pictures"]` lists
their order and sizes in bytes.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from dream_env.agents.view.controls import controls_of
from dream_env.agents.view.futures import Future
from dream_env.agents.view.recording import DREAM, REAL, stage
from dream_env.agents.view.session import DreamSession, Moment

SENTENCES = 8
"""Number of instructions that the page suggests."""


def png(picture: np.ndarray) -> bytes:
    """Returns a picture `(H, W, 3)` uint8 as PNG."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG", compress_level=1)
    return file.getvalue()


def pack(head: dict[str, Any], pictures: dict[str, bytes]) -> bytes:
    """Returns a binary message."""
    sizes = [{"name": name, "size": len(data)} for name, data in pictures.items()]
    text = json.dumps({**head, "pictures": sizes}).encode()
    return b"".join([len(text).to_bytes(4, "big"), text, *pictures.values()])


def unpack(message: bytes) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Reads what `pack` wrote."""
    end = 4 + int.from_bytes(message[:4], "big")
    head, pictures = json.loads(message[4:end]), {}
    for one in head["pictures"]:
        pictures[one["name"]] = message[end : end + one["size"]]
        end += one["size"]
    return head, pictures


def frame(session: DreamSession, **more: Any) -> bytes:
    """Returns the message that shows the current moment."""
    now, spec = session.now, session.spec
    head = {
        "type": "frame",
        **point(now, spec.vectors),
        "first": session.moments[0].step,
        "last": session.moments[-1].step,
        "action": None if now.action is None else np.asarray(now.action).tolist(),
        "driver": now.driver,
        "terminated": now.terminated,
        **more,
    }
    shown = {world: stage(now, spec, world) for world in (DREAM, REAL)}
    return pack(head, {world: png(picture) for world, picture in shown.items() if picture is not None})


def point(moment: Moment, vectors: Sequence[str]) -> dict[str, Any]:
    """Returns the numbers of a moment that the page keeps for its curves, including the observation's vectors."""
    info, real = moment.info, moment.real
    return {
        "step": moment.step,
        "distance": info.get("distance"),
        "success": info.get("success_probability"),
        "disagreement": info.get("disagreement"),
        "reward": moment.reward,
        "total": moment.total,
        "solved": bool(info.get("is_success")),
        "vectors": {name: moment.shown[name].tolist() for name in vectors},
        "real_vectors": None if real is None else {name: real.observation[name].tolist() for name in vectors},
        "real_total": None if real is None else real.total,
        "real_distance": None if real is None else real.info.get("distance"),
        "real_solved": None if real is None or "is_success" not in real.info else bool(real.info["is_success"]),
        "real_ended": None if real is None else real.ended,
    }


def begun(session: DreamSession) -> bytes:
    """Returns the message that describes an episode: its instruction, goal, and curves so far."""
    pictures = [session.goal[name] for name in session.spec.pictures if name in session.goal]
    head = {
        "type": "begun",
        "instruction": session.instruction,
        "task": session.env.task_name,
        "points": [point(moment, session.spec.vectors) for moment in session.moments],
    }
    return pack(head, {"goal": png(np.concatenate(pictures, 1))} if pictures else {})


def futures(found: Sequence[Future], names: Sequence[str], step: int) -> bytes:
    """Returns the message with imagined futures, each as a strip of pictures stacked from top to bottom.

    Args:
        found: The futures.
        names: Names of the pictures to show, side by side.
        step: The step from which they were imagined.
    """
    items, strips = [], {}
    for i, one in enumerate(found):
        items.append({"scores": one.scores, "success": one.success, "label": one.label, "steps": len(one.actions)})
        if names:
            frames = np.concatenate([one.frames[name] for name in names], 2)
            strips[str(i)] = png(np.concatenate(list(frames), 0))
    return pack({"type": "futures", "step": step, "futures": items}, strips)


def hello(session: DreamSession) -> dict[str, Any]:
    """Returns what the page needs to know about the world model."""
    spec, starts = session.spec, session.env.dreams.initial_states
    sentences = sorted(set(starts.instruction.tolist()), key=lambda text: (len(text), text))
    suggested = sentences[:: max(1, len(sentences) // SENTENCES)][:SENTENCES] if spec.instructions else []
    names = {name: list(spec.names.get(name, ())) for name in spec.vectors}
    settings = getattr(session.engine.model, "config", None)
    return {
        "type": "hello",
        "world": spec.name,
        "hz": spec.control_hz or 10,
        "horizon": spec.horizon,
        "hold": spec.hold_steps,
        "controls": controls_of(spec).to_json(),
        "vectors": names,
        "pictures": bool(spec.pictures),
        "goals": spec.goals,
        "sentences": suggested,
        "instructions": spec.instructions,
        "tasks": list(session.tasks) if len(session.tasks) > 1 else [],
        "task": session.task,
        "real": None if session.twin is None else spec.name,
        "tells_success": session.tells_success,
        "tells_disagreement": session.engine.predicts_disagreement,
        "disagreement_threshold": getattr(settings, "disagreement_threshold", None),
        "success_threshold": session.engine.success_threshold,
        "temperature": session.temperature,
        "drivers": list(session.drivers),
        "driver": session.driver,
    }
