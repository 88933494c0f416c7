"""Who is next when slots are few."""

from dataclasses import dataclass, field

from lmx.engine.waiting import Waiting
from lmx.machines.types import Generation, Priority, Text


@dataclass
class Item:
    seq: int
    left: int
    priority: Priority = "interactive"
    generation: Generation = field(init=False)

    def __post_init__(self) -> None:
        self.generation = Generation(prompt=Text(""), priority=self.priority)


class Queue(Waiting[Item]):
    """With a clock to be set."""

    def __init__(self, *items: Item) -> None:
        super().__init__(lambda: self.now)
        self.now = 0.0
        for item in items:
            self.add(item)

    def order(self) -> list[int]:
        return [item.seq for item in iter(lambda: self.pop(left), None) if item is not None]


def left(item: Item) -> int:
    return item.left


def test_the_shortest_is_next() -> None:
    """Least left to read first; equals in the order they came."""
    assert Queue(Item(1, 900), Item(2, 10), Item(3, 10), Item(4, 400)).order() == [2, 3, 4, 1]


def test_interactive_comes_before_batch() -> None:
    """A batch prompt counts as 20,000 tokens longer."""
    assert Queue(Item(1, 10, "batch"), Item(2, 19_000)).order() == [2, 1]
    assert Queue(Item(1, 10, "batch"), Item(2, 21_000)).order() == [1, 2]


def test_nobody_waits_for_ever() -> None:
    """Each second counts 500 tokens: a long prompt is overtaken only for so long, a batch prompt too."""
    queue = Queue(Item(1, 5_000), Item(2, 10, "batch"))
    queue.now = 9.0
    queue.add(Item(3, 100))
    assert queue.next(left) == Item(3, 100)
    queue.now = 41.0
    queue.remove(3)
    queue.add(Item(4, 100))
    assert queue.order() == [1, 2, 4]


def test_next_only_looks() -> None:
    """next leaves the item in place, pop takes it, remove finds it by its number."""
    queue = Queue(Item(1, 5), Item(2, 6))
    assert queue.next(left) == queue.next(left) == Item(1, 5)
    assert [item.seq for item in queue] == [1, 2]
    assert 1 in queue
    assert queue.remove(1) == Item(1, 5)
    assert queue.remove(1) is None
    assert len(queue) == 1
    assert queue.pop(left) == Item(2, 6)
    assert queue.pop(left) is None
    assert queue.next(left) is None


def test_only_a_much_longer_prompt_gives_way() -> None:
    """Four times and 512 tokens more are asked for; the longest is chosen."""
    queue = Queue()
    assert queue.should_preempt([(Item(1, 0), 4_000), (Item(2, 0), 9_000)], 1_000) == Item(2, 0)
    assert queue.should_preempt([(Item(1, 0), 3_999)], 1_000) is None
    assert queue.should_preempt([(Item(1, 0), 521)], 10) is None
    assert queue.should_preempt([(Item(1, 0), 522)], 10) == Item(1, 0)
    assert queue.should_preempt([], 10) is None


def test_a_prompt_gives_way_twice_at_most() -> None:
    """Else a stream of short prompts would keep a long one from ever being read."""
    queue = Queue()
    long, other = Item(1, 0), Item(2, 0)
    for _ in range(2):
        assert queue.should_preempt([(long, 9_000)], 10) == long
        queue.put_back(long)
        queue.remove(1)
    assert queue.should_preempt([(long, 9_000), (other, 1_000)], 10) == other
    assert queue.should_preempt([(long, 9_000)], 10) is None


def test_batch_takes_nobodys_place_but_of_batch() -> None:
    """A short batch prompt waits for a long interactive one."""
    queue = Queue()
    reading = [(Item(1, 0), 90_000), (Item(2, 0, "batch"), 9_000)]
    assert queue.should_preempt(reading, 10, batch=True) == Item(2, 0, "batch")
    assert queue.should_preempt(reading[:1], 10, batch=True) is None
