"""Items: a function of (seed, epoch, item) alone, laid out for the encoders; prefetching changes nothing."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from stdcl.data import augment, streams
from stdcl.data.dataset import Batch, SkeletonDataset, Transform, default_loader
from stdcl.data.loader import prefetch
from stdcl.data.store import AbsentPerson, Record, SequenceStore, StoreWriter
from stdcl.errors import UserError
from stdcl.seeding import generator
from stdcl.skeleton import NTU, NW_UCLA, Skeleton


def make(
    folder: Path, dataset: str, skeleton: Skeleton, persons: int, absent: AbsentPerson = "zeros", count: int = 23
) -> SequenceStore:
    rng = np.random.default_rng(1)
    with StoreWriter(
        folder,
        dataset=dataset,
        skeleton=skeleton,
        classes=("a", "b", "c"),
        source={},
        max_persons=persons,
        absent_person=absent,
        batch_bytes=30_000,
    ) as writer:
        for i in range(count):
            shape = (int(rng.integers(1, 150)), 1 + i % persons, skeleton.num_joints, 3)
            values = rng.standard_normal(shape).astype(np.float32)
            writer.add(Record(f"c{i:03d}", i % 3, values, subject=i % 5, view=1 + i % 3))
    return SequenceStore.open(folder)


@pytest.fixture(scope="module")
def ucla(tmp_path_factory: pytest.TempPathFactory) -> SequenceStore:
    return make(tmp_path_factory.mktemp("d") / "ucla", "nw-ucla", NW_UCLA, 1)


@pytest.fixture(scope="module", params=["zeros", "copy"])
def ntu(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SequenceStore:
    return make(tmp_path_factory.mktemp("d") / "ntu", "ntu60", NTU, 2, request.param)


def same(a: Batch, b: Batch) -> None:
    for x, y in zip(a, b, strict=True):
        assert torch.equal(x, y)


@pytest.mark.parametrize("loader", ["pick", "resample"])
def test_items_do_not_depend_on_their_batch(ucla: SequenceStore, ntu: SequenceStore, loader: str) -> None:
    for store in (ucla, ntu):
        transform = Transform(loader, 20, stream="bone-motion")  # type: ignore[arg-type]
        dataset = SkeletonDataset(store, np.arange(23), transform, repeat=3, train=True, seed=5)
        items = np.random.default_rng(0).permutation(dataset.num_items)
        whole = dataset.batch(4, items)
        for size in (1, 7, 68):
            parts = [dataset.batch(4, items[i : i + size]) for i in range(0, len(items), size)]
            same(whole, Batch(*(torch.cat(p) for p in zip(*parts, strict=True))))


def test_what_is_drawn_depends_on_seed_epoch_and_item(ucla: SequenceStore) -> None:
    def x(seed: int, epoch: int, item: int, train: bool = True, random: bool = True) -> torch.Tensor:
        transform = Transform("pick", 52, augment=random)
        dataset = SkeletonDataset(ucla, np.arange(23), transform, repeat=2, train=train, seed=seed)
        return dataset.batch(epoch, np.array([item])).x

    base = x(1, 0, 3)
    assert torch.equal(base, x(1, 0, 3))
    for other in (x(2, 0, 3), x(1, 1, 3), x(1, 0, 3 + 23)):
        assert not torch.equal(base, other)
    plain = x(1, 0, 3, train=False)
    assert torch.equal(plain, x(9, 5, 3 + 23, train=False))
    assert torch.equal(plain, x(9, 5, 3 + 23, random=False))


def test_items_labels_and_ids(ucla: SequenceStore) -> None:
    rows = np.array([5, 2, 9])
    dataset = SkeletonDataset(ucla, rows, Transform("pick", 52), repeat=5, train=True)
    assert dataset.num_items == len(dataset) == 15
    assert dataset.labels.tolist() == [2, 2, 0] * 5
    assert dataset.ids == ["c005", "c002", "c009"] * 5
    batch = dataset.batch(0, np.array([14, 0, 4]))
    assert batch.labels.tolist() == [0, 2, 2]
    assert batch.items.tolist() == [14, 0, 4]
    assert batch.x.shape == (3, *dataset.shape) == (3, 3, 52, 20, 1)
    assert (batch.x.dtype, batch.labels.dtype, batch.items.dtype) == (torch.float32, torch.int64, torch.int64)
    assert batch.x.is_contiguous()
    assert dataset.batch(0, np.array([], dtype=np.int64)).x.shape == (0, 3, 52, 20, 1)


def test_pick_loader_step_by_step(ucla: SequenceStore) -> None:
    dataset = SkeletonDataset(ucla, np.arange(23), Transform("pick", 52), repeat=2, train=True, seed=3)
    for item in (0, 8, 30):
        x = ucla.sequence(item % 23).astype(np.float64)
        x = x - x[0, 0, 1]
        rng = generator(3, "augment", 2, item)
        view = augment.draw_view(rng)
        x = x @ (
            augment.rotation_y(np.deg2rad(view.y_degrees)) @ augment.rotation_x(np.deg2rad(view.x_degrees)) * view.scale
        )
        low, high = x.min((0, 1, 2)), x.max((0, 1, 2))
        x = (x - low) / (high - low) * 2 - 1
        x = x[augment.draw_frames(rng, len(x), 52)]
        np.testing.assert_allclose(dataset.batch(2, np.array([item])).x[0].numpy(), x.transpose(3, 0, 2, 1), atol=1e-6)


def test_resample_loader_step_by_step(ntu: SequenceStore) -> None:
    dataset = SkeletonDataset(ntu, np.arange(23), Transform("resample", 64), train=True, seed=3)
    copy = ntu.manifest.absent_person == "copy"
    for item in range(23):
        x = ntu.sequence(item)
        if x.shape[1] == 1:
            x = np.concatenate([x, x if copy else np.zeros_like(x)], axis=1)
        rng = generator(3, "augment", 2, item)
        crop = augment.draw_crop(rng, len(x))
        x = augment.resample(x, crop, 64)
        x = np.einsum("ij,tmvj->tmvi", augment.draw_axis_rotation(rng), x)
        batch = dataset.batch(2, np.array([item]))
        np.testing.assert_allclose(batch.x[0].numpy(), x.transpose(3, 0, 2, 1), atol=1e-5)
        assert batch.present[0].tolist() == [True, ntu.sequence(item).shape[1] == 2]


def test_frame_centring(ntu: SequenceStore, ucla: SequenceStore) -> None:
    dataset = SkeletonDataset(ntu, np.arange(23), Transform("resample", 64, centre="frame"), train=False)
    for item in (0, 1):
        x = ntu.sequence(item)
        if x.shape[1] == 1:
            x = np.concatenate([x, x if ntu.manifest.absent_person == "copy" else np.zeros_like(x)], axis=1)
        x = x - x[:, :1, 1:2]
        x = augment.resample(x, augment.centre_crop(len(x)), 64)
        got = dataset.batch(0, np.array([item])).x[0].numpy()
        np.testing.assert_allclose(got, x.transpose(3, 0, 2, 1), atol=1e-5)
        assert not got[:, :, 1, 0].any()
    one = SkeletonDataset(ucla, np.arange(23), Transform("pick", 52, centre="frame"), train=False)
    origin = one.batch(0, np.arange(23)).x[:, :, :, 1]
    np.testing.assert_allclose(origin, origin[:, :, :1].expand_as(origin), atol=1e-6)


@pytest.mark.parametrize("stream", [*streams.BASIC_STREAMS, "relative-2"])
def test_streams_are_derived_from_the_joint_stream(ntu: SequenceStore, stream: str) -> None:
    items = np.arange(23)
    joint = SkeletonDataset(ntu, items, Transform("resample", 64), train=True).batch(1, items).x.numpy()
    got = SkeletonDataset(ntu, items, Transform("resample", 64, stream), train=True).batch(1, items).x.numpy()
    expected = streams.derive(joint.transpose(0, 2, 4, 3, 1), NTU, stream)
    np.testing.assert_allclose(got, expected.transpose(0, 4, 1, 3, 2), atol=1e-6)


def test_alignment_is_ntus_own(ntu: SequenceStore, ucla: SequenceStore) -> None:
    dataset = SkeletonDataset(ntu, np.arange(23), Transform("resample", 64, align=True), train=False)
    x = ntu.sequence(1)
    expected = augment.resample(augment.align_persons(x), augment.centre_crop(len(x)), 64)
    np.testing.assert_allclose(dataset.batch(0, np.array([1])).x[0].numpy(), expected.transpose(3, 0, 2, 1), atol=1e-5)
    with pytest.raises(UserError, match=r"data\.align is for NTU bodies"):
        SkeletonDataset(ucla, np.arange(23), Transform("pick", 52, align=True), train=False)


def test_bad_settings_are_refused(ucla: SequenceStore) -> None:
    with pytest.raises(UserError, match="no sequences"):
        SkeletonDataset(ucla, np.array([], dtype=np.int64), Transform("pick", 52), train=True)
    with pytest.raises(UserError, match=r"data\.repeat is 0"):
        SkeletonDataset(ucla, np.arange(3), Transform("pick", 52), repeat=0, train=True)
    with pytest.raises(UserError, match=r"data\.frames is 0"):
        Transform("pick", 0)
    with pytest.raises(UserError, match=r"data\.stream is 'bones'"):
        Transform("pick", 52, stream="bones")
    assert (default_loader("nw-ucla"), default_loader("ntu120"), default_loader("mine")) == (
        "pick",
        "resample",
        "resample",
    )


def batches_of(count: int, size: int = 3) -> list[np.ndarray]:  # type: ignore[type-arg]
    return [np.arange(i * size, (i + 1) * size) % 23 for i in range(count)]


def data_threads() -> int:
    return sum(t.name.startswith("stdcl-data") for t in threading.enumerate())


@pytest.mark.parametrize("threads", [0, 1, 4])
@pytest.mark.parametrize("count", [0, 1, 20])
def test_prefetching_keeps_the_order(ucla: SequenceStore, threads: int, count: int) -> None:
    dataset = SkeletonDataset(ucla, np.arange(23), Transform("pick", 52), train=True)
    got = list(prefetch(dataset, 7, batches_of(count), threads=threads))
    assert len(got) == count
    for batch, items in zip(got, batches_of(count), strict=True):
        same(batch, dataset.batch(7, items))
    assert data_threads() == 0


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_prefetching_raises_errors_in_their_place(ucla: SequenceStore, threads: int) -> None:
    class Failing(SkeletonDataset):
        def batch(self, epoch: int, items: np.ndarray) -> Batch:  # type: ignore[type-arg]
            if items[0] == 9:
                raise OSError("disk gone")
            return super().batch(epoch, items)

    dataset = Failing(ucla, np.arange(23), Transform("pick", 52), train=True)
    seen = 0
    with pytest.raises(OSError, match="disk gone"):  # noqa: PT012
        for _ in prefetch(dataset, 0, batches_of(7), threads=threads):
            seen += 1
    assert seen == 3
    assert data_threads() == 0


def test_prefetching_ends_when_the_loop_is_left(ucla: SequenceStore) -> None:
    begun: list[int] = []

    class Counting(SkeletonDataset):
        def batch(self, epoch: int, items: np.ndarray) -> Batch:  # type: ignore[type-arg]
            begun.append(int(items[0]))
            return super().batch(epoch, items)

    dataset = Counting(ucla, np.arange(23), Transform("pick", 52), train=True)
    iterator = prefetch(dataset, 0, batches_of(1000), threads=2, ahead=3)
    next(iterator)
    assert data_threads() > 0
    iterator.close()  # type: ignore[attr-defined]
    assert data_threads() == 0
    assert len(begun) <= 8


def test_without_rotation_the_crop_and_the_frames_stay(ucla: SequenceStore, ntu: SequenceStore) -> None:
    items = np.arange(23)
    for store, loader in ((ucla, "pick"), (ntu, "resample")):
        turned, plain = (
            SkeletonDataset(store, items, Transform(default_loader(name), 32, rotation=r), train=True, seed=3)
            for name, r in ((store.manifest.dataset, True), (store.manifest.dataset, False))
        )
        assert turned.transform.loader == loader
        a, b = turned.batch(1, items).x.numpy(), plain.batch(1, items).x.numpy()
        assert not np.array_equal(a, b)
        if loader == "resample":  # a rotation keeps lengths, and the crop is the same
            np.testing.assert_allclose(np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1), rtol=1e-4, atol=1e-5)
        again = SkeletonDataset(store, items, plain.transform, train=True, seed=3).batch(2, items).x.numpy()
        assert not np.array_equal(again, b)
