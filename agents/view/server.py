"""Web server of a session: the page, a WebSocket, and the clock that steps the dream at its control rate."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from dream_env.agents.view import protocol, recording
from dream_env.agents.view.client import Client
from dream_env.agents.view.drivers import YOU
from dream_env.agents.view.session import DreamSession
from dream_env.checks import check_choice, check_number

HERE = Path(__file__).parent
PAGES = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'"
"""Content security policy: the page may load nothing from other servers."""
EARLY = 0.4
"""Fraction of a control period after which a newly pressed key triggers a step without waiting for the clock."""
IDLE = 60.0
"""Seconds without input after which the dream is paused."""
ENDED = 1.2
"""Seconds for which the last step of a policy's episode is shown before the next episode starts."""
SPEEDS = (0.25, 0.5, 1.0, 2.0, 4.0)
SHARE = 0.3
"""Fraction of the time that imagining futures may take."""


class Viewer:
    """Serves one session. The first open page controls it; other pages only watch.

    Args:
        session: Session to serve.
        out: Folder for saved files.
        hosts: Accepted host names of requests; None accepts any.
    """

    def __init__(self, session: DreamSession, out: Path, hosts: tuple[str, ...] | None = None) -> None:
        self.session, self.out, self.hosts = session, out, hosts
        self.clients: list[Client] = []
        self.worker = ThreadPoolExecutor(1)  # the only thread that uses the session
        self.wake = asyncio.Event()
        self.playing = session.engine.continuous
        self.speed, self.looking = 1.0, False
        self.action: Any = None
        self.idle: Any = None
        self.tap: Any = None
        self.seq = 0
        self.plan: list[Any] = []
        self.found: list[Any] = []
        self.touched = time.monotonic()
        self.look_at = self.anew_at = 0.0
        self.ending: Any = None
        self.orders: Mapping[str, Callable[..., Any]] = {
            "action": self.act,
            "play": self.play,
            "step": self.one_step,
            "rewind": self.rewind,
            "reset": self.reset,
            "drive": self.drive,
            "set": self.set,
            "look": self.look,
            "follow": self.follow,
            "save": self.save,
        }

    def app(self) -> Starlette:
        """Returns the ASGI application."""

        @asynccontextmanager
        async def lifespan(_: Starlette) -> Any:
            clock = asyncio.create_task(self.run_on())
            yield
            clock.cancel()
            self.worker.shutdown()

        routes = [Route(path, self.page) for path in PAGES]
        return Starlette(routes=[*routes, WebSocketRoute("/socket", self.connect)], lifespan=lifespan)

    # --- pages

    async def page(self, request: Request) -> Response:
        """Serves one of the three files of the page."""
        if self.hosts is not None and request.url.hostname not in self.hosts:
            return PlainTextResponse("this page can only be opened on the machine that runs the viewer", 403)
        name, kind = PAGES[request.url.path]
        headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-store", "X-Frame-Options": "DENY"}
        return FileResponse(HERE / name, media_type=kind, headers=headers)

    async def connect(self, socket: WebSocket) -> None:
        """Handles the WebSocket of one page until the page is closed."""
        origin, own = urlsplit(socket.headers.get("origin", "")), socket.headers.get("host", "")
        foreign = origin.netloc and origin.netloc != own  # a page of another site, open in the same browser
        if foreign or (self.hosts is not None and socket.url.hostname not in self.hosts):
            await socket.close(1008)
            return
        await socket.accept()
        client = Client(socket)
        self.clients.append(client)
        client.tell(await self.call(protocol.hello, self.session))
        client.tell({"type": "role", "driving": client is self.clients[0]})
        client.tell(self.status())
        client.tell(await self.call(protocol.begun, self.session))
        client.tell(await self.call(protocol.frame, self.session))
        self.touched = time.monotonic()
        self.wake.set()
        sending = asyncio.create_task(client.deliver())
        try:
            while True:
                await self.hear(client, await socket.receive_text())
        except (WebSocketDisconnect, RuntimeError):
            pass
        finally:
            sending.cancel()
            self.leave(client)

    def leave(self, client: Client) -> None:
        """Removes a closed page; if it was in control, the next page takes over."""
        first = self.clients[0] is client
        self.clients.remove(client)
        if first:
            self.action = self.idle = self.tap = None
            for other in self.clients[:1]:
                other.tell({"type": "role", "driving": True})

    async def hear(self, client: Client, text: str) -> None:
        """Handles a command of a page, or reports to the page why it was refused."""
        name = None
        try:
            order = dict(json.loads(text))
            name = order.pop("do", None)
            check_choice("do", name, self.orders)
            if client is not self.clients[0]:
                raise ValueError("another page is driving; this one can only watch until that page is closed")
            self.touched = time.monotonic()
            await self.orders[name](**order)
        except (ValueError, TypeError, OSError) as error:
            client.tell({"type": "refused", "what": name, "text": " ".join(str(error).split())})
        except Exception as error:  # a defect, or no memory left on a GPU
            self.fail(error, str(name))

    # --- commands of a page

    async def act(self, value: Any, active: bool = True, seq: int = 0) -> None:
        """Sets the action to repeat. A new active action is taken at once and for at least one step.

        Args:
            value: The action; None releases it.
            active: Whether the user is acting. If not, the action is used while the user does nothing, for example to
                keep a hand closed.
            seq: Number that is sent back with the resulting picture, so that the page can recognize it.
        """
        value = None if value is None else self.session.typed(value)
        acts = bool(active) and value is not None
        self.idle, self.action, self.seq = value, value if acts else None, int(seq)
        if acts:
            self.tap, self.plan = value, []
        self.wake.set()

    async def play(self, on: bool) -> None:
        """Runs the dream continuously, or pauses it; when paused, it moves only while the user acts."""
        self.playing, self.plan = bool(on), []
        self.wake.set()
        self.tell_all(self.status())

    async def one_step(self) -> None:
        """Takes one step and pauses."""
        self.playing = False
        await self.advance()
        self.tell_all(self.status())

    async def rewind(self, to: int) -> None:
        """Goes to a step of the history and pauses."""
        self.playing, self.plan, self.action, self.idle, self.tap = False, [], None, None, None
        await self.call(self.session.rewind, int(to))
        await self.show()
        self.tell_all(self.status())

    async def reset(self, instruction: str | None = None, task: str | None = None, seed: int | None = None) -> None:
        """Starts another episode."""
        self.plan, self.idle = [], None
        await self.call(self.session.reset, seed, instruction, task)
        self.tell_all(await self.call(protocol.begun, self.session))
        await self.show()
        self.wake.set()

    async def drive(self, name: str) -> None:
        """Sets the driver: a policy or the user."""
        await self.call(self.session.drive, name)
        self.playing = self.playing or name != YOU
        self.plan = []
        self.wake.set()
        self.tell_all(self.status())

    async def set(self, temperature: float | None = None, speed: float | None = None) -> None:
        """Sets the temperature or the speed."""
        if temperature is not None:
            check_number("temperature", temperature, high=10)
            self.session.temperature = temperature
        if speed is not None:
            check_choice("speed", speed, SPEEDS)
            self.speed = speed
        self.tell_all(self.status())

    async def look(self, on: bool) -> None:
        """Turns the display of imagined futures on or off."""
        self.looking = bool(on)
        self.tell_all(self.status())
        if self.looking:
            await self.imagine()

    async def follow(self, index: int) -> None:
        """Takes the actions of one of the futures that are shown."""
        if not 0 <= int(index) < len(self.found):
            raise ValueError(f"index={index}; accepted: one of the {len(self.found)} futures that are shown")
        self.plan = list(self.found[int(index)].actions)
        self.wake.set()

    async def save(self, what: str) -> None:
        """Writes the episode up to now to disk."""
        check_choice("what", what, ("gif", "episode"))
        for client in self.clients[:1]:
            client.tell({"type": "saved", "text": await self.call(self._save, what)})

    def _save(self, what: str) -> str:
        session, words = self.session, self.session.instruction
        if what == "gif":
            taken = [file.stem.removeprefix("drive_") for file in self.out.glob("drive_*.gif")]
            number = max((int(each) for each in taken if each.isdecimal()), default=0) + 1
            path = self.out / f"drive_{number:03d}.gif"
            return str(recording.save_gif(session.past, session.spec, words, path))
        saved = []
        for world in (recording.DREAM, recording.REAL)[: 1 + (session.twin is not None)]:
            folder = self.out / world
            known = (session.past, session.spec, words, session.goal, session.env.task_name, folder, world)
            count = recording.save_episode(*known)
            saved.append(f"{folder} ({count} episode{'s' * (count > 1)})")
        return ", ".join(saved)

    # --- clock

    @property
    def going(self) -> bool:
        """Whether the dream should be stepped."""
        if not self.clients or self.session.now.terminated:
            return False
        return self.playing or bool(self.plan) or self.action is not None or self.tap is not None

    @property
    def ends(self) -> bool:
        """Whether a policy has finished its episode and the user has done nothing since."""
        policy = self.playing and self.session.driver != YOU and self.tap is None and bool(self.clients)
        return policy and self.ending is self.session.now

    async def run_on(self) -> None:
        """Is the clock; an error stops the dream, is shown on the pages, and the clock waits for somebody to go on."""
        while True:
            try:
                await self.run()
            except Exception as error:
                self.fail(error, "step")

    def fail(self, error: Exception, what: str) -> None:
        """Logs an unexpected error, stops the dream, and tells every page."""
        logging.getLogger(__name__).error("%s failed", what, exc_info=error)
        self.playing, self.looking, self.plan, self.action, self.tap = False, False, [], None, None
        text = " ".join(f"{type(error).__name__}: {error}".split())
        self.tell_all({"type": "refused", "what": what, "text": text})
        self.tell_all(self.status())

    async def run(self) -> None:
        """Steps the dream at the control rate, in an endless loop."""
        last = -1e9
        while True:
            if self.ends:
                self.wake.clear()
                with suppress(TimeoutError, asyncio.TimeoutError):
                    await asyncio.wait_for(self.wake.wait(), max(0.01, self.anew_at - time.monotonic()))
                if self.ends and time.monotonic() >= self.anew_at:
                    await self.reset()
                continue
            if not self.going:
                self.wake.clear()
                await self.wake.wait()
                continue
            now, period = time.monotonic(), 1 / ((self.session.spec.control_hz or 10) * self.speed)
            fresh = self.tap is not None
            due = last + (EARLY if fresh else 1) * period
            if now < due:
                self.wake.clear()
                with suppress(TimeoutError, asyncio.TimeoutError):
                    await asyncio.wait_for(self.wake.wait(), due - now)
                continue
            last = due if not fresh and now - due < period / 2 else now
            await self.advance()
            if self.playing and now - self.touched > IDLE and self.session.driver == YOU:
                await self.play(False)

    async def advance(self) -> None:
        """Takes one step, shows it, and records whether a policy has finished its episode."""
        action, self.tap = self.action if self.tap is None else self.tap, None
        by, seq = YOU, self.seq
        acted = action is not None
        if not acted and self.plan:
            action, by = self.plan.pop(0), "future"
        elif not acted and self.session.driver == YOU:
            action = self.idle
        try:
            moment = await self.call(self.session.step, action, by)
        except ValueError as error:
            self.playing, self.plan, self.action = False, [], None
            self.tell_all({"type": "refused", "what": "step", "text": str(error)})
            self.tell_all(self.status())
            return
        await self.show(seq=seq)
        horizon = self.session.spec.horizon
        over = moment.terminated or (horizon is not None and moment.step >= horizon)
        if over and self.playing and not acted and self.session.driver != YOU:
            self.ending, self.anew_at = moment, time.monotonic() + ENDED / self.speed

    async def show(self, **more: Any) -> None:
        """Sends the current moment to every page, and imagined futures if they are turned on and not too slow."""
        message = await self.call(lambda: protocol.frame(self.session, **more))
        for client in self.clients:
            client.tell(message, "frame")
        if self.looking and time.monotonic() >= self.look_at:
            await self.imagine()

    async def imagine(self) -> None:
        """Imagines futures from the current moment and shows them."""
        if self.session.now.terminated:
            return
        began, session = time.monotonic(), self.session

        def found() -> bytes:
            self.found = session.futures()
            return protocol.futures(self.found, session.spec.pictures, session.now.step)

        message = await self.call(found)
        for client in self.clients:
            client.tell(message, "futures")
        took = time.monotonic() - began
        self.look_at = time.monotonic() + (took / SHARE if self.playing else 0.0)

    async def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Runs a function in the session's thread."""
        return await asyncio.get_running_loop().run_in_executor(self.worker, function, *args)

    def status(self) -> dict[str, Any]:
        """Returns the settings that the page's controls show."""
        return {
            "type": "status",
            "playing": self.playing,
            "speed": self.speed,
            "driver": self.session.driver,
            "temperature": self.session.temperature,
            "looking": self.looking,
        }

    def tell_all(self, message: dict[str, Any] | bytes) -> None:
        """Sends a message to every page."""
        for client in self.clients:
            client.tell(message)
