"""Requests larger than the cap are refused before anything parses them."""

from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from appliance.api.errors import problem_of, problem_response
from appliance.errors import TooLargeError

MAX_REQUEST_BYTES: Final = 1 << 20


class SizeLimit:
    """ASGI middleware: reads the body up to the cap, then hands it on."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 413 for a body over the cap, whether it was announced or not."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return  # the client went away
            body += message.get("body", b"")
            if len(body) > MAX_REQUEST_BYTES or _announced_bytes(scope) > MAX_REQUEST_BYTES:
                await _refuse(scope, receive, send)
                return
            if not message.get("more_body", False):
                break
        await self._app(scope, _replay(bytes(body), receive), send)


def _announced_bytes(scope: Scope) -> int:
    length = dict(scope["headers"]).get(b"content-length", b"0")
    return int(length) if length.isdigit() else 0


def _replay(body: bytes, receive: Receive) -> Receive:
    is_sent = False

    async def replay() -> Message:
        nonlocal is_sent
        if is_sent:
            return await receive()
        is_sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    error = TooLargeError(
        f"requests are at most {MAX_REQUEST_BYTES} bytes", checked="body", wanted=f"{MAX_REQUEST_BYTES} bytes"
    )
    await problem_response(problem_of(error), headers={"Connection": "close"})(scope, receive, send)
