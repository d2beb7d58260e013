"""Quantization profiles: declarative rules that give every tensor of a model its type."""

from toolkit.gguf.ggml_types import FILE_TYPES
from toolkit.quant_profile.assignment import TypeChoice, TypeOverride, assign_types, parse_override
from toolkit.quant_profile.example_models import (
    EXAMPLE_MODELS,
    TYPICAL_MODEL,
    ExampleModel,
    ProfilePreview,
    preview_profile,
)
from toolkit.quant_profile.profile import LAYER_SETS, MODEL_SIZES, ModelTraits, QuantProfile, Rule
from toolkit.quant_profile.profile_file import load_profile, profile_names, profiles_folder, read_profile
from toolkit.quant_profile.roles import ROLES

__all__ = [
    "EXAMPLE_MODELS",
    "FILE_TYPES",
    "LAYER_SETS",
    "MODEL_SIZES",
    "ROLES",
    "TYPICAL_MODEL",
    "ExampleModel",
    "ModelTraits",
    "ProfilePreview",
    "QuantProfile",
    "Rule",
    "TypeChoice",
    "TypeOverride",
    "assign_types",
    "load_profile",
    "parse_override",
    "preview_profile",
    "profile_names",
    "profiles_folder",
    "read_profile",
]
