import numpy as np

from momentary.learn.names import Names


def test_names_are_found_again_by_their_digests():
    wanted = [f"u:{n}" for n in range(1000)]
    names = Names.of(wanted)
    np.testing.assert_array_equal(names.places(wanted), np.arange(1000))
    assert names.places(["u:1000", "a:1", ""]).tolist() == [-1, -1, -1]
    assert Names().places(["u:1"]).tolist() == [-1]
    np.testing.assert_array_equal(Names(names.digests).places(wanted[::-1]), np.arange(1000)[::-1])


def test_digests_do_not_hold_the_names():
    assert b"zoe" not in Names.of(["u:zoe"]).digests.tobytes()
