from pathlib import Path

import pytest

from momentary.errors import SettingsError
from momentary.settings import ServeSettings, api_key_digest, is_loopback, load_settings


def _file(folder: Path, text: str) -> Path:
    file = folder / "momentary.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_defaults_listen_on_this_machine_alone():
    settings = load_settings(environ={})

    assert settings.serve == ServeSettings()
    assert is_loopback(settings.serve.host)


def test_a_variable_wins_over_the_file_and_the_file_over_the_default(tmp_path):
    file = _file(tmp_path, 'home = "shop"\n[serve]\nport = 9000\nidle_s = 60\n')

    settings = load_settings(file, environ={"MOMENTARY_SERVE_PORT": "9001", "PATH": "/bin"})

    assert settings.home == Path("shop")
    assert settings.serve.port == 9001
    assert settings.serve.idle_s == 60


def test_variables_name_folders_and_lists(tmp_path):
    one, two = f"read:{api_key_digest('one')}", f"admin:{api_key_digest('two')}"
    environ = {
        "MOMENTARY_HOME": str(tmp_path),
        "MOMENTARY_DATA": "/srv/data",
        "MOMENTARY_SERVE_API_KEYS": f"{one}, {two}",
        "MOMENTARY_SERVE_HOST": "0.0.0.0",
    }

    settings = load_settings(environ=environ)

    assert (settings.home, settings.data) == (tmp_path, Path("/srv/data"))
    assert settings.serve.api_keys == (one, two)


@pytest.mark.parametrize(
    ("text", "named", "near"),
    [
        ("hom = 'x'", "hom", "home"),
        ("[serve]\nprot = 1", "serve.prot", "serve.port"),
        ("[serv]\nport = 1", "serv", "serve"),
    ],
)
def test_an_unknown_key_is_named_with_its_nearest(tmp_path, text, named, near):
    with pytest.raises(SettingsError, match=rf"^{named} is not a setting; did you mean {near}\?"):
        load_settings(_file(tmp_path, text), environ={})


def test_an_unknown_variable_is_named_with_its_nearest():
    with pytest.raises(SettingsError, match=r"MOMENTARY_SERVE_PROT .* MOMENTARY_SERVE_PORT\?"):
        load_settings(environ={"MOMENTARY_SERVE_PROT": "1"})


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[serve]\nport = 0", r"serve\.port is 0"),
        ("[serve]\nport = 70000", r"serve\.port is 70000"),
        ("[serve]\nport = '80'", r"serve\.port is '80'"),
        ("[serve]\nport = true", r"serve\.port is True"),
        ("[serve]\nidle_s = -1", r"serve\.idle_s is -1"),
        ("[serve]\nmax_seen = 10", r"serve\.max_seen is 10"),
        ("[serve]\napi_keys = ['plain']", r"serve\.api_keys .*momentary key"),
        (f"[serve]\napi_keys = ['{api_key_digest('k')}']", r"serve\.api_keys .* SCOPE:SHA256"),
        (f"[serve]\napi_keys = ['root:{api_key_digest('k')}']", r"serve\.api_keys .* scopes are"),
        ("[serve]\ncors_origins = ['*']", r"serve\.cors_origins holds '\*'"),
        ("[serve]\nrate_limit = -1", r"serve\.rate_limit is -1"),
        ("[serve]\nhost = '0.0.0.0'", r"serve\.host is '0.0.0.0'"),
        ("[serve]\nhost = 'shop.example'", r"serve\.host is 'shop.example'"),
        ("serve = 3", r"serve is 3"),
        ("home = 3", r"home is 3"),
        ("home = ", r"is not TOML"),
    ],
)
def test_bad_values_are_refused_by_name(tmp_path, text, named):
    with pytest.raises(SettingsError, match=named):
        load_settings(_file(tmp_path, text), environ={})


def test_a_bad_variable_is_refused_by_name():
    with pytest.raises(SettingsError, match=r"serve\.port is 'many'"):
        load_settings(environ={"MOMENTARY_SERVE_PORT": "many"})


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="cannot be read"):
        load_settings(tmp_path / "nothing.toml", environ={})


def test_a_key_lets_the_server_listen_everywhere():
    assert ServeSettings(host="::", api_keys=(f"read:{api_key_digest('k')}",)).host == "::"
