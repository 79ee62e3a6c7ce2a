"""Which members a command selects: ZRANGE and its older spellings, and the bounds that all range commands share.

Theory. Redis grew one command for each kind of range and direction, and later ZRANGE with options for all of them. Here a
`Selection` is what all of them mean: a range, a direction, and a limit. Each spelling is parsed into one.

    spelling              range by   direction   bounds come as   options
    ZRANGE                rank, or   ascending,  min max, or      BYSCORE BYLEX REV LIMIT WITHSCORES
                          as said    or as said  max min (REV)
    ZREVRANGE             rank       descending  first last       WITHSCORES
    ZRANGEBYSCORE         score      ascending   min max          WITHSCORES LIMIT
    ZREVRANGEBYSCORE      score      descending  max min          WITHSCORES LIMIT
    ZRANGEBYLEX           bytes      ascending   min max          LIMIT
    ZREVRANGEBYLEX        bytes      descending  max min          LIMIT
"""

from __future__ import annotations

from dataclasses import dataclass

from server.core.base.errors import SYNTAX, CommandError
from server.core.commands.arguments import integer
from server.core.commands.sorted_sets.order import LexRange, Places, Range, Ranked, RankRange, ScoreRange, limited
from server.core.formats.numbers import bound_of

RANK, SCORE, LEX = 0, 1, 2
_NO_LIMIT = -1
_NOT_A_SCORE = "ERR min or max is not a float"
_NOT_A_MEMBER = "ERR min or max not valid string range item"
_LIMIT_BY_RANK = "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX"
_SCORES_BY_LEX = "ERR syntax error, WITHSCORES not supported in combination with BYLEX"


@dataclass(frozen=True, slots=True)
class Selection:
    """The members of a range in one direction, or a part of them."""

    bounds: Range
    descends: bool = False
    offset: int = 0
    count: int = _NO_LIMIT
    with_scores: bool = False

    def places(self, order: Ranked) -> Places:
        """Returns the selected places of `order`, in the order of the reply."""
        if isinstance(self.bounds, RankRange) and self.descends:
            size = len(order)
            return range(size - 1, -1, -1)[slice_of(self.bounds.places(order))]
        places = self.bounds.places(order)
        return limited(places[::-1] if self.descends else places, self.offset, self.count)


def slice_of(places: Places) -> slice:
    """Returns ascending adjacent places as a slice."""
    return slice(places.start, places.stop)


def score_range(low: bytes, high: bytes) -> ScoreRange:
    """Returns the range between two scores as a client writes them; `(` excludes a bound. Raises CommandError."""
    lowest, highest = bound_of(low), bound_of(high)
    if lowest is None or highest is None:
        raise CommandError(_NOT_A_SCORE)
    return ScoreRange(lowest[0], highest[0], lowest[1], highest[1])


def lex_range(low: bytes, high: bytes) -> LexRange:
    """Returns the range between two members as a client writes them: `[a`, `(a`, `-` and `+`. Raises CommandError."""
    for text in (low, high):
        if text not in (b"-", b"+") and text[:1] not in (b"[", b"("):
            raise CommandError(_NOT_A_MEMBER)
    return LexRange(
        None if low in (b"-", b"+") else low[1:],
        None if high in (b"-", b"+") else high[1:],
        low[:1] == b"(",
        high[:1] == b"(",
        is_empty=low == b"+" or high == b"-",
    )


def rank_range(first: bytes, last: bytes) -> RankRange:
    """Returns the range between two ranks. Raises CommandError."""
    return RankRange(integer(first), integer(last))


def range_of(kind: int, low: bytes, high: bytes) -> Range:
    """Returns a range of the kind RANK, SCORE or LEX. Raises CommandError."""
    return (rank_range, score_range, lex_range)[kind](low, high)


def parse_selection(
    bounds: list[bytes],
    options: list[bytes],
    kind: int | None = None,
    descends: bool | None = None,
    takes_scores: bool = True,
) -> Selection:
    """Returns what a range command selects. `bounds` are its two bounds, `options` the arguments after them.

    `kind` and `descends` are what the command's name says; None leaves both to its options. Raises CommandError.
    """
    offset, count, with_scores = 0, _NO_LIMIT, False
    by, turned = kind, descends
    index = 0
    while index < len(options):
        word = options[index].upper()
        left = len(options) - index - 1
        if takes_scores and word == b"WITHSCORES":
            with_scores = True
        elif word == b"LIMIT" and left >= 2:
            offset, count = integer(options[index + 1]), integer(options[index + 2])
            index += 2
        elif turned is None and word == b"REV":
            turned = True
        elif by is None and word in (b"BYLEX", b"BYSCORE"):
            by = LEX if word == b"BYLEX" else SCORE
        else:
            raise CommandError(SYNTAX)
        index += 1
    by = RANK if by is None else by
    if by == RANK:
        if count != _NO_LIMIT:
            raise CommandError(_LIMIT_BY_RANK)
        offset = 0  # as Redis does, which takes a count of -1 for no LIMIT
    if with_scores and by == LEX:
        raise CommandError(_SCORES_BY_LEX)
    low, high = bounds if by == RANK or not turned else bounds[::-1]
    return Selection(range_of(by, low, high), bool(turned), offset, count, with_scores)
