"""Settings of the command line."""

from __future__ import annotations

import shlex
from pathlib import Path
from random import Random

import foreign_pictures
import mutators
from fuzz_target import Target, command
from PIL import Image

# split as a shell does
_COMMANDS = (
    "generate 'a red star' --steps 5 --seed 1 -W 64 -H 64 -g 4.5 -o y.png",
    "generate a -N b --sampler 'DPM++ 2M' --sigma-schedule karras -n 2 --spacing linspace",
    "generate a --sampler ddim --eta 0.5 --guidance-interval 0 0.5 --deep-cache 1 --gif g.gif",
    "generate --blend a:1 --blend b:0.5 --variation-seed 2 --variation-strength 0.1",
    "generate a --x 'sampler=ddim,Euler a' --y steps=5-20:5 --grid g.png -o {x}{y}.png",
    "generate a --init-image i.png --strength 0.5 --mask i.png --mask-blur 2",
    "generate a --init-image i.png --outpaint left=8,right=16 --fit pad --alpha flatten",
    "generate a --init-image i.png --start-step 2 --preview p.png --every 2 --projected",
    "generate --prompts - -o {index:04}-{prompt}.png --resume --json --quality 90",
    "generate --prompts - -n 3 --grid g.png --grid-columns 2",
    "generate --interpolate a b --frames 5 -o {frame}.png --clip-skip 1",
    "generate a --lora l.safetensors:0.5 --textual-inversion 'e.pt:<a>' --allow-pickle",
    "generate a -m demo --backend onnxruntime --verify fast --prompt-syntax plain",
    "samplers ddim --steps 5",
    "samplers --json",
    "info demo",
    "verify demo",
)


def _command_seeds() -> list[bytes]:
    """Words with NUL between them, which no word can hold."""
    return ["\0".join(shlex.split(words)).encode() for words in _COMMANDS]


_AXES = (
    *("steps=1-5:2", "seed=1-9999999:1", "cfg=1-2:0.001", "steps=5-20 [4]", "sampler=", "replace=a,b"),
    *("=", "x=1,2", "steps=9-1", "eta=0-1:0", "left=8", "left=-8,right=", "8", "nan", "1e999", "{index"),
    *("{prompt!r}", "{seed:>9999}.png", "{prompt.__class__}.png", "Euler a", "karras", "-", "--", ""),
    *("0", "-1", "1.5", "99999999999", "a.png", "{x}{y}.jpg"),
)


def _change_command(content: bytes, random: Random) -> bytes:
    words = content.decode().split("\0")
    for _ in range(random.choice((1, 1, 2, 3))):
        at = random.randrange(1, len(words)) if len(words) > 1 else 0
        match random.randrange(5):
            case 0 | 1:
                words[at] = random.choice((*_AXES, mutators.text(random), str(mutators.integer(random))))
            case 2:
                words[at] += random.choice((*_AXES, mutators.text(random)))
            case 3:
                other = shlex.split(random.choice(_COMMANDS))[1:]
                there = random.randrange(len(other))
                words[at:at] = other[there : there + random.choice((1, 2, 4))]
            case _ if len(words) > 1:
                del words[at]
            case _:
                words.append(random.choice(_AXES))
    return "\0".join(word.replace("\0", "") for word in words).encode("utf-8", "surrogatepass")


def _read_command(path: Path) -> None:
    words = path.read_bytes().decode("utf-8", "surrogateescape").split("\0")
    if words[0] not in ("generate", "samplers", "info", "verify"):
        return
    if not Path("i.png").exists():
        Image.fromarray(foreign_pictures.PIXELS).save("i.png")
    # whoever gives the options may name any folder, and lift limits
    words = [
        word.replace("..", "_").replace("/", "_") for word in words if word not in ("--no-limits", "--debug")
    ]
    command(*words, standard_input=b"a red star\na blue star --steps 3\n")


TARGETS = (
    Target(
        name="command",
        seeds=_command_seeds,
        mutate=_change_command,
        read=_read_command,
        reads_anywhere=True,
    ),
)
