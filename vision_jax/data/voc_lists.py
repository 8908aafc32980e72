"""The splits of a VOC data set: ImageSets/FOLDER/{train,val,trainval,test}.txt, a name of an image a line.

The image of a name is in JPEGImages, or `images`, or beside the other folders. A second column, as per-class
lists have it, is passed over, and so is the extension of an image. Which split trains and which judges:
`vision_jax.data.splits`. Without lists there is one split.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from vision_jax.data.images import images_by_stem, is_image
from vision_jax.data.splits import choose, hold_out, report_single
from vision_jax.types import UserError

_SPLITS = ("train", "val", "trainval", "test")

Source = TypeVar("Source")


@dataclass(frozen=True)
class Lists:
    """The names of the images of each split.

    Attributes:
        root: of the data set.
        images: the image files by name.
        splits: the names of each split, in the order of its list.
        train, val: the splits to train on and to judge on, equal where there is one only.
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
        splits = _read_lists(root / "ImageSets" / folder, asked, set(every))
        splits = splits or {"all": [name for name in every if unlisted(name)]}
        return cls(root, images, splits, *choose(splits, str(root), train, val))

    def names(self) -> list[str]:
        """The names of all splits, each once."""
        return list(dict.fromkeys(name for names in self.splits.values() for name in names))

    def open(
        self, make: Callable[[Sequence[str], Sequence[Path], str], Source], holdout: float
    ) -> tuple[Source, Source]:
        """Opens the chosen splits.

        Args:
            make: (names, images, where) -> a split.
            holdout: with one split only, the fraction of images kept back for judging; 0 uses all for both.

        Returns:
            (training, judging).

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
        inside = sorted(path.parent.name for path in root.glob(f"*/{name}"))
        hint = f"; did you mean {root / inside[-1]}?" if inside else ""
        raise UserError(f"{root}: no folder {name}: {lack}{hint}")
    return folder


def _read_lists(folder: Path, more: tuple[str, ...], known: set[str]) -> dict[str, list[str]]:
    """The image names of each split list, less extensions and the second column of per-class lists."""
    lists = {}
    for split in dict.fromkeys((*_SPLITS, *more)):
        path = folder / f"{split}.txt"
        if not path.is_file():
            continue
        names = [
            _listed_name(line, known)
            for line in path.read_text("utf-8-sig", "surrogateescape").splitlines()
            if line.strip()
        ]
        if not names:
            raise UserError(f"{path}: lists no images")
        seen: set[str] = set()
        for name in names:
            if name in seen:
                raise UserError(f"{path}: {name} is listed twice: names must be unique in a split")
            seen.add(name)
        lists[split] = names
    return lists


def _listed_name(line: str, known: set[str]) -> str:
    candidates = [line.strip(), line.split()[0]]
    candidates += [Path(name).stem for name in candidates if is_image(Path(name))]
    return next((name for name in candidates if name in known), candidates[1])


def _image_folder(root: Path) -> Path:
    return next((root / name for name in ("JPEGImages", "images") if (root / name).is_dir()), root)
