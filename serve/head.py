"""HEAD, which no route takes: answered as GET is, without the body."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class HeadAsGet:
    """Has the application answer GET in place of HEAD. What it sends after the headers is dropped, and the reply is over with them."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return

        async def send_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
                await send({"type": "http.response.body"})  # streams then find that their client is gone

        got = {**scope, "method": "GET"}
        try:
            await self.app(got, receive, send_headers)
        finally:
            if "route" in got:
                scope["route"] = got["route"]  # for the log, which has the request as it came
