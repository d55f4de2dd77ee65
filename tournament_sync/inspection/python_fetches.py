"""What a Python file would fetch or send while it runs, and which credentials it asks its environment for."""

import ast
import re
from collections.abc import Iterator

from tournament_sync.inspection.python_syntax import Module
from tournament_sync.inspection.python_text import text_of
from tournament_sync.inspection.report import Download, Finding, Phase
from tournament_sync.inspection.rules import shown

_NETWORK = re.compile(
    r"requests\.(?:get|post|put|head|delete|request|patch|Session)|urllib\.request\.\w+|urllib3\.\w+|urllib2\.\w+"
    r"|httpx\.(?:get|post|put|stream|request|Client|AsyncClient)|aiohttp\.(?:ClientSession|request)"
    r"|socket\.(?:socket|create_connection|create_server|getaddrinfo|gethostbyname)|http\.client\.\w+|ftplib\.FTP\w*"
    r"|smtplib\.SMTP\w*|telnetlib\.Telnet|paramiko\.\w+|websockets?\.\w+|boto3\.(?:client|resource)|minio\.Minio"
    r"|asyncio\.open_connection|xmlrpc\.client\.\w+|grpc\.(?:insecure|secure)_channel"
)
_UPLOAD = re.compile(r".*\.(?:push_to_hub|upload_folder|upload_file|create_repo|create_commit)")
_ALWAYS_FETCHES = re.compile(
    r"(?:.*\.)?(?:snapshot_download|hf_hub_download|cached_download|load_state_dict_from_url|download_url_to_file)"
    r"|torch\.hub\.load|nltk\.download|spacy\.cli\.download|gdown\.\w+|wget\.download|kagglehub\.\w+"
)
_FETCHES_BY_NAME = re.compile(r".*\.from_pretrained|(?:.*\.)?load_dataset(?:_builder)?|evaluate\.load")
_LOCAL_BUILDERS = frozenset(
    {"json", "csv", "parquet", "text", "arrow", "imagefolder", "pandas", "webdataset"}
)
_REMOTE_ID = re.compile(r"[A-Za-z0-9][\w.-]*(?:/[\w.-]+)?")
_FULL_COMMIT = re.compile(r"[0-9a-f]{40}")
_CREDENTIAL = re.compile(r".*(?:TOKEN|SECRET|PASSWORD|API_?KEY|ACCESS_?KEY|CREDENTIALS?)", re.DOTALL)
_NOT_CREDENTIAL = re.compile(r"TOKENIZERS?_.*|.*_TOKENS|.*TOKENIZER.*")


def find_fetches(module: Module) -> Iterator[Finding | Download]:
    """Findings and downloads of calls that use the network or a model hub."""
    for name, calls in module.calls.items():
        if _NETWORK.fullmatch(name):
            yield from (found for call in calls for found in _network(call, module))
        elif _UPLOAD.fullmatch(name):
            yield from (module.finding("python-upload", call) for call in calls)
        elif _ALWAYS_FETCHES.fullmatch(name):
            yield from (found for call in calls for found in _hub(call, module))
        elif _FETCHES_BY_NAME.fullmatch(name):
            yield from (found for call in calls if _is_remote(call, name) for found in _hub(call, module))


def find_trust(module: Module) -> Iterator[Finding]:
    """Findings of `python-trust-remote-code`: as an argument, or as a key of a dict that may become arguments."""
    if b"trust_remote_code" not in module.source:
        return
    for keyword in module.of(ast.keyword):
        if keyword.arg == "trust_remote_code" and _is_true(keyword.value):
            yield module.finding("python-trust-remote-code", keyword)
    for table in module.of(ast.Dict):
        for key, value in zip(table.keys, table.values, strict=True):
            if isinstance(key, ast.Constant) and key.value == "trust_remote_code" and _is_true(value):
                yield module.finding("python-trust-remote-code", key)


def find_credentials(module: Module) -> Iterator[Finding]:
    """Findings of `python-token`: credentials that are read from the environment."""
    for name in ("os.getenv", "os.environ.get", "os.environ.pop"):
        for call in module.calls.get(name, ()):
            if call.args:
                yield from _credential(call.args[0], call, module)
    for subscript in module.of(ast.Subscript):
        if isinstance(subscript.ctx, ast.Load) and module.name(subscript.value) == "os.environ":
            yield from _credential(subscript.slice, subscript, module)


def _credential(key: ast.expr, node: ast.expr, module: Module) -> Iterator[Finding]:
    name = text_of(key, module)
    if _CREDENTIAL.fullmatch(name) and not _NOT_CREDENTIAL.fullmatch(name):
        yield module.finding("python-token", node)


def _network(call: ast.Call, module: Module) -> Iterator[Finding | Download]:
    yield module.finding("python-network", call)
    urls = [text_of(argument, module) for argument in call.args[:2]]
    for url in urls:
        if "://" in url:
            yield _download(call, module, tool="http", target=url, pinned=False)
            return


def _hub(call: ast.Call, module: Module) -> Iterator[Finding | Download]:
    yield module.finding("python-download", call)
    named = [given.value for given in call.keywords if given.arg in {"repo_id", "path", "url"}]
    target = text_of((*call.args, *named)[0], module) if call.args or named else ""
    revision = next((given.value for given in call.keywords if given.arg == "revision"), None)
    is_pinned = revision is not None and _FULL_COMMIT.fullmatch(text_of(revision, module)) is not None
    yield _download(call, module, tool="hub", target=target, pinned=is_pinned)


def _download(call: ast.Call, module: Module, *, tool: str, target: str, pinned: bool) -> Download:
    return Download(
        phase=Phase.RUN, file=module.file, line=call.lineno, tool=tool, target=shown(target), pinned=pinned
    )


def _is_remote(call: ast.Call, name: str) -> bool:
    """Whether what is loaded is named there and lies on a hub; a path or a variable may well be a local folder."""
    for given in call.keywords:
        if given.arg == "local_files_only" and _is_true(given.value):
            return False
    match call.args:
        case [ast.Constant(value=str(target)), *_]:
            is_builder = "load_dataset" in name and target in _LOCAL_BUILDERS
            return not is_builder and _REMOTE_ID.fullmatch(target) is not None
        case _:
            return False


def _is_true(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is True
