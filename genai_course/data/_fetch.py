"""Files of the benchmark data sets: where they come from, and how each gets to this machine checked by its SHA-256.

A file is taken from the folder that the environment variable GENAI_COURSE_DATA names (read-only is fine), else from the
cache folder ``pooch.os_cache("genai_course")``, else downloaded into that cache. A broken download goes on where it
stopped, on the next mirror if need be, and a file gets its name only after its SHA-256 is checked.
"""

import contextlib
import functools
import os
import time
from pathlib import Path
from typing import NamedTuple

import pooch
import requests
from tqdm import tqdm
from urllib3.exceptions import MaxRetryError

from genai_course import _check

_ATTEMPTS, _PAUSE, _TIMEOUT = 3, 1.0, (10.0, 30.0)  # tries a mirror; seconds between them; to connect, between bytes

# A data set (name | folder | license), its mirrors (gh: a folder of a GitHub commit), its files with bytes and SHA-256.
_TABLE = """
mnist | mnist | CC BY-SA 3.0, as stated by Keras
https://storage.googleapis.com/cvdf-datasets/mnist/
https://ossci-datasets.s3.amazonaws.com/mnist/
gh:phi-pds/DeepLearningBench@4b64432cb05680df9b5a2e864467195306e64d81/mnist/mnist/data/
train-images-idx3-ubyte.gz 9912422 440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609
train-labels-idx1-ubyte.gz 28881 3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c
t10k-images-idx3-ubyte.gz 1648877 8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6
t10k-labels-idx1-ubyte.gz 4542 f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6
fashion_mnist | fashion_mnist | MIT
gh:zalandoresearch/fashion-mnist@b2617bb6d3ffa2e429640350f613e3291e10b141/data/fashion/
https://storage.googleapis.com/tensorflow/tf-keras-datasets/
http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/
train-images-idx3-ubyte.gz 26421880 3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84
train-labels-idx1-ubyte.gz 29515 a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845
t10k-images-idx3-ubyte.gz 4422102 346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073
t10k-labels-idx1-ubyte.gz 5148 67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5
binarized_mnist | mnist_binarized | not stated for the data; repository MIT
gh:mingzhang-yin/ARM-gradient@9b5f74da4e4009c5556e8d7a87c88c8e291c253d/
binarized_mnist_train.amat 2852060 79a0312c7389d855cfc97e3812de3998417c5829d8a51543b56a90a91252ae7e
binarized_mnist_valid.amat 571883 7436afc856959075c7787025bb8a4ba2b520b9230ee39667c66aa7dd2819dd68
binarized_mnist_test.amat 490132 5bc30222e1e7896cbccd1e1db6b28540cc1230f4d2d5473841a5f6cc54be8d38
tiny_shakespeare | tinyshakespeare | public-domain text; repository MIT
gh:karpathy/char-rnn@6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e/data/tinyshakespeare/
input.txt 1115394 86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed
names | names | MIT; from a public list of the US government
gh:karpathy/makemore@988aa59e4d8fefa526d06f3b453ad116258398d4/
names.txt 228145 0a30b5557f192f32ab962680889aac5f6fda0f4cecf40a6d0b5694f58ea8cc4d
jsb_chorales | jsb | not stated
gh:czhuang/JSB-Chorales-dataset@9a7f733ddb4ed91f48da64ac7f0f621c34aadd4d/
jsb-chorales-quarter.json 407200 2db9329f1881a1d3f49703ec556bf1d6f84b4f6c1d702c156536e93cf31e1c91
eth_ucy | eth_ucy | not stated for the data; repository MIT
gh:StanfordASL/Trajectron-plus-plus@1031c7bd1a444273af378c1ec1dcca907ba59830/experiments/pedestrians/raw/raw/all_data/
biwi_eth.txt 116970 cf8d3fd342a15f409ebc2a1fc76b91a0f06390bd21f1e11410f3859331ab082b
biwi_hotel.txt 143799 9caa771bb9153d6b809dd0916b6f86761b641e6bbb15e766c1de3133fbbb7fcf
students001.txt 879714 a6d87f278d94136fe39b8be91555487a29ac77259ae403b9dba2d5c18caf7b5b
students003.txt 724279 e25798b660634330aa89f8bb259425de720e84d0873902726c1d1f4ccff21d6c
crowds_zara01.txt 205711 1147a1962a09abfb86f28c6cddcac862e095a0cf129b3016385b69eacdd09d85
crowds_zara02.txt 392227 8a649d0f8c9ae75c87c4d23a85f892786b0aa30266e996c7be03e69dafff22ff
crowds_zara03.txt 199834 16b3e899932c4baacd07f45013d5b921f90bc5a29eb2b0fe42f4d7c904ac3108
uni_examples.txt 109307 61f432c0ab3070ed0ef150fbeabcd7baf839cab5495a46e6105bd747f0a092a7
imdb | imdb | not stated; the authors ask to cite Maas et al. (2011)
https://ai.stanford.edu/~amaas/data/sentiment/
aclImdb_v1.tar.gz 84125825 c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe
"""


class Source(NamedTuple):
    """Where a data set comes from; every mirror has its files under the same names."""

    folder: str
    license: str
    mirrors: list[str]
    files: dict[str, tuple[int, str]]  # name -> bytes, SHA-256


def _parse(table: str) -> dict[str, Source]:
    registry = {}
    for line in table.strip().splitlines():
        if " | " in line:
            name, folder, license = line.split(" | ")
            registry[name] = source = Source(folder, license, [], {})
        elif line.startswith("gh:"):  # GitHub itself, and a second server for repositories up to 50 MB
            path = line.removeprefix("gh:")
            source.mirrors.append(f"https://raw.githubusercontent.com/{path.replace('@', '/')}")
            source.mirrors.append(f"https://cdn.jsdelivr.net/gh/{path}")
        elif "://" in line:
            source.mirrors.append(line)
        else:
            file, size, sha256 = line.split()
            source.files[file] = int(size), sha256
    return registry


REGISTRY = _parse(_TABLE)


def _download(url: str, output: str, _, *, part: Path, size: int) -> None:
    """Write ``url`` to ``output`` as pooch asks, going on from the bytes that a broken attempt left in ``part``."""
    with contextlib.suppress(FileNotFoundError):
        os.replace(part, output)  # a move: of two processes, only one goes on from the same bytes
    try:
        have = os.path.getsize(output)
        have = have if have < size else 0
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response, open(output, "r+b") as file:
            response.raise_for_status()
            have = have if response.status_code == 206 else 0  # any other answer starts at the first byte
            if int(response.headers.get("Content-Length", size - have)) != size - have:
                raise ValueError(f"it offers {response.headers['Content-Length']} bytes, not {size - have}")
            file.truncate(have)
            file.seek(have)
            with tqdm(total=size, initial=have, unit="B", unit_scale=True, desc=part.stem, delay=2) as bar:
                for chunk in response.iter_content(1 << 14):
                    bar.update(file.write(chunk))
                    if file.tell() > size:
                        break  # a wrong file, which its hash will tell
    except BaseException:  # an interrupt too: keep what came
        if os.path.getsize(output):
            os.replace(output, part)
        raise


def _given(folder: str, file: str, sha256: str) -> Path | None:
    """Return the checked file in the user's own folder, or ``None`` if it is not there."""
    if not (variable := os.environ.get("GENAI_COURSE_DATA")):
        return None
    root = Path(variable).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"GENAI_COURSE_DATA is {variable!r}, which is not a folder: correct it or unset it")
    path = root / folder / file
    if not path.exists():
        return None
    if (found := pooch.file_hash(str(path))) != sha256:
        raise ValueError(f"{path} is damaged: SHA-256 {found}, expected {sha256}; left as it is, please replace it")
    return path


def _path(name: str, file: str) -> Path:
    """Return where one checked file is: given by the user, in the cache, or else downloaded into the cache."""
    folder, _, mirrors, files = REGISTRY[name]
    size, sha256 = files[file]
    if path := _given(folder, file, sha256):
        return path
    cache, failures = Path(pooch.os_cache("genai_course")) / folder, {}
    advice = f"Set GENAI_COURSE_DATA to a folder that has {folder}/{file}, or run this with a network and a writable"
    advice += f" cache (it goes on from what it has): python -m genai_course.data.benchmarks {name}"
    download = functools.partial(_download, part=cache / f"{file}.part", size=size)
    for url in (mirror + file for mirror in mirrors):
        for attempt in range(_ATTEMPTS):
            time.sleep(_PAUSE * attempt)
            try:
                return Path(pooch.retrieve(url, f"sha256:{sha256}", fname=file, path=cache, downloader=download))
            except (requests.RequestException, ValueError) as error:  # the mirror's fault
                cause = error.args[0] if error.args else None
                unreachable = isinstance(cause, MaxRetryError)
                failures[url] = cause.reason if unreachable else error
                if unreachable or (isinstance(error, requests.HTTPError) and error.response.status_code < 500):
                    break  # asking again would not help
            except OSError as error:  # this machine's fault, whatever the mirror
                raise OSError(f"{name}: cannot write {file} to {cache}: {error}. {advice}") from error
    looked = f"{os.environ.get('GENAI_COURSE_DATA') or 'GENAI_COURSE_DATA (not set)'} nor {cache.parent}"
    damaged = " (a damaged copy there was not used)" if (cache / file).exists() else ""
    reasons = "".join(f"\n  {url}: {error}" for url, error in failures.items())
    raise FileNotFoundError(
        f"{name}: neither {looked} has {folder}/{file}{damaged}, and no mirror gave it:{reasons}\n{advice}"
    )


def fetch(name: str) -> dict[str, Path]:
    """Return the path of each file of a data set, downloaded if need be and checked.

    Raises ``ValueError`` for an unknown name or for a damaged file in GENAI_COURSE_DATA (which is never changed), and
    ``OSError`` that says where a file was looked for and what to do if it cannot be had.
    """
    return {file: _path(name, file) for file in REGISTRY[_check.choice("name", name, REGISTRY)].files}
