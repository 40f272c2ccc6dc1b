"""The limit of a server on the clauses of one query: what the parts of a request take of it, and
what is left out so that all of them fit. More fail the whole search."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from splade_os.engines.base import HybridQuery, MatchQuery, SearchRequest, SumQuery, TermsQuery
from splade_os.engines.rest.bodies import heaviest

# What the standard tokenizer may make a token of (UAX 29): runs of letters, up to 255 of them,
# single ideographs and kana, symbols. Rather too many than too few.
_WORD = re.compile(
    r"[\u3005-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]|\w{1,255}|[^\w\s]"
)
_LEAF = 2  # Lucene counts a clause on a number or a keyword twice: in the index and in doc values
_COMPOUND = ("bool", "nested", "constant_score", "dis_max", "boosting", "function_score",
             "has_child", "has_parent")  # fmt: skip
_INNER = ("must", "should", "filter", "must_not", "query", "queries", "positive", "negative")
_ANALYZED = (
    "match",
    "match_phrase",
    "match_phrase_prefix",
    "match_bool_prefix",
    "multi_match",
    "query_string",
    "simple_query_string",
    "combined_fields",
    "more_like_this",
)


def fitted(request: SearchRequest, limit: int, fields: int = 1) -> SearchRequest:
    """The request with as many terms and words as a server takes beside its filter: the heaviest
    terms, the first words.

    Args:
        limit: of the server.
        fields: that BM25 searches: each word is a clause on each of them.
    """
    query, own = request.query, sum(map(clauses, request.filter))
    if isinstance(query, TermsQuery):
        budget = max(limit - own, 1)
        if len(query.features) <= budget:
            return request
        return replace(request, query=heaviest(query, budget))
    if isinstance(query, MatchQuery):
        match = first_words(query, max((limit - own) // fields, 1))
        return request if match is query else replace(request, query=match)
    if isinstance(query, HybridQuery | SumQuery):
        # of a hybrid query both parts have the filter
        budget = max(limit - (2 if isinstance(query, HybridQuery) else 1) * own, 2)
        if len(query.terms.features) + fields * len(query.match.text) <= budget:
            return request
        words = max(budget // 2, budget - len(query.terms.features)) // fields
        match = first_words(query.match, max(words, 1))
        left = budget - fields * len(_WORD.findall(match.text))
        terms = heaviest(query.terms, max(left, 1))
        return replace(request, query=replace(query, terms=terms, match=match))
    return request


def first_words(query: MatchQuery, count: int) -> MatchQuery:
    """A BM25 query of at most that many words; says how many were left out."""
    if len(query.text) <= count:
        return query
    words = list(_WORD.finditer(query.text))
    if len(words) <= count:
        return query
    text, cut = query.text[: words[count].start()], query.cut + len(words) - count
    return replace(query, text=text, cut=cut)


def clauses(clause: Any) -> int:
    """How many clauses one of the query language is at most, all levels of it together."""
    if isinstance(clause, Sequence) and not isinstance(clause, (str, bytes)):
        return sum(map(clauses, clause))
    if not isinstance(clause, Mapping):
        return 0
    total = 0
    for name, body in clause.items():
        if name in _COMPOUND and isinstance(body, Mapping):
            total += sum(clauses(body.get(key)) for key in _INNER)
            total += _LEAF if name not in ("bool", "dis_max") else 0
        elif name in _ANALYZED:
            total += max(_words(body), _LEAF)
        else:  # also ``terms``, which is one however many values it has
            total += _LEAF
    return total


def _words(body: Any) -> int:
    """Words of all texts in an analysed clause, times the fields that it asks."""
    if isinstance(body, str):
        return len(_WORD.findall(body))
    if isinstance(body, Mapping):
        fields = body.get("fields")
        times = max(len(fields), 1) if isinstance(fields, Sequence) else 1
        return times * sum(_words(value) for key, value in body.items() if key != "fields")
    return 0
