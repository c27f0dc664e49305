"""The prompt language of AUTOMATIC1111, from text to windows of weighted tokens.

    text --plan_prompt--> parts: weight, schedule of segments --chunk_segments--> chunks of ids and weights
    hidden states of a chunk --emphasize--> hidden states

`plan_prompt` calls `parse_prompt` (composition, editing, alternation) for the prompt and `parse_attention`
(weights, escapes, BREAK) for the text of each step. Nothing here knows the tokenizer or the text encoder.
"""

from sdrt.prompt.attention import BREAK, Break, Segment, parse_attention
from sdrt.prompt.chunks import COMMA_BACKTRACK, Chunk, balance, chunk_segments
from sdrt.prompt.emphasis import emphasize
from sdrt.prompt.escape import escape
from sdrt.prompt.grammar import parse_prompt
from sdrt.prompt.plan import Entry, PartPlan, Segments, Syntax, plan_prompt, schedule_texts
from sdrt.prompt.tree import Alternation, Edit, Node, Part

__all__ = [
    "BREAK",
    "COMMA_BACKTRACK",
    "Alternation",
    "Break",
    "Chunk",
    "Edit",
    "Entry",
    "Node",
    "Part",
    "PartPlan",
    "Segment",
    "Segments",
    "Syntax",
    "balance",
    "chunk_segments",
    "emphasize",
    "escape",
    "parse_attention",
    "parse_prompt",
    "plan_prompt",
    "schedule_texts",
]
