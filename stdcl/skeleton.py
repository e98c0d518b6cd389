"""Joint trees: which joint hangs on which, and what follows from it (bones, partitions, hop distances)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stdcl.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Skeleton:
    """A joint tree. Joints are numbered from 0.

    Attributes:
        name: a short name, for messages.
        joint_names: one name a joint.
        parents: each joint's parent; the root has itself.
        centre: the joint that the encoders' graphs and the bone streams take as root.
        origin: the joint whose first position is moved to zero when the data are prepared or loaded.
        hyperedges: named groupings of the joints, each a group number a joint (Hyperformer).
        hand_parents: parents in Hyperformer's graph alone, where they differ (NTU's tips and thumbs hang on the hand).
        relative_parents: parents of InfoGCN's relative-position modes (rooted elsewhere on NTU).
    """

    name: str
    joint_names: tuple[str, ...]
    parents: tuple[int, ...]
    centre: int
    origin: int
    hyperedges: Mapping[str, tuple[int, ...]] = field(default_factory=dict, hash=False)
    hand_parents: tuple[int, ...] | None = None
    relative_parents: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        v = len(self.parents)
        where = f"skeleton '{self.name}'"
        if len(self.joint_names) != v:
            raise UserError(f"{where}: {len(self.joint_names)} joint names for {v} parents; there must be one each")
        for label, joint in (("centre", self.centre), ("origin", self.origin)):
            if not 0 <= joint < v:
                raise UserError(f"{where}: {label} is {joint}; allowed are 0 to {v - 1}")
        for label, parents in self._trees().items():
            _check_tree(f"{where}: {label}", parents, v)
        for label, groups in self.hyperedges.items():
            if len(groups) != v or sorted(set(groups)) != list(range(max(groups) + 1)):
                raise UserError(
                    f"{where}: hyperedges '{label}' must give each of {v} joints a group 0, 1, ... without gaps"
                )

    def _trees(self) -> dict[str, tuple[int, ...]]:
        trees = {
            "parents": self.parents,
            "hand_parents": self.hand_parents,
            "relative_parents": self.relative_parents,
        }
        return {label: tree for label, tree in trees.items() if tree is not None}

    @property
    def num_joints(self) -> int:
        """V."""
        return len(self.parents)

    @property
    def graph_parents(self) -> tuple[int, ...]:
        """Parents in Hyperformer's graph."""
        return self.hand_parents if self.hand_parents is not None else self.parents

    @property
    def mode_parents(self) -> tuple[int, ...]:
        """Parents for InfoGCN's relative-position modes."""
        return self.relative_parents if self.relative_parents is not None else self.parents


def _check_tree(where: str, parents: tuple[int, ...], v: int) -> None:
    if len(parents) != v:
        raise UserError(f"{where}: {len(parents)} entries for {v} joints")
    roots = [j for j, p in enumerate(parents) if j == p]
    if len(roots) != 1:
        raise UserError(f"{where}: exactly one joint must be its own parent (the root); found {roots}")
    for joint in range(v):
        seen: set[int] = set()
        at = joint
        while at != roots[0]:
            if at in seen or not 0 <= parents[at] < v:
                raise UserError(f"{where}: joint {joint} does not lead to the root {roots[0]}")
            seen.add(at)
            at = parents[at]


def _tree(text: str) -> tuple[int, ...]:
    return tuple(int(p) - 1 for p in text.split(","))


NTU = Skeleton(
    name="ntu",
    joint_names=(
        "base of spine", "mid spine", "neck", "head", "left shoulder", "left elbow", "left wrist", "left hand",
        "right shoulder", "right elbow", "right wrist", "right hand", "left hip", "left knee", "left ankle",
        "left foot", "right hip", "right knee", "right ankle", "right foot", "spine at shoulders",
        "left hand tip", "left thumb", "right hand tip", "right thumb",
    ),
    parents=_tree("2,21,21,3,21,5,6,7,21,9,10,11,1,13,14,15,1,17,18,19,21,23,8,25,12"),
    centre=20,
    origin=1,
    hyperedges={"default": (0, 4, 2, 2, 2, 2, 1, 1, 2, 2, 1, 1, 2, 3, 3, 3, 2, 3, 3, 3, 1, 0, 1, 0, 1)},
    hand_parents=_tree("2,21,21,3,21,5,6,7,21,9,10,11,1,13,14,15,1,17,18,19,21,8,8,12,12"),
    relative_parents=_tree("2,2,21,3,21,5,6,7,21,9,10,11,1,13,14,15,1,17,18,19,2,23,8,25,12"),
)  # fmt: skip

NW_UCLA = Skeleton(
    name="nw-ucla",
    joint_names=(
        "hip centre", "spine", "shoulder centre", "head", "left shoulder", "left elbow", "left wrist", "left hand",
        "right shoulder", "right elbow", "right wrist", "right hand", "left hip", "left knee", "left ankle",
        "left foot", "right hip", "right knee", "right ankle", "right foot",
    ),
    parents=_tree("2,3,3,3,3,5,6,7,3,9,10,11,1,13,14,15,1,17,18,19"),
    centre=2,
    origin=1,
    hyperedges={
        "default": (0,) * 4 + (1,) * 8 + (2,) * 8,
        # Hyperformer groups the joints otherwise for the two bone streams.
        "bone": (0, 0, 0, 0, 0, 1, 1, 1, 0, 1, 1, 1, 0, 2, 2, 2, 0, 2, 2, 2),
    },
)  # fmt: skip


# MS COCO's 17 keypoints; the tree is PYSKL's.
COCO17 = Skeleton(
    name="coco17",
    joint_names=(
        "nose", "left eye", "right eye", "left ear", "right ear", "left shoulder", "right shoulder", "left elbow",
        "right elbow", "left wrist", "right wrist", "left hip", "right hip", "left knee", "right knee", "left ankle",
        "right ankle",
    ),
    parents=_tree("1,1,1,2,3,1,1,6,7,8,9,6,7,12,13,14,15"),
    centre=0,
    origin=0,
    hyperedges={"default": (0, 0, 0, 0, 0, 1, 2, 1, 2, 1, 2, 3, 4, 3, 4, 3, 4)},
)  # fmt: skip

# OpenPose's 18 keypoints (its COCO model); the tree is PYSKL's.
OPENPOSE18 = Skeleton(
    name="openpose18",
    joint_names=(
        "nose", "neck", "right shoulder", "right elbow", "right wrist", "left shoulder", "left elbow", "left wrist",
        "right hip", "right knee", "right ankle", "left hip", "left knee", "left ankle", "right eye", "left eye",
        "right ear", "left ear",
    ),
    parents=_tree("2,2,2,3,4,2,6,7,3,9,10,6,12,13,1,1,15,16"),
    centre=1,
    origin=1,
    hyperedges={"default": (0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 0, 0, 0, 0)},
)  # fmt: skip


def edges(parents: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """Return the (child, parent) pairs of a tree, without the root's self-loop."""
    return tuple((child, parent) for child, parent in enumerate(parents) if child != parent)


def spatial_partition(skeleton: Skeleton) -> NDArray[np.float32]:
    """Return the three-subset adjacency ``A`` of shape (3, V, V) of ST-GCN's family.

    ``A[0]`` is the identity; ``A[1]`` has row = parent, column = child; ``A[2]`` row = child, column = parent; the
    columns of the last two are divided by their sums (0 stays 0).
    """
    import numpy as np  # here: records of datasets hold skeletons, and must be quick to read

    v = skeleton.num_joints
    inward = np.zeros((v, v))
    for child, parent in edges(skeleton.parents):
        inward[parent, child] = 1.0

    def normalise(a: NDArray[np.float64]) -> NDArray[np.float64]:
        total = a.sum(axis=0, keepdims=True)
        out: NDArray[np.float64] = np.divide(a, total, out=np.zeros_like(a), where=total > 0)
        return out

    return np.stack([np.eye(v), normalise(inward), normalise(inward.T)]).astype(np.float32)


def configuration_partition(skeleton: Skeleton) -> NDArray[np.float32]:
    """Return ST-GCN's own partition ``A`` (3, V, V), row = sender, column = receiver (Yan et al., 2018, section 3.3).

    A receiver takes the mean over itself and its neighbours. ``A[0]`` holds its own share, ``A[1]`` those of the
    neighbours farther from the skeleton's centre, ``A[2]`` those of the nearer ones: the columns of the sum are 1,
    where `spatial_partition` divides each subset by itself.
    """
    import numpy as np

    hops = hop_distance(skeleton.parents)
    near = (hops <= 1).astype(np.float64)
    share = near / near.sum(axis=0)
    from_centre = hops[skeleton.centre]
    farther = np.sign(from_centre[:, None] - from_centre[None, :])
    return np.stack([np.where(farther == side, share, 0.0) for side in (0, 1, -1)]).astype(np.float32)


def hop_distance(parents: Iterable[int]) -> NDArray[np.int64]:
    """Return (V, V) shortest-path lengths in a tree."""
    import numpy as np

    parents = tuple(parents)
    v = len(parents)
    adjacency = np.eye(v, dtype=bool)
    for child, parent in edges(parents):
        adjacency[child, parent] = adjacency[parent, child] = True
    hops = np.full((v, v), v, dtype=np.int64)
    reach = np.eye(v, dtype=bool)
    for distance in range(v):
        hops[reach & (hops == v)] = distance
        reach = (reach.astype(np.int64) @ adjacency.astype(np.int64)) > 0
    return hops
