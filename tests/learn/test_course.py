"""How trainings are run, on the smallest thing that can be trained."""

import numpy as np
import pytest

from momentary.learn.checkpoint import Checkpoint, Checkpoints
from momentary.learn.course import Course, fingerprint, run
from momentary.types import Sessions, silent


class Walker:
    """A weight that a coin moves up or down, 5 walks an epoch; what it is decides its quality."""

    def __init__(self, qualities=()):
        self.rng = np.random.default_rng(0)
        self.weight = np.zeros(1, dtype=np.float64)
        self.cursor = self.epoch = 0
        self.qualities = qualities
        self.walks = 0

    def begin(self, epoch):
        self.epoch, self.cursor = epoch, 0

    def walk(self):
        self.weight += self.rng.normal()
        self.cursor += 1
        self.walks += 1
        return self.cursor < 5

    def done(self):
        return self.cursor, 5

    def loss(self):
        return float(self.weight[0]) + self.cursor

    def weights(self):
        return {"weight": self.weight}

    def memory(self):
        facts = {"rng": self.rng.bit_generator.state, "at": [self.epoch, self.cursor]}
        return Checkpoint(arrays={}, facts=facts)

    def remember(self, memory):
        self.rng.bit_generator.state = memory.facts["rng"]
        self.epoch, self.cursor = memory.facts["at"]

    def model(self):
        return self


class Judge:
    """Gives the qualities it was told to give, one an epoch."""

    def __init__(self, qualities):
        self.qualities = iter(qualities)

    def mrr(self, _):
        return next(self.qualities)


class Interruption(Exception):
    pass


def go(walker, *, course=None, epochs=4, validation=None, progress=silent):
    course = course or Course()
    return run(
        walker, epochs=epochs, course=course, name="n", validation=validation, progress=progress
    )


def test_every_epoch_is_walked_and_told():
    told, seen, walker = [], [], Walker()
    course = Course(on_epoch=lambda epoch, model: seen.append((epoch, model())))
    record = go(walker, course=course, progress=lambda *args: told.append(args))
    assert walker.walks == 20
    assert len(record.losses) == 4
    assert record.best_epoch == 4
    assert record.qualities == ()
    assert [done for done, *_ in told] == list(range(1, 21))
    assert told[-1][:2] == (20, 20)
    assert seen == [(epoch, walker) for epoch in (1, 2, 3, 4)]


def test_training_stops_when_it_no_longer_gets_better_and_keeps_the_best():
    walker, weights = Walker(), []
    course = Course(
        holdout=0.5, patience=2, on_epoch=lambda *_: weights.append(float(walker.weight[0]))
    )
    record = go(walker, course=course, epochs=9, validation=Judge([0.1, 0.3, 0.2, 0.3, 0.9]))
    assert record.qualities == (0.1, 0.3, 0.2, 0.3)
    assert record.best_epoch == 2
    assert walker.weight[0] == weights[1]
    assert weights[1] != weights[3]


@pytest.mark.parametrize("stop", [1, 3, 5, 6, 9, 10, 14, 19])
def test_an_interrupted_run_ends_as_if_it_had_not_been(stop, tmp_path):
    qualities = [0.1, 0.4, 0.2, 0.3]
    expected = Walker()
    whole = go(expected, course=Course(patience=9), validation=Judge(qualities))

    def interrupt(done, *_):
        if done == stop:
            raise Interruption

    said = []
    course = Course(patience=9, checkpoints=Checkpoints(tmp_path, every_s=0, announce=said.append))
    judge = Judge(qualities)
    with pytest.raises(Interruption):
        go(Walker(), course=course, validation=judge, progress=interrupt)
    # The process is gone: what it knew beyond the checkpoint is asked again.
    found = course.checkpoints.load("n")
    second = Walker()
    judged = 0 if found is None else len(found.facts["qualities"])
    record = go(second, course=course, validation=Judge(qualities[judged:]))
    np.testing.assert_array_equal(second.weight, expected.weight)
    assert record.losses == whole.losses
    assert record.qualities == whole.qualities
    assert record.best_epoch == 2
    assert second.walks < 20 or stop == 1
    assert bool(said) == (stop > 1)
    assert list(tmp_path.iterdir()) == []


def test_a_fingerprint_is_that_of_the_same_training_only():
    sessions = Sessions.from_lists([[0, 1], [2]])
    rng = np.random.default_rng(0)

    def name(sessions=sessions, facts=None, course=None, seed=0):
        rng = np.random.default_rng(seed)
        return fingerprint(sessions, facts or {"a": 1}, course=course or Course(), rng=rng)

    names = {
        name(),
        name(sessions=Sessions.from_lists([[0, 1], [1]])),
        name(sessions=Sessions.from_lists([[0], [1, 2]])),
        name(facts={"a": 2}),
        name(course=Course(workers=2)),
        name(course=Course(holdout=0.1)),
        name(seed=1),
    }
    assert len(names) == 7
    assert name() in names
    before = rng.bit_generator.state
    fingerprint(sessions, {}, course=Course(), rng=rng)
    assert rng.bit_generator.state == before


@pytest.mark.parametrize(("setting", "value"), [("workers", 0), ("holdout", 1), ("patience", 0)])
def test_bad_courses_are_refused(setting, value):
    with pytest.raises(ValueError, match=f"{setting} is {value}"):
        Course(**{setting: value})
