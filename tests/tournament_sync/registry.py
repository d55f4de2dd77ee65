"""A registry on the loopback interface that serves one image, by tag and by digest, and counts nothing else."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.tournament_sync.images import MANIFEST


@contextmanager
def serving(files: dict[str, bytes], *, name: str, tag: str) -> Iterator[str]:
    """Serve the image layout `files` as `name`:`tag`; gives host and port."""
    digest = json.loads(files["index.json"])["manifests"][0]["digest"]
    blobs = {f"sha256:{path.rpartition('/')[2]}": data for path, data in files.items() if "/" in path}
    pages = {"/v2/": b"{}", f"/v2/{name}/manifests/{tag}": blobs[digest]}
    pages |= {f"/v2/{name}/manifests/{digest}": blobs[digest]}
    pages |= {f"/v2/{name}/blobs/{one}": data for one, data in blobs.items()}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = pages.get(self.path)
            self.send_response(404 if page is None else 200)
            self.send_header(
                "Content-Type", MANIFEST if "/manifests/" in self.path else "application/octet-stream"
            )
            self.send_header("Docker-Content-Digest", digest)
            self.send_header("Content-Length", str(len(page or b"")))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(page or b"")

        do_HEAD = do_GET  # noqa: N815  # a name of http.server

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # a name of http.server
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
