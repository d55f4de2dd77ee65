"""Reads the body of an HTTP answer without ever holding more of it than allowed."""

import zlib

import httpx

from tournament_sync.errors import TournamentError

_GZIP = 16 + zlib.MAX_WBITS


async def read_body(response: httpx.Response, *, max_bytes: int) -> bytes:
    """The body, decompressed; `max_bytes` limits it on the wire and after. Raises TournamentError.

    httpx would decompress a piece whole before it could be counted, a thousandfold.
    """
    match response.headers.get("Content-Encoding", "identity").strip().lower():
        case "identity":
            return await _read_plain(response, max_bytes=max_bytes)
        case "gzip":
            return await _read_gzip(response, max_bytes=max_bytes)
        case other:
            raise TournamentError(f"content encoding {other[:80]!a}, expected gzip or none")


async def _read_plain(response: httpx.Response, *, max_bytes: int) -> bytes:
    body = bytearray()
    async for piece in response.aiter_raw():
        if len(body) + len(piece) > max_bytes:
            raise TournamentError(f"the answer is over the limit of {max_bytes} bytes")
        body += piece
    return bytes(body)


async def _read_gzip(response: httpx.Response, *, max_bytes: int) -> bytes:
    inflater, body, wire_bytes = zlib.decompressobj(_GZIP), bytearray(), 0
    async for piece in response.aiter_raw():
        wire_bytes += len(piece)
        try:
            # One byte more than allowed is enough to know; zero would mean without limit.
            body += inflater.decompress(piece, max_bytes + 1 - len(body))
        except zlib.error as error:
            raise TournamentError(f"the compressed answer is damaged: {error}") from error
        if len(body) > max_bytes or wire_bytes > max_bytes:
            raise TournamentError(f"the answer is over the limit of {max_bytes} bytes, decompressed")
        if inflater.unused_data:
            raise TournamentError("the compressed answer has bytes after its end")
    if not inflater.eof:
        raise TournamentError("the compressed answer ends early")
    return bytes(body)
