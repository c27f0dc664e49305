"""What a picture says of how it was made.

| file | is |
|---|---|
| `written.py` | what sdrt writes: every field of the request, hashes of all that the picture depends on |
| `recorded.py` | what is read, whoever wrote it: `RecordedSettings` |
| `reading.py` | a picture to its settings |
| `own.py`, `automatic1111.py`, `comfyui.py`, `invokeai.py` | the texts of each program |
| `comfyui_graph.py` | links from node to node |
| `parameters.py` | AUTOMATIC1111's text as such |
| `sampling.py` | other programs' samplers and schedules in sdrt's words |
| `image_texts.py`, `exif.py` | the texts of a file; those of JPEG and WebP |
| `checked.py` | looking at a stranger's values before they are used |
"""

from sdrt.metadata.keywords import OWN, PARAMETERS
from sdrt.metadata.parameters import parse_parameters
from sdrt.metadata.reading import read_settings
from sdrt.metadata.recorded import EmbeddingFile, LoraFile, ModelName, NamedFile, RecordedSettings
from sdrt.metadata.written import (
    OUTCOME,
    MadeWith,
    describe_added,
    graph_digests,
    hash_files,
    made_with,
    model_hash,
    pixels_sha256,
    texts,
)

__all__ = [
    "OUTCOME",
    "OWN",
    "PARAMETERS",
    "EmbeddingFile",
    "LoraFile",
    "MadeWith",
    "ModelName",
    "NamedFile",
    "RecordedSettings",
    "describe_added",
    "graph_digests",
    "hash_files",
    "made_with",
    "model_hash",
    "parse_parameters",
    "pixels_sha256",
    "read_settings",
    "texts",
]
