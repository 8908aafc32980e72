"""The splits of a VOC data set: the lists ImageSets/FOLDER/*.txt, a name of an image a line.

Which list trains and which is evaluated on is read off their names (`vision_jax.data.files.splits`): `train`,
`val`, `Validation`, ... Lists of one class (`cat_train.txt`: names with -1, 0 or 1 beside them) are no
splits. A list whose name says nothing is used where it is the only one, as CVAT's `default.txt`, or asked
for; every list that is not used is named. Without lists there is one split.

The image of a name is in JPEGImages, or `images`, or beside the other folders. A second column is passed
over, and so are the folders before an image's name and its extension.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import TypeVar

from vision_jax.data.codecs.images import images_by_stem, is_image
from vision_jax.data.files.listing import entries, find, read_lines, spellings
from vision_jax.data.files.other_formats import describe_folder
from vision_jax.data.files.splits import choose, hold_out, report_single, role
from vision_jax.types import UserError

Source = TypeVar("Source")


@dataclass(frozen=True)
class Lists:
    """The names of the images of each split.

    Attributes:
        root: of the data set.
        images: the image files by name.
        splits: the names of each split, in the order of its list.
        train, val: the splits to train on and to evaluate on, equal where there is one only.
    """

    root: Path
    images: dict[str, Path]
    splits: dict[str, list[str]]
    train: str
    val: str

    @classmethod
    def read(
        cls,
        root: Path,
        folder: str,
        others: Iterable[str],
        train: str | None,
        val: str | None,
        unlisted: Callable[[str], bool] = lambda name: True,
    ) -> Lists:
        """Reads the lists of a folder, and chooses.

        Args:
            root: of the data set.
            folder: of the lists, in ImageSets.
            others: names that have other files than images.
            train, val: names of lists, where `train` and `val` are not what is wanted.
            unlisted: which names make up the one split, where there are no lists.

        Raises:
            UserError: two images of one name, an empty list, a name listed twice, no such list.
        """
        images = images_by_stem(_image_folder(root))
        every = sorted(images.keys() | others)
        asked = tuple(name for name in (train, val) if name)
        lists = _read_lists(root / "ImageSets" / folder, asked, set(every))
        lists = lists or {"all": [name for name in every if unlisted(name)]}
        chosen = choose(lists, str(root), train, val)
        splits = {name: names for name, names in lists.items() if role(name) or name in chosen}
        for name in splits:
            _check_names(splits[name], root / "ImageSets" / folder / f"{name}.txt")
        return cls(root, images, splits, *chosen)

    def names(self) -> list[str]:
        """The names of all splits, each once."""
        return list(dict.fromkeys(name for names in self.splits.values() for name in names))

    def open(
        self, make: Callable[[Sequence[str], Sequence[Path], str], Source], holdout: float
    ) -> tuple[Source, Source]:
        """Opens the chosen splits.

        Args:
            make: (names, images, where) -> a split.
            holdout: with one split only, the fraction of images kept back for evaluation; 0 uses all for
                both.

        Returns:
            (training, evaluation).

        Raises:
            UserError: a name without an image.
        """
        if self.train != self.val:
            return self._split(make, self.train), self._split(make, self.val)
        names = self.splits[self.train]
        if holdout and len(names) > 1:
            kept, held = hold_out(names, holdout)
            return (
                self._split(make, self.train, [names[i] for i in kept]),
                self._split(make, f"{self.train}, held out", [names[i] for i in held]),
            )
        report_single(str(self.root), self.train, len(names))
        both = self._split(make, self.train)
        return both, both

    def _split(
        self,
        make: Callable[[Sequence[str], Sequence[Path], str], Source],
        title: str,
        names: Sequence[str] | None = None,
    ) -> Source:
        names = self.splits[title] if names is None else names
        where = f"{self.root}, split {title}"
        absent = [name for name in names if name not in self.images]
        if absent:
            raise UserError(
                f"{where}: {len(absent)} of its {len(names)} images are not in {_image_folder(self.root)}; "
                f"first: {absent[0]}"
            )
        return make(names, [self.images[name] for name in names], where)


def folder_of(root: Path, name: str, lack: str) -> Path:
    """A folder of a data set.

    Args:
        root: of the data set.
        name: of the folder.
        lack: what it means that it is not there.

    Raises:
        UserError: it is not there; perhaps the data set is one folder further down.
    """
    folder = root / name
    if not folder.is_dir():
        inside = [path.parent.name for path in find(root, f"*/{name}")]
        hint = f"; did you mean {root / inside[-1]}?" if inside else describe_folder(root)
        raise UserError(f"{root}: no folder {name}: {lack}{hint}")
    return folder


def _read_lists(folder: Path, asked: tuple[str, ...], known: set[str]) -> dict[str, list[str]]:
    """The image names of each list, those of single classes left out unless they are asked for."""
    lists = {}
    for path in entries(folder) if folder.is_dir() else []:
        if path.suffix.lower() != ".txt" or not path.is_file():
            continue
        lines = [line for line in read_lines(path, of_files=True) if line]
        if path.stem in asked or not _of_one_class(path.stem, lines):
            lists[path.stem] = [_listed_name(line, known) for line in lines]
    return lists


def _of_one_class(name: str, lines: Sequence[str]) -> bool:
    marks = [line.split()[1:] for line in lines]
    return "_" in name and bool(marks) and all(mark in (["-1"], ["0"], ["1"]) for mark in marks)


def _check_names(names: Sequence[str], path: Path) -> None:
    """Refuses a list that is empty or has a name twice."""
    if not names and path.is_file():
        raise UserError(f"{path}: lists no images")
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise UserError(f"{path}: {name} is listed twice: names must be unique in a split")
        seen.add(name)


def _listed_name(line: str, known: set[str]) -> str:
    candidates = [text for name in (line, line.split()[0]) for text in spellings(name)]
    candidates += [PureWindowsPath(name).name for name in candidates]
    candidates += [Path(name).stem for name in candidates if is_image(Path(name))]
    return next((name for name in candidates if name in known), line.split()[0])


def _image_folder(root: Path) -> Path:
    return next((root / name for name in ("JPEGImages", "images") if (root / name).is_dir()), root)
