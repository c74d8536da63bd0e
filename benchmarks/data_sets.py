"""Time and peak memory of building each data set of the course from nothing, each in a process of its own.

Run with ``python benchmarks/data_sets.py`` (about a minute on two cores). Importing JAX and the package is not counted.
"""

import resource
import subprocess
import sys
import time

KEY = "jax.random.key(0)"
SETS = {  # what is built, and the expression that builds it
    "toys: 10,000 points of two spirals": f"toys.spirals().sample({KEY}, 10_000)",
    "digits: all 1,797": "digits.load()",
    "glyphs: 20,000 digits": f"glyphs.sample({KEY}, 20_000)",
    "glyphs: 20,000 letters": f"glyphs.sample({KEY}, 20_000, characters=glyphs.LETTERS)",
    "prose: 300,000 characters of the grammar": f"prose.HARBOR_LOG.sample({KEY}, 300_000)",
    "prose: the reference text": "prose.reference_text()",
    "chorales: all": "chorales.load()",
    "vowels: 500 utterances of 0.3 s": f"vowels.sample({KEY}, 500)",
    "driving: 5,000 demonstrations round an obstacle": f"driving.obstacle.sample({KEY}, 5_000)",
    "photos: 30,000 patches of 8×8": f"photos.patches({KEY}, 30_000)",
}


def measure(expression: str) -> tuple[float, float]:
    """Seconds to build one data set, and by how many megabytes it raised the process's peak memory."""
    import jax

    from genai_course.data import chorales, digits, driving, glyphs, photos, prose, toys, vowels  # noqa: F401

    jax.block_until_ready(jax.random.normal(jax.random.key(0), (10,)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    jax.block_until_ready(eval(expression))
    seconds = time.perf_counter() - start
    return seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def main() -> None:
    """Print one line a data set."""
    if len(sys.argv) > 1:
        print(*measure(sys.argv[1]))
        return
    for name, expression in SETS.items():
        out = subprocess.run([sys.executable, __file__, expression], capture_output=True, text=True, check=True).stdout
        seconds, megabytes = map(float, out.split())
        print(f"{name:50} {seconds:6.2f} s {megabytes:7.0f} MB", flush=True)


if __name__ == "__main__":
    main()
