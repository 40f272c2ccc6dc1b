"""What requests of the API hold; the OpenAPI document is made of these."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from splade_os.encoding.query import QueryTf
from splade_os.engines import Cursor, TwoPhase
from splade_os.search.options import (
    DEFAULT_MODE,
    EXACT,
    Fusion,
    FusionMethod,
    Mode,
    QueryPruning,
    SearchKeywords,
)
from splade_os.serve.untrusted import refuse_untrusted

Clause = dict[str, Any]
Number = Annotated[float, Field(allow_inf_nan=False)]
_TEXT = "what to look for; in the mode raw token → weight"
_OWN = ("filter", "body", "sort", "aggs", "highlight", "collapse", "post_filter")


class Body(BaseModel):
    """Of a request: strict, so that a misspelled name is an error and not silence."""

    model_config = ConfigDict(extra="forbid")


class TwoPhaseBody(Body):
    """`TwoPhase`: the heavy terms find, all of them score the best."""

    first: Number = 10
    window: int = 50


class PruningBody(Body):
    """`QueryPruning`."""

    top: int | None = None
    max_ratio: Number = 0.0
    two_phase: TwoPhaseBody | None = None


class FusionBody(Body):
    """`Fusion`: how a hybrid search makes one ranking of two."""

    method: FusionMethod = "sum"
    weights: tuple[Number, Number] = (1.0, 1.0)
    rank_constant: int = 60
    depth: int = 100
    sparse: Literal["idf", "encoder"] = "idf"
    engine: bool = False


class CursorBody(Body):
    """Where a page ended; an empty one asks for the first page of a stable view."""

    pit: str = ""
    after: list[Any] = []


class SearchSections(Body):
    """The keywords of `SearchClient.search`."""

    index: str | None = Field(None, description="one that is served; default the first")
    k: int = Field(10, ge=1, description="number of hits")
    mode: Mode = DEFAULT_MODE
    filter: Clause | list[Clause] | None = Field(None, description="clauses that hits fulfil")
    source: list[str] | None = Field(None, description="fields to return; default all")
    offset: int = Field(0, ge=0)
    min_score: Number | None = None
    timeout: Number | None = Field(None, gt=0, description="seconds that the engine may take")
    allow_partial: bool = False
    dfs: bool = False
    total: bool | int = Field(False, description="count all hits, or up to a number")
    explain: bool = Field(False, description="which terms matched, and their shares")
    query_pruning: PruningBody | Literal["exact"] | None = None
    fusion: FusionBody | None = None
    query_tf: QueryTf = "log"
    shape: str | None = None
    token_pruning: bool = False
    method_parameters: Clause | None = None
    body: Clause | None = Field(None, description="other sections of the engine's request body")
    sort: str | Clause | list[str | Clause] | None = None
    aggs: Clause | None = None
    highlight: bool | list[str] | Clause | None = None
    collapse: Clause | None = None
    post_filter: Clause | None = None
    routing: str | None = None
    preference: str | None = None

    def keywords(self) -> SearchKeywords:
        """As `SearchClient.search` takes them, those that say something.

        Raises:
            SettingsError: a value that makes no sense.
            RequestError: a section with code, or of another index.
        """
        plain = self.model_fields_set - {"text", "texts", "index", "k", "mode", "after"}
        given: dict[str, Any] = {name: getattr(self, name) for name in plain}
        refuse_untrusted({name: given[name] for name in _OWN if given.get(name) is not None})
        pruning, fusion = self.query_pruning, self.fusion
        if pruning == "exact":
            given["query_pruning"] = EXACT
        elif isinstance(pruning, PruningBody):
            two = pruning.two_phase
            phases = None if two is None else TwoPhase(two.first, two.window)
            given["query_pruning"] = QueryPruning(pruning.top, pruning.max_ratio, phases)
        if fusion is None:
            given.pop("fusion", None)
        else:
            given["fusion"] = Fusion(**fusion.model_dump())
        return given  # type: ignore[return-value]


class SearchBody(SearchSections):
    """``POST /v1/search``."""

    text: str | dict[str, Number] = Field(description=_TEXT)
    after: CursorBody | None = Field(None, description="the page after it: of `following`")

    def keywords(self) -> SearchKeywords:
        given = super().keywords()
        if self.after is not None:
            given["after"] = Cursor(self.after.pit, tuple(self.after.after))
        return given


class SearchManyBody(SearchSections):
    """``POST /v1/search_many``."""

    texts: list[str] | list[dict[str, Number]] = Field(min_length=1, description=_TEXT)


class EncodeBody(Body):
    """``POST /v1/encode``."""

    texts: list[str] = Field(min_length=1)
    index: str | None = Field(None, description="as whose model has it; default the first")
    side: Literal["document", "query"] = "document"
    mode: Literal["idf", "encoder"] = Field("idf", description="(query) by a table, or the model")


class ExplainBody(Body):
    """``POST /v1/explain``."""

    text: str
    index: str | None = None


class DocumentsBody(Body):
    """``POST /v1/documents``: first what is deleted, then what is written."""

    index: str | None = None
    upsert: list[dict[str, Any]] = Field(
        [], description="whole documents; the id is _id or id, else a hash"
    )
    delete: list[str] = Field([], description="ids")

    @model_validator(mode="after")
    def _something(self) -> DocumentsBody:
        if not self.upsert and not self.delete:
            raise ValueError("there is nothing to upsert or delete")
        return self
