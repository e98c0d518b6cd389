"""What every part of a configuration is, and fields whose allowed values are found when they are checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

Positive = Annotated[int, Field(gt=0)]
Natural = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
"""What files and generators hold: a larger one would equal another."""


class Section(BaseModel):
    """A part of a configuration: immutable, unknown keys refused, values never coerced between types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_default=False, allow_inf_nan=False)


class EncoderOptions(Section):
    """Base of every encoder's options. A subclass narrows ``name`` to its own name."""

    name: str


class MethodOptions(Section):
    """Base of every method's options. A subclass narrows ``name`` to its own name."""

    name: str
    preset: Literal["fair", "release"] = "fair"
    """What fills the keys that are left out. fair: what all methods of a comparison share; release: the choices of the
    method's public code, those of other sections (epochs, batch) included."""


class Clashes(ValueError):
    """Keys that are right one by one but not together: (dotted key, what is wrong) for each."""

    def __init__(self, clashes: Sequence[tuple[str, str]]) -> None:
        super().__init__("; ".join(said for _, said in clashes))
        self.clashes = list(clashes)


IMPORT_PATH: JsonSchemaValue = {"type": "string", "pattern": ":"}
"""Of another package's record, where a name may stand; also the form of JSON Schema (``config.schema``)."""


class Auto:
    """Marks a field that a file may leave out or set to ``auto``: it is settled before the section is checked."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [handler(core), {"const": "auto"}]}


class OneOf:
    """Marks a text field: one of the names that ``names()`` gives when the field is checked."""

    def __init__(self, names: Callable[[], Iterable[str]]) -> None:
        self.names = names

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [{"enum": list(self.names())}, IMPORT_PATH]}

    def _check(self, value: str) -> str:
        known = tuple(self.names())
        if value not in known:
            raise PydanticCustomError("not_one_of", "must be one of: {known}", {"known": ", ".join(known)})
        return value


class ChosenByName:
    """Marks a section that is one of several models: its ``name`` chooses among them when it is checked.

    Args:
        find: the chosen name -> every model by name, that of the chosen one among them if it can be found.
        optional: whether there may be no such section.
    """

    def __init__(self, find: Callable[[str], Mapping[str, type[BaseModel]]], *, optional: bool = False) -> None:
        self.find = find
        self.optional = optional

    def models(self) -> Mapping[str, type[BaseModel]]:
        """Return every model that is known by now."""
        return self.find("")

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        dump = core_schema.plain_serializer_function_ser_schema(_dump, info_arg=True)
        return core_schema.no_info_plain_validator_function(self._check, serialization=dump)

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        models = self.models()
        chosen = [
            {
                "if": {"properties": {"name": {"const": name}}, "required": ["name"]},
                "then": handler(model.__pydantic_core_schema__),
            }
            for name, model in models.items()
        ]
        name = {"anyOf": [{"enum": list(models)}, IMPORT_PATH]}
        section = {"type": "object", "properties": {"name": name}, "required": ["name"], "allOf": chosen}
        return {"anyOf": [section, {"type": "null"}]} if self.optional else section

    def _check(self, value: Any) -> BaseModel | None:
        if value is None and self.optional:
            return None
        name = value.get("name") if isinstance(value, Mapping) else getattr(value, "name", None)
        models = self.find(name if isinstance(name, str) else "")
        if isinstance(value, BaseModel) and type(value) in models.values():
            return value
        if not isinstance(value, Mapping):
            raise PydanticCustomError("model_type", "must be a section")
        if not isinstance(name, str) or name not in models:
            raise PydanticCustomError("unknown_choice", "must be one of: {known}", {"known": ", ".join(models)})
        return models[name].model_validate(dict(value))


def _dump(value: BaseModel | None, info: core_schema.SerializationInfo) -> dict[str, Any] | None:
    return None if value is None else value.model_dump(mode=info.mode)
