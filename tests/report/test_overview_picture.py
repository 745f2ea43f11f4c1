"""The picture of the README is the one that its script draws from the results that are kept."""

from docs.make_overview import PICTURE, in_words, picture


def test_the_picture_is_up_to_date():
    assert picture() == PICTURE.read_bytes()


def test_what_is_known_of_a_digit_is_told():
    assert in_words([7]) == "label 7"
    assert in_words([1, 7]) == "1 or 7"
    assert in_words([1, 4, 7]) == "1, 4 or 7"
    assert in_words(range(10)) == "no label"
