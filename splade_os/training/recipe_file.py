"""A recipe as a YAML file: found, read, changed by single values, printed."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from splade_os.errors import MissingExtraError, SettingsError
from splade_os.training.recipe import Recipe

_OF_EVALUATION = (
    *("eval_strategy", "eval_steps", "eval_delay", "eval_on_start"),
    *("load_best_model_at_end", "metric_for_best_model", "greater_is_better"),
)  # of transformers.TrainingArguments
_NAMED = 5  # wrong fields in a message


def recipe_names() -> list[str]:
    """Names of the recipes that come with the package."""
    folder = resources.files("splade_os.training") / "recipes"
    return sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith("yaml"))


def load_recipe(source: str | Path, changes: dict[str, Any] | None = None) -> Recipe:
    """A recipe by name or from a YAML file, with single values changed.

    Args:
        source: name of a recipe of the package, or a file.
        changes: dotted key → value: ``{"training.max_steps": 100}``.

    Raises:
        SettingsError: naming the key that is wrong, and what is wrong with it.
    """
    name = str(source)
    content = parse_yaml(_text_of(name), name)
    if not isinstance(content, dict):
        raise SettingsError(f"{name} is not a recipe: it holds {type(content).__name__}.")
    for key, value in (changes or {}).items():
        _change(content, key, value)
    if not content.get("evaluation"):
        _leave_out_evaluation(content)
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        wrong = [
            f"{'.'.join(map(_shown, item['loc'])) or 'recipe'}: {item['msg']}"
            for item in error.errors(include_url=False, include_input=False)
        ]
        more = f"; and {len(wrong) - _NAMED:,} more" if len(wrong) > _NAMED else ""
        raise SettingsError(
            f"{name} is no valid recipe: {'; '.join(wrong[:_NAMED])}{more}.",
            hint="splade-os train --show NAME prints a recipe with all fields explained.",
        ) from None


def _shown(key: str | int) -> str:
    """A key, on one line."""
    text = str(key)
    return text if text.isprintable() else repr(text)


def parse_yaml(text: str, where: str) -> Any:
    """The value that a YAML document holds.

    Raises:
        SettingsError: it is not YAML, naming the line, or holds a value that YAML cannot (a 13th
            month, maps that are nested a thousand deep).
        MissingExtraError: PyYAML is not installed.
    """
    try:
        import yaml
    except ImportError:
        raise MissingExtraError("Training", "train") from None
    try:
        return yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{where}:{mark.line + 1}" if mark is not None else where
        raise SettingsError(f"{place} is not YAML: {error.problem or error.context}.") from None
    except yaml.YAMLError as error:
        raise SettingsError(f"{where} is not YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise SettingsError(f"{where} is nested too deeply.") from None
    except (ValueError, ArithmeticError, LookupError, AttributeError, TypeError) as error:
        # PyYAML makes dates, numbers and tagged values without a check of its own
        raise SettingsError(f"{where} holds a value that is none: {error}.") from None


def _text_of(name: str) -> str:
    if name in recipe_names():
        file = resources.files("splade_os.training") / "recipes" / f"{name}.yaml"
        return file.read_text("utf-8")
    try:
        found = Path(name)
        if found.is_file() or found.is_fifo():
            return found.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise SettingsError(f"The recipe {name} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise SettingsError(
            f"{name}:{line} is not UTF-8.", hint="Save the recipe as UTF-8."
        ) from None
    raise SettingsError(
        f"There is no recipe {name}.",
        hint=f"Name a YAML file, or one of: {', '.join(recipe_names())}.",
    )


def _change(content: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    place: Any = content
    for step in path:
        if isinstance(place, list) and step.isdigit() and int(step) < len(place):
            place = place[int(step)]
        elif isinstance(place, dict):
            if not isinstance(place.get(step), dict | list):
                place[step] = {}
            place = place[step]
        else:
            raise SettingsError(f"--set {key}: there is no {step!r} in the recipe.")
    if isinstance(place, list):
        if not (last.isdigit() and int(last) < len(place)):
            raise SettingsError(f"--set {key}: the recipe has no entry {last!r} there.")
        place[int(last)] = value
    else:
        place[last] = value


def _leave_out_evaluation(content: dict[str, Any]) -> None:
    """Of a recipe whose evaluations were taken away (``--set evaluation=[]``)."""
    for name in ("early_stopping", "stop_if_below_start"):
        content.pop(name, None)
    training = content.get("training")
    if isinstance(training, dict):
        for name in _OF_EVALUATION:
            training.pop(name, None)


def describe(recipe: Recipe) -> str:
    """The recipe as YAML, every field with its meaning, those not given with their defaults."""
    lines: list[str] = []
    _describe(recipe, lines, "")
    return "\n".join(lines) + "\n"


def _describe(part: BaseModel, lines: list[str], indent: str) -> None:
    import textwrap

    import yaml

    for name, field in type(part).model_fields.items():
        value = getattr(part, name)
        lines += [
            f"{indent}# {line}"
            for line in textwrap.wrap(field.description or "", max(96 - len(indent), 40))
        ]
        if isinstance(value, BaseModel):
            lines.append(f"{indent}{name}:")
            _describe(value, lines, indent + "  ")
        elif (
            isinstance(value, dict) and value and isinstance(next(iter(value.values())), BaseModel)
        ):
            lines.append(f"{indent}{name}:")
            for key, inner in value.items():
                lines.append(f"{indent}  {key}:")
                _describe(inner, lines, indent + "    ")
        elif isinstance(value, list) and value and isinstance(value[0], BaseModel):
            lines.append(f"{indent}{name}:")
            for inner in value:
                block: list[str] = []
                _describe(inner, block, "")
                lines += [
                    f"{indent}  {'- ' if i == 0 else '  '}{line}" for i, line in enumerate(block)
                ]
        else:
            text = yaml.safe_dump({name: value}, sort_keys=False, allow_unicode=True, width=90)
            lines += [indent + line for line in text.rstrip("\n").split("\n")]  # no other breaks
