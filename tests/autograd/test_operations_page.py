"""The page of operations says what is tested and what can be exported."""

from support.operations_table import PAGE, page


def test_the_page_is_that_of_the_functions_and_their_cases():
    assert PAGE.read_text("utf-8") == page(), "run python -m support.operations_table in tests"
