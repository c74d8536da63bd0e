"""Faults of a download: it ends in the right file or in a clear error, and a wrong file never gets the right name."""

import hashlib
import inspect
import os
import re
import signal
import tempfile
import time
from pathlib import Path

import numpy as np
import pooch
import pytest
from fault_server import FaultServer, contents, read_only, refused, start

from genai_course.data import _fetch, benchmarks

BODY = np.random.default_rng(0).bytes(400_000)
SHA256 = hashlib.sha256(BODY).hexdigest()
FILES = {"names.txt": (len(BODY), SHA256)}
FILE = "names/names.txt"


@pytest.fixture
def server():
    with FaultServer(BODY) as running:
        yield running


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache folder, no folder of the user's, no proxy, and no patience."""
    monkeypatch.setattr(pooch, "os_cache", lambda _: tmp_path / "cache")
    monkeypatch.delenv("GENAI_COURSE_DATA", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(_fetch, "_PAUSE", 0.0)
    monkeypatch.setattr(_fetch, "_TIMEOUT", (2.0, 0.3))
    return tmp_path / "cache"


@pytest.fixture
def fetch(server, cache, monkeypatch):
    """Return a function that fetches the file from mirrors with the given faults."""

    def run(*faults):
        mirrors = [fault if "://" in fault else server.url(fault) for fault in faults]
        monkeypatch.setitem(_fetch.REGISTRY, "names", _fetch.Source("names", "none", mirrors, FILES))
        return _fetch.fetch("names")["names.txt"]

    return run


# what is wrong with a mirror -> what the error has to say
FAULTS = {
    "cut": "IncompleteRead",
    "short": "does not match the known hash",
    "endless": "does not match the known hash",
    "flipped": "does not match the known hash",
    "flippedcut": "IncompleteRead",
    "html": "offers 55 bytes, not 400000",
    "htmlchunked": "does not match the known hash",
    "missing": "404",
    "busy": "503",
    "silent": "timed out",
    "stalled": "timed out",
    "reset": "without response",
}
UNCUT = {"cut", "stalled"}  # the beginnings of the file that these send are right


@pytest.mark.parametrize(
    "fault", ["good", "plain", "zipped", *(f"{fault}-once" for fault in FAULTS if fault != "missing")]
)
def test_a_mirror_that_recovers(fetch, cache, fault):
    assert fetch(fault).read_bytes() == BODY
    assert contents(cache) == {FILE: BODY}


@pytest.mark.parametrize("fault", [*FAULTS, "refused"])
def test_the_next_mirror_helps(fetch, cache, fault):
    assert fetch(refused() if fault == "refused" else fault, "good").read_bytes() == BODY
    assert contents(cache) == {FILE: BODY}


@pytest.mark.parametrize("fault", [*FAULTS, "refused"])
def test_no_mirror_helps_then_one_does(fetch, cache, server, fault):
    mirror = refused() if fault == "refused" else fault
    with pytest.raises(FileNotFoundError) as caught:
        fetch(mirror)
    message = str(caught.value)
    for part in ("names", FILE, "GENAI_COURSE_DATA", str(cache), "127.0.0.1", "python -m genai_course.data.benchmarks"):
        assert part in message
    assert re.search(FAULTS.get(fault, "refused"), message), message
    assert sum(line.startswith("  http://") for line in message.splitlines()) == 1  # each mirror is named once
    left = contents(cache)
    assert set(left) <= {f"{FILE}.part"}
    assert all(left.values()), "an empty file was left"
    if fault in UNCUT:
        assert BODY.startswith(left[f"{FILE}.part"])
        assert len(left[f"{FILE}.part"]) > len(BODY) // 2
    assert all(sent < 100 * len(BODY) for *_, sent in server.log), "it reads on and on"
    assert fetch("good").read_bytes() == BODY
    assert contents(cache) == {FILE: BODY}


@pytest.mark.parametrize("others", [["good"], ["plain"], ["elsewhere"], ["flipped-once"], ["norange", "good"]])
def test_a_broken_download_goes_on(fetch, cache, server, others):
    assert fetch("cut", *others).read_bytes() == BODY
    assert contents(cache) == {FILE: BODY}
    assert [asked > 0 for fault, asked, _ in server.log if fault == "cut"] == [False, True, True]
    if others == ["good"]:  # nothing is sent twice but the last piece before each cut
        assert sum(sent for *_, sent in server.log) < 1.2 * len(BODY)


@pytest.mark.parametrize("part", [b"", BODY[:1], BODY[:-1], BODY, BODY + b"x", 2 * BODY])
def test_what_an_earlier_run_may_have_left(fetch, cache, server, part):
    (cache / "names").mkdir(parents=True)
    (cache / f"{FILE}.part").write_bytes(part)
    assert fetch("good").read_bytes() == BODY
    assert contents(cache) == {FILE: BODY}
    assert [asked for _, asked, _ in server.log] == [len(part) if len(part) < len(BODY) else 0]


def test_a_mirror_that_is_always_wrong_cannot_spoil_the_next(fetch, cache, server):
    """The bytes kept from a mirror that sends wrong ones are given up once the hash has told."""
    assert fetch("flippedcut", "flippedcut", "good").read_bytes() == BODY
    assert contents(cache) == {FILE: BODY}


def test_not_found_is_asked_once_and_nothing_more_after_success(fetch, server):
    fetch("missing", "good", "busy")
    fetch("busy")  # in the cache by now
    assert [fault for fault, *_ in server.log] == ["missing", "good"]


def test_a_damaged_file_in_the_cache_is_replaced_or_not_used(fetch, cache):
    (cache / "names").mkdir(parents=True)
    (cache / FILE).write_bytes(BODY[:-1])
    with pytest.raises(FileNotFoundError, match="a damaged copy there was not used"):
        fetch("busy")
    assert fetch("good").read_bytes() == BODY
    assert contents(cache) == {FILE: BODY}


@pytest.mark.parametrize("wrong", [BODY[:-1], BODY + b"x", b"", bytes([BODY[0] ^ 1]) + BODY[1:]])
def test_a_damaged_file_of_the_user_is_named_and_left(fetch, cache, server, tmp_path, monkeypatch, wrong):
    own = tmp_path / "own" / FILE
    own.parent.mkdir(parents=True)
    own.write_bytes(wrong)
    before = own.stat().st_mtime_ns
    monkeypatch.setenv("GENAI_COURSE_DATA", str(tmp_path / "own"))
    with pytest.raises(ValueError, match=re.escape(f"{own} is damaged")):
        fetch("good")
    assert own.read_bytes() == wrong
    assert own.stat().st_mtime_ns == before
    assert not server.log
    assert not cache.exists()


def test_a_folder_of_the_user_that_lacks_the_file_or_is_none(fetch, cache, tmp_path, monkeypatch):
    (tmp_path / "own").mkdir()
    monkeypatch.setenv("GENAI_COURSE_DATA", str(tmp_path / "own"))
    with pytest.raises(FileNotFoundError, match=re.escape(f"neither {tmp_path / 'own'} nor {cache}")):
        fetch("busy")
    assert fetch("good") == cache / FILE
    assert not contents(tmp_path / "own")
    monkeypatch.setenv("GENAI_COURSE_DATA", str(tmp_path / "typo"))
    with pytest.raises(FileNotFoundError, match=r"typo.*not a folder"):
        fetch("good")


@pytest.mark.skipif(os.name != "posix", reason="rights to folders as on POSIX")
@pytest.mark.parametrize("state", ["empty", "damaged", "good", "own"])
def test_read_only_folders(fetch, server, monkeypatch, state):
    with tempfile.TemporaryDirectory() as name:  # below nobody's home, so that nobody may look into it
        top = Path(name)
        top.chmod(0o755)
        folder = top / "names"
        folder.mkdir()
        held = {} if state == "empty" else {FILE: BODY[1:] if state == "damaged" else BODY}
        for file, data in held.items():
            (top / file).write_bytes(data)
        monkeypatch.setattr(pooch, "os_cache", lambda _: top)
        if state == "own":
            monkeypatch.setenv("GENAI_COURSE_DATA", name)
        with read_only(folder):
            if state in ("good", "own"):
                assert fetch("good") == top / FILE
            else:
                with pytest.raises(OSError, match=rf"cannot write names\.txt to {folder}.*GENAI_COURSE_DATA"):
                    fetch("good")
        assert contents(top) == held
        assert not server.log


@pytest.mark.skipif(os.name != "posix", reason="limits to files as on POSIX")
def test_full_disk(fetch, cache, server):
    """A limit to the size of a file stands for a full disk: the write fails in the middle."""
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"cannot write names\.txt"):
            fetch("good")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert set(contents(cache)) <= {f"{FILE}.part"}
    assert len(server.log) == 1
    assert fetch("good").read_bytes() == BODY


@pytest.mark.parametrize("begun", [False, True])
def test_two_processes_at_once(cache, server, begun):
    """Both write at the same time; whenever the file is there, all of it is there."""
    if begun:
        (cache / "names").mkdir(parents=True)
        (cache / f"{FILE}.part").write_bytes(BODY[:150_000])
    both = [start(cache, BODY, server.url("together")) for _ in range(2)]
    looks = 0
    while any(process.poll() is None for process in both):
        if (cache / FILE).exists():
            assert (cache / FILE).read_bytes() == BODY
        looks += len(list(cache.glob("names/tmp*"))) == 2
        time.sleep(0.005)
    for process in both:
        output, errors = process.communicate(timeout=20)
        assert process.returncode == 0, errors.decode()
        assert output.decode().strip() == str(cache / FILE)
    assert looks > 0, "the two did not write at the same time"
    assert sorted(asked for _, asked, _ in server.log) == ([0, 150_000] if begun else [0, 0])
    assert contents(cache) == {FILE: BODY}


@pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX")
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGKILL])
def test_killed_in_the_middle(fetch, cache, server, sign):
    process = start(cache, BODY, server.url("stalled"))
    deadline = time.monotonic() + 60
    while not any(p.stat().st_size > 100_000 for p in cache.glob("names/*")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(sign)
    process.communicate(timeout=20)
    assert process.returncode != 0
    assert FILE not in contents(cache)
    if sign == signal.SIGINT:
        assert set(contents(cache)) == {f"{FILE}.part"}
        assert BODY.startswith(contents(cache)[f"{FILE}.part"])
    assert fetch("good").read_bytes() == BODY
    assert contents(cache)[FILE] == BODY
    assert (server.log[-1][1] > 0) == (sign == signal.SIGINT)


def test_command_line(fetch, cache, server, capsys, monkeypatch):
    assert fetch("good")
    monkeypatch.setitem(_fetch.REGISTRY, "imdb", _fetch.Source("imdb", "none", [refused()], FILES))
    assert benchmarks.main(["imdb", "names"]) == 1
    printed = capsys.readouterr()
    assert str(cache / FILE) in printed.out  # the one that can be had is fetched all the same
    assert "imdb" in printed.err
    assert benchmarks.main(["names"]) == 0
    capsys.readouterr()
    assert benchmarks.main(["--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(_fetch.REGISTRY)
    with pytest.raises(SystemExit):
        benchmarks.main(["names", "nmist"])
    assert "no data set nmist" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["nmist", "", "../names", None, 3, b"names"])
def test_unknown_name(name):
    with pytest.raises(ValueError, match="name must be one of 'mnist'"):
        inspect.unwrap(_fetch.fetch)(name)


def test_registry_is_well_formed():
    paths = []
    for name, source in _fetch.REGISTRY.items():
        assert callable(getattr(benchmarks, name))
        assert source.license
        for url in source.mirrors:
            assert re.fullmatch(r"https?://[a-zA-Z0-9.-]+/([^/]+/)*", url)
            assert "github" not in url or re.search(r"/[0-9a-f]{40}/", url), "a branch can change"
        for file, (size, sha256) in source.files.items():
            assert size > 0
            assert re.fullmatch("[0-9a-f]{64}", sha256)
            paths.append(f"{source.folder}/{file}")
    assert len(set(paths)) == len(paths) == 23
