"""The keywords of PNG's text chunks, by which texts are known whatever the file."""

OWN = "sdrt"
PARAMETERS = "parameters"  # AUTOMATIC1111, and what copied it
COMFYUI = "prompt"
INVOKEAI = "invokeai_metadata"
OLD_INVOKEAI = "sd-metadata"  # before version 3
KEYWORDS = (OWN, PARAMETERS, COMFYUI, INVOKEAI, OLD_INVOKEAI)
