"""Builds the word table of `dream_env.language` from the static vectors in a WordLlama wheel.

    pip download --no-deps wordllama==0.4.0.post1
    python -m dream_env.assets.language.make_words --wheel wordllama-0.4.0.post1-*.whl

WordLlama (Miller 2024, MIT) reuses the token embeddings of large language models as static, context-free vectors. The
table contains a few thousand English words: the words in `DOMAIN`, and the first whole-word tokens of the vocabulary,
because a byte-pair vocabulary is ordered roughly by frequency. The vectors are projected on 64 principal axes.
"""

from __future__ import annotations

import json
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from safetensors import SafetensorError
from safetensors.numpy import load, save

from dream_env.files import replacing
from dream_env.language import INSTRUCTION_DIM

VECTORS = "wordllama/weights/l2_supercat_256.safetensors"
TOKENIZER = "wordllama/tokenizers/l2_supercat_tokenizer_config.json"
SIF = 1e-3
"""The `a` of the SIF weight a / (a + p(word)), Arora et al. 2017, section 3."""
FIRST_TOKEN = 259
"""Index of the first token in the vocabulary that is neither a special token nor a single byte."""

DOMAIN = """
a an the to of in on at by it is up go me my we he as be do or so us no if and with from into onto
off out over under above below beneath beside behind beyond across along through toward towards past
between around against near next away forward forwards backward backwards down left right top bottom
front back side middle center corner edge end inside outside upward upwards downward sideways apart
together here there reach approach hover touch point aim target position place put lay set drop
release let move moving bring carry take get fetch give hand hands arm arms finger fingers thumb
palm wrist fist gripper robot nicol tool travel head turn rotate twist tilt flip roll spin stay hold
keep wait stop rest leave return follow track find look see show push pushing shove slide nudge
drive press knock sweep shift send propel poke tap kick hit strike bump drag pull tug haul thrust
ram force throw toss launch scoot budge
lift lifting pick picking raise grab grasp grip clutch seize hoist elevate heave scoop clasp catch
snatch pinch squeeze open close stack unstack pile build insert remove attach detach pour fill empty
wipe clean wash fold cover cut stir mix sort align arrange swap exchange collect gather hide
red crimson scarlet ruby cherry maroon burgundy reddish rose blood tomato pink magenta vermilion
green emerald lime jade olive mint greenish verdant forest grass leaf
blue azure navy cobalt sapphire indigo bluish cyan sky ocean turquoise teal
yellow golden lemon amber canary gold yellowish mustard banana saffron
orange purple violet brown black white gray grey beige silver bronze colored coloured color colour
bright dark light pale deep vivid dull shiny
cube cubes block blocks box boxes brick bricks object objects thing item piece toy dice die square
ball sphere cylinder cone pyramid ring disk triangle rectangle shape cup mug glass bottle can jar
bowl plate dish tray pan pot spoon fork knife apple pear lemon egg bread cheese bag basket bin
bucket drawer door handle knob button switch lever shelf cupboard cabinet table desk chair floor
ground wall board cloth towel sponge paper book pen pencil phone key screw nut bolt hammer line
border mark stripe zone area region spot goal air surface room kitchen home zero one two three four
five six seven eight nine ten first second third last another other both all each every any big
small large tiny little huge tall short long wide narrow thick thin heavy light flat round soft hard
full half slow slowly fast quick quickly gently carefully please now then again until while before
after not only just high higher low lower far closer nearer straight steady still this that these
those your its their which what where when who how one
"""
"""Words of tabletop manipulation. They are always included, and the principal axes are computed from them."""


@dataclass
class Args:
    """Writes the word table of `dream_env.language` from a WordLlama wheel."""

    wheel: Path
    """WordLlama wheel, downloaded with `pip download --no-deps wordllama==0.4.0.post1`."""
    out: Path = Path("assets/language/words.safetensors")
    """Output file."""
    words: int = 4500
    """Number of words in the table."""


def read_wheel(path: Path) -> tuple[np.ndarray, dict[str, int], dict[tuple[str, str], int]]:
    """Reads vectors, vocabulary and merges from the wheel; WordLlama's own loader would download them.

    Returns:
        Token vectors `(V, 256)` float32, the index of each token, and the merge rank of each pair of pieces.

    Raises:
        FileNotFoundError: If the wheel does not exist.
        ValueError: If it is not a wheel that contains `VECTORS` and `TOKENIZER`.
    """
    if not path.is_file():
        raise FileNotFoundError(f"wheel={path} does not exist; `pip download wordllama` brings one")
    try:
        with zipfile.ZipFile(path) as wheel:
            vectors = load(wheel.read(VECTORS))["embedding.weight"].astype(np.float32)
            model = json.loads(wheel.read(TOKENIZER))["model"]
    except (zipfile.BadZipFile, KeyError, SafetensorError) as error:
        raise ValueError(f"wheel={path} is no WordLlama wheel with {VECTORS}: {error}") from error
    pairs = (merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"])
    merges = {(first, second): rank for rank, (first, second) in enumerate(pairs)}
    return vectors, model["vocab"], merges


def split(word: str, merges: dict[tuple[str, str], int]) -> list[str]:
    """Splits a word into tokens by byte-pair merges in order of rank (Sennrich et al. 2016)."""
    pieces = list("▁" + word)
    while len(pieces) > 1:
        pairs = list(zip(pieces, pieces[1:], strict=False))
        best = min(range(len(pairs)), key=lambda i: merges.get(pairs[i], len(merges)))
        if pairs[best] not in merges:
            break
        pieces[best : best + 2] = ["".join(pairs[best])]
    return pieces


def choose(vocabulary: dict[str, int], count: int) -> list[str]:
    """Returns `count` words: `DOMAIN`, then lower-case whole-word tokens of 3 letters or more."""
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    common = [token[1:] for token in tokens if re.fullmatch("▁[a-z]{3,}", token)]
    return list(dict.fromkeys(DOMAIN.split() + common))[:count]


def table(
    words: list[str],
    vectors: np.ndarray,
    vocabulary: dict[str, int],
    merges: dict[tuple[str, str], int],
) -> dict[str, np.ndarray]:
    """Computes the unit vectors `(W, 64)` and the SIF weights `(W,)` of the words, float16.

    A word of several tokens gets the mean of their vectors, and the frequency of the rarest token. The frequency of a
    token follows Zipf's law over its index. Mean and principal axes are computed from the words in `DOMAIN`, so that
    the 64 axes distinguish a red block from a blue one rather than politics from code. Subtracting the mean removes the
    direction that all these sentences share (Arora et al. 2017, algorithm 1).

    Raises:
        ValueError: If too few words are in `DOMAIN` to span the axes.
    """
    tokens = [[vocabulary[piece] for piece in split(word, merges)] for word in words]
    full = np.stack([vectors[indices].mean(0) for indices in tokens])
    domain = full[np.isin(words, DOMAIN.split())]
    if len(domain) <= INSTRUCTION_DIM:
        raise ValueError(
            f"words={len(words)}, of them {len(domain)} in DOMAIN; accepted: more than {INSTRUCTION_DIM} there, "
            "as they span the axes"
        )
    axes = np.linalg.svd(domain - domain.mean(0), full_matrices=False)[2][:INSTRUCTION_DIM]
    projected = (full - domain.mean(0)) @ axes.T
    projected /= np.linalg.norm(projected, axis=1, keepdims=True)
    rank = np.array([max(indices) for indices in tokens]) - FIRST_TOKEN + 1
    frequency = 1 / (rank.clip(1) * np.log(len(vocabulary)))
    return {
        "vectors": projected.astype(np.float16),
        "weights": (SIF / (SIF + frequency)).astype(np.float16),
    }


def main(args: Args) -> None:
    """Builds the table and writes it atomically."""
    vectors, vocabulary, merges = read_wheel(args.wheel)
    words = choose(vocabulary, args.words)
    metadata = {"words": " ".join(words), "source": args.wheel.name}
    content = save(table(words, vectors, vocabulary, merges), metadata)
    with replacing(args.out) as part:
        part.write_bytes(content)
    print(f"wrote {len(words)} words, {args.out.stat().st_size / 1e3:.0f} kB, to {args.out}")


if __name__ == "__main__":
    main(tyro.cli(Args, prog="python -m dream_env.assets.language.make_words", description=__doc__))
