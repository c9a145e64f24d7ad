"""Damaged, foreign and hostile checkpoints, each read, loaded or resumed from; a script of its own, for its memory.

``python tests/fuzz_checkpoints.py FOLDER ROUNDS [SEED]`` prints one JSON object: how many files of each kind there
were, how many loaded all the same (their change was harmless), by how much the peak of memory grew over that of whole
files, and whatever should not have happened.
"""

from __future__ import annotations

import json
import random
import resource
import signal
import struct
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

import gram_ppl as gp
from gram_ppl.storage import checkpoint
from gram_ppl.training.trainer import Trainer

FORBIDDEN = {"os.system", "os.exec", "os.fork", "os.posix_spawn", "subprocess.Popen", "pickle.find_class", "compile",
             "socket.connect", "ctypes.dlopen"}  # fmt: skip
NASTY = [10**9, -(10**9), 10**30, -1, 0, 1.5, 1e308, float("nan"), "", "x", "/dev/zero", None, True, [], {},
         [10**9] * 3,
         {"class": "os.system", "arguments": {"command": "true"}},
         {"class": "builtins.exec", "arguments": {}},
         {"class": "gram_ppl.nn.SwiGLU", "arguments": {"width_in": 60_000, "hidden": 60_000, "width_out": 60_000}},
         {"class": "gram_ppl.heads.Heads", "arguments": {"width": 10**8}},
         {"class": "gram_ppl.models.GRAM", "arguments": {}},
         {"class": "gram_ppl.tasks.Sudoku", "arguments": {"clues": [4, 8], "box": [2, 2], "pool": 10**9}},
         {"class": "gram_ppl.tasks.Maze", "arguments": {"size": [181, 181]}},
         {"class": [], "arguments": []}, {"class": "gram_ppl.storage.checkpoint.write", "arguments": {}}]  # fmt: skip


class Fuzz:
    """One good run folder, and everything that is done to its two files."""

    def __init__(self, folder: Path, seed: int = 0) -> None:
        self.folder = folder
        self.random = random.Random(seed)
        self.task = gp.tasks.Sudoku(box=(2, 2), clues=(4, 8), num_validation=4, num_test=4, pool=20)

        def interrupt(run: Trainer) -> None:
            if run.update == 2:
                signal.raise_signal(signal.SIGINT)

        with suppress(KeyboardInterrupt):
            self.fit(resume=False, before_update=interrupt)
        state = (folder / gp.STATE_FILE).read_bytes()
        self.fit(resume=True)  # writes the model
        (folder / gp.STATE_FILE).write_bytes(state)
        self.whole = {name: (folder / name).read_bytes() for name in (checkpoint.MODEL_FILE, gp.STATE_FILE)}
        self.parts = {name: checkpoint.read(folder / name) for name in self.whole}
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []

    def fit(self, resume: bool, **more: Any) -> None:
        model = gp.models.GRAM(self.task.spec, width=8, mixer=gp.nn.Attention(heads=2, rope=True))
        options: dict[str, Any] = {"updates": 4, "batch_size": 8, "evaluations": 2, "heads_every": 2, "progress": False}
        gp.fit(model, gp.guides.AmortizedGuide(model), self.task, out=self.folder, resume=resume, **options, **more)

    def use(self, kind: str, name: str, harmless: bool = False) -> None:
        """Load the model or resume from the state; anything but an error that names the file is wrong, unless the
        change may be harmless."""
        self.counts[kind] += 1
        start = time.monotonic()
        try:
            gp.load(self.folder) if name == checkpoint.MODEL_FILE else self.fit(resume=True)
            self.counts["harmless" if harmless else "accepted"] += 1
            if not harmless:
                self.wrong.append(f"{kind}: {name} was accepted")
        except gp.CheckpointError as error:
            if str(self.folder / name) not in str(error) or "\n" in str(error) or len(str(error)) > 1500:
                self.wrong.append(f"{kind}: {error}")
        except Exception as error:
            self.wrong.append(f"{kind}: {name}: {type(error).__name__}: {error}")
        if time.monotonic() - start > 10:
            self.wrong.append(f"{kind}: took {time.monotonic() - start:.0f} s")
        for path, content in self.whole.items():
            (self.folder / path).write_bytes(content)

    def bytes(self, name: str) -> None:
        whole = self.whole[name]
        (self.folder / name).write_bytes(whole[: self.random.randrange(len(whole))])
        self.use("truncated", name)
        flipped = bytearray(whole)
        for _ in range(self.random.choice([1, 1, 2, 8])):
            flipped[self.random.randrange(self.random.choice([16, len(whole)]))] ^= 1 << self.random.randrange(8)
        (self.folder / name).write_bytes(flipped)
        self.use("bits flipped", name, harmless=bytes(flipped) == whole)

    def header(self, name: str) -> None:
        """The right form, with a header that claims what is not there."""
        whole = self.whole[name]
        (size,) = struct.unpack("<Q", whole[:8])
        header = json.loads(whole[8 : 8 + size])
        tensor = self.random.choice([key for key in header if key != "__metadata__"])
        claims = [{"shape": [10**12]}, {"shape": [10**6, 10**6]}, {"shape": [2**62, 2]}, {"data_offsets": [0, 2**62]},
                  {"data_offsets": [2**40, 2**41]}, {"dtype": "F64"}, {"dtype": "PICKLE"}, {"shape": [-1]}]  # fmt: skip
        header[tensor] |= self.random.choice(claims)
        text = json.dumps(header).encode()
        files = [struct.pack("<Q", len(text)) + text + whole[8 + size :]]
        files += [struct.pack("<Q", claim) + whole[8:] for claim in (2**63, 2**64 - 1, 2**40, 99_999_999, 0, 1)]
        files += [struct.pack("<Q", 10**5) + b"[" * 10**5, struct.pack("<Q", 2) + b"{}", b""]
        (self.folder / name).write_bytes(self.random.choice(files))
        self.use("hostile header", name)

    def tensors(self, name: str) -> None:
        """The right file format with other names, shapes or dtypes."""
        tensors, document = dict(self.parts[name][0]), self.parts[name][1]
        keys = [key for key in tensors if not key.startswith("random.")]
        for key in self.random.sample(keys, self.random.choice([1, 1, 3])):
            value = tensors.pop(key)
            changes = [
                {}, {f"{key}x": value}, {key: value[None]}, {key: torch.cat([value.view(-1)] * 2)},
                {key: value.to(torch.float64 if value.dtype != torch.float64 else torch.int8)},
                {key: value.view(-1)[:0]}, {key: torch.zeros(10**5)}, {key: value.to(torch.complex64)},
            ]  # fmt: skip
            optional = key.startswith(("best.", "window", "optimizer.", "heads."))
            tensors |= self.random.choice(changes[1:] if optional or key == "carry.age" else changes)
        checkpoint.write(self.folder / name, tensors, document)
        self.use("foreign tensors", name)

    def document(self, name: str) -> None:
        """The right tensors under another description; the checksums are right as well."""
        tensors, document = self.parts[name]
        document = json.loads(json.dumps(document))
        part = self.random.choice([document, document.get("model"), document.get("task"), document.get("run")])
        place, key = self.random.choice(list(leaves(part or document)))
        place[key] = self.random.choice(NASTY)
        checkpoint.write(self.folder / name, tensors, document)
        self.use("hostile description", name, harmless=True)

    def bomb(self, name: str) -> None:
        """A description that is deep or long."""
        tensors, document = self.parts[name]
        text = json.dumps(document)
        deep = 10 ** self.random.randrange(2, 6)
        texts = [text.replace('"arguments"', f'"deep": {"[" * deep}{"]" * deep}, "arguments"', 1), "[" * deep,
                 "7", "null", f"[{'{},' * deep}0]", '{"run": {}}', '{"model": 1, "guide": 2, "task": 3}']  # fmt: skip
        text = self.random.choice(texts)
        header = {"format": checkpoint.FORMAT, "document": text}
        header["checksums"] = json.dumps(checkpoint._checksums(tensors, text))
        (self.folder / name).write_bytes(checkpoint.serialize(tensors, metadata=header))
        self.use("deep or long description", name)


def leaves(thing: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a JSON document, as what holds it and the key there."""
    for key, value in thing.items() if isinstance(thing, dict) else enumerate(thing):
        yield thing, key
        if isinstance(value, dict | list):
            yield from leaves(value)


def main(folder: Path, rounds: int, seed: int = 0) -> None:
    fuzz = Fuzz(folder, seed)
    for name in fuzz.whole:  # the first call of everything
        fuzz.use("whole", name, harmless=True)
    events: list[str] = []
    sys.addaudithook(lambda event, _: events.append(event) if event in FORBIDDEN else None)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(rounds):
        for name in fuzz.whole:
            for attack in (fuzz.bytes, fuzz.header, fuzz.tensors, fuzz.document, fuzz.bomb):
                attack(name)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    harmless = fuzz.counts.pop("harmless", 0)
    found = {"counts": fuzz.counts, "harmless": harmless, "grown_mib": grown / 1024, "largest_file": max(
        len(content) for content in fuzz.whole.values()), "wrong": fuzz.wrong, "events": events}  # fmt: skip
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
