"""What is driven: a folder of small valid files, of which each run damages some, and who reads them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from fuzzing.mutations import damaged

Read = Callable[[Path, Random], object]


@dataclass
class Case:
    """A folder as it is when nothing is wrong with it, and its reader."""

    folder: Path
    read: Read
    to_damage: Sequence[str] = ()
    """names in the folder; all files where none is named"""
    damage: Callable[[str, bytes, Random], bytes] = damaged
    whole: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = self.to_damage or sorted(file.name for file in self.folder.iterdir() if file.is_file())
        self.whole = {name: (self.folder / name).read_bytes() for name in names}
        for name in names:  # links to files of the kit become files that may be written
            (self.folder / name).unlink()
            (self.folder / name).write_bytes(self.whole[name])

    def run(self, random: Random) -> object:
        """Damage one file, sometimes two, read the folder, and put them right again."""
        names = random.sample(list(self.whole), min(len(self.whole), random.choice((1, 1, 1, 2))))
        try:
            for name in names:
                (self.folder / name).write_bytes(self.damage(name, self.whole[name], random))
            return self.read(self.folder, random)
        finally:
            for name in names:
                (self.folder / name).write_bytes(self.whole[name])
