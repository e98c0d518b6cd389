from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stdcl.methods.stdcl.bank import ClassIndex, Shard, SlotIndex, first_of_each

CPU = torch.device("cpu")


@settings(max_examples=50, deadline=None)
@given(
    labels=st.lists(st.sampled_from([3, 7, 8, 40]), min_size=1, max_size=25),
    data=st.data(),
)
def test_ledger_equals_lists_and_sets(labels: list[int], data: st.DataObject) -> None:
    slot_index = SlotIndex(torch.tensor(labels), CPU)
    order: list[int] = []
    for _ in range(data.draw(st.integers(1, 5))):
        batch = data.draw(st.lists(st.integers(-1, len(labels) - 1), min_size=1, max_size=7))
        slots = torch.tensor(batch)
        new = slot_index.add(slots, first_of_each(slots))
        if data.draw(st.booleans()):
            slot_index.remove_last(slots, new)
        else:
            order += [s for s in dict.fromkeys(batch) if s >= 0 and s not in order]
        anchors = torch.arange(len(labels))
        same = [[s for s in order if labels[s] == labels[a]] for a in range(len(labels))]
        classes = sorted(set(labels))
        other = [[s for c in classes if c != labels[a] for s in order if labels[s] == c] for a in range(len(labels))]
        assert slot_index.marks[:-1].nonzero().flatten().tolist() == sorted(order)
        assert not slot_index.marks[-1]
        positives, negatives = slot_index.counts(anchors, exclude_own=False)
        assert positives.tolist() == [len(x) for x in same]
        assert negatives.tolist() == [len(x) for x in other]
        positives, negatives = slot_index.counts(anchors, exclude_own=True)
        assert positives.tolist() == [len(set(x) - {a}) for a, x in enumerate(same)]
        assert negatives.tolist() == [len(x) for x in other]
        most = max(map(len, other))
        if most:
            places = torch.arange(most).expand(len(labels), most)
            places = torch.where(places < negatives.unsqueeze(1), places, -1)
            listed = slot_index.negative_at(anchors, places).tolist()
            assert listed == [x + [-1] * (most - len(x)) for x in other]


def test_first_of_each_keeps_the_lowest_position() -> None:
    assert first_of_each(torch.tensor([4, -1, 4, 2, -1, 2, 4])).tolist() == [1, 0, 0, 1, 0, 0, 0]


def test_class_index_lists_rows_in_ascending_order() -> None:
    index = ClassIndex(torch.tensor([2, 0, 2, 0, 2]), 4)
    assert index.rows.shape == (4, 3)
    assert index.rows_of(torch.tensor([2, 0, 1])).tolist() == [[0, 2, 4], [1, 3, 5], [5, 5, 5]]
    empty = ClassIndex(torch.zeros(0, dtype=torch.int64), 4)
    assert empty.rows_of(torch.tensor([1, 2])).shape == (2, 0)


def test_a_shard_keeps_its_spare_row_at_zero_and_restores() -> None:
    shard = Shard(3, 5, CPU, torch.float32)
    shard.write(torch.tensor([0, 1]), torch.ones(2, 5))
    rows = torch.tensor([1, 3, 2, 3])
    before = shard.write(rows, torch.full((4, 5), torch.nan))
    shard.restore(rows, before)
    expected = torch.tensor([[1.0] * 5 + [0.0] * 3] * 2 + [[0.0] * 8] * 2)
    assert torch.equal(shard.features, expected)
