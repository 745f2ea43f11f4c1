"""The picture of the label protocols in the documentation is the one that its script draws."""

from docs.explanation.make_protocols import PICTURE, picture


def test_the_picture_of_the_protocols_is_up_to_date():
    assert picture() == PICTURE.read_bytes()


def test_the_picture_is_small():
    assert PICTURE.stat().st_size < 300_000
