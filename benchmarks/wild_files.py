"""Files with wrong bytes, and a `sample` run over them: no file may stop it, and every good file must be sampled.

The files are made from meshes in four formats: cut off, some bytes changed, or numbers of the header changed. The same
seed gives the same files.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

from sdfnet.mesh.io.read import find_meshes, read_mesh
from sdfnet.mesh.io.write import save_mesh

FAMILIES = ("wings", "letters", "blobs", "bad_inputs", "wild")
FORMATS = ("obj", "ply", "stl", "glb")
NUM_BODIES = 20
HEADER_BYTES = 300


def damage_bytes(data: bytes, kind: str, random_: random.Random) -> bytes:
    """Return the bytes of a file, damaged: "truncated", "bytes changed" or "header changed"."""
    if not data:
        return data
    if kind == "truncated":
        return data[: random_.randrange(len(data))]
    changed = bytearray(data)
    end = len(changed) if kind == "bytes changed" else min(len(changed), HEADER_BYTES)
    for _ in range(random_.choice((1, 4, 32))):
        place = random_.randrange(end)
        if kind == "header changed" and chr(changed[place]).isdigit():
            changed[place] = ord(random_.choice("0123456789-"))
        else:
            changed[place] = random_.randrange(256)
    return bytes(changed)


def write_damaged_files(sources: list[Path], folder: Path, *, count: int, seed: int) -> None:
    """Write `count` damaged files, each from a random one of `sources`, as it is or in another format."""
    random_ = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        source = random_.choice(sources)
        kind = random_.choice(("truncated", "bytes changed", "header changed"))
        suffix = random_.choice(FORMATS)
        path = folder / f"damaged_{number:03}.{suffix}"
        try:
            save_mesh(read_mesh(source), path)
        except ValueError:  # It is one of the bad inputs.
            path = path.with_suffix(source.suffix)
            path.write_bytes(source.read_bytes())
        path.write_bytes(damage_bytes(path.read_bytes(), kind, random_))


def sample_damaged_files(data: Path, chairs: Path, folder: Path, *, count: int, seed: int) -> int:
    """Sample damaged files, bad inputs and good bodies in one run. Print what became of them; return the exit code."""
    sources = list(find_meshes(chairs).values())
    for family in FAMILIES:
        sources += list(find_meshes(data / family).values())
    meshes = folder / "files"
    write_damaged_files(sources, meshes / "damaged", count=count, seed=seed)
    link_folder(data / "bad_inputs", meshes / "bad_inputs")
    (meshes / "bodies").mkdir(exist_ok=True)
    for path in sorted((data / "bodies").glob("body_*.*"))[:NUM_BODIES]:
        link(path, meshes / "bodies" / path.name)
    line = [
        *(sys.executable, "-m", "sdfnet", "sample", f"meshes={meshes}", f"samples={folder / 'samples'}"),
        *("sampler.num_samples=2000", "sampler.num_surface=200", "sampler.num_heldout=200"),
    ]
    done = subprocess.run(line, capture_output=True, text=True)
    (folder / "output.txt").write_text(done.stdout + done.stderr, encoding="utf-8")
    index = json.loads((folder / "samples" / "index.json").read_text(encoding="utf-8"))
    used = {shape["name"] for shape in index["shapes"]}
    refused = {shape["name"]: shape["report"]["reason"] for shape in index["refused"]}
    names = set(find_meshes(meshes))
    missing = sorted(names - used - refused.keys())
    bad = [name for name, reason in refused.items() if not reason or "could not be" in reason]
    bodies = sum(name.startswith("bodies/") for name in used)
    print(f"{len(names)} meshes: {len(used)} used, {len(refused)} refused; {bodies} of {NUM_BODIES} bodies sampled")
    for reason, number in Counter(reason.split(";")[0][:90] for reason in refused.values()).most_common(12):
        print(f"  {number:4}  {reason}")
    faults = {
        f"exit code {done.returncode}": done.returncode != 0,
        "a traceback": "Traceback" in done.stdout + done.stderr,
        f"neither used nor refused: {', '.join(missing[:5])}": bool(missing),
        f"refused by an unexpected error: {', '.join(bad[:5])}": bool(bad),
        "good files refused": bodies < NUM_BODIES,
    }
    told = [fault for fault, is_there in faults.items() if is_there]
    print("; ".join(told) or "no fault")
    return 1 if told else 0


def link_folder(source: Path, target: Path) -> None:
    for path in source.rglob("*"):
        if path.is_file():
            link(path, target / path.relative_to(source))


def link(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        target.symlink_to(path.resolve())
