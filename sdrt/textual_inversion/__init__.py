"""Words that the text encoder learns from files: textual inversion (Gal et al. 2022, arXiv:2208.01618).

    file --read_embedding--> Embedding: a word and its vectors
    embeddings, tokenizer, graph --add_embeddings--> tokens of the tokenizer, more rows for the graph's table

Nothing of a bundle changes: the rows are handed to the runtime as it loads the graph.
"""

from sdrt.textual_inversion.embedding import Embedding, check_encoders, parse_option, read_embedding
from sdrt.textual_inversion.rows import TABLE, add_embeddings, check_room, fitting

__all__ = [
    "TABLE",
    "Embedding",
    "add_embeddings",
    "check_encoders",
    "check_room",
    "fitting",
    "parse_option",
    "read_embedding",
]
