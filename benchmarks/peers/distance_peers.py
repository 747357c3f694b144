"""One library's signed distances of many points to one mesh, timed: run by `distances` in the interpreter that has it.

    python distance_peers.py NAME queries.npz answer.npz --threads 2 --repeats 3

Every call is the one that the library's documentation shows for signed distances, with its defaults, and starts from
arrays of vertices and faces: `build` is what can be kept for further queries, `query` the rest. Answers come back
negative inside. Imports nothing of this project but for its own two entries, so that it runs anywhere.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import io
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Query = Callable[[Array], Array]


def sdfnet(vertices: Array, faces: Array, threads: int) -> Query:
    from sdfnet.mesh.distance import MeshDistance
    from sdfnet.mesh.mesh import Mesh

    distance = MeshDistance(Mesh(vertices, faces))
    distance(vertices[:1])  # builds the tree for signs
    return lambda points: distance(points).sdf


def sdfnet_repaired(vertices: Array, faces: Array, threads: int) -> Query:
    from sdfnet.mesh.distance import MeshDistance
    from sdfnet.mesh.mesh import Mesh
    from sdfnet.solids.solid import make_solid

    distance = MeshDistance(make_solid(Mesh(vertices, faces)).mesh)
    distance(vertices[:1])
    return lambda points: distance(points).sdf


def libigl(vertices: Array, faces: Array, threads: int) -> Query:
    import igl

    return lambda points: igl.signed_distance(points, vertices, faces)[0]


def deepsdfstruct(vertices: Array, faces: Array, threads: int) -> Query:
    import torch
    import trimesh
    from DeepSDFStruct.SDF import SDFfromMesh

    torch.set_num_threads(threads)
    # Its threshold only shifts the result; without it the error is that of the distances.
    field = SDFfromMesh(trimesh.Trimesh(vertices, faces, process=False), scale=False, threshold=0)
    return lambda points: field(torch.from_numpy(points)).numpy()[:, 0]


def mesh_to_sdf_scan(vertices: Array, faces: Array, threads: int) -> Query:
    return _mesh_to_sdf(vertices, faces, "scan")


def mesh_to_sdf_sample(vertices: Array, faces: Array, threads: int) -> Query:
    return _mesh_to_sdf(vertices, faces, "sample")


def _mesh_to_sdf(vertices: Array, faces: Array, method: str) -> Query:
    os.environ.setdefault("PYOPENGL_PLATFORM", "egl")
    os.environ.setdefault("PYGLET_HEADLESS", "1")
    import mesh_to_sdf
    import trimesh

    mesh = trimesh.Trimesh(vertices, faces, process=False)
    cloud = mesh_to_sdf.get_surface_point_cloud(mesh, surface_point_method=method)
    return lambda points: cloud.get_sdf_in_batches(points, use_depth_buffer=False)


def trimesh_(vertices: Array, faces: Array, threads: int) -> Query:
    import trimesh

    mesh = trimesh.Trimesh(vertices, faces, process=False)
    return lambda points: -trimesh.proximity.signed_distance(mesh, points)


def pysdf(vertices: Array, faces: Array, threads: int) -> Query:
    from pysdf import SDF

    distance = SDF(vertices.astype(np.float32), faces.astype(np.uint32))
    return lambda points: -distance(points.astype(np.float32), n_threads=threads)


def point_cloud_utils(vertices: Array, faces: Array, threads: int) -> Query:
    import point_cloud_utils

    return lambda points: point_cloud_utils.signed_distance_to_mesh(points, vertices, faces)[0]


def open3d(vertices: Array, faces: Array, threads: int) -> Query:
    import open3d

    scene = open3d.t.geometry.RaycastingScene(nthreads=threads)
    scene.add_triangles(open3d.core.Tensor(vertices.astype(np.float32)), open3d.core.Tensor(faces.astype(np.uint32)))
    return lambda points: scene.compute_signed_distance(
        open3d.core.Tensor(points.astype(np.float32)), nthreads=threads
    ).numpy()


def warp(vertices: Array, faces: Array, threads: int) -> Query:
    import warp as wp

    wp.config.quiet = True
    wp.init()

    @wp.kernel
    def ask(mesh: wp.uint64, points: wp.array(dtype=wp.vec3), sdf: wp.array(dtype=float)):
        row = wp.tid()
        found = wp.mesh_query_point_sign_winding_number(mesh, points[row], 1.0e6)
        closest = wp.mesh_eval_position(mesh, found.face, found.u, found.v)
        sdf[row] = found.sign * wp.length(points[row] - closest)

    mesh = wp.Mesh(
        points=wp.array(vertices.astype(np.float32), dtype=wp.vec3, device="cpu"),
        indices=wp.array(faces.astype(np.int32).ravel(), dtype=int, device="cpu"),
        support_winding_number=True,
    )

    def query(points: Array) -> Array:
        sdf = wp.empty(len(points), dtype=float, device="cpu")
        rows = wp.array(points.astype(np.float32), dtype=wp.vec3, device="cpu")
        wp.launch(ask, dim=len(points), inputs=[mesh.id, rows, sdf], device="cpu")
        return sdf.numpy()

    query(vertices[:2].copy())  # compiles the kernel, once and for all meshes
    return query


PEERS: dict[str, tuple[Callable[[Array, Array, int], Query], str]] = {
    "sdfnet": (sdfnet, ""),
    "sdfnet, sorted queries": (sdfnet, ""),
    "sdfnet, repaired first": (sdfnet_repaired, ""),
    "Open3D": (open3d, "open3d"),
    "Open3D, sorted queries": (open3d, "open3d"),
    "warp, winding number": (warp, "warp-lang"),
    "pysdf": (pysdf, "pysdf"),
    "point-cloud-utils": (point_cloud_utils, "point-cloud-utils"),
    "libigl, one call": (libigl, "libigl"),
    "DeepSDFStruct": (deepsdfstruct, "DeepSDFStruct"),
    "mesh_to_sdf, scans": (mesh_to_sdf_scan, "mesh-to-sdf"),
    "mesh_to_sdf, samples": (mesh_to_sdf_sample, "mesh-to-sdf"),
    "trimesh": (trimesh_, "trimesh"),
}
"""By name: the call, and the distribution whose version is told; none is this project's own."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=PEERS)
    parser.add_argument("queries", type=Path, help="npz with vertices, faces, points")
    parser.add_argument("answer", type=Path, help="npz to write: sdf")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3, help="the quickest counts; more than 30 s are not repeated")
    arguments = parser.parse_args()
    make, distribution = PEERS[arguments.name]
    with np.load(arguments.queries) as given:
        vertices, faces, points = given["vertices"], given["faces"].astype(np.int64), given["points"]
    builds, queries = [], []
    with contextlib.redirect_stdout(io.StringIO()):
        make(*_TETRAHEDRON, arguments.threads)(points[:10])  # imports, thread pools, compiled kernels
        while len(queries) < arguments.repeats and sum(builds) + sum(queries) < 30:
            started = time.perf_counter()
            query = make(vertices, faces, arguments.threads)
            built = time.perf_counter()
            sdf = query(points)
            queries.append(time.perf_counter() - built)
            builds.append(built - started)
    np.savez(arguments.answer, sdf=np.asarray(sdf, dtype=np.float64))
    version = importlib.metadata.version(distribution) if distribution else ""
    print(json.dumps({"build": min(builds), "query": min(queries), "version": version}))


_TETRAHEDRON = (
    np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]),
    np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]),
)


if __name__ == "__main__":
    main()
