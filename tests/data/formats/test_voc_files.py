"""VOC folders as people keep them: lists of other names, encodings, layouts, names of files."""

import numpy as np
import pytest

from vision_jax.data.open import open_detection, open_instances, open_segmentation
from vision_jax.types import UserError

DOG = ("dog", (3, 4, 10, 12))


@pytest.fixture
def four(folders):
    """Images a to d, all annotated."""
    for name in "abcd":
        folders.voc(name, DOG)
        folders.map(f"SegmentationClass/{name}.png", np.eye(20, 30))
        folders.map(f"SegmentationObject/{name}.png", np.pad(np.ones((9, 8)), ((3, 8), (2, 20))))
    return folders


@pytest.mark.parametrize(
    ("lists", "train", "val"),
    [
        ({"Train": ["a", "b"], "Validation": ["c"]}, ["a", "b"], ["c"]),
        ({"training": ["a"], "valid": ["b"]}, ["a"], ["b"]),
        ({"TRAIN": ["a"], "Test": ["d"]}, ["a"], ["d"]),
        ({"train": ["a"], "train_aug": ["a", "b"], "val": ["c"], "Val": ["d"]}, ["a"], ["c"]),
    ],
)
@pytest.mark.parametrize("kind", ["detection", "segmentation", "instances"])
def test_lists_of_other_names_are_splits(four, lists, train, val, kind):
    spec = four.lists("Main" if kind == "detection" else "Segmentation", **lists)
    opener = {"detection": open_detection, "segmentation": open_segmentation, "instances": open_instances}[
        kind
    ]
    name = (lambda s, i: s.name(i)) if kind == "segmentation" else (lambda s, i: s.record(i).name)
    found = [[name(split, i)[0] for i in range(len(split))] for split in opener(spec)]
    assert found == [train, val]


def test_cvats_default_list_is_the_one_split(four, said):
    train, val = open_detection(four.lists(default=["a", "b", "c"], dog_default=["a 1", "b -1", "c -1"]))
    assert train is val
    assert len(train) == 3
    assert "there is one split only, default, of 3 images" in (text := said())
    assert "not used" not in text


def test_every_list_that_is_not_used_is_named(four, said):
    spec = four.lists(Train=["a"], Validation=["b"], minival=["c"], extra=[], dog_Train=["a 1"])
    open_detection(spec)
    assert "training on the split Train, evaluating on Validation; not used: extra, minival (" in said()
    train, val = open_detection(f"{spec}?train=minival&val=Train")
    assert [train.record(0).name, val.record(0).name] == ["c.png", "a.png"]
    with pytest.raises(UserError, match=r"extra\.txt: lists no images"):
        open_detection(f"{spec}?val=extra")


def test_lists_that_say_nothing_are_to_be_chosen_from(four):
    with pytest.raises(UserError, match="cannot tell which of first, second to train on"):
        open_detection(four.lists(first=["a"], second=["b"]))


@pytest.mark.parametrize(
    "line",
    ["a", "a.png", "JPEGImages/a.png", "JPEGImages\\a.png", "C:\\voc\\JPEGImages\\a.png", "/x/a.png", "a 1"],
)
def test_names_in_lists_in_every_spelling(four, line):
    train, _ = open_detection(four.lists(train=[line], val=["b"]))
    assert train.record(0).name == "a.png"


def test_lists_in_utf_16_and_percent_encoded(four):
    four.voc("my dög", DOG)
    spec = four.lists(train=["my%20d%C3%B6g"], val=["b"])
    assert open_detection(spec)[0].record(0).name == "my dög.png"
    (four.root / "ImageSets/Main/train.txt").write_text("my dög\r\na\r\n", "utf-16")
    assert len(open_detection(spec)[0]) == 2


@pytest.mark.parametrize(
    "encoding", ["gb2312", "GBK", "gb18030", "big5", "shift_jis", "euc-kr", "windows-1251"]
)
def test_declared_encodings_are_decoded(folders, encoding):
    names = {"big5": "貓", "shift_jis": "ねこ", "euc-kr": "고양이", "windows-1251": "кот"}
    name = names.get(encoding, "猫")
    path = folders.voc("a", (name, (1, 1, 5, 5)))
    text = f'<?xml version="1.0" encoding="{encoding}"?>\n' + path.read_text("utf-8")
    path.write_bytes(text.encode(encoding))
    source, _ = open_detection(f"voc:{folders.root}")
    assert source.classes == (name,)


@pytest.mark.parametrize(
    ("declaration", "encoding", "message"),
    [
        ("", "gbk", r"a\.xml, line 1, column \d+: malformed XML: .* declares no encoding: save it in UTF-8"),
        ('<?xml version="1.0" encoding="utf-8"?>', "gbk", "it declares UTF-8, but is in another encoding"),
        ('<?xml version="1.0" encoding="klingon"?>', "utf-8", r"a\.xml: declares the encoding 'klingon'"),
        ('<?xml version="1.0" encoding="shift_jis"?>', "utf-16-le", r"a\.xml"),
        (
            '<?xml version="1.0" encoding="euc-kr"?>',
            "gb18030",
            r"a\.xml: declares .*'euc-kr', but is not in it",
        ),
    ],
)
def test_encodings_that_are_not_the_files_are_named(folders, declaration, encoding, message):
    path = folders.voc("a", ("猫熊€ 𠀀", (1, 1, 5, 5)))
    path.write_bytes((declaration + path.read_text("utf-8")).encode(encoding, "xmlcharrefreplace"))
    with pytest.raises(UserError, match=message):
        open_detection(f"voc:{folders.root}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t.replace("<annotation>", '<annotation xmlns="http://x">'),
            r"a\.xml: its objects are in an XML",
        ),
        (
            lambda t: t.replace("<object>", "<objects><object>").replace("</object>", "</object></objects>"),
            r"a\.xml: its objects are in <objects>",
        ),
        (
            lambda t: t.replace("<object>", "<Object>").replace("</object>", "</Object>"),
            r"a\.xml: its objects are",
        ),
        (lambda t: "<html><body/></html>", r"a\.xml: its root is <html>"),
        (
            lambda t: t[: t.index("<object>")] + "</annotation>",
            "none of its 1 annotation files has an <object>",
        ),
        (lambda t: t.replace("<xmin>3", "<xmin>three"), r"object 1 \(dog\): bndbox needs the numbers"),
        (lambda t: t.replace("<width>30", "<width>3e12"), r"a\.xml: size 3000000000000x20"),
        (lambda t: "", r"a\.xml, line 1, column 0: malformed XML"),
    ],
)
def test_objects_elsewhere_are_no_silent_negatives(folders, change, message):
    path = folders.voc("a", DOG)
    path.write_text(change(path.read_text()))
    with pytest.raises(UserError, match=message):
        open_detection(f"voc:{folders.root}")


@pytest.mark.parametrize(
    ("text", "difficult"),
    [("0", False), ("1", True), ("true", True), ("False", False), ("", False), ("Unspecified", False)],
)
def test_difficult_in_every_spelling(folders, text, difficult):
    folders.voc("a", DOG, ("dog", (1, 1, 4, 4)), more=f"<difficult>{text}</difficult>")
    source, _ = open_detection(f"voc:{folders.root}")
    assert source.record(0).ignore.tolist() == [difficult, difficult]


def test_difficult_that_is_neither_names_the_object(folders):
    folders.voc("a", DOG, more="<difficult>maybe</difficult>")
    with pytest.raises(UserError, match=r"a\.xml: object 1 \(dog\): difficult 'maybe' is neither 0 nor 1"):
        open_detection(f"voc:{folders.root}")


def test_a_split_of_difficult_objects_and_normalized_boxes_are_said(folders, said):
    folders.voc("a", DOG, more="<difficult>1</difficult>")
    open_detection(f"voc:{folders.root}")
    assert "all 1 objects of its 1 images are marked to be ignored" in said()
    folders.voc("a", ("dog", (0.1, 0.2, 0.5, 0.6)), ("dog", (0.5, 0.5, 1, 1)))
    open_detection(f"voc:{folders.root}")
    assert "2 boxes, all that there are, lie within 0..1" in said()


def test_object_maps_that_match_no_box_are_refused_for_masks(folders):
    folders.voc("a", DOG)
    folders.map("SegmentationObject/a.png", np.zeros((20, 30)))
    with pytest.raises(UserError, match="none of its 1 objects has an outline or mask"):
        open_instances(f"voc:{folders.root}")
