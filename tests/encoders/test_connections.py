"""Addresses that lie: private ones behind public names, in other spellings, a moment later."""

import http.server
import socket
import threading

import pytest

from momentary.encoders.connections import connected, is_public
from momentary.encoders.media import MediaLimits, read_media
from momentary.errors import DataError

PRIVATE = (
    *("127.0.0.1", "127.8.9.1", "10.0.0.8", "172.16.3.4", "192.168.1.1", "169.254.169.254"),
    *("0.0.0.0", "100.64.0.1", "224.0.0.1", "255.255.255.255", "198.18.0.1", "192.0.2.5"),
    *("::1", "::", "fe80::1%eth0", "fc00::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:a00:1"),
    *("64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2001:0:7f00:1::1"),
)


class Names:
    """A name server that answers what it likes, the next answer each time."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = 0

    def __call__(self, _host, port, *_, **__):
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [
            (
                socket.AF_INET6 if ":" in each else socket.AF_INET,
                socket.SOCK_STREAM,
                6,
                "",
                (each, port),
            )
            for each in answer
        ]


@pytest.fixture
def dialled(monkeypatch):
    """Addresses that were connected to; nothing ever is."""
    found = []

    def dial(place, *_):
        found.append(place)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "create_connection", dial)
    return found


@pytest.mark.parametrize("address", PRIVATE)
def test_a_public_name_that_leads_into_the_network_is_refused(monkeypatch, dialled, address):
    assert not is_public(address)
    limits = MediaLimits(urls=("https://cdn.example.com/", "http://cdn.example.com/"))
    for answers in ([address], ["93.184.216.34", address]):
        monkeypatch.setattr(socket, "getaddrinfo", Names(answers))
        for scheme in ("http", "https"):
            with pytest.raises(DataError, match="no public address"):
                read_media(f"{scheme}://cdn.example.com/a.png", limits=limits)
    assert dialled == []


def test_the_address_that_was_judged_is_the_one_that_is_dialled(monkeypatch, dialled):
    """DNS rebinding: the second answer would be this machine, and is never asked for."""
    names = Names(["93.184.216.34"], ["127.0.0.1"])
    monkeypatch.setattr(socket, "getaddrinfo", names)
    with pytest.raises(ConnectionRefusedError):
        connected(("cdn.example.com", 80))
    assert dialled == [("93.184.216.34", 80)]
    assert names.asked == 1


@pytest.mark.parametrize(
    "url",
    [
        "http://2130706433/a.png",
        "http://0x7f000001/a.png",
        "http://0177.0.0.1/a.png",
        "http://127.1/a.png",
        "http://[::ffff:127.0.0.1]/a.png",
        "http://cdn.example.com@127.0.0.1/a.png",
        "http://cdn.example.com#@127.0.0.1/a.png",
        "http://cdn.example.com:80@127.0.0.1/",
        "http://cdn.example.com\\@127.0.0.1/",
        "http://cdn.example.com%2f@127.0.0.1/",
        "http://cdn.example.com.evil.example/a.png",
        "http://cdn.example.com:22/a.png",
        "ftp://cdn.example.com/a.png",
        "file:///etc/passwd",
        "gopher://cdn.example.com/",
    ],
)
def test_other_spellings_are_no_way_around_the_allow_list(monkeypatch, dialled, url):
    monkeypatch.setattr(socket, "getaddrinfo", Names(["127.0.0.1"]))
    with pytest.raises(DataError):
        read_media(url, limits=MediaLimits(urls=("http://cdn.example.com/",)))
    assert dialled == []


def test_a_private_address_is_reached_only_where_the_allow_list_names_it(monkeypatch, dialled):
    for name, answer in (("10.0.0.8", "10.0.0.8"), ("localhost", "127.0.0.1")):
        monkeypatch.setattr(socket, "getaddrinfo", Names([answer]))
        with pytest.raises(DataError, match="cannot be fetched"):
            read_media(f"http://{name}/a.png", limits=MediaLimits(urls=(f"http://{name}/",)))
    assert dialled == [("10.0.0.8", 80), ("127.0.0.1", 80)]


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/latest/",
        "http://[::1]:{}/",
        "file:///etc/passwd",
        "http://2130706433:{}/",
    ],
)
def test_a_redirect_leads_nowhere_else(target):
    class Away(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(302)
            self.send_header("Location", target.format(self.server.server_port))
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Away) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/"
        with pytest.raises(DataError):
            read_media(f"{address}a.png", limits=MediaLimits(urls=(address,)))
        server.shutdown()


def test_proxies_of_the_environment_are_not_asked(monkeypatch, dialled):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setattr(socket, "getaddrinfo", Names(["93.184.216.34"]))
    with pytest.raises(DataError, match="cannot be fetched"):
        read_media(
            "http://cdn.example.com/a.png", limits=MediaLimits(urls=("http://cdn.example.com/",))
        )
    assert dialled == [("93.184.216.34", 80)]
