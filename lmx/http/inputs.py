"""Texts and token ids, as the routes take them: one text, several, one text's ids, or several texts' ids."""

from typing import Annotated

from msgspec import Meta

from lmx.http.errors import ApiError
from lmx.http.sampling import TokenId
from lmx.machines.types import Text, Tokens

Ids = Annotated[list[TokenId], Meta(min_length=1)]


def read(given: str | list[str | int | list[int]], param: str, most: int) -> list[Text | Tokens]:
    """An ApiError for a mixture, and for more than `most` texts. A list of numbers is one text, however long."""
    if isinstance(given, str):
        return [Text(given)]
    if len({type(item) for item in given}) > 1:
        text = f"Invalid '{param}': expected an array of only strings, of only token ids or of only arrays of them."
        raise ApiError(400, text, "invalid_type", param)
    if isinstance(given[0], int):
        return [Tokens(tuple(item for item in given if isinstance(item, int)))]
    if len(given) > most:
        raise too_many(len(given), param, most)
    return [Text(item) if isinstance(item, str) else Tokens(_ids(item)) for item in given]


def too_many(size: int, param: str, most: int) -> ApiError:
    text = (
        f"Invalid '{param}': array too long. Expected an array with maximum length {most},"
        f" but got an array with length {size} instead."
    )
    return ApiError(400, text, "array_above_max_length", param)


def _ids(item: int | list[int]) -> tuple[int, ...]:
    return (item,) if isinstance(item, int) else tuple(item)
