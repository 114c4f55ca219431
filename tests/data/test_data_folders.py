"""Folders as data: classes, splits and labels by the names of files and by documents beside them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from picture_files import picture, png, pngs, write_tree

from zeuxis.data import Dataset, Report
from zeuxis.data.listing import TEST, TRAIN, VAL
from zeuxis.errors import DataError


def classes_by_name(dataset: Dataset, code: int = TRAIN) -> dict[str, str | None]:
    """Class name by file name of one split, None without a class."""
    split = (dataset.train, dataset.val, dataset.test)[code]
    labels = [dataset.classes[label] if label >= 0 else None for label in split.labels]
    return dict(zip(dataset.names(code), labels, strict=True))


def test_a_flat_folder_has_no_classes_and_keeps_every_pixel(opened: Callable[..., Dataset], tmp_path: Path) -> None:
    dataset = opened(write_tree(tmp_path / "flat", pngs(6)))
    assert dataset.classes == () and (dataset.train.labels == -1).all()
    assert dataset.names() == [f"{index:03d}.png" for index in range(6)]
    expected = np.stack([picture(index) for index in range(6)]).transpose(0, 3, 1, 2)
    assert np.array_equal(dataset.train.all(), expected)
    assert dataset.name == "flat" and len(dataset) == 6


def test_subfolders_are_classes_numbers_in_their_order(opened: Callable[..., Dataset], tmp_path: Path) -> None:
    files = {**pngs(2, "10/"), **pngs(3, "9/", 5), **pngs(1, "2/", 9)}
    dataset = opened(write_tree(tmp_path / "d", files))
    assert dataset.classes == ("2", "9", "10")
    assert dataset.class_counts == (1, 3, 2)
    assert classes_by_name(dataset)["9/001.png"] == "9"
    assert dataset.report.classes == {"2": 1, "9": 3, "10": 2}


def test_names_of_classes_are_sorted_without_regard_to_case(opened: Callable[..., Dataset], tmp_path: Path) -> None:
    files = {**pngs(1, "bee/"), **pngs(1, "ant/", 1), **pngs(1, "Cat/deep/er/", 2)}
    dataset = opened(write_tree(tmp_path / "d", files))
    assert dataset.classes == ("ant", "bee", "Cat")
    assert classes_by_name(dataset)["Cat/deep/er/000.png"] == "Cat", "the first folder is the class"


def test_folders_that_all_files_share_are_no_class(opened: Callable[..., Dataset], tmp_path: Path) -> None:
    files = {**pngs(2, "pack/img/cat/"), **pngs(2, "pack/img/dog/", 2)}
    assert opened(write_tree(tmp_path / "d", files)).classes == ("cat", "dog")


def test_a_single_class_is_none_and_the_report_says_so(opened: Callable[..., Dataset], tmp_path: Path) -> None:
    dataset = opened(write_tree(tmp_path / "d", {**pngs(3, "cat/"), **pngs(1, start=7)}))
    assert dataset.classes == ()
    assert "a single class (cat) is no class: the pictures are taken as unlabelled" in dataset.report.notes


def test_unlabelled_pictures_have_no_class(opened: Callable[..., Dataset], tmp_path: Path) -> None:
    files = {**pngs(2, "a/"), **pngs(2, "b/", 2), **pngs(3, "_unlabelled/", 4)}
    dataset = opened(write_tree(tmp_path / "d", files))
    assert dataset.classes == ("a", "b") and dataset.class_counts == (2, 2)
    assert (dataset.train.labels == -1).sum() == 3 and dataset.report.unlabelled == 3
    assert classes_by_name(dataset)["_unlabelled/001.png"] is None


def test_split_folders_with_classes_inside(opened: Callable[..., Dataset], tmp_path: Path) -> None:
    files = {**pngs(3, "train/a/"), **pngs(3, "train/b/", 3), **pngs(2, "train/_unlabelled/", 6),
             **pngs(2, "val/b/", 8), **pngs(1, "test/a/", 10), **pngs(1, "_unlabelled/", 11)}  # fmt: skip
    dataset = opened(write_tree(tmp_path / "d", files), test_fraction=0.3, val_fraction=0.3)
    assert (len(dataset.train), len(dataset.val), len(dataset.test)) == (9, 2, 1), "only what the folders say"
    assert dataset.classes == ("a", "b")
    assert classes_by_name(dataset, TEST) == {"test/a/000.png": "a"}
    assert set(classes_by_name(dataset, VAL).values()) == {"b"}
    assert classes_by_name(dataset)["train/_unlabelled/001.png"] is None
    assert classes_by_name(dataset)["_unlabelled/000.png"] is None
    assert dataset.report.splits == {"train": 9, "val": 2, "test": 1}


def test_split_folders_without_classes(opened: Callable[..., Dataset], tmp_path: Path) -> None:
    files = {**pngs(4, "train/"), **pngs(2, "validation/", 4), **pngs(2, "test/", 6)}
    dataset = opened(write_tree(tmp_path / "d", files))
    assert (len(dataset.train), len(dataset.val), len(dataset.test)) == (4, 2, 2)
    assert dataset.classes == ()


def test_a_class_called_train_is_a_class(opened: Callable[..., Dataset], tmp_path: Path) -> None:
    files = {**pngs(2, "train/"), **pngs(2, "bus/", 2), **pngs(2, "car/", 4)}
    dataset = opened(write_tree(tmp_path / "d", files))
    assert dataset.classes == ("bus", "car", "train") and len(dataset.train) == 6


def test_test_without_train_is_a_class(opened: Callable[..., Dataset], tmp_path: Path) -> None:
    dataset = opened(write_tree(tmp_path / "d", {**pngs(2, "test/"), **pngs(2, "val/", 2)}))
    assert dataset.classes == ("test", "val") and len(dataset.train) == 4


def test_hidden_files_and_clutter_are_not_seen_and_others_are_listed(
    scanned: Callable[..., Report], tmp_path: Path
) -> None:
    files = {**pngs(2), ".hidden/a.png": png(5), ".DS_Store": b"x", "Thumbs.db": b"x", "__MACOSX/a.png": png(6),
             "notes.txt": b"hello", "noending": b"?"}  # fmt: skip
    report = scanned(write_tree(tmp_path / "d", files))
    assert (report.files, report.pictures) == (4, 2)
    assert report.skipped == [
        ("noending", "not a picture (no extension)"),
        ("notes.txt", "not a picture (.txt files are not read)"),
    ]


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="no symbolic links here")
def test_links_are_followed_once_and_broken_ones_listed(scanned: Callable[..., Report], tmp_path: Path) -> None:
    folder = write_tree(tmp_path / "d", pngs(2))
    write_tree(tmp_path / "elsewhere", pngs(1, start=7))
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    (folder / "more").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (folder / "gone.png").symlink_to(tmp_path / "nothing")
    report = scanned(folder)
    assert report.pictures == 3, "a link to the folder itself doubles nothing"
    assert report.skipped == [("gone.png", "cannot be read: No such file or directory")]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_what_is_no_file_is_listed_and_never_opened(scanned: Callable[..., Report], tmp_path: Path) -> None:
    folder = write_tree(tmp_path / "d", pngs(2))
    os.mkfifo(folder / "pipe.png")
    assert scanned(folder).skipped == [("pipe.png", "not a file")]


LABEL_ROWS = [("000.png", "cat"), ("001.png", "dog"), ("sub/002.png", "cat")]


def labelled_tree(folder: Path, documents: dict[str, bytes]) -> Path:
    return write_tree(folder, {"000.png": png(0), "001.png": png(1), "sub/002.png": png(2), **documents})


def document(kind: str) -> dict[str, bytes]:
    if kind == "metadata.jsonl":
        lines = [json.dumps({"file_name": name, "text": "x", "label": label}) for name, label in LABEL_ROWS]
        return {kind: "\n".join(["", *lines]).encode()}
    if kind == "metadata.csv":
        return {kind: ("\ufefffile_name,class\n" + "\n".join(",".join(row) for row in LABEL_ROWS)).encode()}
    return {kind: json.dumps({"labels": LABEL_ROWS}).encode()}


@pytest.mark.parametrize("kind", ["metadata.jsonl", "metadata.csv", "dataset.json"])
def test_labels_from_a_document(kind: str, opened: Callable[..., Dataset], tmp_path: Path) -> None:
    dataset = opened(labelled_tree(tmp_path / "d", document(kind)))
    assert classes_by_name(dataset) == dict(LABEL_ROWS), "and the folder `sub` is no class"
    assert dataset.report.skipped == [], "the document is no odd file"


def test_each_metadata_file_speaks_for_its_own_folder(opened: Callable[..., Dataset], tmp_path: Path) -> None:
    documents = {
        "metadata.csv": b"file_name,label\n000.png,3\n001.png,20\n",
        "sub/metadata.jsonl": b'{"file_name": "002.png", "label": 3.0}\n{"file_name": "gone.png", "label": 3}\n',
    }
    dataset = opened(labelled_tree(tmp_path / "d", documents))
    assert dataset.classes == ("3", "20")
    assert classes_by_name(dataset) == {"000.png": "3", "001.png": "20", "sub/002.png": "3"}
    assert any("names 1 files that are not there" in note for note in dataset.report.notes)


def test_pictures_that_a_document_leaves_out_are_counted(opened: Callable[..., Dataset], tmp_path: Path) -> None:
    rows = b"file_name,label\n000.png,a\nsub/002.png,b\n"
    dataset = opened(labelled_tree(tmp_path / "d", {"metadata.csv": rows}))
    assert dataset.report.unlabelled == 1 and classes_by_name(dataset)["001.png"] is None
    assert "metadata.csv has no label for 1 pictures" in dataset.report.notes


def test_dataset_json_without_labels_switches_folders_off(opened: Callable[..., Dataset], tmp_path: Path) -> None:
    files = {**pngs(2, "a/"), **pngs(2, "b/", 2), "dataset.json": b'{"labels": null}'}
    assert opened(write_tree(tmp_path / "d", files)).classes == ()


def test_metadata_without_labels_leaves_folders_to_speak(opened: Callable[..., Dataset], tmp_path: Path) -> None:
    files = {**pngs(2, "a/"), **pngs(2, "b/", 2), "metadata.csv": b"file_name,text\na/000.png,hello\n"}
    assert opened(write_tree(tmp_path / "d", files)).classes == ("a", "b")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("dataset.json", b"{", 'JSON such as {"labels": [["00000/img.png", 3]]}; repair or remove it'),
        ("dataset.json", b"[" * 100_000, "JSON such as"),
        ("dataset.json", b'{"labels": [["a"]]}', "JSON such as"),
        ("metadata.jsonl", b'{"file_name": "000.png", "label": 1}\nnonsense\n', "metadata.jsonl line 2: got 'nonsens"),
        ("metadata.jsonl", b"[1]\n", "metadata.jsonl line 1"),
        ("metadata.csv", b'file_name,label\n"' + b"x" * 200_000 + b'",1\n', "values with a column file_name"),
    ],
)  # fmt: skip
def test_a_damaged_document_is_one_line(
    name: str, content: bytes, words: str, scanned: Callable[..., Report], tmp_path: Path
) -> None:
    with pytest.raises(DataError) as caught:
        scanned(labelled_tree(tmp_path / "d", {name: content}))
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_labels_that_are_lists_are_left_out_with_a_remark(opened: Callable[..., Dataset], tmp_path: Path) -> None:
    rows = b'{"labels": [["000.png", [0, 1]], ["001.png", 1], ["sub/002.png", 2]]}'
    dataset = opened(labelled_tree(tmp_path / "d", {"dataset.json": rows}))
    assert dataset.classes == ("1", "2") and classes_by_name(dataset)["000.png"] is None
    assert any("not class names or numbers" in note for note in dataset.report.notes)


def test_a_class_of_which_no_picture_can_be_used_is_dropped(opened: Callable[..., Dataset], tmp_path: Path) -> None:
    files = {**pngs(2, "a/"), **pngs(2, "c/", 2), "b/x.png": b"broken"}
    dataset = opened(write_tree(tmp_path / "d", files))
    assert dataset.classes == ("a", "c") and sorted(set(dataset.train.labels)) == [0, 1]


def test_names_that_are_not_unicode_pass_through(opened: Callable[..., Dataset], tmp_path: Path) -> None:
    folder = write_tree(tmp_path / "d", pngs(2))
    try:
        (folder / os.fsdecode(b"b\xffd.png")).write_bytes(png(5))
        (folder / os.fsdecode(b"\xfe.png")).write_bytes(b"broken")
    except OSError:
        pytest.skip("this file system takes no such names")
    dataset = opened(folder)
    assert len(dataset) == 3 and os.fsdecode(b"b\xffd.png") in dataset.names()
    assert dataset.report.skipped_lines() == ["skipped \N{REPLACEMENT CHARACTER}.png: not a picture"]


@pytest.mark.parametrize("name", ["nowhere", "x" * 300])
def test_what_is_not_there_is_one_line(name: str, opened: Callable[..., Dataset]) -> None:
    with pytest.raises(DataError) as caught:
        opened(name)
    words = "allowed: a folder, a .zip, .npz, .npy or idx file, .tar shards, or one of digits, fashion-mnist"
    assert f"DATA: got '{name}'" in str(caught.value) and words in str(caught.value)


def test_a_single_picture_is_no_data(opened: Callable[..., Dataset], tmp_path: Path) -> None:
    path = write_tree(tmp_path, {"one.png": png()}) / "one.png"
    with pytest.raises(DataError, match="give the folder that the pictures are in"):
        opened(path)
