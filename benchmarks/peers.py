"""Training steps of this course's models beside the same models in PyTorch: one table, one machine, one run.

    python benchmarks/peers.py --torch PYTHON [--families vae_dense gru] [--repeats 7]

PYTHON is the interpreter of an environment with PyTorch (``pip install torch``, the CPU build), which the course does
not need for anything else. Each side runs in a process of its own; sizes, batch, optimizer and data are the same, and
the two take turns, so that a busy machine slows both alike. Reported: parameters of both, median milliseconds of a
step, and the median over the pairs of PyTorch's time over ours (above 1: ours is faster).
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

FAMILIES = ("vae_dense", "vae_conv", "gru", "transformer", "gan", "flow_coupling", "flow_masked", "diffusion")
HERE = Path(__file__).parent
SECONDS = 2.0  # of one turn, about


class Worker:
    """One side: a process that answers with the seconds that so many steps took."""

    def __init__(self, python: str, program: str, family: str):
        command = [python, "-W", "ignore", str(HERE / program), family]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.hello = self._answer()

    def _answer(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{' '.join(self.process.args)} ended with status {self.process.wait()}")
        return json.loads(line)

    def run(self, steps: int) -> dict:
        """``{"seconds": …, "loss": …}`` of so many steps."""
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End the process: it stops where its input does."""
        self.process.stdin.close()
        self.process.wait(timeout=60)


def compare(family: str, python: str, repeats: int) -> dict:
    """Both sides in turn; medians in milliseconds a step."""
    sides = [Worker(sys.executable, "peers_course.py", family), Worker(python, "peers_torch.py", family)]
    steps = []
    for side in sides:
        side.run(3)  # the first steps allocate
        trial = side.run(10)["seconds"] / 10
        steps.append(max(5, round(SECONDS / trial)))
    times = [[side.run(n)["seconds"] / n * 1000 for side, n in zip(sides, steps)] for _ in range(repeats)]
    losses = [side.run(1)["loss"] for side in sides]
    for side in sides:
        side.close()
    ours, theirs = (statistics.median(column) for column in zip(*times))
    ratio = statistics.median(theirs / ours for ours, theirs in times)
    counts = [side.hello["parameters"] for side in sides]
    first = [side.hello["first_seconds"] for side in sides]
    return {"ours": ours, "theirs": theirs, "ratio": ratio, "parameters": counts, "first": first, "losses": losses}


def main() -> None:
    """Print the table, one line a model as soon as it is measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch", required=True, metavar="PYTHON", help="interpreter of an environment with PyTorch")
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=FAMILIES)
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    print(
        "| model | parameters (ours, PyTorch) | ms a step | PyTorch eager | ratio | first step, s | losses at the end |"
    )
    print("|---|---|---|---|---|---|---|")
    for family in arguments.families:
        r = compare(family, arguments.torch, arguments.repeats)
        print(
            f"| {family} | {r['parameters'][0]:,}, {r['parameters'][1]:,} | {r['ours']:.2f} | {r['theirs']:.2f} "
            f"| {r['ratio']:.2f} | {r['first'][0]:.1f}, {r['first'][1]:.1f} "
            f"| {r['losses'][0]:.3g}, {r['losses'][1]:.3g} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
