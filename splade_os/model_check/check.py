"""Try out everything that splade-os does with a model."""

from __future__ import annotations

from collections.abc import Callable

from splade_os.encoding.first_words import leading_space
from splade_os.encoding.layout import ModelLayout, StaticPart, read_layout
from splade_os.encoding.resolve import FoundModel, resolve_model
from splade_os.encoding.tokenization import TextTokenizer
from splade_os.errors import MissingExtraError, SpladeError
from splade_os.identity import EncodingOptions
from splade_os.model_check.capabilities import check_capabilities
from splade_os.model_check.encoding import check_encoding
from splade_os.model_check.report import CheckRow, ModelReport, Status
from splade_os.model_check.tokenizers import check_tokenizers

Progress = Callable[[str], None]


def check_model(
    model: str,
    *,
    quick: bool = False,
    activation: str | None = None,
    pooling: str | None = None,
    progress: Progress | None = None,
) -> ModelReport:
    """Try out a model: on the CPU, with a few texts, writing to a temporary folder only.

    Args:
        model: ``starter``, a folder, or a name on the hub.
        quick: leave out exports and training, which take most of the time.
        activation, pooling: of a checkpoint that does not say them.
        progress: called with the name of what is tried next.

    Returns:
        A row for everything; nothing that is wrong with the model raises.

    Raises:
        SettingsError: ``activation`` or ``pooling`` is no such thing, or the model says otherwise.
    """
    rows: list[CheckRow] = []

    def add(name: str, attempt: Callable[[], CheckRow], wrong: Status = "fails") -> CheckRow:
        if progress:
            progress(name)
        try:
            row = attempt()
        except MissingExtraError as error:
            row = CheckRow(name, "skipped", error.message, error.hint)
        except SpladeError as error:
            row = CheckRow(name, wrong, error.message, error.hint)
        rows.append(row)
        return row

    found: FoundModel | None = None
    layout: ModelLayout | None = None

    def find() -> CheckRow:
        nonlocal found
        found = resolve_model(model)
        return CheckRow("found", "ok", str(found.folder))

    def read() -> CheckRow:
        nonlocal layout
        assert found is not None
        layout = read_layout(found.folder)
        stated = EncodingOptions(activation=activation, pooling=pooling).over(layout.options)
        part = layout.document.stated(stated)
        return CheckRow("layout", "ok", f"{part.family}, {part.activation}, {part.pooling} pooling")

    def report() -> ModelReport:
        folder = None if found is None else str(found.folder)
        return ModelReport(model, folder, found.revision if found else None, tuple(rows))

    if add("found", find).status != "ok" or add("layout", read).status != "ok":
        return report()
    assert found is not None and layout is not None
    options = EncodingOptions(activation=activation, pooling=pooling)
    check_tokenizers(layout, add)
    add("query side", lambda: _query_side(layout))
    loaded = check_encoding(found, layout, options, add)
    check_capabilities(found, layout, options, add, skip=_skip(quick, loaded))
    return report()


def _skip(quick: bool, loaded: bool) -> str | None:
    if not loaded:
        return "the model does not run"
    return "left out by --quick" if quick else None


def _query_side(layout: ModelLayout) -> CheckRow:
    part = layout.query
    tokenizer = TextTokenizer(
        part.folder, max_length=None, lowercase=part.lowercase, special_tokens=False
    )
    says = layout.query_side
    if isinstance(part, StaticPart):
        return CheckRow("query side", "info", says)
    spaced = leading_space(layout, tokenizer, layout.options.leading_space)
    says += "; mode idf with the table of an index"
    if spaced:
        says += ", where first words count as behind a space"
    return CheckRow("query side", "info", says)
