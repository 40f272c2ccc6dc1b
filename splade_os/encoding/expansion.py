"""Expansion that says nothing: tokens that fire only where they stand in a text.

A model that learned from questions expands documents by their templates ("what", "is", "?"), and by
function words, punctuation, numbers and letters that tell no text from another.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from splade_os.encoding.rows import selected, stands
from splade_os.vectors import Ids, SparseBatch
from splade_os.vocabulary import Vocabulary

_ENGLISH = """
a an the i me my mine myself we us our ours ourselves you your yours yourself yourselves he
him his himself she her hers herself it its itself they them their theirs themselves this
that these those who whom whose which what when where why how whoever whatever whichever
am is are was were be been being do does did doing done have has had having can could will
would shall should may might must ought
about above across after against along among around as at before behind below beneath beside
besides between beyond but by despite down during except for from in inside into of off on
onto or nor and so yet out outside over per since than then though although through
throughout to toward towards under underneath until unless up upon via with within without
because if while whereas whether
all any both each either neither every few more most much many other others another some such
no not only own same too very just also again further once here there now ever never always
however therefore thus
don doesn didn isn aren wasn weren hasn haven hadn wouldn shouldn couldn mustn ain ll ve re let
"""
FUNCTION_WORDS = frozenset(_ENGLISH.split())
"""English: those of other languages fire as the model will."""
_MARKS = "Ġ▁Ċ"  # how vocabularies write the space in front of a word


def keeps_no_expansion(vocabulary: Vocabulary) -> npt.NDArray[np.bool_]:
    """Tokens that are function words, punctuation, digits alone or single letters, bool ``(V,)``.

    One character of a script that writes words with it (Chinese, kana) is a word.
    """
    return np.fromiter(map(_says_nothing, vocabulary.tokens), bool, len(vocabulary))


def _says_nothing(token: str) -> bool:
    word = token.removeprefix("##").removesuffix("</w>").strip(_MARKS).strip().lower()
    if word in FUNCTION_WORDS:
        return True
    letters = [c for c in word if unicodedata.category(c)[0] == "L"]
    if len(word) > 1:
        return not letters
    return not letters or unicodedata.category(word) in ("Ll", "Lu", "Lm")


def without_expansion(
    batch: SparseBatch, tokens: Sequence[Ids], silent: npt.NDArray[np.bool_]
) -> SparseBatch:
    """``batch`` without the weights of ``silent`` tokens, ``(V,)``, that their text, given as token
    ids, does not hold."""
    suspects = silent[batch.indices]
    if not suspects.any():
        return batch
    return selected(batch, batch.values, ~suspects | stands(batch, tokens))
