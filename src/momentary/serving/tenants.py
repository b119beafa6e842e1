"""The tenants of one server: a folder each, with everything that is theirs and nothing else.

HOME/tenants/NAME is a whole workspace: catalogue, log, models, audit log, and `momentary.toml` with
the tenant's keys and limits. In PostgreSQL each tenant has a schema of its own. Nothing names a
tenant in a request but its key.
"""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path

from momentary.data.occupancy import unserved
from momentary.data.segments import sync_file, sync_folder
from momentary.data.workspace import Workspace, database_of
from momentary.errors import SettingsError
from momentary.settings import OWN_FILE, ServeSettings, Settings, load_settings, new_api_key

FOLDER = "tenants"
_NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")
_SHARED = (
    *("host", "port", "state_url", "request_s", "shutdown_s", "workers", "log_format", "otlp_url"),
)
"""Settings of the process, which no tenant has of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """One tenant.

    Attributes:
        name: For whoever runs the server; never seen in a request or an answer.
        settings: What counts for the tenant; `home` is its folder.
    """

    name: str
    settings: Settings


def add_tenant(server: Settings, name: str) -> str:
    """Make a tenant with an empty workspace.

    Args:
        server: Of the server; its database holds the tenant's, too, in a schema of its own.
        name: Small letters, digits and hyphens.

    Returns:
        The tenant's admin key, which is stored nowhere.

    Raises:
        SettingsError: If the name cannot be one, or is taken.
    """
    if not _NAME.fullmatch(name):
        raise SettingsError(
            f"{name!r} cannot name a tenant; use a small letter, then letters, digits and hyphens."
        )
    folder = server.home / FOLDER / name
    if folder.exists():
        raise SettingsError(f"there is a tenant {name} already; choose another name.")
    key, entry = new_api_key("admin")
    lines = ["[serve]", f"api_keys = [{json.dumps(entry)}]"]
    storage = server.storage
    if storage.database_url is not None:
        storage = replace(storage, schema=f"tenant_{name.replace('-', '_')}")
        lines += ["", "[storage]", f"database_url = {json.dumps(storage.database_url)}"]
        lines += [f"schema = {json.dumps(storage.schema)}"]
    # Nobody sees a tenant before it is whole.
    draft = folder.with_name(f".{name}.new")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True, mode=0o700)
    if database_of(draft, storage).exists():
        raise SettingsError(
            f"the schema {storage.schema} holds a shop already, such as of another server; drop it "
            "if nobody needs it, or choose another name."
        )
    Workspace.open(draft, create=True, storage=storage).close()
    own = draft / OWN_FILE
    own.touch(mode=0o600)
    own.write_text("\n".join(lines) + "\n", encoding="utf-8")
    sync_file(own)
    draft.replace(folder)
    sync_folder(folder.parent)
    return key


def remove_tenant(server: Settings, name: str) -> None:
    """Delete a tenant and everything that is its own; stop the server first.

    Raises:
        SettingsError: If there is no such tenant, or a server serves it.
    """
    tenant = next((each for each in list_tenants(server) if each.name == name), None)
    if tenant is None:
        raise SettingsError(f"there is no tenant {name}; momentary tenant list names them.")
    home = tenant.settings.home
    with unserved(home, instead="stop the server first."):
        # The folder goes last: until then the tenant is listed and can be removed again.
        database_of(home, tenant.settings.storage).drop()
        gone = home.with_name(f".{name}.gone")
        shutil.rmtree(gone, ignore_errors=True)
        home.replace(gone)
    sync_folder(gone.parent)
    shutil.rmtree(gone)


def list_tenants(server: Settings) -> list[Tenant]:
    """The tenants by name.

    Raises:
        SettingsError: If one's settings cannot work, or two have a key in common.
    """
    found = [
        Tenant(name=folder.name, settings=_settings(server, folder))
        for folder in sorted((server.home / FOLDER).glob("*/"))
        if _NAME.fullmatch(folder.name)
    ]
    _check_keys(found)
    return found


def _settings(server: Settings, folder: Path) -> Settings:
    """The server's settings, but for what the tenant's own file says."""
    file = folder / OWN_FILE
    own = load_settings(file, environ={})
    given = tomllib.loads(file.read_text(encoding="utf-8")).get("serve", {})
    shared = sorted(set(given) & set(_SHARED))
    if shared:
        raise SettingsError(
            f"{file} sets serve.{shared[0]}, which belongs to the whole server; set it in "
            f"{server.home / OWN_FILE}."
        )
    known = {each.name for each in fields(ServeSettings)}
    own_limits = {name: getattr(own.serve, name) for name in given if name in known}
    if not own_limits.get("api_keys"):
        raise SettingsError(f"{file} has no serve.api_keys; nobody could reach the tenant.")
    # A page that may ask one tenant may not ask another, unless that one says so, too.
    limits = replace(server.serve, **{"cors_origins": (), **own_limits})
    return replace(server, home=folder, serve=limits, storage=own.storage)


def _check_keys(tenants: Iterable[Tenant]) -> None:
    owners: dict[str, str] = {}
    for tenant in tenants:
        for entry in tenant.settings.serve.api_keys:
            digest = entry.rpartition(":")[2]
            other = owners.setdefault(digest, tenant.name)
            if other != tenant.name:
                raise SettingsError(
                    f"{other} and {tenant.name} have a key in common; make another with "
                    "momentary key."
                )
