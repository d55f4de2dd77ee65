"""Where a feed has what: one delegated role a channel, one target a champion, one list of revocations a channel.

`metadata/` and `targets/` lie below one folder or URL. Role `text` may sign `text/*` and nothing else:
`text/<name>.champion.tar` is an archive (tournament_sync.archive), `text/revocations.json` the list.
"""

from tournament_sync.champion import Channel, is_champion_name

METADATA_FOLDER = "metadata"
TARGETS_FOLDER = "targets"
TIMESTAMP_FILE = f"{METADATA_FOLDER}/timestamp.json"
CHANNEL_ROLES = tuple(channel.value for channel in Channel)
ROLES = ("root", "targets", *CHANNEL_ROLES, "snapshot", "timestamp")
_ARCHIVE_SUFFIX = ".champion.tar"


def archive_target(channel: Channel, name: str) -> str:
    """The target path of the champion `name`."""
    return f"{channel.value}/{name}{_ARCHIVE_SUFFIX}"


def revocations_target(channel: Channel) -> str:
    """The target path of the channel's list of revocations."""
    return f"{channel.value}/revocations.json"


def role_paths(channel: Channel) -> list[str]:
    """What the channel's role may sign."""
    return [f"{channel.value}/*"]


def champion_name(target: str, channel: Channel) -> str | None:
    """The name of the champion whose archive is the target path `target`, None if it is no such path."""
    name = target.removeprefix(f"{channel.value}/").removesuffix(_ARCHIVE_SUFFIX)
    return name if is_champion_name(name) and archive_target(channel, name) == target else None


def metadata_file(role: str, version: int) -> str:
    """Where that version of a role's metadata lies; the timestamp alone has no versions."""
    return f"{METADATA_FOLDER}/{version}.{role}.json"


def target_file(target: str, sha256: str) -> str:
    """Where the bytes of a target lie: a file of the same name with other content is another file."""
    folder, _, name = target.rpartition("/")
    return f"{TARGETS_FOLDER}/{folder}/{sha256}.{name}"
