"""A client of the API: one method per thing a person asks for."""

import json
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal

import httpx

from appliance.cli.log_events import LogEvent, parse_events
from appliance.errors import ApiError, ConflictError, UnreachableError
from appliance.tokens import is_token
from attestation.oms import check_file_name

TIMEOUT_S: Final = 60.0

# Any, in the whole module: the API's plain JSON.


class ApiClient:
    """Talks to one appliance. Raises ApiError for refusals, UnreachableError if it is not there."""

    def __init__(self, url: str, *, token: str) -> None:
        if not is_token(token):
            raise ApiError("the token is not of the form assay_…", status=401, code="unauthorized")
        headers = {"Authorization": f"Bearer {token}"}
        # No proxies and no netrc: the token goes to the appliance and nowhere else.
        self._http = httpx.Client(base_url=url, headers=headers, timeout=TIMEOUT_S, trust_env=False)

    def submit(self, order: Mapping[str, Any], *, idempotency_key: str) -> dict[str, Any]:
        """The run for `order`; the same key may be sent again."""
        return self._json("POST", "/v1/runs", json=order, headers={"Idempotency-Key": idempotency_key})

    def champion_digest(self, name: str) -> str:
        """The digest of the champion of that name."""
        return str(self._json("GET", f"/v1/champions/{_part(name)}")["champion"]["manifest_sha256"])

    def list_runs(self, *, limit: int, after: str | None = None) -> dict[str, Any]:
        """A page of runs, newest first."""
        cursor = {} if after is None else {"after": after}
        return self._json("GET", "/v1/runs", params={"limit": limit, **cursor})

    def show(self, run_id: str) -> dict[str, Any]:
        """One run."""
        return self._json("GET", f"/v1/runs/{_part(run_id)}")

    def events(self, run_id: str) -> dict[str, Any]:
        """The run's events."""
        return self._json("GET", f"/v1/runs/{_part(run_id)}/events")

    def logs(self, run_id: str, *, offset: int) -> dict[str, Any]:
        """A piece of what the champion printed."""
        return self._json("GET", f"/v1/runs/{_part(run_id)}/logs", params={"offset": offset})

    def follow_logs(self, run_id: str, *, offset: int) -> Iterator[LogEvent]:
        """What the champion prints from `offset` on, as long as this connection lasts; then ask again behind it."""
        path, headers = f"/v1/runs/{_part(run_id)}/logs/stream", {"Last-Event-ID": str(offset)}
        try:
            with self._http.stream("GET", path, headers=headers) as response:
                if response.is_error:
                    response.read()
                    raise _problem(response)
                yield from parse_events(response.iter_text())
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error

    def metrics(self, run_id: str, *, points: int, after_ms: int = -1) -> dict[str, Any]:
        """What the run used, and its loss curve."""
        params = {"points": points, "after_ms": after_ms}
        return self._json("GET", f"/v1/runs/{_part(run_id)}/metrics", params=params)

    def isolation(self, run_id: str) -> dict[str, Any]:
        """What the walls around the run were."""
        return self._json("GET", f"/v1/runs/{_part(run_id)}/isolation")

    def cancel(self, run_id: str) -> dict[str, Any]:
        """The run, cancelled or about to be."""
        return self._json("POST", f"/v1/runs/{_part(run_id)}/cancel")

    def fetch(self, run_id: str, part: Literal["evidence", "model"], *, into: Path) -> Path:
        """Download and unpack; the folder `into` must not exist and appears only when it is whole.

        Raises ConflictError if it exists or cannot be made.
        """
        if into.exists():
            raise ConflictError(f"{into}: exists; give a new folder")
        try:
            into.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=into.parent, prefix=f".{into.name}.") as scratch:
                archive = Path(scratch) / "archive.tar"
                self._download(f"/v1/runs/{_part(run_id)}/{part}", archive)
                _unpack(archive, Path(scratch) / "unpacked")
                (unpacked,) = (Path(scratch) / "unpacked").iterdir()
                unpacked.rename(into)
        except (OSError, tarfile.TarError, ValueError, shutil.Error) as error:
            raise ConflictError(f"{into}: cannot be written: {error}") from error
        return into

    def _json(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        try:
            response = self._http.request(method, path, **request)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        if response.is_error:
            raise _problem(response)
        try:
            answer: dict[str, Any] = response.json()
        except ValueError as error:
            raise UnreachableError(f"{self._http.base_url} answered something that is no JSON") from error
        return answer

    def _download(self, path: str, file: Path) -> None:
        try:
            with self._http.stream("GET", path) as response, file.open("xb") as out:
                if response.is_error:
                    response.read()
                    raise _problem(response)
                for chunk in response.iter_bytes():
                    out.write(chunk)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: Exception) -> UnreachableError:
        return UnreachableError(
            f"{self._http.base_url} cannot be reached: {error}; is `assay serve` running?"
        )


def _unpack(archive: Path, into: Path) -> None:
    """Plain files with safe names, nothing else: the server is not trusted with this machine's disk.

    Not `extractall(filter="data")`, which Python has only from 3.11.4 on.
    """
    with tarfile.open(archive) as tar:
        for member in tar:
            check_file_name(member.name)
            content = tar.extractfile(member) if member.isreg() else None
            if content is None:
                raise ConflictError(f"the archive holds {member.name}, which is no plain file")
            target = into / member.name
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as out:
                shutil.copyfileobj(content, out)


def _part(run_id: str) -> str:
    """`run_id` as one part of a path, whatever was typed."""
    return "".join(c if c.isascii() and (c.isalnum() or c == "-") else "_" for c in run_id) or "_"


def _problem(response: httpx.Response) -> ApiError:
    try:
        problem = json.loads(response.content)
        told, wanted = str(problem["detail"]), problem.get("wanted")
        if wanted and str(wanted) not in told:
            told = f"{told}; wanted {wanted}"
        return ApiError(told, status=response.status_code, code=problem["code"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return ApiError(
            f"the server answered {response.status_code} without a reason",
            status=response.status_code,
            code="unknown",
        )
