"""An open page of the viewer, and the messages that wait to be sent to it."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from starlette.websockets import WebSocket


class Client:
    """One open page. It receives every message, except that frames it has no time for are skipped."""

    def __init__(self, socket: WebSocket) -> None:
        self.socket = socket
        self.messages: deque[dict[str, Any] | bytes] = deque()
        self.newest: dict[str, bytes] = {}
        self.ready = asyncio.Event()

    def tell(self, message: dict[str, Any] | bytes, kind: str | None = None) -> None:
        """Queues a message; with `kind`, it replaces an unsent message of the same kind."""
        if kind is None:
            self.messages.append(message)
        else:
            assert isinstance(message, bytes)
            self.newest[kind] = message
        self.ready.set()

    async def deliver(self) -> None:
        """Sends queued messages, in an endless loop."""
        while True:
            await self.ready.wait()
            self.ready.clear()
            while self.messages or self.newest:
                message = self.messages.popleft() if self.messages else self.newest.pop(next(iter(self.newest)))
                if isinstance(message, bytes):
                    await self.socket.send_bytes(message)
                else:
                    await self.socket.send_json(message)
