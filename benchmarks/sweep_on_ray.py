"""A sweep on a real Ray cluster of this machine, one of whose workers is killed in the middle of a training.

A head and two nodes of one core each. Six trainings on the digits; as soon as one has saved a resume state, its
worker, its DVC and the training itself get SIGKILL. Afterwards the outputs of all six are compared, by the checksums of
dvc.lock, with those of the same trainings one after the other in another clone, with a cache of its own.

    python -m benchmarks.sweep_on_ray -o benchmarks/results/sweep_on_ray.json
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.record import environment as where
from benchmarks.record import write

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = ("method=supervised,fixmatch", "seed=1,2,3")
LENGTH = ("train.epochs=6", "train.checkpoint_steps=4")
SWEEP = (
    sys.executable,
    "-m",
    "stages.app",
    "sweep",
    *(w for s in (*SETTINGS, *LENGTH) for w in ("-S", s)),
)


def environment() -> dict[str, str]:
    """Ours, without what belongs to another run of DVC; one thread per training, as one core has."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("DVC_", "RAY_", "PIPELINE_"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return kept | {"PATH": path, "OMP_NUM_THREADS": "1", "DVC_NO_ANALYTICS": "1"}


def run(folder: Path, *command: str) -> str:
    """Output of a command that must succeed."""
    done = subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stdout[-3000:]}{done.stderr[-3000:]}")
    return done.stdout


def clone(of: Path, to: Path) -> Path:
    """A clone that can commit."""
    subprocess.run(["git", "clone", "-q", str(of), str(to)], check=True)
    for key in ("name", "email"):
        run(to, "git", "config", f"user.{key}", "benchmark@localhost")
    return to


def locks(project: Path) -> dict[str, str]:
    """By name of experiment what dvc.lock says of it: every output with its checksum."""
    refs = run(project, "git", "for-each-ref", "refs/exps", "--format=%(refname)").split()
    named = [ref for ref in refs if re.fullmatch(r"refs/exps/../[0-9a-f]{38}/.+", ref)]
    return {ref.rpartition("/")[2]: run(project, "git", "show", f"{ref}:dvc.lock") for ref in named}


def serially(project: Path, names: list[str]) -> dict[str, str]:
    """The same trainings one after the other: `dvc exp run` with the settings that the logs name."""
    home = Path(tempfile.mkdtemp(dir=project.parent))
    apart = clone(project, home / "serial")
    for name in names:
        log = (project / f".dvc/tmp/sweep/{name}.log").read_text(encoding="utf-8", errors="replace")
        for command in re.findall(r"^\$ dvc (exp run .*)$", log, re.MULTILINE)[:1]:
            run(apart, "dvc", *command.split())
        run(apart, "git", "checkout", "-q", "--force", "HEAD")
    return locks(apart)


def killed(project: Path, sweep: subprocess.Popen[bytes]) -> dict[str, Any]:
    """Kill the worker of the first training that has saved a state, with all below it."""
    states = project / ".dvc/tmp/resume"
    while not (saved := list(states.glob("*/step-*.safetensors"))):
        if sweep.poll() is not None:
            sys.exit("the sweep ended before a training could be killed")
        time.sleep(0.02)
    training = psutil.Process(int((saved[0].parent / "lock").read_text()))
    above = [process for process in training.parents() if "ray::" in " ".join(process.cmdline())]
    victims = [above[0], *above[0].children(recursive=True)]
    for process in victims:
        process.kill()
    step = int(saved[0].stem.removeprefix("step-"))
    return {"processes killed": len(victims), "killed after step": step}


def trial(project: Path) -> tuple[dict[str, Any], list[str]]:
    """Run all of it; what came out, and what the sweep said."""
    from ray.cluster_utils import Cluster

    run(project, "dvc", "repro", "-q", "ingest")  # as a user's cache has it
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    command = [*SWEEP, "--engine", "ray", "--address", cluster.address]
    said = project.parent / "sweep.log"
    started = time.monotonic()
    with said.open("wb") as out:
        sweep = subprocess.Popen(command, cwd=project, env=environment(), stdout=out, stderr=out)
        kill = killed(project, sweep)
        code = sweep.wait()
    seconds = time.monotonic() - started
    every_line = said.read_text(encoding="utf-8").splitlines()
    lines = [line for line in every_line if not line.startswith("(raylet)")]  # Ray's own words
    again = run(project, *command)
    cluster.shutdown()
    made = locks(project)
    logs = {n: (project / f".dvc/tmp/sweep/{n}.log").read_text(encoding="utf-8") for n in made}
    every = "\n".join(logs.values())
    begun = sorted(text.count("Running stage 'train'") for text in logs.values())
    done = re.findall(r"(\d+) of them done before", again)
    return {
        "jobs": 6,
        "nodes": 2,
        "exit code": code,
        "finished": len(made),
        "seconds": round(seconds, 1),
        **kill,
        "retries": sum(" retried " in line for line in lines),
        "resumed after step": " ".join(re.findall(r"resuming after step (\d+)", every)),
        "trainings begun of each": " ".join(map(str, begun)),
        "downloads and ingests run": len(re.findall(r"Running stage '(?:download|ingest)'", every)),
        "not run": len(
            re.findall(r"Stage '(?:download|ingest)' (?:is cached|didn't change)", every)
        ),
        "jobs of the same command again": 6 - int(done[0]),
        "clones left": len(list(Path(tempfile.gettempdir()).glob("weak-label-sweep-*/*/clone"))),
        "outputs equal to a serial run": serially(project, sorted(made)) == made,
    }, lines


def main() -> None:
    """Run the trial, on HEAD or on the project that is given."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--project", type=Path, help="a checkout whose HEAD is used; not changed")
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="sweep-on-ray-"))
    try:
        row, said = trial(clone_without_remote(options.project or ROOT, folder / "project"))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(*(f"{name} {value}" for name, value in row.items()))
    content = {
        "command": "python -m benchmarks.sweep_on_ray",
        "settings": [*SETTINGS, *LENGTH],
        **where(),
        "runs": [row],
        "said": said,
    }
    if options.output:
        write(options.output, content)


def clone_without_remote(of: Path, to: Path) -> Path:
    """A project whose hub is itself."""
    clone(of.resolve(), to)
    run(to, "git", "remote", "remove", "origin")
    return to


if __name__ == "__main__":
    main()
